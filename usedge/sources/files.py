"""Recorded A-scans as ``AScan`` objects, from npz, HDF5 or a captured byte stream of any known front end."""

from __future__ import annotations

from pathlib import Path

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.labelled import as_counts, load_rows
from usedge.sources import SourceCounts, SourceOptions
from usedge.sources.intake import Intake, front_end

CAPTURE_SUFFIXES = (".usfp", ".bin")


def read_ascans(path: Path, x_name: str | None = None) -> tuple[list[AScan], int, int]:
    """All A-scans of ``path``, and the CRC errors and resyncs met (0 for npz and HDF5).

    Raises InputError for a file that is missing, unreadable or holds no A-scan.
    """
    if path.suffix in CAPTURE_SUFFIXES:
        return _read_capture(path)
    rows = load_rows(path, x_name=x_name)
    t0_us = rows.t0_s * 1e6
    return [AScan(row, rows.fs_hz, t0_us, seq) for seq, row in enumerate(as_counts(rows.x))], 0, 0


def _read_capture(path: Path) -> tuple[list[AScan], int, int]:
    counts = SourceCounts()
    front = front_end(SourceOptions())
    intake = Intake(str(path), front, counts)
    try:
        events = front.feed(path.read_bytes()) + front.finish()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from None
    ascans = list(intake.ascans(events, 0))
    intake.tally()
    if not ascans:
        raise InputError(f"{path} holds no A-scan of a known protocol ({path.stat().st_size} bytes).",
                         "Is it a captured stream?")
    return ascans, counts.crc_errors, counts.resyncs
