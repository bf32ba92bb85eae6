"""A-scans from a file, as fast as they are taken and without loss."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from usedge.ascan import AScan
from usedge.sources import SourceCounts, SourceOptions
from usedge.sources.files import read_ascans


class ReplaySource:
    """``replay:FILE``: rows of an npz or HDF5 file, or the A-scans of a capture (``.usfp``, ``.bin``)."""

    lossless = True
    prf_hz = None
    protocol = None

    def __init__(self, port: str, options: SourceOptions) -> None:
        self.path = Path(port.partition(":")[2])
        self.count = options.count
        self.counts = SourceCounts()
        self._stopping = False

    def __enter__(self) -> ReplaySource:
        self._ascans, self.counts.crc_errors, self.counts.resyncs = read_ascans(self.path)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._ascans = []

    def __iter__(self) -> Iterator[AScan]:
        for ascan in self._ascans[: self.count or None]:
            if self._stopping:
                return
            self.counts.received += 1
            yield replace(ascan, t_ns=time.monotonic_ns())

    def stop(self) -> None:
        """End the iteration before the next A-scan."""
        self._stopping = True
