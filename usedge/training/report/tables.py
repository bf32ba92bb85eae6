"""The tables of the report: what was run, each study, and the claims."""

from __future__ import annotations

from collections.abc import Sequence

from usedge.training.report.claims import Judged
from usedge.training.report.rule import reason
from usedge.training.report.select import Cell, Runs, Study, elsewhere
from usedge.training.report.words import (
    FIELDS,
    SCORES,
    count_text,
    field_text,
    listed,
    spread_text,
    table,
    trial_text,
    varying,
)

TOF = ("top1", "within_patch", "hit_half_period", "hit_one_period", "median_error_samples")
PRESENCE = ("accuracy", "f1_mean")
RECONSTRUCTION = ("mean_abs", "explained", "echo_explained")
SHOWN = {
    "labels": TOF, "variants": TOF, "targets": (*TOF, *RECONSTRUCTION), "mask": (*TOF, *RECONSTRUCTION),
    "patch": (*TOF, *RECONSTRUCTION), "size": ("parameters", *TOF, *RECONSTRUCTION),
    "blur": (*TOF, *RECONSTRUCTION), "sigma": (*TOF, *RECONSTRUCTION), "heads": TOF, "transfer": PRESENCE,
    "domain": TOF, "classical": TOF, "augment": TOF, "decay": TOF, "rates": TOF,
    "length": (*TOF, *RECONSTRUCTION),
}
"""Scores of each study; a study that is not named here shows what it has of all."""


def facts(runs: Runs, studies: dict[str, Study]) -> str:
    """What the table holds: rows, budgets, seeds, A-scans, versions, hosts."""
    about = {name: sorted({run.about[name] for run in runs.all}) for name in ("usedge", "torch", "host")}
    seconds = sum(run.scores.get("pretrain_s", 0) + run.scores.get("finetune_s", 0) for run in runs.all)
    others, strangers = elsewhere(runs, studies)
    rows = [("rows", f"{len(runs.all):,}" + (f" ({runs.repeated} more are repetitions and left out)"
                                             if runs.repeated else "")),
            ("seeds", listed(runs.seeds))]
    for budget in runs.budgets:
        rows.append((f"budget {budget:g}", _ascans(runs, budget)))
    rows += [("computing time", f"{seconds / 3600:.1f} h"), ("host", "; ".join(about["host"])),
             ("usedge", listed(about["usedge"])), ("torch", listed(about["torch"]))]
    if others:
        rows.append(("shown in no study below", f"{others} rows of a study at another budget"))
    if strangers:
        rows.append(("of no study", f"{strangers} rows, of trials that this version does not know"))
    return table(("", "in the table"), rows)


def _ascans(runs: Runs, budget: float) -> str:
    chosen = [run.scores for run in runs.all if run.budget == budget]

    def most(name: str) -> str:
        values = {int(scores[name]) for scores in chosen if scores.get(name)}
        return " or ".join(f"{value:,}" for value in sorted(values)) or "none"

    return (f"{len(chosen):,} rows; A-scans seen: {most('pretrain_ascans')} in pretraining,"
            f" {most('finetune_ascans')} downstream; {most('test_ascans')} to test on")


def coverage(studies: dict[str, Study]) -> str:
    """What was run of each study, and what not."""
    rows = []
    for study in studies.values():
        budget = "–" if study.budget is None else f"{study.budget:g}"
        done = len(study.own) - len(study.not_run)
        rows.append((study.name, f"{done} of {len(study.own)}", budget,
                     str(sum(len(cell.runs) for cell in study.own)), listed(study.seeds),
                     "; ".join(_missing(study)) or "nothing"))
    return table(("study", "trials", "budget", "rows", "seeds", "not run"), rows)


def _missing(study: Study) -> list[str]:
    if not any(cell.runs for cell in study.own):
        return ["all of it"]
    names = varying([cell.trial for cell in study.own])
    found = [trial_text(cell.trial, names) for cell in study.not_run]
    return found + [f"{trial_text(trial, names)}: {'seeds' if len(seeds) > 1 else 'seed'} {listed(seeds)}"
                    for trial, seeds in study.short.items()]


def study_table(study: Study) -> str:
    """Mean ± standard deviation of every trial, trials that were not run included."""
    names = varying([cell.trial for cell in study.cells])
    scores = [name for name in SHOWN.get(study.name, (*TOF, *PRESENCE, *RECONSTRUCTION)) if study.has(name)]
    heads = [*(FIELDS[name] for name in names), "n", *(SCORES[name][0] for name in scores)]
    return table(heads, [_row(cell, names, scores) for cell in study.cells])


def _row(cell: Cell, names: Sequence[str], scores: Sequence[str]) -> list[str]:
    row = [field_text(cell.trial, name) for name in names]
    if cell.reference:
        row[0] += " (for comparison)"
    if not cell.runs:
        return [*row, "not run", *("–" for _ in scores)]
    return [*row, count_text(len(cell.runs)), *(_score(cell, name) for name in scores)]


def _score(cell: Cell, name: str) -> str:
    spread = cell.spread(name)
    if name == "parameters":  # a size, which no seed changes
        return "–" if spread is None else f"{spread.mean:,.0f}"
    text = spread_text(spread, SCORES[name][1])
    return text if spread is None or spread.n == len(cell.runs) else f"{text}, {count_text(spread.n)}"


def nothing_text(study: Study) -> str:
    """The error of predicting zeros, where the study has reconstructions; they differ by seed no more."""
    if "mean_abs" not in SHOWN.get(study.name, RECONSTRUCTION):
        return ""
    values = sorted({f"{run.scores['mean_abs_nothing']:.4f}" for cell in study.cells
                     for run in cell.runs.values() if "mean_abs_nothing" in run.scores})
    if not values:
        return ""
    span = values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}"
    return (f"Reconstruction is of removed patches, full scale being 1: predicting zeros has a mean absolute"
            f" error of {span} there and explains 0.")


def claims_table(judged: Sequence[Judged]) -> str:
    """What the papers say beside what was measured."""
    rows = []
    for each in judged:
        said = f"{each.claim.text} ({each.claim.source})"
        measured = "<br>".join(outcome.numbers() for outcome in each.outcomes)
        note = f"<br>*{each.claim.note}*" if each.claim.note else ""
        rows.append((said, measured + note, f"**{reason(each.verdict, each.outcomes)}**"))
    return table(("what the paper says", "what we measured", "verdict"), rows)
