"""Time of flight from a gated A-scan: what a picker answers, and the classical pickers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usedge.ascan import AScan
from usedge.errors import InputError

MIN_SAMPLES = 8
"""Shortest gate, in samples, that a classical picker accepts."""
DETECTION = 8.0
"""An echo's envelope must exceed this many times the noise rms, or the gate has no echo."""
RAYLEIGH_P20 = math.sqrt(-2.0 * math.log(0.8))
"""20th percentile (0.668) of the envelope of Gaussian noise of rms 1: echoes in the gate hardly move it."""
QUANTISATION_RMS = 1.0 / math.sqrt(12.0)
"""Noise rms that rounding to whole counts adds, in counts: no receiver is quieter."""

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]


@dataclass(frozen=True, slots=True)
class Pick:
    """A picker's answer for one gated A-scan.

    ``tof_us`` is the onset of the first echo in µs after the main bang, None when the picker abstains and
    then ``abstain`` says why ("no_echo", "low_confidence", …). ``label`` is the class: the index of the patch
    that holds the onset (the gate cut into as many equal patches as the model has), None for classical
    abstentions. ``confidence`` is in 0..1, ``snr_db`` the peak over the noise (median|x| / 0.6745) of the
    gate.
    """

    tof_us: float | None
    confidence: float
    snr_db: float
    label: int | None = None
    abstain: str | None = None


class Picker(Protocol):
    """Anything that finds the first echo's onset in a gated A-scan: the model or a classical method."""

    def pick(self, gated: AScan) -> Pick:
        """The onset of the first echo in ``gated`` (an A-scan already cut to its gate)."""
        ...


def estimate_f0(samples: ArrayLike, fs_hz: float) -> float:
    """Centre frequency, Hz, of the echoes in ``samples (n,)`` or ``(rows, n)`` (the rows' median spectrum).

    The centroid of the power above the noise floor, within a factor two of the spectrum's smoothed maximum.
    What lies under 1/200 of the sampling rate or has under 3 cycles in the gate is left out: baseline wander.
    Raises InputError for fewer than 8 samples; a constant A-scan has no spectrum and gives fs / 8.
    """
    rows = np.atleast_2d(np.asarray(samples, np.float64))
    n = rows.shape[-1]
    if n < MIN_SAMPLES:
        raise InputError(f"{n} samples are too few for a spectrum.", f"Give at least {MIN_SAMPLES}.")
    rows = rows - np.median(rows, axis=-1, keepdims=True)
    size = max(256, _power_of_two(n))
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


def _power_of_two(n: int) -> int:
    return 1 << max(n - 1, 1).bit_length()


@lru_cache(maxsize=8)
def _analytic_band(size: int, f0_per_fs: float) -> FloatArray:
    """Gains (size,) that pass 0.3–2 f0 with cosine edges and make the outcome analytic (no negative bins)."""
    f = np.fft.fftfreq(size) / f0_per_fs
    rise, fall = np.clip((f - 0.15) / 0.3, 0.0, 1.0), np.clip((2.4 - f) / 0.6, 0.0, 1.0)
    gains: FloatArray = 2.0 * np.sin(0.5 * np.pi * rise * fall) ** 2
    gains.flags.writeable = False
    return gains


@dataclass(frozen=True, slots=True)
class _Gated:
    """A gate as the methods see it, all arrays (n,).

    ``x`` as recorded but for its median, ``analytic`` in band or matched, its ``envelope`` and that one's
    ``noise`` rms, ``period`` of f0 in samples.
    """

    x: FloatArray
    analytic: ComplexArray
    envelope: FloatArray
    noise: float
    period: float

    @property
    def rf(self) -> FloatArray:
        """The RF in band."""
        return self.analytic.real

    @property
    def peak(self) -> float:
        """The envelope's maximum."""
        return float(self.envelope.max())


def _analyse(x: FloatArray, fs_hz: float, f0_hz: float) -> _Gated:
    """Band-pass ``x (n,)`` without delay and take its Hilbert envelope; mirrored edges do not ring."""
    n, period = len(x), fs_hz / f0_hz
    margin = min(n - 1, int(6 * period))
    size = _power_of_two(n + 2 * margin)
    padded = np.pad(x, (margin, size - n - margin), mode="reflect")
    analytic = np.fft.ifft(np.fft.fft(padded) * _analytic_band(size, f0_hz / fs_hz))[margin : margin + n]
    envelope = np.abs(analytic)
    in_band = math.sqrt(min(1.0, 3.4 / period))
    return _Gated(x, analytic, envelope, _noise_rms(envelope, in_band), period)


def _noise_rms(envelope: FloatArray, in_band: float) -> float:
    """Noise rms under ``envelope (n,)``, and not less than the part ``in_band`` of the quantisation noise."""
    return max(float(np.percentile(envelope, 20)) / RAYLEIGH_P20, QUANTISATION_RMS * in_band)


def _first_above(values: FloatArray, level: float) -> int:
    """Index of the first value not under ``level`` (which the maximum reaches)."""
    return int(np.argmax(values >= level))


def _crossing(values: FloatArray, level: float) -> float:
    """Where ``values`` first reach ``level``, linearly interpolated between samples."""
    i = _first_above(values, level)
    if i == 0:
        return 0.0
    return i - 1 + float((level - values[i - 1]) / (values[i] - values[i - 1]))


def _largest(values: FloatArray, start: int, reach: float) -> int:
    """Index of the largest value within ``reach`` samples from ``start`` on."""
    return start + int(np.argmax(values[start : start + int(reach) + 1]))


def _vertex(values: FloatArray, i: int) -> float:
    """Sub-sample place of the local maximum at ``i``, from the parabola through it and its neighbours."""
    if not 0 < i < len(values) - 1:
        return float(i)
    before, top, after = values[i - 1 : i + 2]
    bend = before - 2.0 * top + after
    return i + float(0.5 * (before - after) / bend) if bend < 0 else float(i)


def akaike(x: ArrayLike) -> FloatArray:
    """Akaike information criterion of cutting ``x (n,)`` before sample k, for k = 2 … n − 3.

    AIC(k) = k log var(x[:k]) + (n − k − 1) log var(x[k:]) (N. Maeda, Zisin 38, 1985, p. 365): its minimum is
    the likeliest boundary between noise and echo. Raises InputError for fewer than 8 samples.
    """
    y = np.asarray(x, np.float64)
    n = len(y)
    if n < MIN_SAMPLES:
        raise InputError(f"{n} samples are too few for the AIC.", f"Give at least {MIN_SAMPLES}.")
    y = y - y.mean()
    k = np.arange(2, n - 2)
    sums, squares = np.cumsum(y), np.cumsum(y * y)
    floor = 1e-9 * squares[-1] / n + 1e-300
    before = squares[k - 1] / k - (sums[k - 1] / k) ** 2
    after = (squares[-1] - squares[k - 1]) / (n - k) - ((sums[-1] - sums[k - 1]) / (n - k)) ** 2
    quiet, loud = np.log(np.maximum(before, floor)), np.log(np.maximum(after, floor))
    criterion: FloatArray = k * quiet + (n - k - 1) * loud
    return criterion


@lru_cache(maxsize=8)
def _burst(period: float, cycles: float) -> ComplexArray:
    """A burst of ``cycles`` under a Hann window, both quadratures; real part 0 in its middle."""
    half = max(2, round(cycles * period / 2))
    t = np.arange(-half, half + 1)
    burst: ComplexArray = np.cos(0.5 * np.pi * t / (half + 1)) ** 2 * np.exp(2j * np.pi * t / period) / 1j
    burst.flags.writeable = False
    return burst


def _match(gated: _Gated, echo: ComplexArray, origin: int) -> _Gated:
    """``gated`` correlated with an analytic ``echo (m,)``: place i tells how well echo[origin] fits there.

    ``echo`` is scaled to energy 1, so white noise keeps its rms and the detection limit its meaning.
    """
    n, m = len(gated.rf), len(echo)
    echo = echo / np.linalg.norm(echo.real)
    places = slice(m - 1 - origin, m - 1 - origin + n)
    rf = np.ascontiguousarray(gated.rf)
    matched = np.empty(n, np.complex128)
    matched.real = np.correlate(rf, echo.real, "full")[places]
    matched.imag = np.correlate(rf, echo.imag, "full")[places]
    envelope = np.abs(matched)
    return _Gated(gated.x, matched, envelope, _noise_rms(envelope, 1.0), gated.period)


@dataclass(frozen=True)
class ClassicalPicker(ABC):
    """What the classical pickers share: conditioning, detection, and how an onset becomes a ``Pick``.

    ``f0_hz`` is the centre frequency, None to estimate it from each gated A-scan; ``n_classes`` the number of
    equal patches that ``label`` counts in. Raises InputError for an ``f0_hz`` that is not positive.
    """

    f0_hz: float | None = None
    n_classes: int = 64

    def __post_init__(self) -> None:
        if self.f0_hz is not None and not 0 < self.f0_hz < math.inf:
            raise InputError(f"a centre frequency of {self.f0_hz} Hz is not positive.", "Example: 2.25e6.")

    def _detector(self, gated: _Gated) -> _Gated:
        """What detection and ``_onset`` look at: the gate itself, or the outcome of a filter."""
        return gated

    @abstractmethod
    def _onset(self, gated: _Gated) -> float:
        """The onset in samples from the gate's start; the gate is known to hold an echo."""

    def pick(self, gated: AScan) -> Pick:
        """The first echo's onset in ``gated``; abstains where the envelope stays under 8 × the noise rms.

        ``abstain`` is "no_echo", or "out_of_distribution" for a constant gate: a receiver always has noise,
        so this is none. ``confidence`` is 1 − 8 · noise / peak of the envelope that detection looks at: 0 at
        the limit, ½ at twice it; it ranks picks by their echo's strength and is no probability.
        Raises InputError for a gate under 8 samples and for an ``f0_hz`` not under the Nyquist frequency.
        """
        x = _centred(gated.samples)
        if not x.any() or np.ptp(x) == 0:
            return Pick(None, 0.0, 0.0, abstain="out_of_distribution")
        echoes = self._detector(_analyse(x, gated.fs_hz, self._centre_frequency(x, gated.fs_hz)))
        snr_db = _snr_db(x)
        if echoes.peak <= DETECTION * echoes.noise:
            return Pick(None, 0.0, snr_db, abstain="no_echo")
        onset = min(max(self._onset(echoes), 0.0), len(x) - 1.0)
        confidence = 1.0 - DETECTION * echoes.noise / echoes.peak
        label = int(onset / len(x) * self.n_classes)
        return Pick(gated.t0_us + onset * gated.sample_us, confidence, snr_db, label)

    def _centre_frequency(self, x: FloatArray, fs_hz: float) -> float:
        if self.f0_hz is None:
            return estimate_f0(x, fs_hz)
        if self.f0_hz >= fs_hz / 2:
            raise InputError(f"a centre frequency of {self.f0_hz:g} Hz is not under fs/2 (fs {fs_hz:g} Hz).",
                             "Check the units of both: Hz.")
        return self.f0_hz


def _centred(samples: ArrayLike) -> FloatArray:
    """``samples (n,)`` as float without their median; raises InputError for fewer than 8."""
    x = np.asarray(samples, np.float64)
    if len(x) < MIN_SAMPLES:
        raise InputError(f"the gate holds {len(x)} samples, too few to find an echo in.",
                         f"Give a gate of at least {MIN_SAMPLES} samples.")
    centred: FloatArray = x - np.median(x)
    return centred


def _snr_db(x: FloatArray) -> float:
    magnitude = np.abs(x)
    noise = max(float(np.median(magnitude)) / 0.6745, QUANTISATION_RMS)
    return 20.0 * math.log10(float(magnitude.max()) / noise)


@dataclass(frozen=True)
class Threshold(ClassicalPicker):
    """First crossing of the Hilbert envelope over max(8 × noise rms, ``fraction`` × peak), interpolated."""

    fraction: float = 0.15

    def _onset(self, gated: _Gated) -> float:
        return _crossing(gated.envelope, max(DETECTION * gated.noise, self.fraction * gated.peak))


@dataclass(frozen=True)
class Envelope(ClassicalPicker):
    """Matched filter: the envelope of the correlation with a Hann burst of ``cycles`` at f0.

    Its first local maximum (within ``reach`` cycles) over ``fraction`` × the largest, less half the burst.
    Detection is on the filter's output, so a weak echo is found that the plain envelope loses in noise.
    """

    fraction: float = 0.6
    cycles: float = 3.0
    reach: float = 3.0

    def _detector(self, gated: _Gated) -> _Gated:
        burst = _burst(gated.period, self.cycles)
        return _match(gated, burst, len(burst) // 2)

    def _onset(self, gated: _Gated) -> float:
        first = _first_above(gated.envelope, self.fraction * gated.peak)
        top = _largest(gated.envelope, first, self.reach * gated.period)
        return _vertex(gated.envelope, top) - 0.5 * self.cycles * gated.period


@dataclass(frozen=True)
class Aic(ClassicalPicker):
    """AIC onset (``akaike``), from ``lead`` cycles before the first echo's threshold to its maximum.

    The threshold is that of ``Threshold``, the maximum the largest within ``reach`` cycles from there. The
    AIC takes the A-scan as recorded: a band-pass without delay rings ahead of a strong echo.
    """

    fraction: float = 0.15
    lead: float = 6.0
    reach: float = 3.0

    def _onset(self, gated: _Gated) -> float:
        level = max(DETECTION * gated.noise, self.fraction * gated.peak)
        first = _first_above(gated.envelope, level)
        top = _largest(gated.envelope, first, self.reach * gated.period)
        start = max(0, int(first - self.lead * gated.period))
        if top + 1 - start < MIN_SAMPLES:
            return float(first)
        return start + 2.0 + float(np.argmin(akaike(gated.x[start : top + 1])))


@dataclass(frozen=True)
class Xcorr(ClassicalPicker):
    """Cross-correlation with an echo: its first significant lobe, placed between samples by a parabola.

    ``reference`` is an A-scan of one echo whose sample 0 is the onset, recorded at the gate's rate; None
    takes a Hann burst of ``cycles`` at f0. Either polarity counts. Detection is on the envelope of it.
    The first echo is the one that ``Envelope`` takes; significant is what follows the last crossing of 0.7 ×
    its maximum. For a 3-cycle burst that is 0.73 cycles before the best fit, so the next lobe, up to half a
    cycle on, comes 0.48 early on the average: that is added. With a reference the main lobe counts.
    ``pick`` raises InputError for a reference of another rate, a constant one, or one as long as the gate.
    """

    fraction: float = 0.6
    cycles: float = 3.0
    reach: float = 3.0
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
        if echo is not None and np.ptp(echo.samples) == 0:
            raise InputError("the reference is constant.", "Cut it from its echo's onset on.")
        return super().pick(gated)

    def _detector(self, gated: _Gated) -> _Gated:
        if self.reference is None:
            burst = _burst(gated.period, self.cycles)
            return _match(gated, burst, len(burst) // 2)
        echo = _analyse(_centred(self.reference.samples), 1.0, 1.0 / gated.period)
        return _match(gated, echo.analytic, 0)

    def _onset(self, gated: _Gated) -> float:
        lobes, envelope = np.abs(gated.rf), gated.envelope
        first = _first_above(envelope, self.fraction * gated.peak)
        top = _largest(envelope, first, self.reach * gated.period)
        if self.reference is not None:
            start = max(0, int(top - 0.5 * gated.period))
            return _vertex(lobes, _largest(lobes, start, gated.period))
        weaker = np.flatnonzero(envelope[:top] < 0.7 * envelope[top])
        start = int(weaker[-1]) + 1 if weaker.size else 0
        lobe = _vertex(lobes, _largest(lobes, start, 0.5 * gated.period))
        return lobe - (0.5 * self.cycles - 0.48) * gated.period


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
