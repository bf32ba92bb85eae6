"""Onsets proposed for each A-scan, by the model and by a classical method, the doubtful ones first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from usedge.errors import InputError
from usedge.labelling.task import Task
from usedge.tof import Pick, Picker, classical_picker

HIGH_CONFIDENCE = 0.9
"""Of the model, where nothing else is asked for: consensus under it is shown to a person first."""
DOUBTFUL = ("apart", "one", "unsure")
KINDS = (*DOUBTFUL, "none", "agree")
"""What two picks make of an A-scan: onsets apart, an onset of one alone, both but unsure, none, agreed."""


@dataclass(frozen=True)
class Proposal:
    """What both pickers say of one A-scan, ``kind`` (one of KINDS), and the onset proposed to a person.

    ``tof_us`` after the main bang is the classical pick where both agree, since that one is placed on the
    samples themselves; else the model's, else the classical one; None where neither finds an echo.
    """

    row: int
    kind: str
    model: Pick
    classical: Pick
    period_us: float

    @property
    def tof_us(self) -> float | None:
        """The onset proposed, µs after the main bang; None for no echo."""
        model, classical = self.model.tof_us, self.classical.tof_us
        if model is None or classical is None:
            return classical if model is None else model
        return model if self.kind == "apart" else classical

    @property
    def rank(self) -> tuple[int, float, int]:
        """Sorts the doubtful ones first, and the least confident first among them."""
        group = {"apart": 0, "one": 0, "unsure": 1, "none": 2, "agree": 3}[self.kind]
        return group, self.model.confidence, self.row

    def why(self, method: str) -> str:
        """The kind in words; ``method`` is the classical picker's name."""
        if self.model.tof_us is not None and self.classical.tof_us is not None:
            periods = abs(self.model.tof_us - self.classical.tof_us) / self.period_us
            if self.kind == "apart":
                return f"The model and {method} are {periods:.1f} periods apart."
            unsure = f"; the model is not sure ({self.model.confidence:.2f})" if self.kind == "unsure" else ""
            return f"The model and {method} agree to {periods:.2f} periods{unsure}."
        if self.kind == "none":
            return f"Neither the model nor {method} finds an echo."
        if self.model.tof_us is not None:
            return f"The model finds an echo, {method} does not."
        unsure = "is not sure" if self.model.abstain == "low_confidence" else "does not"
        return f"{method} finds an echo, the model {unsure}."


def propose(task: Task, model: Picker, method: str, confidence: float = HIGH_CONFIDENCE,
            advance: Callable[[], None] = lambda: None) -> list[Proposal]:
    """The proposals of all rows in the order to look at them; ``advance`` is called after each row.

    ``method`` names the classical picker, ``confidence`` is what the model must have for consensus.
    Raises InputError, naming the row, where a gate is too short, and for an unknown method.
    """
    classical = [classical_picker(method, 1e6 / period) for period in dict.fromkeys(task.period_us)]
    by_period = dict(zip(dict.fromkeys(task.period_us), classical, strict=True))
    made = []
    for row, gated in enumerate(task.gated):
        period_us = float(task.period_us[row])
        try:
            picks = model.pick(gated), by_period[period_us].pick(gated)
        except InputError as error:
            raise InputError(f"{task.file}, row {row}: {error.what}", error.next_step) from error
        made.append(Proposal(row, _kind(*picks, period_us, confidence), *picks, period_us))
        advance()
    return sorted(made, key=lambda each: each.rank)


def _kind(model: Pick, classical: Pick, period_us: float, confidence: float) -> str:
    if model.tof_us is None or classical.tof_us is None:
        return "none" if model.tof_us is classical.tof_us else "one"
    if abs(model.tof_us - classical.tof_us) > 0.5 * period_us:
        return "apart"
    return "agree" if model.confidence >= confidence else "unsure"


def count_kinds(proposals: Sequence[Proposal]) -> dict[str, int]:
    """How many proposals there are of each kind."""
    return {kind: sum(each.kind == kind for each in proposals) for kind in KINDS}
