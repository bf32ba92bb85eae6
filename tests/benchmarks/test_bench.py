"""The latency suite on small numbers, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median, median_low
from typing import Any

import pytest
from typer.testing import CliRunner

from usedge.cli import app
from usedge.errors import InputError
from usedge.resources import suite
from usedge_bench.latency import Found, add
from usedge_bench.latency_round import RecordingMeter
from usedge_bench.suite import bundle_of, load_suite

SMALL = """
rounds = 2
ascans = 30
warmup = 5
prf_hz = 100.0
idle_prf_hz = 50.0
idle_ascans = 20
samples = 1000
burst = 60
peer_rounds = 2
peer_block = 3
cold_starts = 1
seed = 8
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("bench")
    (folder / "small.toml").write_text(SMALL)
    out = folder / "report.json"
    process = subprocess.run(
        [sys.executable, "-m", "usedge", "bench", str(folder / "small.toml"), "--json", str(out)],
        capture_output=True, text=True, timeout=300, check=False,
    )
    assert process.returncode == 0, process.stderr
    whole: dict[str, object] = json.loads(out.read_text())
    assert json.loads(process.stdout) == {key: value for key, value in whole.items()
                                          if not key.startswith("values_")}
    return whole


def test_every_stage_has_its_percentiles(report: dict[str, dict[str, dict[str, float]]]) -> None:
    assert list(report["stages"]) == ["decode", "queue", "preprocess", "infer", "decide", "emit",
                                      "wire_to_reading"]
    for figures in report["stages"].values():
        shown = [figures[key] for key in ("p50_us", "p90_us", "p99_us", "p99_9_us", "max_us")]
        assert sorted(shown) == shown
        low, high = figures["ci95_us"]["p50"]  # type: ignore[index]
        assert low <= figures["p50_us"] <= high
        assert figures["ci95_us"]["p99"] is None  # type: ignore[index]  # 30 A-scans say nothing of it
    assert report["stages"]["wire_to_reading"]["p50_us"] > report["stages"]["infer"]["p50_us"]


def test_every_value_is_stored_without_the_warm_up(report: dict[str, dict[str, list[float]]]) -> None:
    assert {len(values) for values in report["values_us"].values()} == {30}
    assert report["stages_idle"]["wire_to_reading"]["n"] == 20  # type: ignore[index]


def test_peers_are_timed_in_the_same_run(report: dict[str, list[dict[str, float]]]) -> None:
    pytest.importorskip("onnxruntime", reason="plain onnxruntime is the extra `onnx`")
    by_name = {peer["name"]: peer for peer in report["peers"]}
    assert by_name["onnxruntime-fp32"]["n"] == by_name["litert-int8"]["n"] == 6  # type: ignore[index]
    ratio = report["ratio_p50"]["onnxruntime-fp32"]  # type: ignore[call-overload]
    expected = by_name["litert-int8"]["p50_us"] / by_name["onnxruntime-fp32"]["p50_us"]  # type: ignore[index]
    assert ratio == pytest.approx(expected, abs=0.01)
    for name, values in report["values_peers_us"].items():  # type: ignore[attr-defined]
        assert len(values) == 6
        assert median_low(values) == by_name[name]["p50_us"]


def test_memory_cold_start_and_host_are_stated(report: dict[str, dict[str, object]]) -> None:
    assert 10 < report["peak_rss_mb"] < 1000  # type: ignore[operator]
    assert report["first_reading_s"] > 0  # type: ignore[operator]
    assert {"cpu", "cores", "python", "numpy"} <= set(report["host"])
    assert report["stable"] == (not report["unstable_because"])


def test_the_shipped_suite_reads() -> None:
    assert load_suite(suite("latency")).ascans >= 1000


@pytest.mark.parametrize(("text", "words"), [
    (SMALL + "ascnas = 3\n", "ascans"),
    (SMALL.replace("seed = 8", ""), "lacks seed"),
    (SMALL.replace("\nprf_hz = 100.0", "\nprf_hz = 0"), "prf_hz"),
    (SMALL.replace("burst = 60", 'burst = "x"'), "burst"),
    ("nonsense", "cannot be read"),
    (SMALL.replace("\nprf_hz = 100.0", "\nprf_hz = nan"), "prf_hz = nan"),
    (SMALL + "kind = [3]\n", "unknown kind"),
])
def test_a_bad_suite_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(InputError, match=words):
        load_suite(tmp_path / "bad.toml")


def test_a_suite_may_name_its_bundle_which_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(SMALL)
    assert bundle_of(path) is None
    path.write_text(SMALL + 'bundle = "own.usedge"\n')
    assert load_suite(path).seed == 8
    with pytest.raises(InputError, match=r"names the bundle 'own\.usedge', and there is no file .*--bundle"):
        bundle_of(path)
    (tmp_path / "own.usedge").write_bytes(b"x")
    assert bundle_of(path) == tmp_path / "own.usedge"
    result = CliRunner().invoke(app, ["bench", str(path)])
    assert isinstance(result.exception, InputError)
    assert "own.usedge" in str(result.exception)
    path.write_text(SMALL + "bundle = 3\n")
    with pytest.raises(InputError, match="names the bundle 3"):
        bundle_of(path)


def test_a_suite_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read"):
        load_suite(tmp_path / "bad.toml")


def test_a_recording_meter_forgets_the_warm_up() -> None:
    meter = RecordingMeter()
    for ns in (9_000_000, 1000, 1000, 1000):
        meter.add("infer", ns)
    found = Found()
    for _ in range(2):
        add(found.stages, {"values_ns": meter.values_ns}, warmup=1)
    assert found.stages["infer"] == [1.0] * 6
    assert found.stages["decode"] == []


def test_every_round_is_told_and_the_pace_of_the_machine(report: dict[str, Any]) -> None:
    assert len(report["rounds"]) == 2
    halves = report["values_us"]["wire_to_reading"][:15], report["values_us"]["wire_to_reading"][15:]
    for told, values in zip(report["rounds"], halves, strict=True):
        assert told["wire_to_reading_us"] == median(values)
    assert report["pace"]["n"] == len(report["values_pace_us"]) >= 20
    assert report["pace"]["p50_us"] > 0
    assert len(report["throughput"]["all_per_s"]) == 2
    assert len(report["peak_rss_all_mb"]) == len(report["first_reading_all_s"]) == 1
    woken = [name for name in report["values_peers_us"] if name.endswith(", woken")]
    assert f"{report['bundle']['variant']}, woken" in woken


def test_what_metering_costs_is_measured_for_every_stage(report: dict[str, dict[str, float]]) -> None:
    assert list(report["meter_overhead_ns"]) == list(report["stages"])
    assert all(ns > 0 for ns in report["meter_overhead_ns"].values())


def test_the_report_says_what_went_on_beside_it(report: dict[str, dict[str, Any]]) -> None:
    parts = {part["part"]: part for part in report["conditions"]["parts"]}
    assert list(parts) == [f"{what} of round {turn}" for turn in (1, 2)
                           for what in ("streaming", "idle", "burst", "peers", "start")][:-1]
    assert all(part["seconds"] > 0 and part["own_cores"] > 0 for part in parts.values())
