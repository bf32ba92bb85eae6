"""The report of the latency suite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usedge.meter import STAGES
from usedge_bench.peers import REFERENCE, WOKEN
from usedge_bench.reports.figure import LESS, MORE, P50, P99, Figure, quotient
from usedge_bench.reports.keys import Each
from usedge_bench.reports.shapes.common import BUNDLE, CI95, STABLE, Shape, keys, percentiles, rounds_of

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
    throughput={"ascans_per_s": "number", "dropped": "count", "received": "count", "all_per_s?": ["number"]},
    peers=[{"name": "text", "n?": "count", "p50_us": "number", "p90_us?": "number", "p99_us": "number",
            "ci95_us?": CI95}],
    ratio_p50=Each("number"), peak_rss_mb="number", first_reading_s="number", first_reading_all_s=["number"],
    **STABLE, values_us=Each(["number"]),
    **{"values_peers_us?": Each(["number"]), "meter_overhead_ns?": Each("number"), "board?": BOARD,
       "pace?": percentiles(), "rounds?": [Each("number")], "peak_rss_all_mb?": ["number"],
       "values_pace_us?": ["number"]},
)


def figures(report: dict[str, Any]) -> Iterator[Figure]:
    """Ratios to plain onnxruntime in the same run, then what the machine itself took."""
    yield from ratios(report)
    rounds = rounds_of(report)
    for stage, told in report["stages"].items():
        values = report["values_us"].get(stage)
        yield Figure(f"{stage} p50", "µs", LESS, told["p50_us"], values, rounds=rounds)
        yield Figure(f"{stage} p99", "µs", LESS, told["p99_us"], values, share=P99, rounds=rounds)
    yield Figure("first reading", "s", LESS, report["first_reading_s"], report["first_reading_all_s"],
                 block=1)
    peaks = report.get("peak_rss_all_mb")
    yield Figure("peak RSS", "MB", LESS, report["peak_rss_mb"],
                 interval=(min(peaks), max(peaks)) if peaks else None)
    yield Figure("free-running throughput", "A-scans/s", MORE, report["throughput"]["ascans_per_s"],
                 report["throughput"].get("all_per_s"), block=1)


def ratios(report: dict[str, Any]) -> Iterator[Figure]:
    """The network and the whole way over plain onnxruntime's p50; none where it was not installed.

    The whole way is that of a core that slept before, and so is what it is held against, where that is told.
    """
    told = {peer["name"]: peer["p50_us"] for peer in report["peers"]}
    if REFERENCE not in told:
        return
    ours, every, rounds = report["peers"][0]["name"], report.get("values_peers_us", {}), rounds_of(report)
    yield Figure(f"network p50 / {REFERENCE}", "", LESS, quotient(told[ours], told[REFERENCE]),
                 every.get(REFERENCE) and every.get(ours), every.get(REFERENCE),
                 turn=report["settings"].get("peer_block", 0), rounds=rounds, ratio=True)
    against = f"{REFERENCE}{WOKEN}" if f"{REFERENCE}{WOKEN}" in told else REFERENCE
    for stage, share, name in (("wire_to_reading", P50, "p50"), ("wire_to_reading", P99, "p99")):
        took = report["stages"][stage][f"{name}_us"]
        yield Figure(f"{stage} {name} / {against}", "", LESS, quotient(took, told[against]),
                     every.get(against) and report["values_us"].get(stage), every.get(against), share=share,
                     rounds=rounds, ratio=True)


SHAPE = Shape(1, KEYS, figures)
