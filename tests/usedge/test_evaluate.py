"""`usedge evaluate`: its figures, its JSON contract, its predictions file and what it refuses."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usedge import cli
from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.labelled import LabelledSet, load_labelled
from usedge.runtime.evaluate import evaluate_file, save_predictions
from usedge.tof import Pick, Picker

FS_HZ, F0_HZ, T0_S, SAMPLES = 20e6, 2e6, 4e-6, 1000
CLASSICAL = "threshold,envelope,aic,xcorr"
SCORES = {"hit_half_period", "hit_one_period", "raw_hit_half_period", "bias_ns", "median_abs_ns",
          "p95_abs_ns", "abstain_rate", "miss_rate", "false_alarm_rate", "ece"}
POOLED = {"hit_half_period", "hit_one_period", "miss_rate", "false_alarm_rate"}
EVAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "eval"


def echoes(n: int = 12, n_empty: int = 4) -> dict[str, Any]:
    """A-scans with one 3-cycle echo at a random place, the last ``n_empty`` with noise alone."""
    rng = np.random.default_rng(11)
    onset = rng.uniform(200, 700, n)
    onset[n - n_empty :] = np.nan
    t = (np.arange(SAMPLES) - np.nan_to_num(onset, nan=9e9)[:, None]) * F0_HZ / FS_HZ
    x = np.where((t > 0) & (t < 3), np.sin(np.pi * np.clip(t / 3, 0, 1)) * np.sin(2 * np.pi * t), 0.0)
    x = np.round(3000 * x + rng.normal(0, 20, x.shape)).astype(np.int16)
    return {"x": x, "fs_hz": FS_HZ, "t0_s": T0_S, "f0_hz": F0_HZ, "tof_s": T0_S + onset / FS_HZ}


def write(path: Path, **changes: Any) -> Path:
    np.savez(path, **{name: value for name, value in (echoes() | changes).items() if value is not None})
    return path


def evaluate(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run ``usedge evaluate`` as from a shell and give its exit status."""
    monkeypatch.setattr(sys, "argv", ["usedge", "evaluate", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


class Fixed:
    """Answers the A-scan's start + 10 µs, but nothing to every third."""

    def pick(self, gated: AScan) -> Pick:
        if gated.seq % 3 == 0:
            return Pick(None, 0.0, 0.0, abstain="no_echo")
        return Pick(gated.t0_us + 10, 0.7, 30.0)


def labelled_set(**changes: Any) -> LabelledSet:
    n = 6
    fields: dict[str, Any] = {
        "x": np.zeros((n, SAMPLES), np.int16), "fs_hz": FS_HZ, "t0_s": T0_S,
        "tof_s": np.full(n, T0_S + 10e-6), "gate_s": np.tile([T0_S, SAMPLES / FS_HZ], (n, 1)),
        "f0_hz": np.full(n, F0_HZ), "source": "by hand",
    }
    return LabelledSet(**fields | changes)


def test_every_answer_is_kept_and_scored() -> None:
    result = evaluate_file(labelled_set(), {"fixed": lambda _f0: Fixed()})
    found = result.predictions["fixed"]
    np.testing.assert_allclose(found.tof_s, [np.nan, 14e-6, 14e-6, np.nan, 14e-6, 14e-6])
    np.testing.assert_array_equal(found.confidence, [0, 0.7, 0.7, 0, 0.7, 0.7])
    assert result.methods["fixed"]["hit_half_period"] == pytest.approx(4 / 6)
    assert result.methods["fixed"]["abstain_rate"] == pytest.approx(2 / 6)
    assert (result.n_echo, result.n_empty, result.f0_estimated, result.file) == (6, 0, False, "by hand")


def test_pickers_are_made_once_for_each_centre_frequency() -> None:
    asked: list[float | None] = []

    def factory(f0_hz: float | None) -> Picker:
        asked.append(f0_hz)
        return Fixed()

    ticks: list[int] = []
    labelled = labelled_set(f0_hz=np.array([1e6, 2e6, 1e6, 2e6, 1e6, 3e6]))
    evaluate_file(labelled, {"fixed": factory}, lambda: ticks.append(1))
    assert asked == [1e6, 2e6, 3e6]
    assert len(ticks) == len(labelled)


def test_an_error_names_file_and_row() -> None:
    gate_s = np.tile([T0_S, SAMPLES / FS_HZ], (6, 1))
    gate_s[2] = [T0_S + 9.9e-6, 5 / FS_HZ]
    from usedge.tof import Threshold

    with pytest.raises(InputError, match="by hand, row 2: the gate holds 5 samples"):
        evaluate_file(labelled_set(gate_s=gate_s), {"threshold": Threshold})


def test_json_follows_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "tank.npz")
    assert evaluate(monkeypatch, path, "--methods", CLASSICAL, "--json") == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert set(report) == {"format_version", "files", "mean", "all", "groups"}
    assert report["format_version"] == 1
    (entry,) = report["files"]
    assert (entry["file"], entry["n"], entry["n_echo"], entry["n_empty"]) == (str(path), 12, 8, 4)
    assert list(entry["methods"]) == CLASSICAL.split(",")
    for scores in entry["methods"].values():
        assert set(scores) == SCORES | {"reliability"}
        assert scores["hit_half_period"] == scores["raw_hit_half_period"] == 1.0
        assert scores["abstain_rate"] == scores["false_alarm_rate"] == 0.0
        assert abs(scores["bias_ns"]) < 125
    assert err == ""


def test_a_missing_centre_frequency_is_estimated_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "tank.npz", f0_hz=None)
    result = evaluate_file(load_labelled(path), {"fixed": lambda _f0: Fixed()})
    assert result.f0_estimated
    assert result.f0_hz == pytest.approx(np.full(12, F0_HZ), rel=0.08)
    assert evaluate(monkeypatch, path, "--methods", "aic") == 0
    out, err = capsys.readouterr()
    assert "no f0_hz: taken as " in err
    assert json.loads(out)["files"][0]["methods"]["aic"]["hit_half_period"] == 1.0


def test_empty_files_give_nulls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "tank.npz", tof_s=np.full(12, np.nan))
    assert evaluate(monkeypatch, path, "--methods", "envelope") == 0
    entry = json.loads(capsys.readouterr().out)["files"][0]
    assert (entry["n_echo"], entry["n_empty"]) == (0, 12)
    scores = entry["methods"]["envelope"]
    assert sum(row["n"] for row in scores.pop("reliability")) == 0
    assert scores == dict.fromkeys(SCORES) | {"false_alarm_rate": 8 / 12}


def evaluated(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    assert evaluate(monkeypatch, *words) == 0
    return json.loads(capsys.readouterr().out)


def test_means_count_every_file_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    small = {name: value[:3] if name in ("x", "tof_s") else value for name, value in echoes().items()}
    wrong = write(tmp_path / "wrong.npz", **small | {"tof_s": np.array([5e-6, 40e-6, 20e-6])})
    report = evaluated(monkeypatch, capsys, write(tmp_path / "tank.npz"), wrong, "--methods", "aic,envelope")
    one, two = (file["methods"]["aic"] for file in report["files"])
    mean, whole = report["mean"]["methods"]["aic"], report["all"]["methods"]["aic"]
    assert set(mean) == SCORES
    assert mean["hit_half_period"] == pytest.approx((one["hit_half_period"] + two["hit_half_period"]) / 2)
    assert mean["false_alarm_rate"] == one["false_alarm_rate"], "of the files that have empty gates"
    assert whole["hit_half_period"] == pytest.approx(
        (8 * one["hit_half_period"] + 3 * two["hit_half_period"]) / 11)
    assert (report["all"]["n_echo"], report["all"]["n_empty"], report["mean"]["n_files"]) == (11, 4, 2)


def test_every_gate_is_in_one_band_one_rung_and_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    gate_s = np.tile([T0_S, SAMPLES / FS_HZ], (12, 1))
    gate_s[8:, 1] = 600 / FS_HZ
    files = [write(tmp_path / "a.npz", source="tank: early"), write(tmp_path / "b.npz", source="tank: late"),
             write(tmp_path / "c.npz", source="pipe", gate_s=gate_s)]
    report = evaluated(monkeypatch, capsys, *files, "--methods", "aic")
    groups = report["groups"]
    for each in groups.values():
        assert sum(group["n_echo"] for group in each) == 24
        assert sum(group["n_empty"] for group in each) == 12
        assert all(set(group["methods"]["aic"]) == POOLED for group in each)
    assert [(group["name"], group["n_files"]) for group in groups["source"]] == [("tank", 2), ("pipe", 1)]
    # 20 MHz, 2 MHz: 2048 · 10 / 1000 = 20.5 samples a cycle, in gates of 600 samples 34.1.
    assert [(g["name"], g["n_echo"], g["n_empty"]) for g in groups["samples_a_cycle"]] == [
        ("16–32", 24, 8), ("32–64", 0, 4)]
    assert {g["name"] for g in groups["snr_db"] if g["n_echo"]} == {"≥ 40"}, "peak 3000, noise rms 20"
    assert report["files"][0]["groups"]["samples_a_cycle"][0]["n_echo"] == 8


def test_plots_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                         capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    files = [write(tmp_path / "tank.npz"), write(tmp_path / "air.npz", tof_s=np.full(12, np.nan))]
    evaluated(monkeypatch, capsys, *files, "--methods", "aic,xcorr", "--plots", tmp_path / "new" / "plots")
    drawn = sorted((tmp_path / "new" / "plots").iterdir())
    names = ("bands", "errors", "hits", "reliability", "snr")
    assert [path.name for path in drawn] == [f"{name}.png" for name in names]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_plots_without_matplotlib_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = write(tmp_path / "tank.npz")
    assert evaluate(monkeypatch, path, "--methods", "aic", "--plots", tmp_path / "plots") == 2
    assert "pip install 'usedge[train]'" in capsys.readouterr().err
    assert not (tmp_path / "plots").exists()


def test_predictions_hold_every_pick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = write(tmp_path / "tank.npz"), tmp_path / "picks.npz"
    assert evaluate(monkeypatch, path, "--methods", "aic,envelope", "--predictions", out) == 0
    with np.load(out) as picks:
        assert set(picks.files) == {"aic_tof_s", "aic_confidence", "envelope_tof_s", "envelope_confidence"}
        np.testing.assert_allclose(picks["envelope_tof_s"], echoes()["tof_s"], atol=0.125 / F0_HZ)
        assert (picks["envelope_confidence"] > 0).tolist() == np.isfinite(picks["envelope_tof_s"]).tolist()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["picks.npz", "tank.npz"]


def test_predictions_of_several_files_bear_their_names(tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, out = write(tmp_path / "one.npz"), write(tmp_path / "two.npz"), tmp_path / "picks.npz"
    assert evaluate(monkeypatch, one, two, "--methods", "aic", "--predictions", out) == 0
    with np.load(out) as picks:
        assert set(picks.files) == {f"{stem}_aic_{what}" for stem in ("one", "two")
                                    for what in ("tof_s", "confidence")}


def test_predictions_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "picks.npz"
    out.write_bytes(b"the old ones")
    result = evaluate_file(labelled_set(), {"fixed": lambda _f0: Fixed()})

    def full(file: Any, **_arrays: Any) -> None:
        file.write(b"half of")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(InputError, match="No space left"):
        save_predictions(out, [result])
    assert out.read_bytes() == b"the old ones"
    assert [item.name for item in tmp_path.iterdir()] == ["picks.npz"]


def test_a_terminal_gets_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                 capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "tank[1].npz")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert evaluate(monkeypatch, path, "--methods", "aic,xcorr") == 0
    out, err = capsys.readouterr()
    assert "tank[1].npz: 8 echo gates, 4 empty" in out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert rows["aic"][0] == rows["xcorr"][0] == "100.0"
    assert "24/24" in err


def test_a_terminal_gets_means_and_groups_of_several_files_in_100_columns(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    files = [write(tmp_path / f"{name}.npz", source=f"{name[:4]}: {name}")
             for name in ("tank1", "tank2", "pipe")]
    assert evaluate(monkeypatch, *files, "--methods", CLASSICAL) == 0
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 100
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    assert rows["pipe"] == ["8", "4", *["100/100/0"] * 4]
    assert rows["tank"][:2] == ["16", "8"]
    assert rows["16–32"][:3] == ["24", "12", "100/100/0"]
    assert "mean of 3 files" in lines


@pytest.mark.parametrize(("words", "says"), [
    (["--methods", "aic,cfar"], "there is no method cfar. Known: model, threshold, envelope, aic, xcorr."),
    (["--methods", ","], "there is no method ','."),
    (["--runtime", "tpu"], "there is no runtime 'tpu'."),
    (["--methods", "aic", "--predictions", "picks.csv"], "not to picks.csv"),
    (["--methods", "aic", "--predictions", "no/such/picks.npz"], "there is no folder no/such"),
    (["--methods", "aic", "lost.npz"], "there is no file lost.npz."),
])
def test_bad_usage_ends_in_one_line_and_status_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str], words: list[str],
                                                 says: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert evaluate(monkeypatch, write(tmp_path / "tank.npz"), *words) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert err.count("\n") == 1
    assert out == ""


def test_two_files_of_one_name_cannot_share_a_predictions_file(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b").mkdir()
    files = write(tmp_path / "tank.npz"), write(tmp_path / "b" / "tank.npz")
    assert evaluate(monkeypatch, *files, "--methods", "aic", "--predictions", tmp_path / "picks.npz") == 2
    assert "two files are called tank" in capsys.readouterr().err


def test_help_ends_with_an_example(monkeypatch: pytest.MonkeyPatch,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(monkeypatch, "--help") == 0
    out = capsys.readouterr().out
    assert out.rstrip().splitlines()[-1].strip().startswith("Example: usedge evaluate ")


@pytest.mark.skipif(not EVAL.is_dir(), reason="the recorded A-scans (../shared/data/eval) are not here")
def test_recorded_files_are_evaluated(monkeypatch: pytest.MonkeyPatch,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    files = [EVAL / "line_if1.npz", EVAL / "un0_ndt24.npz", EVAL / "wulpus_ring.npz"]
    assert evaluate(monkeypatch, *files, "--methods", CLASSICAL) == 0
    entries = json.loads(capsys.readouterr().out)["files"]
    assert [entry["n"] for entry in entries] == [160, 160, 40]
    for entry in entries[:2]:
        assert all(scores["hit_half_period"] > 0.9 for scores in entry["methods"].values())
    assert entries[2]["methods"]["aic"]["hit_half_period"] is None
