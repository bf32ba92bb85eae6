"""Percentiles of durations, each with the interval that it would lie in were the run made again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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

Floats = NDArray[np.float64]


def rank(n: int, share: float) -> int:
    """Index, among ``n`` sorted values, of the least one that ``share`` of them do not exceed."""
    return min(max(math.ceil(share * n - 1e-9) - 1, 0), n - 1)


def summary(values: ArrayLike, seed: int, unit: str = "us") -> dict[str, Any]:
    """p50, p90, p99, p99.9 and max of ``values (n,)``, in the order that they were measured in.

    Infinite values are those that never came, and a percentile among them is None. ``ci95_<unit>`` has the
    95 % interval of each percentile, None where fewer than LEAST_BEYOND values lie beyond it: bootstrap of
    blocks (H. R. Künsch, 1989: "The jackknife and the bootstrap for general stationary observations"),
    the same for the same ``seed``.
    """
    x = np.asarray(values, np.float64)
    if not len(x):
        return {**dict.fromkeys(f"{name}_{unit}" for name in (*SHARES, "max")), f"ci95_{unit}": {}, "n": 0}
    ordered = np.sort(x)
    found = {name: _finite(ordered[rank(len(x), share)]) for name, share in SHARES.items()}
    found["max"] = _finite(ordered[-1])
    return {**{f"{name}_{unit}": value for name, value in found.items()},
            f"ci95_{unit}": dict(zip(SHARES, intervals(x, list(SHARES.values()), seed), strict=True)),
            "n": len(x)}


def intervals(values: Floats, shares: Sequence[float], seed: int) -> list[list[float | None] | None]:
    """The 95 % interval of each percentile of ``values (n,)``, ``shares`` in 0..1, as ``summary`` has it."""
    n = len(values)
    trusted = [min(share, 1 - share) * n >= LEAST_BEYOND for share in shares]
    if not any(trusted):
        return [None] * len(shares)
    places = [rank(n, share) for share in shares]
    parts = redrawn(values, BLOCK, np.random.default_rng(seed))
    drawn = np.concatenate([np.sort(part, axis=1)[:, places] for part in parts])
    tail = (1 - CONFIDENCE) / 2
    ends = np.sort(drawn, axis=0)[[rank(RESAMPLES, tail), rank(RESAMPLES, 1 - tail)]]
    return [[_finite(low), _finite(high)] if sure else None
            for low, high, sure in zip(*ends, trusted, strict=True)]


def share_interval(hits: NDArray[np.bool_], seed: int) -> list[float] | None:
    """The 95 % interval of the share of ``hits (n,)`` that are True, every one drawn by itself."""
    if not len(hits):
        return None
    # The share of n draws with replacement is a binomial count over n: no need to draw one by one.
    drawn = np.sort(np.random.default_rng(seed).binomial(len(hits), hits.mean(), RESAMPLES) / len(hits))
    tail = (1 - CONFIDENCE) / 2
    return [round(float(drawn[rank(RESAMPLES, share)]), 5) for share in (tail, 1 - tail)]


def redrawn(values: Floats, block: int, rng: np.random.Generator) -> Iterator[Floats]:
    """RESAMPLES rows of ``values (n,)``, drawn in blocks of at most ``block`` neighbours, in parts that fit
    the memory of a small board.
    """
    n = len(values)
    block = max(1, min(block, n // 4))
    rows = max(1, CHUNK // n)
    for begin in range(0, RESAMPLES, rows):
        starts = rng.integers(0, n - block + 1, (min(rows, RESAMPLES - begin), -(-n // block), 1))
        index = (starts + np.arange(block)).reshape(len(starts), -1)[:, :n]
        yield values[index]


def _finite(value: float) -> float | None:
    return round(float(value), 2) if math.isfinite(value) else None
