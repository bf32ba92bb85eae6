"""Sizes of the networks and the pretext that they are pretrained on: every number of a model, by name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from usedge.errors import InputError

RECIPES = ("mae", "deblur", "denoise")
BACKBONES = ("transformer", "cnn")
HEADS = ("pointer", "pooled")
STEMS = ("none", "conv")


@dataclass(frozen=True, slots=True)
class MAEConfig:
    """Sizes of encoder, decoder and head, and the pretext; by default the paper's 1.2 M-parameter encoder.

    Raises InputError for a number that no network can be built with, or an unknown name.
    """

    d_model: int = 128
    heads: int = 4
    d_head: int = 64
    mlp_hidden: int = 256
    encoder_layers: int = 6
    decoder_layers: int = 2
    mask_ratio: float = 0.75
    norm_patches: bool = True
    """Standardise each RF target patch (He et al., section 4.1): quiet patches count as much as loud ones."""
    recipe: str = "mae"
    """"mae": A-scans as they are; "deblur", "denoise": blurred, noisy ones, to be undone."""
    visible_weight: float | None = None
    """Weight of a visible patch in the loss, a removed one's being 1; by default 0 for "mae", else 1."""
    rf_weight: float = 1.0
    envelope_weight: float = 0.0
    """Weight of the log energy of each target patch, in ``envelope_bins`` parts."""
    envelope_bins: int = 2
    decoded_share: float = 1.0
    """Share of the removed patches that is decoded in a step; the decoder is most of the work."""
    noise_sigma: float = 0.1
    """Noise that "denoise" adds, full scale being 1."""
    backbone: str = "transformer"
    head: str = "pointer"
    stem: str = "none"
    """"conv": filters over the whole A-scan beside the patches' own embedding (``models.stem``)."""

    def __post_init__(self) -> None:
        for name in ("d_model", "heads", "d_head", "mlp_hidden", "encoder_layers", "envelope_bins"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)} is not positive.")
        if self.decoder_layers < 0 or self.d_model % 2:
            raise InputError(f"decoder_layers {self.decoder_layers} must not be negative, d_model"
                             f" {self.d_model} must be even.")
        if not 0 < self.mask_ratio < 1:
            raise InputError(f"mask ratio {self.mask_ratio} is not between 0 and 1.",
                             "Some patches must stay and some must go; the paper's is 0.75.")
        if not 0 < self.decoded_share <= 1:
            raise InputError(f"decoded_share {self.decoded_share} is not in 0 … 1.")
        weights = (self.rf_weight, self.envelope_weight)
        if not (all(0 <= weight < float("inf") for weight in weights) and any(weights)):
            raise InputError(f"rf_weight {self.rf_weight} and envelope_weight {self.envelope_weight} leave"
                             " nothing to predict.", "One of them must be positive.")
        for name in ("noise_sigma", "visible_weight"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} {getattr(self, name)} is negative or not finite.")
        for name, known in (("recipe", RECIPES), ("backbone", BACKBONES), ("head", HEADS),
                            ("stem", STEMS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} {getattr(self, name)!r} is unknown.", f"Known: {', '.join(known)}.")

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)
