"""Which rows of a table belong to which study: at one budget, seed by seed, and what is missing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from usedge.errors import InputError
from usedge.training.ablate import FIGURES, SCORES, read_table
from usedge.training.grid import ONCE, STUDIES, Trial

REFERENCES: dict[str, tuple[str, dict[str, Any]]] = {
    "blur": ("variants", {"method": "mae", "probe": False}),
    "sigma": ("variants", {"method": "mae", "probe": False}),
}
"""Study → the trial of another study that stands beside its own: what no blur gives."""


@dataclass(frozen=True, slots=True)
class Run:
    """One row: ``scores`` holds its numbers, of those that it has; ``about`` is where it ran."""

    key: str
    seed: int
    budget: float
    scores: dict[str, float]
    about: dict[str, str]


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean over ``n`` seeds and sample standard deviation, None where one seed has none."""

    mean: float
    deviation: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """The spread of ``values``; None of none."""
        if not values:
            return None
        return cls(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


class Runs:
    """All rows of a table, found by trial and budget.

    Of rows with the same trial and budget the first counts; ``repeated`` is how many more there are.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self._by: dict[tuple[str, float], Run] = {}
        self.repeated = 0
        for run in runs:
            if (run.key, run.budget) in self._by:
                self.repeated += 1
            else:
                self._by[run.key, run.budget] = run
        self.all = list(self._by.values())
        self.seeds = sorted({run.seed for run in self.all})
        self.budgets = sorted({run.budget for run in self.all})

    def of(self, trial: Trial, budget: float) -> dict[int, Run]:
        """Seed → the run of ``trial`` with that seed."""
        found = ((seed, self._by.get((replace(trial, seed=seed).key(), budget))) for seed in self.seeds)
        return {seed: run for seed, run in found if run is not None}


def read_runs(path: Path) -> Runs:
    """The table of `usedge ablate`; raises InputError for another file, an empty one, or an odd value."""
    rows = read_table(path)
    if not rows:
        raise InputError(f"{path} holds no trials yet.", "Run some: usedge ablate.")
    return Runs(_run(path, i, row) for i, row in enumerate(rows, 2))


def _run(path: Path, line: int, row: dict[str, str | None]) -> Run:
    def number(name: str, text: str | None) -> float:
        try:
            return float(text or "")
        except ValueError:
            raise InputError(f"{path}, line {line}: {name} is {text!r}, not a number.",
                             "Remove that row; usedge ablate runs the trial again.") from None

    scores = {name: number(name, row[name]) for name in (*SCORES, *FIGURES) if row[name] != ""}
    about = {name: row[name] or "unknown" for name in ("usedge", "torch", "host")}
    return Run(row["key"] or "", int(number("seed", row["seed"])), number("budget", row["budget"]),
               {name: value for name, value in scores.items() if math.isfinite(value)}, about)


@dataclass(frozen=True, slots=True)
class Cell:
    """A trial of a study and its runs by seed; ``reference`` where it is borrowed from another study."""

    trial: Trial
    runs: dict[int, Run]
    reference: bool = False

    def spread(self, score: str) -> Spread | None:
        """Mean and deviation of a score over the seeds that have it."""
        return Spread.of([run.scores[score] for run in self.runs.values() if score in run.scores])


@dataclass(frozen=True, slots=True)
class Study:
    """The trials of one study at one budget; None where the table has no row of it."""

    name: str
    about: str
    budget: float | None
    cells: list[Cell]

    @property
    def own(self) -> list[Cell]:
        """Its own trials."""
        return [cell for cell in self.cells if not cell.reference]

    @property
    def seeds(self) -> list[int]:
        """The seeds of its own runs."""
        return sorted({seed for cell in self.own for seed in cell.runs})

    @property
    def not_run(self) -> list[Cell]:
        """Trials without any row."""
        return [cell for cell in self.own if not cell.runs]

    @property
    def short(self) -> dict[Trial, list[int]]:
        """Trials that lack some of the study's seeds, and which."""
        lacking = {cell.trial: [seed for seed in self.seeds if seed not in cell.runs] for cell in self.own
                   if cell.runs}
        return {trial: seeds for trial, seeds in lacking.items() if seeds}

    @property
    def once(self) -> bool:
        """Whether it is for tuning, with one seed only."""
        return self.name in ONCE

    def has(self, score: str) -> bool:
        """Whether any of its runs has that score."""
        return any(score in run.scores for cell in self.cells for run in cell.runs.values())


def find(study: str, **fields: Any) -> Trial | None:
    """The first trial of ``study`` with these fields; None where it has no such trial."""
    return next((trial for trial in STUDIES[study][1]()
                 if all(getattr(trial, name) == value for name, value in fields.items())), None)


def study_trials(study: str) -> list[Trial]:
    """The trials of ``study``, each once."""
    return list(dict.fromkeys(STUDIES[study][1]()))


def best_budget(runs: Runs, trials: Sequence[Trial]) -> float | None:
    """The budget with the most rows of ``trials``, the largest of several; None without any row."""
    rows = Counter({budget: sum(len(runs.of(trial, budget)) for trial in trials) for budget in runs.budgets})
    most, budget = max((count, budget) for budget, count in rows.items())
    return budget if most else None


def studies_of(runs: Runs, budget: float | None = None) -> dict[str, Study]:
    """Every study, at ``budget`` or at the best one of each; raises InputError for a budget without rows."""
    if budget is not None and budget not in runs.budgets:
        known = ", ".join(f"{each:g}" for each in runs.budgets)
        raise InputError(f"the table has no row of budget {budget:g}.", f"It has: {known}.")
    return {name: _study(runs, name, budget) for name in STUDIES}


def _study(runs: Runs, name: str, budget: float | None) -> Study:
    trials = study_trials(name)
    best = best_budget(runs, trials)
    chosen = best if budget is None or best is None else budget
    if chosen is not None and not any(runs.of(trial, chosen) for trial in trials):
        chosen = None
    cells = [Cell(trial, {} if chosen is None else runs.of(trial, chosen)) for trial in trials]
    if name in REFERENCES and (trial := find(REFERENCES[name][0], **REFERENCES[name][1])):
        cells.insert(0, Cell(trial, {} if chosen is None else runs.of(trial, chosen), reference=True))
    return Study(name, STUDIES[name][0], chosen, cells)


def elsewhere(runs: Runs, studies: dict[str, Study]) -> tuple[int, int]:
    """How many rows are shown in no study: those of its trials at other budgets, and those of no trial."""
    keys = {replace(cell.trial, seed=seed).key() for study in studies.values() for cell in study.cells
            for seed in runs.seeds}
    shown = {(run.key, run.budget) for study in studies.values() for cell in study.cells
             for run in cell.runs.values()}
    left = [run for run in runs.all if (run.key, run.budget) not in shown]
    known = sum(run.key in keys for run in left)
    return known, len(left) - known
