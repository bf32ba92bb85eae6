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

    The centroid of the power above the noise floor, within a factor two of the spectrum's smoothed maximum.
    What lies under 1/200 of the sampling rate or has under 3 cycles in the gate is left out: baseline wander.
    Raises InputError for fewer than 8 samples and for NaN or infinity among them; a constant A-scan has no
    spectrum and gives fs / 8.
    """
    rows = np.atleast_2d(np.asarray(samples, np.float64))
    n = rows.shape[-1]
    if n < MIN_SAMPLES:
        raise InputError(f"{n} samples are too few for a spectrum.", f"Give at least {MIN_SAMPLES}.")
    if not np.isfinite(rows).all():
        raise InputError("an A-scan with NaN or infinity has no spectrum.", "Leave it out.")
    plan = _plan(n)
    spectra = np.square(np.abs(np.fft.rfft((rows - _middles(rows)) * plan.window, plan.size)))
    shares = spectra / np.maximum(spectra.sum(-1, keepdims=True), 1e-300)
    power = shares[0] if len(shares) == 1 else np.median(shares, axis=0)
    power[: plan.wander] = 0.0
    if not power.any():
        return fs_hz / 8.0
    total = np.concatenate(([0.0], np.cumsum(power)))
    top = int(np.argmax((total[plan.high] - total[plan.low]) / plan.width))
    first, stop = top // 2 + 1, min(2 * top, len(power))
    above = np.maximum(power[first:stop] - _middles(power[np.newaxis])[0, 0], 0.0)
    weight = float(above.sum())
    centre = float(np.arange(first, stop) @ above) / weight if weight else float(top)
    return centre * fs_hz / plan.size


class _Plan(NamedTuple):
    """What every spectrum of ``n`` samples needs: FFT ``size``, ``window (n,)``, how many bins are left out
    as baseline ``wander``, and for each bin the band around it, ``low`` to ``high``, ``width`` bins of it.
    """

    size: int
    window: FloatArray
    wander: int
    low: NDArray[np.intp]
    high: NDArray[np.intp]
    width: NDArray[np.intp]


@lru_cache(maxsize=64)
def _plan(n: int) -> _Plan:
    size = max(256, 1 << (n - 1).bit_length())
    bins, spread = np.arange(size // 2 + 1), size // n
    low = np.maximum((bins * 0.85).astype(np.intp) - spread, 0)
    high = np.minimum((bins * 1.15).astype(np.intp) + spread + 1, len(bins))
    return _Plan(size, np.hanning(n), math.ceil(max(size / 200, 3 * size / n)), low, high, high - low)


def _middles(rows: FloatArray) -> FloatArray:
    """The median (rows, 1) of each row; np.median takes several times as long for one short row."""
    low, high = (rows.shape[-1] - 1) // 2, rows.shape[-1] // 2
    ranks = np.partition(rows, (low, high), axis=-1)
    middle: FloatArray = (0.5 * (ranks[..., low] + ranks[..., high]))[..., np.newaxis]
    return middle
