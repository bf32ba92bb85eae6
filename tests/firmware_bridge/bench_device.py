"""What the tests of the virtual transducer share: one device on the bench, and what its A-scans must be."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from usedge_firmware.transducer import VirtualTransducer
from usedge_firmware.usfp import Frame, FrameType

ASCANS = np.random.default_rng(3).integers(-2048, 2048, (7, 2048)).astype(np.int16)
DEADLINE_S = 60.0
Serving = Callable[[VirtualTransducer], Any]


def transducer(**options: Any) -> VirtualTransducer:
    settings = {"fs_hz": 10_000_000, "t0_us": 1.5, "gain_db": 20.5, "name": "bench", "use_native": False}
    return VirtualTransducer(ASCANS, **{**settings, **options})


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the transducer never got there"
        time.sleep(0.01)


def enough(count: int) -> Callable[[list[Frame]], bool]:
    return lambda frames: sum(each.type == FrameType.ASCAN for each in frames) >= count


def assert_contiguous(ascans: Iterable[Frame], first_seq: int) -> None:
    """Every A-scan follows the one before, and carries the recording that its seq stands for."""
    for expected, frame in enumerate(ascans, first_seq):
        assert frame.seq == expected
        np.testing.assert_array_equal(frame.samples(), ASCANS[expected % len(ASCANS)])
        assert (frame.fs_hz, frame.t0_ns, frame.gain_cdb) == (10_000_000, 1500, 2050)


def assert_unharmed(host: Any) -> None:
    stats = host.decoder.stats
    assert (stats.crc_errors, stats.header_errors, stats.skipped_bytes) == (0, 0, 0)
