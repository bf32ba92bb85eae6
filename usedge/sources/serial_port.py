"""A-scans over a serial port: handshake, decode as bytes come, come back when it breaks, stop in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import NoReturn

from usedge.ascan import AScan
from usedge.errors import LinkError
from usedge.sources import SourceCounts, SourceOptions
from usedge.sources.handshake import POLL_S, Handshake
from usedge.sources.intake import Intake, RefusedError, front_end
from usedge.sources.latency_timer import SYS_ROOT, LatencyTimer, quicken
from usedge.sources.link import Link, LinkGoneError
from usedge.sources.ports import PortName
from usedge.sources.told import Backoff, Teller
from usedge_firmware.frontend import Event

STOP_PATIENCE_S = 0.5
STOPS = 2
"""A stop is sent again, once, when it is not acknowledged."""
BUSY_S = 0.5
"""A line that bore bytes this recently is not silent, whatever they mean."""
QUIET_S = 0.2
"""A device that does not acknowledge is taken to have stopped after this long without a byte."""
CUT_SHORT_S = 1.0
"""A frame whose next byte has not come for this long was cut short, as by a reset of the board."""
MOST_TOLD = 3
"""Reasons that are told while one interruption lasts."""
SOON_S = 1.0
"""A port that was waited for at the start for no longer is not worth a line."""


@dataclass(slots=True)
class _Return:
    """How a stream came back: from which ``trouble`` (None: it had not begun), after how long."""

    trouble: LinkError | None
    gaps: int
    resets: int
    after_s: float = 0.0
    continued: bool = False


class SerialSource:
    """A front end on a serial port, a pty or ``socket://host:port``.

    Entering the context opens the port, finds the protocol and starts the stream; leaving it stops the stream
    and collects what is still on the wire. No read or write is without a deadline. With
    ``options.reconnect`` the iteration outlives whatever happens to port and device, once A-scans have come;
    with ``options.wait`` the port is opened by the iteration, which waits for it.

    ``beat_ns``: when its thread last did something, on the monotonic clock, whether or not bytes came.
    ``latency_timer``: that of an FTDI adapter, None for other ports.
    """

    lossless = False

    def __init__(self, port: str, options: SourceOptions) -> None:
        self.port = port
        self.options = options
        self.counts = SourceCounts()
        self.beat_ns = 0
        self.latency_timer: LatencyTimer | None = None
        self.sys_root = SYS_ROOT
        self._name = PortName(port)
        self._link: Link | None = None
        self._intake = Intake(port, front_end(options), self.counts, options.count, live=True)
        self._stopping = threading.Event()
        self._tell = Teller()
        self._backoff = Backoff()
        self._polled = False
        self._reboots = 0
        self._n_understood = self._n_looked_behind = 0
        self._back_s = time.monotonic()
        self._early: list[Event] = []
        self._path: str | None = None
        self._back: _Return | None = None

    @property
    def protocol(self) -> str:
        """The protocol in use, "auto" while it is not found."""
        return self._intake.front.name

    @property
    def prf_hz(self) -> float | None:
        """A-scans a second that the board was asked for, or its own; None when neither is known."""
        return self._intake.front.prf_hz or self._intake.prf_hz

    @property
    def decode_ns(self) -> int:
        """Time spent decoding the bytes of the A-scans yielded last, ns an A-scan."""
        return self._intake.decode_ns

    def __enter__(self) -> SerialSource:
        if self._name.port != self.port:  # a subclass has learned by now what its port is
            self._name = PortName(self.port)
        self._intake.port = self.port
        if self.options.wait:
            return self
        link = self._open()
        try:
            link.drain()
            self._early = self._shake(link)[1]
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            if self._link is not None and not self._intake.ended:
                self._stop_stream(self._link)
        finally:
            for _ in self._take(self._intake.front.finish()):
                pass
            self._intake.tally()
            self._close()

    def __iter__(self) -> Iterator[AScan]:
        trouble: LinkError | None = None
        while not self._done(trouble):
            if self._link is None or trouble is not None:
                self._come_back(trouble)
            if self._link is None or self._stopping.is_set():
                return
            try:
                yield from self._stream(self._link)
                return
            except LinkError as error:
                if not self._comes_back(error):
                    raise
                trouble = error
            yield from self._take(self._intake.front.finish())

    def stop(self) -> None:
        """End the iteration at the next read, and any search or wait too."""
        self._stopping.set()

    def may_return(self) -> bool:
        """Whether what is behind the port can come back at all."""
        return True

    def _stream(self, link: Link) -> Iterator[AScan]:
        early, self._early = self._early, []
        yield from self._take(early)
        self._tell_back()
        silent_at, over_at = time.monotonic() + self.options.patience_s, float("inf")
        while not self._stopping.is_set() and not self._intake.ended and time.monotonic() < over_at:
            wanted = self._intake.front.wants(time.monotonic())
            link.write(wanted)
            self._polled = self._polled or bool(wanted)
            events = self._read(link, self._wait_s()) or self._behind_a_cut_frame(link)
            if not events and time.monotonic() > silent_at:
                events = self._intake.front.finish() or self._fell_silent(link)
            if events:
                silent_at, self._n_understood = time.monotonic() + self._patience_s(), link.n_bytes
                yield from self._take(events)
                self._check_session()
            if self._intake.complete:
                over_at = min(over_at, time.monotonic() + self._grace_s())

    def _behind_a_cut_frame(self, link: Link) -> list[Event]:
        """What a frame cut short waits for will not come, and sound ones may stand behind it."""
        if link.n_bytes == self._n_looked_behind or time.monotonic_ns() - link.read_ns < CUT_SHORT_S * 1e9:
            return []
        self._n_looked_behind = link.n_bytes
        return self._intake.front.finish()

    def _fell_silent(self, link: Link) -> NoReturn:
        n_bytes = link.n_bytes - self._n_understood
        if time.monotonic_ns() - link.read_ns < BUSY_S * 1e9:
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
        return POLL_S if self._intake.front.acknowledges else 0.0

    def _patience_s(self) -> float:
        return max(self.options.patience_s, 3.0 / self.prf_hz if self.prf_hz else 0.0)

    # Coming back

    def _comes_back(self, error: LinkError) -> bool:
        """Whether ``error`` is waited out. One that met nobody yet, or a refusal, would be met again."""
        if not self.options.reconnect or self._stopping.is_set() or not self.may_return():
            return False
        return self.counts.received > 0 or (self.options.wait and not isinstance(error, RefusedError))

    def _done(self, trouble: LinkError | None) -> bool:
        """Whether, when ``trouble`` came, all that was asked for was here or lost already."""
        return trouble is not None and self.options.count > 0 and not self._intake.left

    def _come_back(self, trouble: LinkError | None) -> None:
        """Try, at growing intervals, until the stream goes on or ``stop``; None: it has not begun yet."""
        begun, told = time.monotonic(), 0
        self._back = _Return(trouble, self.counts.seq_gaps, self._reboots)
        self._backoff.worked(begun - self._back_s)
        if trouble is not None:
            self._tell(f"{trouble.what} Trying again.")
        if isinstance(trouble, LinkGoneError):
            self._close()
        while not self._stopping.is_set():
            self._rest(self._backoff.next_s())
            try:
                self._resume(first=trouble is None)
                break
            except LinkError as error:
                self._give_up(error)
                expected = isinstance(error, LinkGoneError) and (trouble is not None or told > 0)
                if not expected and told < MOST_TOLD:
                    told += 1
                    self._tell(f"{error} Still trying.")
        self._back_s = time.monotonic()
        self._back.after_s = self._back_s - begun
        self.counts.offline_s += self._back.after_s if trouble is not None else 0.0

    def _rest(self, pause_s: float) -> None:
        until = time.monotonic() + pause_s
        while (left_s := until - time.monotonic()) > 0 and not self._stopping.wait(min(left_s, POLL_S)):
            self._beat()

    def _resume(self, *, first: bool) -> None:
        """One attempt: the handshake, behind opening the port where it is closed."""
        assert self._back is not None
        if self._stopping.is_set():
            return
        link = self._link or self._open()
        asked = replace(self.options, count=self._intake.left, protocol=self.protocol)
        self._intake.renew(front_end(asked))
        if first:
            link.drain()
        before, self._early = self._shake(link)
        if first or self._stopping.is_set():
            return
        # In a session that goes on, what came ahead of the start is the rest of our own stream.
        self._back.continued = self._intake.settle_session()
        if self._back.continued:
            self._early = before + self._early
        self.counts.reconnects += 1

    def _give_up(self, error: LinkError) -> None:
        """Close the port until the next attempt; raises ``error`` where no attempt can do better."""
        self._close()
        if not self.may_return() or (isinstance(error, RefusedError) and not self.counts.received):
            raise error

    def _tell_back(self) -> None:
        """Say what came back and what it cost, once the first bytes have told."""
        back, self._back = self._back, None
        if back is None:
            return
        what = self.port if self._path in (None, self.port) else f"{self.port} ({self._path})"
        if back.trouble is None:
            if back.after_s >= SOON_S:
                self._tell(f"{what} is here, after {back.after_s:.1f} s.")
            return
        lost = self.counts.seq_gaps - back.gaps
        if self.counts.resets > back.resets:
            how = "It was reset: whether A-scans were lost before that, nobody can tell."
        elif back.continued:
            how = f"Its session goes on; A-scans lost: {lost}."
        else:
            how = f"Protocol {self.protocol} does not tell whether A-scans were lost."
        self._tell(f"{what} is back after {back.after_s:.1f} s, reconnect {self.counts.reconnects}. {how}")

    # Port and device

    def _open(self) -> Link:
        path = self._name.path()
        self._link = Link(self.port, self.options.baud, path)
        self._path = path
        self._name.opened(path)
        timer = quicken(path, self._link.device, self.sys_root)
        if timer is not None and timer.high and self.latency_timer is None:
            self._tell(f"the adapter at {path} holds bytes back up to {timer.now_ms} ms and may not be set"
                       f" to 1 ms. Run: echo 1 | sudo tee {timer.path}")
        self.latency_timer = timer
        return self._link

    def _shake(self, link: Link) -> tuple[list[Event], list[Event]]:
        """What came before our stream, and its beginning."""
        handshake = Handshake(link, self._intake, self.options, self._stopping, self._beat)
        try:
            handshake.shake()
        finally:
            self._n_understood, self._n_looked_behind = link.n_bytes, -1
        self._reboots = self._intake.reboots
        return handshake.before, handshake.stream

    def _close(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None

    def _leave(self) -> None:
        """Close before the stream is ours; our questions may have made the board transmit."""
        try:
            if self._link is not None:
                self._link.write(self._intake.front.stop())
        except LinkError:
            pass  # the port is gone, or takes nothing
        finally:
            self._close()

    def _stop_stream(self, link: Link) -> None:
        """Stop, and count the A-scans that were already on the wire as received and not classified."""
        front = self._intake.front
        answers = front.acknowledges and front.seen
        try:
            for _ in range(STOPS if answers else 1):
                link.write(front.stop())
                self._collect(link, STOP_PATIENCE_S if answers else QUIET_S)
                if self._intake.ended:
                    return
        except LinkError:
            pass  # the port is gone: nothing is left to stop

    def _collect(self, link: Link, quiet_s: float) -> None:
        """Take what still comes, until the device says that it is done, or is quiet, or does not cease."""
        quiet_at, deadline = time.monotonic() + quiet_s, time.monotonic() + STOP_PATIENCE_S
        while not self._intake.ended and time.monotonic() < min(quiet_at, deadline):
            for _ in self._take(self._read(link, POLL_S)):
                quiet_at = max(quiet_at, time.monotonic() + QUIET_S)

    def _beat(self) -> None:
        self.beat_ns = time.monotonic_ns()

    def _read(self, link: Link, wait_s: float) -> list[Event]:
        self.beat_ns = time.monotonic_ns()
        chunk = link.read(wait_s)
        return self._intake.feed(chunk) if chunk else []

    def _take(self, events: list[Event]) -> Iterator[AScan]:
        t_ns = self._link.read_ns if self._link is not None else time.monotonic_ns()
        yield from self._intake.ascans(events, t_ns)
