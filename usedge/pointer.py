"""From the network's numbers to a class and a place in the gate.

The network answers (b, 3l + 1): l class logits, the "no echo" logit, l offsets of the onset and l of the
arrival, these as asinh (see ``models/nets.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
LARGEST = 10.0
"""asinh of a longer way from onset to arrival than any gate has patches."""
RIVAL = 0.2
"""A later patch is a rival of the likeliest from this confidence on."""


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
    """One answer of ``Pointed``; ``rival`` is that of the likeliest later patch, if it has at least RIVAL."""

    label: int
    place: float
    arrival: float
    confidence: float
    p_no_echo: float
    rival: Pointing | None = None


def patches_of(width: int) -> int:
    """l of answers (b, ``width`` = 3l + 1)."""
    return (width - 1) // 3


def decode_one(row: Float32) -> Pointing:
    """Read one answer of the network, ``row (3l + 1,)``."""
    length = patches_of(len(row))
    return _read(row, range(length), length)


def decode_few(row: Float32, places: NDArray[np.int64], length: int) -> Pointing:
    """Read one answer of the network on the patches ``places (k,)``, ascending, of ``length``,
    ``row (3k + 1,)``, as ``decode_one`` reads what ``sparse.spread`` makes of it; the others have no
    probability.
    """
    return _read(row, places.tolist(), length)


def _read(row: Float32, seen: Sequence[int], length: int) -> Pointing:
    """What ``row (3k + 1,)`` says of the patches ``seen (k,)``."""
    p = _likelihoods(row[: len(seen) + 1])
    total, no_echo = sum(p), p.pop()
    best = p.index(max(p))
    found = _pointing(row, seen, length, best, _near(p, seen, best) / total, no_echo / total)
    if found.confidence > 1.0 - RIVAL:
        return found
    p = [value if place > seen[best] + 1 else 0.0 for place, value in zip(seen, p, strict=True)]
    later = p.index(max(p))
    rival = _pointing(row, seen, length, later, _near(p, seen, later) / total, no_echo / total)
    return found._replace(rival=rival) if rival.confidence >= RIVAL else found


def _near(p: list[float], seen: Sequence[int], i: int) -> float:
    """Of ``p (k,)``, what the patch ``seen[i]`` has together with its two neighbours."""
    around = range(max(i - 1, 0), min(i + 2, len(p)))
    return sum(p[j] for j in around if abs(seen[j] - seen[i]) <= 1)


def _likelihoods(logits: Float32) -> list[float]:
    """exp of ``logits`` less the largest."""
    # Plain numbers: of so few, a sum or a largest one costs numpy more than Python.
    p: list[float] = np.exp(logits - logits[logits.argmax()]).tolist()
    return p


def _pointing(row: Float32, seen: Sequence[int], length: int, i: int, near: float, p_no_echo: float
              ) -> Pointing:
    """What ``row`` says of ``seen[i]``, which with its neighbours has the probability ``near``."""
    k, patch = len(seen), seen[i]
    offset, later = float(row[k + 1 + i]), float(row[2 * k + 1 + i])
    # Rounded to float32 at once, so that label and place cannot fall on two sides of a patch edge.
    place = float(np.float32(min(max(patch + offset, 0.0), float(length))))
    arrival = min(max(patch + math.sinh(min(later, LARGEST)), place), float(length))
    confidence = max(0.0, min(near / max(1.0 - p_no_echo, 1e-9), 1.0))
    return Pointing(min(int(place), length - 1), place, arrival, confidence, p_no_echo)


def decode(out: Float32) -> Pointed:
    """Read the network's answers ``out (b, 3l + 1)``."""
    label, place, arrival, confidence, p_no_echo = zip(*(decode_one(row)[:5] for row in out), strict=True)
    floats = (np.array(values, np.float32) for values in (place, arrival, confidence, p_no_echo))
    return Pointed(np.array(label), *floats)
