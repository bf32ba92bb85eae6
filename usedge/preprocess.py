"""From gated counts to the model's input: band-limited resampling, noise-scaled normalisation, blur.

numpy alone, since this runs on the device; training calls the same functions on whole batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.spec import SignalSpec

Float32 = NDArray[np.float32]
Counts = NDArray[np.int16] | Float32

MIN_GATE_SAMPLES = 64
SPAN_SLACK = 0.07
"""How far the grid may reach beyond the gate, as a fraction of it, to make the FFT lengths smooth."""
JOIN_SAMPLES = 16
"""Least number of samples over which the periodic extension runs from the last value back to the first."""
ROLL_OFF = (0.8, 1.0)
"""Raised-cosine edge of the pass band, in units of the lower Nyquist frequency of the two rates."""
NORMAL_MEDIAN = 0.6745
"""median|x| / sigma of Gaussian noise."""


def _smooth(length: int) -> bool:
    for prime in (2, 3, 5, 7, 11):
        while length % prime == 0:
            length //= prime
    return length == 1


@dataclass(frozen=True, slots=True)
class ResamplePlan:
    """How ``n`` native samples become ``grid`` grid samples by FFT.

    Grid sample g lies at native position g · span / grid. ``span`` ≥ n makes padded and output lengths
    products of small primes; beyond the gate the last value is held, then joined to the first one.
    """

    n: int
    grid: int
    span: int
    padded: int
    out: int
    window: NDArray[np.complex64]
    join: Float32

    @property
    def step(self) -> float:
        """Native samples per grid sample."""
        return self.span / self.grid


def _lengths(n: int, grid: int) -> tuple[int, int, int]:
    best: tuple[int, int, int, int] | None = None
    for span in range(n, int(n * (1 + SPAN_SLACK)) + 3):
        unit = span // gcd(span, grid)
        first = -(-(span + JOIN_SAMPLES) // unit)
        for factor in range(first, first + 12):
            padded, out = factor * unit, factor * unit * grid // span
            cost = padded + out + 2 * (span - n)
            if (best is None or cost < best[0]) and _smooth(padded) and _smooth(out):
                best = (cost, span, padded, out)
    if best is None:
        unit = n // gcd(n, grid)
        padded = unit * -(-(n + JOIN_SAMPLES) // unit)
        return n, padded, padded * grid // n
    return best[1:]


@lru_cache(maxsize=256)
def resample_plan(n: int, grid: int) -> ResamplePlan:
    """The plan for ``n`` native samples; raises InputError below MIN_GATE_SAMPLES."""
    if n < MIN_GATE_SAMPLES:
        raise InputError(f"the gate holds {n} samples; at least {MIN_GATE_SAMPLES} are needed.",
                         "Widen the gate.")
    # A gate a little shorter than the grid is held at its last value: nothing to resample.
    fits = n <= grid <= n * (1 + SPAN_SLACK)
    span, padded, out = (grid, grid, grid) if fits else _lengths(n, grid)
    bins = min(padded, out) // 2 + 1
    frequency = np.linspace(0.0, 1.0, bins)
    edge = np.clip((frequency - ROLL_OFF[0]) / (ROLL_OFF[1] - ROLL_OFF[0]), 0.0, 1.0)
    window = (0.5 + 0.5 * np.cos(np.pi * edge)) * (out / padded)
    join = np.zeros(padded - n)
    ramp = padded - span
    join[span - n :] = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, ramp + 1) / (ramp + 1))
    # Complex, since numpy would make it so anew for every spectrum.
    return ResamplePlan(n, grid, span, padded, out, window.astype(np.complex64), join.astype(np.float32))


def resample(x: Float32, plan: ResamplePlan) -> Float32:
    """Band-limited resampling of ``x (..., n)`` to ``(..., grid)``."""
    if plan.n == plan.grid:
        return x
    padded = np.empty((*x.shape[:-1], plan.padded), np.float32)
    padded[..., : plan.n] = x
    last = x[..., -1:]
    beyond = padded[..., plan.n :]
    np.multiply(x[..., :1] - last, plan.join, out=beyond)
    beyond += last
    if plan.span == plan.grid:
        return padded
    spectrum = np.fft.rfft(padded)[..., : len(plan.window)]
    spectrum *= plan.window
    return np.fft.irfft(spectrum, plan.out)[..., : plan.grid].astype(np.float32, copy=False)


def _median(x: NDArray[np.generic]) -> float:
    # A partition, not np.median: six times faster, and for even lengths only half a rank off.
    middle, ranks = len(x) // 2, x.copy()
    ranks.partition(middle)
    return float(ranks[middle])


class Prepared(NamedTuple):
    """Gates ready for the model: ``x (b, n_samples) float32`` in −1..1, and what was measured on the way.

    ``noise``, ``peak`` and ``median`` hold b values in counts, ``step`` is native samples per grid sample.
    ``linear (n_samples,)`` is a single gate on the grid in counts, before normalisation and blur; None for a
    batch.
    """

    x: Float32
    noise: list[float]
    peak: list[float]
    median: list[float]
    step: float
    linear: Float32 | None = None


class Preprocessor:
    """Turns gated samples into the input that the spec's model was trained on.

    The blur comes last, on the grid, so that its amounts are the same for every front end; noise and peak are
    measured before it. Deblurring reads both: prepare with ``replace(spec, blur="none")``, then
    ``spec.blurring(x)`` gives, bit for bit, what this gives for ``spec``.
    """

    def __init__(self, spec: SignalSpec) -> None:
        self.spec = spec
        self._blur = spec.blurring

    def __call__(self, gated: AScan) -> Prepared:
        """The model's input (1, n_samples) for one A-scan; raises InputError for a gate that is too short."""
        return self.one(gated.samples)

    def one(self, samples: Counts) -> Prepared:
        """The model's input (1, n_samples) for ``samples (n,)`` counts; raises InputError for too few."""
        x = np.empty((1, self.spec.n_samples), np.float32)
        plan = resample_plan(len(samples), self.spec.n_samples)
        linear, median = _on_grid(samples, plan)
        noise, peak = self._normalise(linear, x[0])
        return Prepared(self._blur(x), [noise], [peak], [median], plan.step, linear)

    def batch(self, samples: Counts) -> Prepared:
        """The model's input (b, n_samples) for ``samples (b, n)`` counts of equal length."""
        plan = resample_plan(samples.shape[1], self.spec.n_samples)
        x = np.empty((len(samples), plan.grid), np.float32)
        noise, peak, median = zip(*(self._row(row, plan, out) for row, out in zip(samples, x, strict=True)),
                                  strict=True)
        return Prepared(self._blur(x), list(noise), list(peak), list(median), plan.step)

    def _row(self, samples: Counts, plan: ResamplePlan, out: Float32) -> tuple[float, float, float]:
        """``samples (n,)`` prepared into ``out``; returns noise, peak and median, counts."""
        linear, median = _on_grid(samples, plan)
        return *self._normalise(linear, out), median

    def _normalise(self, y: Float32, out: Float32) -> tuple[float, float]:
        """Noise-scaled asinh of ``y (n_samples,)`` into ``out``; returns noise and peak, counts."""
        # One A-scan at a time, with scalars as Python floats: a numpy call costs more than its work here.
        np.abs(y, out=out)
        peak = max(float(out[out.argmax()]), 1e-6)  # argmax takes a quarter of max's time
        noise = _median(out) / NORMAL_MEDIAN
        scale = 0.5 / max(noise, peak * self.spec.noise_floor)
        np.multiply(y, scale, out=out)
        np.arcsinh(out, out=out)
        out *= 1.0 / math.asinh(peak * scale)
        return noise, peak


def _on_grid(samples: Counts, plan: ResamplePlan) -> tuple[Float32, float]:
    """``samples (n,)`` less their median, resampled to the grid, and that median."""
    median = _median(samples)
    centred = samples.astype(np.float32)
    centred -= np.float32(median)
    return resample(centred, plan), median

