"""Where the echo that the network found is told to begin, by the A-scan itself wherever that shows it.

The network knows synthetic echoes. Recorded ones rise in more ways, some over weak lobes that last for longer
than the rest, so that under little noise the place is read off the samples around the network's.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from usedge.tof import MIN_SAMPLES, QUANTISATION_RMS, akaike, crossing, hann_burst, vertex
from usedge.zoom import FAR_CYCLES, LEAD_CYCLES, Place, Samples, Window, furthest, inside, sounding

LOW_DB, HIGH_DB = 9.0, 27.0
"""Between them a matched filter repeats better than an onset that is seen less and less."""
RISEN, RISEN_CYCLES = 0.4, 0.6
"""The filter's envelope at this fraction of its peak, which it reaches but once where an echo has several
humps, and how long before that an echo usually begins.
"""
AROUND_CYCLES = (2.5, 2.5)
"""The peak is sought from so many cycles before the arrival to so many after: further off may be another
echo.
"""
BURST_CYCLES, BURST_SAMPLES = 3.0, 16
"""Of the Hann burst that the filter correlates with, and samples a cycle that are enough for it."""
RISE_CYCLES = 0.7
"""From onset to arrival: an echo that takes longer rises slowly."""
FIRST_CYCLES, FIRST_DB = 2.5, 7.0
"""An onset is seen, however slowly the echo rises, where so many cycles after it have an rms so far over the
noise's.
"""
SEEN_DB, CLEAR_DB = 30.0, 40.0
"""Between them the answer goes over from the network's onset to where the A-scan itself changes."""
CHANGE_CYCLES, ARRIVED_CYCLES = (6.0, 4.0), 0.5
"""The change is sought from so many cycles before the onset to so many after it, but no further than
ARRIVED_CYCLES after the arrival.
"""
NEAR_CYCLES, MOST_LIKELY = 0.27, 4.0
"""A change this near the network's place, or in AIC this little less than there, confirms that place, which
repeats better. The AIC counts samples; this, independent values, two of them a cycle.
"""
LEAD_DB = -30.0
"""Sound that runs into the echo for at most LEAD_CYCLES belongs to it if its peak is no further under the
echo's: what is longer is ring-down or reverberation, what is weaker no part of a significant echo.
"""
NOISE_CYCLES = 16.0
"""The noise is what most of the last so many cycles before an echo hold: ring-down dies away, a gain may
rise, and what runs into the echo is the lesser part of them.
"""
LOUD_DB = 12.0
"""A period is sound if its rms is so far over the noise's."""
STEPS_A_PERIOD = 4
"""Where a period is looked at, on the way back from an onset."""
BEGIN_CYCLES, BEGIN_LOOKS = (4.0, 1.5), 3
"""The change from silence to sound is sought from so many cycles before the first loud period to so many
after it, and again around what was found until it stays.
"""


def settle(samples: Samples, found: Place, window: Window) -> float:
    """Where in ``samples (n,)`` the echo is told to begin: at its onset where the noise lets that be seen.

    Under noise the place where an echo begins is the network's guess at a shape, but where it has risen is
    not. So from HIGH_DB down to LOW_DB (echo peak over the noise before it) the answer goes over from the
    onset to what a matched filter sees rise, and stays there; later for an echo that rises slowly, whose
    first cycles are so much weaker than its peak, unless they stand out of the noise by FIRST_DB. From
    SEEN_DB up to CLEAR_DB it goes over to where the A-scan changes by the AIC (``akaike``), unless that is
    near, hardly likelier, or further than FAR_CYCLES. What is still loud before that, without a pause, is the
    echo's beginning.
    """
    peak = furthest(sounding(samples, found.onset, window), window.median)[1]
    noise = _noise(samples, found, window)
    snr_db = 20.0 * math.log10(max(peak, noise) / noise)
    weaker_db = _slowness_db(found, window)
    if weaker_db and _stands_out(samples, found, window, noise):
        weaker_db = 0.0
    seen = _part(snr_db - weaker_db, LOW_DB, HIGH_DB)
    told = seen * found.onset + (1.0 - seen) * _usual(samples, found, window) if seen < 1.0 else found.onset
    told = min(max(told, 0.0), float(len(samples)))
    clear = _part(snr_db, SEEN_DB, CLEAR_DB)
    if not clear:
        return told
    told = clear * _change(samples, found, told, window) + (1.0 - clear) * told
    return _begun(samples, told, window, noise, peak)


def _stands_out(samples: Samples, found: Place, window: Window, noise: float) -> bool:
    """Whether the first cycles after the onset are by FIRST_DB stronger than ``noise`` (rms, counts)."""
    start, stop = inside(len(samples), found.onset, found.onset + FIRST_CYCLES * window.period)
    first = samples[start:stop] - np.float32(window.median)
    least: float = noise * 10.0 ** (FIRST_DB / 20.0)
    return float(first @ first) >= (stop - start) * least * least


def _usual(samples: Samples, found: Place, window: Window) -> float:
    """RISEN_CYCLES before the place in ``samples (n,)`` where the envelope of a Hann burst's correlation with
    them (a matched filter: G. L. Turin, IRE Trans. Inf. Theory 6, 1960, p. 311) first rises over the fraction
    RISEN of its peak around ``found``; without room for it, before the arrival.
    """
    every = max(1, int(window.period / BURST_SAMPLES))
    period = window.period / every
    half = max(2, round(0.5 * BURST_CYCLES * period))
    before, after = (cycles * window.period + half * every for cycles in AROUND_CYCLES)
    start, stop = inside(len(samples), found.arrival - before, found.arrival + after)
    rf = samples[start : stop - (stop - start) % every] - np.float32(window.median)
    rf = rf.reshape(-1, every).mean(axis=1) if every > 1 else rf
    if len(rf) <= 2 * half:
        return found.arrival - RISE_CYCLES * window.period
    risen = _rise(np.abs(np.correlate(rf, hann_burst(half, period), "valid")))
    return start + every * (half + risen + 0.5 * (1.0 - 1.0 / every)) - RISEN_CYCLES * window.period


def _rise(level: NDArray[np.float64]) -> float:
    """Where ``level (m,)`` first rises over RISEN of its peak; 0 if it begins over that, unless it falls
    first: that is ring-down.
    """
    limit = RISEN * float(level[level.argmax()])
    over = level >= limit
    begin = 0 if level[:2].argmax() else int(over.argmin())
    if not over[begin:].any():
        begin = 0
    return begin + crossing(level[begin:], limit)


def _slowness_db(found: Place, window: Window) -> float:
    """How much weaker the first cycle of an echo is that rises in more than RISE_CYCLES."""
    return 20.0 * math.log10(max((found.arrival - found.onset) / window.period / RISE_CYCLES, 1.0))


def _noise(samples: Samples, found: Place, window: Window) -> float:
    """Rms (counts) of the noise in ``samples (n,)`` before the echo ``found``: what varies within a period,
    in the median period, so that neither ring-down nor a packet passes for noise.
    """
    period = window.period
    start = max(window.start, int(found.onset - NOISE_CYCLES * period))
    quiet = samples[start : max(int(found.onset - 0.5 * period), start + 8)] - np.float32(window.median)
    length = min(max(4, round(period)), len(quiet))
    periods = quiet[len(quiet) % length :].reshape(-1, length)
    level = np.add.reduce(periods, axis=1) / length
    squares = np.einsum("ij,ij->i", periods, periods) / length - level * level
    squares.partition(len(squares) // 2)
    return math.sqrt(max(float(squares[len(squares) // 2]), QUANTISATION_RMS**2))


def _part(value: float, low: float, high: float) -> float:
    """How far ``value`` has come on its way from ``low`` (0) to ``high`` (1)."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _change(samples: Samples, found: Place, told: float, window: Window) -> float:
    """The likeliest boundary between noise and the echo ``found``, in samples; ``told`` where it confirms
    that, or is none of this echo.
    """
    period, (before, after) = window.period, CHANGE_CYCLES
    last = min(found.arrival + ARRIVED_CYCLES * period, max(found.onset, told) + after * period)
    start, criterion = _criterion(samples, found.onset - before * period, last + 1.0, window)
    if not len(criterion):
        return told
    least, here = int(criterion.argmin()), min(max(round(told) - start, 0), len(criterion) - 1)
    change = start + vertex(-criterion, least)
    new = NEAR_CYCLES * period < abs(change - told) < FAR_CYCLES * period
    likelier = float(criterion[here] - criterion[least]) * 2.0 / period >= MOST_LIKELY
    return change if new and likelier else told


def _criterion(samples: Samples, first: float, last: float, window: Window
               ) -> tuple[int, NDArray[np.float64]]:
    """``akaike`` of ``samples (n,)`` from ``first`` to ``last``, empty where these are too few, and which of
    ``samples`` its first value is for.
    """
    start, stop = inside(len(samples), first, last)
    if stop - start < MIN_SAMPLES:
        return start, np.zeros(0)
    return start + 2, akaike(samples[start:stop] - np.float32(window.median), QUANTISATION_RMS**2)


def _begun(samples: Samples, told: float, window: Window, noise: float, peak: float) -> float:
    """Where the sound begins that runs without a pause into the echo at ``told``; ``told`` where none does.

    ``noise`` (rms) and ``peak`` of the echo in counts.
    """
    length, hop = max(4, round(window.period)), max(1, round(window.period / STEPS_A_PERIOD))
    first, last = max(int(told - LEAD_CYCLES * window.period) - length - hop, 0), int(told)
    floor = noise * 10.0 ** (LOUD_DB / 20.0)
    if last - first < 3 * length or _levels(samples[last - length : last], length)[0] <= floor:
        return told
    levels = _levels(samples[first:last], length)[::-hop]
    steps = int((levels <= floor).argmax())
    # 0: loud as far as one looks. 1: what the period before the onset holds of the echo itself.
    if steps < 2 or math.sqrt(2.0) * float(levels[:steps].max()) < peak * 10.0 ** (LEAD_DB / 20.0):
        return told
    return min(_silence_ends(samples, last - steps * hop, window), told)


def _levels(part: Samples, length: int) -> NDArray[np.float64]:
    """Rms of what varies in each ``length`` samples of ``part (n,)``: (n − length + 1,)."""
    x = part.astype(np.float64)
    x -= x[0]
    sums, squares = (np.concatenate([[0.0], values.cumsum()]) for values in (x, x * x))
    level = (sums[length:] - sums[:-length]) / length
    power = (squares[length:] - squares[:-length]) / length - level * level
    rms: NDArray[np.float64] = np.sqrt(np.maximum(power, 0.0))
    return rms


def _silence_ends(samples: Samples, near: float, window: Window) -> float:
    """Where in ``samples (n,)`` sound begins around ``near``, by the AIC."""
    before, after = (cycles * window.period for cycles in BEGIN_CYCLES)
    for _ in range(BEGIN_LOOKS):
        start, criterion = _criterion(samples, near - before, near + after, window)
        if not len(criterion):
            return near
        change = start + vertex(-criterion, int(criterion.argmin()))
        if abs(change - near) < 1.0:
            return change
        near = change
    return near
