"""What a front end adds to the echoes: coloured noise, ring-down, interference, and its ADC."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from usedge.synth.pulses import Array, log_uniform

Rng = np.random.Generator
WHITE, PINK, IN_BAND, LOW_PASS = range(4)


def column(values: Array) -> Array:
    """``values (n,)`` as ``(n, 1) float32``, to be spread over the samples of each A-scan."""
    return values.astype(np.float32)[:, np.newaxis]


def chosen(rng: Rng, share: float, n: int, values: Array | float) -> Array:
    """``values`` for a random ``share`` of n A-scans, zero for the others, as (n, 1)."""
    return column(np.where(rng.random(n) < share, values, 0.0))


def decibel(rng: Rng, low: float, high: float, n: int) -> Array:
    """Amplitude ratios uniform in dB between ``low`` and ``high``."""
    return (10.0 ** (rng.uniform(low, high, n) / 20.0)).astype(np.float32)


def _filtered(white: Array, response: Array) -> Array:
    y = np.fft.irfft(np.fft.rfft(white) * response, white.shape[1]).astype(np.float32)
    unit: Array = y / (y.std(axis=1, keepdims=True) + np.float32(1e-9))
    return unit


def in_band_noise(rng: Rng, shape: tuple[int, int], cycle: Array, width: Array | float = 0.35) -> Array:
    """Unit-variance noise around each row's carrier, ``width`` the relative Gaussian bandwidth."""
    f = np.fft.rfftfreq(shape[1]).astype(np.float32) * cycle[:, np.newaxis]
    response = np.exp(-0.5 * ((f - 1.0) / width) ** 2)
    return _filtered(rng.standard_normal(shape, dtype=np.float32), response.astype(np.float32))


def coloured_noise(rng: Rng, shape: tuple[int, int], cycle: Array) -> tuple[Array, NDArray[np.int64]]:
    """Unit-variance noise (n, samples) and its kind (n,): white, 1/f, in-band, low-pass; a quarter swells.

    Half of the low-pass noise is as wide as a receiver is, whatever its sampling rate: up to 0.5–10 times the
    carrier. Where the carrier holds about half of its power it is in-band.
    """
    n, samples = shape
    kind = rng.choice(4, n, p=[0.35, 0.2, 0.25, 0.2])
    f = np.fft.rfftfreq(samples).astype(np.float32)[np.newaxis]
    response = np.ones((n, f.shape[1]), np.float32)
    pink, band, low = kind == PINK, kind == IN_BAND, kind == LOW_PASS
    response[pink] = (np.maximum(f, 1.0 / samples) / 0.1) ** -column(rng.uniform(0, 0.8, pink.sum()))
    relative = f * cycle[band, np.newaxis]
    width = column(log_uniform(rng, 0.15, 1.2, band.sum()))
    response[band] = 0.05 + np.exp(-0.5 * ((relative - 1) / width) ** 2)
    by_carrier = log_uniform(rng, 0.5, 10.0, n)
    by_carrier[rng.random(n) < 0.5] = np.inf
    cut = np.minimum(by_carrier / cycle, rng.uniform(0.1, 0.5, n))
    response[low] = 1.0 / (1.0 + (f / column(cut[low])) ** 8)
    kind[low & (by_carrier > 1.0) & (by_carrier < 2.5)] = IN_BAND
    noise = _filtered(rng.standard_normal(shape, dtype=np.float32), response)
    t = np.arange(samples, dtype=np.float32)
    middle = column(rng.uniform(0, samples, n))
    width = column(log_uniform(rng, 0.03, 0.4, n)) * samples
    swell = chosen(rng, 0.25, n, rng.uniform(0, 3, n))
    return noise * (1 + swell * np.exp(-0.5 * ((t - middle) / width) ** 2)), kind


def ring_down(rng: Rng, cycle: Array, clear_by: Array, in_band: Array, share: float) -> Array:
    """Main-bang tail, baseline recovery and decaying clutter at the start of the gate.

    Each has decayed to 0.18 of the first echo's amplitude by ``clear_by (n,)`` samples (inf: no echo, so no
    limit).
    """
    n, samples = len(in_band), in_band.shape[1]
    t = np.arange(samples, dtype=np.float32)

    def tail(low_db: float, high_db: float, tau: Array, part: float) -> Array:
        limit = 0.18 * np.exp(np.minimum(np.maximum(clear_by, 0) / tau, 8.0))
        amplitude = np.minimum(decibel(rng, low_db, high_db, n), np.where(np.isinf(clear_by), np.inf, limit))
        decay: Array = np.exp(-t / column(tau))
        return chosen(rng, share * part, n, amplitude) * decay

    turn = np.float32(2 * np.pi)
    carrier = turn * column(rng.uniform(0.6, 1.5, n) / cycle) * t + column(rng.uniform(0, 2 * np.pi, n))
    out: Array = tail(-25, 35, log_uniform(rng, 1.5, 25.0, n) * cycle, 0.8) * np.cos(carrier)
    sign = column(rng.choice([-1.0, 1.0], n))
    out += sign * tail(-30, 30, log_uniform(rng, 0.004, 0.5, n) * samples, 0.6)
    out += tail(-30, 20, log_uniform(rng, 0.01, 0.3, n) * samples, 0.5) * in_band
    return out


def spikes(rng: Rng, shape: tuple[int, int], sigma: Array, share: float) -> Array:
    """1–11 single-sample spikes for ``share`` of the A-scans, from twice the noise up to 1.5 × the echo."""
    n, samples = shape
    count = np.where(rng.random(n) < share, rng.integers(1, 12, n), 0)
    row = np.repeat(np.arange(n), count)
    high = np.maximum(6 * sigma, 1.5)[row]
    amplitude = log_uniform(rng, 2 * sigma[row], high, len(row)) * rng.choice([-1.0, 1.0], len(row))
    out = np.zeros(shape, np.float32)
    np.add.at(out, (row, rng.integers(0, samples, len(row))), amplitude.astype(np.float32))
    return out


def packets(rng: Rng, cycle: Array, onset: Array, sigma: Array, samples: int, share: float) -> Array:
    """A foreign packet for ``share`` of the A-scans: insignificant before the echo, anything after it."""
    n = len(cycle)
    t = np.arange(samples, dtype=np.float32)
    centre = rng.uniform(0, samples, n)
    before = np.minimum(0.16, 10 * sigma)
    top = np.where(np.isnan(onset), 2.5 * sigma, np.where(centre < onset, before, rng.uniform(0, 0.8, n)))
    amplitude = chosen(rng, share, n, top * rng.uniform(0.2, 1, n))
    envelope = np.exp(-0.5 * ((t - column(centre)) / column(log_uniform(rng, 1.0, 8.0, n) * cycle)) ** 2)
    packet: Array = amplitude * envelope * _tone(rng, log_uniform(rng, 0.3, 3.0, n) / cycle, t)
    return packet


def _tone(rng: Rng, frequency: Array, t: Array) -> Array:
    phase = column(rng.uniform(0, 2 * np.pi, len(frequency)))
    tone: Array = np.cos(np.float32(2 * np.pi) * column(frequency) * t + phase)
    return tone


def hum_and_drift(rng: Rng, cycle: Array, samples: int, hum_share: float, drift_share: float) -> Array:
    """A continuous tone and a slow baseline wave, 0.3–15 % and 0.3–50 % of the echo."""
    n = len(cycle)
    t = np.arange(samples, dtype=np.float32)
    hum = chosen(rng, hum_share, n, log_uniform(rng, 0.003, 0.15, n))
    drift = chosen(rng, drift_share, n, log_uniform(rng, 0.003, 0.5, n))
    slow = rng.uniform(0.0, 1.5, n).astype(np.float32) / samples
    return hum * _tone(rng, log_uniform(rng, 0.2, 3.0, n) / cycle, t) + drift * _tone(rng, slow, t)


def digitise(
    rng: Rng, x: Array, least_gain: Array, bits: tuple[int, ...], clip_share: float
) -> tuple[NDArray[np.int16], Array]:
    """Counts of an ADC of 8–14 bits: over-driven by up to 26 dB for ``clip_share``, else with up to 30 dB of
    headroom; and the greatest amplitude (n,) that it shows.

    ``least_gain (n,)`` counts per unit keep a small echo above the quantisation.
    """
    n = len(x)
    full = column(2.0 ** (rng.choice(bits, n) - 1))
    over_db = np.where(rng.random(n) < clip_share, rng.uniform(0, 26, n), -rng.uniform(0, 30, n))
    peak = np.maximum(np.abs(x).max(axis=1, keepdims=True), 1e-9)
    gain = np.maximum(full * column(10 ** (over_db / 20)) / peak, column(least_gain))
    fine = rng.uniform(-0.5, 0.5, n)
    offset = column(fine + np.where(rng.random(n) < 0.2, rng.uniform(-0.1, 0.1, n), 0) * full[:, 0])
    rail = full * column(rng.uniform(0.8, 1.0, n))
    counts: NDArray[np.int16] = np.clip(np.round(x * gain + offset), -rail, rail - 1).astype(np.int16)
    return counts, (rail / gain)[:, 0]
