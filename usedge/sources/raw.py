"""``raw:FILE``: a captured byte stream, read as if it came from the port."""

from __future__ import annotations

import os
import select
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
POLL_S = 0.1


class RawSource:
    """The bytes that a front end sent, as a file. Nothing is asked or started; every whole record comes."""

    lossless = True
    prf_hz = None

    def __init__(self, port: str, options: SourceOptions) -> None:
        self.path = Path(port.partition(":")[2])
        self.counts = SourceCounts()
        self._front = front_end(options)
        self._intake = Intake(port, self._front, self.counts, options.count)
        self._stopping = False
        self._n_bytes = 0

    @property
    def protocol(self) -> str:
        """The protocol found, "auto" while it is not."""
        return self._front.name

    @property
    def decode_ns(self) -> int:
        """Time spent decoding the bytes of the A-scans yielded last, ns an A-scan."""
        return self._intake.decode_ns

    def __enter__(self) -> RawSource:
        try:
            # Without waiting: a named pipe nobody writes to must not keep us from being stopped.
            self._fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise InputError(f"{self.path} cannot be read ({error.strerror}).") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        os.close(self._fd)
        self._intake.tally()

    def __iter__(self) -> Iterator[AScan]:
        for events in self._decoded():
            yield from self._intake.ascans(events, time.monotonic_ns())
            if self._stopping or self._intake.complete:
                return
        if not self.counts.received and not self._stopping:
            spoken = "any known protocol" if self.protocol == "auto" else f"protocol {self.protocol}"
            raise InputError(f"{self.path} holds no whole A-scan of {spoken}"
                             f" ({self._n_bytes} bytes).", "Is it a capture of a port?")

    def stop(self) -> None:
        """End the iteration at the next chunk, or while waiting for one."""
        self._stopping = True

    def _decoded(self) -> Iterator[list[Event]]:
        while chunk := self._read():
            yield self._intake.feed(chunk)
        yield self._front.finish()

    def _read(self) -> bytes:
        """What there is, at most a chunk; empty at the end, or when stopped while waiting on a pipe."""
        while not self._stopping:
            if not select.select([self._fd], [], [], POLL_S)[0]:
                continue
            try:
                chunk = os.read(self._fd, CHUNK_BYTES)
            except OSError as error:
                raise InputError(f"{self.path} cannot be read ({error.strerror}).") from None
            self._n_bytes += len(chunk)
            return chunk
        return b""
