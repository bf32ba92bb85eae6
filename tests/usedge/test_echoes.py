"""Every echo in a gate: `usedge run --echoes`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.ranging import Ranging
from usedge.reading import make_reading
from usedge.runtime.echoes import EchoTrain
from usedge.runtime.picker import load_model_picker
from usedge.tof import Pick, Picker, classical_picker
from usedge.zoom import passed

FS_HZ, PERIOD = 40e6, 16.0
HALF_PERIOD_US = 0.5 * PERIOD / FS_HZ * 1e6


def ascan(onsets: list[float], heights: list[float], n: int = 4000, seed: int = 3) -> AScan:
    """Bursts of four cycles that begin at ``onsets``, over noise of 6 counts."""
    x = 6 * np.random.default_rng(seed).standard_normal(n)
    for onset, height in zip(onsets, heights, strict=True):
        t = (np.arange(n) - onset) / PERIOD
        x += np.where((t > 0) & (t < 4), height * np.sin(np.pi * t / 4) ** 2 * np.sin(2 * np.pi * t), 0)
    return AScan(np.round(x).astype(np.int16), FS_HZ, 10.0, 7)


@pytest.fixture(scope="module", params=["model", "envelope"])
def picker(request: pytest.FixtureRequest) -> Picker:
    if request.param == "envelope":
        return classical_picker("envelope")
    pytest.importorskip("ai_edge_litert", reason="the shipped bundle needs LiteRT")
    return load_model_picker()


def test_all_echoes_are_told_in_order_and_the_first_is_the_reading(picker: Picker) -> None:
    onsets = [600.0, 1500.0, 2400.0]
    gated = ascan(onsets, [3000, 1500, 900])
    pick, alone = EchoTrain(picker, 6).pick(gated), picker.pick(gated)
    assert replace(pick, echoes_us=None) == alone
    assert pick.echoes_us is not None
    found = np.array(pick.echoes_us) - (10.0 + np.array(onsets) / 40)
    assert np.ptp(found) < 2 * HALF_PERIOD_US
    assert abs(found).max() < 4 * HALF_PERIOD_US


def test_no_more_than_asked_for_and_none_where_there_is_none(picker: Picker) -> None:
    gated = ascan([600.0, 1500.0, 2400.0], [3000, 1500, 900])
    assert [len(EchoTrain(picker, most).pick(gated).echoes_us or ()) for most in (1, 2)] == [1, 2]
    empty = EchoTrain(picker, 3).pick(ascan([], []))
    assert empty.abstain == "no_echo"
    assert empty.echoes_us == ()


def test_time_between_echoes_is_thickness_and_no_offset_is_in_it() -> None:
    pick = Pick(20.0, 0.9, 40.0, echoes_us=(20.0, 26.0, 31.0))
    gated = ascan([], [])
    reading = make_reading(gated, pick, 0, Ranging(5000.0, offset_us=3.0))
    assert reading.echo_to_echo_mm == pytest.approx(15.0)
    assert json.loads(reading.to_json()) == reading.to_dict()
    assert reading.to_dict()["echoes_us"] == [20.0, 26.0, 31.0]
    lonely = make_reading(gated, replace(pick, echoes_us=(20.0,)), 0, Ranging(5000.0))
    assert lonely.to_dict()["echo_to_echo_mm"] is None
    assert "echoes_us" not in make_reading(gated, replace(pick, echoes_us=None), 0, None).to_dict()


@pytest.mark.parametrize("most", [0, -1, 17])
def test_a_number_of_echoes_that_cannot_be_is_refused(most: int) -> None:
    with pytest.raises(InputError, match=f"{most} echoes"):
        EchoTrain(classical_picker("aic"), most)


@settings(deadline=None)
@given(arrays(np.int16, st.integers(64, 2000), elements=st.integers(-32768, 32767)),
       st.floats(0, 2000), st.sampled_from([None, 3.0, 40.0]))
def test_an_echo_is_over_behind_its_onset(samples: NDArray[np.int16], onset: float,
                                          period: float | None) -> None:
    onset = min(onset, len(samples) - 1.0)
    assert onset < passed(samples, onset, period) <= len(samples)


def test_an_echo_is_over_where_it_has_died_away() -> None:
    samples = ascan([600.0, 900.0], [3000, 3000]).samples
    assert 600 + 2.5 * PERIOD < passed(samples, 600.0, PERIOD) < 600 + 4 * PERIOD
