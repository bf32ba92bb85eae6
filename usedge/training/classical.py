"""The classical pickers on the A-scans that networks are scored on."""

from __future__ import annotations

from typing import Any

import numpy as np

from usedge.ascan import AScan
from usedge.preprocess import resample_plan
from usedge.spec import SignalSpec
from usedge.synth import FS_HZ, SynthBatch
from usedge.tof import classical_picker
from usedge.training.scores import place_scores
from usedge.training.stream import CHUNK, SynthStream, synthetic_pool

PARTS = 256 // CHUNK


def classical_scores(name: str, preset: str, ascans: int, seed: int, spec: SignalSpec) -> dict[str, Any]:
    """Scores of the picker ``name``, which is told each A-scan's frequency, on a preset's first ``ascans``.

    As ``tof_scores`` of a network: a gate without an answer is a miss, ``top1`` the share of exact patches.
    Raises InputError for an unknown picker.
    """
    stream = SynthStream(preset, seed, PARTS * CHUNK, spec)
    chunks = [stream.native(i // PARTS, i % PARTS, CHUNK) for i in range(-(-ascans // CHUNK))]
    place = np.concatenate([_places(name, chunk, spec) for chunk in chunks])[:ascans]
    batch = synthetic_pool(preset, ascans, seed, spec)
    onset = batch.onset.numpy()
    echo, answered = ~np.isnan(onset), ~np.isnan(place)
    return {"top1": float(np.mean(np.floor(place[echo]) == np.floor(onset[echo]))),
            **place_scores(place, batch, spec.patch),
            "missed": float(np.mean(~answered[echo])),
            "false_alarms": float(np.mean(answered[~echo])) if (~echo).any() else None}


def _places(name: str, chunk: SynthBatch, spec: SignalSpec) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Onsets in patches, NaN = no answer."""
    patch_us = resample_plan(chunk.x.shape[1], spec.n_samples).step * spec.patch * 1e6 / FS_HZ
    picks = [classical_picker(name, FS_HZ / float(cycle)).pick(AScan(row, FS_HZ, 0.0))
             for row, cycle in zip(chunk.x, chunk.cycle, strict=True)]
    return np.array([np.nan if pick.tof_us is None else pick.tof_us / patch_us for pick in picks])
