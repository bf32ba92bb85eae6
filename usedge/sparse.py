"""Which patches of a gate are worth looking at: those where sound begins, and those just before.

An autoencoder that was pretrained on a quarter of its patches can do without many (arXiv 2111.06377, section
4.1, which trains so; here the same weights answer so). numpy alone, since this runs on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Places = NDArray[np.int64]
Ask = Callable[..., Float32]
"""A ``Backend.infer``: ``x (1, l·patch)`` → (1, 3l + 1), or with ``places (1, k)`` behind it (1, 3k + 1)."""

QUIET = 1e-4
"""AC energy of a patch, full scale being 1, below which all patches count as equally silent."""
RISE = 4.0
"""What a rise in log energy counts, beside the log energy itself."""
BEFORE = 3
"""Patches before it that a patch has risen from: their mean."""
LEAD = 2
"""Patches before a telling one that are as telling: an onset lies ahead of its echo."""
SHARES = (2, 4)
"""A half and a quarter of the patches: what training shows the network and variants answer on."""
UNSEEN = -30.0
"""Logit of a patch that was not looked at."""


class Glance(NamedTuple):
    """How a gate is looked at: its ``patches`` most telling patches first, and all of them where the place of
    an echo that these give has a probability under ``sure``.
    """

    patches: int
    sure: float


def worth(x: Float32, patch: int) -> Float32:
    """How telling each patch of ``x (b, l·patch)`` is, (b, l): log energy, and more so its rise."""
    patches = x.reshape(len(x), -1, patch)
    total = patches.sum(axis=2)
    energy = np.einsum("blp,blp->bl", patches, patches) - total * total * np.float32(1.0 / patch)
    level = np.log(energy * np.float32(1.0 / patch) + np.float32(QUIET))
    padded = np.concatenate([level[:, :1]] * BEFORE + [level], axis=1)
    length = level.shape[1]
    rise = level - sum(padded[:, i : i + length] for i in range(BEFORE)) * np.float32(1.0 / BEFORE)
    own = level + np.float32(RISE) * np.maximum(rise, np.float32(0.0))
    told: Float32 = own.copy()
    for ahead in range(1, LEAD + 1):
        np.maximum(told[:, :-ahead], own[:, ahead:], out=told[:, :-ahead])
    return told


def telling(x: Float32, patch: int, k: int) -> Places:
    """The ``k`` most telling patches of each of ``x (b, l·patch)``, in order of time: (b, k)."""
    chosen: Places = np.argpartition(-worth(x, patch), k - 1, axis=1)[:, :k]
    chosen.sort(axis=1)
    return chosen


def spread(out: Float32, places: Places, length: int) -> Float32:
    """Answers (b, 3k + 1) on the patches ``places (b, k)`` as answers (b, 3l + 1) on all ``length``."""
    b, k = places.shape
    whole = np.zeros((b, 3 * length + 1), np.float32)
    whole[:, :length] = UNSEEN
    whole[:, length] = out[:, k]
    for source, target in ((0, 0), (k + 1, length + 1), (2 * k + 1, 2 * length + 1)):
        np.put_along_axis(whole, places + target, out[:, source : source + k], axis=1)
    return whole


def few(infer: Ask, x: Float32, patch: int, k: int) -> Float32:
    """What ``infer`` says of the ``k`` most telling patches of ``x (1, l·patch)``, over all: (1, 3l + 1)."""
    places = telling(x, patch, k)
    return spread(infer(x, places), places, x.shape[1] // patch)
