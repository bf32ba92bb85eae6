"""The ``plate`` preset: is there a plate in the gate, and is it sound? A second task beside ToF.

One-dimensional sound: it meets the front wall of a plate in water or behind a delay line, goes to and fro
between the walls, and a void reflects a part of it early. Amplitudes and signs follow from the reflection
coefficients alone. Every A-scan is drawn as if it showed a defective plate, then its class decides what is
laid: thickness, noise, grain and gain are distributed alike over the classes and give none of them away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import comb

import numpy as np
from numpy.typing import NDArray

from usedge.synth import noise
from usedge.synth.noise import Rng, chosen, column, decibel
from usedge.synth.pulses import Array, Echoes, Lobes, Pulses, draw_pulses, lay, log_uniform

NO_ECHO, SOUND, DEFECT = range(3)
"""Values of ``presence``."""
MOST_TRIPS = 16
"""As many times as the thinnest plate fits into the gate."""
MOST_HITS = 2
"""Reflections at the defect within one path; more are below any grain."""


@dataclass(frozen=True, slots=True)
class PlateSettings:
    """Shares are fractions of the A-scans. A pulse's length is its time from 5 % of its rise to 0.4 %
    (−48 dB) of its fall: one length after its onset an echo is over.
    """

    shares: tuple[float, float, float] = (0.2, 0.4, 0.4)  # no echo, sound, defect
    cycles_per_gate: tuple[float, float] = (40.0, 400.0)  # fewer would leave no room for three pulses
    least_samples_per_cycle: float = 2.7  # just over Nyquist's 2, as in the field preset
    burst_share: float = 0.05  # thickness is gauged with short pulses, seldom with bursts
    longest_pulse: float = 0.1  # of the gate: the front wall, 2.5 lengths and the back wall fit
    damped_cycles: float = 3.0  # a pulse's length may be held to this by the transducer's damping, no lower
    front: tuple[float, float] = (0.04, 0.4)  # onset in gates: after the ring-down, before the back wall
    least_gap: float = 1.1  # pulse lengths from either wall to the defect: they meet under 5 % of their rise
    least_thickness: float = 2.5  # pulse lengths: two gaps and some choice of depth
    thinnest: float = 0.06  # of the gate: up to 16 back-wall echoes
    front_reflection: tuple[float, float] = (0.3, 0.92)  # water on acrylic 0.37, aluminium 0.84, steel 0.94
    hard_delay_share: float = 0.15  # a delay line harder than the plate: the front wall's sign flips
    back_shares: tuple[float, float, float] = (0.45, 0.4, 0.15)  # air, the front's medium, another solid
    bonded_reflection: tuple[float, float] = (0.5, 0.9)  # magnitude at another solid, of either sign
    trip_loss_db: tuple[float, float] = (0.0, 4.0)  # absorption and spreading, front to back and home
    defect_db: tuple[float, float] = (-26.0, -3.0)  # over the sound back wall; at −3 dB both get half
    tilted_share: float = 0.3  # voids that are no flat gap of air: any phase
    margin_db: float = 6.0  # defect's and front wall's peak over the highest peak of noise and grain between
    # the walls, after a matched filter: twice as high, so whatever noise takes off it stays above
    snr_db: tuple[float, float] = (10.0, 40.0)  # weaker wall's peak over noise rms, before ``margin_db``
    grain_share: float = 0.7  # the others: fine-grained metal, glass, plastic
    grain_db: tuple[float, float] = (-45.0, -17.0)  # rms beneath the front wall, over the sound back wall
    grain_decay: tuple[float, float] = (0.5, 3.0)  # thicknesses until the grain has fallen to 1/e
    ring_share: float = 0.6  # short stand-off and delay lines; the gate opens into the ring-down
    ring_decay: float = 0.2  # of the time to the front wall: down by e⁻⁵ there, whatever it was
    drift_share: float = 0.3  # slow baseline, as in the field preset
    tgc_share: float = 0.25  # time-gain or distance-amplitude correction
    tgc_nepers: tuple[float, float] = (0.2, 1.5)  # over the gate
    least_counts: tuple[float, float] = (3.0, 40.0)  # ADC counts of the defect's peak: over its rounding and
    # under the 102 at which 8 bits may clip; front walls and ring-down do clip for its sake
    bits: tuple[int, ...] = (8, 8, 10, 10, 12, 14)  # converters of thickness gauges, as in the field preset


@dataclass(frozen=True, slots=True)
class Scene:
    """What the A-scans of a batch show: (n,) each. Onsets (``front``, ``back``, ``defect``) and the front
    wall's ``arrival`` in samples, NaN where there is none; ``length`` of the pulse in samples;
    ``defect_ratio`` to a sound back wall's peak, 0 = none; ``snr_db`` of the weaker wall of the sound plate,
    NaN = no echo; ``n_echoes`` that peak above the noise rms.
    """

    presence: NDArray[np.int64]
    cycle: Array
    length: Array
    front: Array
    arrival: Array
    back: Array
    defect: Array
    defect_ratio: Array
    snr_db: Array
    n_echoes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Plates:
    """One plate for each A-scan, shown or not, all (n,): times in samples, ``depth`` of the defect below the
    front wall; amplitudes of which the weaker wall has 1.
    """

    cycle: Array
    pulses: Pulses
    front: Array
    thickness: Array
    depth: Array
    outside: Array
    """Reflection at the front wall, seen from outside; from inside its sign is the other."""
    inside: Array
    """Reflection at the back wall, with the loss of the way there and home."""
    unit: Array
    """Amplitude of a wave that the front wall has yet to meet."""

    @property
    def length(self) -> Array:
        return self.pulses.duration * self.cycle

    @property
    def through(self) -> Array:
        """Amplitude that crosses the front wall twice and meets a perfect mirror between."""
        return self.unit * (1.0 - self.outside**2)

    @property
    def front_peak(self) -> Array:
        return self.unit * np.abs(self.outside)

    @property
    def back_peak(self) -> Array:
        return self.through * np.abs(self.inside)


def _pressed(pulses: Pulses, longest: Array) -> Pulses:
    """``pulses`` of at most ``longest (n,)`` cycles: all times in a pulse shrink alike, its shape stays."""
    by = np.minimum(1.0, longest / pulses.duration).astype(np.float32)
    times = ("cycles", "rise", "decay", "onset", "start", "stop")
    return replace(pulses, **{name: getattr(pulses, name) * by for name in times})


def _draw_walls(rng: Rng, n: int, s: PlateSettings) -> tuple[Array, Array]:
    sign = np.where(rng.random(n) < s.hard_delay_share, -1.0, 1.0)
    outside = sign * rng.uniform(*s.front_reflection, n)
    behind = rng.choice(3, n, p=s.back_shares)
    bonded = rng.choice([-1.0, 1.0], n) * rng.uniform(*s.bonded_reflection, n)
    inside = np.select([behind == 0, behind == 1], [np.full(n, -1.0), -outside], bonded)
    loss = decibel(rng, *s.trip_loss_db, n)
    return outside.astype(np.float32), (inside / loss).astype(np.float32)


def _draw_plates(rng: Rng, n: int, samples: int, s: PlateSettings) -> _Plates:
    low, high = s.cycles_per_gate
    cycle = samples / log_uniform(rng, low, min(high, samples / s.least_samples_per_cycle), n)
    longest = log_uniform(rng, s.damped_cycles, s.longest_pulse * samples / cycle, n)
    pulses = _pressed(draw_pulses(rng, longest, s.burst_share), longest)
    length = pulses.duration * cycle
    front = rng.uniform(*s.front, n).astype(np.float32) * samples
    least = np.maximum(s.least_thickness * length, s.thinnest * samples)
    thickness = log_uniform(rng, least, samples - front - length, n)
    gap = s.least_gap * length
    depth = rng.uniform(gap, thickness - gap).astype(np.float32)
    outside, inside = _draw_walls(rng, n, s)
    unit = 1.0 / np.minimum(np.abs(outside), (1.0 - outside**2) * np.abs(inside))
    return _Plates(cycle, pulses, front, thickness, depth, outside, inside, unit)


def _grain(rng: Rng, plates: _Plates, samples: int, s: PlateSettings) -> Array:
    """Backscatter of the structure from the front wall on, in the pulse's own band: no filter removes it."""
    n = len(plates.front)
    # The relative width of a Gaussian pulse's spectrum; the other families come near it.
    width = np.clip(1.0 / (np.pi * plates.pulses.cycles), 0.05, 0.5)
    scatter = noise.in_band_noise(rng, (n, samples), plates.cycle, column(width))
    inside = np.maximum(np.arange(samples, dtype=np.float32) - column(plates.front), 0.0)
    decay = column(plates.thickness * rng.uniform(*s.grain_decay, n))
    envelope = np.exp(-inside / decay) - np.exp(-inside * (1.0 / decay + 1.0 / column(plates.length)))
    grain: Array = chosen(rng, s.grain_share, n, decibel(rng, *s.grain_db, n) * plates.back_peak) * envelope
    return grain * scatter


def _ring_down(rng: Rng, plates: _Plates, samples: int, s: PlateSettings) -> Array:
    t = np.arange(samples, dtype=np.float32)
    in_band = noise.in_band_noise(rng, (len(plates.front), samples), plates.cycle)
    ring = noise.ring_down(rng, plates.cycle, plates.front, in_band, s.ring_share)
    return ring * np.exp(-t / column(s.ring_decay * plates.front))


def _highest(clutter: Array, plates: _Plates) -> Array:
    """Peak (n,) of ``clutter (n, samples)`` between the walls after a filter matched to the row's pulse,
    which leaves the peak of an echo as it is.
    """
    n, samples = clutter.shape
    t, zero = np.arange(samples, dtype=np.float32), np.zeros(n, np.float32)
    pulse = np.zeros_like(clutter)
    lay(pulse, Echoes(np.arange(n), zero + samples // 2, zero + 1, zero), plates.pulses, plates.cycle)
    between = (t > column(plates.front)) & (t < column(plates.front + plates.thickness))
    spectrum = np.fft.rfft(clutter * between) * np.conj(np.fft.rfft(pulse))
    matched = np.fft.irfft(spectrum, samples) / (pulse**2).sum(axis=1, keepdims=True)
    highest: Array = np.abs(matched).max(axis=1).astype(np.float32)
    return highest


def _clutter(rng: Rng, plates: _Plates, samples: int, s: PlateSettings) -> tuple[Array, Array, Array]:
    """Noise and grain (n, samples), the noise rms (n,) and the highest peak of both between the walls (n,).

    Where that would hide the front wall or even the strongest defect, both are lowered.
    """
    n = len(plates.front)
    sigma = 1.0 / decibel(rng, *s.snr_db, n)
    clutter = column(sigma) * noise.coloured_noise(rng, (n, samples), plates.cycle)[0]
    clutter += _grain(rng, plates, samples, s)
    highest = _highest(clutter, plates)
    faintest = np.minimum(plates.front_peak, plates.back_peak * 10.0 ** (s.defect_db[1] / 20.0))
    lowered = np.minimum(1.0, faintest * 10.0 ** (-s.margin_db / 20.0) / highest).astype(np.float32)
    return clutter * column(lowered), sigma * lowered, highest * lowered


def _draw_defects(rng: Rng, plates: _Plates, highest: Array, s: PlateSettings) -> tuple[Array, Array]:
    """Peak of the defect and of the back wall behind it, (n,) each, over the sound back wall's peak.

    The two share the sound: never more than its energy, never less than its amplitude. The back wall stays
    the greater, for the echoes of a sound plate only decay: what comes before a greater one is a defect.
    """
    n, (low, high) = len(highest), s.defect_db
    least_db = np.clip(20.0 * np.log10(highest / plates.back_peak) + s.margin_db, low, high)
    defect = 10.0 ** (rng.uniform(least_db, high) / 20.0)
    most = np.sqrt(1.0 - defect**2)
    behind = rng.uniform(np.minimum(np.maximum(1.0 - defect, defect), most), most, n)
    return defect.astype(np.float32), behind.astype(np.float32)


def _echoes(plates: _Plates, shown: NDArray[np.bool_], defect: Array, behind: Array, turn: Array,
            floor: Array, samples: int) -> Echoes:
    """Front wall and every path of ``trips`` ways to a reflector and home, ``hits`` of them at the defect.

    ``defect`` and ``behind (n,)`` over the sound back wall's peak, ``turn`` the defect's phase; what peaks
    below ``floor (n,)`` is left out.
    """
    row = np.flatnonzero(shown)
    first = (plates.unit * plates.outside)[row]
    parts = [Echoes(row, plates.front[row], first, np.zeros(len(row), np.float32))]
    early, late = -defect * np.abs(plates.inside), behind * plates.inside
    for trips in range(1, MOST_TRIPS + 1):
        within = plates.through * (-plates.outside) ** (trips - 1)
        for hits in range(min(trips, MOST_HITS) + 1):
            onset = plates.front + hits * plates.depth + (trips - hits) * plates.thickness
            amplitude = comb(trips, hits) * within * early**hits * late ** (trips - hits)
            row = np.flatnonzero(shown & (onset < samples) & (np.abs(amplitude) > floor))
            parts.append(Echoes(row, onset[row], amplitude[row], hits * turn[row]))
    return Echoes.join(parts)


def plate_batch(
    rng: Rng, n: int, samples: int, s: PlateSettings | None = None
) -> tuple[NDArray[np.int16], Scene]:
    """``n`` gates of ``samples`` counts (n, samples) and what they show."""
    s = s or PlateSettings()
    presence = rng.choice(3, n, p=s.shares)
    shown, has_defect = presence != NO_ECHO, presence == DEFECT
    plates = _draw_plates(rng, n, samples, s)
    x, sigma, highest = _clutter(rng, plates, samples, s)
    ratio, behind = _draw_defects(rng, plates, highest, s)
    smallest = np.minimum(plates.front_peak, ratio * plates.back_peak)
    ratio, behind = np.where(has_defect, ratio, np.float32(0)), np.where(has_defect, behind, np.float32(1))
    turn = np.where(rng.random(n) < s.tilted_share, rng.uniform(0, 2 * np.pi, n), 0.0).astype(np.float32)
    echoes = _echoes(plates, shown, ratio, behind, turn, 0.3 * sigma, samples)
    lay(x, echoes, plates.pulses, plates.cycle)
    x += _ring_down(rng, plates, samples, s)
    x += noise.hum_and_drift(rng, plates.cycle, samples, 0.0, s.drift_share)
    tgc = chosen(rng, s.tgc_share, n, rng.uniform(*s.tgc_nepers, n))
    x *= np.exp(tgc * (np.arange(samples, dtype=np.float32) - column(plates.front)) / samples)
    least_gain = log_uniform(rng, *s.least_counts, n) / smallest
    counts, ceiling = noise.digitise(rng, x, least_gain, s.bits, clip_share=0.0)
    arrival = plates.front + Lobes.one(n).arrival(plates.pulses, ceiling / plates.front_peak) * plates.cycle
    loud = echoes.row[np.abs(echoes.amplitude) > sigma[echoes.row]]
    snr_db = -20.0 * np.log10(sigma)
    nan = np.float32(np.nan)
    return counts, Scene(
        presence, plates.cycle, plates.length, np.where(shown, plates.front, nan),
        np.where(shown, arrival, nan),
        np.where(shown, plates.front + plates.thickness, nan),
        np.where(has_defect, plates.front + plates.depth, nan), ratio,
        np.where(shown, snr_db, nan).astype(np.float32), np.bincount(loud, minlength=n))
