"""The guard: has a decision become slower than it was on such a host, as a multiple of plain onnxruntime?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from usedge_bench.reports.compare import Line, compare
from usedge_bench.reports.read import Report, host_class, read_report

MARGIN = 0.15
"""A ratio may be larger by this part. Chosen, not measured: a fault that matters is larger, and a busy hour
moves both sides of a ratio.
"""
JUDGED = "p50"
"""Tails belong to the machine more than to the code, and are told without being judged."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Every ratio to plain onnxruntime in both runs; ``worse`` are those beyond the margin, ``unsure`` those
    whose interval has room on both sides of it.
    """

    ratios: list[Line]
    worse: list[Line]
    unsure: list[Line]
    notes: list[str]


def baselines(folder: Path) -> Iterator[tuple[Path, Report]]:
    """The stored reports of the latency suite: the one that is quoted, then those handed in for boards.

    Raises InputError for one that does not read.
    """
    for path in (folder / "latency.json", *sorted((folder / "boards").glob("**/*-latency.json"))):
        if path.is_file():
            yield path, read_report(path)


def baseline_for(host: str, folder: Path) -> tuple[Path, Report] | None:
    """The first stored report of the host class ``host``; None where there is none."""
    return next((found for found in baselines(folder) if host_class(found[1]) == host), None)


def judged(report: Report, baseline: Report, margin: float = MARGIN) -> Judgement:
    """``report`` held against ``baseline``.

    A ratio is beyond the margin where its whole interval is, or, where one of the two runs stored no values
    to draw from, where the ratio itself is.
    """
    found = compare(baseline, report, names=("the baseline", "this run"))
    ratios = [line for line in found.lines if line.ratio and line.change is not None]
    judging = [line for line in ratios if JUDGED in line.name.split()]
    worse = [line for line in judging if _least(line) > margin]
    unsure = [line for line in judging if line not in worse and (line.high or 0.0) > margin]
    alone = [f"{line.name} is in one of the two alone, and not judged" for line in found.lines
             if line.ratio and line.change is None and JUDGED in line.name.split()]
    return Judgement(ratios, worse, unsure, [*found.notes, *alone])


def _least(line: Line) -> float:
    assert line.change is not None
    return line.change if line.low is None else line.low
