"""From the network's numbers to a class and a place in the gate.

The network answers (b, 2l + 1): l class logits, the "no echo" logit, l offsets (see ``models/mae.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Pointed:
    """All (b,): ``label`` the onset's patch, ``place`` the onset in patches, ``p_no_echo`` the probability
    of no echo, ``confidence`` that of the likeliest patch and its two neighbours given that there is one.
    """

    label: NDArray[np.int64]
    place: Float32
    confidence: Float32
    p_no_echo: Float32


def decode(out: Float32) -> Pointed:
    """Read the network's answers ``out (b, 2l + 1)``."""
    length = (out.shape[1] - 1) // 2
    logits = out[:, : length + 1]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    row = np.arange(len(out))
    patch = p[:, :length].argmax(axis=1)
    place = np.clip(patch + out[row, length + 1 + patch], 0.0, length).astype(np.float32)
    p_no_echo = p[:, length]
    near = p[row, patch] + np.where(patch > 0, p[row, patch - 1], 0)
    near += np.where(patch < length - 1, p[row, np.minimum(patch + 1, length - 1)], 0)
    confidence = near / np.maximum(1.0 - p_no_echo, 1e-9)
    label = np.minimum(place.astype(np.int64), length - 1)
    return Pointed(label, place, np.minimum(confidence, 1.0), p_no_echo)
