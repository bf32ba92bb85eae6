"""Timing: alternating blocks, and ratios that a known difference shows in."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from usedge_export.recipe import SpeedSettings
from usedge_export.speed import measure

X = np.zeros((3, 2048), np.float32)


def busy(us: float) -> Any:
    """A model that takes ``us`` µs."""
    def infer(x: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        end = time.perf_counter_ns() + us * 1e3
        while time.perf_counter_ns() < end:
            pass
        return x

    return infer


def test_a_variant_three_times_as_slow_shows() -> None:
    models = {"onnx-fp32": busy(200), "litert-fp32": busy(200), "litert-int8": busy(600)}
    took = measure(models, X, SpeedSettings(rounds=9, runs=5, warmup=1))
    assert took["onnx-fp32"]["ratio_onnx_fp32"] == took["litert-fp32"]["ratio_fp32"] == 1.0
    assert 2.0 < took["litert-int8"]["ratio_fp32"] < 4.0
    assert 2.0 < took["litert-int8"]["ratio_onnx_fp32"] < 4.0
    assert took["litert-int8"]["p99_us"] >= took["litert-int8"]["p50_us"] >= 600.0


def test_without_a_baseline_there_is_no_ratio() -> None:
    took = measure({"litert-int8": busy(1)}, X, SpeedSettings(rounds=1, runs=2, warmup=0))
    assert took["litert-int8"]["ratio_onnx_fp32"] is None
    assert took["litert-int8"]["ratio_fp32"] is None


def test_blocks_alternate_and_begin_with_each_in_turn() -> None:
    calls: list[str] = []

    def noting(name: str) -> Any:
        return lambda x: calls.append(name) or x

    measure({name: noting(name) for name in "abc"}, X, SpeedSettings(rounds=3, runs=2, warmup=1))
    assert "".join(calls) == "abc" + "aabbcc" + "bbccaa" + "ccaabb"
