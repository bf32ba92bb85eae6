"""What is said of the link: one line an event, and not one a second when a cable is loose for a year."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

RUN_TALK = "usedge.run"
"""Name of the log in which the ups and downs of a run stand, those of its link above all."""
AT_ONCE = 20
EVERY_S = 60.0


class Teller:
    """Passes lines on to the log: ``at_once`` of them, then one in ``every_s`` seconds; others are counted.

    What was held back is told with the next line that is not. One thread only.
    """

    def __init__(self, at_once: int = AT_ONCE, every_s: float = EVERY_S,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._every_s, self._clock = float(at_once), every_s, clock
        self._left = self._most
        self._counted_s = clock()
        self._held_back = 0

    def __call__(self, line: str) -> None:
        """Say ``line``, or count it."""
        now_s = self._clock()
        self._left = min(self._most, self._left + (now_s - self._counted_s) / self._every_s)
        self._counted_s = now_s
        if self._left < 1.0:
            self._held_back += 1
            return
        self._left -= 1.0
        behind = f" ({self._held_back} lines before this one were not shown.)" if self._held_back else ""
        self._held_back = 0
        logging.getLogger(RUN_TALK).warning("%s%s", line, behind)


class Backoff:
    """How long to wait before the next attempt: not at all, then ``least_s``, doubling, at most ``most_s``.

    ``worked`` after ``lasted_s`` begins anew, unless what came back went again sooner than it had been
    waited for.
    """

    def __init__(self, least_s: float = 0.1, most_s: float = 5.0) -> None:
        self._least_s, self._most_s = least_s, most_s
        self._pause_s = 0.0

    def next_s(self) -> float:
        """Seconds to wait now."""
        pause_s = self._pause_s
        self._pause_s = min(self._most_s, max(self._least_s, 2.0 * pause_s))
        return pause_s

    def worked(self, lasted_s: float) -> None:
        """What was waited for came, and stayed for ``lasted_s``."""
        if lasted_s >= self._pause_s:
            self._pause_s = 0.0
