"""The reports of all suites: one file a suite, holding its keys and its figures."""

from __future__ import annotations

from usedge_bench.reports.shapes import latency, link, soak, training
from usedge_bench.reports.shapes.common import Shape

SHAPES: dict[str, Shape] = {
    "latency": latency.SHAPE,
    "link": link.SHAPE,
    "soak": soak.SHAPE,
    "training": training.SHAPE,
}
"""Suite → what its report is. A new suite adds a file beside and a line here."""
