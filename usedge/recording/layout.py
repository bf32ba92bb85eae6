"""The bytes of a recording: chunks with checksums, A-scans in them; docs/recordings.md has the tables."""

from __future__ import annotations

import json
import math
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

import numpy as np

from usedge.ascan import AScan

SYNC: Final = b"USREC\r\n\x1a"
"""Begins every chunk, and so every file."""
VERSION: Final = 1
SUFFIX: Final = ".usrec"
HEAD: Final = struct.Struct("<8sBBHIQI")
"""sync, version, kind, A-scans in the body, bytes of the body, file id, number of the chunk in its file."""
CRC: Final = struct.Struct("<I")
HEAD_BYTES: Final = HEAD.size + CRC.size
ASCAN: Final = struct.Struct("<qqdddIHBB")
"""seq, t_ns, fs_hz, t0_us, gain_db, samples, channel, flags, zero; the samples follow as int16."""
FLAG_RF: Final = 1
MAX_BODY: Final = 16 << 20
MAX_ASCANS: Final = 0xFFFF
_SEQ_END: Final = 1 << 63
ZLIB_LEVEL: Final = 1
"""Higher levels cost two to five times as much and save 3 % more."""


class Kind(IntEnum):
    """What the body of a chunk holds."""

    FACTS = 0
    ASCANS = 1
    ASCANS_ZLIB = 2
    END = 3


class LayoutError(ValueError):
    """A chunk's body is not what its kind says, although its checksum is right."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first 32 bytes of a chunk; they mean the same in every version."""

    version: int
    kind: int
    n_ascans: int
    body_bytes: int
    file_id: int
    number: int

    @property
    def chunk_bytes(self) -> int:
        """Bytes of the whole chunk."""
        return HEAD_BYTES + self.body_bytes + CRC.size


def pack_chunk(kind: Kind, n_ascans: int, body: bytes, file_id: int, number: int) -> bytes:
    """The bytes of one chunk: head with its CRC-32, body, CRC-32 of all before."""
    head = HEAD.pack(SYNC, VERSION, kind, n_ascans, len(body), file_id, number)
    head += CRC.pack(zlib.crc32(head))
    return b"".join((head, body, CRC.pack(zlib.crc32(body, zlib.crc32(head)))))


def unpack_head(content: bytes | bytearray | memoryview) -> Head | None:
    """The head that ``content`` begins with; None where it is too short or not the head of a chunk."""
    if len(content) < HEAD_BYTES or bytes(content[: len(SYNC)]) != SYNC:
        return None
    if CRC.unpack_from(content, HEAD.size)[0] != zlib.crc32(content[: HEAD.size]):
        return None
    return Head(*HEAD.unpack_from(content)[1:])


def pack_ascan(ascan: AScan) -> bytes:
    """The bytes of one A-scan in a body."""
    samples = ascan.samples
    head = ASCAN.pack(ascan.seq, ascan.t_ns, ascan.fs_hz, ascan.t0_us, ascan.gain_db, len(samples),
                      ascan.channel, FLAG_RF if ascan.rf else 0, 0)
    return head + samples.astype("<i2", copy=False).tobytes()


def recordable(ascan: AScan) -> bool:
    """Whether a recording can hold ``ascan``: one sample at least, and fields that are numbers in range."""
    return (len(ascan.samples) > 0 and _sensible(ascan.fs_hz, ascan.t0_us)
            and -_SEQ_END <= ascan.seq < _SEQ_END and 0 <= ascan.channel < 1 << 16)


def _sensible(fs_hz: float, t0_us: float) -> bool:
    return fs_hz > 0 and math.isfinite(fs_hz) and math.isfinite(t0_us)


def ascan_bytes(ascan: AScan) -> int:
    """How many bytes ``pack_ascan`` makes."""
    return ASCAN.size + 2 * len(ascan.samples)


def pack_ascans(packed: list[bytes], compress: bool, file_id: int, number: int) -> bytes:
    """The bytes of a chunk that holds the ``packed`` A-scans."""
    body = b"".join(packed)
    if not compress:
        return pack_chunk(Kind.ASCANS, len(packed), body, file_id, number)
    return pack_chunk(Kind.ASCANS_ZLIB, len(packed), zlib.compress(body, ZLIB_LEVEL), file_id, number)


def unpack_ascans(head: Head, body: bytes) -> list[AScan]:
    """The A-scans of a chunk, in order; raises LayoutError where the body is no such thing.

    Samples share the body's memory and are read-only, as those of a port are.
    """
    plain = _inflated(body) if head.kind == Kind.ASCANS_ZLIB else body
    return [_unpack_ascan(plain, at) for at in _ascan_offsets(plain, head.n_ascans)]


def _ascan_offsets(body: bytes, n: int) -> list[int]:
    offsets, at = [], 0
    for _ in range(n):
        offsets.append(at)
        if at + ASCAN.size > len(body):
            raise LayoutError("an A-scan reaches beyond the body")
        at += ASCAN.size + 2 * int(ASCAN.unpack_from(body, at)[5])
    if at != len(body):
        raise LayoutError(f"{n} A-scans take {at} bytes, the body has {len(body)}")
    return offsets


def _unpack_ascan(body: bytes, at: int) -> AScan:
    seq, t_ns, fs_hz, t0_us, gain_db, n, channel, flags, _ = ASCAN.unpack_from(body, at)
    if not (n and _sensible(fs_hz, t0_us)):
        raise LayoutError(f"an A-scan of {n} samples at {fs_hz:g} Hz from {t0_us:g} µs")
    samples = np.frombuffer(body, "<i2", n, at + ASCAN.size)
    return AScan(samples, fs_hz, t0_us, seq, t_ns, gain_db, channel, bool(flags & FLAG_RF))


def _inflated(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(body, MAX_BODY)
    except zlib.error as error:
        raise LayoutError(str(error)) from None
    if not inflater.eof or inflater.unused_data:
        raise LayoutError("the compressed body does not end where it should")
    return plain


def pack_facts(facts: dict[str, Any]) -> bytes:
    """``facts`` as the JSON body of a chunk."""
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode()


def unpack_facts(body: bytes) -> dict[str, Any]:
    """The facts in a body; raises LayoutError where it is no JSON object."""
    try:
        facts = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise LayoutError(str(error)) from None
    if not isinstance(facts, dict):
        raise LayoutError("the facts are no JSON object")
    return facts
