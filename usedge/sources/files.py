"""Stored A-scans as ``AScan`` objects: recordings, npz, HDF5, or a captured byte stream of any front end."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from glob import glob
from pathlib import Path
from typing import Any

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.labelled import as_counts, load_rows
from usedge.recording import Findings, Recording, is_recording
from usedge.recording.layout import SUFFIX
from usedge.recording.repair import KEPT_SUFFIX
from usedge.recording.series import by_number
from usedge.recording.writer import TALK
from usedge.sources import SourceCounts, SourceOptions
from usedge.sources.intake import Intake, front_end
from usedge_firmware.continuity import Continuity

CAPTURE_SUFFIXES = (".usfp", ".bin")
PIECE_BYTES = 1 << 16


def read_ascans(path: Path, x_name: str | None = None) -> tuple[list[AScan], int, int]:
    """All A-scans of ``path``, and the checksum errors and resyncs met (0 for npz and HDF5).

    Raises InputError for a file that is missing, unreadable or holds no A-scan.
    """
    stored = StoredAScans([path], x_name)
    return list(stored), stored.counts.crc_errors, stored.counts.resyncs


def stored_files(name: str) -> list[Path]:
    """The files that ``name`` stands for: itself, the recordings in a folder, or what a pattern matches.

    Sorted by their numbers. Raises InputError where there is none.
    """
    path = Path(name)
    if not name:
        raise InputError("no file is named.", "Example: replay:scan.usrec")
    if path.is_dir():
        found = sorted(path.glob(f"*{SUFFIX}"), key=by_number)
        if not found:
            raise InputError(f"folder {name} holds no recording (*{SUFFIX}).", "Name another.")
        return found
    if path.exists() or not any(letter in name for letter in "*?["):
        return [path]
    matched = [Path(each) for each in glob(name) if not each.endswith(SUFFIX + KEPT_SUFFIX)]
    found = sorted(matched, key=by_number)
    if not found:
        raise InputError(f"no file matches {name}.", "Check the pattern.")
    return found


class StoredAScans:
    """The A-scans of ``paths``, one file after the other; recordings and captures in bounded memory.

    ``counts`` are damaged places (``crc_errors``), those behind which more was found (``resyncs``), and the
    A-scans whose numbers are missing (``seq_gaps``); each damaged file is told in the log. ``session`` is
    that of the recording being read, ``recorded`` whether ``t_ns`` is when the A-scan came in. Iterating
    raises InputError for a file that cannot be read; one recording of several is told and passed over.
    """

    def __init__(self, paths: Sequence[Path], x_name: str | None = None) -> None:
        self.paths = paths
        self.counts = SourceCounts()
        self.session: str | None = None
        self.recorded = False
        self._x_name = x_name
        self._numbers = Continuity()
        self._n = 0
        self._offset_ns: int | None = None

    def unix_s(self, ascan: AScan) -> float:
        """When ``ascan``, just iterated, came in, s since 1970; NaN where the file does not tell."""
        if self._offset_ns is None:
            return math.nan
        return (ascan.t_ns + self._offset_ns) * 1e-9

    def __iter__(self) -> Iterator[AScan]:
        for path in self.paths:
            self.recorded = path.suffix == SUFFIX or is_recording(path)
            self._offset_ns = None
            for ascan in self._of(path):
                self._n += 1
                yield ascan
        if not self._n:
            raise InputError(f"{self.paths[0]} holds no A-scan"
                             f"{'' if len(self.paths) == 1 else ', nor does another of these files'}.")

    def _of(self, path: Path) -> Iterator[AScan]:
        if self.recorded:
            return self._of_recording(path)
        if path.suffix in CAPTURE_SUFFIXES:
            return self._of_capture(path)
        return self._of_rows(path)

    def _of_recording(self, path: Path) -> Iterator[AScan]:
        with ExitStack() as stack:
            try:
                recording = stack.enter_context(Recording(path))
            except InputError as error:
                if len(self.paths) == 1:
                    raise
                self.counts.crc_errors += 1
                logging.getLogger(TALK).warning("%s", error.what)
                return
            self._follow(recording.facts)
            for ascan in recording:
                self._numbers.take(ascan.seq)
                yield ascan
            self._tally(path, recording.found)

    def _follow(self, facts: dict[str, Any]) -> None:
        """Numbers go on from one file of a session to the next, and begin anew in another."""
        session = str(facts.get("session"))
        if session != self.session:
            self._numbers.restart(None)
        self.session = session
        clocks = facts.get("start_unix_ns"), facts.get("start_monotonic_ns")
        if isinstance(clocks[0], int) and isinstance(clocks[1], int):
            self._offset_ns = clocks[0] - clocks[1]

    def _tally(self, path: Path, found: Findings) -> None:
        self.counts.crc_errors += found.n_spots
        self.counts.resyncs += found.n_spots - (found.torn_bytes > 0)
        self.counts.seq_gaps = self._numbers.missing
        if found.remark:
            logging.getLogger(TALK).warning("%s %s", path, found.remark)

    def _of_rows(self, path: Path) -> Iterator[AScan]:
        rows = load_rows(path, x_name=self._x_name)
        t0_us = rows.t0_s * 1e6
        for seq, row in enumerate(as_counts(rows.x)):
            yield AScan(row, rows.fs_hz, t0_us, seq)

    def _of_capture(self, path: Path) -> Iterator[AScan]:
        counts = SourceCounts()
        front = front_end(SourceOptions())
        intake = Intake(str(path), front, counts)
        try:
            with path.open("rb") as file:
                while piece := file.read(PIECE_BYTES):
                    yield from intake.ascans(front.feed(piece), 0)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}).") from None
        yield from intake.ascans(front.finish(), 0)
        intake.tally()
        if not counts.received:
            raise InputError(f"{path} holds no A-scan of a known protocol ({path.stat().st_size} bytes).",
                             "Is it a captured stream?")
        self.counts.crc_errors += counts.crc_errors
        self.counts.resyncs += counts.resyncs
        self.counts.seq_gaps += counts.seq_gaps
