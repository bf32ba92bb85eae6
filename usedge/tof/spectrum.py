"""The centre frequency of the echoes in a gate, for pickers that were not told it."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usedge.errors import InputError

FloatArray = NDArray[np.float64]

MIN_SAMPLES = 8
"""Shortest gate, in samples, that has a spectrum worth the name."""
MIN_PERIODS = 10.0
"""Shortest gate, in periods of the centre frequency, that shows noise beside an echo."""


def estimate_f0(samples: ArrayLike, fs_hz: float) -> float:
    """Centre frequency, Hz, of the echoes in ``samples (n,)`` or ``(rows, n)`` (the rows' median spectrum).

    The centroid of the power above the noise floor, within a factor two of where the power of a band of
    ±15 %, over the root of its width as noise scatters, is largest: the mean would let a few low bins win,
    the sum a wide band of noise.
    What lies under 1/200 of the sampling rate or has under 3 cycles in the gate is left out: baseline wander.
    Raises InputError for fewer than 8 samples and for NaN or infinity among them; a constant A-scan has no
    spectrum and gives fs / 8.
    """
    given = np.asarray(samples)
    n = given.shape[-1]
    if n < MIN_SAMPLES:
        raise InputError(f"{n} samples are too few for a spectrum.", f"Give at least {MIN_SAMPLES}.")
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise InputError("an A-scan with NaN or infinity has no spectrum.", "Leave it out.")
    plan = _plan(n)
    if given.ndim == 1:
        power = _power(given, plan)
    else:
        spectra = np.stack([_power(row, plan) for row in given])
        power = np.median(spectra / np.maximum(spectra.sum(-1, keepdims=True), 1e-300), axis=0)
    power[: plan.wander] = 0.0
    total = np.empty(len(power) + 1)
    total[0] = 0.0
    power.cumsum(out=total[1:])
    if not total[-1]:
        return fs_hz / 8.0
    high, low = total.take(plan.edges)
    high -= low
    high /= plan.scatter
    top = int(high.argmax())
    first, stop = top // 2 + 1, min(2 * top, len(power))
    above = power[first:stop]
    above -= _middle(power)
    np.maximum(above, 0.0, out=above)
    weight = float(np.add.reduce(above))
    centre = float(np.dot(plan.bins[first:stop], above)) / weight if weight else float(top)
    return centre * fs_hz / plan.size


class _Plan(NamedTuple):
    """What spectra of ``n`` samples need: FFT ``size``, ``window (n,)``, how many bins are left out as
    baseline ``wander``, ``bins`` by number, and for each the band around it, between its ``edges``: the bin
    behind it (first row) and its first (second); ``scatter`` is the root of how many bins that are.
    """

    size: int
    window: FloatArray
    wander: int
    bins: FloatArray
    edges: NDArray[np.intp]
    scatter: FloatArray


@lru_cache(maxsize=256)
def _plan(n: int) -> _Plan:
    size = max(256, 1 << (n - 1).bit_length())
    return _Plan(size, np.hanning(n), math.ceil(max(size / 200, 3 * size / n)), *_bands(size, size // n))


@lru_cache(maxsize=64)
def _bands(size: int, spread: int) -> tuple[FloatArray, NDArray[np.intp], FloatArray]:
    bins = np.arange(size // 2 + 1)
    low = np.maximum((bins * 0.85).astype(np.intp) - spread, 0)
    high = np.minimum((bins * 1.15).astype(np.intp) + spread + 1, len(bins))
    return bins.astype(np.float64), np.stack([high, low]), np.sqrt(high - low)


def _power(row: NDArray[np.generic], plan: _Plan) -> FloatArray:
    """Power spectrum (size // 2 + 1,) of ``row (n,)`` less its median."""
    x = row.astype(np.float64)
    x -= _middle(row)
    x *= plan.window
    parts = np.fft.rfft(x, plan.size).view(np.float64)
    parts *= parts
    return parts[::2] + parts[1::2]


def _middle(row: NDArray[np.generic]) -> float:
    """The median of ``row (n,)``; np.median takes several times as long for one short row."""
    half, ranks = len(row) // 2, row.copy()
    ranks.partition(half)
    high = float(ranks[half])
    if len(row) % 2:
        return high
    lower = ranks[:half]
    return 0.5 * (float(lower[lower.argmax()]) + high)
