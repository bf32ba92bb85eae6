"""The reports of all suites: one file a suite, holding its keys and its figures."""

from __future__ import annotations

from usedge_bench.reports.shapes import (
    accuracy,
    energy,
    latency,
    link,
    memory,
    openloop,
    sinks,
    soak,
    startup,
    throughput,
    training,
    variants,
)
from usedge_bench.reports.shapes.common import Shape

SHAPES: dict[str, Shape] = {
    "latency": latency.SHAPE,
    "openloop": openloop.SHAPE,
    "throughput": throughput.SHAPE,
    "memory": memory.SHAPE,
    "startup": startup.SHAPE,
    "accuracy": accuracy.SHAPE,
    "energy": energy.SHAPE,
    "link": link.SHAPE,
    "training": training.SHAPE,
    "soak": soak.SHAPE,
    "variants": variants.SHAPE,
    "sinks": sinks.SHAPE,
}
"""Suite → what its report is. A new suite adds a file beside and a line here."""
