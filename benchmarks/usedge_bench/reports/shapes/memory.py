"""The report of the memory suite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usedge_bench.reports.figure import LESS, Figure
from usedge_bench.reports.keys import Each
from usedge_bench.reports.shapes.common import BUNDLE, STABLE, Shape, keys, percentiles

KEYS = keys(
    "memory",
    bundle=BUNDLE, **STABLE,
    curves=Each({"points": [("number", "number")], "settled_mb": "number", "end_mb": "number",
                 "growth_mb": "number", "peak_mb": "number"}),
    allocations=Each({"transient_kb": percentiles("kb"), "kept_bytes": "number",
                      "kept_where": [{"line": "text", "bytes": "count"}]}),
    install={"total_mb": "number", "packages": [{"name": "text", "version": "text", "mb": "number"}],
             "missing": ["text"]},
)


def figures(report: dict[str, Any]) -> Iterator[Figure]:
    """Resident memory of each picker, and what the installation takes."""
    for picker, curve in report["curves"].items():
        for key, name in (("peak_mb", "peak RSS"), ("growth_mb", "growth of RSS")):
            yield Figure(f"{picker}: {name}", "MB", LESS, curve[key])
    yield Figure("installation on disk", "MB", LESS, report["install"]["total_mb"], counted=True)


def unmatched(report: dict[str, Any]) -> str | None:
    """A picker with a curve and no allocations."""
    without = (name for name in report["curves"] if name not in report["allocations"])
    return next((f"allocations.{name}" for name in without), None)


SHAPE = Shape(1, KEYS, figures, unmatched)
