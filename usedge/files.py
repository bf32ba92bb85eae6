"""Files written whole or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from usedge.errors import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; synced and renamed to ``path`` when the block succeeds.

    Raises InputError where that cannot be written; nothing is left behind when the block fails.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        yield fresh
        _sync(fresh)
        fresh.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}).",
                         "Check the folder and its permissions.") from error
    finally:
        with suppress(OSError):  # a file system that takes nothing gives nothing away either
            fresh.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all; raises InputError where it cannot be written."""
    with whole_file(path) as fresh:
        fresh.write_bytes(content)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keeps other processes that ask the same from changing ``path`` until the block ends.

    Raises InputError where one is at it. The lock is the system's, and ends with its process.
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}).",
                         "Check the folder and its permissions.") from error
    try:
        _lock(handle, path)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"{path} is being written by another process.", "Let it end, or stop it.") from None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
