"""The USFP frame and its encoding.

A frame is a 40-byte header, a payload and a 4-byte trailer, little-endian throughout; PROTOCOL.md has the
byte tables. The header bears its own CRC-16 so that a length is believed only when it is sound, and the
trailer's CRC-32 covers header and payload so that one frame's header is never glued to another's payload.
"""

from __future__ import annotations

import struct
import zlib
from binascii import crc_hqx
from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy.typing as npt

from usedge_firmware import payload as coding
from usedge_firmware.payload import (
    MAX_SAMPLES,
    Int16Array,
    PayloadFormat,
    UsfpError,
    check_ascan_array,
)

__all__ = [
    "CRC16_SEED",
    "HEADER",
    "HEADER_BODY",
    "HEADER_SIZE",
    "MAX_FRAME",
    "MAX_PAYLOAD",
    "MAX_SAMPLES",
    "SYNC",
    "TRAILER_SIZE",
    "U32",
    "VERSION",
    "Frame",
    "FrameType",
    "Int16Array",
    "PayloadFormat",
    "UsfpError",
    "check_ascan_array",
    "encode",
    "encode_ascan",
    "length_agrees",
]

SYNC: Final = b"\x55\x53\xa5\x5a"
VERSION: Final = 1
HEADER_SIZE: Final = 40
TRAILER_SIZE: Final = 4
MAX_PAYLOAD: Final = 2 * MAX_SAMPLES
"""Longest payload in bytes; a header that announces more is refused."""
MAX_FRAME: Final = HEADER_SIZE + MAX_PAYLOAD + TRAILER_SIZE

HEADER_BODY = struct.Struct("<4sBBBBHHIQIIih")
HEADER = struct.Struct("<4sBBBBHHIQIIihH")
_U16 = struct.Struct("<H")
U32 = struct.Struct("<I")
CRC16_SEED = 0xFFFF


class FrameType(IntEnum):
    """What a frame carries."""

    ASCAN = 1
    INFO = 2
    LOG = 3
    COMMAND = 4
    ACK = 5


_ASCAN: Final = int(FrameType.ASCAN)  # a plain number, because the decoder compares it for every header


class Frame(NamedTuple):
    """One USFP frame, header fields by their wire names.

    ``t_us`` µs of the device clock; ``fs_hz`` samples a second; ``t0_ns`` ns from trigger (main bang) to the
    first sample, which may be negative; ``gain_cdb`` hundredths of a dB; ``payload`` bytes as sent.
    """

    type: FrameType
    payload_format: PayloadFormat = PayloadFormat.INT16
    channel: int = 0
    flags: int = 0
    n_samples: int = 0
    t_us: int = 0
    seq: int = 0
    fs_hz: int = 0
    t0_ns: int = 0
    gain_cdb: int = 0
    payload: bytes = b""

    def samples(self) -> Int16Array:
        """Return the RF counts, ``(n_samples,)`` int16, read-only; int16 shares the payload's memory.

        Raises ``UsfpError`` when this is no A-scan, or its payload is none that its format can produce.
        """
        if self.type != FrameType.ASCAN:
            raise UsfpError(f"a frame of type {self.type!r} holds no A-scan")
        return coding.decode_samples(self.payload, self.n_samples, self.payload_format)


def encode(frame: Frame) -> bytes:
    """Return the bytes of ``frame``.

    Raises ``UsfpError`` when a field does not fit its width, the payload exceeds ``MAX_PAYLOAD`` or an
    A-scan's payload cannot be ``n_samples`` long; its samples are not decoded to see.
    """
    payload = frame.payload
    if len(payload) > MAX_PAYLOAD:
        raise UsfpError(f"a payload of {len(payload)} bytes exceeds the maximum of {MAX_PAYLOAD}")
    if not length_agrees(frame.type, frame.payload_format, frame.n_samples, len(payload)):
        raise UsfpError(
            f"{len(payload)} bytes cannot be {frame.n_samples} samples in format {frame.payload_format!r}"
        )
    try:
        body = HEADER_BODY.pack(
            SYNC, VERSION, frame.type, frame.payload_format, frame.channel, frame.flags, frame.n_samples,
            len(payload), frame.t_us, frame.seq, frame.fs_hz, frame.t0_ns, frame.gain_cdb,
        )
    except struct.error as fault:
        raise UsfpError(f"a header field is out of range: {fault}") from fault
    header = body + _U16.pack(crc_hqx(body, CRC16_SEED))
    return b"".join((header, payload, U32.pack(zlib.crc32(payload, zlib.crc32(header)))))


def encode_ascan(
    samples: npt.NDArray[Any], *, seq: int, fs_hz: int, t_us: int = 0, t0_ns: int = 0, gain_cdb: int = 0,
    channel: int = 0, flags: int = 0, payload_format: PayloadFormat = PayloadFormat.INT16,
) -> bytes:
    """Return the A-scan frame of ``samples``, ``(n,)`` int16 RF counts with n ≤ ``MAX_SAMPLES``.

    Units are those of ``Frame``. Raises ``UsfpError`` for another dtype or shape (a cast here would clip
    without a word), for a field that does not fit, for a sample that packed-12 cannot hold, and for an A-scan
    that delta-Rice does not make shorter.
    """
    return encode(
        Frame(
            type=FrameType.ASCAN, payload_format=payload_format, channel=channel, flags=flags,
            n_samples=len(samples), t_us=t_us, seq=seq, fs_hz=fs_hz, t0_ns=t0_ns, gain_cdb=gain_cdb,
            payload=coding.encode_samples(samples, payload_format),
        )
    )


def length_agrees(frame_type: int, payload_format: int, n_samples: int, n_bytes: int) -> bool:
    """Whether the two statements of an A-scan's length agree; no other frame states its length twice."""
    return frame_type != _ASCAN or coding.length_agrees(payload_format, n_samples, n_bytes)
