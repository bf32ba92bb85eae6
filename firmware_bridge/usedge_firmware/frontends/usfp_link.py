"""USFP, host side: every frame is numbered, and both its header and its whole are protected by a CRC."""

from __future__ import annotations

from typing import ClassVar, Final

from usedge_firmware.decoder import Decoder
from usedge_firmware.frame import HEADER_SIZE, TRAILER_SIZE, Frame, FrameType, UsfpError
from usedge_firmware.frontend import Ended, Event, Hello, LinkStats, Record, Refused, Request, Said, Started
from usedge_firmware.messages import (
    Ack,
    AckStatus,
    Opcode,
    command_info,
    command_start,
    command_stop,
    parse_ack,
    parse_info,
    parse_log,
)

START_SEQ: Final = 0x55530001
STOP_SEQ: Final = 0x55530002
"""Numbers of our commands; a device repeats them in its answers. A START that is sent again bears one of its
own, two above the one before, so that the end of its stream is told from the end of an earlier one.
"""

_REASONS: Final[dict[int, str]] = {
    AckStatus.UNKNOWN_OPCODE: "unknown opcode", AckStatus.BAD_ARGUMENT: "bad argument",
}


class UsfpFrontEnd:
    """USFP, host side. Only answers that bear the numbers of our own commands are heeded.

    ``corrupted``: headers and frames whose CRC is wrong, and sound frames whose payload their format cannot
    have produced.
    """

    name: ClassVar[str] = "usfp"
    blind_to: ClassVar[str] = ""
    evidence: ClassVar[int] = 1
    acknowledges: ClassVar[bool] = True
    max_prf_hz: ClassVar[float | None] = None

    def __init__(self, request: Request) -> None:
        self.request = request
        self.seen = 0
        self._decoder = Decoder()
        self._records = 0
        self._next_start = self._start_seq = START_SEQ
        self._unsound = 0
        self._unsound_bytes = 0

    @property
    def stats(self) -> LinkStats:
        """What was met so far."""
        met = self._decoder.stats
        return LinkStats(
            records=self._records, corrupted=met.crc_errors + met.header_errors + self._unsound,
            resyncs=met.resyncs, skipped_bytes=met.skipped_bytes + self._unsound_bytes,
        )

    @property
    def prf_hz(self) -> float | None:
        """A-scans a second that ``start`` asks for, None = the device's own."""
        return self.request.prf_hz or None

    @property
    def pending(self) -> int:
        """Bytes held back until more arrive."""
        return self._decoder.pending

    @property
    def in_frame(self) -> bool:
        """Whether a header with a sound CRC awaits the rest of its frame."""
        # Without a sound header the decoder never holds a header's length.
        return self._decoder.pending >= HEADER_SIZE

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes, in pieces of any length; return what they complete, in the wire's order."""
        return self._events(self._decoder.feed(data))

    def finish(self) -> list[Event]:
        """End the stream: return what is sound in the bytes held back, and count the rest."""
        return self._events(self._decoder.finish())

    def reset(self) -> None:
        """Forget the bytes held back, as after a reconnect."""
        self._decoder.reset()

    def probe(self) -> bytes:
        """Return the command that asks who is there; it starts nothing."""
        return command_info()

    def start(self) -> bytes:
        """Return START, another one at every call; raises ``UsfpError`` for a PRF that it cannot say."""
        asked = self.request
        self._start_seq, self._next_start = self._next_start, self._next_start + 2
        return command_start(asked.prf_hz, asked.count, seq=self._start_seq,
                             payload_format=asked.payload_format)

    def stop(self) -> bytes:
        """Return STOP."""
        return command_stop(seq=STOP_SEQ)

    def wants(self, now_s: float) -> bytes:  # noqa: ARG002
        """Return nothing: this device streams by itself."""
        return b""

    def _events(self, frames: list[Frame]) -> list[Event]:
        events = []
        for frame in frames:
            event = self._event(frame)
            if event is not None:
                events.append(event)
        return events

    def _event(self, frame: Frame) -> Event | None:
        """A frame that says nothing to us is passed over; only what devices send is evidence of one."""
        try:
            event = _ascan(frame) if frame.type == FrameType.ASCAN else self._message(frame)
        except UsfpError:
            if frame.type == FrameType.ASCAN:
                self._unsound += 1
                self._unsound_bytes += HEADER_SIZE + len(frame.payload) + TRAILER_SIZE
            return None
        # An echo of our own command proves a terminal, not a device.
        self.seen += frame.type != FrameType.COMMAND
        self._records += frame.type == FrameType.ASCAN
        return event

    def _message(self, frame: Frame) -> Event | None:
        if frame.type == FrameType.INFO:
            info = parse_info(frame)
            return Hello(info.name, info.prf_hz or None, info.session_id)
        if frame.type == FrameType.LOG:
            return Said(parse_log(frame))
        if frame.type == FrameType.ACK:
            ours = frame.seq in (self._start_seq, STOP_SEQ)
            return _answer(parse_ack(frame)) if ours else None
        return None


def _ascan(frame: Frame) -> Record:
    return Record(
        frame.samples(), frame.seq, float(frame.fs_hz), frame.t0_ns * 1e-3, frame.gain_cdb * 0.01,
        frame.channel, frame.t_us,
    )


def _answer(ack: Ack) -> Event | None:
    if not ack.ok:
        reason = _REASONS.get(ack.status, "no reason known here")
        return Refused(f"opcode {ack.opcode}, status {ack.status}: {reason}")
    if ack.opcode == Opcode.START:
        return Started(ack.detail)
    return Ended(ack.detail) if ack.opcode == Opcode.STOP else None
