"""The A-scans on which variants are compared with the torch original, and the original's own answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from usedge.ascan import cut_gate
from usedge.errors import InputError
from usedge.labelled import LabelledSet, load_labelled
from usedge.spec import SignalSpec
from usedge.training.stream import CHUNK, Batch, Prepare, SynthStream
from usedge_export.recipe import CalibrationSettings, ParitySettings

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Material:
    """``x (n, n_samples)`` prepared for the model; true ``onset (n,)`` in patches, NaN = no echo."""

    name: str
    x: Float32
    onset: Float32


def synthetic(settings: ParitySettings | CalibrationSettings, spec: SignalSpec) -> Material:
    """Seeded synthetic A-scans through the preprocessing that training and device share."""
    stream = SynthStream(settings.preset, settings.seed, CHUNK, spec)
    parts = [stream[i] for i in range(-(-settings.ascans // CHUNK))]
    whole = Batch.join(parts).rows(slice(0, settings.ascans))
    return Material("synthetic", whole.x.numpy(), whole.onset.numpy())


def labelled(path: Path, spec: SignalSpec) -> Material:
    """Every gate of a labelled A-scan file.

    Raises InputError where it cannot be read, and for a gate that is constant or too short for the network.
    """
    loaded = load_labelled(path)
    _check_swing(loaded)
    try:
        gates = Prepare(spec).labelled(loaded)
    except InputError as error:
        raise InputError(f"{path}: {error.what}", error.next_step) from None
    return Material(path.name, gates.x.numpy(), gates.onset.numpy())


def _check_swing(loaded: LabelledSet) -> None:
    """A device gives no ToF for a constant gate, whatever the network would say of it."""
    for i in range(len(loaded)):
        gated = cut_gate(loaded.ascan(i), loaded.gate(i)).samples
        if gated.min() == gated.max():
            raise InputError(f"{loaded.path}: the gate of row {i} is constant, which no receiver sends.",
                             "Leave it out.")


@torch.inference_mode()
def torch_answers(model: nn.Module, x: Float32, batch: int = 32) -> Float32:
    """The torch original's answers (n, 3l + 1) to ``x (n, n_samples)``, in fp32."""
    parts = [model(torch.from_numpy(x[i : i + batch])).numpy() for i in range(0, len(x), batch)]
    return np.concatenate(parts).astype(np.float32)
