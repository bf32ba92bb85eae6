"""The convolutional baseline: a residual network on A-scans that gives the same tokens as the encoder.

ResNet basic blocks (He et al. 2016, arXiv 1512.03385, section 3) in one dimension, kernel 9; stride 2 until
one step is one patch. About as many parameters as the transformer at patch 32 (1.2 M).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from usedge.errors import InputError
from usedge.models.config import MAEConfig
from usedge.models.mae import sine_positions
from usedge.spec import SignalSpec

KERNEL = 9
STEM_WIDTH = 32
WIDTHS = (48, 64, 96, 128, 128)
"""Channels after each halving beyond the stem's; further halvings have the last."""
BLOCKS = 2


class Residual(nn.Module):
    """Two convolutions around a shortcut; the first one halves the length where ``stride`` is 2."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(width_in, width, KERNEL, stride, KERNEL // 2, bias=False)
        self.norm1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, KERNEL, 1, KERNEL // 2, bias=False)
        self.norm2 = nn.BatchNorm1d(width)
        self.short = nn.Conv1d(width_in, width, 1, stride, bias=False) if stride != 1 else nn.Identity()

    def forward(self, z: Tensor) -> Tensor:
        """(b, width_in, n) → (b, width, n / stride)."""
        out: Tensor = self.short(z) + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(z)))))
        return F.relu(out)


class ConvEncoder(nn.Module):
    """A-scan to tokens (b, l, d), with positions added so that a pooling head can tell them apart.

    Raises InputError for a patch that is no power of two, or under 4 samples.
    """

    def __init__(self, spec: SignalSpec, c: MAEConfig) -> None:
        super().__init__()
        halvings = spec.patch.bit_length() - 1
        if spec.patch != 1 << halvings or halvings < 2:
            raise InputError(f"the CNN cannot make patches of {spec.patch}.", "Give a power of two from 4.")
        widths = [WIDTHS[min(i, len(WIDTHS) - 1)] for i in range(halvings - 1)]
        self.stem = nn.Sequential(nn.Conv1d(1, STEM_WIDTH, KERNEL, 2, KERNEL // 2, bias=False),
                                  nn.BatchNorm1d(STEM_WIDTH), nn.ReLU())
        layers: list[nn.Module] = []
        for width_in, width in zip([STEM_WIDTH, *widths], widths, strict=False):
            layers.append(Residual(width_in, width, 2))
            layers += [Residual(width, width, 1) for _ in range(BLOCKS - 1)]
        self.stages = nn.Sequential(*layers)
        self.out = nn.Linear(widths[-1], c.d_model)
        self.position = nn.Parameter(sine_positions(spec.n_patches, c.d_model))
        self.norm = nn.LayerNorm(c.d_model)

    def tokens(self, x: Tensor) -> Tensor:
        """(b, l·p) → all tokens (b, l, d): what a head reads."""
        z = self.out(self.stages(self.stem(x[:, None])).transpose(1, 2))
        normed: Tensor = self.norm(z + self.position)
        return normed
