"""The differential mode: how much later an echo comes than in a reference A-scan, to a fraction of a sample.

R(τ) = Σ w(t) a(t + τ) r*(t) is the correlation of the analytic A-scan a with the analytic echo r of the
reference under a window w. Its largest real part tells the cycle, the zero of its phase nearest to that the
delay: τ ← τ − arg R(τ) / ω, ω the centroid of its spectrum (A. Pesavento et al., IEEE Trans. Ultrason.,
Ferroelect., Freq. Contr. 46, 1999, p. 1057, "iterative phase zero estimation"). Where a is r delayed, R is
real and positive at the delay itself, whatever the window, so the estimate has no bias. R between samples is
the inverse Fourier sum there, exact for what is in band: no parabola, whose bias is periodic in the sample.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.tof.gated import ComplexArray, FloatArray, Gated, band, burst_finder, centred, is_rf
from usedge.tof.spectrum import MIN_PERIODS, estimate_f0

DTOF_ABSTENTIONS = ("no_echo", "cycle_skip", "out_of_distribution")
"""Why there is no difference: nothing like the reference's echo; two cycles fit as well; no RF."""
REACH_PERIODS = 10.0
"""How far, in periods, an echo is sought from its place in the reference: farther, its multiples are met."""
LEAST_CORRELATION = 0.8
"""Least correlation coefficient: noise alone reaches it in one A-scan of twenty, or fewer."""
SURE_OF_CYCLE = 3.0
"""The largest lobe must exceed the second by so many standard deviations of their difference."""
BEFORE, BEHIND = 2.0, 12.0
"""The echo reaches from so many periods before its first place to at most so many behind its largest."""
OVER_AT = 0.1
"""Behind its largest place the echo is over where the envelope falls below this part of it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One A-scan against the reference: ``dtof_ns`` is how much later its echo comes, None with ``abstain``.

    ``correlation`` is the correlation coefficient at that delay, ``second_lobe`` the height of the next
    highest lobe of the correlation relative to it: 1 means that the cycle is a guess.
    """

    dtof_ns: float | None
    correlation: float
    second_lobe: float
    abstain: str | None = None


def delay_bound_s(echo: ArrayLike, fs_hz: float, noise_rms: float, reference_noise_rms: float = 0.0) -> float:
    """Cramér–Rao lower bound, s, for the standard deviation of the delay of ``echo (m,)`` in white noise.

    √(σ² + σᵣ²) / √Σ (ds/dt)², σ the ``noise_rms`` of the A-scan and σᵣ that of the reference, in units of the
    echo s without noise, sampled at ``fs_hz`` over Nyquist (S. M. Kay, Fundamentals of Statistical Signal
    Processing: Estimation Theory, 1993, example 3.13; for speckle: W. F. Walker and G. E. Trahey, IEEE Trans.
    Ultrason., Ferroelect., Freq. Contr. 42, 1995, p. 301). The slope is taken in the Fourier domain, so the
    echo must begin and end at 0. Raises InputError for an echo without any slope.
    """
    s = np.asarray(echo, np.float64)
    spectrum = np.fft.rfft(s) * 2j * np.pi * np.fft.rfftfreq(len(s), 1.0 / fs_hz)
    slope = np.fft.irfft(spectrum, len(s))
    power = float(np.sum(slope * slope))
    if not 0.0 < power < math.inf:
        raise InputError("an echo that does not change has no delay.", "Give it without noise, from 0 to 0.")
    return math.hypot(noise_rms, reference_noise_rms) / math.sqrt(power)


def mean_ascan(ascans: Sequence[AScan]) -> AScan:
    """The mean of A-scans of one scene, (n,) as float: its noise is smaller by the root of their number.

    Raises InputError where there is none, or they differ in length, sampling rate or start.
    """
    if not ascans:
        raise InputError("there is no reference A-scan.", "Record one.")
    first = ascans[0]
    for each in ascans:
        if (len(each.samples), each.fs_hz, each.t0_us) != (len(first.samples), first.fs_hz, first.t0_us):
            raise InputError("the reference A-scans differ in length, sampling rate or start.",
                             "Take them with one setting.")
    mean: NDArray[np.float64] = np.mean([each.samples for each in ascans], axis=0)
    return AScan(mean, first.fs_hz, first.t0_us)  # type: ignore[arg-type]


class Differential:
    """The delay of the first echo of ``reference``, an A-scan cut to its gate, in others of the same gate.

    ``f0_hz`` is the centre frequency, None to estimate it from the reference; ``reach`` how far, in periods,
    an echo may have moved. Raises InputError for a reference without an echo, with one that fills the gate,
    or that is no RF.
    """

    def __init__(self, reference: AScan, f0_hz: float | None = None, reach: float = REACH_PERIODS) -> None:
        x = centred(reference.samples)
        if not is_rf(x):
            raise InputError("the reference is constant, or has NaN or infinity.", "Record another.")
        f0 = estimate_f0(x, reference.fs_hz) if f0_hz is None else f0_hz
        if not 0 < f0 < reference.fs_hz / 2:
            raise InputError(f"a centre frequency of {f0:g} Hz is not between 0 and fs/2 (fs"
                             f" {reference.fs_hz:g} Hz).", "Check the units of both: Hz.")
        self._fs_hz, self._t0_us, self._n = reference.fs_hz, reference.t0_us, len(x)
        self._period = reference.fs_hz / f0
        if not is_rf(x, self._period):
            raise InputError(f"the reference has under {MIN_PERIODS:g} periods of {f0:g} Hz in its gate.",
                             "Give a wider --gate.")
        self._reach = int(reach * self._period)
        self._lay(Gated(x, self._period))

    @property
    def period_ns(self) -> float:
        """The period of the centre frequency."""
        return self._period / self._fs_hz * 1e9

    def _lay(self, gated: Gated) -> None:
        """Window the reference's first echo, and keep its spectrum for the correlation."""
        start, stop = _extent(gated)
        if len(gated.x) - (stop - start) < self._period:
            raise InputError("the reference's echo fills its gate.", "Give a wider --gate.")
        self._start, self._window = start, _taper(stop - start, int(self._period))
        echo = self._window * gated.in_band()[start:stop]
        self._energy = float(np.sum(np.abs(echo) ** 2 / np.maximum(self._window, 1e-12)))
        size = len(gated.spectrum)
        gains = np.fft.fft(echo, size).conj() * band(size, self._period)
        self._bins = np.flatnonzero(gains)
        self._gains, self._size = gains[self._bins], size
        weight = np.abs(self._gains) ** 2
        self._omega = 2.0 * np.pi / size * self._bins
        self._centroid = float(np.sum(self._omega * weight) / np.sum(weight))

    def difference(self, gated: AScan) -> Difference:
        """How much later than in the reference the echo comes in ``gated``, an A-scan cut to the same gate.

        Abstains with "no_echo" where nothing within reach is like the reference's echo, "cycle_skip" where
        two lobes of the correlation are so nearly as high that noise and misfit, of the size of what the fit
        leaves over, may have swapped them, "out_of_distribution" for a constant A-scan, NaN or infinity.
        Raises InputError for another sampling rate or length than the reference's.
        """
        if len(gated.samples) != self._n or not math.isclose(gated.fs_hz, self._fs_hz, rel_tol=1e-6):
            raise InputError(f"the reference has {self._n} samples at {self._fs_hz / 1e6:g} MHz, the A-scan"
                             f" {len(gated.samples)} at {gated.fs_hz / 1e6:g} MHz.",
                             "Record the reference with the same settings and gate.")
        x = centred(gated.samples)
        if not is_rf(x):
            return Difference(None, 0.0, 0.0, "out_of_distribution")
        rf = Gated(x, self._period)
        product = rf.spectrum[self._bins] * self._gains
        lags, lobes = self._lobes(rf, product)
        best = int(np.argmax(lobes))
        if lobes[best] <= 0.0 or best in {0, len(lobes) - 1}:
            return Difference(None, 0.0, 0.0, "no_echo")
        lag, height = self._zero_of_phase(product, rf.margin, float(lags[best]))
        return self._judged(gated, rf, lag, height, _second(lobes, best) / float(lobes[best]))

    def _lobes(self, rf: Gated, product: ComplexArray) -> tuple[NDArray[np.int64], FloatArray]:
        """Whole lags within reach and in the gate, and the real part of R there."""
        spectrum = np.zeros(self._size, np.complex128)
        spectrum[self._bins] = product
        lags = np.arange(max(-self._reach, -self._start),
                         min(self._reach, self._n - self._start - len(self._window)) + 1)
        return lags, np.fft.ifft(spectrum).real[rf.margin + self._start + lags]

    def _zero_of_phase(self, product: ComplexArray, margin: int, lag: float) -> tuple[float, float]:
        """The lag near ``lag`` where R is real, and R there."""
        value = 0j
        for _ in range(6):
            place = margin + self._start + lag
            value = complex(np.sum(product * np.exp(1j * self._omega * place))) / self._size
            step = cmath.phase(value) / self._centroid
            lag -= step
            if abs(step) < 1e-6:
                break
        return lag, value.real

    def _judged(self, gated: AScan, rf: Gated, lag: float, height: float, second: float) -> Difference:
        begin = self._start + round(lag)
        found = rf.in_band()[begin : begin + len(self._window)]
        energy = float(np.sum(self._window[: len(found)] * np.abs(found) ** 2))
        correlation = min(height / math.sqrt(max(self._energy * energy, 1e-300)), 1.0)
        if correlation < LEAST_CORRELATION:
            return Difference(None, correlation, second, "no_echo")
        if self._doubt(energy * (1.0 - correlation**2), height, second):
            return Difference(None, correlation, second, "cycle_skip")
        shift_ns = (gated.t0_us - self._t0_us) * 1e3
        return Difference(lag / self._fs_hz * 1e9 + shift_ns, correlation, second)

    def _doubt(self, misfit: float, height: float, second: float) -> bool:
        """Whether the energy ``misfit`` that the fit leaves over may have raised another lobe to the largest.

        As white noise of variance σ² = misfit / (2 β Σw), β the part of it in band, it moves the difference
        of two lobes, g Σw|r|² (1 − second) with g the gain, by 2 σ √(difference / g).
        """
        variance = misfit / (2.0 * min(1.0, 3.4 / self._period) * float(self._window.sum()))
        gain, apart = height / self._energy, height * (1.0 - second)
        return apart <= SURE_OF_CYCLE**2 * 4.0 * variance / gain


def _extent(gated: Gated) -> tuple[int, int]:
    """Where the first echo of a reference begins and ends, in samples."""
    period = gated.period
    echo = burst_finder(period, 3.0, 0.6, 3.0).first_echo(gated, gated.matched(3.0))
    if echo is None:
        raise InputError("the reference has no echo in its gate.", "Check --gate, or record another.")
    start = max(0, int(echo.first - BEFORE * period))
    tail = np.abs(gated.in_band())[echo.top : echo.top + int(BEHIND * period)]
    loud = np.flatnonzero(tail > OVER_AT * tail[: int(period) + 1].max())
    return start, min(len(gated.x), echo.top + int(loud[-1]) + 1 + int(period))


def _taper(n: int, edge: int) -> FloatArray:
    """A window (n,) with cosine edges of ``edge`` samples."""
    edge = max(1, min(edge, n // 2))
    window = np.ones(n)
    window[:edge] = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)
    window[n - edge :] = window[:edge][::-1]
    return window


def _second(lobes: FloatArray, best: int) -> float:
    """Height of the highest local maximum of ``lobes`` beside that at ``best``, at least 0."""
    inner = lobes[1:-1]
    tops = np.flatnonzero((inner > lobes[:-2]) & (inner >= lobes[2:])) + 1
    rest = lobes[tops[tops != best]]
    return max(float(rest.max()), 0.0) if rest.size else 0.0
