"""The ``paper`` preset: one tone burst in white noise, as in arXiv 2508.20622.

Stated there: 1.0–4.0 MHz, bursts of 200–400 samples, SNR 18–38 dB. Not stated, so named here: the envelope
(Hann), the sampling rate (the caller's), 12 bits at half scale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from usedge.synth.pulses import ARRIVAL_LEVEL, ONSET_LEVEL, Array

FREQUENCY_HZ = (1.0e6, 4.0e6)
BURST_SAMPLES = (200.0, 400.0)
SNR_DB = (18.0, 38.0)
FULL_SCALE = 2048
HANN_ONSET = float(np.arcsin(np.sqrt(ONSET_LEVEL)) / np.pi)
"""Where a Hann envelope reaches ONSET_LEVEL, as a fraction of the burst."""
HANN_ARRIVAL = float(np.arcsin(np.sqrt(ARRIVAL_LEVEL)) / np.pi)


def paper_batch(
    rng: np.random.Generator, n: int, samples: int, fs_hz: float
) -> tuple[NDArray[np.int16], Array, Array, Array, Array]:
    """Counts (n, samples), onset and arrival (n,) in samples, SNR (n,) in dB, samples a cycle (n,)."""
    cycle = fs_hz / rng.uniform(*FREQUENCY_HZ, (n, 1))
    length = np.minimum(rng.uniform(*BURST_SAMPLES, (n, 1)), 0.5 * samples)
    start = rng.uniform(0.0, 1.0, (n, 1)) * (samples - length)
    snr_db = rng.uniform(*SNR_DB, (n, 1))
    t = np.arange(samples)
    place = np.clip((t - start) / length, 0.0, 1.0)
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    burst = np.sin(np.pi * place) ** 2 * np.cos(2 * np.pi * (t - start) / cycle + phase)
    x = burst + 10 ** (-snr_db / 20) * rng.standard_normal((n, samples))
    counts = np.clip(np.round(x * FULL_SCALE / 2), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    onset, arrival = start + HANN_ONSET * length, start + HANN_ARRIVAL * length
    f = np.float32
    return (counts, onset[:, 0].astype(f), arrival[:, 0].astype(f), snr_db[:, 0].astype(f),
            cycle[:, 0].astype(f))
