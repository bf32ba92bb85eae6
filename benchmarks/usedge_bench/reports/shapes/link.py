"""The report of the link suite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from usedge_bench.reports.figure import MORE, Figure, multiple
from usedge_bench.reports.keys import Each
from usedge_bench.reports.shapes.common import STABLE, Shape, keys

KEYS = keys(
    "link", ("samples",),
    decoders=[{"name": "text", "median_per_s": "number", "min_per_s": "number", "max_per_s": "number",
               "bytes_per_ascan": "number", "floor_per_s": "number"}],
    below_floor=["text"], **STABLE, values_per_s=Each(["number"]),
)
PEERS = {"usfp, Python, 4096 B reads": "cobs, C extension, 4096 B reads",
         "usfp, Python, 64 B reads": "cobs, C extension, 64 B reads"}
"""Ours, and the fastest COBS on the same content."""


def figures(report: dict[str, Any]) -> Iterator[Figure]:
    """Multiples of COBS in the same pass, then rates and bytes."""
    values = report["values_per_s"]
    for ours, peer in PEERS.items():
        if ours in values and peer in values:
            yield multiple(f"{ours} / cobs", None, values[ours], values[peer])
    for row in report["decoders"]:
        yield Figure(row["name"], "A-scans/s", MORE, row["median_per_s"], values.get(row["name"]), block=1)


SHAPE = Shape(1, KEYS, figures)
