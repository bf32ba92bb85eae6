"""The report of the variants suite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usedge_bench.peers import REFERENCE
from usedge_bench.reports.figure import LESS, MORE, Figure
from usedge_bench.reports.keys import Each, Maybe
from usedge_bench.reports.shapes.common import BUNDLE, CI95, STABLE, Shape, keys, rounds_of

HITS = {"hit_half_period": "number?", "hit_one_period": "number?", "miss_rate": "number?",
        "false_alarm_rate": "number?", "looked_at_all": "number?"}
KEYS = keys(
    "variants",
    bundle=BUNDLE, missing=Each("text"), files=["text"], **STABLE,
    rows=[{"name": "text", "default": "flag", "patches": "count", "sure": "number?", "p50_us": "number",
           "p90_us": "number", "p99_us": "number", "ci95_us": CI95, "n": "count",
           "ratio_p50": "number", "bytes": "count?", "rss_mb": "number?", "cold_start_s": "number?",
           "hit_half_period": "number?", "field": HITS, "recorded": Maybe(HITS)}],
    values_us=Each(["number"]),
)


def figures(report: dict[str, Any]) -> Iterator[Figure]:
    """Ratios to plain onnxruntime, then times and hits."""
    values, turn = report["values_us"], report["settings"].get("block", 0)
    over = values.get(REFERENCE)
    for row in report["rows"]:
        if row["name"] != REFERENCE:
            yield Figure(f"{row['name']} / {REFERENCE}", "", LESS, row["ratio_p50"],
                         over and values.get(row["name"]), over, turn=turn, ratio=True)
    for row in report["rows"]:
        yield Figure(row["name"], "µs", LESS, row["p50_us"], values.get(row["name"]),
                     rounds=rounds_of(report))
        yield Figure(f"{row['name']}: within half a period", "of 1", MORE, row["hit_half_period"], ratio=True)


SHAPE = Shape(1, KEYS, figures)
