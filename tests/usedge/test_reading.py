from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usedge.ascan import AScan
from usedge.ranging import Ranging
from usedge.reading import ABSTENTIONS, Reading, Smoothed, make_reading
from usedge.tof import DTOF_ABSTENTIONS, Difference, Pick

floats = st.floats(-1e6, 1e6)
readings = st.builds(
    Reading,
    seq=st.integers(0, 2**32 - 1),
    t_ns=st.integers(0, 2**63),
    tof_us=st.none() | floats,
    label=st.none() | st.integers(0, 63),
    confidence=st.floats(0, 1),
    snr_db=floats,
    distance_mm=st.none() | floats,
    latency_us=floats,
    abstain=st.none() | st.sampled_from(ABSTENTIONS),
    difference=st.none() | st.builds(Difference, st.none() | floats, st.floats(0, 1), st.floats(0, 1),
                                     st.none() | st.sampled_from(DTOF_ABSTENTIONS)),
    distance_sd_mm=st.none() | floats,
    gate=st.none() | st.sampled_from(("front", "10:20")),
    smoothed=st.none() | st.builds(Smoothed, st.just("median:9"), st.none() | floats, st.none() | floats),
)


@given(readings)
def test_the_line_says_what_the_dictionary_says(reading: Reading) -> None:
    said, meant = json.loads(reading.to_json()), reading.to_dict()
    assert list(said) == list(meant)
    assert ("gate" in said) == (reading.gate is not None)
    assert {"smooth", "smoothed_us", "smoothed_mm"} <= set(said) or reading.smoothed is None
    assert ("dtof_ns" in said) == ("dtof_abstain" in said) == (reading.difference is not None)
    for key, value in meant.items():
        assert said[key] == (pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value)


def test_distance_is_half_the_way_there_and_back() -> None:
    ascan = AScan(np.zeros(8, np.int16), 1e6, seq=5, t_ns=1_000)
    reading = make_reading(ascan, Pick(20.0, 0.9, 30.0, 7), 251_000, ranging=Ranging(1482.0))
    assert reading.distance_mm == pytest.approx(14.82)
    assert reading.latency_us == pytest.approx(250.0)
    assert make_reading(ascan, Pick(20.0, 0.9, 30.0, 7), 1, None).distance_mm is None
    ranging = Ranging(1482.0, 1.0, tof_sd_us=0.01)
    empty = make_reading(ascan, Pick(None, 0.9, 30.0, abstain="no_echo"), 1, ranging)
    assert empty.distance_mm is None
    assert empty.distance_sd_mm is None
    assert not any(isinstance(value, float) and math.isnan(value) for value in empty.to_dict().values())
