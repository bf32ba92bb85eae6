"""The reader thread and its bounded queue: the oldest A-scan goes first, and is counted."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType

from usedge.ascan import AScan
from usedge.sources import Source

QUEUE_ASCANS = 64
JOIN_S = 5.0
LOSSLESS_WAIT_S = 0.001


class Feed:
    """Reads ``source`` in a thread of its own, so that a slow inference never leaves bytes on the port.

    ``take`` gives A-scans in order until the source ends, is stopped, or fails; its error is raised there.
    ``dropped`` counts those that a live source brought while ``size`` others were waiting. ``tap`` is given
    every A-scan as it comes, dropped or not, in the reader's thread.
    """

    def __init__(self, source: Source, size: int = QUEUE_ASCANS,
                 tap: Callable[[AScan], None] | None = None) -> None:
        self.dropped = 0
        self.ended = False
        self._source = source
        self._size = size
        self._tap = tap
        # Not Queue or Condition: those wake their reader through Python code, five times slower.
        self._queue: queue.SimpleQueue[AScan | None] = queue.SimpleQueue()
        self._leaving = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="usedge-reader", daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._leaving = True
        self._source.stop()
        self._thread.join(JOIN_S)

    def take(self, wait_s: float) -> AScan | None:
        """The oldest waiting A-scan, or None when none came in ``wait_s`` or the source has ended."""
        try:
            ascan = self._queue.get(timeout=wait_s)
        except queue.Empty:
            return None
        if ascan is None:
            self.ended = True
            if self._error is not None:
                raise self._error
        return ascan

    def _read(self) -> None:
        try:
            for ascan in self._source:
                if self._tap is not None:
                    self._tap(ascan)
                self._make_room()
                self._queue.put(ascan)
                if self._leaving:
                    break
        except BaseException as error:
            self._error = error
        self._queue.put(None)

    def _make_room(self) -> None:
        while self._queue.qsize() >= self._size and not self._leaving:
            if self._source.lossless:
                time.sleep(LOSSLESS_WAIT_S)
                continue
            try:
                self._queue.get_nowait()
            except queue.Empty:
                return
            self.dropped += 1
