"""What the device says to a person, on stderr: at once, or after a live view has left the screen."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from typing import TextIO

from usedge.pipe import Pipe, descriptor
from usedge.sources.intake import DEVICE_TALK

KEPT_LINES = 20
LONGEST = 500
PATIENCE_S = 1.0
"""How long a line waits for whoever reads stderr; those behind it not at all, until one is taken again."""


class Stderr:
    """Writes lines to stderr, from any thread. Nobody reads it, and its pipe is full: they are lost, but
    nothing waits for them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stuck = False

    def __call__(self, text: str, stream: TextIO | None = None) -> None:
        """Write ``text``, ``stream`` instead of the present stderr where it is given."""
        stream = stream or sys.stderr
        fd = None if stream.isatty() else descriptor(stream)
        if fd is None:
            stream.write(text)
            stream.flush()
            return
        with self._lock:
            until = time.monotonic() + (0.0 if self._stuck else PATIENCE_S)
            stream.flush()
            self._stuck = not Pipe(fd, lambda: time.monotonic() >= until).write(text.encode())


tell = Stderr()
"""The one that all commands share."""


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
            tell(self._lines.popleft())
