"""How well ToF predictions fit their labels: one metric code for every method, learned or classical."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usedge.errors import InputError

NEAR_PERIODS = 8.0
"""Errors beyond this many periods are gross misses and have no part in the bias."""
CALIBRATION_BINS = 10
"""Equal-width bins of confidence, 0 to 1."""
NORMAL_P20 = 0.2533
"""20th percentile of |x| of Gaussian noise of rms 1: echoes in less than half of a gate hardly move it."""
QUANTISATION_RMS = 1.0 / math.sqrt(12.0)
"""Noise rms that rounding to whole counts adds, in counts: no receiver is quieter."""

Scores = dict[str, float | None]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Outcomes:
    """What became of each gate, all fields (n,); gates of several files can be joined, each with its bias.

    ``echo``: the gate holds one; ``answered``: it got an answer; ``error_s`` answer − label (NaN where either
    is missing), ``bias_s`` what is taken off it, 0 where there is none, ``period_s``; ``confidence`` in 0..1,
    NaN where the method gives none.
    """

    echo: BoolArray
    answered: BoolArray
    error_s: FloatArray
    bias_s: FloatArray
    period_s: FloatArray
    confidence: FloatArray

    def __len__(self) -> int:
        return len(self.echo)

    @property
    def off_periods(self) -> FloatArray:
        """Error after the bias, in periods (n,); NaN without an answer or an echo."""
        return (self.error_s - self.bias_s) / self.period_s

    def hits(self, periods: float) -> BoolArray:
        """Which gates (n,) have an answer within ``periods`` of the label, the bias taken off."""
        return np.abs(self.error_s - self.bias_s) <= periods * self.period_s

    def select(self, chosen: BoolArray) -> Outcomes:
        """The gates where ``chosen (n,)`` is True."""
        return Outcomes(**{each.name: getattr(self, each.name)[chosen] for each in fields(self)})

    @staticmethod
    def join(parts: Sequence[Outcomes]) -> Outcomes:
        """All gates of ``parts`` in one."""
        return Outcomes(**{each.name: np.concatenate([getattr(part, each.name) for part in parts])
                           for each in fields(Outcomes)})


def judge(tof_s: ArrayLike, label_s: ArrayLike, f0_hz: ArrayLike, confidence: ArrayLike = np.nan) -> Outcomes:
    """What became of each gate of ONE file, whose bias is the median error under NEAR_PERIODS periods.

    ``tof_s (n,)`` are the predictions (not finite = no answer), ``label_s (n,)`` the truth (NaN = no echo in
    the gate), both in s after the main bang; ``f0_hz (n,)`` or one number gives the period of the hits,
    ``confidence (n,)`` or one number. Raises InputError for arrays that do not match or a frequency that is
    not positive.
    """
    predicted, label, period = _matched(tof_s, label_s, f0_hz)
    echo, answered = np.isfinite(label), np.isfinite(predicted)
    error = np.full(len(label), np.nan)
    error[echo & answered] = (predicted - label)[echo & answered]
    near = error[np.abs(error) < NEAR_PERIODS * period]
    bias = float(np.median(near)) if near.size else 0.0
    sure = np.broadcast_to(np.asarray(confidence, np.float64), label.shape)
    return Outcomes(echo, answered, error, np.full(len(label), bias), period, sure)


def score(tof_s: ArrayLike, label_s: ArrayLike, f0_hz: ArrayLike) -> Scores:
    """The figures of one method on one file, from what ``judge`` is given: see ``file_scores``."""
    return file_scores(judge(tof_s, label_s, f0_hz))


def file_scores(outcomes: Outcomes) -> Scores:
    """The figures of one method on one file, by the keys of `usedge evaluate --json`.

    ``hit_half_period``, ``hit_one_period``: fractions of ALL echo gates within half a period and one of the
    label after ``bias_ns``, the median error under 8 periods, is taken off, since methods mark different
    points of an echo; ``raw_hit_half_period``: without that. A gate without an answer is never a hit.
    ``median_abs_ns``, ``p95_abs_ns``: |error − bias| over the echo gates with an answer. ``abstain_rate``:
    fraction of the echo gates without an answer, which detection calls ``miss_rate``; ``false_alarm_rate``:
    fraction of the empty gates with one.
    A figure over no gates is None, and so is the bias when no error is under 8 periods.
    """
    error, period = outcomes.error_s, outcomes.period_s
    rest = np.abs(error - outcomes.bias_s)
    rest = rest[np.isfinite(rest)]
    near = bool((np.abs(error) < NEAR_PERIODS * period).any())
    n_echo = int(outcomes.echo.sum())
    pooled = pooled_scores(outcomes)
    return {
        "hit_half_period": pooled["hit_half_period"],
        "hit_one_period": pooled["hit_one_period"],
        "raw_hit_half_period": _fraction(np.abs(error) <= 0.5 * period, n_echo),
        "bias_ns": float(outcomes.bias_s[0]) * 1e9 if near else None,
        "median_abs_ns": float(np.median(rest)) * 1e9 if rest.size else None,
        "p95_abs_ns": float(np.percentile(rest, 95)) * 1e9 if rest.size else None,
        "abstain_rate": pooled["miss_rate"],
        "miss_rate": pooled["miss_rate"],
        "false_alarm_rate": pooled["false_alarm_rate"],
    }


def pooled_scores(outcomes: Outcomes) -> Scores:
    """Hits, misses and false alarms over gates that may come from several files; None over no gates."""
    echo, answered = outcomes.echo, outcomes.answered
    n_echo = int(echo.sum())
    return {
        "hit_half_period": _fraction(outcomes.hits(0.5), n_echo),
        "hit_one_period": _fraction(outcomes.hits(1.0), n_echo),
        "miss_rate": _fraction(echo & ~answered, n_echo),
        "false_alarm_rate": _fraction(~echo & answered, len(echo) - n_echo),
    }


def calibration(outcomes: Outcomes, bins: int = CALIBRATION_BINS) -> dict[str, Any]:
    """How far confidence is the probability of a hit: ``ece`` and the table ``reliability``.

    Over the echo gates with an answer and a confidence, in ``bins`` equal-width bins ((m−1)/M, m/M]:
    ECE = Σ |B_m| / n · |acc(B_m) − conf(B_m)|, acc the share of hits within half a period, conf the mean
    confidence of bin m (Guo et al. 2017, arXiv 1706.04599, eq. 3). A row of ``reliability`` for each bin:
    ``from``, ``to``, ``n``, ``confidence``, ``hit_half_period`` (None in an empty bin). ``ece`` is None over
    no gates.
    """
    chosen = outcomes.echo & outcomes.answered & np.isfinite(outcomes.confidence)
    sure, hit = outcomes.confidence[chosen], outcomes.hits(0.5)[chosen]
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    rows: list[dict[str, Any]] = []
    gap = 0.0
    for m in range(bins):
        inside = place == m
        n = int(inside.sum())
        conf, acc = (float(sure[inside].mean()), float(hit[inside].mean())) if n else (None, None)
        gap += n * abs((acc or 0.0) - (conf or 0.0))
        rows.append({"from": m / bins, "to": (m + 1) / bins, "n": n, "confidence": conf,
                     "hit_half_period": acc})
    return {"ece": gap / len(sure) if len(sure) else None, "reliability": rows}


def gate_snr_db(samples: NDArray[Any], label: float, period: float) -> float:
    """SNR of a gate in dB: the peak of its echo over the noise rms, both in counts off the gate's median.

    ``samples (n,)`` counts, ``label`` and ``period`` in samples from the first. The peak is max|x| from 2
    periods before the label to NEAR_PERIODS after it; without an echo (NaN) that of the whole gate: how far
    the loudest thing in it stands out. The noise rms is the 20th percentile of |x| over that of Gaussian
    noise, at least that of rounding to counts: an echo that fills half the gate hardly moves it. That is
    the noise floor, coda and later echoes left out as far as they leave a fifth of the gate free.
    """
    magnitude = np.abs(samples.astype(np.float64) - np.median(samples))
    noise = max(float(np.percentile(magnitude, 20)) / NORMAL_P20, QUANTISATION_RMS)
    if np.isfinite(label):
        around = slice(max(int(label - 2 * period), 0), max(int(label + NEAR_PERIODS * period) + 1, 1))
        magnitude = magnitude[around]
    return 20.0 * math.log10(max(float(magnitude.max(initial=0.0)), QUANTISATION_RMS) / noise)


def _matched(tof_s: ArrayLike, label_s: ArrayLike, f0_hz: ArrayLike) -> tuple[FloatArray, ...]:
    """The three inputs as (n,) arrays, the last turned into periods in s."""
    predicted, label = np.asarray(tof_s, np.float64), np.asarray(label_s, np.float64)
    if predicted.ndim != 1 or predicted.shape != label.shape:
        raise InputError(f"predictions {predicted.shape} do not match labels {label.shape}.")
    f0 = np.asarray(f0_hz, np.float64)
    if f0.shape not in ((), label.shape) or not np.all((f0 > 0) & np.isfinite(f0)):
        raise InputError(f"centre frequencies {f0} are not positive, or not one for each of {len(label)}.")
    return predicted, label, np.broadcast_to(1.0 / f0, label.shape)


def _fraction(hits: BoolArray, of: int) -> float | None:
    return float(hits.sum()) / of if of else None
