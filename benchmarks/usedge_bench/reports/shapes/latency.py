"""The report of the latency suite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usedge.meter import STAGES
from usedge_bench.peers import REFERENCE
from usedge_bench.reports.figure import LESS, MORE, P50, P99, Figure, quotient
from usedge_bench.reports.keys import Each
from usedge_bench.reports.shapes.common import BUNDLE, CI95, STABLE, Shape, keys, percentiles

LATER = ("queue", "decide")
"""Stages that the first reports did not tell apart."""
STAGE_KEYS = {f"{name}?" if name in LATER else name: percentiles() for name in STAGES}
BOARD = {"board": "text", "counts": "flag", "why": "text",
         "lines": [{"name": "text", "measured": "number", "limit": "number", "over": "flag"}]}
"""The verdict of --board."""
KEYS = keys(
    "latency", ("prf_hz", "idle_prf_hz"),
    bundle=BUNDLE, stages=STAGE_KEYS, stages_idle=STAGE_KEYS,
    overhead_share="number",
    throughput={"ascans_per_s": "number", "dropped": "count", "received": "count"},
    peers=[{"name": "text", "n?": "count", "p50_us": "number", "p90_us?": "number", "p99_us": "number",
            "ci95_us?": CI95}],
    ratio_p50=Each("number"), peak_rss_mb="number", first_reading_s="number", first_reading_all_s=["number"],
    **STABLE, values_us=Each(["number"]),
    **{"values_peers_us?": Each(["number"]), "meter_overhead_ns?": Each("number"), "board?": BOARD},
)


def figures(report: dict[str, Any]) -> Iterator[Figure]:
    """Ratios to plain onnxruntime in the same run, then what the machine itself took."""
    yield from ratios(report)
    for stage, told in report["stages"].items():
        values = report["values_us"].get(stage)
        yield Figure(f"{stage} p50", "µs", LESS, told["p50_us"], values)
        yield Figure(f"{stage} p99", "µs", LESS, told["p99_us"], values, share=P99)
    yield Figure("first reading", "s", LESS, report["first_reading_s"], report["first_reading_all_s"],
                 block=1)
    yield Figure("peak RSS", "MB", LESS, report["peak_rss_mb"])
    yield Figure("free-running throughput", "A-scans/s", MORE, report["throughput"]["ascans_per_s"])


def ratios(report: dict[str, Any]) -> Iterator[Figure]:
    """The network and the whole way over plain onnxruntime's p50; none where it was not installed."""
    reference = next((peer for peer in report["peers"] if peer["name"] == REFERENCE), None)
    if reference is None:
        return
    ours, every = report["peers"][0], report.get("values_peers_us", {})
    over, turn = every.get(REFERENCE), report["settings"].get("peer_block", 0)
    yield Figure(f"network p50 / {REFERENCE}", "", LESS, quotient(ours["p50_us"], reference["p50_us"]),
                 over and every.get(ours["name"]), over, turn=turn, ratio=True)
    for stage, share, name in (("wire_to_reading", P50, "p50"), ("wire_to_reading", P99, "p99")):
        took = report["stages"][stage][f"{name}_us"]
        yield Figure(f"{stage} {name} / {REFERENCE}", "", LESS, quotient(took, reference["p50_us"]),
                     over and report["values_us"].get(stage), over, share=share, ratio=True)


SHAPE = Shape(1, KEYS, figures)
