"""The report of the start-up suite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usedge_bench.contender import PLAIN
from usedge_bench.reports.figure import LESS, Figure, quotient
from usedge_bench.reports.keys import Each, Maybe
from usedge_bench.reports.shapes.common import BUNDLE, STABLE, Shape, keys

KEYS = keys(
    "startup",
    bundle=BUNDLE, missing=Each("text"), **STABLE,
    rows=[{"contender": "text", "start": "text", "median_s": "number", "min_s": "number", "max_s": "number"}],
    cache=Maybe({"how": "text", "mb": "number", "kept_mb": "number", "unknown_mb?": "number",
                 "files": "count"}, empty=True),
    values_s=Each(Each(["number"])),
)


def figures(report: dict[str, Any]) -> Iterator[Figure]:
    """Times over those of the plain script, then the times; rounds are drawn together."""
    plain = {row["start"]: row["median_s"] for row in report["rows"] if row["contender"] == PLAIN}
    for row in report["rows"]:
        if row["contender"] != PLAIN and row["start"] in plain:
            over = _values(report, PLAIN, row["start"])
            yield Figure(f"{row['contender']}, {row['start']} / {PLAIN}", "", LESS,
                         quotient(row["median_s"], plain[row["start"]]),
                         over and _values(report, row["contender"], row["start"]), over, turn=1, ratio=True)
    for row in report["rows"]:
        yield Figure(f"{row['contender']}, {row['start']}", "s", LESS, row["median_s"],
                     _values(report, row["contender"], row["start"]), block=1)


def _values(report: dict[str, Any], contender: str, start: str) -> list[float] | None:
    found: list[float] | None = report["values_s"].get(contender, {}).get(start)
    return found


SHAPE = Shape(1, KEYS, figures)
