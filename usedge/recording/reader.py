"""Recordings read chunk by chunk, in bounded memory; what is damaged is passed over and told."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.recording.layout import (
    CRC,
    HEAD_BYTES,
    MAX_BODY,
    SYNC,
    VERSION,
    Head,
    Kind,
    LayoutError,
    unpack_ascans,
    unpack_facts,
    unpack_head,
)
from usedge_firmware.continuity import Continuity

PIECE_BYTES = 1 << 18
TOLD_SPOTS = 16


def is_recording(path: Path) -> bool:
    """Whether ``path`` is a file that begins as a recording does."""
    try:
        with path.open("rb") as file:
            return file.read(len(SYNC)) == SYNC
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Chunk:
    """One sound chunk as it stands in the file, and the A-scans that its body holds."""

    head: Head
    body: bytes
    ascans: list[AScan]


@dataclass
class Findings:
    """What one file was found to hold.

    ``bytes_skipped`` lay in ``n_spots`` places that are no whole chunk, the first of them in ``spots`` as
    (offset, bytes); ``torn_bytes`` of them at the very end. ``chunks_missing`` by their numbers,
    ``seq_gaps`` A-scans by theirs. ``closed``: the recorder had finished the file.
    """

    chunks: int = 0
    ascans: int = 0
    bytes_skipped: int = 0
    n_spots: int = 0
    spots: list[tuple[int, int]] = field(default_factory=list)
    torn_bytes: int = 0
    chunks_missing: int = 0
    seq_gaps: int = 0
    closed: bool = False

    @property
    def whole(self) -> bool:
        """Whether every byte of the file belongs to a sound chunk and no chunk is missing."""
        return not (self.bytes_skipped or self.chunks_missing)

    @property
    def remark(self) -> str:
        """What there is to say of damage, to stand behind the file's name; empty where there is none."""
        words = []
        inside = self.bytes_skipped - self.torn_bytes
        if inside:
            words.append(f"has {inside} bytes that are no sound chunk")
        if self.chunks_missing:
            words.append(f"lacks {self.chunks_missing} chunks")
        if self.torn_bytes:
            words.append(f"ends in {self.torn_bytes} bytes of a chunk that was cut short")
        elif not self.closed:
            words.append("was not closed in order")
        return f"{', '.join(words)}; all else was read ({self.ascans} A-scans)." if words else ""

    def skip(self, offset: int, n_bytes: int, at_end: bool) -> None:
        """Take note of ``n_bytes`` that are no chunk."""
        self.bytes_skipped += n_bytes
        self.n_spots += 1
        self.torn_bytes = n_bytes if at_end else 0
        if len(self.spots) < TOLD_SPOTS:
            self.spots.append((offset, n_bytes))

    def to_dict(self) -> dict[str, Any]:
        """The counts, as `usedge recover` tells them."""
        return {"chunks": self.chunks, "ascans": self.ascans, "bytes_skipped": self.bytes_skipped,
                "damaged_spots": self.n_spots, "torn_bytes": self.torn_bytes,
                "chunks_missing": self.chunks_missing, "seq_gaps": self.seq_gaps, "closed": self.closed}


class _Window:
    """A part of a file: ``held`` are its bytes from ``offset`` on, as many as were asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self.held = bytearray()
        self.offset = 0
        self._file = file
        self._ended = False

    def reach(self, n: int) -> bool:
        """Whether ``n`` bytes are held, after reading on."""
        while len(self.held) < n and not self._ended:
            piece = self._file.read(max(PIECE_BYTES, n - len(self.held)))
            self._ended = not piece
            self.held += piece
        return len(self.held) >= n

    def drop(self, n: int) -> None:
        """Go ``n`` bytes on."""
        del self.held[:n]
        self.offset += n

    def seek_sync(self) -> None:
        """Go at least one byte on, to the next sync word or to the end of the file."""
        start = 1
        while (at := self.held.find(SYNC, start)) < 0:
            # The last bytes held may begin one.
            self.drop(max(start, len(self.held) - len(SYNC) + 1))
            start = 0
            if not self.reach(len(SYNC)):
                self.drop(len(self.held))
                return
        self.drop(at)


class Recording:
    """A recording: a context manager that iterates its A-scans once. ``found`` and ``facts`` grow meanwhile.

    ``facts`` is the JSON of the file's own account of itself, empty where that is damaged. Entering raises
    InputError for a file that cannot be read, holds no whole chunk, or is of a newer version than this code.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found = Findings()
        self.facts: dict[str, Any] = {}
        self._file_id: int | None = None
        self._next_number = 0
        self._numbers = Continuity()

    def __enter__(self) -> Recording:
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise InputError(f"{self.path} cannot be read ({error.strerror}).", "Check the path.") from None
        self._chunks = self._read()
        try:
            self._first = next(self._chunks, None)
            if self._first is None:
                size = self.path.stat().st_size
                raise InputError(f"{self.path} holds no whole chunk of a recording ({size} bytes).",
                                 "Was it made by `usedge record` or `usedge run --record`?")
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[AScan]:
        for chunk in self.chunks():
            yield from chunk.ascans

    def chunks(self) -> Iterator[Chunk]:
        """Every whole chunk of the file, in order, once."""
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        yield from self._chunks

    def _read(self) -> Iterator[Chunk]:
        window = _Window(self._file)
        skipped_from: int | None = None
        while self._reach(window, 1):
            chunk = self._chunk(window)
            if chunk is None:
                skipped_from = window.offset if skipped_from is None else skipped_from
                window.seek_sync()
                continue
            if skipped_from is not None:
                self.found.skip(skipped_from, window.offset - skipped_from, at_end=False)
                skipped_from = None
            window.drop(chunk.head.chunk_bytes)
            yield chunk
        if skipped_from is not None:
            self.found.skip(skipped_from, window.offset - skipped_from, at_end=True)

    def _reach(self, window: _Window, n: int) -> bool:
        try:
            return window.reach(n)
        except OSError as error:
            raise InputError(f"{self.path} cannot be read after byte {window.offset} ({error.strerror}).",
                             "Copy it with dd conv=noerror,sync and recover the copy.") from None

    def _chunk(self, window: _Window) -> Chunk | None:
        """The sound chunk that begins here; None where there is none."""
        self._reach(window, HEAD_BYTES)
        head = unpack_head(window.held[:HEAD_BYTES])
        if head is None or not self._expected(head):
            return None
        if not self._reach(window, head.chunk_bytes):
            return None
        end = head.chunk_bytes - CRC.size
        with memoryview(window.held) as held:
            if CRC.unpack_from(held, end)[0] != zlib.crc32(held[:end]):
                return None
            chunk = self._opened(head, bytes(held[HEAD_BYTES:end]))
        if chunk is not None:
            self._take(chunk)
        return chunk

    def _expected(self, head: Head) -> bool:
        """Whether ``head`` can be this file's next: not left on the card by another file, not a repeat."""
        if self._file_id is not None and head.file_id != self._file_id:
            return False
        if head.version > VERSION:
            raise InputError(f"{self.path} is a recording of format version {head.version};"
                             f" this usedge reads version {VERSION}.", "Update usedge.")
        return head.version == VERSION and head.body_bytes <= MAX_BODY and head.number >= self._next_number

    def _opened(self, head: Head, body: bytes) -> Chunk | None:
        """The chunk, where its body is what its kind says."""
        ascans: list[AScan] = []
        try:
            if head.kind == Kind.FACTS:
                self.facts |= unpack_facts(body)
            elif head.kind in (Kind.ASCANS, Kind.ASCANS_ZLIB):
                ascans = unpack_ascans(head, body)
            elif head.kind != Kind.END:
                return None
        except LayoutError:
            return None
        return Chunk(head, body, ascans)

    def _take(self, chunk: Chunk) -> None:
        """Note what ``chunk`` adds to what was found."""
        self._file_id = chunk.head.file_id
        self.found.chunks += 1
        self.found.chunks_missing += chunk.head.number - self._next_number
        self._next_number = chunk.head.number + 1
        self.found.closed = chunk.head.kind == Kind.END
        self.found.ascans += len(chunk.ascans)
        for ascan in chunk.ascans:
            self._numbers.take(ascan.seq)
        self.found.seq_gaps = self._numbers.missing
