"""A-scans written as a labelled file (docs/labelled-files.md) without labels: HDF5 or npz, row by row."""

from __future__ import annotations

import zipfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usedge.ascan import AScan
from usedge.errors import InputError, MissingExtraError
from usedge.files import whole_file

BLOCK_ROWS = 64
SUFFIXES = (".h5", ".hdf5", ".npz")
COLUMNS = {"seq": "q", "t_ns": "q", "unix_s": "d", "gain_db": "d", "channel": "i"}
"""Per A-scan, with the letter by which array and numpy know its type."""

Rows = Callable[[], Iterator[tuple[AScan, float]]]
"""Gives, each time anew, the A-scans and the Unix time of each in s (NaN where it is not known)."""


@dataclass(frozen=True)
class Choice:
    """Which A-scans are wanted: all, or those of a channel, a length, numbers from ``first`` to ``stop``."""

    channel: int | None = None
    samples: int | None = None
    first: int | None = None
    stop: int | None = None

    def takes(self, ascan: AScan) -> bool:
        """Whether ``ascan`` is wanted."""
        return (self.channel in (None, ascan.channel) and self.samples in (None, len(ascan.samples))
                and (self.first is None or ascan.seq >= self.first)
                and (self.stop is None or ascan.seq < self.stop))


@dataclass(frozen=True)
class Table:
    """What is known before the first sample is written: one shape for all rows, and the columns (n,)."""

    samples: int
    fs_hz: float
    t0_us: float
    columns: dict[str, NDArray[Any]]
    left_out: int

    def __len__(self) -> int:
        return len(self.columns["seq"])


def tabulate(rows: Rows, choice: Choice) -> Table:
    """Look through ``rows`` once for those of ``choice``.

    Raises InputError where there is none, one is an envelope, or two differ in length, sampling rate or t0.
    """
    values: dict[str, array[Any]] = {name: array(letter) for name, letter in COLUMNS.items()}
    first, left_out = None, 0
    for ascan, unix_s in rows():
        if not choice.takes(ascan):
            left_out += 1
            continue
        first = first or ascan
        _check_alike(first, ascan)
        for name, value in zip(COLUMNS, (ascan.seq, ascan.t_ns, unix_s, ascan.gain_db, ascan.channel),
                               strict=True):
            values[name].append(value)
    if first is None:
        raise InputError(f"none of {left_out} A-scans is wanted.", "Check --channel, --samples and --seq.")
    columns = {name: np.frombuffer(values[name], letter) for name, letter in COLUMNS.items()}
    return Table(len(first.samples), first.fs_hz, first.t0_us, columns, left_out)


def write_labelled(path: Path, rows: Rows, choice: Choice, table: Table, source: str,
                   advance: Callable[[int], None] = lambda _n: None) -> None:
    """Write what ``table`` describes to ``path``, whole or not at all; ``advance`` is told the rows done.

    Memory is that of the columns and BLOCK_ROWS rows. Raises InputError for another ending than .h5, .hdf5
    or .npz and where the file cannot be written, MissingExtraError for HDF5 without h5py.
    """
    write = _write_npz if _ending(path) == ".npz" else _write_hdf5
    wanted = (ascan.samples for ascan, _ in rows() if choice.takes(ascan))
    single: dict[str, Any] = {"fs_hz": table.fs_hz, "t0_s": table.t0_us / 1e6, "source": source}
    with whole_file(path) as fresh:
        write(fresh, _blocks(wanted, len(table)), table, single, advance)


def check_ending(path: Path) -> None:
    """Raise InputError for a file that ``write_labelled`` cannot write, MissingExtraError without h5py."""
    if _ending(path) not in SUFFIXES:
        raise InputError(f"{path} ends neither in .h5 nor in .npz.", "Example: -o scan.h5")
    if _ending(path) != ".npz":
        _h5py()


def _ending(path: Path) -> str:
    return path.suffix.lower()


def _check_alike(first: AScan, ascan: AScan) -> None:
    if not ascan.rf:
        raise InputError(f"A-scan {ascan.seq} is an envelope; labelled files hold RF.",
                         "Leave it out by --channel, --samples or --seq.")
    for what, one, other in (("samples", len(first.samples), len(ascan.samples)),
                             ("Hz", first.fs_hz, ascan.fs_hz), ("µs from main bang to sample 0", first.t0_us,
                                                                 ascan.t0_us)):
        if one != other:
            raise InputError(
                f"A-scan {ascan.seq} (channel {ascan.channel}) has {other:g} {what}, A-scan {first.seq}"
                f" (channel {first.channel}) {one:g}; a file holds one shape, and none is padded.",
                "Write each to its own: --channel N, --samples N or --seq START:STOP.")


def _blocks(wanted: Iterable[NDArray[np.int16]], n: int) -> Iterator[NDArray[np.int16]]:
    """The first ``n`` of ``wanted`` as blocks (rows, samples); a recording may have grown meanwhile."""
    block: list[NDArray[np.int16]] = []
    for done, samples in enumerate(wanted, start=1):
        block.append(samples)
        if len(block) == BLOCK_ROWS or done == n:
            yield np.stack(block)
            block = []
        if done == n:
            return


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("h5py", "hdf5", "Run: pip install 'usedge[hdf5]', or write .npz.") from None
    return h5py


def _write_hdf5(path: Path, blocks: Iterator[NDArray[np.int16]], table: Table, single: dict[str, Any],
                advance: Callable[[int], None]) -> None:
    with _h5py().File(path, "w") as file:
        shape = (len(table), table.samples)
        x = file.create_dataset("x", shape, np.int16, compression="gzip", compression_opts=1,
                                chunks=(min(len(table), BLOCK_ROWS), table.samples))
        done = 0
        for block in blocks:
            x[done : done + len(block)] = block
            done += len(block)
            advance(len(block))
        for name, value in {**table.columns, **single}.items():
            file[name] = value


def _write_npz(path: Path, blocks: Iterator[NDArray[np.int16]], table: Table, single: dict[str, Any],
               advance: Callable[[int], None]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(
                member, {"descr": "<i2", "fortran_order": False, "shape": (len(table), table.samples)})
            for block in blocks:
                member.write(block.astype("<i2", copy=False).tobytes())
                advance(len(block))
        for name, value in {**table.columns, **single}.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)
