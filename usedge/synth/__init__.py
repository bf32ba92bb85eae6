"""Synthetic A-scans: seeded, vectorised, with the truth beside them.

``paper`` follows the first MAE study on ultrasound (arXiv 2508.20622, method summary and validation notes):
tone bursts of 1–4 MHz and 200–400 samples at 18–38 dB. ``field`` is what front ends really deliver. ``plate``
is for another task than ToF: no plate in the gate, a sound one, or one with a defect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usedge.errors import InputError
from usedge.synth.field import field_batch
from usedge.synth.paper import paper_batch
from usedge.synth.plate import NO_ECHO, SOUND, plate_batch
from usedge.synth.pulses import Array

SYNTH_VERSION = 4
"""Raised whenever the same seed would give other A-scans."""
FS_HZ = 40e6
"""Nominal sampling rate of synthetic A-scans; only frequency relative to the gate matters to the model."""


@dataclass(frozen=True, slots=True)
class SynthBatch:
    """``x (n, samples) int16`` counts and, (n,) each: ``onset`` of the first significant echo in samples,
    where its envelope reaches 5 % of its peak, and ``arrival``, where it reaches 50 % of what the ADC shows
    of the peak (both NaN = none); ``snr_db`` (echo peak over noise rms, NaN = no echo), ``n_echoes``,
    ``cycle`` in samples and ``presence``: 0 no echo, 1 echoes, 2 a defect among them (``plate`` alone).
    """

    x: NDArray[np.int16]
    onset: Array
    arrival: Array
    snr_db: Array
    n_echoes: NDArray[np.int64]
    cycle: Array
    presence: NDArray[np.int64]

    def label(self, n_classes: int) -> NDArray[np.int64]:
        """Class of each A-scan: the patch that holds the onset, ``n_classes`` for "no echo"."""
        patch = np.nan_to_num(self.onset, nan=0.0) * (n_classes / self.x.shape[1])
        return np.where(np.isnan(self.onset), n_classes, np.minimum(patch.astype(np.int64), n_classes - 1))


def _echo_or_none(onset: Array) -> NDArray[np.int64]:
    return np.where(np.isnan(onset), NO_ECHO, SOUND).astype(np.int64)


def _field(rng: np.random.Generator, n: int, samples: int) -> SynthBatch:
    x, scene = field_batch(rng, n, samples)
    return SynthBatch(x, scene.onset, scene.arrival, scene.snr_db, scene.n_echoes, scene.cycle,
                      _echo_or_none(scene.onset))


def _paper(rng: np.random.Generator, n: int, samples: int) -> SynthBatch:
    x, onset, arrival, snr_db, cycle = paper_batch(rng, n, samples, FS_HZ)
    return SynthBatch(x, onset, arrival, snr_db, np.ones(n, np.int64), cycle, _echo_or_none(onset))


def _plate(rng: np.random.Generator, n: int, samples: int) -> SynthBatch:
    x, scene = plate_batch(rng, n, samples)
    return SynthBatch(x, scene.front, scene.arrival, scene.snr_db, scene.n_echoes, scene.cycle,
                      scene.presence)


PRESETS: dict[str, Callable[[np.random.Generator, int, int], SynthBatch]] = {
    "field": _field, "paper": _paper, "plate": _plate}


def generate(preset: str, n: int, seed: int | tuple[int, ...], samples: int = 2048) -> SynthBatch:
    """``n`` A-scans of ``samples`` samples; the same arguments give the same A-scans on every machine.

    Raises InputError for an unknown preset or fewer than 256 samples.
    """
    if preset not in PRESETS:
        raise InputError(f"preset {preset!r} is unknown.", f"Known: {', '.join(PRESETS)}.")
    if samples < 256:
        raise InputError(f"{samples} samples are too few for a synthetic A-scan.", "Give at least 256.")
    return PRESETS[preset](np.random.default_rng(seed), n, samples)
