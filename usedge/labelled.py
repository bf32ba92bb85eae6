"""Files of A-scans with labels: what evaluate, finetune, emulate and replay read, from .npz or HDF5."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usedge.ascan import AScan
from usedge.errors import InputError, MissingExtraError
from usedge.spec import Gate

LABEL_POINTS = ("onset", "peak")
F0_NAMES = ("f0_hz", "fc_hz", "fc_hz_est")
TOF_NAMES = ("tof_s", "tof_onset_s", "tof_onset_model_s")
INT16_MAX = 32767

UNREADABLE = (OSError, EOFError, ValueError, TypeError, LookupError, RuntimeError, MemoryError)
"""What numpy, zipfile and h5py raise on damaged files; NotImplementedError is a RuntimeError."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LabelledSet:
    """A-scans with known ToF, as `usedge evaluate` and `usedge finetune` read them (PRODUCT.md's contract).

    ``x (n, samples)`` as stored, ``fs_hz``, ``t0_s`` from main bang to sample 0; per row ``tof_s (n,)`` onset
    or peak (``label_point``) after the main bang, NaN = no echo in the gate, ``gate_s (n, 2)`` start and
    width after the main bang, ``f0_hz (n,)`` centre frequency or None where the file has none.
    """

    x: NDArray[Any]
    fs_hz: float
    t0_s: float
    tof_s: FloatArray
    gate_s: FloatArray
    f0_hz: FloatArray | None = None
    label_point: str = "onset"
    source: str = ""
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def _counts(self) -> bool:
        return holds_counts(self.x)

    @property
    def has_echo(self) -> NDArray[np.bool_]:
        """Which rows (n,) have an echo in their gate."""
        return np.isfinite(self.tof_s)

    def ascan(self, i: int) -> AScan:
        """Row ``i`` as the device would see it; rows that are no int16 counts are scaled to full scale."""
        row = self.x[i]
        counts = row.astype(np.int16) if self._counts else full_scale(row)
        return AScan(counts, self.fs_hz, self.t0_s * 1e6, seq=i)

    def gate(self, i: int) -> Gate:
        """The gate of row ``i``."""
        return Gate(float(self.gate_s[i, 0]) * 1e6, float(self.gate_s[i, 1]) * 1e6)


@dataclass(frozen=True)
class RawRows:
    """A-scans from any file, labelled or not.

    ``x (n, samples)`` as stored, ``fs_hz``, ``t0_s`` main bang to sample 0; ``tof_s (n,)`` after the main
    bang (NaN = none) and ``f0_hz (n,)``, None where the file has no such array.
    """

    x: NDArray[Any]
    fs_hz: float
    t0_s: float
    tof_s: FloatArray | None
    f0_hz: FloatArray | None


def holds_counts(x: NDArray[Any]) -> bool:
    """Whether ``x`` holds whole numbers in int16's range, and so can be taken for ADC counts as they are."""
    if x.size == 0:
        return True
    fits = bool(x.min() >= -INT16_MAX - 1 and x.max() <= INT16_MAX)
    return fits and (x.dtype.kind in "iub" or bool(np.all(x == np.round(x))))


def full_scale(row: NDArray[Any]) -> NDArray[np.int16]:
    """``row (n,)`` without its median, scaled so that its largest magnitude is 32767 (zeros stay zeros).

    Each row by itself, so that one with a main bang or a glitch does not cost the others their resolution.
    """
    centred = row.astype(np.float64)
    centred = centred - np.median(centred)
    largest = float(np.abs(centred).max())
    return np.round(centred / largest * INT16_MAX if largest else centred).astype(np.int16)


def as_counts(x: NDArray[Any]) -> NDArray[np.int16]:
    """``x (n, samples)`` as int16: counts as they are, every row of anything else scaled to full scale."""
    return x.astype(np.int16) if holds_counts(x) else np.stack([full_scale(row) for row in x])


def load_labelled(path: str | Path) -> LabelledSet:
    """Read a labelled A-scan file (.npz, .h5 or .hdf5) and check all of it.

    Raises InputError where a key is missing, a shape or a value cannot be right (fs_hz not positive, f0_hz
    not under fs/2, NaN in x, a gate outside the A-scan, a label outside its gate); MissingExtraError for
    HDF5 without h5py.
    """
    path = Path(path)
    with _open_arrays(path) as arrays:
        x = _a_scans(arrays, "x")
        loaded = _labelled(arrays, x, _finite(arrays, "t0_s"), arrays.per_row("tof_s", len(x)))
    _check(loaded)
    return loaded


def load_unlabelled(path: str | Path) -> LabelledSet:
    """Read A-scans that are still to be labelled: ``load_labelled``, but labels and ``t0_s`` may be missing.

    ``tof_s`` (also by the names that ``load_rows`` knows) is NaN in rows without a label, in all of them
    where the file has none; a missing or NaN ``t0_s`` is 0. What is there is checked, and raises InputError,
    as by ``load_labelled``.
    """
    path = Path(path)
    with _open_arrays(path) as arrays:
        x = _a_scans(arrays, "x")
        t0_s = arrays.scalar("t0_s") if "t0_s" in arrays else 0.0
        tof_s = _tof_s(arrays, len(x), None, None)
        loaded = _labelled(arrays, x, t0_s if np.isfinite(t0_s) else 0.0,
                           np.full(len(x), np.nan) if tof_s is None else tof_s)
    _check(loaded)
    return loaded


def _labelled(arrays: _Arrays, x: NDArray[Any], t0_s: float, tof_s: FloatArray) -> LabelledSet:
    n, samples = x.shape
    fs_hz = _fs_hz(arrays)
    gate_s = arrays.gates(n) if "gate_s" in arrays else np.tile([t0_s, samples / fs_hz], (n, 1))
    f0_hz = arrays.per_row("f0_hz", n) if "f0_hz" in arrays else None
    gate_s = _snapped(gate_s, t0_s, t0_s + samples / fs_hz, 1e-3 / fs_hz)
    return LabelledSet(x, fs_hz, t0_s, tof_s, gate_s, f0_hz, arrays.text("label_point", "onset"),
                       arrays.text("source", ""), arrays.path)


def load_rows(path: str | Path, x_name: str | None = None, tof_name: str | None = None,
              column: int | None = None) -> RawRows:
    """Read the A-scans of any .npz or HDF5 file, with labels and centre frequency where it has them.

    ``x_name`` and ``tof_name`` name the arrays (default: "x"; the first of tof_s, tof_onset_s,
    tof_onset_model_s), ``column`` the column of a ToF array (n, k); where neither is given and the file has
    several columns, ``tof_s`` is None rather than a guess. ``fs_hz`` must be there; a missing or NaN
    ``t0_s`` is 0. Raises InputError for a missing array or an impossible shape, MissingExtraError for HDF5
    without h5py.
    """
    with _open_arrays(Path(path)) as arrays:
        x = _a_scans(arrays, x_name or "x")
        fs_hz = _fs_hz(arrays)
        t0_s = arrays.scalar("t0_s") if "t0_s" in arrays else 0.0
        tof_s = _tof_s(arrays, len(x), tof_name, column)
        f0_name = arrays.first_of(F0_NAMES)
        f0_hz = None if f0_name is None else arrays.per_row(f0_name, len(x))
        _check_f0(path, f0_hz, fs_hz)
    return RawRows(x, fs_hz, t0_s if np.isfinite(t0_s) else 0.0, tof_s, f0_hz)


def _tof_s(arrays: _Arrays, n: int, name: str | None, column: int | None) -> FloatArray | None:
    found = name or arrays.first_of(TOF_NAMES)
    if found is None:
        return None
    undecided = name is None and column is None
    if undecided and arrays.array(found).ndim == 2 and arrays.array(found).shape[1] > 1:
        return None
    return arrays.per_row(found, n, column)


class _Arrays:
    """The named arrays of one open file, each read and checked when it is asked for."""

    def __init__(self, path: Path, names: list[str], read: Callable[[str], Any]) -> None:
        self.path = path
        self.names = names
        self._read = read

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def first_of(self, names: tuple[str, ...]) -> str | None:
        """The first of ``names`` that the file has."""
        return next((name for name in names if name in self.names), None)

    def array(self, name: str) -> NDArray[Any]:
        """The array ``name``; raises InputError where it is missing or holds Python objects."""
        if name not in self.names:
            raise InputError(f"{self.path} has no array {name!r}; it has: {', '.join(self.names) or 'none'}.",
                             "Rename or add it.")
        array = np.asarray(self._read(name))
        if array.dtype.kind == "O":
            raise InputError(f"{self.path}: {name} holds objects, not numbers.", "Save it as a plain array.")
        return array

    def numbers(self, name: str) -> NDArray[Any]:
        """The array ``name``; raises InputError unless it holds real numbers."""
        array = self.array(name)
        if array.dtype.kind not in "iufb":
            raise InputError(f"{self.path}: {name} is of type {array.dtype}, not real numbers.")
        return array

    def scalar(self, name: str) -> float:
        """The one number ``name``; raises InputError where it is an array of several."""
        array = self.numbers(name)
        if array.size != 1:
            raise InputError(f"{self.path}: {name} has shape {array.shape}.", "It must be a single number.")
        return float(array.reshape(()))

    def per_row(self, name: str, n: int, column: int | None = None) -> FloatArray:
        """The array ``name`` as (n,) float, a scalar for every row; ``column`` chooses from (n, k)."""
        array = self.numbers(name).astype(np.float64)
        if array.size == 1 and array.ndim == 0:
            return np.full(n, float(array))
        if array.ndim == 2 and len(array) == n:
            return self._column(name, array, column)
        if array.shape != (n,):
            raise InputError(f"{self.path}: {name} has shape {array.shape}, but x has {n} rows.",
                             f"It must be ({n},) or a single number.")
        return array

    def _column(self, name: str, array: FloatArray, column: int | None) -> FloatArray:
        columns = array.shape[1]
        choice = f"Choose one: 0 to {columns - 1}."
        if column is None and columns != 1:
            raise InputError(f"{self.path}: {name} has {columns} columns.", choice)
        if not 0 <= (column or 0) < columns:
            raise InputError(f"{self.path}: {name} has no column {column}.", choice)
        return array[:, column or 0]

    def gates(self, n: int) -> FloatArray:
        """The array gate_s as (n, 2) float; raises InputError for another shape."""
        array = self.numbers("gate_s").astype(np.float64)
        if array.shape != (n, 2):
            raise InputError(f"{self.path}: gate_s has shape {array.shape}.",
                             f"It must be ({n}, 2): start and width.")
        return array

    def text(self, name: str, default: str) -> str:
        """The text ``name``, or ``default``; raises InputError for anything but one text."""
        if name not in self.names:
            return default
        array = np.asarray(self._read(name))
        value = array.item() if array.size == 1 else None
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if not isinstance(value, str):
            raise InputError(f"{self.path}: {name} is not a text.", f"Like {default or name!r}.")
        return value


@contextmanager
def _open_arrays(path: Path) -> Iterator[_Arrays]:
    """The arrays of ``path`` by its ending; whatever its reader trips over becomes an InputError."""
    openers = {".npz": _open_npz, ".h5": _open_hdf5, ".hdf5": _open_hdf5}
    if path.suffix.lower() not in openers:
        raise InputError(f"{path} is neither .npz nor .h5.", "Give an A-scan file in one of these formats.")
    if not path.is_file():
        raise InputError(f"there is no file {path}.", "Check the path.")
    try:
        with openers[path.suffix.lower()](path) as arrays:
            yield arrays
    except (*UNREADABLE, zipfile.BadZipFile, zlib.error) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} cannot be read ({reason}).",
                         "Is it whole? Pickled arrays are refused.") from error


@contextmanager
def _open_npz(path: Path) -> Iterator[_Arrays]:
    # Opened here, not by numpy, which leaves a damaged file open.
    with path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError("one .npy array, not an archive of named ones")
        yield _Arrays(path, list(archive.files), archive.__getitem__)


@contextmanager
def _open_hdf5(path: Path) -> Iterator[_Arrays]:
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("h5py", "hdf5") from None
    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        yield _Arrays(path, names, lambda name: file[name][()])


def _a_scans(arrays: _Arrays, name: str) -> NDArray[Any]:
    x = arrays.numbers(name)
    if x.ndim != 2 or 0 in x.shape:
        raise InputError(f"{arrays.path}: {name} has shape {x.shape}.", "It must be (A-scans, samples).")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
        raise InputError(f"{arrays.path}: {name} has NaN or infinity in row {row}.", "Leave it out.")
    return x


def _fs_hz(arrays: _Arrays) -> float:
    fs_hz = _finite(arrays, "fs_hz")
    if fs_hz <= 0:
        raise InputError(f"{arrays.path}: fs_hz is {fs_hz:g}, not positive.", "Give the sampling rate in Hz.")
    return fs_hz


def _finite(arrays: _Arrays, name: str) -> float:
    value = arrays.scalar(name)
    if not np.isfinite(value):
        raise InputError(f"{arrays.path}: {name} is {value}.", "It must be a number.")
    return value


def _snapped(gate_s: FloatArray, first_s: float, end_s: float, within_s: float) -> FloatArray:
    """``gate_s (n, 2)`` with edges that rounding put just outside the A-scan moved onto its ends."""
    start, end = gate_s[:, 0], gate_s.sum(axis=1)
    start = np.where(np.abs(start - first_s) < within_s, first_s, start)
    end = np.where(np.abs(end - end_s) < within_s, end_s, end)
    return np.stack([start, end - start], axis=1)


def _check(loaded: LabelledSet) -> None:
    """Raise InputError for the first thing in ``loaded`` that cannot be right."""
    if loaded.label_point not in LABEL_POINTS:
        raise InputError(f"{loaded.path}: label_point is {loaded.label_point!r}.", "Known: onset, peak.")
    _check_f0(loaded.path, loaded.f0_hz, loaded.fs_hz)
    tolerance_s = 1e-3 / loaded.fs_hz
    start, width = loaded.gate_s[:, 0], loaded.gate_s[:, 1]
    end = loaded.t0_s + loaded.x.shape[1] / loaded.fs_hz
    inside = (start >= loaded.t0_s - tolerance_s) & (start + width <= end + tolerance_s) & (width > 0)
    if not inside.all():
        i = int(np.flatnonzero(~inside)[0])
        raise InputError(
            f"{loaded.path}: the gate of row {i} ({start[i] * 1e6:g} µs, {width[i] * 1e6:g} µs wide) is not"
            f" inside the A-scan ({loaded.t0_s * 1e6:g} to {end * 1e6:g} µs).",
            "gate_s is start and width, in s.")
    tof_s = loaded.tof_s
    outside = ~np.isnan(tof_s) & ~((tof_s >= start - tolerance_s) & (tof_s <= start + width + tolerance_s))
    if outside.any():
        i = int(np.flatnonzero(outside)[0])
        raise InputError(
            f"{loaded.path}: the label of row {i} ({tof_s[i] * 1e6:g} µs) is outside its gate"
            f" ({start[i] * 1e6:g} to {(start[i] + width[i]) * 1e6:g} µs).",
            "tof_s is in s after the main bang, NaN where the gate has no echo.")


def _check_f0(path: str | Path | None, f0_hz: FloatArray | None, fs_hz: float) -> None:
    if f0_hz is None:
        return
    bad = ~((f0_hz > 0) & (f0_hz < fs_hz / 2))
    if bad.any():
        raise InputError(f"{path}: a centre frequency of {f0_hz[bad][0]:g} Hz is not between 0 and fs/2"
                         f" ({fs_hz / 2:g} Hz).", "Check the units of both: Hz.")
