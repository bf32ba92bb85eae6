"""The kinds of hard gates: what is added to a recorded echo, or done to it, and where the label is then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Rng = np.random.Generator

RING_DB = (-6.0, 20.0)
RING_CLEAR = 0.18
"""Ring-down has decayed to this part of the echo's peak where the echo begins, as in training."""
NOISE_SNR_DB = (10.0, 20.0)
IN_BAND_SNR_DB, IN_BAND = 16.0, (0.5, 1.5)
"""Least SNR, as in training, of noise that has most of its power at 0.5–1.5 of the echo's frequency."""
FOREIGN_RATIO = (0.4, 2.5)
FOREIGN_ALIKE = (0.8, 1.25)
"""Frequencies of a foreign packet over the echo's: from the first range, without the second."""
FOREIGN_BEFORE_DB, FOREIGN_AFTER_DB = (-34.0, -20.0), (-20.0, 6.0)
OVERLAP_PERIODS, OVERLAP_DB = (0.5, 3.0), (-10.0, 2.0)
CLIP_DB = (3.0, 20.0)
WEAK_DB = (-20.0, -12.0)
WEAK_LEAST_SNR_DB = 10.0
EMPTY_RING_DB = (15.0, 50.0)
"""Peak of the ring-down over the noise rms of an empty gate."""
JOIN = 32
"""Samples over which one piece of noise gives way to the next."""


@dataclass(frozen=True)
class Trace:
    """A piece of a recording: ``samples (n,)`` counts off their rest level, rate, and the file's name.

    ``f0_hz`` is the centre frequency where it is an echo's.
    """

    samples: FloatArray
    fs_hz: float
    name: str
    f0_hz: float = 0.0


@dataclass(frozen=True)
class Host:
    """A recorded gate, counts off its median; places are samples from its start.

    ``label`` is that of the first echo (NaN: none), ``begin`` and ``end`` hold the echo between them,
    ``peak`` is its largest |count|, ``ahead`` the largest envelope before it over its own, ``clipped``
    whether it reached the rails, ``onset`` whether the label is one.
    """

    samples: FloatArray
    fs_hz: float
    period: float
    name: str
    label: float = np.nan
    begin: int = 0
    end: int = 0
    peak: float = 0.0
    ahead: float = 0.0
    snr_db: float = 0.0
    clipped: bool = False
    onset: bool = True

    @property
    def echo(self) -> FloatArray:
        """The echo alone, faded in and out over half a period."""
        return faded(self.samples[self.begin : self.end], max(2, round(self.period / 2)))


@dataclass(frozen=True)
class Pool:
    """What there is to add: traces of noise, of ring-down, and echoes to be cut from other files."""

    noise: Sequence[Trace]
    rings: Sequence[Trace]
    echoes: Sequence[Trace]


@dataclass(frozen=True)
class Made:
    """A hard gate: ``samples (n,)``, ``label`` in samples (NaN: no echo), the drawn ``level_db``.

    ``parents`` names the files of what was added; ``later`` is where the louder copy of a weak first echo
    begins, in samples.
    """

    samples: FloatArray
    label: float
    level_db: float
    parents: tuple[str, ...]
    later: float = np.nan


def faded(x: FloatArray, length: int) -> FloatArray:
    """``x (n,)`` with raised-cosine ends of ``length`` samples (of half of it at most)."""
    length = min(length, len(x) // 2)
    edge = 0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(length, 1))
    out: FloatArray = x.copy()
    out[:length] *= edge
    out[len(x) - length :] *= edge[::-1]
    return out


def resized(x: FloatArray, n: int) -> FloatArray:
    """``x (m,)`` at ``n`` samples over the same time, band-limited; the ends are mirrored, so none rings."""
    m = len(x)
    spectrum = np.fft.rfft(np.concatenate([x, x[::-1]]))
    whole: FloatArray = np.fft.irfft(spectrum[: n + 1], 2 * n)
    return whole[:n] * (n / m)


def _added(host: Host, extra: FloatArray, at: int) -> FloatArray:
    """The host's gate with ``extra`` from sample ``at`` on, as far as the gate goes."""
    out: FloatArray = host.samples.copy()
    part = extra[: max(len(out) - at, 0)]
    out[at : at + len(part)] += part
    return out


def _gain(rng: Rng, low_high: tuple[float, float]) -> tuple[float, float]:
    level_db = float(rng.uniform(*low_high))
    return level_db, float(10.0 ** (level_db / 20.0))


def _ring_down(rng: Rng, pool: Pool, host: Host) -> tuple[FloatArray, str]:
    """Ring-down of peak 1, cut to the gate; up to seven times shorter, as another transducer's may be."""
    ring = pool.rings[int(rng.integers(len(pool.rings)))]
    shrink = float(np.exp(rng.uniform(np.log(0.15), 0.0)))
    samples = resized(ring.samples, max(16, round(len(ring.samples) * host.fs_hz / ring.fs_hz * shrink)))
    return samples[: len(host.samples)] / np.abs(samples).max(), ring.name


def ring(rng: Rng, host: Host, pool: Pool) -> Made | None:
    """Ring-down at the gate's start; None where the echo comes so early that it would not be seen."""
    shape, name = _ring_down(rng, pool, host)
    level_db, gain = _gain(rng, RING_DB)
    rest = float(np.abs(shape[host.begin :]).max(initial=0.0))
    if rest * gain > RING_CLEAR:
        gain = RING_CLEAR / rest
        level_db = float(20 * np.log10(gain))
    if level_db < RING_DB[0]:
        return None
    return Made(_added(host, gain * host.peak * shape, 0), host.label, level_db, (name,))


def noise(rng: Rng, host: Host, pool: Pool) -> Made | None:
    """Recorded noise at an SNR (echo peak over rms) of 10–20 dB, from 16 dB on where it is in band."""
    trace = pool.noise[int(rng.integers(len(pool.noise)))]
    stretch = _long_noise(rng, trace, host)
    low, high = NOISE_SNR_DB
    level_db, gain = _gain(rng, (IN_BAND_SNR_DB if _in_band(stretch, host.period) else low, high))
    stretch *= host.peak / gain / stretch.std()
    return Made(host.samples + stretch, host.label, level_db, (trace.name,))


def _in_band(x: FloatArray, period: float) -> bool:
    power = np.abs(np.fft.rfft(x)) ** 2
    relative = np.fft.rfftfreq(len(x)) * period
    inside = (relative > IN_BAND[0]) & (relative < IN_BAND[1])
    return bool(power[inside].sum() > 0.5 * power.sum())


def _long_noise(rng: Rng, trace: Trace, host: Host) -> FloatArray:
    """The trace at the gate's rate, over and over in either polarity until it is as long as the gate."""
    out = np.zeros(0)
    length = max(4 * JOIN, round(len(trace.samples) * host.fs_hz / trace.fs_hz))
    while len(out) < len(host.samples):
        piece = resized(trace.samples, length) * rng.choice([-1.0, 1.0])
        if len(out):
            ease = np.linspace(0, np.pi / 2, JOIN)
            piece[:JOIN] = out[-JOIN:] * np.cos(ease) + piece[:JOIN] * np.sin(ease)
            out = out[:-JOIN]
        out = np.concatenate([out, piece])
    first = int(rng.integers(len(out) - len(host.samples) + 1))
    return out[first : first + len(host.samples)]


def foreign(rng: Rng, host: Host, pool: Pool) -> Made | None:
    """A packet of another file and frequency: under −20 dB where it comes first, so it is no first echo.

    None where neither before nor after the echo there is room for it.
    """
    others = [trace for trace in pool.echoes if trace.name != host.name]
    packet = others[rng.integers(len(others))]
    ratio = _foreign_ratio(rng, 0.35 * host.period)
    length = round(len(packet.samples) * packet.f0_hz / packet.fs_hz * host.period / ratio)
    shape = resized(packet.samples, max(length, 4))
    shape /= np.abs(shape).max()
    room = host.begin - len(shape)
    after = host.label + host.period, len(host.samples) - 2 * host.period
    before = room > 0 and (rng.random() < 0.5 or after[0] >= after[1])
    if not before and after[0] >= after[1]:
        return None
    low, high = FOREIGN_BEFORE_DB if before else FOREIGN_AFTER_DB
    level_db, gain = _gain(rng, (max(low, 6.0 - host.snr_db), high))
    at = int(rng.integers(room + 1)) if before else int(rng.uniform(*after))
    return Made(_added(host, gain * host.peak * shape, at), host.label, level_db, (packet.name,))


def _foreign_ratio(rng: Rng, highest: float) -> float:
    """Its frequency over the echo's; ``highest`` keeps it well under half the sampling rate."""
    low, high = np.log(FOREIGN_RATIO)
    while True:
        ratio = float(np.exp(rng.uniform(low, high)))
        if ratio <= max(highest, FOREIGN_ALIKE[0]) and not FOREIGN_ALIKE[0] <= ratio <= FOREIGN_ALIKE[1]:
            return ratio


def overlap(rng: Rng, host: Host, pool: Pool) -> Made | None:  # noqa: ARG001 - one signature for all kinds
    """A second echo of the same shape, 0.5–3 periods later, either polarity; the label stays the first's."""
    if host.clipped or not host.onset:
        return None
    level_db, gain = _gain(rng, OVERLAP_DB)
    delay = round(rng.uniform(*OVERLAP_PERIODS) * host.period)
    copy = gain * rng.choice([-1.0, 1.0]) * host.echo
    return Made(_added(host, copy, host.begin + delay), host.label, level_db, ())


def clip(rng: Rng, host: Host, pool: Pool) -> Made | None:  # noqa: ARG001
    """A gain 3–20 dB too high: the echo is cut off at the rails, which its peak had just reached before."""
    if not host.onset:
        return None
    level_db, gain = _gain(rng, CLIP_DB)
    # The noise under one count was lost to rounding: without it the steps would grow with the gain.
    fine = host.samples + rng.uniform(-0.5, 0.5, len(host.samples))
    return Made(np.clip(gain * fine, -host.peak, host.peak), host.label, level_db, ())


def weak(rng: Rng, host: Host, pool: Pool) -> Made | None:  # noqa: ARG001
    """A copy of the echo 12–20 dB weaker and before it; the label is that weak first one's.

    None without room before the echo, and where the copy would be under 10 dB or not clear of what is there.
    """
    low = max(WEAK_DB[0], WEAK_LEAST_SNR_DB - host.snr_db)
    least = max(3 * host.period, 0.6 * (host.end - host.begin))
    most = min(20 * host.period + (host.end - host.begin), host.begin)
    if host.clipped or low >= WEAK_DB[1] or least >= most:
        return None
    level_db, gain = _gain(rng, (low, WEAK_DB[1]))
    if host.ahead > 0.35 * gain:
        return None
    delay = round(rng.uniform(least, most))
    samples = _added(host, gain * rng.choice([-1.0, 1.0]) * host.echo, host.begin - delay)
    return Made(samples, host.label - delay, level_db, (), later=host.label)


def empty(rng: Rng, host: Host, pool: Pool) -> Made | None:
    """Recorded noise with ring-down at the start of the gate, and no echo."""
    shape, name = _ring_down(rng, pool, host)
    level_db, gain = _gain(rng, EMPTY_RING_DB)
    return Made(_added(host, gain * host.samples.std() * shape, 0), np.nan, level_db, (name,))


KINDS: dict[str, Callable[[Rng, Host, Pool], Made | None]] = {
    "ring": ring, "noise": noise, "foreign": foreign, "overlap": overlap, "clip": clip, "weak": weak,
    "empty": empty}
"""The kinds by their names; a kind gives None where a host does not suit it."""
