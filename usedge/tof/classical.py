"""The classical pickers: matched filter, threshold, AIC and cross-correlation."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.tof.gated import (
    DETECTION,
    Echo,
    Finder,
    FloatArray,
    Gated,
    band_noise_rms,
    burst_finder,
    centred,
    crossing,
    is_rf,
    largest,
    peak_snr_db,
    vertex,
)
from usedge.tof.pick import Pick
from usedge.tof.spectrum import MIN_SAMPLES, estimate_f0


def akaike(x: ArrayLike, least: float = 0.0) -> FloatArray:
    """Akaike information criterion of cutting ``x (n,)`` before sample k, for k = 2 … n − 3.

    AIC(k) = k log var(x[:k]) + (n − k − 1) log var(x[k:]) (N. Maeda, Zisin 38, 1985, p. 365): its minimum is
    the likeliest boundary between noise and echo. No variance counts as under ``least``: without that of the
    rounding, one count in a quiet stretch would be a boundary. Raises InputError for fewer than 8 samples.
    """
    y = np.asarray(x, np.float64)
    n = len(y)
    if n < MIN_SAMPLES:
        raise InputError(f"{n} samples are too few for the AIC.", f"Give at least {MIN_SAMPLES}.")
    y = y - np.add.reduce(y) / n
    k = np.arange(2.0, n - 2.0)
    left = n - k
    sums, squares = y.cumsum(), np.multiply(y, y).cumsum()
    total, power = sums[-1], squares[-1]
    sums, squares = sums[1 : n - 3], squares[1 : n - 3]
    before = squares / k - np.square(sums / k)
    after = (power - squares) / left - np.square((total - sums) / left)
    floor = max(1e-9 * float(power) / n + 1e-300, least)
    quiet = np.log(np.maximum(before, floor, out=before), out=before)
    loud = np.log(np.maximum(after, floor, out=after), out=after)
    quiet *= k
    loud *= left - 1.0
    criterion: FloatArray = quiet + loud
    return criterion


@dataclass(frozen=True)
class ClassicalPicker(ABC):
    """What the classical pickers share: the detection of the first echo, and how an onset becomes a ``Pick``.

    Detection is a matched filter, the correlation with a Hann burst of ``cycles`` at f0 (G. L. Turin, IRE
    Trans. Inf. Theory 6, 1960, p. 311), so a weak echo is found that the plain envelope loses in noise. The
    first echo reaches ``fraction`` of the largest; it ends, for all a picker asks, at the filter's largest
    value within ``reach`` cycles.

    ``f0_hz`` is the centre frequency, None to estimate it from each gated A-scan; ``n_classes`` the number of
    equal patches that ``label`` counts in. Raises InputError for an ``f0_hz`` that is not positive.
    """

    f0_hz: float | None = None
    n_classes: int = 64
    fraction: float = 0.15
    cycles: float = 3.0
    reach: float = 3.0

    def __post_init__(self) -> None:
        if self.f0_hz is not None and not 0 < self.f0_hz < math.inf:
            raise InputError(f"a centre frequency of {self.f0_hz} Hz is not positive.", "Example: 2.25e6.")

    def _first_echo(self, gated: Gated) -> Echo | None:
        """The first echo that the matched filter finds."""
        finder = burst_finder(gated.period, self.cycles, self.fraction, self.reach)
        return finder.first_echo(gated, gated.matched(self.cycles))

    @abstractmethod
    def _onset(self, echo: Echo) -> float:
        """The onset of ``echo`` in samples from the gate's start."""

    def pick(self, gated: AScan) -> Pick:
        """The first echo's onset in ``gated``; abstains where the matched filter stays under 8 × its noise.

        Passed over are what rings down from before the gate and what is no echo by its shape. ``abstain`` is
        "no_echo", or "out_of_distribution" for what no receiver sends (constant, NaN, infinity) and for a
        gate under 10 periods of the centre frequency, which shows no noise beside an echo. ``confidence`` is
        1 − 8 · noise / peak of the matched filter: 0 at the limit, ½ at twice it; it ranks picks by their
        echo's strength and is no probability.
        Raises InputError for a gate under 8 samples and for an ``f0_hz`` not under the Nyquist frequency.
        """
        x = centred(gated.samples)
        if not is_rf(x):
            reason = "constant" if np.isfinite(x).all() else "not_finite"
            return Pick(None, 0.0, 0.0, abstain="out_of_distribution", reason=reason)
        snr_db = peak_snr_db(x)
        period = gated.fs_hz / self._centre_frequency(x, gated.fs_hz)
        if not is_rf(x, period):
            return Pick(None, 0.0, snr_db, abstain="out_of_distribution", reason="short")
        echo = self._first_echo(Gated(x, period))
        if echo is None:
            return Pick(None, 0.0, snr_db, abstain="no_echo")
        onset = min(max(self._onset(echo), 0.0), len(x) - 1.0)
        confidence = 1.0 - DETECTION * echo.noise / echo.peak
        label = int(onset / len(x) * self.n_classes)
        return Pick(gated.t0_us + onset * gated.sample_us, confidence, snr_db, label)

    def _centre_frequency(self, x: FloatArray, fs_hz: float) -> float:
        if self.f0_hz is None:
            return estimate_f0(x, fs_hz)
        if self.f0_hz >= fs_hz / 2:
            raise InputError(f"a centre frequency of {self.f0_hz:g} Hz is not under fs/2 (fs {fs_hz:g} Hz).",
                             "Check the units of both: Hz.")
        return self.f0_hz


@dataclass(frozen=True)
class Threshold(ClassicalPicker):
    """First crossing of the Hilbert envelope over max(8 × noise rms, ``height`` × the echo's peak).

    Sought from ``lead`` cycles before the echo on, interpolated between samples. ``height`` 0.1 has the most
    hits of 0.05 … 0.3 on 1500 synthetic A-scans (preset ``field``).
    """

    height: float = 0.1
    lead: float = 6.0

    def _onset(self, echo: Echo) -> float:
        period, envelope = echo.gated.period, np.abs(echo.gated.in_band())
        start = max(0, int(echo.first - self.lead * period))
        around = envelope[start : echo.top + int(0.5 * self.cycles * period) + 1]
        level = max(DETECTION * band_noise_rms(envelope, period), self.height * float(around.max()))
        if around.max() < level:
            return echo.top - 0.5 * self.cycles * period
        return start + crossing(around, level)


@dataclass(frozen=True)
class Envelope(ClassicalPicker):
    """Matched filter: the envelope of the correlation with a Hann burst of ``cycles`` at f0.

    Its first local maximum (within ``reach`` cycles) over ``fraction`` × the largest, between samples by a
    parabola, less half the burst. ``fraction`` 0.5 … 0.7 misses the fewest echoes of recorded A-scans, less
    the first of several that grow.
    """

    fraction: float = 0.6

    def _onset(self, echo: Echo) -> float:
        return vertex(echo.envelope, echo.top) - 0.5 * self.cycles * echo.gated.period


@dataclass(frozen=True)
class Aic(ClassicalPicker):
    """AIC onset (``akaike``), from ``lead`` cycles before the first echo to the matched filter's maximum.

    The AIC takes the A-scan as recorded: a band-pass without delay rings ahead of a strong echo. ``fraction``
    0.1 … 0.15 and ``lead`` 6 have the most hits on 1500 synthetic A-scans (preset ``field``).
    """

    lead: float = 6.0

    def _onset(self, echo: Echo) -> float:
        start = max(0, int(echo.first - self.lead * echo.gated.period))
        if echo.top + 1 - start < MIN_SAMPLES:
            return float(echo.first)
        return start + 2.0 + float(np.argmin(akaike(echo.gated.x[start : echo.top + 1])))


@dataclass(frozen=True)
class Xcorr(ClassicalPicker):
    """Cross-correlation with an echo: its first significant lobe, placed between samples by a parabola.

    ``reference`` is an A-scan of one echo whose sample 0 is the onset, recorded at the gate's rate; None
    takes a Hann burst of ``cycles`` at f0. Either polarity counts.
    The first echo is the one that ``Envelope`` takes; significant is what follows the last crossing of 0.7 ×
    its maximum. For a 3-cycle burst that is 0.73 cycles before the best fit, so the next lobe, up to half a
    cycle on, comes 0.48 early on the average: that is added. With a reference the main lobe counts.
    ``pick`` raises InputError for a reference of another rate, a constant one, or one as long as the gate.
    """

    fraction: float = 0.6
    reference: AScan | None = None

    def pick(self, gated: AScan) -> Pick:
        """As ``ClassicalPicker.pick``; raises InputError as well for a ``reference`` that does not fit."""
        echo = self.reference
        if echo is not None and not math.isclose(echo.fs_hz, gated.fs_hz, rel_tol=1e-6):
            raise InputError(f"the reference has {echo.fs_hz:g} samples/s, the A-scan {gated.fs_hz:g}.",
                             "Record the reference with the same front end.")
        if echo is not None and len(echo.samples) >= len(gated.samples):
            raise InputError(f"the reference ({len(echo.samples)} samples) is not shorter than the gate"
                             f" ({len(gated.samples)}).", "Cut it to one echo.")
        if echo is not None and not is_rf(centred(echo.samples)):
            raise InputError("the reference is constant, or has NaN or infinity.",
                             "Cut it from its echo's onset on.")
        return super().pick(gated)

    def _first_echo(self, gated: Gated) -> Echo | None:
        if self.reference is None:
            return super()._first_echo(gated)
        echo = Gated(centred(self.reference.samples), gated.period).in_band()
        finder = Finder(self.fraction, self.reach, 0, len(echo) - 1)
        return finder.first_echo(gated, gated.matched_with(echo))

    def _onset(self, echo: Echo) -> float:
        period, envelope, top = echo.gated.period, echo.envelope, echo.top
        lobes = np.abs(echo.matched.real)
        if self.reference is not None:
            return vertex(lobes, largest(lobes, max(0, int(top - 0.5 * period)), period))
        weaker = np.flatnonzero(envelope[:top] < 0.7 * envelope[top])
        start = int(weaker[-1]) + 1 if weaker.size else 0
        lobe = vertex(lobes, largest(lobes, start, 0.5 * period))
        return lobe - (0.5 * self.cycles - 0.48) * period


CLASSICAL: dict[str, type[ClassicalPicker]] = {
    "threshold": Threshold,
    "envelope": Envelope,
    "aic": Aic,
    "xcorr": Xcorr,
}
"""The classical pickers by the names that the commands use."""


def classical_picker(name: str, f0_hz: float | None = None, n_classes: int = 64) -> ClassicalPicker:
    """The classical picker called ``name``; raises InputError, naming the known ones, for any other name."""
    if name not in CLASSICAL:
        raise InputError(f"there is no method {name!r}.", f"Known: {', '.join(CLASSICAL)}.")
    return CLASSICAL[name](f0_hz=f0_hz, n_classes=n_classes)
