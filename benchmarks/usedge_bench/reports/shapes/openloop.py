"""The report of the open loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usedge_bench.contender import PLAIN
from usedge_bench.reports.figure import LESS, P50, P99, Figure, quotient, told_interval
from usedge_bench.reports.keys import INTERVAL, Each, Maybe
from usedge_bench.reports.shapes.common import BUNDLE, READERS, STABLE, Shape, keys, percentiles, rounds_of

KEYS = keys(
    "openloop",
    bundle=BUNDLE, **READERS, **STABLE,
    rows=[{"contender": "text", "prf_hz": "number", "due": "count", "lost": "count",
           "deadline_misses": "count", "miss_share": "number", "ci95_miss_share": Maybe(INTERVAL),
           "latency": percentiles(kind="number?"),
           "wire_us": Each("number?")}],
    values_us=Each(Each(["number?"])),
)


def figures(report: dict[str, Any]) -> Iterator[Figure]:
    """Latencies over those of the plain script at the same PRF, then latencies and deadline misses."""
    rounds = rounds_of(report)
    plain = {row["prf_hz"]: row["latency"]["p50_us"] for row in report["rows"] if row["contender"] == PLAIN}
    for row in report["rows"]:
        over = _values(report, PLAIN, row["prf_hz"])
        if row["contender"] != PLAIN and row["prf_hz"] in plain:
            yield Figure(f"{_name(row)}: p50 / {PLAIN}", "", LESS,
                         quotient(row["latency"]["p50_us"], plain[row["prf_hz"]]),
                         over and _values(report, row["contender"], row["prf_hz"]), over, rounds=rounds,
                         ratio=True)
    for row in report["rows"]:
        values = _values(report, row["contender"], row["prf_hz"])
        yield Figure(f"{_name(row)}: p50", "µs", LESS, row["latency"]["p50_us"], values, share=P50,
                     rounds=rounds)
        yield Figure(f"{_name(row)}: p99", "µs", LESS, row["latency"]["p99_us"], values, share=P99,
                     rounds=rounds)
        yield Figure(f"{_name(row)}: deadline misses", "of 1", LESS, row["miss_share"],
                     interval=told_interval(row["ci95_miss_share"]))


def _name(row: dict[str, Any]) -> str:
    return f"{row['contender']} at {row['prf_hz']:g} Hz"


def _values(report: dict[str, Any], contender: str, prf_hz: float) -> list[float | None] | None:
    found: list[float | None] | None = report["values_us"].get(contender, {}).get(f"{prf_hz:g}")
    return found


SHAPE = Shape(1, KEYS, figures)
