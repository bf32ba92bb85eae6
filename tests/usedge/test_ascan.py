"""Cutting the gate out of an A-scan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usedge.ascan import AScan, cut_gate
from usedge.errors import InputError
from usedge.spec import Gate

SLACK = 1e-5
"""Rounding that a gate's edge is forgiven, in samples."""


def ramp(n: int = 1000, fs_hz: float = 40e6, t0_us: float = 3.0) -> AScan:
    """Sample i holds i."""
    return AScan(np.arange(n, dtype=np.int16), fs_hz, t0_us, seq=7, t_ns=11, gain_db=20.0, channel=2)


def test_times_of_an_ascan() -> None:
    ascan = ramp()
    assert ascan.sample_us == pytest.approx(0.025)
    assert ascan.end_us == pytest.approx(28.0)


def test_no_gate_leaves_the_ascan_alone() -> None:
    ascan = ramp()
    assert cut_gate(ascan, None) is ascan


@settings(deadline=None)
@given(fs_hz=st.floats(1e5, 2e8), t0_us=st.floats(-50, 200), n=st.integers(100, 5000),
       begin=st.floats(0, 0.6), width=st.floats(0.05, 0.4))
def test_a_gate_holds_exactly_the_samples_that_lie_in_it(
    fs_hz: float, t0_us: float, n: int, begin: float, width: float
) -> None:
    ascan = ramp(n, fs_hz, t0_us)
    whole = n * ascan.sample_us
    gate = Gate(t0_us + begin * whole, width * whole)
    cut = cut_gate(ascan, gate)
    first, last = int(cut.samples[0]), int(cut.samples[-1])
    np.testing.assert_array_equal(cut.samples, np.arange(first, last + 1))
    place = (gate.start_us - t0_us) / ascan.sample_us
    end = (gate.end_us - t0_us) / ascan.sample_us
    assert place - SLACK <= first < place + 1 + SLACK
    assert end - 1 - SLACK < last + 1 <= end + SLACK
    assert cut.t0_us == pytest.approx(t0_us + first * ascan.sample_us, abs=1e-6 * ascan.sample_us + 1e-9)


def test_the_gate_of_the_whole_ascan_loses_no_sample() -> None:
    for fs_hz in (1e6 / 3, 3.3e6, 40e6, 62.5e6):
        ascan = ramp(777, fs_hz, 1 / 3)
        assert len(cut_gate(ascan, Gate(ascan.t0_us, 777 * ascan.sample_us)).samples) == 777


def test_what_belongs_to_the_ascan_stays_with_its_gate() -> None:
    cut = cut_gate(ramp(), Gate(10.0, 5.0))
    assert (cut.seq, cut.t_ns, cut.gain_db, cut.channel, cut.fs_hz) == (7, 11, 20.0, 2, 40e6)


@pytest.mark.parametrize("gate", [Gate(2.9, 5.0), Gate(27.0, 1.1), Gate(100.0, 5.0), Gate(0.0, 100.0)])
def test_a_gate_outside_names_both_ranges(gate: Gate) -> None:
    with pytest.raises(InputError) as caught:
        cut_gate(ramp(), gate)
    assert f"{gate.start_us:g}–{gate.end_us:g} µs" in str(caught.value)
    assert "3–28 µs" in str(caught.value)
    assert "1000 samples" in str(caught.value)
