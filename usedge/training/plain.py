"""The same masked autoencoder in its textbook form: what ``usedge bench training`` measures ours against.

Written as He et al. 2022 (arXiv 2111.06377, section 3) describe it: every patch is embedded and the visible
ones are gathered; mask tokens fill the places of all removed ones; tokens are un-shuffled; torch's fused
attention; an error for every patch, averaged under the mask. Parameters bear the names of ours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usedge.errors import InputError
from usedge.models.config import MAEConfig
from usedge.models.mae import sine_positions
from usedge.spec import SignalSpec


class PlainBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, c: MAEConfig) -> None:
        super().__init__()
        self.heads, inner = c.heads, c.heads * c.d_head
        self.norm1 = nn.LayerNorm(c.d_model)
        self.qkv = nn.Linear(c.d_model, 3 * inner)
        self.proj = nn.Linear(inner, c.d_model)
        self.norm2 = nn.LayerNorm(c.d_model)
        self.fc1 = nn.Linear(c.d_model, c.mlp_hidden)
        self.fc2 = nn.Linear(c.mlp_hidden, c.d_model)

    def forward(self, z: Tensor) -> Tensor:
        """(b, l, d) → (b, l, d)."""
        b, length, _ = z.shape
        q, k, v = self.qkv(self.norm1(z)).view(b, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v)
        z = z + self.proj(attended.transpose(1, 2).reshape(b, length, -1))
        out: Tensor = z + self.fc2(F.gelu(self.fc1(self.norm2(z))))
        return out


class PlainEncoder(nn.Module):
    """The encoder's parameters; ``PlainMAE`` says what is done with them."""

    def __init__(self, spec: SignalSpec, c: MAEConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(spec.patch, c.d_model)
        self.position = nn.Parameter(sine_positions(spec.n_patches, c.d_model))
        self.blocks = nn.Sequential(*(PlainBlock(c) for _ in range(c.encoder_layers)))
        self.norm = nn.LayerNorm(c.d_model)


class PlainMAE(nn.Module):
    """``MaskedAutoencoder`` of a recipe that predicts RF alone, all removed patches of it.

    Raises InputError for any other pretext.
    """

    def __init__(self, spec: SignalSpec, config: MAEConfig) -> None:
        super().__init__()
        c = config
        if (c.recipe, c.rf_weight, c.envelope_weight, c.decoded_share) != ("mae", 1, 0, 1):
            raise InputError("the plain form predicts the RF of all removed patches, nothing else.",
                             "Give a recipe like paper.")
        self.patch, self.length, self.norm_patches = spec.patch, spec.n_patches, config.norm_patches
        self.keep = round(spec.n_patches * (1 - config.mask_ratio))
        self.encoder = PlainEncoder(spec, config)
        self.decoder_embed = nn.Linear(config.d_model, config.d_model)
        self.mask_token = nn.Parameter(torch.zeros(config.d_model))
        self.decoder_position = nn.Parameter(sine_positions(spec.n_patches, config.d_model))
        self.decoder = nn.Sequential(*(PlainBlock(config) for _ in range(config.decoder_layers)))
        self.decoder_norm = nn.LayerNorm(config.d_model)
        self.decoder_out = nn.Linear(config.d_model, spec.patch)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Loss of ``x (b, l·p)`` under a fresh random mask: that of ours with the same generator."""
        patches = x.view(x.shape[0], self.length, self.patch)
        latent, mask, restore = self.forward_encoder(patches, generator)
        return self.forward_loss(patches, self.forward_decoder(latent, restore), mask)

    def forward_encoder(self, patches: Tensor, generator: torch.Generator | None
                        ) -> tuple[Tensor, Tensor, Tensor]:
        """(b, l, p) → latent (b, k, d), mask (b, l), 1 = removed, and the order (b, l) that un-shuffles."""
        tokens = self.encoder.embed(patches) + self.encoder.position
        shuffle = torch.rand(tokens.shape[:2], generator=generator).argsort(dim=1)
        restore = shuffle.argsort(dim=1)
        visible = tokens.gather(1, shuffle[:, : self.keep, None].expand(-1, -1, tokens.shape[2]))
        mask = torch.ones(tokens.shape[:2])
        mask[:, : self.keep] = 0
        latent: Tensor = self.encoder.norm(self.encoder.blocks(visible))
        return latent, mask.gather(1, restore), restore

    def forward_decoder(self, latent: Tensor, restore: Tensor) -> Tensor:
        """Latent (b, k, d) → predicted patches (b, l, p), in their places."""
        z = self.decoder_embed(latent)
        masked = self.mask_token.to(z.dtype).expand(z.shape[0], self.length - self.keep, -1)
        z = torch.cat([z, masked], dim=1).gather(1, restore[..., None].expand(-1, -1, z.shape[2]))
        predicted: Tensor = self.decoder_out(self.decoder_norm(self.decoder(z + self.decoder_position)))
        return predicted

    def forward_loss(self, patches: Tensor, predicted: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error over the removed patches."""
        target = patches
        if self.norm_patches:
            deviation = patches.var(dim=2, keepdim=True).add(1e-6).sqrt()
            target = (patches - patches.mean(dim=2, keepdim=True)) / deviation
        error = (predicted - target).square().mean(dim=2)
        return (error * mask).sum() / mask.sum()
