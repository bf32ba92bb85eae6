"""The report of the accuracy suite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usedge_bench.reports.figure import LESS, MORE, Figure, told_interval
from usedge_bench.reports.keys import INTERVAL, Description, Maybe
from usedge_bench.reports.shapes.common import BUNDLE, STABLE, Shape, keys

LATER: dict[str, Description] = {"checkpoint?": "text?"}
KEYS = keys(
    "accuracy",
    bundle=BUNDLE, **STABLE, **LATER,
    rows=[{"source": "text", "method": "text", "n_echo": "count", "n_empty": "count",
           "hit_half_period": "number?", "ci95_hit_half_period": Maybe(INTERVAL), "hit_one_period": "number?",
           "miss_rate": "number?", "false_alarm_rate": "number?"}],
    scorecard="any",
)


def figures(report: dict[str, Any]) -> Iterator[Figure]:
    """Hit rates and false alarms of every method; they are of the A-scans and the same on any machine."""
    for row in report["rows"]:
        name = f"{row['source']}, {row['method']}"
        yield Figure(f"{name}: within half a period", "of 1", MORE, row["hit_half_period"],
                     interval=told_interval(row["ci95_hit_half_period"]), ratio=True)
        yield Figure(f"{name}: false alarms", "of 1", LESS, row["false_alarm_rate"], ratio=True)


SHAPE = Shape(1, KEYS, figures)
