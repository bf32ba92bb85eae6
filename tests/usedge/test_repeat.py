"""`usedge repeat`: what it says of scattered answers, its JSON and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usedge import cli
from usedge.ascan import AScan, cut_gate
from usedge.runtime.repeat import repeats, spread
from usedge.sources.files import read_ascans
from usedge.spec import Gate
from usedge.tof import CLASSICAL, Pick, classical_picker

FS_HZ, F0_HZ = 40e6, 2.5e6
FIGURES = {"answers", "median_ns", "std_ns", "robust_std_ns", "own_std_ns"}
UN0RICK = Path(__file__).resolve().parents[3] / "shared" / "data" / "un0rick_usb"


def write(path: Path, jitter: float = 0.5, n: int = 24, echo: float = 3000.0) -> Path:
    """Repeats of one echo that a trigger out of step with the ADC moves by ``jitter`` samples rms."""
    rng = np.random.default_rng(6)
    t = (np.arange(1600) - 600 - rng.normal(0.0, jitter, (n, 1))) * F0_HZ / FS_HZ
    x = np.where((t > 0) & (t < 4), np.sin(np.pi * np.clip(t / 4, 0, 1)) ** 2 * np.sin(2 * np.pi * t), 0.0)
    np.savez(path, x=np.round(echo * x + rng.normal(0, 10, x.shape)).astype(np.int16), fs_hz=FS_HZ, t0_s=0.0)
    return path


def repeat(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["usedge", "repeat", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_a_few_astray_move_the_plain_figure_and_not_the_robust_one() -> None:
    ns = np.random.default_rng(0).normal(500.0, 4.0, 400)
    clean = spread(ns)
    assert clean["std_ns"] == pytest.approx(4.0, rel=0.1)
    assert clean["robust_std_ns"] == pytest.approx(4.0, rel=0.15)
    ns[:8] += 400.0
    ns[8:20] = np.nan
    astray = spread(ns)
    assert astray["answers"] == 388
    assert astray["std_ns"] > 40.0
    assert astray["robust_std_ns"] == pytest.approx(4.0, rel=0.15)


def test_few_answers_have_no_spread() -> None:
    nothing = spread(np.full(5, np.nan))
    assert nothing == {"answers": 0, "median_ns": None, "std_ns": None, "robust_std_ns": None,
                       "own_std_ns": None}
    one = spread(np.array([np.nan, 7.0]))
    assert (one["answers"], one["median_ns"], one["std_ns"]) == (1, 7.0, None)


def test_jitter_that_all_share_is_taken_off_the_own_figure(tmp_path: Path) -> None:
    gated = read_ascans(write(tmp_path / "still.npz"))[0]
    result = repeats("still", gated, {"xcorr": classical_picker("xcorr", F0_HZ)}, F0_HZ, True).to_dict()
    xcorr, differential = result["methods"]["xcorr"], result["methods"]["differential"]
    assert (result["n"], xcorr["answers"], differential["answers"]) == (24, 24, 23)
    assert xcorr["std_ns"] == pytest.approx(12.5, rel=0.4)
    assert differential["std_ns"] == pytest.approx(xcorr["std_ns"], rel=0.1)
    assert xcorr["own_std_ns"] < 1.0
    assert differential["own_std_ns"] is None


def test_abstentions_are_no_answers() -> None:
    class Every2nd:
        def pick(self, gated: AScan) -> Pick:
            return Pick(None if gated.seq % 2 else 20.0, 0.5, 30.0)

    gated = [AScan(np.zeros(100, np.int16), FS_HZ, seq=i) for i in range(10)]
    figures = repeats("zeros", gated, {"second": Every2nd()}, None, False).to_dict()["methods"]["second"]
    assert (figures["answers"], figures["median_ns"], figures["std_ns"]) == (5, 20000.0, 0.0)


def test_the_command_reports_every_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "still.npz", n=6)
    assert repeat(monkeypatch, path, "--gate", "2:36") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["format_version"] == 1
    (file,) = report["files"]
    assert (file["file"], file["n"]) == (str(path), 6)
    assert list(file["methods"]) == ["model", "threshold", "envelope", "aic", "xcorr", "differential"]
    assert all(set(figures) == FIGURES for figures in file["methods"].values())


def test_on_a_terminal_it_is_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert repeat(monkeypatch, write(tmp_path / "still.npz", n=5), "--methods", "envelope,differential") == 0
    out = capsys.readouterr().out
    assert "5 A-scans" in out
    assert "robust std" in out
    assert "differential" in out


@pytest.mark.parametrize(("words", "why"), [
    (["--methods", "cfar"], "there is no method cfar"), (["--gate", "30:90"], "not inside the A-scan"),
    (["--f0-mhz", "0"], "not positive"), (["--f0-mhz", "30", "--methods", "envelope"], "not under fs/2")])
def test_what_cannot_be_asked_is_one_line(words: list[str], why: str, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    assert repeat(monkeypatch, write(tmp_path / "still.npz", n=4), *words) == 2
    err = capsys.readouterr().err
    assert why in err
    assert err.count("\n") == 1


def test_files_without_repeats_or_echoes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    assert repeat(monkeypatch, write(tmp_path / "two.npz", n=2), "--methods", "aic") == 2
    assert "holds 2 A-scans" in capsys.readouterr().err
    assert repeat(monkeypatch, write(tmp_path / "flat.npz", echo=0.0), "--methods", "differential") == 2
    assert "flat.npz: the reference has no echo" in capsys.readouterr().err


@pytest.mark.skipif(not UN0RICK.is_dir(), reason="recorded repeats (../shared/data/un0rick_usb) are not here")
@pytest.mark.parametrize(("name", "f0_hz", "at_most_ns"), [("un0rick_water_multi_2021.npz", 4.0e6, 7.1),
                                                           ("un0rick_ndt_2024.npz", 3.2e6, 4.2)])
def test_recorded_repeats_scatter_no_more_than_by_the_envelope_peak(name: str, f0_hz: float,
                                                                    at_most_ns: float) -> None:
    gated = [cut_gate(ascan, Gate(15.0, 40.0)) for ascan in read_ascans(UN0RICK / name)[0]]
    pickers = {each: classical_picker(each, f0_hz) for each in CLASSICAL}
    figures: dict[str, Any] = repeats(name, gated, pickers, f0_hz, True).to_dict()["methods"]
    assert figures["differential"]["answers"] == len(gated) - 1
    assert figures["differential"]["std_ns"] < at_most_ns
    assert figures["envelope"]["std_ns"] < at_most_ns
    assert figures["xcorr"]["own_std_ns"] < 0.3
