"""The ``field`` preset: gates as real front ends deliver them.

Ranges were chosen on a trial over synthetic A-scans alone; each is a named setting with its unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from usedge.synth import noise
from usedge.synth.noise import Rng, column, decibel
from usedge.synth.pulses import Array, Echoes, Lobes, Pulses, draw_pulses, lay, log_uniform

MOST_ECHOES = 6


@dataclass(frozen=True, slots=True)
class FieldSettings:
    """Shares are fractions of the A-scans; amplitudes are relative to the first significant echo.

    First significant echo: the earliest whose peak is at least −12 dB of the largest; what comes before it
    is a precursor of at most ``precursor_db`` and is never labelled. ``reverberation_share`` is of the empty
    gates, ``reverberation_db`` over their noise.
    """

    cycles_per_gate: tuple[float, float] = (28.0, 512.0)
    least_samples_per_cycle: float = 2.7
    empty_share: float = 0.28
    burst_share: float = 0.12
    lobes_share: float = 0.5
    lobe_height: tuple[float, float] = (0.2, 8.0)
    regular_share: float = 0.5
    decay_db: tuple[float, float] = (0.5, 14.0)
    bigger_share: float = 0.35
    bigger_db: tuple[float, float] = (0.0, 12.0)
    coda_share: float = 0.6
    coda_db: tuple[float, float] = (-45.0, -16.0)
    precursor_share: float = 0.2
    precursor_db: tuple[float, float] = (-45.0, -22.0)
    reverberation_share: float = 0.4
    reverberation_db: tuple[float, float] = (0.0, 25.0)
    snr_db: tuple[float, float] = (10.0, 60.0)
    in_band_snr_db: float = 16.0
    ring_share: float = 0.45
    spike_share: float = 0.15
    packet_share: float = 0.12
    hum_share: float = 0.08
    drift_share: float = 0.4
    tgc_share: float = 0.2
    clip_share: float = 0.25
    blank_share: float = 0.1
    bits: tuple[int, ...] = (8, 8, 10, 10, 12, 14)


@dataclass(frozen=True, slots=True)
class Scene:
    """What the A-scans of a batch hold: (n,) each; ``onset`` and ``arrival`` (known at last) of the first
    significant echo in samples, NaN where the gate is empty.
    """

    cycle: Array
    pulses: Pulses
    onset: Array
    n_echoes: NDArray[np.int64]
    snr_db: Array
    arrival: Array

    @property
    def has_echo(self) -> NDArray[np.bool_]:
        """True where the gate holds an echo."""
        return ~np.isnan(self.onset)


def _draw_scene(rng: Rng, n: int, samples: int, s: FieldSettings) -> Scene:
    low, high = s.cycles_per_gate
    cycle = samples / log_uniform(rng, low, min(high, samples / s.least_samples_per_cycle), n)
    pulses = draw_pulses(rng, 0.35 * samples / cycle, s.burst_share)
    room = np.maximum(samples - np.minimum((0.5 * pulses.duration + 1) * cycle, 0.5 * samples), 0.3 * samples)
    onset = rng.uniform(0.008, 1.0, n) * room
    empty = rng.random(n) < s.empty_share
    count = rng.choice(np.arange(1, MOST_ECHOES + 1), n, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1])
    onset = np.where(empty, np.nan, onset).astype(np.float32)
    return Scene(cycle, pulses, onset, np.where(empty, 0, count),
                 rng.uniform(*s.snr_db, n).astype(np.float32), onset)


def _draw_echoes(rng: Rng, scene: Scene, samples: int, s: FieldSettings) -> Echoes:
    n, length = len(scene.cycle), scene.pulses.body * scene.cycle
    regular = rng.random(n) < s.regular_share
    spacing = np.maximum(log_uniform(rng, 0.02, 0.7, n) * samples, rng.uniform(0.4, 2.0, n) * length)
    decay = 1.0 / decibel(rng, *s.decay_db, n)
    bigger = np.where(rng.random(n) < s.bigger_share, decibel(rng, *s.bigger_db, n), 0.0)
    onset, amplitude, parts = scene.onset.copy(), np.ones(n, np.float32), []
    for k in range(MOST_ECHOES):
        if k:
            free = np.maximum(log_uniform(rng, 0.015, 0.6, n) * samples, rng.uniform(0.3, 3.0, n) * length)
            onset = onset + np.where(regular, spacing, free)
            amplitude = np.where(regular, amplitude * decay, decibel(rng, -35.0, 3.0, n))
            if k == 1:
                amplitude = np.where(bigger > 0, bigger, amplitude)
        row = np.flatnonzero((k < scene.n_echoes) & (onset < samples))
        flip = np.where(rng.random(len(row)) < 0.5, np.pi, 0.0) * (k > 0)
        parts.append(Echoes(row, onset[row], amplitude[row].astype(np.float32), flip.astype(np.float32)))
    return Echoes.join(parts)


def _draw_lobes(rng: Rng, scene: Scene, s: FieldSettings) -> Lobes:
    n, body = len(scene.cycle), scene.pulses.body
    has = (rng.random(n) < s.lobes_share)[:, np.newaxis] & (rng.random((n, 2)) < 0.6)
    low, high = (float(np.log(bound)) for bound in s.lobe_height)
    height = np.where(has, np.exp(rng.uniform(low, high, (n, 2))), 0.0).astype(np.float32)
    delay, phase = rng.uniform(0.3, 1.6, (n, 2)), rng.uniform(0, 2 * np.pi, (n, 2))
    scale = 1.0 / np.maximum(1.0, height.max(axis=1))
    zero = np.zeros((n, 1), np.float32)
    return Lobes(np.hstack([zero, np.where(has, delay * body[:, np.newaxis], 0.0).astype(np.float32)]),
                 np.hstack([zero + 1, height]) * scale[:, np.newaxis],
                 np.hstack([zero, phase.astype(np.float32)]))


def _precursors(rng: Rng, scene: Scene, samples: int, s: FieldSettings) -> Echoes:
    row = np.flatnonzero(scene.has_echo & (rng.random(len(scene.cycle)) < s.precursor_share))
    k = len(row)
    # Over before the echo begins: a weak packet that runs into it would be its slow beginning.
    length = (scene.pulses.duration * scene.cycle)[row]
    onset = scene.onset[row] - length - rng.uniform(0.01, 0.8, k) * samples
    return Echoes(row, onset.astype(np.float32), decibel(rng, *s.precursor_db, k),
                  rng.uniform(0, 2 * np.pi, k).astype(np.float32))


def _coda(rng: Rng, echoes: Echoes, scene: Scene, samples: int, s: FieldSettings) -> Array:
    n, level = len(scene.cycle), np.zeros((len(scene.cycle), samples), np.float32)
    t = np.arange(samples, dtype=np.float32)
    tau = scene.cycle * np.maximum(scene.pulses.duration, 1) * rng.uniform(1, 8, n)
    late = echoes.onset + 0.5 * (scene.pulses.duration * scene.cycle)[echoes.row]
    loud = np.flatnonzero(echoes.amplitude > 0.1)
    for i in loud:
        row, begin = echoes.row[i], max(int(late[i]) + 1, 0)
        level[row, begin:] += echoes.amplitude[i] * np.exp(-(t[begin:] - echoes.onset[i]) / tau[row])
    return noise.chosen(rng, s.coda_share, n, decibel(rng, *s.coda_db, n)) * level


def _reverberation(rng: Rng, scene: Scene, samples: int, sigma: Array, s: FieldSettings) -> Array:
    """What earlier echoes leave in a gate without one: in-band, swelling and fading, nowhere beginning."""
    n, t = len(scene.cycle), np.arange(samples, dtype=np.float32) / samples
    width = column(log_uniform(rng, 0.1, 0.5, n))
    swell = np.ones((n, samples), np.float32)
    for _ in range(3):
        turns, phase = column(rng.uniform(0.5, 6.0, n)), column(rng.uniform(0, 2 * np.pi, n))
        swell += np.float32(0.3) * np.cos(np.float32(2 * np.pi) * turns * t + phase)
    level = np.where(scene.has_echo, 0.0, sigma * decibel(rng, *s.reverberation_db, n))
    decay = swell * np.exp(-t / column(log_uniform(rng, 0.1, 3.0, n)))
    scatter = noise.in_band_noise(rng, (n, samples), scene.cycle, width)
    left: Array = noise.chosen(rng, s.reverberation_share, n, level) * decay * scatter
    return left


def _blank(rng: Rng, x: NDArray[np.int16], onset: Array, share: float) -> None:
    until = np.nan_to_num(onset, nan=0.0) * rng.uniform(0, 0.8, len(x))
    for row in np.flatnonzero(rng.random(len(x)) < share):
        x[row, : int(until[row])] = x[row, int(until[row])]


def field_batch(
    rng: Rng, n: int, samples: int, s: FieldSettings | None = None
) -> tuple[NDArray[np.int16], Scene]:
    """``n`` gates of ``samples`` counts (n, samples) and what they hold."""
    s = s or FieldSettings()
    scene = _draw_scene(rng, n, samples, s)
    echoes = _draw_echoes(rng, scene, samples, s)
    x = np.zeros((n, samples), np.float32)
    all_echoes = Echoes.join([echoes, _precursors(rng, scene, samples, s)])
    lobes = _draw_lobes(rng, scene, s)
    lay(x, lobes.parts(all_echoes, scene.cycle), scene.pulses, scene.cycle)
    in_band = noise.in_band_noise(rng, x.shape, scene.cycle)
    x += _coda(rng, echoes, scene, samples, s) * in_band
    rf_noise, kind = noise.coloured_noise(rng, x.shape, scene.cycle)
    snr = np.where(kind == noise.IN_BAND, np.maximum(scene.snr_db, s.in_band_snr_db), scene.snr_db)
    scene = replace(scene, snr_db=np.where(scene.has_echo, snr, np.nan).astype(np.float32))
    sigma = (10.0 ** (-snr / 20.0)).astype(np.float32)
    clear_by = np.where(scene.has_echo, scene.onset - 0.5 * scene.cycle, np.inf)
    x += noise.ring_down(rng, scene.cycle, clear_by, in_band, s.ring_share)
    x += column(sigma * np.where(scene.has_echo, 1.0, log_uniform(rng, 0.3, 3.0, n))) * rf_noise
    x += _reverberation(rng, scene, samples, sigma, s)
    x += noise.spikes(rng, x.shape, sigma, s.spike_share)
    x += noise.packets(rng, scene.cycle, scene.onset, sigma, samples, s.packet_share)
    x += noise.hum_and_drift(rng, scene.cycle, samples, s.hum_share, s.drift_share)
    tgc = noise.chosen(rng, s.tgc_share, n, rng.uniform(0, 3.5, n))
    pivot = column(np.nan_to_num(scene.onset, nan=samples / 2))
    x *= np.exp(tgc * (np.arange(samples, dtype=np.float32) - pivot) / samples)
    empty_gain = rng.uniform(0.3, 4, n) * 0.05 / np.maximum(sigma, 1e-3)
    least_gain = np.where(scene.has_echo, rng.uniform(3, 8, n), empty_gain)
    counts, ceiling = noise.digitise(rng, x, least_gain, s.bits, s.clip_share)
    _blank(rng, counts, scene.onset, s.blank_share)
    return counts, replace(scene, arrival=scene.onset + lobes.arrival(scene.pulses, ceiling) * scene.cycle)
