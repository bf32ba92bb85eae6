"""The page itself: report.md, laid together from tables and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from usedge.training.report.claims import Judged
from usedge.training.report.rule import FAILS, HOLDS, NOT_RUN, RULE, UNDECIDED
from usedge.training.report.select import Runs, Study
from usedge.training.report.tables import claims_table, coverage, facts, nothing_text, study_table
from usedge.training.report.words import alike

FIGURE_OF = {"labels": "labels-"}
"""Study → the beginning of its figures' names, where that is not its own name and a dot."""
NOTES = {
    "labels": "Every method takes the same number of steps at every share of the labels, so fewer labels are"
              " seen more often; each method at its own rate, from the study \"rates\". At 0 % the whole"
              " network is untrained, with or without pretraining.",
    "patch": "A class is a patch, so the exact class and \"within one patch\" ask more of smaller patches;"
             " within half a period and within one, and the median error, are alike for all.",
    "targets": "Without RF among the targets there is no reconstruction to score.",
    "length": "The A-scans that pretraining sees are drawn from the same 48,000.",
    "transfer": "Classes: no echo, sound, defect (synthetic plates).",
    "domain": "The preset field stands in for recorded A-scans.",
    "variants": "Frozen: the encoder is kept as it is and the head alone is trained; from scratch that is a"
                " random encoder.",
}


def page(table_name: str, runs: Runs, studies: dict[str, Study], judged: Sequence[Judged],
         figures: Iterable[str]) -> list[str]:
    """The paragraphs on the table: what was run, the claims, and every study."""
    figures = list(figures)
    parts = ["# What the ablations measured",
             f"Written by `usedge report` from `{table_name}`, all of it; do not edit. A figure is the mean ±"
             " the sample standard deviation over seeds, in tables and plots alike; with one seed there is"
             " no spread, and its mark in a plot is hollow.",
             "## What was run", facts(runs, studies), _budget_note(runs), coverage(studies),
             "## What the papers say, and what we measured", RULE, _tally(judged), claims_table(judged)]
    for study in studies.values():
        parts += _study_parts(study, figures, runs)
    return parts


def _budget_note(runs: Runs) -> str:
    span = " and ".join(f"{budget:g}" for budget in runs.budgets)
    if min(runs.budgets) >= 1:
        return "Budget 1 is the number of A-scans of arXiv 2508.20622: 48,000 for 200 epochs."
    return ("Budget 1 is the number of A-scans of arXiv 2508.20622, 48,000 for 200 epochs; here it is"
            f" {span}. Verdicts are on the budget that was run: what holds there need not hold at 1, nor the"
            " other way round.")


def _tally(judged: Sequence[Judged]) -> str:
    count = Counter(each.verdict for each in judged)
    said = ", ".join(f"{verdict}: {count[verdict]}" for verdict in (HOLDS, FAILS, UNDECIDED, NOT_RUN))
    return f"{len(judged)} claims, each at the budget of its study. {said.capitalize()}."


def _study_parts(study: Study, figures: Sequence[str], runs: Runs) -> list[str]:
    parts = [f"## {study.name}: {study.about}"]
    if study.budget is None:
        return [*parts, f"Not run. Run it: `{_command(study, runs)}`."]
    common = alike([cell.trial for cell in study.cells])
    parts.append(f"Budget {study.budget:g}." + (f" Alike in all: {common}." if common else ""))
    if study.once:
        parts.append("One seed, for tuning alone: it chose the rates of the other studies, and decides no"
                     " claim.")
    parts += [note for note in (NOTES.get(study.name, ""), nothing_text(study)) if note]
    prefix = FIGURE_OF.get(study.name, f"{study.name}.")
    parts += [f"![{study.about}]({name})" for name in figures if name.startswith(prefix)]
    parts.append(study_table(study))
    if study.not_run or study.short:
        parts.append(f"Not complete. What lacks: `{_command(study, runs)}`.")
    return parts


def _command(study: Study, runs: Runs) -> str:
    budget = study.budget or max(runs.budgets)
    seeds = max((seed for seed in runs.seeds if seed < 1000), default=2) + 1
    return f"usedge ablate {study.name} --budget {budget:g} --seeds {max(seeds, len(study.seeds))}"


def without_pictures(table_name: str) -> list[str]:
    """What stands in the place of pictures when no checkpoint was given."""
    return ["## Reconstructions and attention",
            "Left out: they need a pretrained checkpoint. Add them, on recorded A-scans too:"
            f" `usedge report {table_name} --pretrained FOLDER --ascans FILE.npz`."]


def with_pictures(reconstructions: Sequence[tuple[str, str]], attention: str, recorded: Sequence[Path],
                  table_name: str) -> list[str]:
    """Reconstructions, and attention with its measures."""
    parts = ["## Reconstructions",
             "Shaded patches were removed: the encoder saw the black ones alone. Amplitudes are as the model"
             " gets them (noise-scaled asinh); an envelope is the log energy of parts of a patch."]
    for name, caption in reconstructions:
        parts += [caption, f"![{caption.partition('.')[0]}]({name})"]
    if not recorded:
        parts.append(f"Recorded A-scans were left out; add them:"
                     f" `usedge report {table_name} --pretrained FOLDER --ascans FILE.npz`.")
    return [*parts, "## Attention",
            "Open question 3 of arXiv 2508.20622 asks whether the encoder looks at the whole A-scan or at its"
            " nearest patches, as interpolation would. All patches are visible here, as they are downstream;"
            " in pretraining most are not. Attention shows where a token looks, not what it takes from there:"
            " a share within ±1 token far over the uniform one speaks for local windows, one close to it"
            " against them, and neither is proof. Most patches hold noise and decide the mean over all; so"
            " those with at least a tenth of the loudest one's energy, the echo, are given by themselves.",
            attention, "![Share of attention by distance](attention-distance.png)",
            "One A-scan, each layer's mean over its heads:", "![Attention maps](attention-maps.png)"]
