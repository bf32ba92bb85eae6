"""Where readings go."""

from __future__ import annotations

import sys
from typing import IO, Protocol

from usedge.ascan import AScan
from usedge.reading import Reading


class Sink(Protocol):
    """Takes each reading with the gated A-scan that it was made from."""

    def write(self, reading: Reading, gated: AScan) -> None:
        """Take one reading."""
        ...

    def close(self) -> None:
        """Finish, after the last reading."""
        ...


class JsonLines:
    """One JSON object a line, flushed at once so that a pipe sees each reading when it is made."""

    def __init__(self, file: IO[str] | None = None) -> None:
        self._file = sys.stdout if file is None else file

    def write(self, reading: Reading, gated: AScan) -> None:  # noqa: ARG002 - Sink's signature
        """Write the reading's contract keys as one line."""
        self._file.write(reading.to_json() + "\n")
        self._file.flush()

    def close(self) -> None:
        """Flush what is left."""
        self._file.flush()
