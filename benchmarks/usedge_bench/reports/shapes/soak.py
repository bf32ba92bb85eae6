"""The report of the soak suite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usedge_bench.reports.figure import LESS, MORE, Figure
from usedge_bench.reports.keys import Description, Each
from usedge_bench.reports.shapes.common import STABLE, Shape, keys

COUNTS = ("unaccounted", "threads_left", "files_left")
COUNTED: dict[str, Description] = dict.fromkeys(
    ("sent", "received", "dropped", "corrupted", "reconnects", "duplicated", "queue_dropped",
     "deadline_misses", *COUNTS), "count")
LATER: dict[str, Description] = {"values_p99_us?": ["number"]}
KEYS = keys(
    "soak",
    **COUNTED,
    rss_growth_mb="number?", p99_first_us="number?", p99_last_us="number?", failed=["text"],
    seconds="number", ascans_per_s="number", faults=Each("count"), summary="any", values_rss_mb=["number"],
    **LATER,
    **{f"{key}?": each for key, each in STABLE.items()},  # older reports lack them
)


def figures(report: dict[str, Any]) -> Iterator[Figure]:
    """What is left unaccounted for or open, then what one run says of memory and time."""
    for key in COUNTS:
        yield Figure(key.replace("_", " "), "", LESS, report[key], counted=True)
    yield Figure("growth of RSS", "MB", LESS, report["rss_growth_mb"])
    yield Figure("p99 at the beginning", "µs", LESS, report["p99_first_us"])
    yield Figure("p99 at the end", "µs", LESS, report["p99_last_us"])
    yield Figure("A-scans a second", "A-scans/s", MORE, report["ascans_per_s"])


SHAPE = Shape(1, KEYS, figures)
