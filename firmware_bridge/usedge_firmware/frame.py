"""The USFP frame and its encoding.

A frame is a 40-byte header, a payload and a 4-byte trailer, little-endian throughout; PROTOCOL.md has the
byte tables. The header bears its own CRC-16 so that a length is believed only when it is sound, and the
trailer's CRC-32 covers header and payload so that one frame's header is never glued to another's payload.
"""

from __future__ import annotations

import struct
import zlib
from binascii import crc_hqx
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

SYNC: Final = b"\x55\x53\xa5\x5a"
VERSION: Final = 1
HEADER_SIZE: Final = 40
TRAILER_SIZE: Final = 4
MAX_SAMPLES: Final = 65535
"""Most samples of one A-scan: ``n_samples`` is a u16."""
MAX_PAYLOAD: Final = 2 * MAX_SAMPLES
"""Longest payload in bytes; a header that announces more is refused."""
MAX_FRAME: Final = HEADER_SIZE + MAX_PAYLOAD + TRAILER_SIZE

HEADER_BODY = struct.Struct("<4sBBBBHHIQIIih")
HEADER = struct.Struct("<4sBBBBHHIQIIihH")
_U16 = struct.Struct("<H")
U32 = struct.Struct("<I")
CRC16_SEED = 0xFFFF

Int16Array = npt.NDArray[np.int16]


class UsfpError(ValueError):
    """A value that does not fit its field, or a frame that is not the message asked for."""


class FrameType(IntEnum):
    """What a frame carries."""

    ASCAN = 1
    INFO = 2
    LOG = 3
    COMMAND = 4
    ACK = 5


class PayloadFormat(IntEnum):
    """How an A-scan's samples lie in the payload; other frame types always say ``INT16``."""

    INT16 = 0


@dataclass(frozen=True, slots=True)
class Frame:
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
        """Return the RF counts, ``(n_samples,)`` int16, read-only and sharing the payload's memory.

        Raises ``UsfpError`` when this is not an int16 A-scan.
        """
        if self.type != FrameType.ASCAN or self.payload_format != PayloadFormat.INT16:
            raise UsfpError(f"frame type {self.type}, format {self.payload_format} holds no int16 A-scan")
        # The explicit little-endian type keeps a big-endian host honest; elsewhere it is plain int16.
        return np.frombuffer(self.payload, dtype="<i2")


def encode(frame: Frame) -> bytes:
    """Return the bytes of ``frame``.

    Raises ``UsfpError`` when a field does not fit its width, the payload exceeds ``MAX_PAYLOAD`` or an int16
    A-scan's payload is not 2 × ``n_samples`` bytes.
    """
    payload = frame.payload
    if len(payload) > MAX_PAYLOAD:
        raise UsfpError(f"a payload of {len(payload)} bytes exceeds the maximum of {MAX_PAYLOAD}")
    if not length_agrees(frame.type, frame.payload_format, frame.n_samples, len(payload)):
        wanted = 2 * frame.n_samples
        raise UsfpError(f"{frame.n_samples} int16 samples need {wanted} bytes, not {len(payload)}")
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
    channel: int = 0, flags: int = 0,
) -> bytes:
    """Return the A-scan frame of ``samples``, ``(n,)`` int16 RF counts with n ≤ ``MAX_SAMPLES``.

    Units are those of ``Frame``. Raises ``UsfpError`` for another dtype or shape (a cast here would clip
    without a word) and for a field that does not fit.
    """
    check_ascan_array(samples)
    payload = samples.astype("<i2", copy=False).tobytes()
    return encode(
        Frame(
            type=FrameType.ASCAN, channel=channel, flags=flags, n_samples=len(samples), t_us=t_us, seq=seq,
            fs_hz=fs_hz, t0_ns=t0_ns, gain_cdb=gain_cdb, payload=payload,
        )
    )


def check_ascan_array(samples: npt.NDArray[Any]) -> None:
    """Raise ``UsfpError`` unless ``samples`` is ``(n,)`` int16 with n ≤ ``MAX_SAMPLES``."""
    if samples.ndim != 1 or samples.dtype != np.int16 or len(samples) > MAX_SAMPLES:
        raise UsfpError(
            f"an A-scan is (n,) int16 with n up to {MAX_SAMPLES}; got shape {samples.shape}, {samples.dtype}"
        )


def length_agrees(frame_type: int, payload_format: int, n_samples: int, n_bytes: int) -> bool:
    """Whether the two statements of an A-scan's length agree.

    Only an int16 A-scan states its length twice; for every other frame there is nothing to compare.
    """
    return frame_type != FrameType.ASCAN or payload_format != PayloadFormat.INT16 or n_bytes == 2 * n_samples
