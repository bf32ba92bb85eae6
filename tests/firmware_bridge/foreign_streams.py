"""What the tests of the front ends share: streams in pieces, their account, vectors beside the checkout."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usedge_firmware.dialect import DeviceDescription, Dialect
from usedge_firmware.frontend import Event, Record, Request
from usedge_firmware.frontends import open_dialect, open_front_end

SHARED = Path(__file__).resolve().parents[3] / "shared"


def vector(name: str) -> bytes:
    """The bytes of ``../shared/vectors/<name>``; skips the test where they are not."""
    path = SHARED / "vectors" / name
    if not path.is_file():
        pytest.skip(f"the foreign byte streams (../shared/vectors/{name}) are not here")
    return path.read_bytes()


def device(protocol: str, n_samples: int = 400, **options: Any) -> Dialect:
    description = DeviceDescription(fs_hz=8_000_000, n_samples=n_samples, t0_us=3.0, peak=2048)
    return open_dialect(protocol, description, **options)


def pieces(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(min(each, len(stream)) for each in cuts), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


def events_of(front: Any, stream: bytes, cuts: Iterable[int] = ()) -> list[Event]:
    """All events of a stream fed in pieces, its end included; nothing may be left over."""
    events = [event for piece in pieces(stream, cuts) for event in front.feed(piece)]
    events += front.finish()
    assert getattr(front, "pending", 0) == 0
    return events


def records_of(events: Iterable[Event]) -> list[Record]:
    return [each for each in events if isinstance(each, Record)]


def decode(
    protocol: str, stream: bytes, cuts: Iterable[int] = (), **request: Any
) -> tuple[list[Record], Any]:
    front = open_front_end(protocol, Request(**request))
    records = records_of(events_of(front, stream, cuts))
    assert front.stats.records == len(records)
    return records, front


def fed_is_bounded(protocol: str, stream: bytes, limit: int, size: int = 4096) -> None:
    front: Any = open_front_end(protocol, Request())
    for start in range(0, len(stream), size):
        front.feed(stream[start : start + size])
        assert front.pending <= limit


def seqs(records: Sequence[Record]) -> list[int]:
    return [each.seq for each in records]


def assert_same(got: Sequence[Record], expected: Sequence[Record]) -> None:
    assert seqs(got) == seqs(expected)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
        assert one.samples.dtype == np.int16
