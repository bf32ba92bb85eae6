"""Synthetic A-scans: reproducible to the byte, and truthful about what they hold."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from usedge import cli
from usedge.errors import InputError, MissingExtraError
from usedge.labelled import load_labelled
from usedge.synth import FS_HZ, SYNTH_VERSION, generate
from usedge.synth.field import FieldSettings, field_batch
from usedge.synth.files import CHUNK, write_synth
from usedge.synth.noise import LOW_PASS, coloured_noise

PRESETS = ("field", "paper", "plate")


@pytest.mark.parametrize(("preset", "n", "samples", "digest"), [
    ("field", 64, 800, "8262e717d57bfd98"), ("paper", 32, 2048, "294d890a4dc9ea5d"),
    ("plate", 64, 1000, "2a73e5c2985d65fd")])
def test_a_seed_gives_the_bytes_it_always_gave(preset: str, n: int, samples: int, digest: str) -> None:
    """A model is trained on these A-scans: other bytes need another SYNTH_VERSION."""
    x = generate(preset, n, (1, 2, 3), samples).x
    assert x.dtype == np.int16
    assert hashlib.sha256(x.tobytes()).hexdigest()[:16] == digest
    assert SYNTH_VERSION == 4


@pytest.mark.parametrize("preset", PRESETS)
def test_another_seed_gives_other_ascans(preset: str) -> None:
    a, b, c = (generate(preset, 16, seed, 512) for seed in (4, 4, 5))
    np.testing.assert_array_equal(a.x, b.x)
    np.testing.assert_array_equal(a.onset, b.onset)
    assert not (a.x == c.x).all(axis=1).any()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("samples", [256, 999, 4096])
def test_what_is_said_of_an_ascan_agrees(preset: str, samples: int) -> None:
    batch = generate(preset, 300, 9, samples)
    empty = np.isnan(batch.onset)
    label = batch.label(64)
    assert batch.x.shape == (300, samples)
    np.testing.assert_array_equal(empty, np.isnan(batch.snr_db))
    np.testing.assert_array_equal(empty, batch.n_echoes == 0)
    np.testing.assert_array_equal(label == 64, empty)
    np.testing.assert_array_equal(batch.presence == 0, empty)
    assert set(batch.presence[~empty]) == ({1, 2} if preset == "plate" else {1})
    np.testing.assert_array_equal(label[~empty], np.floor(batch.onset[~empty] / samples * 64))
    assert np.all((batch.onset[~empty] >= 0) & (batch.onset[~empty] < samples))
    assert np.mean(np.ptp(batch.x.astype(int), axis=1) > 0) > 0.98  # some empty gates lie under one ADC step


def envelopes(x: NDArray[Any], f0_hz: NDArray[Any]) -> NDArray[Any]:
    """Envelope of each row of ``x (n, samples)`` within 0.6 MHz of its carrier."""
    f = np.fft.fftfreq(x.shape[1], 1 / FS_HZ)
    spectrum = np.fft.fft(x, axis=1) * (np.abs(f - f0_hz[:, None]) < 0.6e6)
    return np.abs(np.fft.ifft(2 * spectrum, axis=1))


def test_paper_ascans_measure_as_the_paper_states() -> None:
    batch = generate("paper", 300, 5, 2048)
    x = batch.x.astype(float)
    f = np.fft.rfftfreq(2048, 1 / FS_HZ)
    f0_hz = f[np.abs(np.fft.rfft(x, axis=1)).argmax(axis=1)]
    assert 0.9e6 < f0_hz.min() < 1.2e6
    assert 3.8e6 < f0_hz.max() < 4.1e6
    np.testing.assert_allclose(f0_hz, FS_HZ / batch.cycle, atol=1e5)

    envelope = envelopes(x, f0_hz)
    peak = envelope.max(axis=1, keepdims=True)
    above_half = envelope > 0.5 * peak
    burst = 2 * above_half.sum(axis=1)  # a Hann envelope is over a half for half its length
    assert 190 < burst.min() < 215
    assert 385 < burst.max() < 420

    away = np.abs(np.arange(2048) - envelope.argmax(axis=1)[:, None]) > 230
    noise = np.sqrt((x**2 * away).sum(axis=1) / away.sum(axis=1))
    snr_db = 20 * np.log10(peak[:, 0] / noise)
    np.testing.assert_allclose(snr_db, batch.snr_db, atol=1.0)
    assert 17 < snr_db.min() < 19
    assert 37 < snr_db.max() < 39

    onset = above_half.argmax(axis=1) - 0.25 * burst + 0.072 * burst  # 5 % of a Hann window's peak
    np.testing.assert_allclose(onset, batch.onset, atol=12)


QUIET = replace(
    FieldSettings(), snr_db=(90, 90), in_band_snr_db=90, empty_share=0, lobes_share=0, coda_share=0,
    precursor_share=0, ring_share=0, spike_share=0, packet_share=0, hum_share=0, drift_share=0, tgc_share=0,
    clip_share=0, blank_share=0, bits=(14,))
"""Echoes and nothing else."""


def test_the_onset_is_where_the_echo_begins() -> None:
    x, scene = field_batch(np.random.default_rng(3), 400, 2048, QUIET)
    alone = scene.n_echoes == 1
    assert alone.sum() > 80
    rf = x[alone].astype(float)
    rf -= np.median(rf, axis=1, keepdims=True)
    level = np.maximum(0.08 * np.abs(rf).max(axis=1, keepdims=True), 1.5)
    first = (np.abs(rf) > level).argmax(axis=1)
    cycle, length = scene.cycle[alone], (scene.pulses.duration * scene.cycle)[alone]
    late = first - scene.onset[alone]
    assert late.min() > -1
    # From 5 % of the envelope to the level takes a cycle at most, and longer where it rises slowly.
    assert np.all(late < cycle + 0.08 * length)


def test_the_arrival_is_where_the_envelope_reaches_half_of_what_the_converter_shows() -> None:
    for settings in (replace(QUIET, lobes_share=1.0), replace(QUIET, clip_share=1.0)):
        x, scene = field_batch(np.random.default_rng(4), 400, 2048, settings)
        # A chirp or a second frequency has no envelope that the band of one carrier would show.
        pure = (scene.n_echoes == 1) & (scene.pulses.chirp == 0) & (scene.pulses.second == 0)
        whole = pure & (scene.arrival < 1900) & (scene.pulses.cycles > 1.5)
        assert whole.sum() >= 30
        rf, cycle = x[whole] - np.median(x[whole], axis=1, keepdims=True), scene.cycle[whole]
        shown = np.abs(rf).max(axis=1)
        early = np.array([np.abs(row[: int(at - 0.75 * c)]).max(initial=0) for row, at, c
                          in zip(rf, scene.arrival[whole], cycle, strict=True)])
        until = np.array([np.abs(row[: int(at + 0.75 * c)]).max(initial=0) for row, at, c
                          in zip(rf, scene.arrival[whole], cycle, strict=True)])
        assert np.mean(early <= 0.55 * shown) > 0.97
        assert np.mean(until >= 0.45 * shown) > 0.97


def test_field_gates_are_empty_as_often_as_set() -> None:
    empty = np.isnan(generate("field", 3000, 5, 256).onset)
    assert empty.mean() == pytest.approx(FieldSettings().empty_share, abs=0.025)
    _, scene = field_batch(np.random.default_rng(1), 1000, 256, replace(FieldSettings(), empty_share=0.7))
    assert 1 - scene.has_echo.mean() == pytest.approx(0.7, abs=0.05)


def test_field_ascans_use_the_converters_they_name() -> None:
    x = generate("field", 400, 2, 600).x.astype(int)
    bits = np.ceil(np.log2(np.abs(x).max(axis=1) + 1)) + 1
    assert bits.max() <= 14
    assert np.abs(x).max(axis=1).min() >= 1


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'sea'.*field, paper, plate"):
        generate("sea", 1, 0)


def test_too_few_samples_say_how_many_are_needed() -> None:
    with pytest.raises(InputError, match=r"255 samples.*256"):
        generate("field", 1, 0, 255)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_file_is_read_back_as_labelled_ascans(tmp_path: Path, preset: str) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "set.h5"
    write_synth(path, preset, 50, 512, 7)
    expected, loaded = generate(preset, 50, (7, 0), 512), load_labelled(path)
    np.testing.assert_array_equal(loaded.x, expected.x)
    np.testing.assert_allclose(loaded.tof_s * FS_HZ, expected.onset, rtol=1e-6)
    assert (loaded.fs_hz, loaded.t0_s, loaded.label_point) == (FS_HZ, 0.0, "onset")
    assert loaded.source == f"usedge synth {preset}"
    assert loaded.f0_hz is not None
    np.testing.assert_allclose(FS_HZ / loaded.f0_hz, expected.cycle, rtol=1e-6)
    with h5py.File(path) as file:
        assert dict(file.attrs) == {"preset": preset, "seed": 7, "synth_version": SYNTH_VERSION}
        np.testing.assert_array_equal(file["label"][()], expected.label(64))
        np.testing.assert_array_equal(file["onset_samples"][()], expected.onset)
        np.testing.assert_array_equal(file["snr_db"][()], expected.snr_db)
        np.testing.assert_array_equal(file["n_echoes"][()], expected.n_echoes)
        np.testing.assert_array_equal(file["presence"][()], expected.presence)


def test_a_longer_file_begins_like_a_shorter_one_and_reports_on_its_way(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    reported: list[int] = []
    write_synth(tmp_path / "a.h5", "paper", CHUNK, 256, 1)
    write_synth(tmp_path / "b.h5", "paper", CHUNK + 8, 256, 1, reported.append)
    a, b = load_labelled(tmp_path / "a.h5"), load_labelled(tmp_path / "b.h5")
    np.testing.assert_array_equal(a.x, b.x[:CHUNK])
    np.testing.assert_array_equal(b.x[CHUNK:], generate("paper", 8, (1, 1), 256).x)
    assert reported == [CHUNK, CHUNK + 8]


def test_a_refused_request_leaves_the_old_file(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    path = tmp_path / "set.h5"
    write_synth(path, "paper", 3, 256, 1)
    before = path.read_bytes()
    with pytest.raises(InputError, match="sea"):
        write_synth(path, "sea", 3, 256, 1)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    with pytest.raises(InputError, match=r"nowhere/set\.h5 cannot be written"):
        write_synth(tmp_path / "nowhere" / "set.h5", "paper", 3, 256, 1)


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"usedge\[hdf5\]"):
        write_synth(tmp_path / "set.h5", "paper", 3, 256, 1)


def test_the_command_writes_the_file_and_one_json_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("h5py")
    path = tmp_path / "field.h5"
    monkeypatch.setattr(sys, "argv", ["usedge", "synth", "-o", str(path), "-n", "5", "--samples", "300",
                                      "--seed", "7"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 0
    assert json.loads(capsys.readouterr().out) == {
        "file": str(path), "ascans": 5, "preset": "field", "samples": 300, "seed": 7}
    np.testing.assert_array_equal(load_labelled(path).x, generate("field", 5, (7, 0), 300).x)


def test_the_command_refuses_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("h5py")
    monkeypatch.setattr(sys, "argv", ["usedge", "synth", "-o", str(tmp_path / "a.h5"), "--preset", "sea"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    told = capsys.readouterr().err.splitlines()
    assert told == ["usedge: preset 'sea' is unknown. Known: field, paper, plate."]


def test_receivers_that_sample_far_above_their_band_are_among_the_noise() -> None:
    cycle = np.full(600, 40.0, np.float32)
    x, kind = coloured_noise(np.random.default_rng(6), (600, 2048), cycle)
    power = np.abs(np.fft.rfft(x[kind == LOW_PASS])) ** 2
    narrow = power[:, : 3 * 2048 // 40].sum(axis=1) > 0.95 * power.sum(axis=1)
    assert 0.05 < narrow.mean() < 0.5
