"""Where an echo that has been picked is at its peak, for labels that mark it there."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from usedge.tof.gated import FloatArray, Gated, centred, largest

SOUGHT_CYCLES = 4.0
"""The peak is sought so many cycles from the onset on, and further where the echo still grows."""
PART = 0.5
"""The envelope is over this part of its largest value around the peak."""


def echo_peak(samples: ArrayLike, onset: float, period: float) -> float:
    """Where in ``samples (n,)`` the echo that begins at ``onset`` is at its peak; both in samples.

    The middle of the stretch in which the envelope in 0.3–2 f0 is at least PART of its largest value: where
    an echo is clipped, which leaves its top no single maximum, that still is the middle of the echo.
    ``period`` is that of f0, in samples. Raises InputError for fewer than 8 samples.
    """
    envelope = np.abs(Gated(centred(samples), period).in_band())
    start = min(max(int(onset), 0), len(envelope) - 1)
    top = _top(envelope, start, SOUGHT_CYCLES * period)
    level = PART * float(envelope[top])
    before, after = envelope[: top + 1][::-1], envelope[top:]
    return top + 0.5 * (_falls_under(after, level) - _falls_under(before, level))


def _top(envelope: FloatArray, start: int, reach: float) -> int:
    """The largest of ``envelope (n,)`` within ``reach`` of ``start``, or of what follows until it falls under
    PART of that.
    """
    top = largest(envelope, start, reach)
    while True:
        stretch = _falls_under(envelope[top:], PART * float(envelope[top]))
        further = largest(envelope, top, stretch)
        if further == top:
            return top
        top = further


def _falls_under(values: FloatArray, level: float) -> float:
    """Where ``values (n,)`` first are under ``level``, between samples; the last place if they never are."""
    under = values < level
    i = int(under.argmax())
    if not under[i]:
        return float(len(values) - 1)
    return i - 1 + float((values[i - 1] - level) / (values[i - 1] - values[i])) if i else 0.0
