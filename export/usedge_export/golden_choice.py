"""Which A-scans become golden vectors: those that all accepted variants answer alike, far from any boundary.

One at a boundary would refuse healthy machines, whose arithmetic differs in the last bits.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from usedge.errors import GateFailedError
from usedge.golden import Float32, Golden, called
from usedge.pointer import patches_of
from usedge_export.recipe import GoldenSettings


def choose(x: Float32, reference: Float32, answers: Iterable[Float32], no_echo: float,
           settings: GoldenSettings) -> Golden:
    """Golden vectors from ``x (n, n_samples)`` with the torch original's ``reference (n, 3l + 1)``.

    ``answers`` are the accepted variants'. Raises GateFailedError where too few A-scans are clear enough.
    """
    label, place = called(reference, no_echo)
    fit = _clear(reference, no_echo, settings) & _inside_patch(place, settings.margin_patches)
    for out in answers:
        fit &= _alike(called(out, no_echo), (label, place), settings) & _clear(out, no_echo, settings)
    length = patches_of(reference.shape[1])
    empty = np.flatnonzero(fit & (label == length))[: settings.without_echo]
    echo = np.flatnonzero(fit & (label < length))
    wanted = settings.vectors - len(empty)
    if len(echo) < wanted:
        what = f"{len(echo)} of {len(x)} A-scans are clear enough for golden vectors; {wanted} are needed."
        raise GateFailedError(f"{what} Nothing was written.",
                              "Train the model further, or lower margin_log_odds in the recipe.")
    # Spread over the gate, since a fault may show at one end alone.
    spread = echo[np.argsort(place[echo], kind="stable")][np.linspace(0, len(echo) - 1, wanted).astype(int)]
    chosen = np.concatenate([spread, empty])
    return Golden(x[chosen], reference[chosen], label[chosen], place[chosen], settings.tolerance_patches)


def _log_odds(p: NDArray[np.float64] | float) -> NDArray[np.float64]:
    kept = np.clip(p, 1e-12, 1 - 1e-12)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def _clear(out: Float32, no_echo: float, settings: GoldenSettings) -> NDArray[np.bool_]:
    """Whether "no echo" is far from its threshold and, for an echo, its patch far ahead of any other but its
    neighbours, which point at the same place.
    """
    length = patches_of(out.shape[1])
    logits = out[:, : length + 1].astype(np.float64)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    distance = _log_odds(p[:, length]) - _log_odds(no_echo)
    patch = logits[:, :length].argmax(axis=1)
    far = np.abs(np.arange(length) - patch[:, np.newaxis]) > 1
    rival = np.where(far, logits[:, :length], -np.inf).max(axis=1)
    ahead = logits[np.arange(len(out)), patch] - rival >= settings.margin_log_odds
    clear: NDArray[np.bool_] = ((distance > 0) | ahead) & (np.abs(distance) >= settings.margin_log_odds)
    return clear


def _inside_patch(place: Float32, margin: float) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = np.isnan(place) | (np.abs(place - np.floor(place) - 0.5) <= 0.5 - margin)
    return inside


def _alike(called_by_variant: tuple[NDArray[np.int64], Float32], known: tuple[NDArray[np.int64], Float32],
           settings: GoldenSettings) -> NDArray[np.bool_]:
    """Same class, and a place within half of the tolerance: the other half is the device's arithmetic's."""
    off = np.nan_to_num(np.abs(called_by_variant[1] - known[1]))
    alike: NDArray[np.bool_] = (called_by_variant[0] == known[0]) & (off <= settings.tolerance_patches / 2)
    return alike
