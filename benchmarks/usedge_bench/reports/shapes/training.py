"""The report of the training suite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usedge_bench.reports.figure import MORE, Figure, multiple
from usedge_bench.reports.keys import Each
from usedge_bench.reports.shapes.common import HOST, STABLE, Shape, keys

ROW = {"key": "text", "name": "text", "batch": "count", "parameters": "count", "median_per_s": "number",
       "p10_per_s": "number", "p90_per_s": "number", "against": "text", "ratio": "number",
       "floor_per_s": "number"}
KEYS = keys(
    "training", ("floor_pretraining",),
    host={**HOST, "torch": "text", "threads": "count"},
    rows={"pretraining": (ROW,), "data": [ROW], "fine-tuning": (ROW,)},
    below_floor=["text"], **STABLE, elapsed_s="number", values_per_s=Each(["number"]),
)


def figures(report: dict[str, Any]) -> Iterator[Figure]:
    """Multiples within each round, then rates."""
    rows = [(f"{table}: {row['name']}", row) for table, rows in report["rows"].items() for row in rows]
    values = report["values_per_s"]
    for name, row in rows:
        if row["key"] != row["against"]:
            yield multiple(f"{name} / {row['against']}", row["ratio"], values.get(row["key"], []),
                           values.get(row["against"], []))
    for name, row in rows:
        yield Figure(name, "A-scans/s", MORE, row["median_per_s"], values.get(row["key"]), block=1)


SHAPE = Shape(1, KEYS, figures)
