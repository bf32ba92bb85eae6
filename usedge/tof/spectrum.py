"""The centre frequency of the echoes in a gate, for pickers that were not told it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from usedge.errors import InputError

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
    rows = rows - np.median(rows, axis=-1, keepdims=True)
    size = max(256, 1 << (n - 1).bit_length())
    spectra = np.abs(np.fft.rfft(rows * np.hanning(n), size)) ** 2
    power = np.median(spectra / np.maximum(spectra.sum(-1, keepdims=True), 1e-300), axis=0)
    bins = np.arange(len(power))
    power[bins < max(size / 200, 3 * size / n)] = 0.0
    if not power.any():
        return fs_hz / 8.0
    total = np.concatenate(([0.0], np.cumsum(power)))
    spread = size // n
    low = np.maximum((bins * 0.85).astype(int) - spread, 0)
    high = np.minimum((bins * 1.15).astype(int) + spread + 1, len(power))
    top = int(np.argmax((total[high] - total[low]) / (high - low)))
    above = np.where((bins > top / 2) & (bins < top * 2), np.maximum(power - np.median(power), 0.0), 0.0)
    return float((bins * above).sum() / above.sum() * fs_hz / size) if above.any() else top * fs_hz / size
