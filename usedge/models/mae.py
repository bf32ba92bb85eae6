"""The masked autoencoder on A-scans and the ToF network on its encoder. One file, the paper's steps by name.

Architecture: arXiv 2508.20622, method summary: patch 32, mask ratio 75 %; encoder d_model 128, 4 heads of
d_head 64 (so W is in R^(128 × 256) and attention is not square), 6 layers; decoder the same width, 2 layers;
the encoder sees visible patches alone. MAE steps: He et al. 2022, arXiv 2111.06377, section 3.

Shapes: b A-scans, l = 64 patches of p = 32 samples, d = 128. Masks: 1 = removed, 0 = visible.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usedge.errors import InputError
from usedge.spec import SignalSpec


@dataclass(frozen=True, slots=True)
class MAEConfig:
    """Sizes of encoder and decoder; the defaults are the paper's 1.2 M-parameter encoder."""

    d_model: int = 128
    heads: int = 4
    d_head: int = 64
    mlp_hidden: int = 256
    encoder_layers: int = 6
    decoder_layers: int = 2
    mask_ratio: float = 0.75
    norm_patches: bool = True
    """Standardise each target patch (He et al., section 4.1): quiet patches count as much as loud ones."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)


def sine_positions(length: int, d_model: int) -> Tensor:
    """Sine–cosine positions (length, d_model), periods 2π … 2π·1000, scaled by 0.5."""
    place = torch.arange(length, dtype=torch.float32)[:, None]
    rate = torch.exp(-math.log(1000.0) * torch.arange(d_model // 2) / (d_model // 2))
    return 0.5 * torch.cat([torch.sin(place * rate), torch.cos(place * rate)], dim=1)


class Block(nn.Module):
    """Pre-norm transformer block: non-square attention (d → heads · d_head → d), then an MLP."""

    def __init__(self, c: MAEConfig) -> None:
        super().__init__()
        self.heads, self.d_head = c.heads, c.d_head
        inner = c.heads * c.d_head
        self.norm1 = nn.LayerNorm(c.d_model)
        self.qkv = nn.Linear(c.d_model, 3 * inner)
        self.proj = nn.Linear(inner, c.d_model)
        self.norm2 = nn.LayerNorm(c.d_model)
        self.fc1 = nn.Linear(c.d_model, c.mlp_hidden)
        self.fc2 = nn.Linear(c.mlp_hidden, c.d_model)

    def forward(self, z: Tensor) -> Tensor:
        """(b, l, d) → (b, l, d)."""
        b, length, _ = z.shape
        qkv = self.qkv(self.norm1(z)).view(b, length, 3, self.heads, self.d_head).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        z = z + self.proj(attended.transpose(1, 2).reshape(b, length, -1))
        out: Tensor = z + self.fc2(F.gelu(self.fc1(self.norm2(z))))
        return out


class Encoder(nn.Module):
    """Patches to tokens: embedding, positions, blocks, norm."""

    def __init__(self, spec: SignalSpec, c: MAEConfig) -> None:
        super().__init__()
        self.patch, self.length = spec.patch, spec.n_patches
        self.embed = nn.Linear(spec.patch, c.d_model)
        self.position = nn.Parameter(sine_positions(spec.n_patches, c.d_model))
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.encoder_layers))
        self.norm = nn.LayerNorm(c.d_model)

    def patchify(self, x: Tensor) -> Tensor:
        """(b, l·p) → (b, l, p)."""
        return x.view(x.shape[0], self.length, self.patch)

    def forward(self, patches: Tensor, visible: Tensor | None = None) -> Tensor:
        """(b, l, p) → (b, k, d): all l tokens, or the k of the patch indices ``visible (b, k)``."""
        z = self.embed(patches) + self.position
        if visible is not None:
            z = z.gather(1, visible[..., None].expand(-1, -1, z.shape[2]))
        for block in self.blocks:
            z = block(z)
        normed: Tensor = self.norm(z)
        return normed


class MaskedAutoencoder(nn.Module):
    """Pretraining: reconstruct the removed patches of an A-scan from the visible ones."""

    def __init__(self, spec: SignalSpec, config: MAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(spec, config)
        self.decoder_embed = nn.Linear(config.d_model, config.d_model)
        self.mask_token = nn.Parameter(torch.zeros(config.d_model))
        self.decoder_position = nn.Parameter(sine_positions(spec.n_patches, config.d_model))
        self.decoder = nn.ModuleList(Block(config) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(config.d_model)
        self.decoder_out = nn.Linear(config.d_model, spec.patch)
        nn.init.normal_(self.mask_token, std=0.02)

    def random_masking(
        self, b: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Visible patch indices (b, k), the order that restores all l tokens (b, l), and the mask (b, l)."""
        length = self.encoder.length
        keep = round(length * (1 - self.config.mask_ratio))
        shuffled = torch.rand(b, length, generator=generator).argsort(dim=1)
        restore = shuffled.argsort(dim=1)
        device = self.mask_token.device
        return shuffled[:, :keep].to(device), restore.to(device), (restore >= keep).float().to(device)

    def forward_encoder(self, x: Tensor, visible: Tensor) -> Tensor:
        """(b, l·p), visible (b, k) → latent (b, k, d)."""
        latent: Tensor = self.encoder(self.encoder.patchify(x), visible)
        return latent

    def forward_decoder(self, latent: Tensor, restore: Tensor) -> Tensor:
        """Latent (b, k, d) → predicted patches (b, l, p)."""
        z = self.decoder_embed(latent)
        b, k, d = z.shape
        masked = self.mask_token.to(z.dtype).expand(b, restore.shape[1] - k, d)
        z = torch.cat([z, masked], dim=1).gather(1, restore[..., None].expand(-1, -1, d))
        z = z + self.decoder_position
        for block in self.decoder:
            z = block(z)
        predicted: Tensor = self.decoder_out(self.decoder_norm(z))
        return predicted

    def forward_loss(self, x: Tensor, predicted: Tensor, mask: Tensor) -> Tensor:
        """Mean squared error over the removed patches alone."""
        target = self.encoder.patchify(x)
        if self.config.norm_patches:
            deviation = target.var(dim=2, keepdim=True).add(1e-6).sqrt()
            target = (target - target.mean(dim=2, keepdim=True)) / deviation
        error = (predicted.float() - target).square().mean(dim=2)
        return (error * mask).sum() / mask.sum()

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Loss of ``x (b, l·p)`` under a fresh random mask."""
        visible, restore, mask = self.random_masking(x.shape[0], generator)
        return self.forward_loss(x, self.forward_decoder(self.forward_encoder(x, visible), restore), mask)


class ToFNet(nn.Module):
    """The encoder with a pointer head: for each token a logit and an offset, and "no echo" from their mean.

    Output (b, 2l + 1): l class logits, the "no echo" logit, l offsets of the onset from each patch's start,
    in patches. One tensor, so that every runtime has one signature.
    """

    def __init__(self, spec: SignalSpec, config: MAEConfig) -> None:
        super().__init__()
        self.encoder = Encoder(spec, config)
        self.pointer = nn.Linear(config.d_model, 2)
        self.no_echo = nn.Linear(config.d_model, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b, l·p) → (b, 2l + 1)."""
        tokens = self.encoder(self.encoder.patchify(x))
        pointed = self.pointer(tokens)
        return torch.cat([pointed[..., 0], self.no_echo(tokens.mean(dim=1)), pointed[..., 1]], dim=1)


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


def build(kind: str, spec: SignalSpec, config: MAEConfig) -> MaskedAutoencoder | ToFNet:
    """The model of a checkpoint's ``kind``: "mae" or "tof"."""
    if kind == "mae":
        return MaskedAutoencoder(spec, config)
    if kind == "tof":
        return ToFNet(spec, config)
    raise InputError(f"model kind {kind!r} is unknown.", "Known: mae, tof.")
