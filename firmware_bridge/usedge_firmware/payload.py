"""How an A-scan's samples lie in a payload: int16, packed-12 and delta-Rice.

Numpy alone decodes all of them, so a host needs no compiler; PROTOCOL.md has the byte tables.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

MAX_SAMPLES: Final = 65535
"""Most samples of one A-scan: ``n_samples`` is a u16."""
RICE_BLOCK: Final = 64
"""Samples that share one parameter in delta-Rice."""
_LARGEST_K: Final = 15
_LARGEST_CODE: Final = 0xFFFF
_COLUMNS: Final = np.arange(16)

Int16Array = npt.NDArray[np.int16]


class UsfpError(ValueError):
    """A value that does not fit its field, or a frame that is not the message asked for."""


class PayloadFormat(IntEnum):
    """How an A-scan's samples lie in the payload; other frame types always say ``INT16``."""

    INT16 = 0
    PACKED12 = 1
    DELTA_RICE = 2


# Plain numbers, because an enum's member costs the decoder more than the comparison does.
_INT16, _PACKED12, _DELTA_RICE = map(int, PayloadFormat)


def check_ascan_array(samples: npt.NDArray[Any]) -> None:
    """Raise ``UsfpError`` unless ``samples`` is ``(n,)`` int16 with n ≤ ``MAX_SAMPLES``."""
    if samples.ndim != 1 or samples.dtype != np.int16 or len(samples) > MAX_SAMPLES:
        raise UsfpError(
            f"an A-scan is (n,) int16 with n up to {MAX_SAMPLES}; got shape {samples.shape}, {samples.dtype}"
        )


def packed12_size(n_samples: int) -> int:
    """Return the payload bytes of ``n_samples`` in packed-12."""
    return (3 * n_samples + 1) // 2


def length_agrees(payload_format: int, n_samples: int, n_bytes: int) -> bool:
    """Whether ``n_bytes`` can be the payload of ``n_samples``; any length can in an unknown format.

    delta-Rice's own length is known only by decoding it, but is never above that of int16.
    """
    if payload_format == _INT16:
        return n_bytes == 2 * n_samples
    if payload_format == _PACKED12:
        return n_bytes == packed12_size(n_samples)
    return payload_format != _DELTA_RICE or n_bytes <= 2 * n_samples


def encode_samples(samples: npt.NDArray[Any], payload_format: int) -> bytes:
    """Return the payload of ``samples``, ``(n,)`` int16 with n ≤ ``MAX_SAMPLES``, in ``payload_format``.

    Raises ``UsfpError`` for another dtype or shape, an unknown format, and as ``pack12`` and ``rice_encode``
    do.
    """
    if payload_format == _PACKED12:
        return pack12(samples)
    if payload_format == _DELTA_RICE:
        return rice_encode(samples)
    if payload_format != _INT16:
        raise UsfpError(f"payload format {payload_format} is none of {_FORMAT_NAMES}")
    check_ascan_array(samples)
    return samples.astype("<i2", copy=False).tobytes()


def decode_samples(payload: bytes, n_samples: int, payload_format: int) -> Int16Array:
    """Return the ``(n_samples,)`` int16 RF counts of a payload, read-only; int16 shares its memory.

    Raises ``UsfpError`` for an unknown format and for a payload that its format cannot have produced.
    """
    if payload_format == _INT16:
        if len(payload) != 2 * n_samples:
            raise UsfpError(f"{n_samples} int16 samples are {2 * n_samples} bytes, not {len(payload)}")
        # The explicit little-endian type keeps a big-endian host honest; elsewhere it is plain int16.
        return np.frombuffer(payload, dtype="<i2")
    if payload_format == _PACKED12:
        samples = unpack12(payload, n_samples)
    elif payload_format == _DELTA_RICE:
        samples = rice_decode(payload, n_samples)
    else:
        raise UsfpError(f"payload format {payload_format} is none of {_FORMAT_NAMES}")
    samples.flags.writeable = False
    return samples


def pack12(samples: npt.NDArray[Any]) -> bytes:
    """Return ``samples``, ``(n,)`` int16, as two 12-bit numbers in three bytes.

    Raises ``UsfpError`` for another dtype or shape, and for a sample outside -2048 … 2047.
    """
    check_ascan_array(samples)
    misfits = samples[(samples < -2048) | (samples > 2047)]
    if len(misfits):
        raise UsfpError(f"packed-12 holds -2048 to 2047; the A-scan has a sample of {misfits[0]}")
    pairs: npt.NDArray[np.uint16] = np.zeros((len(samples) + 1) // 2 * 2, np.uint16)
    pairs[: len(samples)] = samples.view(np.uint16)
    first, second = pairs[0::2], pairs[1::2]
    out = np.empty((len(first), 3), np.uint8)
    out[:, 0] = first & 0xFF
    out[:, 1] = ((first >> 8) & 15) | ((second & 15) << 4)
    out[:, 2] = (second >> 4) & 0xFF
    return out.tobytes()[: packed12_size(len(samples))]


def unpack12(payload: bytes, n_samples: int) -> Int16Array:
    """Return the ``(n_samples,)`` int16 samples that ``pack12`` packed.

    Raises ``UsfpError`` when the length is not that of ``n_samples``, or an odd last sample's spare half byte
    is not zero.
    """
    _check_count(n_samples)
    if len(payload) != packed12_size(n_samples):
        wanted = packed12_size(n_samples)
        raise UsfpError(f"{n_samples} packed-12 samples are {wanted} bytes, not {len(payload)}")
    if n_samples % 2 and payload[-1] > 15:
        raise UsfpError(f"the spare half of the last packed-12 byte 0x{payload[-1]:02X} is not zero")
    three = np.frombuffer(payload + b"\0" * (n_samples % 2), np.uint8).reshape(-1, 3).astype(np.int16)
    samples = np.empty((len(three), 2), np.int16)
    samples[:, 0] = three[:, 0] | ((three[:, 1] & 15) << 8)
    samples[:, 1] = (three[:, 1] >> 4) | (three[:, 2] << 4)
    return ((samples ^ 0x800) - 0x800).reshape(-1)[:n_samples]


def rice_encode(samples: npt.NDArray[Any]) -> bytes:
    """Return ``samples``, ``(n,)`` int16, as three planes of Rice-coded differences.

    Raises ``UsfpError`` for another dtype or shape, and when the payload would be no shorter than int16.
    """
    check_ascan_array(samples)
    n_samples = len(samples)
    if n_samples == 0:
        return b""
    codes = _codes(samples)
    k_of_block = _parameters(codes)
    k = np.repeat(k_of_block, RICE_BLOCK)[:n_samples]
    nibbles = np.zeros(len(k_of_block) + len(k_of_block) % 2, np.uint8)
    nibbles[: len(k_of_block)] = k_of_block
    k_plane = nibbles[0::2] | (nibbles[1::2] << 4)
    bits = np.unpackbits(codes.astype("<u2").view(np.uint8).reshape(-1, 2), axis=1, bitorder="little")
    r_plane = np.packbits(bits[k[:, None] > _COLUMNS], bitorder="little")
    ends = np.cumsum((codes >> k).astype(np.int64) + 1)
    unary = np.zeros(ends[-1], np.uint8)
    unary[ends - 1] = 1
    payload = k_plane.tobytes() + r_plane.tobytes() + np.packbits(unary, bitorder="little").tobytes()
    if len(payload) >= 2 * n_samples:
        raise UsfpError(f"delta-Rice takes {len(payload)} bytes for {n_samples} samples: send int16")
    return payload


def _codes(samples: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Differences modulo 2¹⁶, zigzag: 0, -1, 1, -2 become 0, 1, 2, 3; ``(n,)`` uint16."""
    differences = np.diff(samples, prepend=np.int16(0))
    codes: npt.NDArray[np.int16] = (differences << 1) ^ (differences >> 15)
    return codes.view(np.uint16)


def _parameters(codes: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """For each block the smallest k with length · 2ᵏ ≥ the sum of its codes, or 15 if none; ``(blocks,)``."""
    starts = np.arange(0, len(codes), RICE_BLOCK)
    sums = np.add.reduceat(codes.astype(np.int64), starts)
    lengths = np.minimum(len(codes) - starts, RICE_BLOCK)
    too_small = (lengths[:, None] << _COLUMNS[:_LARGEST_K]) < sums[:, None]
    parameters: npt.NDArray[np.uint16] = too_small.sum(axis=1).astype(np.uint16)
    return parameters


def rice_decode(payload: bytes, n_samples: int) -> Int16Array:
    """Return the ``(n_samples,)`` int16 samples that ``rice_encode`` coded.

    Raises ``UsfpError`` for a payload that is not exactly the three planes of ``n_samples``: another length,
    padding that is not zero, or a code above 65535.
    """
    _check_count(n_samples)
    if len(payload) > 2 * n_samples:
        raise UsfpError(f"{len(payload)} bytes are more than {n_samples} samples take in delta-Rice")
    if n_samples == 0:
        return np.empty(0, np.int16)
    k, r_start, r_bits = _read_parameters(payload, n_samples)
    u_start = r_start + (r_bits + 7) // 8
    if u_start > len(payload):
        raise UsfpError(f"{len(payload)} bytes are too short for the low bits of {n_samples} samples")
    high = _read_unary(payload[u_start:], n_samples)
    if (high > _LARGEST_CODE >> k).any():
        raise UsfpError(f"a delta-Rice code exceeds {_LARGEST_CODE}")
    codes = (high << k) | _read_low_bits(payload[r_start:u_start], k, r_bits)
    differences = (codes >> 1) ^ -(codes & 1)
    return np.cumsum(differences, dtype=np.int16)


def _read_parameters(payload: bytes, n_samples: int) -> tuple[npt.NDArray[np.int32], int, int]:
    """Return k for each sample, ``(n_samples,)``, the K plane's bytes and the R plane's bits."""
    n_blocks = -(-n_samples // RICE_BLOCK)
    size = (n_blocks + 1) // 2
    if len(payload) < size:
        raise UsfpError(f"{len(payload)} bytes are too short for the parameters of {n_samples} samples")
    k_plane = np.frombuffer(payload, np.uint8, size)
    if n_blocks % 2 and payload[size - 1] > 15:
        raise UsfpError(f"the spare half of the last parameter byte 0x{payload[size - 1]:02X} is not zero")
    nibbles = np.empty((size, 2), np.int32)
    nibbles[:, 0] = k_plane & 15
    nibbles[:, 1] = k_plane >> 4
    k = np.repeat(nibbles.reshape(-1)[:n_blocks], RICE_BLOCK)[:n_samples]
    return k, size, int(k.sum())


def _read_low_bits(plane: bytes, k: npt.NDArray[np.int32], n_bits: int) -> npt.NDArray[np.int32]:
    """Return the ``(n,)`` low ``k`` bits of every code."""
    if n_bits % 8 and plane[-1] >> (n_bits % 8):
        raise UsfpError(f"the padding of the last low-bits byte 0x{plane[-1]:02X} is not zero")
    ends = np.cumsum(k)
    starts = ends - k
    # Four bytes from every byte on: any 15 bits lie within four bytes from the first one's.
    windows: npt.NDArray[np.int32] = np.ndarray((len(plane) + 1,), "<i4", plane + bytes(4), strides=(1,))
    low: npt.NDArray[np.int32] = (windows[starts >> 3] >> (starts & 7)) & ((1 << k) - 1)
    return low


def _read_unary(plane: bytes, n_samples: int) -> npt.NDArray[np.int32]:
    """Return the ``(n_samples,)`` numbers of zeros before each one."""
    bits = np.unpackbits(np.frombuffer(plane, np.uint8), bitorder="little")
    ones = np.flatnonzero(bits)
    if len(ones) != n_samples or len(bits) - ones[-1] > 8:
        raise UsfpError(f"the unary plane holds {len(ones)} codes in {len(plane)} bytes, not {n_samples}")
    zeros: npt.NDArray[np.int32] = np.diff(ones, prepend=-1).astype(np.int32)
    zeros -= 1
    return zeros


def _check_count(n_samples: int) -> None:
    if not 0 <= n_samples <= MAX_SAMPLES:
        raise UsfpError(f"an A-scan has 0 to {MAX_SAMPLES} samples, not {n_samples}")


_FORMAT_NAMES: Final = ", ".join(f"{each.value} {each.name}" for each in PayloadFormat)
