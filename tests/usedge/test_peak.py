"""Where an echo is at its peak, and labels that mark it there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.labelled import load_labelled
from usedge.runtime.evaluate import evaluate_file
from usedge.tof import Pick, echo_peak

PERIOD, N = 16.0, 1200


def echo(peak: float, cycles: float = 3.0, height: float = 2000.0, seed: int = 1) -> NDArray[np.int16]:
    """A Gaussian burst of ``cycles`` between its half points, with noise of rms 10."""
    t = (np.arange(N) - peak) / PERIOD
    rf = height * np.exp(-4.0 * np.log(2.0) * (t / cycles) ** 2) * np.cos(2.0 * np.pi * t + 0.7)
    noise = np.random.default_rng(seed).normal(0, 10, N)
    counts: NDArray[np.int16] = np.round(rf + noise).astype(np.int16)
    return counts


@pytest.mark.parametrize("peak", [300.0, 500.4, 731.7])
@pytest.mark.parametrize("cycles", [1.5, 3.0, 6.0])
def test_the_peak_is_found_wherever_the_pick_fell_before_it(peak: float, cycles: float) -> None:
    for before in (0.3, 1.0, 1.5):
        onset = peak - before * cycles * PERIOD
        assert echo_peak(echo(peak, cycles), onset, PERIOD) == pytest.approx(peak, abs=0.1 * PERIOD)


def test_a_clipped_echo_has_its_peak_where_it_has_it_unclipped() -> None:
    clipped = np.clip(echo(500.0), -500, 499)
    assert echo_peak(clipped, 440.0, PERIOD) == pytest.approx(500.0, abs=0.2 * PERIOD)


def test_a_larger_echo_further_off_is_another() -> None:
    both = echo(400.0, height=500.0) + echo(800.0)
    assert echo_peak(both, 340.0, PERIOD) == pytest.approx(400.0, abs=0.1 * PERIOD)


@given(st.lists(st.integers(-32768, 32767), min_size=8, max_size=200), st.floats(-50.0, 300.0),
       st.floats(1.0, 80.0))
def test_whatever_there_is_the_peak_lies_in_it(samples: list[int], onset: float, period: float) -> None:
    assert 0 <= echo_peak(np.array(samples, np.int16), onset, period) <= len(samples) - 1


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(InputError, match="too few"):
        echo_peak(np.zeros(7), 0.0, 4.0)


class FirstMotion:
    """Answers the first sample that is 100 counts off: the earlier, the larger an echo."""

    def pick(self, gated: AScan) -> Pick:
        place = int(np.argmax(np.abs(gated.samples) > 100))
        return Pick(gated.t0_us + place * gated.sample_us, 1.0, 40.0)


def test_labels_of_peaks_are_held_against_peaks_and_those_of_onsets_against_onsets(tmp_path: Path) -> None:
    fs_hz, peaks = 32e6, np.linspace(400.0, 800.0, 12)
    x = np.stack([echo(peak, cycles, 4000.0, row)
                  for row, (peak, cycles) in enumerate(zip(peaks, np.tile([1.0, 6.0], 6), strict=True))])
    np.savez(tmp_path / "a.npz", x=x, fs_hz=fs_hz, t0_s=1e-6, f0_hz=fs_hz / PERIOD, label_point="peak",
             tof_s=1e-6 + peaks / fs_hz)
    labelled = load_labelled(tmp_path / "a.npz")
    as_peaks = evaluate_file(labelled, {"first": lambda _: FirstMotion()})
    assert as_peaks.methods["first"]["raw_hit_half_period"] == 1.0
    assert as_peaks.predictions["first"].tof_s == pytest.approx(labelled.tof_s, abs=0.2 * PERIOD / fs_hz)
    as_onsets = evaluate_file(replace(labelled, label_point="onset"), {"first": lambda _: FirstMotion()})
    assert as_onsets.methods["first"]["hit_half_period"] == 0.0
