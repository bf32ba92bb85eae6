"""The gate of the second pass."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from usedge.ascan import AScan
from usedge.bundle import Thresholds
from usedge.errors import InputError
from usedge.runtime.passes import Passes
from usedge.runtime.picker import ModelPicker
from usedge.spec import SignalSpec
from usedge.zoom import LEAD, Place, Window, outdone, surer, zoom

CYCLES, PERIOD, N, AT = 51.2, 16.0, 6000, 3000.0


def ascan(at: float = AT, n: int = N, period: float = PERIOD, seed: int = 1) -> NDArray[np.int16]:
    """A five-cycle burst that begins at ``at``, 46 dB over noise."""
    t = (np.arange(n) - at) / period
    burst = np.where((t > 0) & (t < 5), np.sin(np.pi * np.clip(t / 5, 0, 1)) ** 2 * np.sin(2 * np.pi * t), 0)
    return np.asarray(8000 * burst + 40 * np.random.default_rng(seed).standard_normal(n)).astype(np.int16)


@pytest.mark.parametrize("period", [PERIOD, None])
def test_it_is_as_many_cycles_wide_as_asked_and_holds_the_echo_where_it_should(period: float | None) -> None:
    window = zoom(ascan(), AT + 10, CYCLES, period)
    assert window.stop - window.start == pytest.approx(CYCLES * PERIOD, rel=0.03 if period else 0.1)
    largest = AT + 2.5 * PERIOD
    assert (largest - window.start) / (window.stop - window.start) == pytest.approx(LEAD, abs=0.02)


def test_the_same_echo_gives_the_same_gate_wherever_the_whole_gate_began_and_the_first_pick_fell() -> None:
    whole = ascan()
    for first, place in ((0, AT), (1234, AT + 7), (900, AT - 20)):
        window = zoom(whole[first:], place - first, CYCLES)
        assert (window.start + first, window.stop + first) == zoom(whole, AT, CYCLES)[:2]


def test_an_echo_at_an_end_keeps_the_gate_inside() -> None:
    for at in (2.0, N - 100.0):
        window = zoom(ascan(at), at, CYCLES, PERIOD)
        assert 0 <= window.start <= at < window.stop <= N


def test_a_gate_that_is_hardly_longer_is_looked_at_once() -> None:
    assert zoom(ascan(300.0, 900), 300.0, CYCLES, PERIOD)[:2] == (0, 900)
    assert zoom(ascan(300.0, 1100), 300.0, CYCLES, PERIOD)[:2] != (0, 1100)


@settings(deadline=None)
@given(arrays(np.int16, st.integers(64, 3000), elements=st.integers(-32768, 32767)),
       st.floats(-10, 4000), st.sampled_from([None, 2.5, 40.0]))
def test_whatever_is_in_the_gate_the_second_one_lies_in_it(
    samples: NDArray[np.int16], place: float, period: float | None
) -> None:
    window = zoom(samples, place, CYCLES, period)
    assert 0 <= window.start < window.start + 64 <= window.stop <= len(samples)


WHOLE = Window(0, N, PERIOD, 0.0)


def test_a_second_pass_that_finds_another_echo_must_be_much_surer() -> None:
    first = Place(1000.0, 1010.0, 0.9)
    for later, confidence, kept in ((4, 0.8, True), (4, 0.95, True), (4, 0.98, False), (2, 0.5, False)):
        arrival = first.arrival + later * PERIOD
        second = Place(arrival - 10, arrival, confidence)
        assert surer(first, second, WHOLE) == (first if kept else second)


@pytest.mark.parametrize("zoomed", [-1.0, 3.0, 4000.0, float("nan")])
def test_a_second_pass_of_no_sensible_width_is_refused(zoomed: float) -> None:
    with pytest.raises(InputError, match="zoom"):
        SignalSpec(zoom=zoomed)


def test_a_spec_without_a_second_pass_reads_and_writes_as_before_there_was_one() -> None:
    assert "zoom" not in SignalSpec().to_dict()
    once, twice = SignalSpec(), SignalSpec(zoom=CYCLES)
    assert SignalSpec.from_dict(once.to_dict()) == once
    assert SignalSpec.from_dict(twice.to_dict()) == twice


class Coarse:
    """A network that knows the middle of the patch where the input first exceeds a third of its peak."""

    def __init__(self, doubts: tuple[float, ...] = ()) -> None:
        """``doubts``: the probabilities of no echo that it gives one after another."""
        self.calls, self.doubts = 0, doubts

    def infer(self, x: NDArray[np.float32], places: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        assert places is None
        out = np.zeros((1, 3 * 64 + 1), np.float32)
        out[0, int((np.abs(x[0]) > np.abs(x[0]).max() / 3).argmax()) // 32] = 20.0
        out[0, 65:] = 0.5
        if self.doubts:
            p = self.doubts[self.calls]
            out[0, 64] = np.log(np.exp(out[0, :64]).sum() * p / (1.0 - p))
        self.calls += 1
        return out

    def close(self) -> None:
        pass


def picker(spec: SignalSpec, f0_hz: float | None = None, passes: int = 2) -> tuple[ModelPicker, Coarse]:
    bundle, network = SimpleNamespace(thresholds=Thresholds(0.5, 0.5), spec=spec), Coarse()
    return ModelPicker(cast("Any", bundle), cast("Any", None), network, f0_hz, passes), network


@pytest.mark.parametrize(("f0_hz", "why"), [(-2e6, "not positive"), (float("nan"), "not positive"),
                                            (32e6, "Nyquist frequency, 32 MHz")])
def test_a_centre_frequency_that_cannot_be_is_refused(f0_hz: float, why: str) -> None:
    with pytest.raises(InputError, match=why):
        picker(SignalSpec(zoom=CYCLES), f0_hz)[0].pick(AScan(ascan(), 64e6))


def test_a_known_centre_frequency_sets_the_second_gate() -> None:
    for f0_hz, passes in ((None, 2), (4e6, 2), (0.6e6, 1)):  # 51.2 cycles of 0.6 MHz are most of the gate
        found, network = picker(SignalSpec(zoom=CYCLES), f0_hz)
        found.pick(AScan(ascan(), 64e6))
        assert network.calls == passes


def test_a_second_pass_places_more_finely_and_its_time_counts() -> None:
    one, two = picker(SignalSpec()), picker(SignalSpec(zoom=CYCLES))
    gated = AScan(samples=ascan(), seq=0, t_ns=0, fs_hz=64e6, t0_us=5.0)
    spread = []
    for found, network in (one, two):
        later = [replace(gated, samples=gated.samples[k:], t0_us=5.0 + k / 64) for k in range(0, 90, 9)]
        picks = [found.pick(each) for each in later]
        spread.append(np.ptp([pick.tof_us for pick in picks if pick.tof_us is not None]) * 64)
        assert network.calls == 10 * (1 + (found is two[0]))
        assert set(found.laps_ns) == {"preprocess", "infer"}
    assert spread[0] > 30
    assert spread[1] < 1


@pytest.mark.parametrize(("doubts", "limits", "found"), [
    ((0.02, 0.9), (0.03, 0.1), True), ((0.3, 0.05), (0.03, 0.1), True),
    ((0.3, 0.2, 0.2, 0.2), (0.03, 0.1), False), ((0.3, 0.2, 0.05), (0.03, 0.1), True),
    ((0.3, 0.2, 0.2, 0.05), (0.03, 0.1), True), ((0.3,), (0.03, 0.0), False), ((0.6,), (0.03, 0.1), False)])
def test_an_echo_in_doubt_is_one_where_a_closer_look_doubts_it_less(
        doubts: tuple[float, ...], limits: tuple[float, float], found: bool) -> None:
    """``doubts``: the looks' probabilities of no echo, all that are asked for. Over even odds nobody looks
    again.
    """
    network = Coarse(doubts)
    answer = Passes(SignalSpec(zoom=CYCLES), network).find(AScan(ascan(), 64e6), *limits)
    assert (answer.onset is not None) is found
    assert answer.p_no_echo == pytest.approx(doubts[0], rel=1e-3)
    assert network.calls == len(doubts)


@pytest.mark.parametrize(("cycles", "doubts"), [(60, (0.3, 0.05)), (45, (0.3, 0.05)), (30, (0.3,))])
def test_a_gate_too_short_for_a_second_pass_is_looked_at_closer_where_it_is_in_doubt(
        cycles: int, doubts: tuple[float, ...]) -> None:
    samples = ascan(400.0, cycles * int(PERIOD))
    sure, unsure = Coarse((0.02,)), Coarse(doubts)
    for network, found in ((sure, True), (unsure, len(doubts) > 1)):
        passes = Passes(SignalSpec(zoom=CYCLES), network, 4e6)
        assert (passes.find(AScan(samples, 64e6), 0.03, 0.1).onset is not None) is found
    assert (sure.calls, unsure.calls) == (1, len(doubts))


def test_one_pass_is_one_look() -> None:
    found, network = picker(SignalSpec(zoom=CYCLES), passes=1)
    assert found.pick(AScan(ascan(), 64e6)).tof_us is not None
    assert network.calls == 1


def test_the_label_is_the_patch_of_the_place_that_is_told() -> None:
    found, _ = picker(SignalSpec(zoom=CYCLES))
    pick = found.pick(AScan(samples=ascan(), seq=0, t_ns=0, fs_hz=64e6, t0_us=5.0))
    assert pick.tof_us is not None
    # The grid reaches a little beyond the gate, so that its patches are a little longer than 1/64 of it.
    assert pick.label == int((pick.tof_us - 5.0) * 64 / (N * 1.02) * 64)


def two_echoes(level_db: float, gain: float) -> NDArray[np.int16]:
    """A burst ``level_db`` under one that comes 40 cycles later, through an ADC that ends at ±8000 counts."""
    x = 10.0 ** (-level_db / 20.0) * ascan(AT - 40 * PERIOD, seed=2) + ascan()
    return np.clip(gain * x, -8000, 8000).astype(np.int16)


FIRST, SECOND = Place(AT - 40 * PERIOD, AT - 39 * PERIOD, 0.7), Place(AT, AT + PERIOD, 0.25)


@pytest.mark.parametrize(("level_db", "gain", "cycles", "expected"), [
    (18.0, 1.2, 40.0, True), (9.0, 1.2, 40.0, False), (18.0, 0.9, 40.0, False), (18.0, 1.2, 5.0, False)])
def test_a_clipped_echo_outdoes_one_before_it_that_is_too_weak_and_none_that_may_be_its_beginning(
        level_db: float, gain: float, cycles: float, expected: bool) -> None:
    first = FIRST._replace(onset=AT - cycles * PERIOD)
    assert outdone(two_echoes(level_db, gain), first, SECOND, Window(0, N, PERIOD, 0.0)) is expected


class Torn(Coarse):
    """A network that gives the weak first echo 0.7 and the later one 0.25."""

    def infer(self, *_: object) -> NDArray[np.float32]:
        out = np.full((1, 3 * 64 + 1), 0.5, np.float32)
        out[0, :65] = -20.0
        for place, p in ((FIRST, 0.7), (SECOND, 0.25), (Place(N - 1.0, N, 0.0), 0.05)):
            out[0, int(place.onset / (N * 1.02) * 64)] = np.log(p)
        return out


@pytest.mark.parametrize(("gain", "at", "confidence"), [(1.2, SECOND.onset, 0.83), (0.9, FIRST.onset, 0.7)])
def test_where_the_network_is_torn_the_significant_echo_is_told_if_a_clipped_one_shows_which_that_is(
        gain: float, at: float, confidence: float) -> None:
    found = Passes(SignalSpec(zoom=0.0), Torn()).find(AScan(two_echoes(18.0, gain), 64e6), 0.5)
    assert found.onset == pytest.approx(at, abs=N / 64)
    assert found.confidence == pytest.approx(confidence, abs=0.02)
