"""What is used downstream: an encoder with a head for time of flight, or for echo and defect presence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usedge.errors import InputError
from usedge.models.cnn import ConvEncoder
from usedge.models.config import MAEConfig
from usedge.models.mae import Encoder, MaskedAutoencoder
from usedge.spec import SignalSpec

PRESENCES = ("no echo", "sound", "defect")
"""Classes of the second task."""


def build_encoder(spec: SignalSpec, config: MAEConfig) -> Encoder | ConvEncoder:
    """The encoder of ``config.backbone``."""
    return ConvEncoder(spec, config) if config.backbone == "cnn" else Encoder(spec, config)


class ToFNet(nn.Module):
    """An encoder with a ToF head.

    "pointer": for each token a logit and an offset, and "no echo" from their mean. "pooled", the paper's
    classifier (arXiv 2508.20622): one linear layer on the mean token; it says nothing of the place within a
    patch, so its offsets are the middle.

    Output (b, 2l + 1): l class logits, the "no echo" logit, l offsets of the onset from each patch's start,
    in patches. One tensor, so that every runtime has one signature.
    """

    def __init__(self, spec: SignalSpec, config: MAEConfig) -> None:
        super().__init__()
        self.encoder = build_encoder(spec, config)
        self.pooled = config.head == "pooled"
        if self.pooled:
            self.classes = nn.Linear(config.d_model, spec.n_patches + 1)
        else:
            self.pointer = nn.Linear(config.d_model, 2)
            self.no_echo = nn.Linear(config.d_model, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, l·p) → (b, 2l + 1)."""
        tokens = self.encoder.tokens(x)
        if self.pooled:
            logits = self.classes(tokens.mean(dim=1))
            return torch.cat([logits, torch.full_like(logits[:, 1:], 0.5)], dim=1)
        pointed = self.pointer(tokens)
        return torch.cat([pointed[..., 0], self.no_echo(tokens.mean(dim=1)), pointed[..., 1]], dim=1)


class PresenceNet(nn.Module):
    """An encoder with a head for echo and defect presence: mean and largest token, one linear layer.

    Output (b, 3): logits of PRESENCES.
    """

    def __init__(self, spec: SignalSpec, config: MAEConfig) -> None:
        super().__init__()
        self.encoder = build_encoder(spec, config)
        self.classes = nn.Linear(2 * config.d_model, len(PRESENCES))

    def forward(self, x: Tensor) -> Tensor:
        """(b, l·p) → (b, 3)."""
        tokens = self.encoder.tokens(x)
        logits: Tensor = self.classes(torch.cat([tokens.mean(dim=1), tokens.amax(dim=1)], dim=1))
        return logits


Model = MaskedAutoencoder | ToFNet | PresenceNet


def tof_loss(out: Tensor, onset: Tensor, offset_weight: float = 4.0) -> Tensor:
    """Cross-entropy over patches and "no echo", plus a Huber loss on the offsets of the onset's patch and its
    two neighbours (half weight), which keeps the place right when the class is one off.

    ``out (b, 2l + 1)``, ``onset (b,)`` in patches, NaN = no echo.
    """
    length = (out.shape[1] - 1) // 2
    logits, offsets = out[:, : length + 1].float(), out[:, length + 1 :].float()
    empty = onset.isnan()
    place = onset.nan_to_num(0.0)
    patch = place.long().clamp(0, length - 1)
    classes = F.cross_entropy(logits, torch.where(empty, length, patch))
    near = (patch[:, None] + torch.arange(-1, 2, device=out.device)).clamp(0, length - 1)
    error = offsets.gather(1, near) - (place[:, None] - near)
    weight = torch.tensor([0.5, 1.0, 0.5], device=out.device) * (~empty)[:, None]
    huber = F.smooth_l1_loss(error, torch.zeros_like(error), beta=0.05, reduction="none")
    return classes + offset_weight * (huber * weight).sum() / weight.sum().clamp_min(1.0)


def build(kind: str, spec: SignalSpec, config: MAEConfig) -> Model:
    """The model of a checkpoint's ``kind``: "mae", "tof" or "presence"."""
    kinds: dict[str, type[Model]] = {"mae": MaskedAutoencoder, "tof": ToFNet, "presence": PresenceNet}
    if kind not in kinds:
        raise InputError(f"model kind {kind!r} is unknown.", f"Known: {', '.join(kinds)}.")
    return kinds[kind](spec, config)
