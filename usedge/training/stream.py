"""What training reads: batches made on the fly from a seed, or drawn from a pool or an HDF5 file.

Batch i depends on the seed and on i alone, so a resumed run sees exactly the batches it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from usedge.ascan import cut_gate
from usedge.blur import Blur
from usedge.errors import InputError, MissingExtraError
from usedge.preprocess import Preprocessor, resample_plan
from usedge.spec import SignalSpec
from usedge.synth import SynthBatch, generate
from usedge.zoom import zoom

if TYPE_CHECKING:
    from usedge.labelled import LabelledSet

NATIVE_LENGTHS = {
    "field": (300, 400, 512, 564, 640, 800, 1000, 1064, 1250, 1280, 1600, 2000, 2048, 2560, 3200, 4096),
    "paper": (2048,),
    "plate": (2048,),
}
"""Gate lengths, in native samples, that the presets are drawn at before they are resampled to the grid."""
CHUNK = 64
AUGMENTED, WINDOWS = 2, 3
"""Tell the seeds of augmentation and of second passes from those of an epoch's order and a chunk's length."""
ZOOMED = 0.5
"""Share of the gates that are prepared as the second pass cuts them, where the spec has one."""
FIRST_PICK_CYCLES, FREQUENCY_ERROR = 1.0, 0.1
"""Standard deviations of the first pick, in cycles, and of the logarithm of the centre frequency."""


class Batch(NamedTuple):
    """``x (b, n_samples) float32``, normalised and blurred as the spec says: what a model is given.

    ``clean`` is x before the blur (the same tensor where there is none), ``onset (b,)`` in patches with NaN =
    no echo, ``arrival (b,)`` too, NaN where unknown as well, ``period (b,)`` of the carrier in patches, NaN
    where unknown, ``presence (b,)`` the class of the second task.
    """

    x: Tensor
    clean: Tensor
    onset: Tensor
    arrival: Tensor
    period: Tensor
    presence: Tensor

    def __len__(self) -> int:
        return len(self.onset)

    def rows(self, chosen: NDArray[np.int64] | slice) -> Batch:
        """These rows alone."""
        x = self.x[chosen]
        clean = x if self.clean is self.x else self.clean[chosen]
        return Batch(x, clean, *(column[chosen] for column in self[2:]))

    @classmethod
    def join(cls, parts: Sequence[Batch]) -> Batch:
        """All rows of ``parts``."""
        x = torch.cat([part.x for part in parts])
        clean = x if parts[0].clean is parts[0].x else torch.cat([part.clean for part in parts])
        rest = [torch.cat([part[i] for part in parts]) for i in range(2, len(cls._fields))]
        return cls(x, clean, *rest)


class Truth(NamedTuple):
    """What is known of native A-scans, (b,) each: ``onset``, ``arrival`` and ``cycle`` of the carrier in
    native samples, NaN = none or unknown, and ``presence``.
    """

    onset: NDArray[np.floating]
    arrival: NDArray[np.floating]
    cycle: NDArray[np.floating]
    presence: NDArray[np.int64]

    @classmethod
    def of(cls, synth: SynthBatch) -> Truth:
        """What the synthesis put into its A-scans."""
        return cls(synth.onset, synth.arrival, synth.cycle, synth.presence)


class Prepare:
    """Native samples to batches: the device's own preprocessing, with the clean A-scan kept beside."""

    def __init__(self, spec: SignalSpec) -> None:
        self.spec, self.blur = spec, spec.blurring
        self.clean = Preprocessor(replace(spec, blur="none"))

    def counts(self, x: NDArray[np.int16] | NDArray[np.float32], truth: Truth) -> Batch:
        """A batch of whole gates ``x (b, n)``; raises InputError for A-scans that are too short."""
        prepared = self.clean.batch(x)
        patch = prepared.step * self.spec.patch
        return self._batch(prepared.x, np.array([truth.onset, truth.arrival, truth.cycle]) / patch,
                           truth.presence)

    def zoomed(self, x: NDArray[np.int16] | NDArray[np.float32], truth: Truth, rng: np.random.Generator
               ) -> Batch:
        """A batch of ``x (b, n)`` in which ZOOMED of the gates are as the second pass would cut them, after a
        first pick and with a centre frequency as wrong as they may be. Without zoom in the spec: ``counts``.
        """
        if not self.spec.zoom:
            return self.counts(x, truth)
        rows, places = [], []
        for row, window, *times in zip(x, self._windows(x, truth, rng), *truth[:3], strict=True):
            start, stop = window
            prepared = self.clean.batch(row[np.newaxis, start:stop])
            patch = prepared.step * self.spec.patch
            rows.append(prepared.x)
            places.append((np.array(times) - (start, start, 0)) / patch)
        return self._batch(np.concatenate(rows), np.array(places).T, truth.presence)

    def _windows(self, x: NDArray[np.int16] | NDArray[np.float32], truth: Truth, rng: np.random.Generator
                 ) -> Iterator[tuple[int, int]]:
        b, n = x.shape
        place = np.where(np.isnan(truth.onset), rng.uniform(0, n, b),
                         truth.onset + FIRST_PICK_CYCLES * rng.standard_normal(b) * truth.cycle)
        period = truth.cycle * np.exp(FREQUENCY_ERROR * rng.standard_normal(b))
        chosen = (rng.random(b) < ZOOMED) & np.isfinite(period) & np.isfinite(place)
        for i in range(b):
            if chosen[i]:
                start, stop, *_ = zoom(x[i], float(place[i]), self.spec.zoom, float(period[i]))
            # An empty gate has no onset that a cut could lose.
            lost = chosen[i] and (truth.onset[i] < start or truth.onset[i] >= stop)
            yield (start, stop) if chosen[i] and not lost else (0, n)

    def labelled(self, labelled: LabelledSet) -> Batch:
        """Every gate of a labelled file, whatever its length."""
        rows, places = [], []
        f0_hz = np.full(len(labelled), np.nan) if labelled.f0_hz is None else labelled.f0_hz
        for i in range(len(labelled)):
            gated = cut_gate(labelled.ascan(i), labelled.gate(i))
            prepared = self.clean(gated)
            patch_us = prepared.step * self.spec.patch * gated.sample_us
            rows.append(prepared.x)
            onset_us = labelled.tof_s[i] * 1e6 - gated.t0_us
            places.append(np.array([onset_us, np.nan, 1e6 / f0_hz[i]]) / patch_us)
        presence = labelled.has_echo.astype(np.int64)
        return self._batch(np.concatenate(rows), np.array(places).T, presence)

    def _batch(self, clean: NDArray[np.float32], places: NDArray[np.floating], presence: NDArray[np.int64]
               ) -> Batch:
        """``places (3, b)``: onset, arrival and period in patches."""
        before = torch.from_numpy(clean)
        x = before if self.spec.blur == "none" else torch.from_numpy(self.blur(clean))
        onset, arrival, period = torch.from_numpy(places.astype(np.float32))
        return Batch(x, before, onset, arrival, period, torch.from_numpy(presence))


@dataclass(frozen=True, slots=True)
class SynthStream:
    """Batches of ``batch`` synthetic A-scans; each run of CHUNK of them has one native length."""

    preset: str
    seed: int
    batch: int
    spec: SignalSpec

    def __getitem__(self, index: int) -> Batch:
        return Batch.join([self._chunk(index, part, min(CHUNK, self.batch - part * CHUNK))
                           for part in range(-(-self.batch // CHUNK))])

    def _chunk(self, index: int, part: int, n: int) -> Batch:
        synth = self.native(index, part, n)
        rng = np.random.default_rng((self.seed, index, part, WINDOWS))
        return Prepare(self.spec).zoomed(synth.x, Truth.of(synth), rng)

    def native(self, index: int, part: int, n: int) -> SynthBatch:
        """``n`` A-scans of batch ``index`` from CHUNK · ``part`` on, before any preprocessing."""
        lengths = NATIVE_LENGTHS[self.preset]
        length = lengths[np.random.default_rng((self.seed, index, part, 1)).integers(len(lengths))]
        return generate(self.preset, n, (self.seed, index, part), length)


@dataclass(frozen=True, slots=True)
class Augment:
    """What a pool's A-scans are changed by each time that they are drawn, or a network learns their noise.

    Polarity at random, and white noise of an rms drawn from 0 to ``noise`` (full scale being 1), added before
    the ``blur`` that the spec has.
    """

    noise: float
    blur: Blur

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """``batch`` changed; labels stay, since onsets do not move."""
        n = len(batch)
        sign = torch.from_numpy(rng.choice(np.array([-1.0, 1.0], np.float32), (n, 1)))
        rms = rng.uniform(0.0, self.noise, (n, 1)).astype(np.float32)
        noise = torch.from_numpy(rms * rng.standard_normal(batch.clean.shape, np.float32))
        clean = sign * batch.clean + noise
        x = clean if self.blur.kind == "none" else torch.from_numpy(self.blur(clean.numpy()))
        return Batch(x, clean, *batch[2:])


@dataclass(frozen=True, slots=True)
class PoolStream:
    """Batches from a pool of A-scans in memory: every row once an epoch, in an order drawn from the seed."""

    pool: Batch
    seed: int
    batch: int
    augment: Augment | None = None

    @classmethod
    def synthetic(cls, preset: str, ascans: int, seed: int, batch: int, spec: SignalSpec) -> PoolStream:
        """A pool of ``ascans`` synthetic A-scans: the first ones of the stream of that seed."""
        return cls(synthetic_pool(preset, ascans, seed, spec), seed, batch)

    @classmethod
    def of(cls, labelled: LabelledSet, spec: SignalSpec, seed: int, batch: int) -> PoolStream:
        """A pool of every gate of ``labelled``."""
        return cls(Prepare(spec).labelled(labelled), seed, batch)

    def __getitem__(self, index: int) -> Batch:
        n, first = len(self.pool), index * self.batch
        epochs = range(first // n, (first + self.batch - 1) // n + 1)
        order = np.concatenate([_permutation(n, self.seed, epoch) for epoch in epochs])
        drawn = self.pool.rows(order[first - epochs[0] * n :][: self.batch])
        return drawn if self.augment is None else self.augment(
            drawn, np.random.default_rng((self.seed, index, AUGMENTED)))


@lru_cache(maxsize=8)
def _permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(n)


@lru_cache(maxsize=4)
def synthetic_pool(preset: str, ascans: int, seed: int, spec: SignalSpec) -> Batch:
    """``ascans`` A-scans of a preset in memory, 8 KB each (twice that with a blur)."""
    stream = SynthStream(preset, seed, 256, spec)
    return Batch.join([stream[i] for i in range(-(-ascans // 256))]).rows(slice(0, ascans))


@dataclass(frozen=True, slots=True)
class FileStream:
    """Batches read from an HDF5 file as they are asked for, so that it may be larger than memory.

    Blocks of CHUNK neighbouring rows are drawn without replacement, in an order that changes every epoch.
    Raises InputError for a file without A-scans ``x (n, samples)`` in plenty or with too short ones,
    MissingExtraError without h5py.
    """

    path: Path
    seed: int
    batch: int
    spec: SignalSpec

    def __post_init__(self) -> None:
        if self.batch % CHUNK and self.batch > CHUNK:
            raise InputError(f"a batch of {self.batch} is not made of blocks of {CHUNK} rows.",
                             f"Give a multiple of {CHUNK}, or less than that.")
        if self.blocks * self.block < self.batch:
            raise InputError(f"{self.path} has too few A-scans for a batch of {self.batch}.",
                             "Lower --batch, or give a larger file.")
        resample_plan(_hdf5(self.path)["x"].shape[1], self.spec.n_samples)  # refuses gates that are too short

    @property
    def block(self) -> int:
        """Rows that are read together."""
        return min(CHUNK, self.batch)

    @property
    def blocks(self) -> int:
        """Whole blocks in the file."""
        return len(_hdf5(self.path)["x"]) // self.block

    def check(self) -> int:
        """Number of A-scans; raises InputError, before any training, where one is not finite."""
        x = _hdf5(self.path)["x"]
        for first in range(0, len(x), 1024) if x.dtype.kind == "f" else ():
            odd = np.flatnonzero(~np.isfinite(x[first : first + 1024]).all(axis=1))
            if len(odd):
                raise InputError(f"{self.path} has NaN or infinite samples in row {first + odd[0]}.",
                                 "Leave such A-scans out.")
        return len(x)

    def __getitem__(self, index: int) -> Batch:
        each, blocks = self.batch // self.block, self.blocks
        places = range(index * each, (index + 1) * each)
        return Batch.join([self._block(int(_permutation(blocks, self.seed, place // blocks)[place % blocks]))
                           for place in places])

    def _block(self, number: int) -> Batch:
        file, rows = _hdf5(self.path), slice(number * self.block, (number + 1) * self.block)
        x = file["x"][rows]
        if x.dtype.kind == "f":
            # Rows of any unit, by a power of two: volts may be too small, or too large, for what follows.
            exponent = np.frexp(np.abs(x).max(axis=1, keepdims=True))[1]
            x = np.ldexp(x.astype(np.float64), -exponent)
        onset = _column(file, "onset_samples", rows, len(x))
        cycle = _column(file, "fs_hz", rows, len(x)) / _column(file, "f0_hz", rows, len(x))
        presence = np.where(np.isnan(onset), 0, 1) if "presence" not in file else file["presence"][rows]
        truth = Truth(onset, _column(file, "arrival_samples", rows, len(x)), cycle, presence.astype(np.int64))
        rng = np.random.default_rng((self.seed, number, WINDOWS))
        return Prepare(self.spec).zoomed(x.astype(np.float32), truth, rng)


@lru_cache(maxsize=4)
def _hdf5(path: Path) -> dict[str, Any]:
    """The open file; one for each process, since HDF5 handles cannot be handed on."""
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("h5py", "hdf5") from None
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path} cannot be read as HDF5 ({error}).",
                         "Make one: usedge synth -o FILE.h5.") from None
    x = file.get("x")
    if not isinstance(x, h5py.Dataset) or x.ndim != 2 or x.dtype.kind not in "iufb":
        raise InputError(f"{path} has no A-scans x (n, samples).", "Make one: usedge synth -o FILE.h5.")
    row = (len(x),)
    shapes: dict[str, list[tuple[int, ...]]] = {
        "fs_hz": [(), (1,)], "f0_hz": [(), row], "onset_samples": [row], "arrival_samples": [row],
        "presence": [row]}
    for name, allowed in shapes.items():
        shape = getattr(file.get(name), "shape", None)
        if name in file and shape not in allowed:
            raise InputError(f"{path}: {name} has shape {shape}, but x has {len(x)} rows.",
                             f"It must be {' or '.join(map(str, allowed))}; or leave it out.")
    return file  # type: ignore[no-any-return]


def _column(file: dict[str, Any], name: str, rows: slice, n: int) -> NDArray[np.float64]:
    """``rows`` (n,) of a column, one number for all of them, or NaN where the file has none of that name."""
    if name not in file:
        return np.full(n, np.nan)
    return np.broadcast_to(file[name][rows if file[name].size > 1 else ()], n).astype(np.float64)


class Stream(Protocol):
    """What training reads: batch ``index``, the same one whoever asks for it and whenever."""

    def __getitem__(self, index: int) -> Batch:
        """Batch ``index``."""
        ...


class _Batches(Dataset[Batch]):
    """The map-style view that a DataLoader wants: item i is batch ``order[i]``."""

    def __init__(self, stream: Stream, order: Sequence[int]) -> None:
        self.stream, self.order = stream, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Batch:
        return self.stream[self.order[index]]


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)


def batches(stream: Stream, order: Sequence[int], workers: int) -> Iterator[Batch]:
    """The batches of ``order``, made ahead by ``workers`` processes; of a pool, or with 0, in this one."""
    if workers == 0 or isinstance(stream, PoolStream):
        return (stream[i] for i in order)
    # Not forked: torch and whatever else runs threads here would be copied in the middle of their work.
    loader = DataLoader(_Batches(stream, order), batch_size=None, num_workers=workers,
                        multiprocessing_context="spawn", prefetch_factor=4, worker_init_fn=_one_thread)
    return iter(loader)
