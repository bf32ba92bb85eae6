"""The guard and what is handed in: what fails, what is said, and what stays on the user's machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.benchmarks.made_reports import every_report, in_rounds, latency_report
from usedge.cli import app
from usedge.errors import GateFailedError, InputError
from usedge_bench.reports import submit
from usedge_bench.reports.guard import baseline_for, baselines, judged
from usedge_bench.reports.read import Report, host_class, read_report

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
BOARDS = sorted((RESULTS / "boards").glob("**/*.json"))
RATIO = "network p50 / onnxruntime-fp32"


def stored() -> Report:
    report: Report = json.loads((RESULTS / "latency.json").read_text())
    return report


def call(*words: str) -> Any:
    return CliRunner().invoke(app, ["bench", *words])


def written(folder: Path, name: str, report: Report) -> Path:
    (folder / name).write_text(json.dumps(report))
    return folder / name


def test_a_slower_network_fails_by_its_ratio_and_no_slower_host_does() -> None:
    earlier = latency_report(1)
    assert judged(latency_report(2, host=1.5), earlier).worse == []
    assert judged(latency_report(2, network=1.05), earlier).worse == []
    worse = judged(latency_report(2, network=1.4), earlier).worse
    assert [line.name for line in worse] == [RATIO]
    whole = judged(latency_report(2, network=2.5), earlier).worse
    assert [line.name for line in whole] == [RATIO, "wire_to_reading p50 / onnxruntime-fp32"]
    assert judged(latency_report(2, network=1.4), earlier, margin=0.6).worse == []


def test_a_run_that_cannot_tell_says_so(tmp_path: Path) -> None:
    before = written(tmp_path, "before.json", latency_report(1))
    near = written(tmp_path, "near.json", latency_report(2, network=1.15))
    result = call("check", "--baseline", str(before), "--report", str(near))
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["sure"] is False
    assert f"{RATIO} may have changed by" in result.stderr


def test_a_baseline_without_stored_values_judges_by_the_ratio_itself() -> None:
    bare = {key: value for key, value in latency_report(1).items() if key != "values_peers_us"}
    assert judged(latency_report(2), bare).worse == []
    assert judged(latency_report(2, network=1.4), bare).worse[0].low is None


def test_a_baseline_of_one_stretch_judges_the_network_and_says_what_it_cannot() -> None:
    later = in_rounds(2)
    woken = "onnxruntime-fp32, woken"
    peer = next(each for each in later["peers"] if each["name"] == "onnxruntime-fp32")
    later["peers"] = [*later["peers"], peer | {"name": woken}]
    later["values_peers_us"] = later["values_peers_us"] | {
        woken: later["values_peers_us"]["onnxruntime-fp32"]}
    told = judged(later, latency_report(1))
    assert [line.name for line in told.ratios] == [RATIO]
    assert any(f"wire_to_reading p50 / {woken} is in one of the two alone" in note for note in told.notes)
    assert any("the baseline was measured in one stretch" in note for note in told.notes)
    names = [line.name for line in judged(later, later).ratios]
    assert names == [RATIO, f"wire_to_reading p50 / {woken}", f"wire_to_reading p99 / {woken}"]


def test_the_command_ends_with_status_1_and_names_what_is_slower(tmp_path: Path) -> None:
    before = written(tmp_path, "before.json", latency_report(1))
    same = written(tmp_path, "same.json", latency_report(2))
    slow = written(tmp_path, "slow.json", latency_report(3, network=1.4, stable=False,
                                                         unstable_because=["a browser was open"]))
    good = call("check", "--baseline", str(before), "--report", str(same))
    assert good.exit_code == 0, good.output
    assert json.loads(good.stdout)["passed"] is True
    bad = call("check", "--baseline", str(before), "--report", str(slow))
    assert isinstance(bad.exception, GateFailedError)
    assert bad.exception.exit_code == 1
    assert f"slower by more than 15% than before.json: {RATIO}" in str(bad.exception)
    assert "unstable: run it again" in str(bad.exception)
    assert "this run is unstable: a browser was open" in bad.stderr


def test_without_a_run_of_this_host_class_nothing_is_judged_and_that_is_said(tmp_path: Path) -> None:
    elsewhere = latency_report(1)
    elsewhere["host"] = elsewhere["host"] | {"cpu": "Abacus 9"}
    result = call("check", "--report", str(written(tmp_path, "a.json", elsewhere)))
    assert result.exit_code == 0
    assert "Abacus 9, 4 cores, aarch64" in result.stderr
    assert "nothing was judged" in result.stderr
    assert result.stdout == ""


def test_the_stored_run_of_this_host_class_is_found(tmp_path: Path) -> None:
    (tmp_path / "boards").mkdir()
    board = latency_report(1)
    written(tmp_path / "boards", "cortex-a76-4-cores-latency.json", board)
    written(tmp_path, "latency.json", stored())
    assert len(list(baselines(tmp_path))) == 2
    found = baseline_for(host_class(board), tmp_path)
    assert found is not None
    assert found[0].name == "cortex-a76-4-cores-latency.json"
    assert baseline_for("none such", tmp_path) is None


def test_a_report_without_plain_onnxruntime_is_no_baseline(tmp_path: Path) -> None:
    bare = latency_report(1, ratio_p50={})
    result = call("check", "--baseline", str(written(tmp_path, "a.json", bare)), "--report",
                  str(written(tmp_path, "b.json", latency_report(2))))
    assert isinstance(result.exception, InputError)
    assert "no ratio to plain onnxruntime" in str(result.exception)


def test_what_is_handed_in_holds_the_figures_and_no_name_or_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit.platform, "node", lambda: "annas-lab.example.org")
    monkeypatch.setattr(submit.getpass, "getuser", lambda: "anna")
    report = latency_report(1, stable=False,
                            unstable_because=["see /home/anna/notes.txt on annas-lab, by anna"])
    report["bundle"] = report["bundle"] | {"name": "~/models/own.usedge"}
    result = call("submit", str(written(tmp_path, "latency.json", report)), "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    path = Path(result.stdout.strip())
    assert path.name == "cortex-a76-4-cores-latency.json"
    assert "pull request" in result.stderr
    assert "unstable" in result.stderr
    text = path.read_text()
    for word in ("anna", "/home", "annas-lab", "models"):
        assert word not in text
    found = read_report(path)
    assert (found["values_us"], found["stages"], found["host"]) == (
        report["values_us"], report["stages"], report["host"])
    assert found["unstable_because"] == ["see notes.txt on (name), by (name)"]
    assert found["bundle"]["name"] == "own.usedge"


@pytest.mark.parametrize("suite", every_report())
def test_every_suite_can_be_handed_in(suite: str) -> None:
    told = submit.handed_in(every_report()[suite])
    assert list(submit.paths_in(told)) == []
    assert submit.file_name(told) == f"cortex-a76-4-cores-{suite}.json"
    assert "anna" not in json.dumps(told)


@pytest.mark.parametrize("text", ["A-scans/s", "hit 1/2 period", "10 / 20", "usedge run with the bundle",
                                  "/sys/class/powercap/intel-rapl:0", "sim://?prf=20"])
def test_what_is_no_path_stays(text: str) -> None:
    assert list(submit.paths_in({"a": [text]})) == []


def check_handed_in(path: Path) -> None:
    found = read_report(path)
    assert list(submit.paths_in(found)) == []
    assert path.name == submit.file_name(found)


def test_every_report_handed_in_reads_and_holds_no_path(tmp_path: Path) -> None:
    for path in BOARDS:
        check_handed_in(path)
    soak = every_report()["soak"]  # with the port that it ran on
    with pytest.raises(AssertionError):
        check_handed_in(written(tmp_path, submit.file_name(soak), soak))
    check_handed_in(written(tmp_path, submit.file_name(soak), submit.handed_in(soak)))


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    result = call("submit", str(RESULTS / "latency.json"), "--out", str(tmp_path / "none"))
    assert isinstance(result.exception, InputError)
    assert "is no folder" in str(result.exception)
