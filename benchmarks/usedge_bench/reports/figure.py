"""A figure of a report that can be held against another run's, and the values that it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

LESS, MORE = "less", "more"
P50, P99 = 0.5, 0.99


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. ``better`` is LESS or MORE.

    ``values`` are what it was made of, in the order that they were measured in, and the figure is the one
    that ``share`` (0..1) of them do not exceed; with ``over``, a peer's values in the same run, it is that
    over their median. Both came in turns of ``turn`` where that is over 0, one after the other, so that what
    disturbed one disturbed both; ``block`` neighbours are drawn together otherwise. Of ``rounds`` in equal
    parts, rounds are drawn first, the same for both. A ``ratio`` holds on any machine. What is ``counted`` is
    no measurement: any difference is one. Without values, ``interval`` is what the report itself says that
    the figure lies in.
    """

    name: str
    unit: str
    better: str
    value: float | None
    values: Sequence[float | None] | None = None
    over: Sequence[float | None] | None = None
    interval: tuple[float, float] | None = None
    share: float = P50
    turn: int = 0
    block: int = 25
    rounds: int = 1
    ratio: bool = False
    counted: bool = False


def multiple(name: str, value: float | None, mine: Sequence[float], theirs: Sequence[float]) -> Figure:
    """How many times a peer's rate ours is, round by round: what slows a round slows both."""
    rounds = [a / b for a, b in zip(mine, theirs, strict=False) if b]
    return Figure(name, "", MORE, median(rounds) if value is None and rounds else value, rounds or None,
                  block=1, ratio=True)


def told_interval(ends: Any) -> tuple[float, float] | None:
    """Both ``ends`` of an interval as a report tells them; None where it tells none."""
    if not isinstance(ends, list) or len(ends) != 2:
        return None
    low, high = ends
    numbers = all(isinstance(each, (int, float)) for each in ends)
    return (float(low), float(high)) if numbers and low <= high else None


def quotient(value: float | None, over: float | None) -> float | None:
    """``value`` over ``over``; None where one of them is none or nought."""
    return value / over if value is not None and over else None
