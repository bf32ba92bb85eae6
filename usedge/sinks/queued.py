"""The bounded queue between the device loop and a sink that may be slow or dead."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from usedge.ascan import AScan
from usedge.errors import UsedgeError
from usedge.reading import Reading

BACKLOG = 10_000
BATCH = 500
TICK_S = 0.1
FLUSH_S = 3.0
JOIN_S = 1.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0
QUIET_S = 60.0
"""A sink that comes and goes is spoken of once in this time."""


class SinkDownError(Exception):
    """Nothing more goes out at present; what was not taken is kept and offered again."""


class SinkRefusedError(Exception):
    """What was offered will never be taken: it is dropped and counted."""


class Outlet(Protocol):
    """What writes readings somewhere, always called in the queue's own thread.

    None of its calls may block for longer than a few seconds.
    """

    def send(self, readings: Sequence[Reading]) -> int:
        """Write some of ``readings``, oldest first; how many, at least 1. The others are offered again.

        Raises SinkDownError or OSError when nothing goes out now, SinkRefusedError for what never will.
        """
        ...

    def tick(self) -> None:
        """Whatever is due besides readings, about ten times a second; raises as ``send`` does."""
        ...

    def close(self) -> None:
        """Finish, after the last reading."""
        ...


class Queued:
    """A sink whose ``write`` appends to a bounded queue, the oldest reading going when it is full.

    ``name`` stands for it in the summary and in messages. Its thread looks every TICK_S, rather than being
    woken: waking it would cost the device loop more than the reading does.
    """

    def __init__(self, name: str, outlet: Outlet, say: Callable[[str], None], backlog: int = BACKLOG) -> None:
        self.name = name
        self._outlet, self._say, self._backlog = outlet, say, backlog
        self._queue: deque[Reading] = deque(maxlen=backlog)
        self._held: list[Reading] = []
        self._put = self._written = 0
        self._failing = self._told = False
        self._error: str | None = None
        self._told_s = float("-inf")
        self._lost_before = 0
        self._leaving = threading.Event()
        self._until = float("inf")
        self._thread = threading.Thread(target=self._work, name=f"usedge-sink-{name}", daemon=True)
        self._thread.start()

    def write(self, reading: Reading, gated: AScan) -> None:  # noqa: ARG002 - Sink's signature
        """Queue one reading; never waits."""
        self._put += 1
        self._queue.append(reading)

    def leave(self) -> None:
        """Begin to finish: FLUSH_S from now the queue is given up."""
        if not self._leaving.is_set():
            self._until = time.monotonic() + FLUSH_S
            self._leaving.set()

    def close(self) -> None:
        """Write what is waiting, for FLUSH_S at most; what is left then counts as dropped, and is told."""
        self.leave()
        self._thread.join(max(0.0, self._until - time.monotonic()) + JOIN_S)
        left = len(self._held) + len(self._queue)
        if left:
            why = self._error or "it did not end in time"
            self._say(f"sink {self.name}: {left} readings were left unwritten ({why}).")

    @property
    def dropped(self) -> int:
        """Readings that were not written and are no longer waiting; at the end, all that were not written."""
        waiting = 0 if self._leaving.is_set() else len(self._queue) + len(self._held)
        return max(0, self._put - self._written - waiting)

    def state(self) -> dict[str, Any]:
        """For the summary: ``state`` is "ok", "failing", or "stuck" where its thread did not end."""
        stuck = self._leaving.is_set() and self._thread.is_alive()
        return {"written": self._written, "dropped": self.dropped,
                "state": "stuck" if stuck else "failing" if self._failing else "ok", "error": self._error}

    def _work(self) -> None:
        pause = TICK_S
        while not self._over():
            self._leaving.wait(pause)
            try:
                self._outlet.tick()
                self._send_all()
            except SinkRefusedError as error:
                self._refused(str(error))
            except Exception as error:  # a fault of one sink, whatever it is, ends neither it nor the run
                self._fails(_words(error))
                pause = min(max(2 * pause, FIRST_PAUSE_S), LONGEST_PAUSE_S)
                if self._leaving.is_set():
                    time.sleep(TICK_S)
                continue
            self._works()
            pause = TICK_S
        self._end()

    def _over(self) -> bool:
        if not self._leaving.is_set():
            return False
        return not (self._queue or self._held) or time.monotonic() > self._until

    def _send_all(self) -> None:
        while self._fill() and time.monotonic() < self._until:
            n = self._outlet.send(self._held)
            self._written += n
            del self._held[:n]

    def _fill(self) -> bool:
        """Take what is waiting, so that a full queue cannot take back what is being sent."""
        while self._queue and len(self._held) < BATCH:
            self._held.append(self._queue.popleft())
        return bool(self._held)

    def _refused(self, why: str) -> None:
        n = len(self._held)
        self._held.clear()
        self._error = why
        self._tell(f"sink {self.name} refused {n} readings: {why}.")

    def _fails(self, why: str) -> None:
        self._error = why
        if not self._failing:
            self._failing = True
            self._lost_before = self.dropped
            self._told = self._tell(f"sink {self.name} fails: {why}. The newest {self._backlog} readings are"
                                    " kept, and it is tried again.")

    def _works(self) -> None:
        if self._failing:
            self._failing = False
            lost = self.dropped - self._lost_before
            if self._told:
                self._say(f"sink {self.name} works again; {lost or 'no'} readings were lost.")

    def _tell(self, text: str) -> bool:
        if time.monotonic() - self._told_s < QUIET_S:
            return False
        self._told_s = time.monotonic()
        self._say(text)
        return True

    def _end(self) -> None:
        try:
            self._outlet.close()
        except Exception as error:
            self._fails(_words(error))


def _words(error: Exception) -> str:
    """``error`` as one line for a person."""
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    if isinstance(error, SinkDownError | UsedgeError):
        return str(error)
    return f"{type(error).__name__}: {error}"
