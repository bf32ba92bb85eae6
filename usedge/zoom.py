"""The second pass: a shorter gate around the first pick, so that every echo is seen at about one scale.

At few grid samples a cycle the onset's phase is hardly resolved. The gate of the second pass is laid by the
echo itself, not by the first pick, so that the same echo gives the same gate wherever the whole gate began.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from usedge.preprocess import MIN_GATE_SAMPLES
from usedge.tof import MIN_SAMPLES, QUANTISATION_RMS, akaike, estimate_f0, vertex

LEAD = 0.45
"""Where in its gate the second pass puts the echo's largest sample: a slow rise keeps its noise before it."""
ECHO_CYCLES = (2.0, 12.0)
"""The largest sample is sought from so many cycles before the first pick to so many after it."""
SPECTRUM_CYCLES = (6.0, 8.0)
"""Cycles before and after the largest sample that the centre frequency is estimated from."""
WORTH = 0.8
"""A second gate that is longer than this part of the first shows nothing new."""
STEPS_PER_OCTAVE = 16
"""Widths come on this ladder, so that a few resampling plans serve all."""
FAR_CYCLES = 3.0
"""A second pass that moves the arrival further has found another echo."""
LOW_DB, HIGH_DB, RISE_CYCLES = 5.0, 25.0, 0.7
"""Where arrivals repeat better than onsets, and the median way from the one to the other: chosen on fixed
synthetic scenes under fresh noise, but HIGH_DB, to which these are indifferent, on recorded A-scans.
"""
FIRST_CYCLES, FIRST_DB = 1.5, 6.0
"""An onset is seen, however slowly the echo rises, where so many cycles after it have an rms so far over the
noise's.
"""
SEEN_DB, CLEAR_DB = 25.0, 35.0
"""Between them the answer goes over from the network's onset to where the A-scan itself changes."""
CHANGE_CYCLES, ARRIVED_CYCLES = (6.0, 4.0), 0.5
"""The change is sought from so many cycles before the onset to so many after it, but no further than
ARRIVED_CYCLES after the arrival.
"""
NEAR_CYCLES, MOST_LIKELY = 0.27, 2.0
"""A change this near the network's place, or in AIC this little less than there, confirms that place, which
repeats better. The AIC counts samples; this, independent values, two of them a cycle.
"""

QUIET, QUIET_CYCLES = 0.25, 1.5
"""An echo is over where it stays under −12 dB of its peak for so long, at the latest ECHO_CYCLES after its
onset: what comes later and is smaller is no significant echo, whatever it is.
"""

Samples = NDArray[np.int16] | NDArray[np.float32]


class Window(NamedTuple):
    """Native samples ``start`` … ``stop`` of a gate, the ``period`` of the echo in them, in samples, and the
    whole gate's ``median`` in counts.
    """

    start: int
    stop: int
    period: float
    median: float


class Place(NamedTuple):
    """One answer of the network, in native samples of the whole gate."""

    onset: float
    arrival: float
    confidence: float


def zoom(samples: Samples, place: float, cycles: float, period: float | None = None,
         median: float | None = None) -> Window:
    """The gate of the second pass, ``cycles`` wide, in ``samples (n,)`` whose first pick is at ``place``; the
    whole gate, 0 … n, where a second pass is not worth its while.

    ``period`` in samples: that of the centre frequency, estimated around the echo where it is None;
    ``median`` of ``samples`` in counts, where it is known already.
    """
    n = len(samples)
    if median is None:
        median = float(np.partition(samples, n // 2)[n // 2])
    rough = period or _period(samples, place - n / 32, place + max(256.0, n / 8))
    first, last = _clipped(n, place - ECHO_CYCLES[0] * rough, place + ECHO_CYCLES[1] * rough)
    anchor = first + _furthest(samples[first:last], median)[0]
    before, after = SPECTRUM_CYCLES
    fine = period or _period(samples, anchor - before * rough, anchor + after * rough)
    width = max(round(2.0 ** (round(math.log2(cycles * fine) * STEPS_PER_OCTAVE) / STEPS_PER_OCTAVE)),
                MIN_GATE_SAMPLES)
    if width > WORTH * n:
        return Window(0, n, fine, median)
    start = min(max(anchor - round(LEAD * width), 0), n - width)
    return Window(start, start + width, fine, median)


def passed(samples: Samples, onset: float, period: float | None = None) -> int:
    """Where in ``samples (n,)`` the echo that begins at ``onset`` is over, so that the next can be sought
    from there on; at most n.

    ``period`` in samples, estimated around the echo where it is None.
    """
    n = len(samples)
    period = period or zoom(samples, onset, ECHO_CYCLES[1]).period
    first, last = _clipped(n, onset, onset + ECHO_CYCLES[1] * period)
    level = np.abs(samples[first:] - np.median(samples).astype(np.float32))
    peak = int(level[: last - first].argmax())
    loud = np.append(np.flatnonzero(level[peak : last - first] >= QUIET * level[peak]), last - first - peak)
    gaps = np.flatnonzero(np.diff(loud) > QUIET_CYCLES * period)
    over = int(loud[gaps[0]]) + 1 if gaps.size else int(loud[-1])
    return min(max(first + peak + over, int(onset + period) + 1), n)


def surer(first: Place, second: Place, window: Window) -> Place:
    """The second pass's answer, but where it is far from the first's and less sure."""
    far = abs(second.arrival - first.arrival) > FAR_CYCLES * window.period
    return first if far and second.confidence < first.confidence else second


def settle(samples: Samples, found: Place, window: Window) -> float:
    """Where in ``samples (n,)`` the echo is told to begin: at its onset where the noise lets that be seen.

    Under noise the place where an echo begins is the network's guess at a shape, but where it arrives is not.
    So from HIGH_DB down to LOW_DB (echo peak over the noise before it) the answer goes over from the onset to
    a fixed part of a cycle, RISE_CYCLES, before the arrival, and stays there; later for an echo that rises
    slowly, whose first cycles are so much weaker than its peak, unless they stand out of the noise by
    FIRST_DB. From SEEN_DB up to CLEAR_DB it goes over to where the A-scan changes by the AIC (``akaike``),
    unless that is near, hardly likelier, or further than FAR_CYCLES.
    """
    n = len(samples)
    begin, end = _clipped(n, found.onset, found.onset + ECHO_CYCLES[1] * window.period)
    peak = _furthest(samples[begin:end], window.median)[1]
    quiet = samples[window.start : max(int(found.onset - 0.5 * window.period), window.start + 8)]
    noise = _noise(quiet - np.float32(window.median), window.period)
    snr_db = 20.0 * math.log10(max(peak, noise) / noise)
    weaker_db = _slowness_db(found, window)
    if weaker_db and _stands_out(samples, found, window, noise):
        weaker_db = 0.0
    seen = _part(snr_db - weaker_db, LOW_DB, HIGH_DB)
    rise = seen * (found.arrival - found.onset) + (1.0 - seen) * RISE_CYCLES * window.period
    told = min(max(found.arrival - rise, 0.0), float(n))
    clear = _part(snr_db, SEEN_DB, CLEAR_DB)
    return clear * _change(samples, found, told, window) + (1.0 - clear) * told if clear else told


def _stands_out(samples: Samples, found: Place, window: Window, noise: float) -> bool:
    """Whether the first cycles after the onset are by FIRST_DB stronger than ``noise`` (rms, counts)."""
    start, stop = _clipped(len(samples), found.onset, found.onset + FIRST_CYCLES * window.period)
    first = samples[start:stop] - np.float32(window.median)
    least: float = noise * 10.0 ** (FIRST_DB / 20.0)
    return float(first @ first) >= (stop - start) * least * least


def _slowness_db(found: Place, window: Window) -> float:
    """How much weaker the first cycle of an echo is that rises in more than RISE_CYCLES."""
    return 20.0 * math.log10(max((found.arrival - found.onset) / window.period / RISE_CYCLES, 1.0))


def _noise(quiet: NDArray[np.float32], period: float) -> float:
    """Rms (counts) of the noise in ``quiet (n,)`` before an echo: what varies within a period, in the median
    period, so that neither ring-down nor a packet passes for noise.
    """
    length = min(max(4, round(period)), len(quiet))
    periods = quiet[len(quiet) % length :].reshape(-1, length)
    level = np.add.reduce(periods, axis=1) / length
    squares = np.einsum("ij,ij->i", periods, periods) / length - level * level
    squares.partition(len(squares) // 2)
    return math.sqrt(max(float(squares[len(squares) // 2]), QUANTISATION_RMS**2))


def _furthest(part: Samples, median: float) -> tuple[int, float]:
    """Which of ``part (n,)`` is furthest from ``median``, and how far, counts."""
    # Two searches of the counts take half the time of a copy, its magnitude and one search.
    top, bottom = int(part.argmax()), int(part.argmin())
    high, low = float(part[top]) - median, median - float(part[bottom])
    if high == low:
        return min(top, bottom), high
    return (top, high) if high > low else (bottom, low)


def _part(value: float, low: float, high: float) -> float:
    """How far ``value`` has come on its way from ``low`` (0) to ``high`` (1)."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _change(samples: Samples, found: Place, told: float, window: Window) -> float:
    """The likeliest boundary between noise and the echo ``found``, in samples; ``told`` where it confirms
    that, or is none of this echo.
    """
    period, (before, after) = window.period, CHANGE_CYCLES
    last = min(found.arrival + ARRIVED_CYCLES * period, max(found.onset, told) + after * period)
    start, stop = _clipped(len(samples), found.onset - before * period, last + 1.0)
    if stop - start < MIN_SAMPLES:
        return told
    criterion = akaike(samples[start:stop] - np.float32(window.median), QUANTISATION_RMS**2)
    least, here = int(criterion.argmin()), min(max(round(told) - start - 2, 0), len(criterion) - 1)
    change = start + 2.0 + vertex(-criterion, least)
    new = NEAR_CYCLES * period < abs(change - told) < FAR_CYCLES * period
    likelier = float(criterion[here] - criterion[least]) * 2.0 / period >= MOST_LIKELY
    return change if new and likelier else told


def _clipped(n: int, first: float, last: float) -> tuple[int, int]:
    """Whole samples of 0 … n, at least one."""
    start = min(max(int(first), 0), n - 1)
    return start, max(start + 1, min(int(last), n))


def _period(samples: Samples, first: float, last: float) -> float:
    start, stop = _clipped(len(samples), first, last)
    short = MIN_SAMPLES - (stop - start)
    if short > 0:
        start, stop = max(start - short, 0), min(stop + short, len(samples))
    return 1.0 / estimate_f0(samples[start:stop], 1.0)
