"""The report of the energy suite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usedge_bench.reports.figure import LESS, Figure, told_interval
from usedge_bench.reports.keys import INTERVAL, Each, Maybe
from usedge_bench.reports.shapes.common import BUNDLE, STABLE, Shape, keys

KEYS = keys(
    "energy",
    **{"bundle?": BUNDLE}, **STABLE, measurable="flag", why_not="text?",
    meters=[{"name": "text", "kind": "text", "path": "text"}],
    rows=[{"meter": "text", "rest_w": "number", "streaming_w": "number", "mj_an_ascan": "number",
           "ci95_mj_an_ascan": Maybe(INTERVAL)}],
    values_w=Each("any"),
)


def figures(report: dict[str, Any]) -> Iterator[Figure]:
    """Energy an A-scan by every meter; none on a machine without one."""
    for row in report["rows"]:
        yield Figure(f"{row['meter']}: an A-scan", "mJ", LESS, row["mj_an_ascan"],
                     interval=told_interval(row["ci95_mj_an_ascan"]))


SHAPE = Shape(1, KEYS, figures)
