"""The two tasks: pretraining the masked autoencoder, and fine-tuning its encoder to time of flight."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from usedge.errors import InputError
from usedge.models.checkpoint import Checkpoint, load_checkpoint
from usedge.models.mae import MAEConfig, MaskedAutoencoder, ToFNet, tof_loss
from usedge.pointer import decode
from usedge.spec import SignalSpec
from usedge.training.loop import Run, TrainSettings
from usedge.training.stream import Batch, LabelledStream, SynthStream

if TYPE_CHECKING:
    from usedge.labelled import LabelledSet

VALIDATION_SEED = 0x5EED
"""Kept apart from every training seed; the validation A-scans are the same for all runs."""
VALIDATION_ASCANS = 4096


def pretrain(settings: TrainSettings, config: MAEConfig, folder: Path) -> Checkpoint:
    """Pretrain an autoencoder on synthetic A-scans into ``folder/last``."""
    torch.manual_seed(settings.seed)
    spec = SignalSpec()

    def loss(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        value: Tensor = model(batch[0], generator)
        return value

    stream = SynthStream(settings.preset, settings.seed, settings.batch, spec)
    return Run("mae", MaskedAutoencoder(spec, config), loss, stream, settings, spec, config, folder, {}).fit()


def finetune(
    settings: TrainSettings, start: Path | None, data: LabelledSet | None, folder: Path
) -> Checkpoint:
    """Fine-tune to ToF into ``folder/last``: from a pretrained autoencoder, a ToF checkpoint, or scratch.

    Reads ``data`` where given, else synthetic A-scans. The operating point of "no echo" is chosen on
    synthetic validation A-scans and stored in the record's scores.
    """
    torch.manual_seed(settings.seed)
    checkpoint = load_checkpoint(start) if start else None
    spec = checkpoint.spec if checkpoint else SignalSpec()
    config = checkpoint.config if checkpoint else MAEConfig()
    net = ToFNet(spec, config)
    origin: dict[str, Any] = {"from": "scratch"}
    if checkpoint is not None:
        _start_from(net, checkpoint)
        origin = {"from": checkpoint.kind, "ascans": checkpoint.record["ascans"],
                  "settings": checkpoint.record["settings"], "origin": checkpoint.record["origin"]}
    if data is not None:
        origin["data"] = {"file": data.path.name if data.path else "", "ascans": len(data)}
    stream = (SynthStream(settings.preset, settings.seed + 1, settings.batch, spec) if data is None
              else LabelledStream.of(data, spec, settings.seed + 1, settings.batch))

    def loss(model: nn.Module, batch: Batch, _generator: torch.Generator) -> Tensor:
        return tof_loss(model(batch[0]), batch[1])

    def check(model: nn.Module) -> dict[str, Any]:
        return validate(model, spec, settings.preset)

    return Run("tof", net, loss, stream, settings, spec, config, folder, origin, check).fit()


def _start_from(net: ToFNet, checkpoint: Checkpoint) -> None:
    prefix = "" if checkpoint.kind == "tof" else "encoder."
    target: nn.Module = net if checkpoint.kind == "tof" else net.encoder
    weights = {name.removeprefix(prefix): value for name, value in checkpoint.weights.items()
               if name.startswith(prefix)}
    if not weights:
        raise InputError(f"a {checkpoint.kind!r} checkpoint has no encoder to fine-tune.")
    target.load_state_dict(weights)


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, batch: int = 256) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The network's raw answers (n, 2l + 1) for ``x (n, n_samples)``, in fp32."""
    model.eval()
    device = next(model.parameters()).device
    parts = [model(part.to(device)).float().cpu() for part in torch.split(x, batch)]
    model.train()
    return torch.cat(parts).numpy().astype(np.float32)


def validate(model: nn.Module, spec: SignalSpec, preset: str) -> dict[str, Any]:
    """Scores on fresh synthetic A-scans, and the "no echo" threshold with the largest (hits − false alarms).

    ``top1`` is the share of echo gates whose class is exact, ``within_patch`` of those placed within one
    patch; ``missed`` and ``false_alarms`` are the error rates of the echo decision at the threshold.
    """
    stream = SynthStream(preset, VALIDATION_SEED, 256, spec)
    parts = [stream[i] for i in range(VALIDATION_ASCANS // 256)]
    out = predict(model, torch.cat([part[0] for part in parts]))
    onset = torch.cat([part[1] for part in parts]).numpy()
    pointed = decode(out)
    echo = ~np.isnan(onset)
    error = np.abs(pointed.place[echo] - onset[echo])
    scores: dict[str, Any] = {
        "validation": {"preset": preset, "seed": VALIDATION_SEED, "ascans": VALIDATION_ASCANS},
        "top1": float(np.mean(pointed.label[echo] == np.floor(onset[echo]))),
        "within_patch": float(np.mean(error <= 1.0)),
        "median_error_samples": float(np.median(error) * spec.patch),
    }
    if echo.all():
        return scores | {"no_echo_threshold": 0.5, "missed": 0.0, "false_alarms": None}
    thresholds = np.geomspace(0.005, 0.95, 200)
    missed = np.array([np.mean(pointed.p_no_echo[echo] > t) for t in thresholds])
    alarms = np.array([np.mean(pointed.p_no_echo[~echo] <= t) for t in thresholds])
    best = int(np.argmin(missed + alarms))
    return scores | {"no_echo_threshold": float(thresholds[best]), "missed": float(missed[best]),
                     "false_alarms": float(alarms[best])}
