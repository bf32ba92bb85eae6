"""A-scans over a serial port: find out who is there, start, decode as bytes come, stop in good order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import NoReturn

from usedge.ascan import AScan
from usedge.errors import LinkError
from usedge.sources import SourceCounts, SourceOptions
from usedge.sources.intake import Intake, front_end
from usedge.sources.link import Link
from usedge_firmware.frontend import Event, Started

POLL_S = 0.1
ASK_EVERY_S = 0.5
START_EVERY_S = 1.0
"""A start that is not acknowledged was lost on its way, and is sent again."""
STOP_PATIENCE_S = 0.5
STOPS = 2
"""A stop is sent again, once, when it is not acknowledged."""
BUSY_S = 0.5
"""A line that bore bytes this recently is not silent, whatever they mean."""
QUIET_S = 0.2
"""A device that does not acknowledge is taken to have stopped after this long without a byte."""


class SerialSource:
    """A front end on a serial port, a pty or ``socket://host:port``.

    Entering the context opens the port, finds the protocol and starts the stream; leaving it stops the stream
    and collects what is still on the wire. No read is without a deadline.
    """

    lossless = False

    def __init__(self, port: str, options: SourceOptions) -> None:
        self.port = port
        self.options = options
        self.counts = SourceCounts()
        self._front = front_end(options)
        self._intake = Intake(port, self._front, self.counts, options.count, live=True)
        self._stopping = False
        self._polled = False
        self._reboots = 0
        self._n_understood = 0
        self._early: list[Event] = []

    @property
    def protocol(self) -> str:
        """The protocol in use, "auto" while it is not found."""
        return self._front.name

    @property
    def prf_hz(self) -> float | None:
        """A-scans a second that the board was asked for, or its own; None when neither is known."""
        return self._front.prf_hz or self._intake.prf_hz

    @property
    def decode_ns(self) -> int:
        """Time spent decoding the bytes of the A-scans yielded last, ns an A-scan."""
        return self._intake.decode_ns

    def __enter__(self) -> SerialSource:
        self._link = Link(self.port, self.options.baud)
        self._intake.port = self.port
        try:
            self._link.drain()
            self._find()
            self._start()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            if not self._intake.ended:
                self._stop_stream()
        finally:
            for _ in self._take(self._front.finish()):
                pass
            self._intake.tally()
            self._link.close()

    def __iter__(self) -> Iterator[AScan]:
        yield from self._take(self._early)
        silent_at, over_at = time.monotonic() + self.options.patience_s, float("inf")
        while not self._stopping and not self._intake.ended and time.monotonic() < over_at:
            wanted = self._front.wants(time.monotonic())
            self._link.write(wanted)
            self._polled = self._polled or bool(wanted)
            events = self._read(self._wait_s())
            if not events and time.monotonic() > silent_at:
                # What a frame cut short was waiting for will not come, and sound ones may stand behind it.
                events = self._front.finish() or self._fell_silent()
            if events:
                silent_at, self._n_understood = time.monotonic() + self._patience_s(), self._link.n_bytes
                yield from self._take(events)
                self._check_session()
            if self._intake.complete:
                over_at = min(over_at, time.monotonic() + self._grace_s())

    def stop(self) -> None:
        """End the iteration at the next read, and the search for a protocol too."""
        self._stopping = True

    def _fell_silent(self) -> NoReturn:
        n_bytes = self._link.n_bytes - self._n_understood
        if time.monotonic_ns() - self._link.read_ns < BUSY_S * 1e9:
            raise LinkError(f"{self.port} sent {n_bytes} bytes, but no valid frame for"
                            f" {self._patience_s():g} s after {self.counts.received} A-scans.",
                            "Look for noise on the line or a second program on the port.")
        raise LinkError(f"{self.port} fell silent for {self._patience_s():g} s after"
                        f" {self.counts.received} A-scans.", "Check the cable and the board's power.")

    def _check_session(self) -> None:
        """A board that was reset waits for a start, and everything before belongs to another account."""
        if self._intake.reboots > self._reboots:
            raise LinkError(f"{self.port}: the board was reset after {self.counts.received} A-scans.",
                            "Check its supply, and restart.")

    def _wait_s(self) -> float:
        """How long a read may wait: a device that is asked for every A-scan must be asked in time."""
        return min(POLL_S, 0.2 / self.prf_hz) if self._polled and self.prf_hz else POLL_S

    def _grace_s(self) -> float:
        """How long to wait, when all has come that was asked for, for the device to say so too."""
        return POLL_S if self._front.acknowledges else 0.0

    def _patience_s(self) -> float:
        return max(self.options.patience_s, 3.0 / self.prf_hz if self.prf_hz else 0.0)

    def _find(self) -> None:
        """Ask who is there, again and again: a board may still be booting."""
        begun = time.monotonic()
        while self._front.seen < self._front.evidence and not self._stopping:
            deadline = begun + self._search_s()
            if time.monotonic() >= deadline:
                raise LinkError(*self._silence())
            self._link.write(self._front.probe())
            self._listen(min(time.monotonic() + ASK_EVERY_S, deadline))

    def _search_s(self) -> float:
        """A board that has begun to send is given the time for its evidence at the PRF asked for."""
        slow = self.options.prf_hz and self._link.n_bytes
        return self.options.patience_s + (3.0 / self.options.prf_hz if slow else 0.0)

    def _listen(self, until: float) -> None:
        """Listen until the protocol is known; something valid on the wire is worth waiting for more."""
        while (self._front.seen < self._front.evidence and not self._stopping
               and time.monotonic() < until):
            self._early += self._read(min(POLL_S, max(0.0, until - time.monotonic())))

    def _silence(self) -> tuple[str, str]:
        wait = f"in {self._search_s():g} s"
        if not self._link.n_bytes:
            return (f"{self.port} sent nothing {wait}.",
                    "Is this the right port, is the board powered, does its firmware speak"
                    f" {'a known protocol' if self.protocol == 'auto' else self.protocol}?")
        return (f"{self.port} sent {self._link.n_bytes} bytes {wait}, but no valid frame.",
                f"Likely a wrong --baud (now {self.options.baud}), another protocol,"
                " or a second program on the port.")

    def _start(self) -> None:
        """Start the stream. What comes before the answer belongs to one that another host left running."""
        if self._stopping:
            return
        self._check_prf()
        begin = self._front.start()
        self._link.write(begin)
        if not (begin and self._front.acknowledges):
            return
        self._intake.note(self._early)
        deadline = time.monotonic() + self.options.patience_s
        while not self._started(min(time.monotonic() + START_EVERY_S, deadline)):
            if self._stopping:
                return
            if time.monotonic() >= deadline:
                self._not_acknowledged()
            self._link.write(self._front.start())

    def _started(self, until: float) -> bool:
        """Read until the start is acknowledged, and keep what comes with the answer."""
        while time.monotonic() < until and not self._stopping:
            events = self._read(POLL_S)
            begun = next((i for i, event in enumerate(events) if isinstance(event, Started)), len(events))
            self._intake.note(events[:begun])
            if begun < len(events):
                self._early, self._reboots = events[begun:], self._intake.reboots
                return True
        return False

    def _not_acknowledged(self) -> NoReturn:
        raise LinkError(f"{self.port} did not acknowledge START in {self.options.patience_s:g} s.",
                        "Reset the board; is its firmware current?")

    def _check_prf(self) -> None:
        most_hz = self._front.max_prf_hz
        if most_hz is not None and self.options.prf_hz > most_hz:
            raise LinkError(f"{self.port} speaks {self.protocol}, which takes at most {most_hz:g} A-scans a"
                            f" second, not {self.options.prf_hz:g}.", "Ask for a lower --prf.")

    def _leave(self) -> None:
        """Close before the stream is ours; our questions may have made the board transmit."""
        try:
            self._link.write(self._front.stop())
        except LinkError:
            pass  # the port is gone, or takes nothing
        finally:
            self._link.close()

    def _stop_stream(self) -> None:
        """Stop, and count the A-scans that were already on the wire as received and not classified."""
        answers = self._front.acknowledges and self._front.seen
        try:
            for _ in range(STOPS if answers else 1):
                self._link.write(self._front.stop())
                self._collect(STOP_PATIENCE_S if answers else QUIET_S)
                if self._intake.ended:
                    return
        except LinkError:
            pass  # the port is gone: nothing is left to stop

    def _collect(self, quiet_s: float) -> None:
        """Take what still comes, until the device says that it is done, or is quiet, or does not cease."""
        quiet_at, deadline = time.monotonic() + quiet_s, time.monotonic() + STOP_PATIENCE_S
        while not self._intake.ended and time.monotonic() < min(quiet_at, deadline):
            for _ in self._take(self._read(POLL_S)):
                quiet_at = max(quiet_at, time.monotonic() + QUIET_S)

    def _read(self, wait_s: float) -> list[Event]:
        chunk = self._link.read(wait_s)
        return self._intake.feed(chunk) if chunk else []

    def _take(self, events: list[Event]) -> Iterator[AScan]:
        yield from self._intake.ascans(events, self._link.read_ns)
