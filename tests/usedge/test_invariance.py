"""What leaves an echo's place as it is leaves the reading of the shipped bundle as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from usedge.ascan import AScan
from usedge.runtime.picker import ModelPicker, load_model_picker

FS_HZ = 40e6
ECHOES = 24
TOLERANCE, SHARE = 0.1, 0.95
"""Periods, and the share of the echoes that must keep within them; the others may slip by no whole period."""

Samples = NDArray[np.float64]


class Echo(NamedTuple):
    """A clean burst in a gate: ``rf (n,)`` counts over noise of 3, ``onset`` and ``period`` in samples."""

    rf: Samples
    onset: float
    period: float
    cycles: float
    phase: float


def lay(n: int, onset: float, period: float, cycles: float, phase: float) -> Samples:
    t = (np.arange(n) - onset) / period
    burst = 3000 * np.sin(np.pi * t / cycles) ** 2 * np.sin(2 * np.pi * t + phase)
    return np.asarray(np.where((t > 0) & (t < cycles), burst, 0.0))


def draw() -> Iterator[Echo]:
    rng = np.random.default_rng(20)
    for _ in range(ECHOES):
        n, period = int(rng.integers(1500, 4000)), float(rng.uniform(8, 24))
        onset, cycles = float(rng.uniform(0.15, 0.6) * n), float(rng.uniform(2.5, 6))
        phase = float(rng.uniform(0, 6.28))
        rf = lay(n, onset, period, cycles, phase) + 3 * rng.standard_normal(n)
        yield Echo(rf, onset, period, cycles, phase)


@pytest.fixture(scope="module")
def picker() -> ModelPicker:
    pytest.importorskip("ai_edge_litert", reason="the shipped bundle needs LiteRT")
    return load_model_picker()


@pytest.fixture(scope="module")
def echoes() -> list[Echo]:
    return list(draw())


def tof_us(picker: ModelPicker, rf: Samples, fs_hz: float = FS_HZ, t0_us: float = 0.0) -> float:
    pick = picker.pick(AScan(np.round(np.clip(rf, -32768, 32767)).astype(np.int16), fs_hz, t0_us))
    assert pick.tof_us is not None
    return pick.tof_us


def holds(moved: list[float]) -> None:
    """``moved``: how far each reading went from where it should be, in periods."""
    off = np.abs(moved)
    assert np.mean(off <= TOLERANCE) >= SHARE, off
    assert off.max() < 0.5


def test_the_onset_is_found_within_half_a_period(picker: ModelPicker, echoes: list[Echo]) -> None:
    off = [(tof_us(picker, e.rf) * 40 - e.onset) / e.period for e in echoes]
    assert np.abs(off).max() < 0.5


@pytest.mark.parametrize("gain", [-1.0, 0.1, 0.3, 3.0, 10.0])
def test_gain_and_polarity(picker: ModelPicker, echoes: list[Echo], gain: float) -> None:
    holds([(tof_us(picker, gain * e.rf) - tof_us(picker, e.rf)) * 40 / e.period for e in echoes])


@pytest.mark.parametrize("offset", [-2000.0, 500.0, 5000.0])
def test_dc_offset(picker: ModelPicker, echoes: list[Echo], offset: float) -> None:
    holds([(tof_us(picker, e.rf + offset) - tof_us(picker, e.rf)) * 40 / e.period for e in echoes])


@pytest.mark.parametrize("part", [0.0, 0.1, 0.3, 0.5])
def test_a_gate_that_begins_later(picker: ModelPicker, echoes: list[Echo], part: float) -> None:
    moved = []
    for e in echoes:
        start = 1 + int(part * e.onset)
        moved.append((tof_us(picker, e.rf[start:], t0_us=start / 40) - tof_us(picker, e.rf)) * 40 / e.period)
    holds(moved)


@pytest.mark.parametrize("factor", [0.7, 0.85, 1.2, 1.4])
def test_another_sampling_rate(picker: ModelPicker, echoes: list[Echo], factor: float) -> None:
    moved, rng = [], np.random.default_rng(4)
    for e in echoes:
        n = int(factor * len(e.rf))
        again = lay(n, e.onset * factor, e.period * factor, e.cycles, e.phase) + 3 * rng.standard_normal(n)
        moved.append((tof_us(picker, again, FS_HZ * factor) - tof_us(picker, e.rf)) * 40 / e.period)
    holds(moved)


ODD = {
    "constant": (np.zeros(2000), "out_of_distribution"),
    "constant far off": (np.full(2000, 5000.0), "out_of_distribution"),
    "at both limits": (32767 * np.sign(np.sin(np.arange(2000) / 30)), "saturated"),
    "one spike": (500 * np.eye(1, 2000, 700)[0], "no_echo"),
    "least counts": (np.arange(2000) * 7919 % 3 - 1.0, "no_echo"),
    "step": (np.where(np.arange(2000) < 900, 0.0, 8000.0) + np.arange(2000) * 7919 % 7, "no_echo"),
    "ramp": (np.arange(2000) * 10.0, "no_echo"),
    "continuous wave": (3000 * np.sin(0.3 * np.arange(2000)), "no_echo"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_holds_no_echo_is_given_no_number_and_a_reason(picker: ModelPicker, name: str) -> None:
    rf, why = ODD[name]
    pick = picker.pick(AScan(rf.astype(np.int16), FS_HZ))
    assert (pick.tof_us, pick.abstain) == (None, why)
