"""The network as runtimes take it: convolutions as products over frames, and answers on a few patches."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from usedge.models.mae import Encoder
from usedge.models.nets import ToFNet
from usedge.models.stem import framed
from usedge.sparse import SHARES


class OfSome(nn.Module):
    """``x (1, l·p)`` and the patches ``places (1, k)`` to answers (1, 3k + 1), by gathers of whole rows."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """As ``ToFNet.forward``, of one A-scan."""
        model: Any = self.model
        encoder = model.encoder
        z = encoder.embed(encoder.patchify(x)[0].index_select(0, places[0]))
        z = z + encoder.position.index_select(0, places[0])
        if encoder.stem is not None:
            z = z + encoder.stem(x)[0].index_select(0, places[0])
        z = z[None]
        for block in encoder.blocks:
            z = block(z)
        answers: Tensor = model.answers(encoder.norm(z))
        return answers


def deployable(model: nn.Module) -> nn.Module:
    """A copy of ``model`` whose every operation the runtimes have as a product of matrices."""
    return framed(model)


def counts(model: nn.Module) -> tuple[int, ...]:
    """How many patches the variants of ``model`` can be asked about, besides all of them."""
    if not isinstance(model, ToFNet) or model.pooled or not isinstance(model.encoder, Encoder):
        return ()
    return tuple(model.encoder.length // share for share in SHARES)
