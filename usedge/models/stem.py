"""A convolutional stem: what a patch holds, seen with its surroundings, before the transformer.

A linear embedding must learn each wavelet once for every place within a patch that it may begin at; shared
filters learn it once (Xiao et al. 2021, arXiv 2106.14881, section 4). Frames of 16 samples every 8, residual
blocks (He et al. 2016, arXiv 1512.03385, section 3), then half as many positions with more channels. Each
convolution is a matrix product over a frame of neighbouring positions, and so it runs on a device.

Shapes: b A-scans, n positions, c channels; channels come last.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usedge.errors import InputError
from usedge.spec import SignalSpec

FRAME, HOP = 16, 8
"""Samples that the first filters see, and from one position to the next."""
KERNEL = 5
NARROW, WIDE = 48, 64
"""Channels at every 8 samples, and at every 16."""
JOINED = 4
"""Positions at every 8 samples that one at every 16 is made of."""
BLOCKS = (2, 1)
"""Residual blocks at either."""


class Convolution(nn.Module):
    """Convolution and batch norm: (b, n, c) → (b, n / stride, width); beyond the ends there are zeros."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.before = (kernel - stride + 1) // 2
        self.behind = kernel - stride - self.before
        self.conv = nn.Conv1d(channels, width, kernel, stride, bias=False)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, z: Tensor) -> Tensor:
        """Along the positions of ``z``."""
        out: Tensor = self.norm(self.conv(F.pad(z.transpose(1, 2), (self.before, self.behind))))
        return out.transpose(1, 2)


class Framed(nn.Module):
    """A ``Convolution`` for the device: its norm folded into one matrix (width, kernel · c) over frames."""

    def __init__(self, trained: Convolution) -> None:
        super().__init__()
        conv, norm = trained.conv, trained.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        self.before, self.behind = trained.before, trained.behind
        self.kernel, self.stride = conv.kernel_size[0], conv.stride[0]
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        self.product = nn.Linear(self.kernel * conv.in_channels, conv.out_channels)
        with torch.no_grad():
            self.product.weight.copy_((conv.weight * gain[:, None, None]).transpose(1, 2).flatten(1))
            self.product.bias.copy_(norm.bias - norm.running_mean * gain)

    def forward(self, z: Tensor) -> Tensor:
        """Along the positions of ``z``, as ``Convolution`` in evaluation mode."""
        padded = F.pad(z, (0, 0, self.before, self.behind))
        last = z.shape[1] - self.stride + 1
        frames = [padded[:, i : i + last : self.stride] for i in range(self.kernel)]
        out: Tensor = self.product(torch.cat(frames, dim=2))
        return out


class Residual(nn.Module):
    """Two convolutions around a shortcut, (b, n, c) → (b, n, c)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = Convolution(width, width, KERNEL)
        self.conv2 = Convolution(width, width, KERNEL)

    def forward(self, z: Tensor) -> Tensor:
        """Of ``z``, rectified."""
        return F.relu(z + self.conv2(F.relu(self.conv1(z))))


class Stem(nn.Module):
    """A-scans (b, l·p) to what is added to their patches' embeddings, (b, l, d).

    Raises InputError for patches that are not made of whole positions.
    """

    def __init__(self, spec: SignalSpec, d_model: int) -> None:
        super().__init__()
        if spec.patch % (2 * HOP):
            raise InputError(f"the convolutional stem cannot make patches of {spec.patch} samples.",
                             f"Give a multiple of {2 * HOP}, or stem \"none\".")
        self.length = spec.n_patches
        self.frames = Convolution(1, NARROW, FRAME, HOP)
        self.narrow = nn.ModuleList(Residual(NARROW) for _ in range(BLOCKS[0]))
        self.join = Convolution(NARROW, WIDE, JOINED, 2)
        self.wide = nn.ModuleList(Residual(WIDE) for _ in range(BLOCKS[1]))
        self.out = nn.Linear(spec.patch // (2 * HOP) * WIDE, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """(b, l·p) → (b, l, d)."""
        z = F.relu(self.frames(x[:, :, None]))
        for block in self.narrow:
            z = block(z)
        z = F.relu(self.join(z))
        for block in self.wide:
            z = block(z)
        out: Tensor = self.out(z.reshape(x.shape[0], self.length, -1))
        return out


def framed(model: nn.Module) -> nn.Module:
    """A copy of ``model`` for the device: each ``Convolution`` as a ``Framed``."""
    model = copy.deepcopy(model).eval()
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Convolution):
                setattr(parent, name, Framed(child))
    return model
