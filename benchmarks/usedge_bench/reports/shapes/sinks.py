"""The report of the sinks suite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usedge_bench.reports.figure import LESS, Figure
from usedge_bench.reports.keys import Each
from usedge_bench.reports.shapes.common import Shape, keys

STRETCH = {
    "prf_hz": "number", "samples": "count", "ascans": "count", "cores": "number?", "seconds": "number",
    "lost": ["text"], "deadline_misses": "count?", "latency_us": Each("number", ("p50", "p99")),
    "peak_rss_mb": "number?", "sinks": "any", "recorded": "any", "got": Each("any"),
}
KEYS = keys("sinks", together=(STRETCH,), alone=Each(STRETCH, ("none",)), added_cores=Each("number?"),
            missing=Each("text"), failed=["text"], cores=Each(["count"]))


def figures(report: dict[str, Any]) -> Iterator[Figure]:
    """What each sink adds, and what all of them take together."""
    for name, cores in report["added_cores"].items():
        yield Figure(f"{name}: added", "cores", LESS, cores)
    for stretch in report["together"]:
        name = f"all sinks at {stretch['prf_hz']:g} Hz, {stretch['samples']} samples"
        yield Figure(f"{name}: cores", "cores", LESS, stretch["cores"])
        yield Figure(f"{name}: deadline misses", "", LESS, stretch["deadline_misses"])


SHAPE = Shape(1, KEYS, figures)
