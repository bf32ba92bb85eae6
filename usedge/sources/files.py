"""Recorded A-scans as ``AScan`` objects, from npz, HDF5 or a captured USFP byte stream."""

from __future__ import annotations

from pathlib import Path

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.labelled import as_counts, load_rows
from usedge_firmware import usfp

USFP_SUFFIXES = (".usfp", ".bin")


def read_ascans(path: Path, x_name: str | None = None) -> tuple[list[AScan], int, int]:
    """All A-scans of ``path``, and the CRC errors and resyncs met (0 for npz and HDF5).

    Raises InputError for a file that is missing, unreadable or holds no A-scan.
    """
    if path.suffix in USFP_SUFFIXES:
        return _read_usfp(path)
    rows = load_rows(path, x_name=x_name)
    t0_us = rows.t0_s * 1e6
    return [AScan(row, rows.fs_hz, t0_us, seq) for seq, row in enumerate(as_counts(rows.x))], 0, 0


def _read_usfp(path: Path) -> tuple[list[AScan], int, int]:
    try:
        stream = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from None
    decoder = usfp.Decoder()
    frames = decoder.feed(stream) + decoder.finish()
    ascans = [AScan(frame.samples(), float(frame.fs_hz), frame.t0_ns * 1e-3, frame.seq, 0,
                    frame.gain_cdb * 0.01, frame.channel)
              for frame in frames if frame.type == usfp.FrameType.ASCAN]
    if not ascans:
        raise InputError(f"{path} holds no USFP A-scan ({len(stream)} bytes).",
                         "Is it a captured USFP stream?")
    return ascans, decoder.stats.crc_errors + decoder.stats.header_errors, decoder.stats.resyncs
