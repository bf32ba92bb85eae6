"""Synthetic A-scans in an HDF5 file that every reader of labelled A-scans understands."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from usedge.errors import MissingExtraError
from usedge.files import write_whole
from usedge.synth import FS_HZ, SYNTH_VERSION, SynthBatch, generate

CHUNK = 1024
N_CLASSES = 64
COLUMNS = {"tof_s": "f8", "f0_hz": "f8", "onset_samples": "f4", "arrival_samples": "f4", "label": "i4",
           "snr_db": "f4", "n_echoes": "i4", "presence": "i4"}


def chunks(preset: str, n: int, samples: int, seed: int) -> Iterator[SynthBatch]:
    """``n`` A-scans in chunks of at most CHUNK; chunk i depends on the seed and i alone."""
    for i in range(-(-n // CHUNK)):
        yield generate(preset, min(CHUNK, n - i * CHUNK), (seed, i), samples)


def write_synth(path: Path, preset: str, n: int, samples: int, seed: int,
                report: Callable[[int], None] = lambda _done: None) -> None:
    """Write ``n`` A-scans as a labelled file (keys of docs/labelled-files.md) and, beside them,
    ``onset_samples``, ``arrival_samples``, ``label`` (64 = no echo), ``snr_db``, ``n_echoes`` and
    ``presence`` (0 no echo, 1 echoes, 2 a defect among them), all (n,). ``report`` is told the A-scans done.

    Raises InputError for an unknown preset or a path that cannot be written, MissingExtraError without h5py.
    """
    try:
        import h5py
    except ImportError:
        raise MissingExtraError("h5py", "hdf5") from None
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        x = file.create_dataset("x", (n, samples), np.int16, compression="gzip", compression_opts=1,
                                chunks=(min(n, 64), samples))
        columns = {name: file.create_dataset(name, (n,), dtype) for name, dtype in COLUMNS.items()}
        done = 0
        for batch in chunks(preset, n, samples, seed):
            rows = slice(done, done + len(batch.x))
            x[rows] = batch.x
            for name, values in (
                ("tof_s", batch.onset.astype(np.float64) / FS_HZ),
                ("f0_hz", FS_HZ / batch.cycle.astype(np.float64)), ("onset_samples", batch.onset),
                ("arrival_samples", batch.arrival),
                ("label", batch.label(N_CLASSES)), ("snr_db", batch.snr_db), ("n_echoes", batch.n_echoes),
                ("presence", batch.presence),
            ):
                columns[name][rows] = values
            done = rows.stop
            report(done)
        file["fs_hz"], file["t0_s"] = FS_HZ, 0.0
        file["label_point"], file["source"] = "onset", f"usedge synth {preset}"
        file.attrs.update(preset=preset, seed=seed, synth_version=SYNTH_VERSION)
    write_whole(path, buffer.getvalue())
