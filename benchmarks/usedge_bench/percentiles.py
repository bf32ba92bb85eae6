"""Percentiles of durations, each with the interval that it would lie in were the run made again.

What differs between two runs is mostly no noise of single A-scans: a virtual machine changes its pace within
seconds, and each process lies differently in memory. So runs are cut into rounds, and for an interval rounds
are drawn first (A. C. Davison & D. V. Hinkley, 1997: "Bootstrap Methods and their Application", 3.8).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999}
RESAMPLES = 1000
BLOCK = 25
"""Neighbours that are drawn together: what disturbs one A-scan disturbs those behind it."""
LEAST_BEYOND = 5
"""With fewer values beyond a percentile, drawing them again says nothing about it."""
CONFIDENCE = 0.95
CHUNK = 1 << 21
AGREE = 0.1
"""A run is unstable where another one's p50 may lie further than this from its own, as a part of it."""
BEYOND = 3.0
"""The same, above which no interval is told."""

Floats = NDArray[np.float64]


def rank(n: int, share: float) -> int:
    """Index, among ``n`` sorted values, of the least one that ``share`` of them do not exceed."""
    return min(max(math.ceil(share * n - 1e-9) - 1, 0), n - 1)


def summary(values: ArrayLike, seed: int, unit: str = "us", rounds: int = 1) -> dict[str, Any]:
    """p50, p90, p99, p99.9 and max of ``values (n,)``, in the order that they were measured in.

    Infinite values are those that never came, and a percentile among them is None. ``ci95_<unit>`` has the
    95 % interval of each percentile, None where fewer than LEAST_BEYOND values lie beyond it: bootstrap of
    blocks (H. R. Künsch, 1989: "The jackknife and the bootstrap for general stationary observations"),
    the same for the same ``seed``. Of ``rounds`` in equal parts it is that of another run's percentile.
    """
    x = np.asarray(values, np.float64)
    if not len(x):
        return {**dict.fromkeys(f"{name}_{unit}" for name in (*SHARES, "max")), f"ci95_{unit}": {}, "n": 0}
    ordered = np.sort(x)
    found = {name: _finite(ordered[rank(len(x), share)]) for name, share in SHARES.items()}
    found["max"] = _finite(ordered[-1])
    ends = intervals(x, list(SHARES.values()), seed, rounds)
    return {**{f"{name}_{unit}": value for name, value in found.items()},
            f"ci95_{unit}": dict(zip(SHARES, ends, strict=True)), "n": len(x)}


def intervals(values: Floats, shares: Sequence[float], seed: int, rounds: int = 1
              ) -> list[list[float | None] | None]:
    """The 95 % interval of each percentile of ``values (n,)``, ``shares`` in 0..1, as ``summary`` has it."""
    n = len(values)
    trusted = [min(share, 1 - share) * n >= LEAST_BEYOND for share in shares]
    if not any(trusted):
        return [None] * len(shares)
    places = [rank(n, share) for share in shares]
    parts = redrawn(values, BLOCK, np.random.default_rng(seed), rounds)
    drawn = np.sort(np.concatenate([_at(part, places, n) for part in parts]), axis=0)
    tail = (1 - CONFIDENCE) / 2
    ends = drawn[[rank(RESAMPLES, tail), rank(RESAMPLES, 1 - tail)]]
    if rounds > 1:  # the other run's percentile varies as much as this one's: variances add
        ends = widened(ends, np.sort(values)[places], math.sqrt(2.0) * few_rounds(rounds))
    return [[_finite(low), _finite(high)] if sure else None
            for low, high, sure in zip(*ends, trusted, strict=True)]


def _at(drawn: Floats, places: Sequence[int], n: int) -> Floats:
    """The percentiles of each row; rows of whole rounds may be a few values shorter than ``n``."""
    ordered = np.sort(drawn, axis=1)
    return ordered[:, [min(place * ordered.shape[1] // n, ordered.shape[1] - 1) for place in places]]


def widened(ends: Floats, middle: Floats, by: float) -> Floats:
    """``ends`` (2, k) ``by`` times as far from ``middle (k,)``, as quotients; infinite ends stay."""
    with np.errstate(invalid="ignore", divide="ignore"):
        quotients = ends / middle
        return np.where(np.isfinite(quotients) & (quotients > 0), middle * quotients**by, ends)


def few_rounds(rounds: int) -> float:
    """By how much an interval drawn from so many rounds is too short: they show less than the whole spread.

    Student's t over the normal quantile, and the spread's own bias (T. C. Hesterberg, 2015: "What Teachers
    Should Know About the Bootstrap", 4.1.2).
    """
    if rounds < 2:
        return 1.0
    z, nu = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2), rounds - 1
    # M. Abramowitz & I. A. Stegun, 1964: "Handbook of Mathematical Functions", 26.7.5
    t = z + (z**3 + z) / (4 * nu) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * nu**2)
    return t / z * math.sqrt(rounds / nu)


def disagreement(what: str, told: dict[str, Any], values: ArrayLike, rounds: int) -> list[str]:
    """Why the p50 of ``what`` may differ in another run, by its ``summary`` over ``rounds``, and what to do;
    nothing where the rounds agree.
    """
    middle, ends = told["p50_us"], told["ci95_us"].get("p50")
    if rounds < 2 or middle is None or ends is None or None in ends:
        return []
    apart = max(ends[1] / middle, middle / ends[0]) - 1.0
    if apart <= AGREE:
        return []
    medians = [float(np.median(part)) for part in np.array_split(np.asarray(values, np.float64), rounds)]
    other = f"may give {ends[0]:,.0f} to {ends[1]:,.0f}" if apart < BEYOND else "may give anything"
    return [f"the {rounds} rounds disagree: {what} p50 from {min(medians):,.0f} to {max(medians):,.0f} µs,"
            f" another run {other}; run again, with nothing beside, under the governor performance, or quote"
            " ratios alone"]


def share_interval(hits: NDArray[np.bool_], seed: int, rounds: int = 1) -> list[float] | None:
    """The 95 % interval of the share of ``hits (n,)`` that are True, every one drawn by itself; of ``rounds``
    in equal parts that of another run's share, since what is late comes in clusters.
    """
    if not len(hits):
        return None
    rng, share = np.random.default_rng(seed), float(hits.mean())
    if rounds > 1:
        parts = redrawn(hits.astype(np.float64), BLOCK, rng, rounds)
        drawn = np.sort(np.concatenate([part.mean(axis=1) for part in parts]))
    else:
        # The share of n draws with replacement is a binomial count over n: no need to draw one by one.
        drawn = np.sort(rng.binomial(len(hits), share, RESAMPLES) / len(hits))
    tail = (1 - CONFIDENCE) / 2
    ends = drawn[[rank(RESAMPLES, tail), rank(RESAMPLES, 1 - tail)]]
    if rounds > 1 and share > 0:
        ends = widened(ends, np.array(share), math.sqrt(2.0) * few_rounds(rounds))
    return [round(float(min(end, 1.0)), 5) for end in ends]


def redrawn(values: Floats, block: int, rng: np.random.Generator, rounds: int = 1,
            which: NDArray[np.int64] | None = None) -> Iterator[Floats]:
    """RESAMPLES rows of ``values (n,)``, drawn in blocks of at most ``block`` neighbours, in parts that fit
    the memory of a small board.

    Of ``rounds`` in equal parts, rounds are drawn first and blocks within each; ``which`` (RESAMPLES, rounds)
    are those to take, for two that were measured in the same rounds.
    """
    rounds = rounds if len(values) >= 4 * rounds else 1
    n = len(values) // rounds
    block = max(1, min(block, n // 4))
    rows = max(1, CHUNK // len(values))
    if which is None or which.shape[1] != rounds:
        which = drawn_rounds(rounds, rng)
    for begin in range(0, RESAMPLES, rows):
        taken = which[begin : begin + rows]
        starts = rng.integers(0, n - block + 1, (*taken.shape, -(-n // block), 1))
        index = (starts + np.arange(block)).reshape(*taken.shape, -1)[:, :, :n] + taken[:, :, None] * n
        yield values[index.reshape(len(taken), -1)]


def drawn_rounds(rounds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which rounds make up each resample, (RESAMPLES, rounds)."""
    return rng.integers(0, rounds, (RESAMPLES, rounds))


def _finite(value: float) -> float | None:
    return round(float(value), 2) if math.isfinite(value) else None
