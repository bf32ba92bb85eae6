"""Files written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
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
        fresh.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all; raises InputError where it cannot be written."""
    with whole_file(path) as fresh:
        fresh.write_bytes(content)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
