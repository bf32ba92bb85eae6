"""The ``plate`` preset: its classes are what they say, and neither energy nor chance tells them apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from usedge.errors import InputError
from usedge.synth import generate
from usedge.synth.plate import DEFECT, NO_ECHO, SOUND, PlateSettings, Scene, plate_batch

QUIET = replace(
    PlateSettings(), shares=(0, 0.5, 0.5), snr_db=(90, 90), grain_share=0, ring_share=0, drift_share=0,
    tgc_share=0, bits=(14,), least_counts=(1e-3, 1e-3), trip_loss_db=(0, 0))
"""Walls and defects and nothing else, nothing clipped."""


def quiet(seed: int, n: int = 400, settings: PlateSettings = QUIET) -> tuple[NDArray[Any], Scene]:
    counts, scene = plate_batch(np.random.default_rng(seed), n, 2048, settings)
    x = counts.astype(float)
    return x - np.median(x, axis=1, keepdims=True), scene


def peak_between(x: NDArray[Any], begin: NDArray[Any], end: NDArray[Any]) -> NDArray[Any]:
    """Largest magnitude (n,) of each row from ``begin`` to before ``end``, 0 where there is no sample."""
    t = np.arange(x.shape[1])
    within = (t >= begin[:, None]) & (t < end[:, None])
    return (np.abs(x) * within).max(axis=1)


def auc(negative: NDArray[Any], positive: NDArray[Any]) -> float:
    """Chance that a positive exceeds a negative."""
    below = np.searchsorted(np.sort(negative), positive)
    return float(below.mean() / len(negative))


def test_the_classes_come_in_the_shares_set() -> None:
    presence = generate("plate", 4000, 3, 256).presence
    assert presence.dtype == np.int64
    shares = np.bincount(presence, minlength=3) / 4000
    np.testing.assert_allclose(shares, PlateSettings().shares, atol=0.03)


def test_a_defect_lies_clear_of_both_walls() -> None:
    _, scene = plate_batch(np.random.default_rng(4), 2000, 700)
    has = scene.presence == DEFECT
    np.testing.assert_array_equal(has, ~np.isnan(scene.defect))
    np.testing.assert_array_equal(scene.presence == NO_ECHO, np.isnan(scene.front))
    np.testing.assert_array_equal(scene.presence == NO_ECHO, np.isnan(scene.back))
    gap = PlateSettings().least_gap * scene.length[has] - 1e-2
    assert np.all(scene.defect[has] - scene.front[has] > gap)
    assert np.all(scene.back[has] - scene.defect[has] > gap)
    shown = ~np.isnan(scene.back)
    assert np.all(scene.back[shown] + scene.length[shown] < 700 + 1e-2)
    ratio_db = 20 * np.log10(scene.defect_ratio[has])
    assert -26 <= ratio_db.min() < -20
    assert -4 < ratio_db.max() <= -2.99
    assert np.all(scene.defect_ratio[~has] == 0)


def test_nothing_but_a_defect_lies_between_the_walls() -> None:
    x, scene = quiet(5)
    wall = np.abs(x).max(axis=1)
    # A slow rise takes up to 0.3 lengths from 0.4 % of its peak to 5 %, the onset.
    between = peak_between(x, scene.front + scene.length + 1, scene.back - 0.3 * scene.length)
    sound = scene.presence == SOUND
    assert np.all(between[sound] <= np.maximum(0.005 * wall[sound], 1.5))

    whole = ~sound & (scene.cycle > 8)  # samples, so that an echo shows its peak
    here = peak_between(x, scene.defect - 1, scene.defect + scene.length)
    back = peak_between(x, scene.back - 1, scene.back + scene.length)
    ratio = scene.defect_ratio[whole]
    # The back wall behind keeps at least what the defect leaves of the amplitude, and is no smaller than it.
    assert np.all(here[whole] > 0.85 * ratio * back[whole] - 2)
    assert np.all(here[whole] < 1.15 * ratio / np.maximum(1 - ratio, ratio) * back[whole] + 2)
    assert np.mean(here[whole] > 3) > 0.98


def test_the_onset_is_where_the_front_wall_begins() -> None:
    x, scene = quiet(6)
    front = peak_between(x, scene.front, scene.front + scene.length)
    level = np.maximum(0.08 * front, 1.5)[:, None]
    late = (np.abs(x) > level).argmax(axis=1) - scene.front
    clear = front > 60  # counts: the level is one of the echo, not of the rounding
    assert clear.sum() > 200
    assert late[clear].min() > -1
    # From 5 % of the envelope to the level takes a cycle at most, and longer where it rises slowly.
    assert np.all(late[clear] < (scene.cycle + 0.08 * scene.length)[clear])


def test_back_wall_echoes_repeat_regularly_decay_and_keep_the_sign_that_physics_gives() -> None:
    air = replace(QUIET, shares=(0, 1, 0), back_shares=(1, 0, 0), cycles_per_gate=(100, 250),
                  longest_pulse=0.04, front=(0.04, 0.05))
    for hard_share, sign in ((0, 1), (1, -1)):
        x, scene = quiet(7, settings=replace(air, hard_delay_share=hard_share))
        thickness = scene.back - scene.front
        seen = 0
        for row in np.flatnonzero((thickness < 600) & (scene.cycle > 10)):
            t, length = np.arange(2048), scene.length[row]
            first, second = (
                np.interp(begin + np.linspace(0, length, 200), t, x[row])
                for begin in (scene.back[row], scene.back[row] + thickness[row]))
            gain = (first @ second) / (first @ first)
            assert 0.2 < sign * gain < 0.95
            np.testing.assert_allclose(second, gain * first, atol=0.1 * np.abs(first).max() + 2)
            seen += 1
        assert seen > 10


def test_counts_stay_within_the_converters_and_use_them() -> None:
    x = generate("plate", 1000, 8, 600).x
    assert x.dtype == np.int16
    largest = np.abs(x.astype(int)).max(axis=1)
    assert largest.max() <= 2**13
    assert largest.min() >= 3
    calm = replace(PlateSettings(), ring_share=0, grain_share=0)
    bare, _ = plate_batch(np.random.default_rng(8), 600, 600, calm)
    rail = np.abs(bare.astype(int)).max(axis=1, keepdims=True)
    clipped = (np.abs(bare.astype(int)) >= rail - 1).mean(axis=1)
    assert np.mean(clipped < 0.05) > 0.95  # walls may clip, a whole A-scan may not


def test_energy_does_not_tell_a_defect() -> None:
    batch = generate("plate", 3000, 9, 1024)
    x = batch.x.astype(float)
    x -= np.median(x, axis=1, keepdims=True)
    energy = (x**2).mean(axis=1)
    crest = energy / np.abs(x).max(axis=1) ** 2
    for feature in (energy, crest, np.abs(x).max(axis=1)):
        score = auc(feature[batch.presence == SOUND], feature[batch.presence == DEFECT])
        assert max(score, 1 - score) < 0.6


def test_what_is_common_to_the_classes_is_distributed_alike() -> None:
    _, scene = plate_batch(np.random.default_rng(10), 4000, 256)
    sound, defect = scene.presence == SOUND, scene.presence == DEFECT
    for feature in (scene.snr_db, scene.front, scene.back - scene.front, scene.length, scene.cycle):
        assert auc(feature[sound], feature[defect]) == pytest.approx(0.5, abs=0.04)
    snr_db = scene.snr_db[sound | defect]
    assert 10 <= snr_db.min() < 14
    assert 38 < snr_db.max() < 50


@pytest.mark.parametrize("samples", [-1, 0, 255])
def test_too_few_samples_are_refused(samples: int) -> None:
    with pytest.raises(InputError, match=r"256"):
        generate("plate", 1, 0, samples)
