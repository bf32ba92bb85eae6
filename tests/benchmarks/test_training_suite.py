"""The training suite on a tiny model: everyone takes turns, rounds are stored, and a floor fails by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest

for package in ("torch", "lightning", "safetensors", "h5py"):
    pytest.importorskip(package)

from usedge.errors import InputError, MissingExtraError  # noqa: E402
from usedge.resources import suite  # noqa: E402
from usedge_bench import training  # noqa: E402
from usedge_bench.report import as_table  # noqa: E402
from usedge_bench.suite import TrainingSuite, load_suite  # noqa: E402

TINY = """
[model]
d_model = 16
heads = 1
d_head = 8
mlp_hidden = 16
encoder_layers = 1
decoder_layers = 1
norm_patches = false
[pretrain]
batch = 8
[finetune]
batch = 4
"""
SMALL = """kind = "training"
recipe = "{recipe}"
rounds = 3
warmup = 1
data_ascans = 8
file_ascans = 16
seed = 8
floor_pretraining = 1e12
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("training")
    (folder / "tiny.toml").write_text(TINY)
    (folder / "small.toml").write_text(SMALL.format(recipe=folder / "tiny.toml"))
    process = subprocess.run(
        [sys.executable, "-m", "usedge", "bench", str(folder / "small.toml"),
         "--json", str(folder / "out.json")], capture_output=True, text=True, timeout=600, check=False)
    assert (folder / "out.json").exists(), process.stderr
    return process, json.loads((folder / "out.json").read_text())


def rows(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for table in report["rows"].values() for row in table}


def test_every_contender_has_its_rounds_and_its_spread(run: tuple[Any, dict[str, Any]]) -> None:
    report = run[1]
    assert set(rows(report)) == set(report["values_per_s"]) == {
        "plain-fp32", "plain-bf16", "usedge", "usedge-half", "generator-field", "generator-paper",
        "generator-plate", "file", "finetune-fp32", "finetune-bf16"}
    assert {len(values) for values in report["values_per_s"].values()} == {3}
    for row in rows(report).values():
        assert 0 < row["p10_per_s"] <= row["median_per_s"] <= row["p90_per_s"]
    assert rows(report)["plain-fp32"]["parameters"] == rows(report)["usedge"]["parameters"]


def test_a_ratio_is_taken_within_each_round(run: tuple[Any, dict[str, Any]]) -> None:
    values = run[1]["values_per_s"]
    for key, against in (("usedge", "plain-fp32"), ("file", "usedge"), ("finetune-bf16", "finetune-fp32")):
        expected = median(a / b for a, b in zip(values[key], values[against], strict=True))
        assert rows(run[1])[key]["ratio"] == pytest.approx(expected, rel=0.02)
    assert rows(run[1])["plain-fp32"]["ratio"] == 1


def test_a_rate_below_its_floor_fails_by_name(run: tuple[Any, dict[str, Any]]) -> None:
    process, report = run
    assert process.returncode == 1
    assert report["below_floor"] == [rows(report)["usedge"]["name"]]
    assert process.stderr.splitlines()[-1].startswith("usedge: below their floor: usedge, ")


def test_the_host_is_stated_and_the_table_holds_every_row(run: tuple[Any, dict[str, Any]]) -> None:
    process, report = run
    assert {"cpu", "cores", "torch", "threads", "load_1min"} <= set(report["host"])
    assert report["stable"] == (not report["unstable_because"])
    table = as_table(report)
    assert all(f"| {row['name']} |" in table for row in rows(report).values())
    assert json.loads(process.stdout) == {key: value for key, value in report.items()
                                          if key != "values_per_s"}


def test_a_process_that_ends_says_why(tmp_path: Path) -> None:
    bad = TrainingSuite("no such recipe", 1, 1, 8, 16, 8, 0.0)
    with pytest.raises(InputError, match="no such recipe"):
        training.run_training(bad, lambda _line: None)


@pytest.mark.parametrize("package", ["torch", "h5py"])
def test_a_missing_package_is_named_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    found = training.importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec",
                        lambda name, *rest: None if name == package else found(name, *rest))
    with pytest.raises(MissingExtraError, match=package):
        training.run_training(load_suite(suite("training")), lambda _line: None)  # type: ignore[arg-type]


def test_a_spread_of_the_rounds_makes_a_run_unstable() -> None:
    calm = {"key": "usedge", "p10_per_s": 100.0, "p90_per_s": 110.0}
    assert training._unstable([calm]) == []
    wide = training._unstable([calm, {"key": "file", "p10_per_s": 100.0, "p90_per_s": 200.0}])
    assert wide == ["p90 of file is 2.00 × its p10; close other programs"]


def test_the_shipped_suite_reads_and_a_recipe_is_a_name(tmp_path: Path) -> None:
    numbers = load_suite(suite("training"))
    assert isinstance(numbers, TrainingSuite)
    assert numbers.floor_pretraining == 368
    assert numbers.rounds >= 10
    text = suite("training").read_text().replace('recipe = "paper"', "recipe = 3")
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(InputError, match="recipe = 3"):
        load_suite(tmp_path / "bad.toml")
