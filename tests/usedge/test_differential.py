"""The differential mode: its bias, its variance beside the Cramér–Rao bound, and when it says nothing."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from usedge import cli
from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.runtime.reference import load_reference
from usedge.spec import Gate
from usedge.tof import Differential, delay_bound_s, mean_ascan

FS_HZ, F0_HZ, T0_US, N = 40e6, 2.5e6, 12.0, 1600
SAMPLE_NS, PERIOD_NS = 1e9 / FS_HZ, 1e9 / F0_HZ
AMPLITUDE = 4000.0


def echo(onset: float, cycles: float = 4.0, f0_hz: float = F0_HZ) -> NDArray[np.float64]:
    """A tone of ``cycles`` under a Hann window, its onset at sample ``onset``."""
    t = (np.arange(N) - onset) * f0_hz / FS_HZ
    window = np.where((t > 0) & (t < cycles), np.sin(np.pi * np.clip(t / cycles, 0, 1)) ** 2, 0.0)
    burst: NDArray[np.float64] = AMPLITUDE * window * np.sin(2 * np.pi * t)
    return burst


def noise(rms: float, rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.normal(0.0, rms, N)


def ascan(x: NDArray[np.float64]) -> AScan:
    """Not rounded: what is measured is the method, not the ADC."""
    return AScan(x, FS_HZ, T0_US)  # type: ignore[arg-type]


def rms_at(snr_db: float) -> float:
    return AMPLITUDE / 10 ** (snr_db / 20)


def errors(snr_db: float, draws: int, cycles: float = 4.0, largest: float = 3.0) -> NDArray[np.float64]:
    """Errors in samples over random shifts, NaN where nothing was said; the reference is without noise."""
    rng = np.random.default_rng(7)
    differential = Differential(ascan(echo(600.0, cycles)))
    found = np.full(draws, np.nan)
    for i in range(draws):
        shift = rng.uniform(-largest, largest)
        x = echo(600.0 + shift, cycles) + noise(rms_at(snr_db), rng)
        dtof_ns = differential.difference(ascan(x)).dtof_ns
        found[i] = np.nan if dtof_ns is None else dtof_ns / SAMPLE_NS - shift
    return found


def test_shifts_of_fractions_of_a_sample_are_found_without_bias() -> None:
    differential = Differential(ascan(echo(600.0)))
    for shift in np.linspace(-1.0, 1.0, 21):
        difference = differential.difference(ascan(echo(600.0 + shift)))
        assert difference.dtof_ns == pytest.approx(shift * SAMPLE_NS, abs=1e-4 * SAMPLE_NS)
        assert difference.correlation == pytest.approx(1.0, abs=1e-3)


def test_at_40_db_the_error_is_under_a_hundredth_of_a_sample() -> None:
    found = errors(40.0, 300)
    assert np.isfinite(found).all()
    assert abs(float(found.mean())) < 0.002
    assert float(np.sqrt(np.mean(found**2))) < 0.01


@pytest.mark.parametrize(("snr_db", "cycles"), [(20.0, 4.0), (20.0, 2.0), (14.0, 4.0), (26.0, 8.0)])
def test_the_spread_is_near_the_cramer_rao_bound(snr_db: float, cycles: float) -> None:
    found = errors(snr_db, 600, cycles)
    assert np.isfinite(found).all()
    bound = delay_bound_s(echo(600.0, cycles), FS_HZ, rms_at(snr_db)) * FS_HZ
    assert 0.8 * bound < float(found.std()) < 1.5 * bound
    assert abs(float(found.mean())) < 4 * bound / np.sqrt(len(found))


def test_the_bound_is_the_textbook_one() -> None:
    """σ / √(Σ (ds/dt)²), by differences of an oversampled echo; noise of both A-scans adds up."""
    s = echo(600.0)
    power = float(np.sum(((echo(600.0 - 1e-3) - echo(600.0 + 1e-3)) / 2e-3 * FS_HZ) ** 2))
    assert delay_bound_s(s, FS_HZ, 40.0) == pytest.approx(40.0 / np.sqrt(power), rel=1e-3)
    assert delay_bound_s(s, FS_HZ, 30.0, 40.0) == pytest.approx(50.0 / np.sqrt(power), rel=1e-3)
    with pytest.raises(InputError, match="no delay"):
        delay_bound_s(np.ones(64), FS_HZ, 1.0)


def test_later_is_positive_and_several_periods_are_no_matter() -> None:
    differential = Differential(ascan(echo(600.0)), F0_HZ)
    for shift in (-120.3, -8.0, 47.6, 130.0):
        dtof_ns = differential.difference(ascan(echo(600.0 + shift))).dtof_ns
        assert dtof_ns == pytest.approx(shift * SAMPLE_NS, abs=0.01 * SAMPLE_NS)


def test_gain_offset_and_a_later_echo_do_not_move_it() -> None:
    rng = np.random.default_rng(3)
    x = echo(603.4) + noise(rms_at(40.0), rng)
    differential = Differential(ascan(echo(600.0)))
    plain = differential.difference(ascan(x)).dtof_ns
    changed = differential.difference(ascan(0.3 * x + 500.0 + 2.0 * echo(1000.0))).dtof_ns
    assert changed == pytest.approx(plain, abs=0.01 * SAMPLE_NS)


def test_a_gate_that_begins_elsewhere_is_allowed_for() -> None:
    moved = replace(ascan(echo(590.0)), t0_us=T0_US + 10 * SAMPLE_NS * 1e-3)
    assert Differential(ascan(echo(600.0))).difference(moved).dtof_ns == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("cycles", [4.0, 12.0, 24.0])
@pytest.mark.parametrize("snr_db", [20.0, 8.0, 2.0])
def test_a_cycle_that_is_a_guess_is_not_answered(cycles: float, snr_db: float) -> None:
    found = errors(snr_db, 150, cycles, largest=30.0)
    answered = found[np.isfinite(found)]
    assert int(np.sum(np.abs(answered) > 0.5 * FS_HZ / F0_HZ)) == 0
    if snr_db == 20.0:
        assert len(answered) > 90


def test_an_ambiguous_cycle_is_called_so() -> None:
    rng = np.random.default_rng(2)
    differential = Differential(ascan(echo(600.0, 24.0)))
    said = [differential.difference(ascan(echo(600.0, 24.0) + noise(rms_at(5.0), rng))) for _ in range(20)]
    assert {each.abstain for each in said} == {"cycle_skip"}
    assert all(each.dtof_ns is None and each.second_lobe > 0.95 for each in said)


def test_another_echo_noise_and_broken_ascans_have_no_difference() -> None:
    rng = np.random.default_rng(2)
    differential = Differential(ascan(echo(600.0)), F0_HZ)
    far_off = echo(1300.0)
    said = [differential.difference(ascan(x + noise(5.0, rng))) for x in [far_off, 0.0 * far_off] * 50]
    assert all(each.dtof_ns is None for each in said)
    assert sum(each.abstain == "no_echo" for each in said) > 80
    for x in (np.full(N, 7.0), np.full(N, np.nan)):
        difference = differential.difference(ascan(x))
        assert (difference.dtof_ns, difference.abstain) == (None, "out_of_distribution")


def test_what_cannot_be_compared_is_refused() -> None:
    reference = ascan(echo(600.0))
    with pytest.raises(InputError, match="same settings"):
        Differential(reference).difference(replace(reference, fs_hz=20e6))
    with pytest.raises(InputError, match="same settings"):
        Differential(reference).difference(replace(reference, samples=reference.samples[:-1]))
    rng = np.random.default_rng(1)
    for x, f0_hz, why in ((noise(20.0, rng), F0_HZ, "no echo in its gate"), (np.zeros(N), None, "constant"),
                          (echo(600.0), 30e6, "fs/2"), (echo(600.0), 0.1e6, "under 10 periods")):
        with pytest.raises(InputError, match=why):
            Differential(ascan(x), f0_hz)
    with pytest.raises(InputError, match="no reference"):
        mean_ascan([])
    with pytest.raises(InputError, match="differ"):
        mean_ascan([reference, replace(reference, t0_us=0.0)])


def write(path: Path, shifts: list[float], rms: float = 20.0) -> Path:
    rng = np.random.default_rng(4)
    x = np.round([echo(600.0 + shift) + noise(rms, rng) for shift in shifts]).astype(np.int16)
    np.savez(path, x=x, fs_hz=FS_HZ, t0_s=T0_US * 1e-6)
    return path


def test_a_reference_file_is_averaged_but_only_over_one_scene(tmp_path: Path) -> None:
    still = load_reference(write(tmp_path / "still.npz", [0.0] * 16), Gate(15.0, 30.0), F0_HZ)
    gated = ascan(echo(604.0))
    gated = replace(gated, samples=gated.samples[120:1320], t0_us=15.0)
    assert still.difference(gated).dtof_ns == pytest.approx(4 * SAMPLE_NS, abs=0.01 * SAMPLE_NS)
    with pytest.raises(InputError, match=r"moving\.npz: A-scan \d does not fit the mean"):
        load_reference(write(tmp_path / "moving.npz", [0.0, 0.0, 0.0, 9.0]), None, F0_HZ)
    with pytest.raises(InputError, match=r"empty\.npz: the reference has no echo"):
        load_reference(write(tmp_path / "empty.npz", [5000.0] * 3), None, F0_HZ)


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """``usedge run`` in this process; its exit status."""
    monkeypatch.setattr(sys, "argv", ["usedge", "run", *map(str, words)])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_a_run_with_a_reference_adds_the_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    still = write(tmp_path / "still.npz", [0.0] * 8)
    moving = write(tmp_path / "moving.npz", [0.0, 2.5, 5000.0])
    words: list[Any] = ["--port", f"replay:{moving}", "--runtime", "classical", "--method", "envelope",
                        "--f0-mhz", "2.5", "--json"]
    assert run(monkeypatch, *words, "--reference", still) == 0
    readings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [reading["dtof_abstain"] for reading in readings[:2]] == [None, None]
    assert readings[2]["dtof_abstain"] in {"no_echo", "cycle_skip"}
    assert readings[0]["dtof_ns"] == pytest.approx(0.0, abs=1.0)
    assert readings[1]["dtof_ns"] == pytest.approx(2.5 * SAMPLE_NS, abs=1.0)
    assert readings[2]["dtof_ns"] is None
    assert run(monkeypatch, *words) == 0
    plain = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert not any("dtof_ns" in reading for reading in plain)


def test_a_reference_that_does_not_fit_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    still = write(tmp_path / "still.npz", [0.0] * 4)
    other = tmp_path / "other.npz"
    np.savez(other, x=np.load(still)["x"], fs_hz=20e6, t0_s=0.0)
    assert run(monkeypatch, "--port", f"replay:{other}", "--runtime", "classical", "--reference", still) == 2
    assert "Record the reference with the same settings and gate." in capsys.readouterr().err
    assert run(monkeypatch, "--port", f"replay:{other}", "--reference", tmp_path / "none.npz") == 2
    assert "there is no file" in capsys.readouterr().err
