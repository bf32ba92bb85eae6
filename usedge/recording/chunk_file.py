"""One file of a recording, growing by whole chunks."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from usedge.recording.layout import Kind, pack_ascans, pack_chunk, pack_facts


class ChunkFile:
    """A new file at ``path`` that begins with ``facts``; FileExistsError where there is one.

    Every method may raise OSError, with ``path`` in it; what was written before then stands.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path = path
        self.n_bytes = 0
        self.n_ascans = 0
        self.opened = time.monotonic()
        self.n_chunks = 0
        self._id = int.from_bytes(os.urandom(8), "little")
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        with suppress(OSError):  # not every file system has locks; `usedge recover` asks for this one
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            self.write_facts(facts)
            _sync_folder(path.parent)
        except OSError:
            self.abandon()
            raise

    def write_facts(self, facts: dict[str, Any]) -> None:
        """Add a chunk of ``facts``; the later of two with one key holds."""
        self._write(pack_chunk(Kind.FACTS, 0, pack_facts(facts), self._id, self.n_chunks))

    def write_ascans(self, packed: list[bytes], compress: bool) -> None:
        """Add a chunk of ``packed`` A-scans."""
        self._write(pack_ascans(packed, compress, self._id, self.n_chunks))
        self.n_ascans += len(packed)

    def sync(self) -> None:
        """Wait until all that was written is on the disk."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise self._named(error) from None

    def close(self, facts: dict[str, Any]) -> None:
        """Sync and end the file, with ``facts`` in its last chunk; one that holds no A-scan is removed."""
        if not self.n_ascans:
            self.abandon()
            return
        try:
            with suppress(OSError):  # without its end the file says that it was cut, and reads as well
                self._write(pack_chunk(Kind.END, 0, pack_facts(facts), self._id, self.n_chunks))
            self.sync()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close as it is; one that holds no A-scan is removed."""
        with suppress(OSError):
            os.close(self._fd)
        if not self.n_ascans:
            with suppress(OSError):
                self.path.unlink()

    def _write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            with suppress(OSError):  # a reader passes over a part of a chunk all the same
                os.ftruncate(self._fd, self.n_bytes)
            raise self._named(error) from None
        self.n_bytes += len(chunk)
        self.n_chunks += 1

    def _named(self, error: OSError) -> OSError:
        return OSError(error.errno or errno.EIO, error.strerror, str(self.path))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
