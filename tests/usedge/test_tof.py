"""The classical pickers: where they find an echo, when they abstain, and what must not move them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from usedge.ascan import AScan, cut_gate
from usedge.errors import InputError
from usedge.labelled import load_labelled
from usedge.metrics import score
from usedge.tof import CLASSICAL, MIN_SAMPLES, Xcorr, akaike, classical_picker, estimate_f0

FS_HZ, F0_HZ, T0_US = 40e6, 2.5e6, 12.0
PERIOD_US = 1e6 / F0_HZ
METHODS = sorted(CLASSICAL)
EVAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "eval"


def burst(onset: float, n: int = 1600, amplitude: float = 4000.0) -> NDArray[np.float64]:
    """A 3-cycle tone under half a sine, its onset at sample ``onset``."""
    t = (np.arange(n) - onset) * F0_HZ / FS_HZ
    window = np.where((t > 0) & (t < 3), np.sin(np.pi * np.clip(t / 3, 0, 1)), 0.0)
    echo: NDArray[np.float64] = amplitude * window * np.sin(2 * np.pi * t)
    return echo


def noise(n: int = 1600, rms: float = 25.0, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0.0, rms, n)


def gated(x: NDArray[np.float64]) -> AScan:
    return AScan(np.round(x).astype(np.int16), FS_HZ, T0_US)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("f0_hz", [F0_HZ, None], ids=["f0", "f0 estimated"])
@pytest.mark.parametrize("onset", [210.0, 640.4, 1100.7])
def test_an_echo_is_found_within_a_quarter_period(method: str, f0_hz: float | None, onset: float) -> None:
    pick = classical_picker(method, f0_hz).pick(gated(burst(onset) + noise()))
    assert pick.tof_us == pytest.approx(T0_US + onset / FS_HZ * 1e6, abs=PERIOD_US / 4)
    assert pick.abstain is None
    assert pick.label in {int(onset / 25 - 0.4), int(onset / 25 + 0.4)}
    assert 0.5 < pick.confidence < 1.0
    assert pick.snr_db == pytest.approx(43.5, abs=2.0)


@pytest.mark.parametrize("method", METHODS)
def test_of_two_echoes_the_first_counts(method: str) -> None:
    x = burst(400.0, amplitude=3000.0) + burst(900.0, amplitude=4000.0) + noise()
    pick = classical_picker(method, F0_HZ).pick(gated(x))
    assert pick.tof_us == pytest.approx(T0_US + 10.0, abs=PERIOD_US / 4)


@pytest.mark.parametrize("method", ["envelope", "xcorr"])
def test_onsets_are_finer_than_a_sample(method: str) -> None:
    onsets = np.linspace(500.0, 501.0, 11)
    picker = classical_picker(method, F0_HZ)
    tofs = [picker.pick(gated(burst(onset) + noise(rms=2.0))).tof_us for onset in onsets]
    errors = np.array(tofs, float) - onsets / FS_HZ * 1e6
    assert np.ptp(errors) < 0.25 * 1e6 / FS_HZ


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(5))
def test_noise_alone_is_no_echo(method: str, seed: int) -> None:
    pick = classical_picker(method, F0_HZ).pick(gated(noise(seed=seed)))
    assert (pick.tof_us, pick.label, pick.abstain, pick.confidence) == (None, None, "no_echo", 0.0)
    assert 5.0 < pick.snr_db < 16.0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("level", [0, -512, 32767])
def test_a_constant_gate_is_told_from_a_quiet_one(method: str, level: int) -> None:
    pick = classical_picker(method).pick(gated(np.full(400, float(level))))
    assert (pick.tof_us, pick.abstain) == (None, "out_of_distribution")


@settings(max_examples=25, deadline=None)
@given(method=st.sampled_from(METHODS), gain=st.floats(0.3, 6.0), dc=st.integers(-6000, 6000),
       polarity=st.sampled_from([1, -1]))
def test_polarity_gain_and_dc_do_not_move_the_tof(method: str, gain: float, dc: int, polarity: int) -> None:
    x = burst(700.0) + noise()
    picker = classical_picker(method, F0_HZ)
    plain, changed = picker.pick(gated(x)), picker.pick(gated(polarity * gain * x + dc))
    samples = 1.0 if method == "aic" else 0.05
    assert changed.tof_us == pytest.approx(plain.tof_us, abs=samples / FS_HZ * 1e6)


@pytest.mark.parametrize("method", METHODS)
def test_confidence_grows_with_the_echo(method: str) -> None:
    picker = classical_picker(method, F0_HZ)
    confidences = [picker.pick(gated(burst(700.0, amplitude=a) + noise())).confidence
                   for a in (250.0, 500.0, 3000.0, 9000.0)]
    assert confidences == sorted(confidences)
    assert confidences[0] < 0.75
    assert 0.95 < confidences[-1] < 1.0


@pytest.mark.parametrize("method", METHODS)
@given(samples=st.lists(st.integers(-32768, 32767), min_size=MIN_SAMPLES, max_size=64))
@settings(max_examples=60, deadline=None)
def test_any_gate_gets_an_answer_inside_it(method: str, samples: list[int]) -> None:
    ascan = AScan(np.array(samples, np.int16), FS_HZ, T0_US)
    for f0_hz in (None, F0_HZ, 0.45 * FS_HZ):
        pick = classical_picker(method, f0_hz).pick(ascan)
        assert (pick.tof_us is None) == (pick.abstain is not None) == (pick.label is None)
        if pick.tof_us is not None:
            assert T0_US <= pick.tof_us < ascan.end_us
            assert 0.0 <= pick.confidence <= 1.0
            assert pick.label in range(64)


def ring_down(n: int = 1600, amplitude: float = 6000.0, decay: float = 60.0) -> NDArray[np.float64]:
    """A resonance that began before the gate and dies away in it, ``decay`` samples to 1/e."""
    t = np.arange(n)
    ringing: NDArray[np.float64] = amplitude * np.exp(-t / decay) * np.sin(2 * np.pi * t * F0_HZ / FS_HZ + 1)
    return ringing


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("decay", [10.0, 60.0, 120.0])
def test_ring_down_from_before_the_gate_is_no_echo(method: str, decay: float) -> None:
    picker = classical_picker(method, F0_HZ)
    assert picker.pick(gated(ring_down(decay=decay) + noise())).abstain == "no_echo"
    pick = picker.pick(gated(ring_down(decay=decay) + burst(1100.0, amplitude=2000.0) + noise()))
    assert pick.tof_us == pytest.approx(T0_US + 27.5, abs=PERIOD_US / 3)


@pytest.mark.parametrize("method", METHODS)
def test_an_echo_at_the_very_start_of_the_gate_is_no_ring_down(method: str) -> None:
    pick = classical_picker(method, F0_HZ).pick(gated(burst(20.0) + noise()))
    assert pick.tof_us == pytest.approx(T0_US + 0.5, abs=PERIOD_US / 2)


@pytest.mark.parametrize("method", METHODS)
def test_what_does_not_oscillate_is_no_echo(method: str) -> None:
    """A step and a recovering amplifier: loud in band, but not like a burst."""
    t = np.arange(1600)
    step = np.where(t > 300, 3000.0, 0.0)
    recovery = np.where(t > 300, -9000 * np.exp(-(t - 300) / 80), 0.0)
    picker = classical_picker(method, F0_HZ)
    for x in (step, recovery, -step, -recovery):
        assert picker.pick(gated(x + noise())).abstain == "no_echo"
        behind = picker.pick(gated(x + burst(900.0, amplitude=2000.0) + noise()))
        assert behind.tof_us == pytest.approx(T0_US + 22.5, abs=PERIOD_US / 3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("wrong_by", [0.7, 1.3])
def test_a_frequency_a_third_off_costs_precision_but_no_echo(method: str, wrong_by: float) -> None:
    pick = classical_picker(method, wrong_by * F0_HZ).pick(gated(burst(700.0) + noise()))
    assert pick.tof_us == pytest.approx(T0_US + 17.5, abs=1.5 * PERIOD_US)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("f0_hz", [F0_HZ, None])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_number_comes_from_a_broken_ascan(method: str, f0_hz: float | None, bad: float) -> None:
    x = burst(700.0) + noise()
    x[[3, 800]] = bad
    pick = classical_picker(method, f0_hz).pick(AScan(x, FS_HZ, T0_US))  # type: ignore[arg-type]
    assert (pick.tof_us, pick.abstain) == (None, "out_of_distribution")
    assert (pick.confidence, pick.snr_db) == (0.0, 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_a_gate_under_ten_periods_shows_no_noise_beside_an_echo(method: str) -> None:
    picker = classical_picker(method, F0_HZ)
    assert picker.pick(gated(burst(30.0, n=159) + noise(159))).abstain == "out_of_distribution"
    assert picker.pick(gated(burst(30.0, n=200) + noise(200))).abstain != "out_of_distribution"


@pytest.mark.parametrize("method", METHODS)
def test_gates_too_short_for_an_echo_are_refused(method: str) -> None:
    with pytest.raises(InputError, match="7 samples"):
        classical_picker(method).pick(gated(np.arange(7.0)))


def test_impossible_frequencies_are_refused() -> None:
    with pytest.raises(InputError, match="not under fs/2"):
        classical_picker("aic", FS_HZ).pick(gated(noise()))
    for f0_hz in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="not positive"):
            classical_picker("aic", f0_hz)


def test_an_unknown_method_prints_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'cfar'.*threshold, envelope, aic, xcorr"):
        classical_picker("cfar")


def test_the_number_of_classes_sets_the_label() -> None:
    ascan = gated(burst(805.0) + noise())
    labels = [classical_picker("envelope", F0_HZ, classes).pick(ascan).label for classes in (2, 16, 400)]
    assert labels[:2] == [1, 8]
    assert labels[2] == pytest.approx(201, abs=1)


def test_a_reference_echo_is_found_again_to_a_fraction_of_a_sample() -> None:
    rng = np.random.default_rng(5)
    t = np.arange(160) * F0_HZ / FS_HZ
    odd = 3000 * t * np.exp(-t) * np.sin(2 * np.pi * t * (1 + 0.05 * t))
    x = noise(rms=10.0)
    x[600:760] += odd
    picker = Xcorr(F0_HZ, reference=replace(gated(odd + rng.normal(0, 5, 160)), t0_us=0.0))
    assert picker.pick(gated(x)).tof_us == pytest.approx(T0_US + 15.0, abs=0.3 / FS_HZ * 1e6)
    assert picker.pick(gated(-x)).tof_us == pytest.approx(T0_US + 15.0, abs=0.3 / FS_HZ * 1e6)


def test_references_that_do_not_fit_are_refused() -> None:
    ascan, echo = gated(noise()), gated(burst(0.0, n=60))
    for reference, why in ((replace(echo, fs_hz=10e6), "samples/s"), (gated(burst(0.0)), "not shorter"),
                           (gated(np.full(60, 3.0)), "constant"),
                           (replace(echo, samples=np.full(60, np.nan)), "NaN")):
        with pytest.raises(InputError, match=why):
            Xcorr(F0_HZ, reference=reference).pick(ascan)


def test_the_aic_is_least_where_noise_turns_into_echo() -> None:
    x = noise(400, rms=1.0)
    x[250:] += 8 * np.sin(0.4 * np.arange(150))
    assert int(np.argmin(akaike(x))) + 2 == pytest.approx(250, abs=3)
    with pytest.raises(InputError, match="too few"):
        akaike(x[:7])


@pytest.mark.parametrize("f0_hz", [0.6e6, 2.5e6, 7.5e6])
def test_the_centre_frequency_is_found_in_noise_and_drift(f0_hz: float) -> None:
    t = np.arange(1600) / FS_HZ
    echo = np.exp(-(((t - 2e-5) * f0_hz / 1.5) ** 2)) * np.sin(2 * np.pi * f0_hz * t)
    x = 1000 * echo + noise(rms=20.0) + 300 + 400 * t / t[-1]
    assert estimate_f0(x, FS_HZ) == pytest.approx(f0_hz, rel=0.1)
    assert estimate_f0(np.tile(x, (3, 1)), FS_HZ) == pytest.approx(f0_hz, rel=0.1)


@pytest.mark.parametrize("seed", [3, 5, 7, 9])
def test_the_centre_frequency_of_clipped_echoes_in_a_short_gate_is_no_slow_wave(seed: int) -> None:
    rng, t = np.random.default_rng(seed), np.arange(376) / 5.6
    x = rng.normal(0, 1000, t.size)
    for begin in (9.0, 47.0):
        x += np.where((t > begin) & (t < begin + 4), 14000 * np.sin(2 * np.pi * (t - begin)), 0)
    x = np.clip(x, -1500, 6000)  # one side first, which leaves a slow wave
    assert estimate_f0(np.round(x), 12.5e6) == pytest.approx(12.5e6 / 5.6, rel=0.2)


def test_a_spectrum_needs_samples() -> None:
    with pytest.raises(InputError, match="too few"):
        estimate_f0(np.arange(7), FS_HZ)
    assert estimate_f0(np.ones(64), FS_HZ) == FS_HZ / 8
    with pytest.raises(InputError, match="NaN"):
        estimate_f0(np.full(64, np.nan), FS_HZ)


@pytest.mark.skipif(not EVAL.is_dir(), reason="the recorded A-scans (../shared/data/eval) are not here")
@pytest.mark.parametrize(("method", "at_least"), [("threshold", 0.88), ("envelope", 0.94), ("aic", 0.94),
                                                  ("xcorr", 0.92)])
def test_recorded_echoes_are_found_and_empty_gates_are_not(method: str, at_least: float) -> None:
    scores = []
    for path in sorted(EVAL.glob("*.npz")):
        labelled = load_labelled(path)
        assert labelled.f0_hz is not None
        picker = classical_picker(method, float(labelled.f0_hz[0]))
        gates = [cut_gate(labelled.ascan(i), labelled.gate(i)) for i in range(len(labelled))]
        tof_s = np.array([picker.pick(gate).tof_us for gate in gates], float) * 1e-6
        scores.append(score(tof_s, labelled.tof_s, labelled.f0_hz))
    hits, alarms = (np.array([each[key] for each in scores], float)
                    for key in ("hit_half_period", "false_alarm_rate"))
    assert np.nanmean(hits) > at_least
    assert np.nanmean(alarms) < 0.11
