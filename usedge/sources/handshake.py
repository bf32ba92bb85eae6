"""Who is on the line, and the start of its stream: one attempt, which ends by its patience."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from usedge.errors import LinkError
from usedge.sources import SourceOptions
from usedge.sources.intake import Intake, RefusedError
from usedge.sources.link import Link
from usedge_firmware.frontend import Event, Record, Started

POLL_S = 0.1
ASK_EVERY_S = 0.5
START_EVERY_S = 1.0
"""A start that is not acknowledged was lost on its way, and is sent again."""


class Handshake:
    """Afterwards ``stream`` holds what came of our stream, from its start on, and ``before`` the A-scans that
    came ahead of that start: of another host's stream, or of our own that a pause had interrupted.

    ``beat`` is called at every read.
    """

    def __init__(self, link: Link, intake: Intake, options: SourceOptions, stopping: threading.Event,
                 beat: Callable[[], None]) -> None:
        self.before: list[Event] = []
        self.stream: list[Event] = []
        self._link = link
        self._intake = intake
        self._front = intake.front
        self._options = options
        self._stopping = stopping
        self._beat = beat
        self._n_bytes = link.n_bytes

    def shake(self) -> None:
        """Find the protocol and start the stream; raises LinkError when that fails, returns when stopped."""
        self._find()
        if not self._stopping.is_set():
            self._start()

    def _heard(self) -> int:
        return self._link.n_bytes - self._n_bytes

    def _find(self) -> None:
        """Ask who is there, again and again: a board may still be booting."""
        begun = time.monotonic()
        while self._front.seen < self._front.evidence and not self._stopping.is_set():
            deadline = begun + self._search_s()
            if time.monotonic() >= deadline:
                raise LinkError(*self._silence())
            self._link.write(self._front.probe())
            self._listen(min(time.monotonic() + ASK_EVERY_S, deadline))

    def _search_s(self) -> float:
        """A board that has begun to send is given the time for its evidence at the PRF asked for."""
        slow = self._options.prf_hz and self._heard()
        return self._options.patience_s + (3.0 / self._options.prf_hz if slow else 0.0)

    def _listen(self, until: float) -> None:
        """Listen until the protocol is known; something valid on the wire is worth waiting for more."""
        while (self._front.seen < self._front.evidence and not self._stopping.is_set()
               and time.monotonic() < until):
            self.stream += self._read(min(POLL_S, max(0.0, until - time.monotonic())))

    def _silence(self) -> tuple[str, str]:
        wait = f"in {self._search_s():g} s"
        port, protocol = self._link.port, self._front.name
        if not self._heard():
            return (f"{port} sent nothing {wait}.",
                    "Is this the right port, is the board powered, does its firmware speak"
                    f" {'a known protocol' if protocol == 'auto' else protocol}?")
        return (f"{port} sent {self._heard()} bytes {wait}, but no valid frame.",
                f"Likely a wrong --baud (now {self._options.baud}), another protocol,"
                " or a second program on the port.")

    def _start(self) -> None:
        """Start the stream. What comes before the answer is no part of it."""
        self._check_prf()
        begin = self._front.start()
        self._link.write(begin)
        if not (begin and self._front.acknowledges):
            return
        heard, self.stream = self.stream, []
        self._set_aside(heard)
        deadline = time.monotonic() + self._options.patience_s
        while not self._started(min(time.monotonic() + START_EVERY_S, deadline)):
            if self._stopping.is_set():
                return
            if time.monotonic() >= deadline:
                raise LinkError(
                    f"{self._link.port} did not acknowledge START in {self._options.patience_s:g} s.",
                    "Reset the board; is its firmware current?")
            self._link.write(self._front.start())

    def _started(self, until: float) -> bool:
        """Read until the start is acknowledged, and keep what comes with the answer."""
        while time.monotonic() < until and not self._stopping.is_set():
            events = self._read(POLL_S)
            begun = next((i for i, event in enumerate(events) if isinstance(event, Started)), len(events))
            self._set_aside(events[:begun])
            if begun < len(events):
                self.stream = events[begun:]
                return True
        return False

    def _set_aside(self, events: list[Event]) -> None:
        self._intake.note(events)
        self.before += [event for event in events if isinstance(event, Record)]

    def _check_prf(self) -> None:
        most_hz = self._front.max_prf_hz
        if most_hz is not None and self._options.prf_hz > most_hz:
            raise RefusedError(f"{self._link.port} speaks {self._front.name}, which takes at most {most_hz:g}"
                               f" A-scans a second, not {self._options.prf_hz:g}.", "Ask for a lower --prf.")

    def _read(self, wait_s: float) -> list[Event]:
        self._beat()
        chunk = self._link.read(wait_s)
        return self._intake.feed(chunk) if chunk else []
