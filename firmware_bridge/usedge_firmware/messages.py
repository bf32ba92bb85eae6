"""What INFO, LOG, COMMAND and ACK frames say: typed payloads, and the frames that carry them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from usedge_firmware.frame import Frame, FrameType, PayloadFormat, UsfpError, encode

NAME_SIZE: Final = 24
"""Bytes of the device name in an INFO payload."""
COMMAND_MAX: Final = 32
"""Longest command payload that a device takes, bytes: USFP_COMMAND_MAX."""

_INFO = struct.Struct("<IBBBBIHHIi24s")
_COMMAND = struct.Struct("<BB2xII")
_ACK = struct.Struct("<BB2xI")


class Opcode(IntEnum):
    """What a command asks of the device."""

    START = 1
    STOP = 2
    INFO = 3


class AckStatus(IntEnum):
    """How the device answers a command."""

    OK = 0
    UNKNOWN_OPCODE = 1
    BAD_ARGUMENT = 2


@dataclass(frozen=True, slots=True)
class Info:
    """The payload of an INFO frame: which device this is and what it sends.

    ``session_id`` random at every boot, so that a restart is told from 4 billion drops; ``adc_bits`` ADC
    resolution; ``firmware`` major, minor, patch; ``fs_hz`` samples a second; ``n_samples`` samples of an
    A-scan; ``payload_formats`` bit n set when the device can send payload format n; ``prf_mhz`` the device's
    own PRF in millihertz, 0 as fast as the link takes; ``t0_ns`` ns from main bang to the first sample;
    ``name`` at most ``NAME_SIZE`` bytes of UTF-8.
    """

    session_id: int
    adc_bits: int
    firmware: tuple[int, int, int]
    fs_hz: int
    n_samples: int
    prf_mhz: int
    t0_ns: int
    name: str
    payload_formats: int = 1 << PayloadFormat.INT16

    @property
    def prf_hz(self) -> float:
        """The device's own PRF in A-scans a second; 0 = as fast as the link takes."""
        return self.prf_mhz / 1000.0

    def pack(self) -> bytes:
        """Return the 48 payload bytes; raises ``UsfpError`` when a field does not fit."""
        name = self.name.encode("utf-8")
        if len(name) > NAME_SIZE or b"\0" in name:
            raise UsfpError(f"a device name is at most {NAME_SIZE} bytes of UTF-8 without NUL: {self.name!r}")
        try:
            return _INFO.pack(
                self.session_id, self.adc_bits, *self.firmware, self.fs_hz, self.n_samples,
                self.payload_formats, self.prf_mhz, self.t0_ns, name,
            )
        except struct.error as fault:
            raise UsfpError(f"an INFO field is out of range: {fault}") from fault

    @classmethod
    def unpack(cls, payload: bytes) -> Info:
        """Read a payload; bytes past the 48 known ones belong to later revisions and are ignored.

        Raises ``UsfpError`` when it is too short. A name that is not UTF-8 is shown with replacement marks:
        a device with a bad label can still be used.
        """
        _require(payload, _INFO, "INFO")
        session, adc, major, minor, patch, fs, n, formats, prf, t0, name = _INFO.unpack_from(payload)
        label = name.split(b"\0", 1)[0].decode("utf-8", "replace")
        return cls(session, adc, (major, minor, patch), fs, n, prf, t0, label, formats)


@dataclass(frozen=True, slots=True)
class Command:
    """The payload of a COMMAND frame.

    ``opcode`` an ``Opcode``, or another number from a later revision; for START, ``prf_mhz`` is the PRF in
    millihertz (0 = the device's own), ``count`` the A-scans to send (0 = until STOP) and ``payload_format``
    how their samples shall lie in the payload (0 = int16).
    """

    opcode: int
    prf_mhz: int = 0
    count: int = 0
    payload_format: int = PayloadFormat.INT16

    def pack(self) -> bytes:
        """Return the 12 payload bytes; raises ``UsfpError`` when a field does not fit."""
        try:
            return _COMMAND.pack(self.opcode, self.payload_format, self.prf_mhz, self.count)
        except struct.error as fault:
            raise UsfpError(f"a command field is out of range: {fault}") from fault

    @classmethod
    def unpack(cls, payload: bytes) -> Command:
        """Read a payload, ignoring bytes past the 12 known ones; raises ``UsfpError`` when too short."""
        _require(payload, _COMMAND, "COMMAND")
        opcode, payload_format, prf_mhz, count = _COMMAND.unpack_from(payload)
        return cls(opcode, prf_mhz, count, payload_format)


@dataclass(frozen=True, slots=True)
class Ack:
    """The payload of an ACK frame.

    ``opcode`` the command answered; ``status`` an ``AckStatus``, or another number from a later revision;
    ``detail`` for START the seq of the A-scan that comes next, for STOP the A-scans sent since START.
    """

    opcode: int
    status: int = AckStatus.OK
    detail: int = 0

    @property
    def ok(self) -> bool:
        """Whether the device did what was asked."""
        return self.status == AckStatus.OK

    def pack(self) -> bytes:
        """Return the 8 payload bytes; raises ``UsfpError`` when a field does not fit."""
        try:
            return _ACK.pack(self.opcode, self.status, self.detail)
        except struct.error as fault:
            raise UsfpError(f"an ACK field is out of range: {fault}") from fault

    @classmethod
    def unpack(cls, payload: bytes) -> Ack:
        """Read a payload, ignoring bytes past the 8 known ones; raises ``UsfpError`` when too short."""
        _require(payload, _ACK, "ACK")
        return cls(*_ACK.unpack_from(payload))


def _require(payload: bytes, layout: struct.Struct, name: str) -> None:
    if len(payload) < layout.size:
        raise UsfpError(f"a payload of {len(payload)} bytes is too short for {name} ({layout.size} bytes)")


def encode_info(info: Info, *, seq: int = 0, t_us: int = 0) -> bytes:
    """Return an INFO frame; ``seq`` is that of the next A-scan, ``t_us`` µs of the device clock."""
    return encode(Frame(FrameType.INFO, t_us=t_us, seq=seq, payload=info.pack()))


def encode_log(text: str, *, seq: int = 0, t_us: int = 0) -> bytes:
    """Return a LOG frame of UTF-8 ``text``; ``seq`` and ``t_us`` as for ``encode_info``."""
    return encode(Frame(FrameType.LOG, t_us=t_us, seq=seq, payload=text.encode("utf-8")))


def encode_command(command: Command, *, seq: int = 0) -> bytes:
    """Return a COMMAND frame; ``seq`` is the host's own number, which the ACK repeats."""
    return encode(Frame(FrameType.COMMAND, seq=seq, payload=command.pack()))


def encode_ack(ack: Ack, *, seq: int = 0, t_us: int = 0) -> bytes:
    """Return an ACK frame; ``seq`` repeats the command's."""
    return encode(Frame(FrameType.ACK, t_us=t_us, seq=seq, payload=ack.pack()))


def command_start(
    prf_hz: float = 0.0, count: int = 0, *, seq: int = 0, payload_format: int = PayloadFormat.INT16
) -> bytes:
    """Return the frame that starts the stream: ``prf_hz`` A-scans a second (0 = the device's own PRF).

    ``count`` A-scans are sent in ``payload_format``, then the device stops by itself; 0 = until STOP. Raises
    ``UsfpError`` for a PRF that is negative, above 4,294,967 Hz, or above 0 and below 1 mHz.
    """
    prf_mhz = round(prf_hz * 1000.0) if 0.0 <= prf_hz <= 4_294_967.0 else -1
    if prf_mhz < 0 or (prf_mhz == 0 and prf_hz > 0.0):
        raise UsfpError(f"a PRF is 0 or 0.001 to 4294967 Hz, not {prf_hz}")
    return encode_command(Command(Opcode.START, prf_mhz, count, payload_format), seq=seq)


def command_stop(*, seq: int = 0) -> bytes:
    """Return the frame that ends the stream; the ACK's ``detail`` is the number of A-scans sent."""
    return encode_command(Command(Opcode.STOP), seq=seq)


def command_info(*, seq: int = 0) -> bytes:
    """Return the frame that asks for an INFO frame."""
    return encode_command(Command(Opcode.INFO), seq=seq)


def parse_info(frame: Frame) -> Info:
    """Return the ``Info`` of an INFO frame; raises ``UsfpError`` for another type or a short payload."""
    return Info.unpack(_payload_of(frame, FrameType.INFO))


def parse_command(frame: Frame) -> Command:
    """Return the ``Command`` of a COMMAND frame; raises ``UsfpError`` as ``parse_info`` does."""
    return Command.unpack(_payload_of(frame, FrameType.COMMAND))


def parse_ack(frame: Frame) -> Ack:
    """Return the ``Ack`` of an ACK frame; raises ``UsfpError`` as ``parse_info`` does."""
    return Ack.unpack(_payload_of(frame, FrameType.ACK))


def parse_log(frame: Frame) -> str:
    """Return the text of a LOG frame; raises ``UsfpError`` for another type."""
    return _payload_of(frame, FrameType.LOG).decode("utf-8", "replace")


def _payload_of(frame: Frame, wanted: FrameType) -> bytes:
    if frame.type != wanted:
        raise UsfpError(f"expected a frame of type {wanted.name}, got {frame.type!r}")
    return frame.payload
