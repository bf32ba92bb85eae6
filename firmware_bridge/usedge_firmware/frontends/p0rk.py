"""pic0rick with the on-board DSP firmware (RP2350): "P0RK" frames, with lines of text between them.

Frame: a 64-byte header, then the payload. The header bears the CRC-32 of the payload and none of its own.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from usedge_firmware.frontend import Ended, Event, Record, Refused, Request, Said, Started
from usedge_firmware.frontends.gathering import Gathering, Patience
from usedge_firmware.frontends.ten_bit import MID_SCALE, TOP

MAGIC: Final = b"P0RK"
HEADER_SIZE: Final = 64
VERSION: Final = 1
MAX_FS_HZ: Final = 1_000_000_000
LONGEST_LINE: Final = 200
DEFAULT_PRF_HZ: Final = 50

_HEADER = struct.Struct("<4sBBHIIIIQfffIIIII")
# A line begins where understood bytes end, or after a byte that is no text.
_LINE = re.compile(rb"(?:OK|ERR)(?:[ \t][ -~]{0,%d})?\r?\n" % LONGEST_LINE)
_LATER_LINE = re.compile(rb"(?<![ -~])" + _LINE.pattern)
_PART = re.compile(rb"(?:O|ER?|(?:OK|ERR)(?:[ \t][ -~]{0,%d})?\r?)\Z" % LONGEST_LINE)
_LATER_PART = re.compile(rb"P(?:0R?)?\Z|(?<![ -~])" + _PART.pattern)
_ALAW_A = 87.6


class PayloadType(IntEnum):
    """What a frame carries."""

    RAW = 1
    ENVELOPE = 2
    ALAW = 3


ITEM_SIZE: Final[dict[int, int]] = {PayloadType.RAW: 2, PayloadType.ENVELOPE: 4, PayloadType.ALAW: 1}
LIMIT_HZ: Final = {PayloadType.RAW: 100, PayloadType.ENVELOPE: 50, PayloadType.ALAW: 70}

FLAG_WORDS: Final = {
    1 << 0: "the A-law code is saturated: the envelope's peaks are cut",
    1 << 1: "the board could not process every A-scan and dropped some",
    1 << 2: "USB could not take every A-scan and the board dropped some",
    1 << 3: "these are the board's self-test, not echoes",
    1 << 16: "the pulser is not armed: there will be no echoes",
}
_UNARMED: Final = 1 << 16  # beyond the 16 bits of the wire
_NO_ECHOES: Final = 1 << 3 | 1 << 4  # self-test, or armed


@dataclass(frozen=True, slots=True)
class Header:
    """The header behind its magic, by the names of the wire; ``timestamp_us`` µs, the pulse widths ns."""

    version: int
    type: int
    flags: int
    seq: int
    sample_count: int
    rate: int
    payload_bytes: int
    timestamp_us: int
    dc_mean: float
    env_peak: float
    alaw_ref: float
    neg_ns: int
    damp_ns: int
    pos_ns: int
    drops: int
    crc: int

    @classmethod
    def unpack_from(cls, buffer: bytes | bytearray, at: int = 0) -> Header:
        """Read the 64 bytes at ``at``, whatever they say."""
        return cls(*_HEADER.unpack_from(buffer, at)[1:])

    def pack(self) -> bytes:
        """Return the 64 bytes."""
        return _HEADER.pack(MAGIC, *astuple(self))

    @property
    def makes_sense(self) -> bool:
        """Whether such a frame can be; nothing else protects a header."""
        item_size = ITEM_SIZE.get(self.type)
        return (
            self.version == VERSION
            and item_size is not None
            and 1 <= self.sample_count <= 0xFFFF
            and self.payload_bytes == self.sample_count * item_size
            and 0 < self.rate <= MAX_FS_HZ
            and all(map(math.isfinite, (self.dc_mean, self.env_peak, self.alaw_ref)))
            and (self.type != PayloadType.ALAW or 0.0 < self.alaw_ref <= 65536.0)
        )


def _alaw_table() -> npt.NDArray[np.float64]:
    """Return the 256 levels, (256,) from 0 to 1, that an A-law code stands for."""
    knee = 1.0 + math.log(_ALAW_A)
    code = np.arange(256) / 255.0
    return np.where(code < 1.0 / knee, code * knee / _ALAW_A, np.exp(code * knee - 1.0) / _ALAW_A)


ALAW_LEVELS: Final = _alaw_table()


def samples_of(header: Header, payload: bytes) -> npt.NDArray[np.int16] | None:
    """Return the counts, ``(sample_count,)`` int16; None when such a board cannot have sent them.

    Raw counts are about zero (mid-scale taken off); envelopes are rounded, and cut at the ends of int16.
    """
    if header.type == PayloadType.RAW:
        codes = np.frombuffer(payload, dtype="<u2")
        return None if codes.max() > TOP else codes.astype(np.int16) - np.int16(MID_SCALE)
    if header.type == PayloadType.ENVELOPE:
        levels: npt.NDArray[np.float64] = np.frombuffer(payload, dtype="<f4").astype(np.float64)
    else:
        levels = ALAW_LEVELS[np.frombuffer(payload, dtype=np.uint8)] * header.alaw_ref
    if not np.isfinite(levels).all():
        return None
    return np.clip(np.rint(levels), -32768, 32767).astype(np.int16)


class P0rkFrontEnd(Gathering):
    """P0RK, host side; it asks for raw A-scans, and takes all three types.

    ``probe`` begins a stream without transmit pulses. ``start`` begins it anew with the pulser armed, because
    a board is disarmed whenever its port is closed or its stream stopped: nobody else can have armed it.

    ``corrupted``: headers that cannot be, frames whose CRC is wrong, and samples that such an ADC cannot
    give. What the header says of dropped A-scans comes as ``Said``: each flag once, the count of drops when
    it first rises and then whenever it has doubled. ``t_us`` is the board's clock as it stands; t0 and gain
    are not on this wire.
    """

    name: ClassVar[str] = "p0rk"
    blind_to: ClassVar[str] = (
        "The CRC covers the payload alone: a damaged header field that still makes sense"
        " (number, clock, sampling rate, A-law scale) is not seen."
    )
    evidence: ClassVar[int] = 2
    acknowledges: ClassVar[bool] = True
    max_prf_hz: ClassVar[float | None] = float(LIMIT_HZ[PayloadType.RAW])

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._t0_us = request.t0_us or 0.0
        self._asked: deque[str] = deque()
        self._patience = Patience()
        self._mid_line = self._armed = False
        self._told_flags = 0
        self._told_drops: int | None = None

    @property
    def prf_hz(self) -> float:
        """A-scans a second that ``start`` asks for: whole ones, this board knows no others."""
        return float(max(1, round(self.request.prf_hz or DEFAULT_PRF_HZ)))

    def reset(self) -> None:
        """Forget the bytes held back and the questions unanswered, as after a reconnect."""
        super().reset()
        self._asked.clear()
        self._mid_line = self._armed = False
        self._patience = Patience()
        self._told_drops = None

    def probe(self) -> bytes:
        """Return what begins a stream without transmit pulses; nothing once a frame has come."""
        return self._begin() if not self.seen and self._patience.due() else b""

    def start(self) -> bytes:
        """Return what arms the pulser and begins the stream; only opening the port had disarmed it."""
        return self._begin("arm")

    def stop(self) -> bytes:
        """Return what ends the stream; it disarms the pulser too."""
        self._asked = deque(["stop"])
        self._armed = False
        return b"stream stop\n"

    def _begin(self, *arm: str) -> bytes:
        # The first line end closes whatever another protocol's probe left in the board's line; the stop is
        # for a stream that is running, perhaps of another type.
        self._asked = deque(["clear", *arm, "start"])
        self._armed = bool(arm)
        prf_hz = round(self.prf_hz)
        if not arm:  # a board is found even when more is asked of it than it can do
            prf_hz = min(prf_hz, LIMIT_HZ[PayloadType.RAW])
        return b"\nstream stop\n" + b"pulser arm\n" * len(arm) + b"stream start raw %d\n" % prf_hz

    def _step(self, events: list[Event]) -> bool:
        if not self._buffer.startswith(MAGIC, self._at):
            return self._step_over_text(events)
        if len(self._buffer) < self._at + HEADER_SIZE:
            self._need = self._at + HEADER_SIZE
            return False
        header = Header.unpack_from(self._buffer, self._at)
        if not header.makes_sense:
            self._drop()
            return True
        end = self._at + HEADER_SIZE + header.payload_bytes
        if len(self._buffer) < end:
            self._need = end
            return False
        self._take_or_drop(header, end, events)
        return True

    def _take_or_drop(self, header: Header, end: int, events: list[Event]) -> None:
        payload = bytes(self._buffer[self._at + HEADER_SIZE : end])
        samples = samples_of(header, payload) if zlib.crc32(payload) == header.crc else None
        if samples is None:
            self._drop()
            return
        events.extend(map(Said, self._notices(header)))
        events.append(Record(
            samples, header.seq, float(header.rate), self._t0_us, t_us=header.timestamp_us,
            rf=header.type == PayloadType.RAW,
        ))
        self._take(end)
        self._stats.records += 1
        self.seen += 1

    def _drop(self) -> None:
        """Go on behind the magic alone: a sound frame may lie inside the length that this one claims."""
        self._stats.corrupted += 1
        self._skip_to(self._at + len(MAGIC))

    def _notices(self, header: Header) -> Iterator[str]:
        flags = header.flags if header.flags & _NO_ECHOES or not self._armed else header.flags | _UNARMED
        for bit, words in FLAG_WORDS.items():
            if flags & bit & ~self._told_flags:
                self._told_flags |= bit
                yield words
        if self._told_drops is None:
            self._told_drops = header.drops
        elif header.drops > self._told_drops and header.drops >= 2 * self._told_drops:
            self._told_drops = header.drops
            yield f"the board has dropped {header.drops} A-scans so far"

    def _step_over_text(self, events: list[Event]) -> bool:
        frame = self._buffer.find(MAGIC, self._at)
        limit = frame if frame >= 0 else len(self._buffer)
        line = None if self._mid_line else _LINE.match(self._buffer, self._at, limit)
        line = line or _LATER_LINE.search(self._buffer, self._at + 1, limit)
        if line is not None:
            start, end = line.span()
            text = line.group().decode("ascii").strip()
            del line  # a bytearray cannot shrink while a match of it lives
            self._skip_to(start)
            self._take(end)
            self._heed(text, events)
            return True
        self._skip_to(frame if frame >= 0 else self._beginning())
        return frame >= 0

    def _beginning(self) -> int:
        """Where the buffer's last bytes could begin a frame or a line; its end when they could not."""
        if not self._mid_line and _PART.match(self._buffer, self._at):
            return self._at
        found = _LATER_PART.search(self._buffer, max(self._at, len(self._buffer) - LONGEST_LINE - 8))
        return len(self._buffer) if found is None else found.start()

    def _heed(self, text: str, events: list[Event]) -> None:
        """Match an answer with the oldest question; text alone is no evidence that this is the protocol."""
        if text.startswith(("ERR COMMAND", "ERR LINE")):  # about a line that was not ours to begin with
            events.append(Said(text))
            return
        asked = self._asked.popleft() if self._asked else ""
        if asked == "clear":
            return
        if text.startswith("OK") and asked:
            if asked != "arm":
                events.append(Started() if asked == "start" else Ended())
        elif asked == "start" and not text.startswith("ERR BUSY"):
            events.append(Refused(text))
        else:
            events.append(Said(text))

    def _skip_to(self, position: int) -> None:
        if position > self._at:
            self._mid_line = 0x20 <= self._buffer[position - 1] < 0x7F
        super()._skip_to(position)

    def _take(self, position: int) -> None:
        self._mid_line = False
        super()._take(position)

    def _false_start(self) -> int:
        return len(MAGIC) if self._buffer.startswith(MAGIC) else len(self._buffer)
