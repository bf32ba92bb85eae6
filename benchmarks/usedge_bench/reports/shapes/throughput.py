"""The report of the throughput suite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usedge_bench.contender import PLAIN
from usedge_bench.reports.figure import MORE, Figure, quotient
from usedge_bench.reports.shapes.common import BUNDLE, READERS, STABLE, Shape, keys

KEYS = keys(
    "throughput",
    bundle=BUNDLE, **READERS, **STABLE,
    rows=[{"contender": "text", "sustained_hz": "number?", "first_loss_hz": "number?",
           "limited_by": "text?"}],
    trials=[{"contender": "text", "prf_hz": "number", "due": "count", "lost": "count", "waiting": "count",
             "held": "flag"}],
)


def figures(report: dict[str, Any]) -> Iterator[Figure]:
    """The PRF that a reader sustains lies between the highest without a loss and the lowest with one."""
    plain = next((row for row in report["rows"] if row["contender"] == PLAIN), None)
    for row in report["rows"]:
        if plain is not None and row["contender"] != PLAIN:
            yield Figure(f"{row['contender']} / {PLAIN}", "", MORE,
                         quotient(row["sustained_hz"], plain["sustained_hz"]),
                         interval=_quotient_interval(_interval(row), _interval(plain)), ratio=True)
    for row in report["rows"]:
        yield Figure(row["contender"], "A-scans/s", MORE, row["sustained_hz"], interval=_interval(row))


def _interval(row: dict[str, Any]) -> tuple[float, float] | None:
    low, high = row["sustained_hz"], row["first_loss_hz"]
    return None if low is None or high is None or not 0 < low <= high else (low, high)


def _quotient_interval(a: tuple[float, float] | None, b: tuple[float, float] | None
                       ) -> tuple[float, float] | None:
    return None if a is None or b is None else (a[0] / b[1], a[1] / b[0])


SHAPE = Shape(1, KEYS, figures)
