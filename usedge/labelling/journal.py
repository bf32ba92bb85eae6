"""Every decision on disk at once: an append-only file beside the output, read again after any ending."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from usedge.errors import InputError

FORMAT_VERSION = 1


class Journal:
    """Events, one JSON object a line; the first line tells what they are about.

    Each event is synced to disk before ``append`` returns. A line that a crash left incomplete is taken off
    when the file is opened again (``cut_short``), and nothing else is ever lost. Locked against a second
    session while it is open. Raises InputError for a journal of something else, one that is damaged in the
    middle, one in use, and where nothing can be written.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path = path
        self.cut_short = False
        self.events: list[dict[str, Any]] = []
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._lock()
            self._read(about)
        except BaseException:
            self.close()
            raise

    def append(self, event: dict[str, Any]) -> None:
        """Keep one event; raises InputError where the disk does not take all of it."""
        self._write(event)
        self.events.append(event)

    def close(self) -> None:
        """Give the file free."""
        os.close(self._file)

    def remove(self) -> None:
        """Delete the file, which holds no event."""
        self.path.unlink(missing_ok=True)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another session may have deleted the file that was opened here: its lock is worth nothing.
            if not os.path.samestat(os.fstat(self._file), self.path.stat()):
                raise FileNotFoundError
        except OSError:
            raise InputError(f"another `usedge label` is at work on {self.path}.",
                             "End that one, or give another -o.") from None

    def _read(self, about: dict[str, Any]) -> None:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self.cut_short = whole > 0
            os.ftruncate(self._file, whole)
        lines = [self._parse(line, i) for i, line in enumerate(content[:whole].splitlines())]
        if not lines:
            self._write({"format_version": FORMAT_VERSION} | about)
            self._sync_folder()
            return
        self._check_header(lines[0], about)
        self.events = lines[1:]

    def _parse(self, line: bytes, i: int) -> dict[str, Any]:
        try:
            event = json.loads(line)
            if not isinstance(event, dict):
                raise ValueError
        except ValueError:
            raise InputError(f"{self.path} is damaged in line {i + 1}.",
                             "Move it away, or give another -o.") from None
        return event

    def _check_header(self, header: dict[str, Any], about: dict[str, Any]) -> None:
        version = header.get("format_version")
        if version != FORMAT_VERSION:
            raise InputError(f"{self.path} has format version {version!r}, not {FORMAT_VERSION}.",
                             "Was it written by a newer usedge? Give another -o.")
        if header.get("fingerprint") != about["fingerprint"]:
            raise InputError(f"{self.path} keeps decisions on other A-scans, or on another gate.",
                             "Repeat the command as it was, or give another -o.")

    def _write(self, event: dict[str, Any]) -> None:
        line = json.dumps(event, allow_nan=False).encode() + b"\n"
        size = os.fstat(self._file).st_size
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(28, "No space left on device")
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, size)
            raise self._unwritable(error) from error

    def _sync_folder(self) -> None:
        handle = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(f"{self.path} cannot be written ({error.strerror or error}).",
                          "Check the folder, its permissions and its disk.")
