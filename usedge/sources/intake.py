"""From a front end's events to A-scans, with an account of every one."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator

from usedge.ascan import AScan
from usedge.errors import InputError, LinkError
from usedge.sources import SourceCounts, SourceOptions
from usedge.sources.account import Account
from usedge_firmware.frontend import Ended, Event, FrontEnd, Hello, Record, Refused, Request, Said, Started
from usedge_firmware.frontends import UnknownFrontEndError, open_front_end
from usedge_firmware.usfp import PayloadFormat

DEVICE_TALK = "usedge.device"
"""Name of the log in which the device's own words stand."""
PAYLOADS = {"int16": PayloadFormat.INT16, "packed12": PayloadFormat.PACKED12,
            "rice": PayloadFormat.DELTA_RICE}
LEAST_PRF_HZ, MOST_PRF_HZ = 0.001, 4_294_967
MOST_ASCANS = 0xFFFFFFFF
"""What a command can say: millihertz and A-scans of 32 bits."""


class RefusedError(LinkError):
    """The device will not do what it was asked to; asking again the same way will not help."""


def front_end(options: SourceOptions) -> FrontEnd:
    """The front end that ``options`` ask for; raises InputError for an unknown protocol or payload format."""
    if options.payload not in PAYLOADS:
        raise InputError(f"payload format {options.payload!r} is unknown.", f"Known: {', '.join(PAYLOADS)}.")
    if options.prf_hz and not LEAST_PRF_HZ <= options.prf_hz <= MOST_PRF_HZ:
        raise InputError(f"PRF {options.prf_hz:g} Hz is out of range.",
                         f"Give 0 (the device's own) or {LEAST_PRF_HZ:g} to {MOST_PRF_HZ} Hz.")
    if options.count > MOST_ASCANS:
        raise InputError(f"a count of {options.count} A-scans is out of range.",
                         f"Give 0 (no end) or up to {MOST_ASCANS}.")
    request = Request(options.prf_hz, options.count, PAYLOADS[options.payload], options.fs_hz, options.t0_us)
    try:
        return open_front_end(options.protocol, request)
    except UnknownFrontEndError as error:
        raise InputError(str(error)) from None


class Intake:
    """The account of at most ``limit`` A-scans (0: no end) of one device; more than that is not heeded.

    ``live``: a refused command ends it; in a capture somebody else met the refusal, and it is only told.
    ``ended`` as the device told; ``prf_hz`` its own PRF, None when it did not say; ``reboots`` times that it
    said who it is under another session; ``decode_ns`` the time that the bytes fed last took, for each event
    in them.
    """

    def __init__(self, port: str, front: FrontEnd, counts: SourceCounts, limit: int = 0, *,
                 live: bool = False) -> None:
        self.port = port
        self.front = front
        self.counts = counts
        self.limit = limit
        self.live = live
        self.prf_hz: float | None = None
        self.ended = False
        self.reboots = 0
        self.decode_ns = 0
        self._session_id: int | None = None
        self._confirmed = False
        self._reboots_before = 0
        self._account = Account()
        self._corrupted = self._resyncs = 0  # of front ends before this one

    @property
    def complete(self) -> bool:
        """Whether all that was asked for has come."""
        return 0 < self.limit <= self._account.received

    @property
    def left(self) -> int:
        """How many of ``limit`` A-scans are neither here nor known to be lost; 0 where there is no limit."""
        return max(0, self.limit - self._account.received - self._account.missing)

    def renew(self, front: FrontEnd) -> None:
        """Go on with a fresh front end, behind an interruption; who the device is has to be told again."""
        self._corrupted += self.front.stats.corrupted
        self._resyncs += self.front.stats.resyncs
        self.front = front
        self._confirmed, self._reboots_before = False, self.reboots

    def settle_session(self) -> bool:
        """Whether the device has said since ``renew`` that its session goes on, so that its numbers do.

        Where it said nothing of the kind, numbers of before are compared with no others.
        """
        if not self._confirmed and self.reboots == self._reboots_before:
            self._account.lose_session()
        return self._confirmed

    def feed(self, chunk: bytes) -> list[Event]:
        """What the front end understands with ``chunk``, the next bytes, and how long that took it."""
        begun_ns = time.monotonic_ns()
        events = self.front.feed(chunk)
        self.decode_ns = (time.monotonic_ns() - begun_ns) // max(len(events), 1)
        return events

    def ascans(self, events: Iterable[Event], t_ns: int) -> Iterator[AScan]:
        """The A-scans among ``events``, each once; raises LinkError when a live device refuses to stream."""
        for event in events:
            if isinstance(event, Record):
                heeded = not self.complete or self._account.has(event.seq)
                if heeded and self._account.take(event.seq) != "duplicate":
                    self.counts.received = self._account.received
                    yield AScan(event.samples, event.fs_hz, event.t0_us, event.seq, t_ns, event.gain_db,
                                event.channel, event.rf)
            else:
                self._note(event)
        self.tally()

    def note(self, events: Iterable[Event]) -> None:
        """Heed what the device says among ``events``; pass over a stream that is not ours, and its ends."""
        for event in events:
            if not isinstance(event, (Record, Started, Ended)):
                self._note(event)

    def tally(self) -> None:
        """Bring the counts up to date with what the front end met."""
        stats = self.front.stats
        self.counts.crc_errors = self._corrupted + stats.corrupted
        self.counts.resyncs = self._resyncs + stats.resyncs
        self._count()

    def _note(self, event: Event) -> None:
        if isinstance(event, Hello):
            self._meet(event)
        elif isinstance(event, Started):
            self._account.begin(event.next_seq)
        elif isinstance(event, Ended):
            self.ended = True
            self._account.end(event.sent)
        elif isinstance(event, Said):
            logging.getLogger(DEVICE_TALK).info("%s", event.text)
        elif isinstance(event, Refused):
            self._heed_refusal(event)

    def _heed_refusal(self, event: Refused) -> None:
        if self.live:
            raise RefusedError(f"{self.port} refused a command ({event.reason}).",
                               "Check --prf, --count and --payload against the board's limits.")
        logging.getLogger(DEVICE_TALK).info("a command was refused (%s)", event.reason)

    def _meet(self, hello: Hello) -> None:
        self.prf_hz = hello.prf_hz or None
        self._confirmed = self._session_id is not None and hello.session_id == self._session_id
        if self._session_id is not None and not self._confirmed:
            self.reboots += 1
            self._account.lose_session()  # a restarted number is no second copy
        self._session_id = hello.session_id

    def _count(self) -> None:
        account, counts = self._account, self.counts
        counts.received, counts.duplicated = account.received, account.duplicated
        counts.seq_gaps, counts.sent = account.missing, account.sent
        counts.resets, counts.unknown_ends = self.reboots, account.unknown_ends
