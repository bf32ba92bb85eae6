"""From a front end's events to A-scans, with an account of every one."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator

from usedge.ascan import AScan
from usedge.errors import InputError, LinkError
from usedge.sources import SourceCounts, SourceOptions
from usedge_firmware.continuity import Continuity
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
    """The account of one stream of at most ``limit`` A-scans (0: no end); more than that is not heeded.

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
        self._numbers = Continuity()

    @property
    def complete(self) -> bool:
        """Whether all that was asked for has come."""
        return 0 < self.limit <= self._numbers.received

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
                heeded = not self.complete or self._numbers.has(event.seq)
                if heeded and self._numbers.take(event.seq) != "duplicate":
                    self._count()
                    yield AScan(event.samples, event.fs_hz, event.t0_us, event.seq, t_ns, event.gain_db,
                                event.channel, event.rf)
            else:
                self._note(event)
        self._count()

    def note(self, events: Iterable[Event]) -> None:
        """Heed what the device says among ``events``; pass over a stream that is not ours, and its end."""
        for event in events:
            if not isinstance(event, (Record, Ended)):
                self._note(event)

    def tally(self) -> None:
        """Bring the counts up to date with what the front end met."""
        stats = self.front.stats
        self.counts.crc_errors, self.counts.resyncs = stats.corrupted, stats.resyncs

    def _note(self, event: Event) -> None:
        if isinstance(event, Hello):
            self._meet(event)
        elif isinstance(event, Started):
            self._numbers.restart(event.next_seq)
        elif isinstance(event, Ended):
            self.ended = True
            self.counts.sent = event.sent
        elif isinstance(event, Said):
            logging.getLogger(DEVICE_TALK).info("%s", event.text)
        elif isinstance(event, Refused):
            self._heed_refusal(event)

    def _heed_refusal(self, event: Refused) -> None:
        if self.live:
            raise LinkError(f"{self.port} refused a command ({event.reason}).",
                            "Check --prf, --count and --payload against the board's limits.")
        logging.getLogger(DEVICE_TALK).info("a command was refused (%s)", event.reason)

    def _meet(self, hello: Hello) -> None:
        self.prf_hz = hello.prf_hz or None
        if self._session_id is not None and hello.session_id != self._session_id:
            self.reboots += 1
            self._numbers.restart(None)  # a restarted number is no second copy
        self._session_id = hello.session_id

    def _count(self) -> None:
        self.counts.received = self._numbers.received
        self.counts.duplicated = self._numbers.duplicated
        lost_at_the_end = (self.counts.sent or 0) - self._numbers.received
        self.counts.seq_gaps = max(self._numbers.missing, lost_at_the_end)
