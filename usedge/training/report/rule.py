"""When a difference between trials is taken for real, and what follows for a claim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from usedge.training.ablate import SCORES
from usedge.training.grid import Trial
from usedge.training.report.select import Run, Runs

HOLDS, FAILS, UNDECIDED, NOT_RUN = "holds", "does not hold", "not decided", "not run"
SHARES = ("top1", "within_patch", "hit_half_period", "hit_one_period", "accuracy")
"""Scores that are shares of the test A-scans, and so have a sampling error."""
STUDENT_T = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)
"""One-sided 95 % quantile for 1, 2, … degrees of freedom; beyond 10 the last one, on the safe side."""
NORMAL_95 = 1.645
RULE = (
    "A difference is taken seed by seed, over the seeds that both sides have: the same seed draws the same"
    " A-scans to learn from. It counts when its mean over n seeds is larger than both (a) Student's t"
    " (one-sided, 95 %) × its standard deviation / √n, which is 4.5 standard deviations for two seeds, 1.7"
    " for three and 1.0 for five; and (b), for shares of the test A-scans, 1.64 × the binomial error of the"
    " difference, since all seeds are tested on the same A-scans. (b) takes both sides as independent, which"
    " is cautious. A claim holds when all its comparisons do, and fails with the first that is decided"
    " against it. One seed decides nothing. Few seeds are few: the standard deviation of three is itself"
    " uncertain by half, and of twenty true ties (a) lets about one pass as won and one as lost.")


@dataclass(frozen=True, slots=True)
class Contrast:
    """A weighted sum of one score over trials, expected above zero; None is a trial that no study has."""

    text: str
    score: str
    terms: tuple[tuple[float, Trial | None], ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a contrast came to over ``n`` seeds, how large it has to be, and the mean of each term's score."""

    contrast: Contrast
    verdict: str
    means: tuple[float, ...] = ()
    difference: float = 0.0
    deviation: float | None = None
    n: int = 0
    needed: float | None = None

    def numbers(self) -> str:
        """The comparison in figures."""
        if self.verdict == NOT_RUN:
            return f"{self.contrast.text}: not run"
        digits = 3 if self.contrast.score in SHARES or "explained" in self.contrast.score else 4
        sides = " vs ".join(f"{mean:.{digits}f}" for mean in self.means) if len(self.means) == 2 else ""
        change = f"{self.difference:+.{digits}f}"
        if self.deviation is None or self.needed is None:
            spread = "n = 1, no spread"
        else:
            spread = f"± {self.deviation:.{digits}f}, n = {self.n}, needs {self.needed:.{digits}f}"
        return f"{self.contrast.text}: {sides + ', ' if sides else ''}{change} ({spread}): {self.verdict}"


def weigh(contrast: Contrast, runs: Runs, budget: float | None) -> Outcome:
    """The verdict on one contrast at one budget."""
    assert contrast.score in SCORES
    if budget is None or any(trial is None for _, trial in contrast.terms):
        return Outcome(contrast, NOT_RUN)
    found = [(weight, _scored(runs.of(trial, budget), contrast.score))
             for weight, trial in contrast.terms if trial is not None]
    seeds = sorted(set.intersection(*(set(by_seed) for _, by_seed in found)))
    if not seeds:
        return Outcome(contrast, NOT_RUN)
    values = [sum(weight * by_seed[seed].scores[contrast.score] for weight, by_seed in found)
              for seed in seeds]
    means = tuple(fmean(by_seed[seed].scores[contrast.score] for seed in seeds) for _, by_seed in found)
    mean, n = fmean(values), len(values)
    if n == 1:
        return Outcome(contrast, UNDECIDED, means, mean, None, n)
    deviation = stdev(values)
    needed = max(STUDENT_T[min(n - 1, len(STUDENT_T)) - 1] * deviation / math.sqrt(n),
                 _sampling(contrast, [by_seed[seeds[0]] for _, by_seed in found], means))
    verdict = UNDECIDED if abs(mean) <= needed else HOLDS if mean > 0 else FAILS
    return Outcome(contrast, verdict, means, mean, deviation, n, needed)


def _scored(by_seed: dict[int, Run], score: str) -> dict[int, Run]:
    return {seed: run for seed, run in by_seed.items() if score in run.scores}


def _sampling(contrast: Contrast, some: Sequence[Run], means: Sequence[float]) -> float:
    """1.64 binomial errors of the contrast, 0 where the score is no share."""
    if contrast.score not in SHARES:
        return 0.0
    variances = (weight**2 * mean * (1 - mean) / max(run.scores.get("test_ascans", 1.0), 1.0)
                 for (weight, _), run, mean in zip(contrast.terms, some, means, strict=True))
    return NORMAL_95 * math.sqrt(sum(variances))


def together(outcomes: Sequence[Outcome]) -> str:
    """The verdict on a claim that needs all of ``outcomes``: one that fails decides it, whatever the rest."""
    verdicts = [outcome.verdict for outcome in outcomes]
    for verdict in (FAILS, NOT_RUN, UNDECIDED):
        if verdict in verdicts:
            return verdict
    return HOLDS if verdicts else NOT_RUN


def reason(verdict: str, outcomes: Sequence[Outcome]) -> str:
    """The verdict with why, where it is not plain."""
    if verdict == UNDECIDED:
        alone = all(outcome.n == 1 for outcome in outcomes if outcome.verdict == UNDECIDED)
        return f"{verdict}: one seed has no spread" if alone else f"{verdict}: the spreads overlap"
    if verdict == NOT_RUN and any(outcome.verdict != NOT_RUN for outcome in outcomes):
        missing = sum(outcome.verdict == NOT_RUN for outcome in outcomes)
        return f"{verdict}: {missing} of {len(outcomes)} comparisons"
    return verdict
