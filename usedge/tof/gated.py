"""A gate as the classical methods see it: filtered, with the noise in it, and where an echo may be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usedge.errors import InputError
from usedge.tof.spectrum import MIN_PERIODS, MIN_SAMPLES

DETECTION = 8.0
"""An echo's envelope must exceed this many times the noise rms, or the gate has no echo."""
LIKENESS = 0.3
"""Least correlation of an echo with the burst or reference it is sought by.

Recorded and synthetic echoes have 0.6 and more, 0.4 where the frequency is 30 % off; steps, spikes and
recovering amplifiers stay under 0.2.
"""
RISE = 4.0
"""Over its least value so far the envelope must rise by this factor, or what is loud still rings down.

Resonances beat by a factor two or three while they die away.
"""
EDGE_PERIODS = 0.5
"""What is loud so soon after the gate's start began before it."""
RAYLEIGH_P20 = math.sqrt(-2.0 * math.log(0.8))
"""20th percentile (0.668) of the envelope of Gaussian noise of rms 1: echoes in the gate hardly move it."""
QUANTISATION_RMS = 1.0 / math.sqrt(12.0)
"""Noise rms that rounding to whole counts adds, in counts: no receiver is quieter."""
MOST_REFUSED = 16
"""After so many that look like none, a gate has no echo; recorded gates have one or two."""
MARGIN_PERIODS = 6.0
"""Mirrored A-scan before and behind the gate, in periods: more than the filters ring."""

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


@lru_cache(maxsize=64)
def fast_length(n: int) -> int:
    """The least 2^a 3^b 5^c (b, c ≤ 3) that is not under ``n``: the quick lengths of an FFT."""
    odd = [int(3**b * 5**c) for b in range(4) for c in range(4)]
    return min(each << max(0, -(-n // each) - 1).bit_length() for each in odd)


@lru_cache(maxsize=16)
def band(size: int, period: float) -> FloatArray:
    """Gains (size,) that pass 0.3–2 f0 with cosine edges and make the outcome analytic (no negative bins)."""
    f = np.fft.fftfreq(size) * period
    rise, fall = np.clip((f - 0.15) / 0.3, 0.0, 1.0), np.clip((2.4 - f) / 0.6, 0.0, 1.0)
    gains: FloatArray = 2.0 * np.sin(0.5 * np.pi * rise * fall) ** 2
    gains.flags.writeable = False
    return gains


def hann_burst(half: int, period: float) -> ComplexArray:
    """Analytic burst (2 · ``half`` + 1,) under a Hann window, 0 in its middle; ``period`` in samples."""
    t = np.arange(-half, half + 1)
    burst: ComplexArray = np.cos(0.5 * np.pi * t / (half + 1)) ** 2 * np.exp(2j * np.pi * t / period)
    return burst


@lru_cache(maxsize=16)
def _burst_band(size: int, period: float, cycles: float) -> ComplexArray:
    """``band`` and the correlation with a burst of ``cycles`` under a Hann window, 0 in its middle."""
    half = min(max(2, round(cycles * period / 2)), (size - 1) // 2)
    laid = np.zeros(size, np.complex128)
    laid[np.arange(-half, half + 1)] = _unit(hann_burst(half, period) / 1j)
    spectrum: ComplexArray = np.fft.fft(laid).conj() * (0.5 * band(size, period))
    spectrum.flags.writeable = False
    return spectrum


def _unit(echo: ComplexArray) -> ComplexArray:
    """Analytic ``echo (m,)`` with energy 1 in its real part: white noise correlated with it keeps its rms."""
    unit: ComplexArray = echo / (float(np.linalg.norm(echo)) / math.sqrt(2.0))
    return unit


class Gated:
    """A gate ``x (n,)``, median removed, and its filters; ``period`` of f0 in samples.

    ``spectrum (size,)`` is that of the gate with ``margin`` mirrored samples before it and as many or more
    behind, which keep the filters from ringing at the edges.
    """

    def __init__(self, x: FloatArray, period: float) -> None:
        self.x = x
        self.period = period
        self.margin = min(len(x) - 1, int(MARGIN_PERIODS * period))
        size = fast_length(len(x) + 2 * self.margin)
        padded = np.pad(x, (self.margin, size - len(x) - self.margin), mode="reflect")
        self.spectrum = np.fft.fft(padded)

    def in_band(self) -> ComplexArray:
        """The analytic RF (n,) in 0.3–2 f0, without delay."""
        return self._filtered(band(len(self.spectrum), self.period))

    def matched(self, cycles: float) -> ComplexArray:
        """The correlation (n,) with a Hann burst of ``cycles``: i tells how well its middle fits there."""
        return self._filtered(_burst_band(len(self.spectrum), self.period, cycles))

    def matched_with(self, echo: ComplexArray) -> ComplexArray:
        """The correlation (n,) with an analytic ``echo (m,)``: i tells how well its start fits there."""
        unit, rf = _unit(echo), np.ascontiguousarray(self.in_band().real)
        parts = [np.correlate(rf, part, "full")[len(echo) - 1 :] for part in (unit.real, unit.imag)]
        return parts[0] + 1j * parts[1]

    def _filtered(self, gains: FloatArray | ComplexArray) -> ComplexArray:
        return np.fft.ifft(self.spectrum * gains)[self.margin : self.margin + len(self.x)]


@dataclass(frozen=True, slots=True)
class Echo:
    """An echo in a gate, found by a matched filter.

    ``matched (n,)`` is the filter's outcome, as ``Gated.matched`` gives it, ``envelope (n,)`` that of it,
    ``noise`` the rms under it, ``peak`` the largest echo's. The echo reaches its level at ``first``, and the
    filter its largest value at ``top``.
    """

    gated: Gated
    matched: ComplexArray
    envelope: FloatArray
    noise: float
    peak: float
    first: int
    top: int


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds the first echo of ``fraction`` of the largest in a matched filter's outcome.

    The echo ends, for all a picker asks, at the filter's largest value within ``reach`` cycles. ``before``
    and ``behind`` are the samples that the filter takes into account around a place.
    """

    fraction: float
    reach: float
    before: int
    behind: int

    def first_echo(self, gated: Gated, matched: ComplexArray) -> Echo | None:
        """The first echo in ``matched (n,)``, None where nothing exceeds 8 × the noise rms.

        Passed over are what rings down from before the gate and what is no echo by its shape.
        """
        envelope = np.abs(matched)
        noise = noise_rms(envelope, 1.0)
        left = envelope.copy()
        left[: _tail(envelope, DETECTION * noise, gated.period)] = 0.0
        for _ in range(MOST_REFUSED):
            peak = float(left.max())
            if peak <= DETECTION * noise:
                return None
            first = first_above(left, max(DETECTION, self.fraction * peak / noise) * noise)
            top = largest(left, first, self.reach * gated.period)
            unlike = [place for place in (top, int(np.argmax(left)))
                      if self._likeness(gated.x, envelope, noise, place) < LIKENESS]
            if not unlike:
                return Echo(gated, matched, envelope, noise, peak, first, top)
            for place in unlike:
                ringing = int(0.5 * MARGIN_PERIODS * gated.period)
                left[max(0, place - self.behind - ringing) : place + self.before + ringing + 1] = 0.0
        return None

    def _likeness(self, x: FloatArray, envelope: FloatArray, noise: float, place: int) -> float:
        """Correlation of ``x (n,)`` around ``place`` with what is sought there, white noise taken off."""
        around = x[max(0, place - self.before) : place + self.behind + 1]
        energy = float(np.var(around)) * len(around) - len(around) * noise**2
        return float(envelope[place]) / math.sqrt(max(energy, 0.25 * float(envelope[place]) ** 2))


def burst_finder(period: float, cycles: float, fraction: float, reach: float) -> Finder:
    """The finder for ``Gated.matched(cycles)``."""
    half = round(0.5 * cycles * period)
    return Finder(fraction, reach, half, half)


def _tail(envelope: FloatArray, limit: float, period: float) -> int:
    """Samples at the gate's start in which ``envelope (n,)`` only dies away, from over ``limit``."""
    edge = float(envelope[: int(EDGE_PERIODS * period) + 1].max())
    top = largest(envelope, 0, 3.0 * period)
    if edge <= limit or envelope[top] > RISE * edge:
        return 0
    dying = envelope[top:]
    over = (dying <= limit) | (dying > RISE * np.minimum.accumulate(dying))
    return top + int(np.argmax(over)) if over.any() else len(envelope)


def noise_rms(envelope: FloatArray, in_band: float) -> float:
    """Noise rms under ``envelope (n,)``, and not less than the part ``in_band`` of the quantisation noise."""
    return max(float(np.percentile(envelope, 20)) / RAYLEIGH_P20, QUANTISATION_RMS * in_band)


def band_noise_rms(envelope: FloatArray, period: float) -> float:
    """``noise_rms`` of an envelope in band, which holds 3.4 / ``period`` of white noise's power."""
    return noise_rms(envelope, math.sqrt(min(1.0, 3.4 / period)))


def centred(samples: ArrayLike) -> FloatArray:
    """``samples (n,)`` as float without their median; raises InputError for fewer than 8."""
    x = np.asarray(samples, np.float64)
    if len(x) < MIN_SAMPLES:
        raise InputError(f"the gate holds {len(x)} samples, too few to find an echo in.",
                         f"Give a gate of at least {MIN_SAMPLES} samples.")
    without: FloatArray = x - np.median(x) if np.isfinite(x).all() else x
    return without


def is_rf(x: FloatArray, period: float = 0.0) -> bool:
    """Whether ``x (n,)`` can be RF: finite, not constant (a receiver has noise), and 10 periods or more."""
    return bool(np.isfinite(x).all()) and bool((x != x[0]).any()) and len(x) >= MIN_PERIODS * period


def peak_snr_db(x: FloatArray) -> float:
    """Peak of ``x (n,)``, median removed, over its noise (median|x| / 0.6745, or quantisation), dB."""
    magnitude = np.abs(x)
    noise = max(float(np.median(magnitude)) / 0.6745, QUANTISATION_RMS)
    return 20.0 * math.log10(float(magnitude.max()) / noise)


def first_above(values: FloatArray, level: float) -> int:
    """Index of the first value not under ``level`` (which the maximum reaches)."""
    return int(np.argmax(values >= level))


def crossing(values: FloatArray, level: float) -> float:
    """Where ``values`` first reach ``level``, linearly interpolated between samples."""
    i = first_above(values, level)
    if i == 0:
        return 0.0
    return i - 1 + float((level - values[i - 1]) / (values[i] - values[i - 1]))


def largest(values: FloatArray, start: int, reach: float) -> int:
    """Index of the largest value within ``reach`` samples from ``start`` on."""
    return start + int(np.argmax(values[start : start + int(reach) + 1]))


def vertex(values: FloatArray, i: int) -> float:
    """Sub-sample place of the local maximum at ``i``, from the parabola through it and its neighbours."""
    if not 0 < i < len(values) - 1:
        return float(i)
    before, top, after = values[i - 1 : i + 2]
    bend = before - 2.0 * top + after
    return i + float(0.5 * (before - after) / bend) if bend < 0 else float(i)
