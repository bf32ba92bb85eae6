"""Echo pulses: four envelope families over a carrier, evaluated only where they are not zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
"""Floating-point values, float32 wherever there is one for each sample."""
Index = NDArray[np.intp]

ONSET_LEVEL = 0.05
"""An echo begins where its envelope first reaches this fraction of its peak (before any clipping)."""
TAIL_LEVEL = 0.004
ARRIVAL_LEVEL = 0.5
"""An echo has arrived where its envelope first reaches this fraction of what the ADC shows of its peak."""
RISE_STEPS = 256
GAUSSIAN, GAMMA, TWO_SIDED, TUKEY = range(4)

_GAMMA_ORDERS = np.linspace(0.6, 5.0, 45)


def _gamma_crossing(order: float, level: float, u: NDArray[np.float64]) -> float:
    envelope = u**order * np.exp(order * (1.0 - u))
    return float(u[np.argmin(np.abs(envelope - level))])


_GAMMA_ONSET = np.array([_gamma_crossing(m, ONSET_LEVEL, np.linspace(1e-5, 1, 20000)) for m in _GAMMA_ORDERS])
_GAMMA_STOP = np.array([_gamma_crossing(m, TAIL_LEVEL, np.linspace(1, 20, 20000)) for m in _GAMMA_ORDERS])
_ONSET_SIGMAS = float(np.sqrt(-2.0 * np.log(ONSET_LEVEL)))
_TAIL_SIGMAS = float(np.sqrt(-2.0 * np.log(TAIL_LEVEL)))
_TUKEY_ONSET = float(2.0 / np.pi * np.arcsin(np.sqrt(ONSET_LEVEL)))


@dataclass(frozen=True, slots=True)
class Pulses:
    """Shapes of n pulses, all fields (n,). Times ``u`` are in carrier cycles from the family's own origin.

    ``onset``, ``start`` and ``stop`` are the values of u at the labelled onset and where the envelope
    leaves and reaches TAIL_LEVEL.
    """

    family: NDArray[np.int64]
    cycles: Array
    order: Array
    rise: Array
    decay: Array
    taper: Array
    phase: Array
    chirp: Array
    second: Array
    second_ratio: Array
    onset: Array
    start: Array
    stop: Array

    @property
    def duration(self) -> Array:
        """Cycles from onset to the end."""
        return self.stop - self.onset

    @property
    def body(self) -> Array:
        """Cycles that hold most of the energy: how close the parts of one echo, or two echoes, come."""
        return np.array([2.2, 3.0, 2.2, 1.5], np.float32)[self.family] * self.cycles

    def envelope(self, u: Array, i: Index) -> Array:
        """Envelope in 0..1 of pulse ``i`` at ``u`` (both of one length)."""
        family, out = self.family[i], np.zeros_like(u)
        for code, shape in ((GAUSSIAN, self._gaussian), (GAMMA, self._gamma),
                            (TWO_SIDED, self._two_sided), (TUKEY, self._tukey)):
            chosen = family == code
            out[chosen] = shape(u[chosen], i[chosen])
        return out

    def _gaussian(self, u: Array, i: Index) -> Array:
        return np.exp(-0.5 * (u / (0.5 * self.cycles[i])) ** 2)

    def _gamma(self, u: Array, i: Index) -> Array:
        v = np.maximum(u / self.cycles[i], 1e-6)
        envelope: Array = np.exp(self.order[i] * (np.log(v) + 1.0 - v))
        return envelope

    def _two_sided(self, u: Array, i: Index) -> Array:
        return np.exp(-0.5 * (u / np.where(u < 0, self.rise[i], self.decay[i])) ** 2)

    def _tukey(self, u: Array, i: Index) -> Array:
        length = 1.5 * self.cycles[i]
        v = np.clip(np.minimum(u, length - u) / (0.5 * self.taper[i] * length), 0.0, 1.0)
        envelope: Array = np.sin(0.5 * np.pi * v) ** 2
        return envelope

    def angle(self, u: Array, i: Index) -> Array:
        """Angle of the carrier of pulse ``i`` at ``u`` cycles, chirp and phase in it."""
        bend = self.chirp[i] * u * u / np.maximum(self.stop[i] - self.start[i], 1.0)
        angle: Array = np.float32(2.0 * np.pi) * (u + bend) + self.phase[i]
        return angle

    def wave(self, u: Array, i: Index, phase: Array) -> Array:
        """RF of pulse ``i`` at ``u`` cycles, carrier phase moved by ``phase``."""
        turn = np.float32(2.0 * np.pi)
        rf: Array = np.cos(self.angle(u, i) + phase)
        two = self.second[i] > 0
        if two.any():
            j = i[two]
            angle = turn * self.second_ratio[j] * u[two] + 2 * self.phase[j] + phase[two]
            rf[two] += self.second[j] * np.cos(angle)
        return rf * self.envelope(u, i)


def log_uniform(rng: np.random.Generator, low: float | Array, high: float | Array, n: int) -> Array:
    """``n`` values whose logarithm is uniform between those of ``low`` and ``high``."""
    return np.exp(rng.uniform(np.log(low), np.log(high), n)).astype(np.float32)


def draw_pulses(rng: np.random.Generator, longest: Array, burst_share: float) -> Pulses:
    """Pulses of 0.7–7 cycles (``burst_share`` of them bursts of 8–40), at most ``longest (n,)`` cycles."""
    n = len(longest)
    burst = rng.random(n) < burst_share
    cycles = np.where(burst, log_uniform(rng, 8.0, 40.0, n), log_uniform(rng, 0.7, 7.0, n))
    cycles = np.minimum(cycles, longest).astype(np.float32)
    family = np.where(burst, rng.integers(GAMMA, TUKEY + 1, n), rng.integers(GAUSSIAN, TUKEY + 1, n))
    order, taper = rng.uniform(0.6, 5.0, n), rng.uniform(0.1, 1.0, n)
    asymmetry = log_uniform(rng, 0.25, 5.0, n)
    rise = 1.2 * cycles / (1.0 + asymmetry)
    decay = rise * asymmetry
    pick = [family == code for code in (GAUSSIAN, GAMMA, TWO_SIDED, TUKEY)]
    onset = np.select(pick, [
        -_ONSET_SIGMAS * cycles / 2, np.interp(order, _GAMMA_ORDERS, _GAMMA_ONSET) * cycles,
        -_ONSET_SIGMAS * rise, _TUKEY_ONSET * 0.75 * taper * cycles])
    start = np.select(pick, [-_TAIL_SIGMAS * cycles / 2, 0 * cycles, -_TAIL_SIGMAS * rise, 0 * cycles])
    stop = np.select(pick, [_TAIL_SIGMAS * cycles / 2, np.interp(order, _GAMMA_ORDERS, _GAMMA_STOP) * cycles,
                            _TAIL_SIGMAS * decay, 1.5 * cycles])
    f = np.float32
    return Pulses(
        family, cycles, order.astype(f), rise.astype(f), decay.astype(f), taper.astype(f),
        phase=rng.uniform(0, 2 * np.pi, n).astype(f),
        chirp=np.where(rng.random(n) < 0.3, rng.uniform(-0.25, 0.25, n), 0).astype(f),
        second=np.where(rng.random(n) < 0.15, rng.uniform(0.1, 0.5, n), 0).astype(f),
        second_ratio=rng.uniform(1.4, 2.4, n).astype(f),
        onset=onset.astype(f), start=start.astype(f), stop=stop.astype(f),
    )


@dataclass(frozen=True, slots=True)
class Echoes:
    """Echoes to be laid into a batch, all fields (k,): A-scan, onset in samples, amplitude, carrier phase."""

    row: Index
    onset: Array
    amplitude: Array
    phase: Array

    @staticmethod
    def join(parts: list[Echoes]) -> Echoes:
        """All echoes of ``parts`` in one."""
        return Echoes(*(np.concatenate([getattr(part, name) for part in parts]) for name in Echoes.__slots__))


@dataclass(frozen=True, slots=True)
class Lobes:
    """Parts that every echo of an A-scan is made of, all fields (n, m): delay behind its onset in cycles,
    height and carrier phase.
    """

    delay: Array
    height: Array
    phase: Array

    @staticmethod
    def one(n: int) -> Lobes:
        """Echoes of a single part."""
        zero = np.zeros((n, 1), np.float32)
        return Lobes(zero, zero + 1, zero)

    def parts(self, echoes: Echoes, cycle: Array) -> Echoes:
        """``echoes`` taken apart, to be laid; ``cycle (n,)`` in samples."""
        row = echoes.row
        return Echoes.join([
            Echoes(row, (echoes.onset + (self.delay[:, k] * cycle)[row]).astype(np.float32),
                   echoes.amplitude * self.height[row, k],
                   (echoes.phase + self.phase[row, k]).astype(np.float32))
            for k in range(self.delay.shape[1])])

    def arrival(self, pulses: Pulses, ceiling: Array) -> Array:
        """Cycles (n,) from an echo's onset to its arrival, ``ceiling (n,)`` being the highest amplitude that
        the ADC shows of an echo of amplitude 1.
        """
        n, i = len(self.delay), np.arange(len(self.delay)).repeat(RISE_STEPS)
        step = (pulses.duration + self.delay.max(axis=1)) / (RISE_STEPS - 1)
        after = step[:, np.newaxis] * np.arange(RISE_STEPS, dtype=np.float32)
        total = np.zeros((n, RISE_STEPS), np.complex64)
        for k in range(self.delay.shape[1]):
            u = (after + (pulses.onset - self.delay[:, k])[:, np.newaxis]).ravel().astype(np.float32)
            analytic = pulses.envelope(u, i) * np.exp(1j * pulses.angle(u, i))
            turned = self.height[:, k] * np.exp(1j * self.phase[:, k])
            total += turned[:, np.newaxis] * analytic.reshape(n, RISE_STEPS)
        envelope = np.abs(total)
        level = ARRIVAL_LEVEL * np.minimum(envelope.max(axis=1), ceiling)
        cycles: Array = (step * (envelope >= level[:, np.newaxis]).argmax(axis=1)).astype(np.float32)
        return cycles


def lay(x: Array, echoes: Echoes, pulses: Pulses, cycle: Array) -> None:
    """Add ``echoes`` to ``x (n, samples)``; pulse and ``cycle`` (samples a carrier cycle) are the row's.

    Every echo is evaluated on its own support only, all of them as one ragged array.
    """
    n_samples = x.shape[1]
    row = echoes.row
    first = np.ceil(echoes.onset + (pulses.start - pulses.onset)[row] * cycle[row])
    stop = np.floor(echoes.onset + pulses.duration[row] * cycle[row]) + 1
    first = np.clip(first, 0, n_samples).astype(np.int64)
    count = np.maximum(np.clip(stop, 0, n_samples).astype(np.int64) - first, 0)
    which = np.repeat(np.arange(len(row)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    t = first[which] + within
    i = row[which]
    u = ((t - echoes.onset[which]) / cycle[i] + pulses.onset[i]).astype(np.float32)
    rf = pulses.wave(u, i, echoes.phase[which]) * echoes.amplitude[which]
    x += np.bincount(i * n_samples + t, rf, minlength=x.size).reshape(x.shape).astype(np.float32)
