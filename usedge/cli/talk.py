"""What the device says to a person, on stderr: at once, or after a live view has left the screen."""

from __future__ import annotations

import logging
import sys
from collections import deque

from usedge.sources.intake import DEVICE_TALK

KEPT_LINES = 20
LONGEST = 500


class DeviceTalk(logging.Handler):
    """Writes the lines of ``log`` as they come, or with ``live`` keeps the newest until ``close``."""

    def __init__(self, live: bool, log: str = DEVICE_TALK, speaker: str = "device") -> None:
        super().__init__()
        self._live, self._speaker = live, speaker
        self._log = logging.getLogger(log)
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._log.setLevel(logging.INFO)
        self._log.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Take one line."""
        # A board's text may hold anything, and some of that moves a terminal's cursor.
        text = "".join(each if each.isprintable() else " " for each in record.getMessage()[:LONGEST]).strip()
        self._lines.append(f"{self._speaker}: {text}\n")
        if not self._live:
            self._flush_lines()

    def close(self) -> None:
        """Write what was kept, and listen no more."""
        self._flush_lines()
        self._log.removeHandler(self)
        super().close()

    def _flush_lines(self) -> None:
        while self._lines:
            sys.stderr.write(self._lines.popleft())
