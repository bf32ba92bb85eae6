"""The reader thread and its bounded queue: the oldest A-scan goes first, and is counted."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType

from usedge.ascan import AScan
from usedge.sources import Source

QUEUE_ASCANS = 64
JOIN_S = 5.0


class Feed:
    """Reads ``source`` in a thread of its own, so that a slow inference never leaves bytes on the port.

    Iterating gives A-scans in order until the source ends, is stopped, or fails; its error is raised here.
    """

    def __init__(self, source: Source, size: int = QUEUE_ASCANS) -> None:
        self.dropped = 0
        self.left = 0
        self._source = source
        self._size = size
        self._queue: deque[AScan] = deque()
        self._changed = threading.Condition()
        self._done = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="usedge-reader", daemon=True)

    def __enter__(self) -> Feed:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._source.stop()
        with self._changed:
            self._done = True
            self._changed.notify_all()
        self._thread.join(JOIN_S)
        self.left = len(self._queue)

    def take(self, wait_s: float) -> AScan | None:
        """The oldest waiting A-scan, or None when none came in ``wait_s`` or the source has ended."""
        with self._changed:
            if not self._queue and not self._done:
                self._changed.wait(wait_s)
            if not self._queue:
                if self._error is not None:
                    raise self._error
                return None
            ascan = self._queue.popleft()
            if self._source.lossless:
                self._changed.notify_all()
            return ascan

    @property
    def ended(self) -> bool:
        """True once the source has ended and every A-scan of it was taken."""
        return self._done and not self._queue

    def _read(self) -> None:
        try:
            for ascan in self._source:
                self._put(ascan)
                if self._done:
                    break
        except BaseException as error:  # handed over to the thread that takes
            self._error = error
        with self._changed:
            self._done = True
            self._changed.notify_all()

    def _put(self, ascan: AScan) -> None:
        with self._changed:
            while self._source.lossless and len(self._queue) >= self._size and not self._done:
                self._changed.wait()
            if len(self._queue) >= self._size:
                self._queue.popleft()
                self.dropped += 1
            self._queue.append(ascan)
            self._changed.notify()
