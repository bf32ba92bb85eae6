"""The variants suite: every variant beside its peers, the default among them, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from usedge.bundle import read_bundle
from usedge.errors import InputError
from usedge.resources import shipped_bundle
from usedge_bench import variants
from usedge_bench.reports.keys import first_fault
from usedge_bench.reports.shapes import SHAPES
from usedge_bench.suite import VariantsSuite
from usedge_bench.tables import variants_table

SUITE = VariantsSuite(rounds=2, block=3, gates=4, warmup=1, ascans=12, samples=1024, starts=1, seed=3)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    pytest.importorskip("onnxruntime", reason="the reference is onnxruntime: extra 'onnx'")
    pytest.importorskip("ai_edge_litert", reason="the shipped bundle needs LiteRT")
    with pytest.MonkeyPatch.context() as patch:
        # What else is installed here is no matter of this test, and takes long to be quantised.
        patch.setattr(variants, "_foreign", lambda *_: iter(()))
        told = variants.run_variants(read_bundle(shipped_bundle()), SUITE, lambda _: None)
    return cast("dict[str, Any]", json.loads(json.dumps(told)))


def test_every_variant_is_there_and_one_is_the_default(report: dict[str, Any]) -> None:
    names = [row["name"] for row in report["rows"]]
    assert names[0] == "onnxruntime-fp32"
    assert {"onnxruntime-int8", "litert-fp32", "litert-int8"} <= set(names)
    default = [row for row in report["rows"] if row["default"]]
    assert len(default) == 1
    assert default[0]["name"].endswith("first")
    assert report["rows"][0]["ratio_p50"] == 1.0


def test_every_row_has_time_hits_memory_and_start(report: dict[str, Any]) -> None:
    for row in report["rows"]:
        assert 0 < row["p50_us"] <= row["p99_us"]
        assert row["n"] == len(report["values_us"][row["name"]]) == SUITE.rounds * SUITE.block
        assert 0 <= row["field"]["hit_half_period"] <= 1
        assert row["recorded"] is None
        assert 10 < row["rss_mb"] < 500
        assert row["cold_start_s"] > 0
        looked = row["field"]["looked_at_all"]
        assert (looked is None) == (row["sure"] is None)
        assert looked == 0 if row["sure"] == 0 else looked is None or 0 <= looked <= 1


def test_it_is_as_its_schema_says_and_has_a_table(report: dict[str, Any]) -> None:
    assert first_fault(report, SHAPES["variants"].keys) is None
    table = variants_table(report)
    assert table.count("(default)") == 1
    assert "| onnxruntime-fp32 |" in table


def test_without_the_reference_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    whole = read_bundle(shipped_bundle())
    kept = {name: each for name, each in whole.variants.items() if name != "onnx-fp32"}
    bundle = SimpleNamespace(path=tmp_path / "few.usedge", variants=kept, thresholds=whole.thresholds,
                             spec=whole.spec)
    with pytest.raises(InputError, match="no variant onnx-fp32"):
        list(variants._contenders(cast("Any", bundle), "litert", cast("Any", None), {}))
