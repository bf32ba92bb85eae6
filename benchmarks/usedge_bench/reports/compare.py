"""Two reports of one suite held against one another: a verdict for each figure, with its uncertainty.

The interval of a change is that of a bootstrap over the values which both reports hold: neighbours are drawn
in blocks (H. R. Künsch, 1989: "The jackknife and the bootstrap for general stationary observations"), what
was measured in turns is drawn turn by turn, what was measured in rounds round by round. It tells what varies
within a run, and nothing of what differs between two hours of the same machine: therefore ratios to a peer in
the same run come first, and times are not decided where both runs tell that the machine's own pace differed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from usedge.errors import InputError
from usedge_bench.percentiles import (
    AGREE,
    LEAST_BEYOND,
    RESAMPLES,
    drawn_rounds,
    few_rounds,
    redrawn,
    widened,
)
from usedge_bench.reports.figure import LESS, P50, Figure
from usedge_bench.reports.read import Report, host_class
from usedge_bench.reports.shapes import SHAPES
from usedge_bench.reports.shapes.common import rounds_of

FORMAT_VERSION = 1
TAILS = (2.5, 97.5)
"""Percent: the ends of a 95 % interval."""
MARGIN = 0.02
"""A change of less is called none, however sure: two runs of one build differ by as much."""
LEAST_VALUES = 5
"""With fewer, drawing them again says nothing."""
RANK: Literal["inverted_cdf"] = "inverted_cdf"
"""A percentile is one of the values: between a late one and one that never came there is none."""
BETTER, WORSE, SAME, UNDECIDED = "better", "worse", "no difference", "undecided"
ONE_ONLY = "not in both"
NO_VALUES = "too few values stored"
OTHER_HOST = "another host class: only ratios decide"
OTHER_PACE = "the machine's own pace differed: only ratios decide"
TIMES = ("µs", "s", "A-scans/s")
"""Units that the machine's pace moves."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """A figure in both reports. ``change`` is b / a − 1, ``low`` to ``high`` its 95 % interval."""

    name: str
    unit: str
    better: str
    ratio: bool
    a: float | None
    b: float | None
    change: float | None
    low: float | None
    high: float | None
    verdict: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Lines, those that decide first, and what the reader must know of the two runs."""

    suite: str
    lines: list[Line]
    notes: list[str]

    def count(self, verdict: str) -> int:
        """How many lines are of that verdict."""
        return sum(line.verdict == verdict for line in self.lines)

    def as_dict(self) -> dict[str, Any]:
        """What ``--json`` writes."""
        return {"format_version": FORMAT_VERSION, "suite": self.suite, "notes": self.notes,
                "figures": [asdict(line) for line in self.lines]}


def compare(a: Report, b: Report, seed: int = 0, margin: float = MARGIN, names: tuple[str, str] = ("A", "B")
            ) -> Comparison:
    """Verdicts on ``b`` against ``a``, called by ``names``; raises InputError for two of different suites."""
    if a["suite"] != b["suite"]:
        raise InputError(f"{names[0]} is of the suite {a['suite']}, {names[1]} of {b['suite']}.",
                         "Compare two of one suite.")
    figures = SHAPES[a["suite"]].figures
    mine = {figure.name: figure for figure in figures(a)}
    theirs = {figure.name: figure for figure in figures(b)}
    kept_from = OTHER_HOST if host_class(a) != host_class(b) else ""
    kept_from = kept_from or (OTHER_PACE if abs(np.log(_pace(a, b))) > np.log1p(AGREE) else "")
    every = [*mine, *(name for name in theirs if name not in mine)]
    lines = [_line(mine.get(name), theirs.get(name), kept_from, seed, margin) for name in every]
    return Comparison(a["suite"], lines, list(_notes(a, b, names)))


def _pace(a: Report, b: Report) -> float:
    """How long the same fixed work took in ``b`` over ``a``; 1 where one of them does not tell."""
    before, later = (report.get("pace", {}).get("p50_us") for report in (a, b))
    return float(later / before) if before and later and before > 0 < later else 1.0


def _line(a: Figure | None, b: Figure | None, kept_from: str, seed: int, margin: float) -> Line:
    some = a or b
    assert some is not None
    values = (a.value if a else None, b.value if b else None)
    told = (some.name, some.unit, some.better, some.ratio, *values)
    if a is None or b is None or a.value is None or b.value is None:
        return Line(*told, None, None, None, UNDECIDED, ONE_ONLY)
    change = b.value / a.value - 1.0 if a.value else None
    if a.counted:
        return Line(*told, change, None, None, _counted(a, b))
    undecided = "" if a.ratio or (kept_from == OTHER_PACE and a.unit not in TIMES) else kept_from
    if a.values is None and a.interval and b.interval and not undecided:
        return Line(*told, change, *_by_intervals(a.interval, b.interval, margin, a.better))
    drawn = [_drawn(figure, [seed, side, zlib.crc32(some.name.encode())])
             for side, figure in enumerate((a, b))]
    if change is None or drawn[0] is None or drawn[1] is None:
        return Line(*told, change, None, None, UNDECIDED, NO_VALUES)
    ends = np.percentile(drawn[1] / drawn[0], TAILS)
    ends = widened(ends, np.array(1.0 + change), max(few_rounds(a.rounds), few_rounds(b.rounds)))
    low, high = (round(float(end) - 1.0, 5) for end in ends)
    if undecided:
        return Line(*told, change, low, high, UNDECIDED, undecided)
    return Line(*told, change, low, high, _verdict(low, high, margin, some.better))


def _by_intervals(a: tuple[float, float], b: tuple[float, float], margin: float, better: str
                  ) -> tuple[float | None, float | None, str]:
    """The widest interval of a change that two intervals leave room for, and its verdict."""
    if min(*a, *b) <= 0:
        apart = b[0] > a[1] or b[1] < a[0]
        return None, None, SAME if not apart else WORSE if (b[0] > a[1]) == (better == LESS) else BETTER
    low, high = round(b[0] / a[1] - 1.0, 5), round(b[1] / a[0] - 1.0, 5)
    return low, high, _verdict(low, high, margin, better)


def _counted(a: Figure, b: Figure) -> str:
    if a.value == b.value or a.value is None or b.value is None:
        return SAME
    return BETTER if (b.value < a.value) == (a.better == LESS) else WORSE


def _verdict(low: float, high: float, margin: float, better: str) -> str:
    """The whole interval must lie beyond the margin; a faster run has its rates above, its times below."""
    if low > margin:
        return WORSE if better == LESS else BETTER
    if high < -margin / (1.0 + margin):
        return BETTER if better == LESS else WORSE
    return SAME


def _drawn(figure: Figure, seed: list[int]) -> Floats | None:
    """The figure of every resample (RESAMPLES,); None where that says nothing."""
    values, over = _array(figure.values), _array(figure.over)
    if values is None or (figure.share > P50 and (1 - figure.share) * len(values) < LEAST_BEYOND):
        return None
    rng = np.random.default_rng(seed)
    which = drawn_rounds(figure.rounds, rng)
    if figure.over is None:
        return _positive(_percentiles(redrawn(values, figure.block, rng, figure.rounds, which), figure.share))
    if over is None:
        return None
    if figure.rounds == 1 and figure.turn and len(values) == len(over) >= 2 * figure.turn:
        return _in_turns(values, over, figure, rng)
    return _positive(_percentiles(redrawn(values, figure.block, rng, figure.rounds, which), figure.share),
                     _percentiles(redrawn(over, figure.block, rng, figure.rounds, which), P50))


def _array(values: Sequence[float | None] | None) -> Floats | None:
    """The values (n,), those that never came as infinite ones; None for too few."""
    x = np.array([np.inf if each is None else each for each in values or []], np.float64)
    return x if len(x) >= LEAST_VALUES else None


def _percentiles(parts: Iterable[Floats], share: float) -> Floats:
    return np.concatenate([np.quantile(part, share, axis=1, method=RANK) for part in parts])


def _in_turns(values: Floats, over: Floats, figure: Figure, rng: np.random.Generator) -> Floats | None:
    """Both by the same turns: what disturbed a turn disturbed both."""
    turns = len(values) // figure.turn
    drawn = rng.integers(0, turns, (RESAMPLES, turns))
    mine, theirs = (x[: turns * figure.turn].reshape(turns, -1)[drawn].reshape(RESAMPLES, -1)
                    for x in (values, over))
    return _positive(np.quantile(mine, figure.share, axis=1, method=RANK),
                     np.quantile(theirs, P50, axis=1, method=RANK))


def _positive(figure: Floats, over: Floats | None = None) -> Floats | None:
    """The quotient; None where one of a resample is nought or never came."""
    if not all(((part > 0) & np.isfinite(part)).all() for part in (figure, over) if part is not None):
        return None
    return figure if over is None else figure / over


def _notes(a: Report, b: Report, names: tuple[str, str]) -> Iterator[str]:
    first, second = names
    for name, report in ((first, a), (second, b)):
        if not report.get("stable", True):
            yield f"{name} is unstable: {'; '.join(report['unstable_because']) or 'no reason told'}"
    if host_class(a) != host_class(b):
        yield f"{first} ran on {host_class(a)}; {second} on {host_class(b)}: only ratios decide"
    elif abs(np.log(_pace(a, b))) > np.log1p(AGREE):
        took = [report["pace"]["p50_us"] for report in (a, b)]
        yield (f"the same fixed work took {took[0]:,.0f} µs in {first} and {took[1]:,.0f} in {second}: the"
               " machine's own pace differed, only ratios decide")
    one = [name for name, report in ((first, a), (second, b)) if rounds_of(report) == 1]
    if len(one) == 1:
        yield f"{one[0]} was measured in one stretch: what differs between two runs is not in its intervals"
    for key in sorted(set(a["settings"]) | set(b["settings"])):
        mine, theirs = (each["settings"].get(key) for each in (a, b))
        if mine != theirs:
            yield f"{key} is {mine} in {first} and {theirs} in {second}"
    sealed = [report.get("bundle", {}).get("sha256", "") for report in (a, b)]
    if sealed[0] != sealed[1]:
        yield f"the bundles differ: {sealed[0][:8] or 'none'} and {sealed[1][:8] or 'none'}"
    versions = [report.get("version", "unknown") for report in (a, b)]
    if versions[0] != versions[1]:
        yield f"written by usedge {versions[0]} and {versions[1]}"
