"""How fast each variant is, measured in one run: single-threaded, in alternating blocks."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usedge.golden import Float32, Infer
from usedge_export.recipe import SpeedSettings

BASELINE = "onnx-fp32"
TIMES = ("p50_us", "p99_us", "ratio_onnx_fp32", "ratio_fp32", "rss_mb")
"""Figures that differ from one export to the next: reported; a bundle bears the verdict on them alone."""


def measure(models: Mapping[str, Infer], x: Float32, settings: SpeedSettings) -> dict[str, dict[str, Any]]:
    """p50 and p99 in µs of each model on A-scans of ``x (n, n_samples)``, and its ratios.

    A ratio is the median over rounds of block medians in the same round, so that a machine that slows down
    for a while slows both sides. ``ratio_onnx_fp32`` compares with onnxruntime fp32, ``ratio_fp32`` with fp32
    in the same runtime; None where that variant was not built.
    """
    times = {name: np.empty((settings.rounds, settings.runs)) for name in models}
    for infer in models.values():
        _block(infer, x, settings.warmup)
    names = list(models)
    for turn in range(settings.rounds):
        # Each round starts with another variant: none of them always runs in its neighbour's wake.
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            times[name][turn] = _block(models[name], x, settings.runs)
    return {name: _summary(name, times) for name in names}


def _block(infer: Infer, x: Float32, runs: int) -> NDArray[np.float64]:
    """Durations (runs,) in µs."""
    took = np.empty(runs)
    for i in range(runs):
        row = x[i % len(x)][np.newaxis]
        begun = time.perf_counter_ns()
        infer(row)
        took[i] = (time.perf_counter_ns() - begun) * 1e-3
    return took


def _summary(name: str, times: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    p50, p99 = np.percentile(times[name], (50, 99))
    return {
        "p50_us": round(float(p50), 1), "p99_us": round(float(p99), 1),
        "ratio_onnx_fp32": _ratio(times, name, BASELINE),
        "ratio_fp32": _ratio(times, name, f"{name.partition('-')[0]}-fp32"),
    }


def _ratio(times: Mapping[str, NDArray[np.float64]], name: str, baseline: str) -> float | None:
    if baseline not in times:
        return None
    rounds = np.median(times[name], axis=1) / np.median(times[baseline], axis=1)
    return round(float(np.median(rounds)), 3)
