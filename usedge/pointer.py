"""From the network's numbers to a class and a place in the gate.

The network answers (b, 2l + 1): l class logits, the "no echo" logit, l offsets (see ``models/nets.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

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


class Pointing(NamedTuple):
    """One answer of ``Pointed``."""

    label: int
    place: float
    confidence: float
    p_no_echo: float


def decode_one(row: Float32) -> Pointing:
    """Read one answer of the network, ``row (2l + 1,)``."""
    length = (len(row) - 1) // 2
    p = np.exp(row[: length + 1] - row[: length + 1].max())
    total = float(p.sum())
    patch = int(p[:length].argmax())
    # Rounded to float32 at once, so that label and place cannot fall on two sides of a patch edge.
    place = float(np.float32(min(max(patch + float(row[length + 1 + patch]), 0.0), float(length))))
    p_no_echo = float(p[length]) / total
    near = float(p[max(patch - 1, 0) : min(patch + 2, length)].sum()) / total
    confidence = max(0.0, min(near / max(1.0 - p_no_echo, 1e-9), 1.0))
    return Pointing(min(int(place), length - 1), place, confidence, p_no_echo)


def decode(out: Float32) -> Pointed:
    """Read the network's answers ``out (b, 2l + 1)``."""
    label, place, confidence, p_no_echo = zip(*map(decode_one, out), strict=True)
    floats = (np.array(values, np.float32) for values in (place, confidence, p_no_echo))
    return Pointed(np.array(label), *floats)
