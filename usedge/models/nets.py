"""What is used downstream: an encoder with a head for time of flight, or for echo and defect presence."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usedge.errors import InputError
from usedge.models.cnn import ConvEncoder
from usedge.models.config import MAEConfig
from usedge.models.mae import Encoder, MaskedAutoencoder
from usedge.pointer import patches_of
from usedge.sparse import UNSEEN
from usedge.spec import SignalSpec

ONSET_WEIGHT, ARRIVAL_WEIGHT = 4.0, 1.0
"""Of the offsets' losses: time of flight is the onset's."""
PRESENCES = ("no echo", "sound", "defect")
"""Classes of the second task."""


def build_encoder(spec: SignalSpec, config: MAEConfig) -> Encoder | ConvEncoder:
    """The encoder of ``config.backbone``."""
    return ConvEncoder(spec, config) if config.backbone == "cnn" else Encoder(spec, config)


class ToFNet(nn.Module):
    """An encoder with a ToF head.

    "pointer": for each token a logit and two offsets, and "no echo" from their mean. "pooled", the paper's
    classifier (arXiv 2508.20622): one linear layer on the mean token; it says nothing of the place within a
    patch, so its offsets are the middle.

    Output (b, 3l + 1): l class logits of the onset, the "no echo" logit, l offsets of the onset from each
    patch's start in patches, and l of the arrival, as asinh of the same. One tensor, so that every runtime
    has one signature.
    """

    def __init__(self, spec: SignalSpec, config: MAEConfig) -> None:
        super().__init__()
        self.encoder = build_encoder(spec, config)
        self.pooled = config.head == "pooled"
        if self.pooled:
            self.classes = nn.Linear(config.d_model, spec.n_patches + 1)
        else:
            self.pointer = nn.Linear(config.d_model, 3)
            self.no_echo = nn.Linear(config.d_model, 1)

    def forward(self, x: Tensor, places: Tensor | None = None) -> Tensor:
        """(b, l·p) → (b, 3l + 1); with the transformer and the pointer, (b, 3k + 1) of ``places (b, k)``."""
        return self.answers(self.encoder.tokens(x) if places is None else self.encoder(x, places))

    def answers(self, tokens: Tensor) -> Tensor:
        """What the head says of ``tokens (b, k, d)``: (b, 3k + 1)."""
        if self.pooled:
            logits = self.classes(tokens.mean(dim=1))
            middle = torch.full_like(logits[:, 1:], 0.5)
            return torch.cat([logits, middle, middle], dim=1)
        logits, onsets, arrivals = self.pointer(tokens).unbind(dim=2)
        return torch.cat([logits, self.no_echo(tokens.mean(dim=1)), onsets, arrivals], dim=1)


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


def tof_loss(out: Tensor, onset: Tensor, arrival: Tensor, places: Tensor | None = None) -> Tensor:
    """Cross-entropy over patches and "no echo", plus Huber losses on the offsets of onset and arrival.

    ``out (b, 3l + 1)``; ``onset`` and ``arrival (b,)`` in patches, NaN = no echo, or arrival unknown.
    With ``places (b, k)``, out is of these patches alone, spread over all (``spread``): an onset in none of
    them is to be told by a neighbour, or else none of them may be surer than another.
    """
    length = patches_of(out.shape[1])
    logits, onsets, arrivals = torch.split(out.float(), [length + 1, length, length], dim=1)
    empty = onset.isnan()
    patch = onset.nan_to_num(0.0).long().clamp(0, length - 1)
    seen = torch.ones_like(onsets)
    if places is None:
        classes = F.cross_entropy(logits, torch.where(empty, length, patch))
    else:
        seen = torch.zeros_like(onsets).scatter_(1, places, 1.0)
        classes = F.cross_entropy(logits, _told(patch, empty, seen))
    return (classes + ONSET_WEIGHT * _offset_loss(onsets, patch, onset, seen)
            + ARRIVAL_WEIGHT * _offset_loss(arrivals, patch, arrival, seen, torch.asinh))


def _told(patch: Tensor, empty: Tensor, seen: Tensor) -> Tensor:
    """Class probabilities (b, l + 1) that answers on the patches ``seen (b, l)`` are to have."""
    length = seen.shape[1]
    target = seen.new_zeros(len(seen), length + 1)
    target[:, length] = empty.float()
    left = ~empty
    for step in (0, 1, -1):
        near = (patch + step).clamp(0, length - 1)[:, None]
        found = left & (seen.gather(1, near)[:, 0] > 0)
        target.scatter_add_(1, near, found[:, None].float())
        left = left & ~found
    target[:, :length] += left[:, None] * seen / seen.sum(dim=1, keepdim=True)
    return target


def spread(out: Tensor, places: Tensor, length: int) -> Tensor:
    """Answers (b, 3k + 1) on the patches ``places (b, k)`` as answers (b, 3l + 1) on all ``length``."""
    b, k = places.shape
    logits, onsets, arrivals = torch.split(out, [k + 1, k, k], dim=1)
    parts = [(logits[:, :k], UNSEEN), (onsets, 0.0), (arrivals, 0.0)]
    whole = [out.new_full((b, length), fill).scatter(1, places, part) for part, fill in parts]
    return torch.cat([whole[0], logits[:, k:], *whole[1:]], dim=1)


def _offset_loss(offsets: Tensor, patch: Tensor, place: Tensor, seen: Tensor,
                 as_told: Callable[[Tensor], Tensor] = lambda offset: offset) -> Tensor:
    """Huber loss on the offsets of ``patch (b,)`` and its two neighbours (half weight), which keeps the place
    right when the class is one off; rows whose ``place (b,)`` is NaN are left out, and patches not ``seen``.
    """
    near = (patch[:, None] + torch.arange(-1, 2, device=offsets.device)).clamp(0, offsets.shape[1] - 1)
    known = ~place.isnan()
    error = offsets.gather(1, near) - as_told(place.nan_to_num(0.0)[:, None] - near)
    weight = torch.tensor([0.5, 1.0, 0.5], device=offsets.device) * known[:, None] * seen.gather(1, near)
    huber = F.smooth_l1_loss(error, torch.zeros_like(error), beta=0.05, reduction="none")
    return (huber * weight).sum() / weight.sum().clamp_min(1.0)


def build(kind: str, spec: SignalSpec, config: MAEConfig) -> Model:
    """The model of a checkpoint's ``kind``: "mae", "tof" or "presence"."""
    kinds: dict[str, type[Model]] = {"mae": MaskedAutoencoder, "tof": ToFNet, "presence": PresenceNet}
    if kind not in kinds:
        raise InputError(f"model kind {kind!r} is unknown.", f"Known: {', '.join(kinds)}.")
    return kinds[kind](spec, config)
