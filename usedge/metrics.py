"""How well ToF predictions fit their labels: one metric code for every method, learned or classical."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usedge.errors import InputError

NEAR_PERIODS = 8.0
"""Errors beyond this many periods are gross misses and have no part in the bias."""

Scores = dict[str, float | None]


def score(tof_s: ArrayLike, label_s: ArrayLike, f0_hz: ArrayLike) -> Scores:
    """The figures of one method on one file, by the keys of `usedge evaluate --json`.

    ``tof_s (n,)`` are the predictions (not finite = no answer), ``label_s (n,)`` the truth (NaN = no echo in
    the gate), both in s after the main bang; ``f0_hz (n,)`` or one number gives the period of the hits.

    ``hit_half_period``, ``hit_one_period``: fractions of ALL echo gates within half a period and one of the
    label after ``bias_ns``, the median error under 8 periods, is taken off, since methods mark different
    points of an echo; ``raw_hit_half_period``: without that. A gate without an answer is never a hit.
    ``median_abs_ns``, ``p95_abs_ns``: |error − bias| over the echo gates with an answer. ``abstain_rate``:
    fraction of the echo gates without an answer, ``false_alarm_rate``: of the empty gates with one.
    A figure over no gates is None, and so is the bias when no error is under 8 periods.
    Raises InputError for arrays that do not match or a frequency that is not positive.
    """
    predicted, label, period = _matched(tof_s, label_s, f0_hz)
    echo, answered = np.isfinite(label), np.isfinite(predicted)
    error, period = (predicted - label)[echo & answered], period[echo & answered]
    near = error[np.abs(error) < NEAR_PERIODS * period]
    bias = float(np.median(near)) if near.size else None
    rest = np.abs(error - (bias or 0.0))
    n_echo = int(echo.sum())
    return {
        "hit_half_period": _fraction(rest <= 0.5 * period, n_echo),
        "hit_one_period": _fraction(rest <= period, n_echo),
        "raw_hit_half_period": _fraction(np.abs(error) <= 0.5 * period, n_echo),
        "bias_ns": None if bias is None else bias * 1e9,
        "median_abs_ns": float(np.median(rest)) * 1e9 if rest.size else None,
        "p95_abs_ns": float(np.percentile(rest, 95)) * 1e9 if rest.size else None,
        "abstain_rate": _fraction(~answered[echo], n_echo),
        "false_alarm_rate": _fraction(answered[~echo], len(label) - n_echo),
    }


def _matched(tof_s: ArrayLike, label_s: ArrayLike, f0_hz: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    """The three inputs as (n,) arrays, the last turned into periods in s."""
    predicted, label = np.asarray(tof_s, np.float64), np.asarray(label_s, np.float64)
    if predicted.ndim != 1 or predicted.shape != label.shape:
        raise InputError(f"predictions {predicted.shape} do not match labels {label.shape}.")
    f0 = np.asarray(f0_hz, np.float64)
    if f0.shape not in ((), label.shape) or not np.all((f0 > 0) & np.isfinite(f0)):
        raise InputError(f"centre frequencies {f0} are not positive, or not one for each of {len(label)}.")
    return predicted, label, np.broadcast_to(1.0 / f0, label.shape)


def _fraction(hits: NDArray[np.bool_], of: int) -> float | None:
    return float(hits.sum()) / of if of else None
