"""The masked autoencoder on A-scans: encoder, decoder and its three pretexts, the papers' steps by name.

Architecture: arXiv 2508.20622, method summary: patch 32, mask ratio 75 %; encoder d_model 128, 4 heads of
d_head 64 (so W is in R^(128 × 256) and attention is not square), 6 layers; decoder the same width, 2 layers;
the encoder sees visible patches alone. MAE steps: He et al. 2022, arXiv 2111.06377, section 3. Deblurring:
arXiv 2306.08249, section 2.2.

Shapes: b A-scans, l = 64 patches of p = 32 samples, d = 128. Masks: 1 = removed, 0 = visible.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usedge.errors import InputError
from usedge.models.config import MAEConfig
from usedge.models.stem import Stem
from usedge.spec import SignalSpec

ENERGY_FLOOR = 1e-5
"""Mean square, full scale being 1, below which a bin of the envelope counts as silent: −50 dB."""


def sine_positions(length: int, d_model: int) -> Tensor:
    """Sine–cosine positions (length, d_model), periods 2π … 2π·1000, scaled by 0.5."""
    place = torch.arange(length, dtype=torch.float32)[:, None]
    rate = torch.exp(-math.log(1000.0) * torch.arange(d_model // 2) / (d_model // 2))
    return 0.5 * torch.cat([torch.sin(place * rate), torch.cos(place * rate)], dim=1)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention of ``q, k, v (b, heads, l, d_head)``.

    Written out for bf16 on a CPU: at these lengths more than half of a training step went into the backward
    pass of torch 2.13's fused kernel (``usedge bench training`` compares the two).
    """
    if q.device.type != "cpu" or q.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(q, k, v)
    weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(dim=-1)
    attended: Tensor = weights.to(v.dtype) @ v
    return attended


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

    def _heads(self, z: Tensor) -> Tensor:
        b, length, _ = z.shape
        flat: Tensor = self.qkv(self.norm1(z))
        return flat.view(b, length, 3, self.heads, self.d_head).permute(2, 0, 3, 1, 4)

    def forward(self, z: Tensor) -> Tensor:
        """(b, l, d) → (b, l, d)."""
        b, length, _ = z.shape
        qkv = self._heads(z)
        attended = attend(qkv[0], qkv[1], qkv[2])
        z = z + self.proj(attended.transpose(1, 2).reshape(b, length, -1))
        out: Tensor = z + self.fc2(F.gelu(self.fc1(self.norm2(z))))
        return out

    def attention(self, z: Tensor) -> Tensor:
        """The weights (b, heads, l, l) with which each token of ``z (b, l, d)`` looks at each other."""
        q, k, _ = self._heads(z)
        weights: Tensor = (q @ k.transpose(-1, -2) * self.d_head**-0.5).softmax(dim=-1)
        return weights


class Encoder(nn.Module):
    """Patches to tokens: embedding, stem, positions, blocks, norm."""

    def __init__(self, spec: SignalSpec, c: MAEConfig) -> None:
        super().__init__()
        self.patch, self.length = spec.patch, spec.n_patches
        self.embed = nn.Linear(spec.patch, c.d_model)
        if c.stem == "conv":
            self.stem: Stem | None = Stem(spec, c.d_model)
        else:
            self.stem = None
        self.position = nn.Parameter(sine_positions(spec.n_patches, c.d_model))
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.encoder_layers))
        self.norm = nn.LayerNorm(c.d_model)

    def patchify(self, x: Tensor) -> Tensor:
        """(b, l·p) → (b, l, p)."""
        return x.view(x.shape[0], self.length, self.patch)

    def embedded(self, x: Tensor, places: Tensor | None = None) -> Tensor:
        """(b, l·p) → embeddings and positions (b, k, d) of the patches ``places (b, k)``, or of all l."""
        patches = self.patchify(x)
        if places is None:
            z: Tensor = self.embed(patches) + self.position
            return z if self.stem is None else z + self.stem(x)
        z = self.embed(_taken(patches, places)) + self.position[places]
        return z if self.stem is None else z + _taken(self.stem(x), places)

    def forward(self, x: Tensor, places: Tensor | None = None) -> Tensor:
        """(b, l·p) → tokens (b, k, d) of the patches ``places (b, k)``, or of all l.

        A stem sees the whole of ``x``: what must not be seen has to be silenced before.
        """
        z = self.embedded(x, places)
        for block in self.blocks:
            z = block(z)
        normed: Tensor = self.norm(z)
        return normed

    def tokens(self, x: Tensor) -> Tensor:
        """(b, l·p) → all tokens (b, l, d): what a head reads."""
        whole: Tensor = self(x)
        return whole

    def attention(self, x: Tensor) -> Tensor:
        """Attention weights (layers, b, heads, l, l) of ``x (b, l·p)``."""
        z, maps = self.embedded(x), []
        for each in self.blocks:
            block = cast("Block", each)
            maps.append(block.attention(z))
            z = block(z)
        return torch.stack(maps)


class Masking(NamedTuple):
    """Patch indices: ``visible (b, k)``, and ``removed (b, r)``, those removed ones that are decoded."""

    visible: Tensor
    removed: Tensor


class MaskedAutoencoder(nn.Module):
    """Pretraining: reconstruct an A-scan from a few of its patches, blurred or noisy ones where asked.

    Raises InputError for a mask ratio that leaves no visible or no removed patch, envelope bins that do not
    divide the patch, or patches of one sample to be standardised.
    """

    def __init__(self, spec: SignalSpec, config: MAEConfig) -> None:
        super().__init__()
        self.config, self.rf_width = config, spec.patch if config.rf_weight else 0
        self.keep = round(spec.n_patches * (1 - config.mask_ratio))
        if not 0 < self.keep < spec.n_patches:
            raise InputError(f"mask ratio {config.mask_ratio} leaves {self.keep} of {spec.n_patches}.",
                             "At least one patch must stay and one must go.")
        if spec.patch % config.envelope_bins:
            raise InputError(f"{config.envelope_bins} envelope bins do not divide a patch of {spec.patch}.")
        if spec.patch == 1 and config.norm_patches:
            raise InputError("a patch of 1 sample has no deviation to standardise it by.",
                             "Set model.norm_patches=false, or give a larger --patch.")
        self.encoder: Encoder = Encoder(spec, config)
        self.decoder_embed = nn.Linear(config.d_model, config.d_model)
        self.mask_token = nn.Parameter(torch.zeros(config.d_model))
        self.decoder_position = nn.Parameter(sine_positions(spec.n_patches, config.d_model))
        self.decoder = nn.ModuleList(Block(config) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(config.d_model)
        envelope_width = config.envelope_bins if config.envelope_weight else 0
        self.decoder_out = nn.Linear(config.d_model, self.rf_width + envelope_width)
        nn.init.normal_(self.mask_token, std=0.02)

    def random_masking(self, b: int, generator: torch.Generator | None = None, all_of_them: bool = False
                       ) -> Masking:
        """Fresh visible patches for ``b`` A-scans, and the removed ones to decode (``decoded_share``)."""
        length = self.encoder.length
        share = 1.0 if all_of_them else self.config.decoded_share
        decoded = max(1, round((length - self.keep) * share))
        shuffled = torch.rand(b, length, generator=generator).argsort(dim=1).to(self.mask_token.device)
        return Masking(shuffled[:, : self.keep], shuffled[:, self.keep : self.keep + decoded])

    def forward_encoder(self, x: Tensor, visible: Tensor) -> Tensor:
        """(b, l·p), visible (b, k) → latent (b, k, d)."""
        if self.encoder.stem is not None:
            kept = torch.zeros(x.shape[0], self.encoder.length, 1, device=x.device, dtype=x.dtype)
            x = (self.encoder.patchify(x) * kept.scatter_(1, visible[..., None], 1.0)).view_as(x)
        latent: Tensor = self.encoder(x, visible)
        return latent

    def forward_decoder(self, latent: Tensor, masking: Masking) -> Tensor:
        """Latent (b, k, d) → predictions (b, k + r, out) for the visible patches, then the removed ones.

        Tokens carry their positions, so their order is free and none has to be put back in its place.
        """
        z = self.decoder_embed(latent)
        masked = (self.mask_token + self.decoder_position[masking.removed]).to(z.dtype)
        z = torch.cat([z + self.decoder_position[masking.visible], masked], dim=1)
        for block in self.decoder:
            z = block(z)
        predicted: Tensor = self.decoder_out(self.decoder_norm(z))
        return predicted

    def targets(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """What is to be predicted of ``patches (b, r, p)``: RF (b, r, p), log energy (b, r, bins)."""
        rf = patches
        if self.config.norm_patches:
            deviation = patches.var(dim=2, keepdim=True).add(1e-6).sqrt()
            rf = (patches - patches.mean(dim=2, keepdim=True)) / deviation
        return rf, log_energy(patches, self.config.envelope_bins)

    def forward_loss(self, x: Tensor, predicted: Tensor, masking: Masking) -> Tensor:
        """Mean squared error over the removed patches; with deblurring and denoising over all patches.

        Removed patches count in full where only some of them were decoded (``decoded_share``).
        """
        weight, k = self.config.visible_weight, masking.visible.shape[1]
        if weight is None:
            weight = float(self.config.recipe != "mae")
        rest = self._error(x, predicted[:, k:], masking.removed)
        if not weight:
            return rest
        seen = self._error(x, predicted[:, :k], masking.visible)
        removed = self.encoder.length - k
        return (weight * k * seen + removed * rest) / (weight * k + removed)

    def _error(self, x: Tensor, predicted: Tensor, places: Tensor) -> Tensor:
        rf, energy = self.targets(_taken(self.encoder.patchify(x), places))
        predicted, loss = predicted.float(), x.new_zeros(())
        if self.config.rf_weight:
            loss = loss + self.config.rf_weight * F.mse_loss(predicted[..., : self.rf_width], rf)
        if self.config.envelope_weight:
            loss = loss + self.config.envelope_weight * F.mse_loss(predicted[..., self.rf_width :], energy)
        return loss

    def forward(self, x: Tensor, generator: torch.Generator | None = None, clean: Tensor | None = None
                ) -> Tensor:
        """Loss of ``x (b, l·p)`` under a fresh random mask; ``clean`` is what x was before its blur.

        Blur → mask → encode → decode → error against ``clean`` (arXiv 2306.08249, eq. 1); with "denoise" x
        gets white noise of ``noise_sigma`` instead.
        """
        target = x if clean is None else clean
        if self.config.recipe == "denoise":
            noise = torch.randn(x.shape, generator=generator).to(x.device)
            x = x + self.config.noise_sigma * noise
        masking = self.random_masking(x.shape[0], generator)
        predicted = self.forward_decoder(self.forward_encoder(x, masking.visible), masking)
        return self.forward_loss(target, predicted, masking)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, generator: torch.Generator | None = None, clean: Tensor | None = None
                    ) -> tuple[Tensor, Tensor]:
        """RF predicted for each patch (b, l, p), and the mask (b, l); raises InputError without RF target.

        Standardised targets are given back each true patch's mean and deviation, as He et al. do for display.
        """
        if not self.config.rf_weight:
            raise InputError("this autoencoder predicts no RF (rf_weight 0).", "Nothing can be drawn of it.")
        masking = self.random_masking(x.shape[0], generator, all_of_them=True)
        predicted = self.forward_decoder(self.forward_encoder(x, masking.visible), masking)
        places = torch.cat([masking.visible, masking.removed], dim=1)
        patches = self.encoder.patchify(x if clean is None else clean)
        rf = torch.zeros_like(patches).scatter_(
            1, places[..., None].expand(-1, -1, patches.shape[2]), predicted[..., : self.rf_width].float())
        if self.config.norm_patches:
            rf = rf * patches.var(dim=2, keepdim=True).add(1e-6).sqrt() + patches.mean(dim=2, keepdim=True)
        mask = torch.zeros(patches.shape[:2], device=x.device).scatter_(1, masking.removed, 1.0)
        return rf, mask


def log_energy(patches: Tensor, bins: int) -> Tensor:
    """Log energy (b, r, bins) of equal parts of ``patches (b, r, p)``: 0 at full scale, −1 a decade below."""
    b, r, p = patches.shape
    energy = patches.view(b, r, bins, p // bins).square().mean(dim=3)
    return 0.5 * torch.log10(energy + ENERGY_FLOOR)


def _taken(patches: Tensor, places: Tensor) -> Tensor:
    """The ``places (b, r)`` of ``patches (b, l, p)``: (b, r, p)."""
    return patches.gather(1, places[..., None].expand(-1, -1, patches.shape[2]))
