"""From the network's numbers to a class and a place in the gate.

The network answers (b, 3l + 1): l class logits, the "no echo" logit, l offsets of the onset and l of the
arrival, these as asinh (see ``models/nets.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
LARGEST = 10.0
"""asinh of a longer way from onset to arrival than any gate has patches."""


@dataclass(frozen=True, slots=True)
class Pointed:
    """All (b,): ``label`` the onset's patch, ``place`` the onset in patches, ``arrival`` (half the peak) in
    patches, ``p_no_echo`` the probability of no echo, ``confidence`` that of the likeliest patch and its two
    neighbours given that there is one.
    """

    label: NDArray[np.int64]
    place: Float32
    arrival: Float32
    confidence: Float32
    p_no_echo: Float32


class Pointing(NamedTuple):
    """One answer of ``Pointed``."""

    label: int
    place: float
    arrival: float
    confidence: float
    p_no_echo: float


def patches_of(width: int) -> int:
    """l of answers (b, ``width`` = 3l + 1)."""
    return (width - 1) // 3


def decode_one(row: Float32) -> Pointing:
    """Read one answer of the network, ``row (3l + 1,)``."""
    # Plain numbers: of so few, a sum or a largest one costs numpy more than Python.
    length = patches_of(len(row))
    logits = row[: length + 1]
    p = np.exp(logits - logits[logits.argmax()]).tolist()
    total = sum(p)
    likeliest = max(p[:length])
    patch = p.index(likeliest)
    # Rounded to float32 at once, so that label and place cannot fall on two sides of a patch edge.
    place = float(np.float32(min(max(patch + float(row[length + 1 + patch]), 0.0), float(length))))
    later = math.sinh(min(float(row[2 * length + 1 + patch]), LARGEST))
    arrival = min(max(patch + later, place), float(length))
    p_no_echo = p[length] / total
    near = sum(p[max(patch - 1, 0) : min(patch + 2, length)]) / total
    confidence = max(0.0, min(near / max(1.0 - p_no_echo, 1e-9), 1.0))
    return Pointing(min(int(place), length - 1), place, arrival, confidence, p_no_echo)


def decode(out: Float32) -> Pointed:
    """Read the network's answers ``out (b, 3l + 1)``."""
    label, place, arrival, confidence, p_no_echo = zip(*map(decode_one, out), strict=True)
    floats = (np.array(values, np.float32) for values in (place, arrival, confidence, p_no_echo))
    return Pointed(np.array(label), *floats)
