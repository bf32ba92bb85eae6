"""A latency report held against the budget of the board that it was measured on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from usedge.boards.profile import BoardProfile
from usedge.errors import InputError


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of a budget: what was measured, and the most that it may be."""

    name: str
    measured: float
    limit: float

    @property
    def over(self) -> bool:
        """Whether it is over budget; a figure that is none (NaN) is."""
        return not self.measured <= self.limit

    def __str__(self) -> str:
        return f"{self.name} {self.measured:.4g} of {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a report keeps a board's budget; ``counts`` is False where it is of another machine, and then
    nothing is judged.
    """

    board: str
    counts: bool
    why: str
    lines: tuple[Line, ...]

    @property
    def over(self) -> list[str]:
        """The figures over budget."""
        return [str(line) for line in self.lines if line.over]

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {"board": self.board, "counts": self.counts, "why": self.why,
                "lines": [asdict(line) | {"over": line.over} for line in self.lines]}


def judge(report: dict[str, Any], board: BoardProfile, here: str | None, why: str) -> Verdict:
    """``report`` of the latency suite against ``board``'s budget. ``here`` is the id of the board that this
    machine is, ``why`` what tells so. Raises InputError for a front end, or another suite's report.
    """
    if board.budget is None:
        raise InputError(f"{board.id} is a front end, and has no budget.",
                         "Name the board that usedge runs on: usedge boards list")
    if report.get("suite") != "latency":
        raise InputError(f"budgets are for the latency suite, not for {report.get('suite')!r}.",
                         f"Run: usedge bench latency --board {board.id}")
    if here != board.id:
        own = f"this machine is {here}" if here else "this machine is no board that is known"
        return Verdict(board.id, False, f"{own} ({why}), not {board.id}", ())
    whole = report["stages"]["wire_to_reading"]["p99_us"]
    return Verdict(board.id, True, why, (
        Line("p99_ms", float("nan") if whole is None else whole / 1e3, board.budget.p99_ms),
        Line("rss_mb", float(report["peak_rss_mb"]), board.budget.rss_mb)))
