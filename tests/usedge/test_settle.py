"""Where an echo is told to begin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from tests.usedge.test_zoom import AT, CYCLES, PERIOD, N, ascan
from usedge.settle import LEAD_CYCLES, RISEN, RISEN_CYCLES, settle
from usedge.tof import hann_burst
from usedge.zoom import Place, Window, zoom

FloatArray = NDArray[np.float64]

WHOLE = Window(0, N, PERIOD, 0.0)


@settings(deadline=None)
@given(arrays(np.int16, st.integers(64, 3000), elements=st.integers(-32768, 32767)),
       st.floats(-10, 4000), st.sampled_from([None, 2.5, 40.0]))
def test_whatever_is_in_the_gate_the_echo_is_told_in_it(
    samples: NDArray[np.int16], place: float, period: float | None
) -> None:
    window = zoom(samples, place, CYCLES, period)
    found = Place(min(max(place, 0.0), len(samples)), min(max(place, 0.0) + 5, len(samples)), 0.5)
    assert 0 <= settle(samples, found, window) <= len(samples)


def test_a_clear_onset_is_told_and_a_buried_one_a_usual_way_before_the_echo_has_risen() -> None:
    rng, arrival = np.random.default_rng(3), AT + 1.5 * PERIOD
    envelope = np.abs(np.correlate(ascan(), hann_burst(round(1.5 * PERIOD), PERIOD), "same"))
    usual = int((envelope >= RISEN * envelope.max()).argmax()) - RISEN_CYCLES * PERIOD
    assert settle(ascan(), Place(AT, arrival, 0.9), WHOLE) == pytest.approx(AT, abs=0.01)
    buried = [settle(noisy(3000.0, rng), Place(AT + wrong * PERIOD, arrival, 0.9), WHOLE)
              for wrong in np.linspace(-1.0, 1.0, 41)]
    assert np.median(buried) == pytest.approx(usual, abs=0.4 * PERIOD)
    assert np.std(buried) < 0.5 * PERIOD
    doubtful = [settle(noisy(900.0, rng), Place(AT, arrival, 0.9), WHOLE) for _ in range(20)]
    assert AT - 0.3 * PERIOD < np.median(doubtful) < usual + 0.3 * PERIOD


@pytest.mark.parametrize("second", [0.75, 1.3])
def test_a_buried_echo_of_two_humps_is_told_from_its_first_whichever_is_the_larger(second: float) -> None:
    rng, first = np.random.default_rng(5), ascan().astype(np.float64)
    both = first + second * np.roll(first, round(3.5 * PERIOD))
    told = [settle((0.7 * both + 1500.0 * rng.standard_normal(N)).astype(np.int16),
                   Place(AT, AT + at * PERIOD, 0.9), WHOLE) for at in (2.0, 3.0) for _ in range(10)]
    assert np.ptp(np.percentile(told, [10, 90])) < 1.2 * PERIOD


def test_ring_down_of_the_echos_own_frequency_is_not_told_for_a_buried_one() -> None:
    t = np.arange(N) - AT
    dying = np.where(t < 0, 9000.0 * np.exp(-(t + 12 * PERIOD) / (4 * PERIOD)), 0.0)
    samples = ascan() + np.clip(dying * np.sin(2 * np.pi * t / PERIOD), -8000, 8000).astype(np.int16)
    told = settle(samples, Place(AT, AT + 1.5 * PERIOD, 0.9), WHOLE._replace(start=round(AT - 20 * PERIOD)))
    assert told == pytest.approx(AT, abs=1.0 * PERIOD)


def test_an_echo_at_the_end_of_a_short_gate_is_told_nevertheless() -> None:
    rng = np.random.default_rng(4)
    for length in (8, 12, 20, 40):
        samples = np.round(300 * rng.standard_normal(length)).astype(np.int16)
        told = settle(samples, Place(5.0, 6.0, 0.9), Window(0, length, PERIOD, 0.0))
        assert 0 <= told <= length


def noisy(rms: float, rng: np.random.Generator) -> NDArray[np.int16]:
    """``ascan`` under white noise."""
    return np.clip(ascan() + rms * rng.standard_normal(N), -32767, 32767).astype(np.int16)


def test_ring_down_and_a_packet_before_an_echo_bury_no_onset() -> None:
    place = Place(AT, AT + 3 * PERIOD, 1.0)
    tail = 20000 * np.exp(-np.arange(N) / 1000.0)
    packet = 4000 * np.exp(-(((np.arange(N) - 1500) / 60.0) ** 2)) * np.cos(np.arange(N))
    for extra in (tail, packet):
        clean = np.asarray(np.clip(ascan() + extra, -32767, 32767)).astype(np.int16)
        assert settle(clean, place, WHOLE._replace(start=500)) == pytest.approx(AT, abs=0.5 * PERIOD)


def test_the_onset_of_a_slow_echo_is_told_where_its_first_cycles_stand_out() -> None:
    """A beginning of a tenth of the peak, for six cycles, told where it can be seen and only there."""
    t = (np.arange(N) - AT) / PERIOD
    level = np.where(t < 6.0, 0.1, 1.0) * (t > 0.0) * np.exp(-np.maximum(t - 6.0, 0.0) / 3.0)
    slow, place = 8000.0 * level * np.sin(2.0 * np.pi * t), Place(AT, AT + 6.0 * PERIOD, 0.9)
    noise = np.random.default_rng(3).normal(0, 1, N)
    seen = settle((slow + 200.0 * noise).astype(np.int16), place, WHOLE)
    assert seen == pytest.approx(AT, abs=0.5 * PERIOD)
    buried = settle((slow + 1600.0 * noise).astype(np.int16), place, WHOLE)
    assert buried > AT + 4.0 * PERIOD


def test_a_clear_echo_is_told_from_where_the_ascan_changes_unless_that_is_near_or_far() -> None:
    onset = AT + 0.3 * PERIOD  # a rise of sin² is seen that late, 46 dB over the noise
    for told, moved in ((AT - 1.5 * PERIOD, True), (AT + 2 * PERIOD, True), (AT + 0.1 * PERIOD, False),
                        (AT - 3.5 * PERIOD, False)):
        place = settle(ascan(), Place(told, max(told, AT) + 1.5 * PERIOD, 1.0), WHOLE)
        assert place == pytest.approx(onset if moved else told, abs=0.25 * PERIOD if moved else 0.01)


def led(cycles: float, level: float, pause: float = 0.0) -> NDArray[np.int16]:
    """``ascan`` with ``cycles`` of sound at ``level`` of its peak before it, with a ``pause`` between."""
    t = (np.arange(N) - AT) / PERIOD + pause
    lead = 8000 * level * ((t > -cycles) & (t < 0)) * np.sin(2 * np.pi * t)
    return (ascan() + lead).astype(np.int16)


NETWORKS = Place(AT, AT + 1.5 * PERIOD, 1.0)


@pytest.mark.parametrize("level", [0.1, 0.2])
def test_weak_sound_that_runs_into_an_echo_is_its_beginning(level: float) -> None:
    told = settle(led(5.0, level), NETWORKS, WHOLE)
    assert told == pytest.approx(AT - 5.0 * PERIOD, abs=0.25 * PERIOD)


@pytest.mark.parametrize(("cycles", "level", "pause"), [
    (LEAD_CYCLES + 3.0, 0.15, 0.0), (100.0, 0.15, 0.0), (5.0, 0.03, 0.0), (5.0, 0.15, 2.0)],
    ids=["too long", "since the gate began", "too weak", "a pause between"])
def test_other_sound_before_an_echo_is_none_of_it(cycles: float, level: float, pause: float) -> None:
    told = settle(led(cycles, level, pause), NETWORKS, WHOLE)
    assert told == pytest.approx(AT, abs=1.25 * PERIOD)


def test_where_sound_begins_hangs_on_the_sound_alone_and_not_on_the_networks_place_in_it() -> None:
    whole = led(5.0, 0.15)
    told = [settle(whole, Place(AT + late * PERIOD, AT + (1.5 + late) * PERIOD, 1.0), WHOLE)
            for late in (-0.4, 0.0, 0.4, 0.8)]
    assert np.ptp(told) < 0.02 * PERIOD
