"""The link suite: what decoding costs the host, in our protocol, in COBS, and in each payload format."""

from __future__ import annotations

import importlib
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from usedge.errors import InputError
from usedge.synth import FS_HZ, generate
from usedge_bench.conditions import Watch
from usedge_bench.report import common
from usedge_bench.suite import LinkSuite
from usedge_firmware import usfp
from usedge_firmware.dialect import DeviceDescription
from usedge_firmware.frontend import Record, Request
from usedge_firmware.frontends import open_dialect, open_front_end
from usedge_firmware.native import NativeDecoder, load_native_encoder

SPREAD_LIMIT = 1.5
"""Fastest over slowest pass above which a run is called unstable."""
FORMATS = {each.name.lower().replace("_", "-"): each for each in usfp.PayloadFormat}
Int16Array = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Contender:
    """One decoder on its own byte stream. ``work`` decodes all of it and returns the A-scans found."""

    name: str
    work: Callable[[], int]
    n_bytes: int
    floor: float = 0.0


def run_link(suite: LinkSuite, say: Callable[[str], None]) -> dict[str, Any]:
    """Time every contender in turn on the same A-scans; the report, every pass included."""
    watch = Watch(say)
    ascans = _as_12_bits(generate("field", suite.ascans, suite.seed, suite.samples).x)
    contenders = list(_contenders(ascans, suite))
    rates: dict[str, list[float]] = {each.name: [] for each in contenders}
    with watch.part("passes", f"{len(contenders)} decoders in turn, {suite.rounds} passes of"
                              f" {suite.ascans} A-scans each …"):
        for _ in range(suite.rounds):
            for each in contenders:
                rates[each.name].append(_pass(each, suite.ascans))
    rows = [_row(each, rates[each.name], suite.ascans) for each in contenders]
    spread = max(row["max_per_s"] / row["min_per_s"] for row in rows)
    unstable = [f"a fastest pass {spread:.1f} × the slowest: close other programs"] * (spread > SPREAD_LIMIT)
    return {
        **common("link", suite, watch, unstable), "decoders": rows,
        "below_floor": [row["name"] for row in rows if row["median_per_s"] < row["floor_per_s"]],
        "values_per_s": rates,
    }


def _as_12_bits(ascans: Int16Array) -> Int16Array:
    """The A-scans as a 12-bit ADC delivers them, so that every payload format can carry them."""
    excess_bits = np.ceil(np.log2(np.maximum(np.abs(ascans.astype(np.int32)).max(axis=1), 1) / 2047.0))
    shifted: Int16Array = (ascans >> np.maximum(excess_bits, 0).astype(np.int16)[:, None]).astype(np.int16)
    return shifted


def _pass(contender: Contender, expected: int) -> float:
    begun = time.perf_counter()
    found = contender.work()
    elapsed_s = time.perf_counter() - begun
    if found != expected:
        raise InputError(f"{contender.name} found {found} of {expected} A-scans.",
                         "This is a fault of usedge.")
    return expected / elapsed_s


def _row(contender: Contender, rates: list[float], ascans: int) -> dict[str, Any]:
    return {
        "name": contender.name, "median_per_s": round(median(rates)), "min_per_s": round(min(rates)),
        "max_per_s": round(max(rates)), "bytes_per_ascan": round(contender.n_bytes / ascans, 1),
        "floor_per_s": contender.floor,
    }


def _contenders(ascans: Int16Array, suite: LinkSuite) -> Iterable[Contender]:
    native = load_native_encoder()
    stream = _usfp_stream(ascans, usfp.PayloadFormat.INT16)
    for read, floor in ((4096, suite.floor_4096), (64, suite.floor_64)):
        chunks = _cut(stream, read)
        yield Contender(f"usfp, Python, {read} B reads", partial(_usfp, usfp.Decoder, chunks), len(stream),
                        floor)
        if native is not None:
            yield Contender(f"usfp, C by ctypes, {read} B reads", partial(_usfp, native.decoder, chunks),
                            len(stream))
        yield from _cobs_contenders(ascans, read)
    for name, payload_format in FORMATS.items():
        frames = usfp.Decoder().feed(_usfp_stream(ascans, payload_format))
        n_bytes = sum(len(frame.payload) for frame in frames)
        floor = suite.floor_rice if payload_format == usfp.PayloadFormat.DELTA_RICE else 0.0
        yield Contender(f"{name} payload to samples, numpy", partial(_samples, frames), n_bytes, floor)
    yield from _front_ends(ascans)


def _cut(stream: bytes, read: int) -> list[bytes]:
    return [stream[at : at + read] for at in range(0, len(stream), read)]


def _usfp_stream(ascans: Int16Array, payload_format: usfp.PayloadFormat) -> bytes:
    return b"".join(usfp.encode_ascan(row, seq=seq, fs_hz=round(FS_HZ), payload_format=payload_format)
                    for seq, row in enumerate(ascans))


def _samples(frames: list[usfp.Frame]) -> int:
    return sum(len(frame.samples()) > 0 for frame in frames)


def _usfp(make: Callable[[], usfp.Decoder | NativeDecoder], chunks: list[bytes]) -> int:
    decoder = make()
    return sum(len(decoder.feed(chunk)) for chunk in chunks)


def _cobs_contenders(ascans: Int16Array, read: int) -> Iterable[Contender]:
    """COBS on the same content, header and CRC-32 included, from PyPI's ``cobs`` where it is installed."""
    for module, kind in (("cobs.cobs._cobs_ext", "C extension"), ("cobs.cobs._cobs_py", "Python")):
        try:
            codec = importlib.import_module(module)
        except ImportError:
            continue
        plain = [usfp.encode_ascan(row, seq=seq, fs_hz=round(FS_HZ)) for seq, row in enumerate(ascans)]
        stream = b"".join(codec.encode(frame) + b"\0" for frame in plain)
        chunks = _cut(stream, read)
        yield Contender(f"cobs, {kind}, {read} B reads", partial(_cobs, chunks, codec.decode), len(stream))


def _cobs(chunks: list[bytes], decode: Callable[[bytes], bytes]) -> int:
    buffer, found, searched = bytearray(), 0, 0
    for chunk in chunks:
        buffer += chunk
        while (end := buffer.find(0, searched)) >= 0:
            frame = decode(bytes(buffer[:end]))
            found += zlib.crc32(frame[:-4]) == int.from_bytes(frame[-4:], "little")
            del buffer[: end + 1]
            searched = 0
        searched = len(buffer)
    return found


def _front_ends(ascans: Int16Array) -> Iterable[Contender]:
    """The foreign protocols, each sending these A-scans as its boards would."""
    for name in ("wulpus", "p0rk", "pic0rick"):
        device = open_dialect(name, DeviceDescription(fs_hz=round(FS_HZ), n_samples=ascans.shape[1]))
        stream = b"".join(device.ascan(row, seq=seq, t_us=seq) for seq, row in enumerate(ascans))
        chunks = _cut(stream, 4096)
        yield Contender(f"{name}, Python, 4096 B reads", partial(_records, name, chunks), len(stream))


def _records(name: str, chunks: list[bytes]) -> int:
    front = open_front_end(name, Request())
    events = [event for chunk in chunks for event in front.feed(chunk)] + front.finish()
    return sum(isinstance(event, Record) for event in events)
