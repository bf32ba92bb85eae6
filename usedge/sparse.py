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
    # Of so few numbers a numpy call costs more than its work: few calls, and most of them in place.
    padded = _levels(x, patch)
    level = padded[:, BEFORE:]
    rows, length = level.shape
    behind = np.empty((rows, length + LEAD), np.float32)
    own, behind[:, length:] = behind[:, :length], -np.inf
    np.add(padded[:, :length], padded[:, 1 : 1 + length], out=own)
    for i in range(2, BEFORE):
        own += padded[:, i : i + length]
    own *= 1.0 / BEFORE
    np.subtract(level, own, out=own)
    np.maximum(own, 0.0, out=own)
    own *= RISE
    own += level
    told: Float32 = np.maximum(own, behind[:, 1 : 1 + length])
    for i in range(2, LEAD + 1):
        np.maximum(told, behind[:, i : i + length], out=told)
    return told


def _levels(x: Float32, patch: int) -> Float32:
    """Log energy of the patches of ``x (b, l·patch)``, BEFORE times the first ahead of them: (b, BEFORE + l).
    """
    patches = x.reshape(len(x), -1, patch)
    total = np.add.reduce(patches, axis=2)
    total *= total
    total *= 1.0 / patch
    energy = np.einsum("blp,blp->bl", patches, patches)
    energy -= total
    energy *= 1.0 / patch
    energy += QUIET
    levels = np.empty((len(x), BEFORE + patches.shape[1]), np.float32)
    np.log(energy, out=levels[:, BEFORE:])
    levels[:, :BEFORE] = levels[:, BEFORE : BEFORE + 1]
    return levels


def telling(x: Float32, patch: int, k: int) -> Places:
    """The ``k`` most telling patches of each of ``x (b, l·patch)``, in order of time: (b, k)."""
    told = worth(x, patch)
    chosen: Places = np.negative(told, out=told).argpartition(k - 1, axis=1)[:, :k]
    chosen.sort(axis=1)
    return chosen


def spread(out: Float32, places: Places, length: int) -> Float32:
    """Answers (b, 3k + 1) on the patches ``places (b, k)`` as answers (b, 3l + 1) on all ``length``."""
    b = len(places)
    whole = np.zeros((b, 3 * length + 1), np.float32)
    whole[:, :length] = UNSEEN
    no_echo = np.full((b, 1), length)
    columns = np.concatenate([places, no_echo, places + (length + 1), places + (2 * length + 1)], axis=1)
    whole[np.arange(b)[:, np.newaxis], columns] = out
    return whole


def few(infer: Ask, x: Float32, patch: int, k: int) -> Float32:
    """What ``infer`` says of the ``k`` most telling patches of ``x (1, l·patch)``, over all: (1, 3l + 1)."""
    places = telling(x, patch, k)
    return spread(infer(x, places), places, x.shape[1] // patch)
