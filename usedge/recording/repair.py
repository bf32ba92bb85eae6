"""``recover``: what a recording holds, and a whole file in place of a damaged one."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usedge.errors import InputError
from usedge.files import whole_file
from usedge.recording.layout import Kind, pack_chunk, pack_facts
from usedge.recording.reader import Findings, Recording

KEPT_SUFFIX = ".damaged"


@dataclass(frozen=True)
class Recovered:
    """What became of ``file``: the findings, where the whole file is, and where the damaged one was kept.

    Both paths are None where nothing had to be repaired.
    """

    file: Path
    found: Findings
    written: Path | None = None
    kept: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """The entry of `usedge recover --json`."""
        return {"file": str(self.file), **self.found.to_dict(),
                "written": None if self.written is None else str(self.written),
                "kept": None if self.kept is None else str(self.kept)}


def recover(path: Path, folder: Path | None = None, advance: Callable[[int], None] = lambda _n: None,
            ) -> Recovered:
    """Read ``path`` and, where bytes of it are no sound chunk, write the sound ones to a whole file.

    Chunks are copied byte for byte. The whole file takes the damaged one's name, and that is kept beside it
    as NAME.damaged; with ``folder`` it goes there, and the damaged one stays as it is. ``advance`` is told
    the bytes of each chunk. Raises InputError for a file that is being recorded, holds no whole chunk, is of
    a newer version, or where the new file cannot be written.
    """
    _check_free(path)
    found = survey(path, advance)
    if not found.bytes_skipped:
        return Recovered(path, found)
    if folder is not None:
        written = folder / path.name
        _copy_to(path, written, advance)
        return Recovered(path, found, written)
    kept = _free_name(path)
    with whole_file(path) as fresh:
        _copy(path, fresh, advance)
        path.rename(kept)
    return Recovered(path, found, path, kept)


def survey(path: Path, advance: Callable[[int], None] = lambda _n: None) -> Findings:
    """What ``path`` holds, after reading all of it; raises InputError as ``Recording`` does."""
    with Recording(path) as recording:
        for chunk in recording.chunks():
            advance(chunk.head.chunk_bytes)
        return recording.found


def _copy_to(path: Path, written: Path, advance: Callable[[int], None]) -> None:
    if written.exists():
        raise InputError(f"{written} exists already, and is not overwritten.", "Name another folder.")
    with whole_file(written) as fresh:
        _copy(path, fresh, advance)


def _copy(path: Path, fresh: Path, advance: Callable[[int], None]) -> None:
    """The sound chunks of ``path`` as they are, and an end that says where they come from."""
    with Recording(path) as recording, fresh.open("wb") as file:
        for chunk in recording.chunks():
            head = chunk.head
            file.write(pack_chunk(Kind(head.kind), head.n_ascans, chunk.body, head.file_id, head.number))
            advance(head.chunk_bytes)
        if not recording.found.closed:
            facts = pack_facts({"ascans": recording.found.ascans, "recovered": recording.found.to_dict()})
            file.write(pack_chunk(Kind.END, 0, facts, head.file_id, head.number + 1))


def _check_free(path: Path) -> None:
    try:
        with path.open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"{path} is being recorded.",
                         "Stop that first; `usedge run --port replay:FILE` reads it meanwhile.") from None
    except OSError:
        pass  # a file system without locks; what cannot be read is told by its reader


def _free_name(path: Path) -> Path:
    """NAME.damaged, or with a number where that is there from an earlier repair."""
    kept, n = path.with_name(path.name + KEPT_SUFFIX), 1
    while kept.exists():
        n += 1
        kept = path.with_name(f"{path.name}{KEPT_SUFFIX}-{n}")
    return kept
