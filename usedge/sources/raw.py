"""``raw:FILE``: a captured byte stream, read as if it came from the port."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.sources import SourceCounts, SourceOptions
from usedge.sources.intake import Intake, front_end
from usedge_firmware.frontend import Event

CHUNK_BYTES = 65_536


class RawSource:
    """The bytes that a front end sent, as a file. Nothing is asked or started; every whole record comes."""

    lossless = True
    prf_hz = None

    def __init__(self, port: str, options: SourceOptions) -> None:
        self.path = Path(port.partition(":")[2])
        self.counts = SourceCounts()
        self.decode_ns = 0
        """Time spent decoding the bytes of the A-scans yielded last, ns an A-scan."""
        self._front = front_end(options)
        self._intake = Intake(port, self._front, self.counts, options.count)
        self._stopping = False

    @property
    def protocol(self) -> str:
        """The protocol found, "auto" while it is not."""
        return self._front.name

    def __enter__(self) -> RawSource:
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise InputError(f"{self.path} cannot be read ({error.strerror}).") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._file.close()
        self._intake.tally()

    def __iter__(self) -> Iterator[AScan]:
        for events in self._decoded():
            yield from self._intake.ascans(events, time.monotonic_ns())
            if self._stopping or self._intake.complete:
                return
        if not self.counts.received:
            spoken = "any known protocol" if self.protocol == "auto" else f"protocol {self.protocol}"
            raise InputError(f"{self.path} holds no whole A-scan of {spoken}"
                             f" ({self.path.stat().st_size} bytes).", "Is it a capture of a port?")

    def stop(self) -> None:
        """End the iteration at the next chunk."""
        self._stopping = True

    def _decoded(self) -> Iterator[list[Event]]:
        while chunk := self._read():
            begun_ns = time.monotonic_ns()
            events = self._front.feed(chunk)
            self.decode_ns = (time.monotonic_ns() - begun_ns) // max(len(events), 1)
            yield events
        yield self._front.finish()

    def _read(self) -> bytes:
        try:
            return self._file.read(CHUNK_BYTES)
        except OSError as error:
            raise InputError(f"{self.path} cannot be read ({error.strerror}).") from None
