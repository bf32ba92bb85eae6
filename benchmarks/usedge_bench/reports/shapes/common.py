"""Keys that the reports of several suites share, and what a suite's report is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from usedge_bench.reports.figure import Figure
from usedge_bench.reports.keys import Description, Each, Maybe
from usedge_bench.suite import KINDS

HOST: Description = {
    "machine": "text", "cpu": "text", "cores": "count?", "system": "text", "python": "text", "numpy": "text",
    "governor": "text?", "load_1min": "number", "torch?": "text", "threads?": "count",
}
BUNDLE: Description = {"name": "text", "sha256": "text", "variant?": "text"}
CONDITIONS: Description = {
    "pinned": Each(["count"]),
    "parts": [{"part": "text", "seconds": "number", "own_cores": "number?", "others_cores": "number?",
               "steal_cores": "number?", "hottest_c": "number?", "clock_mhz": "number?",
               "throttled": "count?", "held_back": "count?"}],
}
READERS: dict[str, Description] = {
    "contenders": [{"name": "text", "what": "text", "variant": "text"}], "missing": Each("text"),
}
STABLE: dict[str, Description] = {"stable": "flag", "unstable_because": ["text"]}
CI95: Description = Each(Maybe(["number?"]))
"""By percentile; null where too few values lie beyond it, or an end where none ever came."""
SETTING = {"int": "count", "float": "number", "str": "text"}


def settings(suite: str, needed: tuple[str, ...]) -> Description:
    """The numbers of a suite; one that a later usedge added lacks in older reports, the ``needed`` never."""
    return {field.name if field.name in needed else f"{field.name}?": SETTING.get(str(field.type), ["scalar"])
            for field in fields(KINDS[suite])}


def keys(suite: str, needed: tuple[str, ...] = (), **own: Description) -> Description:
    """The keys of a suite's report: those that all have, and its ``own``.

    ``needed`` are the settings without which its figures cannot be told.
    """
    return {"format_version": "count", "suite": "text", "version?": "text", "host": HOST,
            "settings": settings(suite, needed), "conditions?": CONDITIONS, "seconds?": "number", **own}


def percentiles(unit: str = "us", kind: str = "number") -> Description:
    """p50 to p99.9 and the maximum of durations; ``kind`` "number?" where one may never have come."""
    names = ("p50", "p90", "p99", "p99_9", "max")
    return {**{f"{name}_{unit}": kind for name in names}, "n?": "count", f"ci95_{unit}?": CI95}


def rounds_of(report: dict[str, Any]) -> int:
    """In how many rounds it was measured; one where its usedge did not know of rounds yet."""
    return max(1, int(report["settings"].get("rounds", 1)))


@dataclass(frozen=True, slots=True)
class Shape:
    """A suite's report: its newest ``version``, the ``keys`` that it may hold, and its ``figures``.

    ``unmatched`` gives the place of a name that stands in one part of it and lacks in another.
    """

    version: int
    keys: Description
    figures: Callable[[dict[str, Any]], Iterator[Figure]]
    unmatched: Callable[[dict[str, Any]], str | None] = lambda report: None  # noqa: ARG005
