"""Where the tokens of an encoder look, in figures: near or far, at the echo or beside it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from usedge.models.mae import MaskedAutoencoder
from usedge.training.report.words import table
from usedge.training.stream import Batch

Floats = NDArray[np.float32]
AT_ONCE = 8
"""A-scans in memory together: at patch 8 the maps of one take 6 MB."""
LOUD = 0.1
"""An echo patch has at least this share of the loudest patch's energy."""


class Looks(NamedTuple):
    """``maps (layers, l, l)``: mean over A-scans and heads; ``example (layers, l, l)``: one A-scan's.

    ``echo (layers + 1, 3)``: of echo patches the share within ±1 token and onto echo patches, of the others
    the share onto echo patches; the last row is what uniform attention would give.
    """

    maps: Floats
    example: Floats
    echo: Floats


@torch.no_grad()
def attention(model: MaskedAutoencoder, pool: Batch, example: int) -> Looks:
    """Attention over ``pool``, and the maps of its row ``example``.

    All patches are visible, as they are downstream.
    """
    total, shares, one = None, [], None
    for first in range(0, len(pool), AT_ONCE):
        x = pool.x[first : first + AT_ONCE]
        weights = model.encoder.attention(x).mean(dim=2)
        total = weights.double().sum(dim=1) if total is None else total + weights.double().sum(dim=1)
        shares.append(_echo_shares(weights, _loud(model.encoder.patchify(x))))
        if first <= example < first + AT_ONCE:
            one = weights[:, example - first].numpy()
    assert total is not None
    assert one is not None
    sums, counts = (torch.stack(part).sum(dim=0) for part in zip(*shares, strict=True))
    return Looks((total / len(pool)).float().numpy(), one, (sums / counts.clamp_min(1.0)).float().numpy())


def _loud(patches: Tensor) -> Tensor:
    energy = patches.square().mean(dim=2)
    return energy > LOUD * energy.amax(dim=1, keepdim=True)


def _echo_shares(weights: Tensor, loud: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over tokens (layers + 1, 3) and their number (3,), of ``weights (layers, b, l, l)``."""
    length = loud.shape[1]
    both = torch.cat([weights, torch.full_like(weights[:1], 1.0 / length)]).double()
    place = torch.arange(length)
    near = (both * ((place[:, None] - place).abs() <= 1)).sum(dim=3)
    onto = (both * loud[:, None, :]).sum(dim=3)
    parts = ((near, loud), (onto, loud), (onto, ~loud))
    sums = torch.stack([(share * chosen).sum(dim=(1, 2)) for share, chosen in parts], dim=1)
    return sums, torch.stack([chosen.sum().double() for _, chosen in parts])


def by_distance(maps: Floats) -> Floats:
    """Share of the attention at each distance in tokens: (layers, l) from ``maps (layers, l, l)``."""
    length = maps.shape[1]
    place = np.arange(length)
    apart = np.abs(place[:, None] - place[None, :])
    return np.stack([maps[:, apart == d].sum(axis=1) / length for d in range(length)], axis=1)


def uniform(length: int) -> Floats:
    """The same for attention that looks everywhere alike: (1, l)."""
    return by_distance(np.full((1, length, length), 1.0 / length, np.float32))


def near_and_mean(shares: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
    """Share within ±1 token and mean distance in tokens, of ``shares (layers, l)``."""
    return shares[:, :2].sum(axis=1), shares @ np.arange(shares.shape[1])


def measures(looks: Looks) -> str:
    """All measures by layer, beside uniform attention."""
    length = looks.maps.shape[1]
    near, mean = near_and_mean(np.concatenate([by_distance(looks.maps), uniform(length)]))
    names = [*(str(layer + 1) for layer in range(len(looks.maps))), "uniform attention"]
    rows = [[name, f"{100 * near[i]:.1f} %", f"{mean[i]:.1f}", *(f"{100 * v:.1f} %" for v in looks.echo[i])]
            for i, name in enumerate(names)]
    return table(("encoder layer", "within ±1 token", "mean distance (tokens)",
                  "echo patches: within ±1 token", "echo patches: onto echo patches",
                  "other patches: onto echo patches"), rows)
