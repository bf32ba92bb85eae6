"""How well a network does on prepared A-scans: time of flight, presence, and reconstruction."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from usedge.metrics import score
from usedge.models.mae import MaskedAutoencoder
from usedge.models.nets import PRESENCES
from usedge.pointer import decode
from usedge.training.stream import Batch

Floats = NDArray[np.floating]
THRESHOLDS = np.geomspace(0.005, 0.95, 200)


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, batch: int = 256) -> NDArray[np.float32]:
    """The network's raw answers (n, …) for ``x (n, n_samples)``, in fp32."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    parts = [model(part.to(device)).float().cpu() for part in torch.split(x, batch)]
    model.train(training)
    return torch.cat(parts).numpy().astype(np.float32)


def tof_scores(model: nn.Module, batch: Batch, patch: int) -> dict[str, Any]:
    """Scores of a ToF network, and the "no echo" threshold with the fewest misses and false alarms.

    ``top1`` is the share of echo gates whose class is exact; the others as ``place_scores``; ``missed`` and
    ``false_alarms`` are the error rates of the echo decision at the threshold.
    """
    pointed = decode(predict(model, batch.x))
    onset = batch.onset.numpy()
    echo = ~np.isnan(onset)
    scores: dict[str, Any] = {"top1": float(np.mean(pointed.label[echo] == np.floor(onset[echo])))}
    scores |= place_scores(pointed.place, batch, patch)
    if echo.all():
        return scores | {"no_echo_threshold": 0.5, "missed": 0.0, "false_alarms": None}
    missed = np.array([np.mean(pointed.p_no_echo[echo] > t) for t in THRESHOLDS])
    alarms = np.array([np.mean(pointed.p_no_echo[~echo] <= t) for t in THRESHOLDS])
    best = int(np.argmin(missed + alarms))
    return scores | {"no_echo_threshold": float(THRESHOLDS[best]), "missed": float(missed[best]),
                     "false_alarms": float(alarms[best])}


def place_scores(place: Floats, batch: Batch, patch: int) -> dict[str, Any]:
    """Scores of onsets ``place (n,)`` in patches (NaN = no answer) over the gates of ``batch`` with an echo.

    ``within_patch``: share placed within one patch; ``median_error_samples`` on the grid; ``hit_half_period``
    and ``hit_one_period`` as `usedge evaluate` counts them, the median error removed.
    """
    onset = batch.onset.numpy().astype(np.float64)
    echo = ~np.isnan(onset)
    error = np.abs(place[echo] - onset[echo])
    found = {"within_patch": float(np.mean(error <= 1.0)),
             "median_error_samples": float(np.nanmedian(error)) * patch if np.isfinite(error).any() else None}
    period = batch.period.numpy().astype(np.float64)
    if not np.isfinite(period[echo]).all():
        return found
    hits = score(place[echo], onset[echo], 1.0 / period[echo])
    return found | {key: hits[key] for key in ("hit_half_period", "hit_one_period")}


def presence_scores(model: nn.Module, batch: Batch) -> dict[str, Any]:
    """Share of exact classes, and the F1 score of each of PRESENCES and their mean."""
    label, truth = predict(model, batch.x).argmax(axis=1), batch.presence.numpy()
    f1 = {}
    for code, name in enumerate(PRESENCES):
        right = float(np.sum((label == code) & (truth == code)))
        of = float(np.sum(label == code) + np.sum(truth == code))
        f1[name] = 2 * right / of if of else 0.0
    return {"accuracy": float(np.mean(label == truth)), "f1": f1,
            "f1_mean": float(np.mean(list(f1.values())))}


@torch.no_grad()
def reconstruction_scores(model: MaskedAutoencoder, batch: Batch, seed: int) -> dict[str, Any]:
    """Errors over removed patches of RF, full scale being 1, beside those of predicting nothing.

    ``mean_abs``: mean absolute error, ``mean_abs_nothing``: that of zeros; ``explained``: 1 − squared error
    over the target's square; ``echo_explained``: of patches of at least a tenth of the loudest's energy.
    """
    model.eval()
    starts = range(0, len(batch), 256)
    parts = [_reconstruction(model, batch.rows(slice(i, i + 256)), seed + i) for i in starts]
    error, target, mask = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    removed = mask > 0
    energy = np.square(target).mean(axis=2)
    loud = removed & (energy > 0.1 * energy.max(axis=1, keepdims=True))
    return {"mean_abs": float(np.abs(error[removed]).mean()),
            "mean_abs_nothing": float(np.abs(target[removed]).mean()),
            "explained": _explained(error[removed], target[removed]),
            "echo_explained": _explained(error[loud], target[loud])}


def _reconstruction(model: MaskedAutoencoder, batch: Batch, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    rf, mask = model.reconstruct(batch.x, torch.Generator().manual_seed(seed), batch.clean)
    target = model.encoder.patchify(batch.clean)
    return rf - target, target, mask


def _explained(error: Floats, target: Floats) -> float:
    return 1.0 - float(np.square(error).sum() / max(float(np.square(target).sum()), 1e-12))
