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
from usedge.tof import MIN_SAMPLES, estimate_f0

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
FAR_CYCLES, SURER = 3.0, 5.0
"""A second pass that moves the arrival further has found another echo. It counts if its odds are so many
times those of the first, which saw the whole gate.
"""
SIGNIFICANT, QUIET_CYCLES = 0.25, 1.5
"""An echo under −12 dB of another in the gate is not significant, by the labels' convention. It is over where
it stays under that of its own peak for so long, at the latest ECHO_CYCLES after its onset: what comes later
and is smaller is no significant echo, whatever it is.
"""

CLIPPED = 3
"""A gate that reaches its largest value, or its least, so many times is cut off there."""
LEAD_CYCLES = 7.0
"""What runs into an echo and lasts no longer is its slow beginning."""

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
         median: float | None = None, worth: float = WORTH) -> Window:
    """The gate of the second pass, ``cycles`` wide, in ``samples (n,)`` whose first pick is at ``place``; the
    whole gate, 0 … n, where that would be longer than the part ``worth`` of it.

    ``period`` in samples: that of the centre frequency, estimated around the echo where it is None;
    ``median`` of ``samples`` in counts, where it is known already.
    """
    n = len(samples)
    if median is None:
        median = float(np.partition(samples, n // 2)[n // 2])
    rough = period or _period(samples, place - n / 32, place + max(256.0, n / 8))
    first, last = inside(n, place - ECHO_CYCLES[0] * rough, place + ECHO_CYCLES[1] * rough)
    anchor = first + furthest(samples[first:last], median)[0]
    before, after = SPECTRUM_CYCLES
    fine = period or _period(samples, anchor - before * rough, anchor + after * rough)
    width = max(round(2.0 ** (round(math.log2(cycles * fine) * STEPS_PER_OCTAVE) / STEPS_PER_OCTAVE)),
                MIN_GATE_SAMPLES)
    if width > worth * n:
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
    first, last = inside(n, onset, onset + ECHO_CYCLES[1] * period)
    level = np.abs(samples[first:] - np.median(samples).astype(np.float32))
    peak = int(level[: last - first].argmax())
    own = level[peak : last - first]
    loud = np.append(np.flatnonzero(own >= SIGNIFICANT * own[0]), len(own))
    gaps = np.flatnonzero(np.diff(loud) > QUIET_CYCLES * period)
    over = int(loud[gaps[0]]) + 1 if gaps.size else int(loud[-1])
    return min(max(first + peak + over, int(onset + period) + 1), n)


def surer(first: Place, second: Place, window: Window) -> Place:
    """The second pass's answer, but where it is far from the first's and not SURER."""
    far = abs(second.arrival - first.arrival) > FAR_CYCLES * window.period
    return first if far and _odds(second.confidence) < SURER * _odds(first.confidence) else second


def outdone(samples: Samples, first: Place, second: Place, window: Window) -> bool:
    """Whether the echo ``first`` in ``samples (n,)`` is certainly none that is significant beside ``second``,
    a later one, nor its slow beginning.

    That is where the second reads over 12 dB more and is clipped, so that it is more still: of levels that
    are seen as they are, the network judges itself.
    """
    if second.onset - first.onset < LEAD_CYCLES * window.period:
        return False
    weak = sounding(samples, first.onset, window, second.onset - 0.5 * window.period)
    loud = sounding(samples, second.onset, window)
    weaker = furthest(weak, window.median)[1] < SIGNIFICANT * furthest(loud, window.median)[1]
    return weaker and _clipped(samples, loud)


def sounding(samples: Samples, onset: float, window: Window, end: float = math.inf) -> Samples:
    """What of ``samples (n,)`` the echo that begins at ``onset`` may fill, up to ``end`` at most."""
    start, stop = inside(len(samples), onset, min(onset + ECHO_CYCLES[1] * window.period, end))
    return samples[start:stop]


def _clipped(samples: Samples, echo: Samples) -> bool:
    """Whether ``echo`` reaches a limit that ``samples (n,)`` are cut off at."""
    limits = [limit for limit in (samples.max(), samples.min())
              if np.count_nonzero(samples == limit) >= CLIPPED]
    return any((echo == limit).any() for limit in limits)


def _odds(confidence: float) -> float:
    return confidence / max(1.0 - confidence, 1e-9)


def furthest(part: Samples, median: float) -> tuple[int, float]:
    """Which of ``part (n,)`` is furthest from ``median``, and how far, counts."""
    # Two searches of the counts take half the time of a copy, its magnitude and one search.
    top, bottom = int(part.argmax()), int(part.argmin())
    high, low = float(part[top]) - median, median - float(part[bottom])
    if high == low:
        return min(top, bottom), high
    return (top, high) if high > low else (bottom, low)


def inside(n: int, first: float, last: float) -> tuple[int, int]:
    """Whole samples of 0 … n, at least one."""
    start = min(max(int(first), 0), n - 1)
    return start, max(start + 1, min(int(last), n))


def _period(samples: Samples, first: float, last: float) -> float:
    start, stop = inside(len(samples), first, last)
    short = MIN_SAMPLES - (stop - start)
    if short > 0:
        start, stop = max(start - short, 0), min(stop + short, len(samples))
    return 1.0 / estimate_f0(samples[start:stop], 1.0)
