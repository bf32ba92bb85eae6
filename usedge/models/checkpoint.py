"""Checkpoints: one folder with ``weights.safetensors``, ``optimizer.safetensors`` and ``checkpoint.json``.

Nothing is unpickled. The JSON carries magic, version, every seed and setting, and the SHA-256 of both files.
A bundle that holds its weights is read as the checkpoint that it was exported from.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, load_file, save_file
from torch import Tensor, nn

from usedge.bundle import read_bundle
from usedge.errors import InputError
from usedge.models.config import MAEConfig
from usedge.models.nets import Model, build
from usedge.spec import SignalSpec

MADE_BY = {"mae": "usedge pretrain", "tof": "usedge finetune --task tof",
           "presence": "usedge finetune --task presence"}
MAGIC = "usedge-checkpoint"
FORMAT_VERSION = 1
WEIGHTS, OPTIMIZER, RECORD = "weights.safetensors", "optimizer.safetensors", "checkpoint.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A stored model: its kind ("mae", "tof" or "presence"), spec, sizes, ``record`` (seeds, settings,
    progress, scores), weights, and the optimizer's tensors where training can be resumed.
    """

    kind: str
    spec: SignalSpec
    config: MAEConfig
    record: dict[str, Any]
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor] | None = None

    def model(self) -> Model:
        """The model with these weights, in evaluation mode; raises InputError where they do not fit it."""
        model = build(self.kind, self.spec, self.config)
        fit_weights(model, self.weights)
        return model.eval()


def fit_weights(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Give ``module`` these weights; raises InputError where names or shapes are others."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"the checkpoint's weights do not fit ({str(error).splitlines()[-1].strip()}).",
                         "Was it written by another version of usedge? Train again.") from None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write ``folder`` whole or not at all: under a temporary name, synced, then renamed over the old one.

    Raises InputError, and leaves the old one, for weights that are not finite.
    """
    if bad := _not_finite(checkpoint.weights):
        raise InputError(f"the weights are not finite ({bad}).",
                         "The training diverged: lower --base-rate; the last checkpoint is kept.")
    fresh = folder.with_name(folder.name + ".writing")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    parts = {WEIGHTS: checkpoint.weights, OPTIMIZER: checkpoint.optimizer}
    for name, tensors in parts.items():
        if tensors is not None:
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()},
                      fresh / name)
    record = {
        "magic": MAGIC, "format_version": FORMAT_VERSION, "kind": checkpoint.kind,
        "spec": checkpoint.spec.to_dict(), "config": checkpoint.config.to_dict(), "record": checkpoint.record,
        "sha256": {path.name: _sha256(path) for path in sorted(fresh.iterdir())},
    }
    (fresh / RECORD).write_text(json.dumps(record, indent=1) + "\n")
    for path in fresh.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    old = _aside(folder)
    if is_stored(folder):
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def is_stored(folder: Path) -> bool:
    """Whether ``folder`` exists; what a save cut short had moved aside is put back first."""
    if not folder.exists() and _aside(folder).exists():
        _aside(folder).rename(folder)
    return folder.exists()


def _aside(folder: Path) -> Path:
    return folder.with_name(folder.name + ".old")


def _not_finite(weights: dict[str, Tensor]) -> str | None:
    return next((name for name, value in weights.items() if not bool(torch.isfinite(value).all())), None)


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / RECORD).read_text())
        if record["magic"] != MAGIC:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{folder} is no usedge checkpoint.",
                         f"A checkpoint is a folder with {RECORD}.") from None
    if record["format_version"] != FORMAT_VERSION:
        raise InputError(f"{folder} has checkpoint version {record['format_version']}; this usedge reads"
                         f" {FORMAT_VERSION}.", "Update usedge.")
    if missing := {"kind", "spec", "config", "record", "sha256"} - set(record):
        raise InputError(f"{folder / RECORD} lacks {', '.join(sorted(missing))}.",
                         "Copy the checkpoint again.")
    return dict(record)


def load_checkpoint(folder: Path, kind: str | None = None) -> Checkpoint:
    """Read a checkpoint, or that of a bundle; raises InputError for what is none, another ``kind``, or a
    wrong checksum.
    """
    checkpoint = _of_bundle(folder) if folder.is_file() else _of_folder(folder)
    if kind is not None and checkpoint.kind != kind:
        raise InputError(f"{folder} holds a {checkpoint.kind!r} model, not {kind!r}.",
                         f"Give the checkpoint of `{MADE_BY[kind]}`.")
    if bad := _not_finite(checkpoint.weights):
        raise InputError(f"{folder} has weights that are not finite ({bad}).",
                         "The training diverged; train again.")
    return checkpoint


def weights_of(path: Path) -> bytes:
    """The safetensors file in a checkpoint's folder or a bundle."""
    return read_bundle(path).weights() if path.is_file() else (path / WEIGHTS).read_bytes()


def _of_bundle(path: Path) -> Checkpoint:
    """What a bundle, always of a ToF model, was exported from."""
    bundle = read_bundle(path)
    weights, made = load(bundle.weights()), bundle.provenance
    if missing := {"config", "checkpoint"} - set(made):
        raise InputError(f"{path} lacks {', '.join(sorted(missing))} in its provenance.",
                         "Give the checkpoint that it was exported from.")
    return Checkpoint("tof", bundle.spec, _config(path, made["config"]), made["checkpoint"], weights)


def _of_folder(folder: Path) -> Checkpoint:
    is_stored(folder)
    record = _read_record(folder)
    for name, digest in ({WEIGHTS: None} | record["sha256"]).items():
        if not (folder / name).is_file() or _sha256(folder / name) != digest:
            raise InputError(f"{folder / name} is missing or damaged (SHA-256 differs).",
                             "Copy the checkpoint again.")
    weights = load_file(folder / WEIGHTS)
    optimizer = load_file(folder / OPTIMIZER) if OPTIMIZER in record["sha256"] else None
    return Checkpoint(record["kind"], SignalSpec.from_dict(record["spec"]), _config(folder, record["config"]),
                      record["record"], weights, optimizer)


def _config(folder: Path, values: dict[str, Any]) -> MAEConfig:
    try:
        return MAEConfig(**values)
    except TypeError as error:
        raise InputError(f"{folder} has other model sizes than this usedge knows ({error}).",
                         "Was it written by a newer usedge?") from None
