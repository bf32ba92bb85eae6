"""The calibration set: A-scans that fix the ranges of static int8, and what a bundle says of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usedge.sparse import Places, telling
from usedge.spec import SignalSpec
from usedge_export.material import Material, synthetic
from usedge_export.recipe import CalibrationSettings

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """``x (n, n_samples)`` prepared for the model, patches of ``patch`` samples, as ``settings`` and perhaps
    a labelled file gave them.
    """

    x: Float32
    patch: int
    settings: CalibrationSettings

    @classmethod
    def gather(cls, settings: CalibrationSettings, spec: SignalSpec, own: Material | None) -> CalibrationSet:
        """The synthetic A-scans of ``settings``, and behind them every gate of ``own``."""
        parts = [synthetic(settings, spec).x] + ([own.x] if own is not None else [])
        return cls(np.concatenate(parts), spec.patch, settings)

    def rows(self) -> Iterator[Float32]:
        """Each A-scan as a model is given it, (1, n_samples)."""
        return (self.x[i : i + 1] for i in range(len(self.x)))

    def some(self, k: int) -> Iterator[tuple[Float32, Places]]:
        """The same, each with its ``k`` most telling patches (1, k), as the device asks about them."""
        return ((row, telling(row, self.patch, k)) for row in self.rows())

    def to_dict(self) -> dict[str, Any]:
        """What a bundle says of it: ``gates`` counts all, ``sha256`` is of x as little-endian float32."""
        stated = self.settings
        return {"preset": stated.preset, "seed": stated.seed, "ascans": stated.ascans, "gates": len(self.x),
                "sha256": hashlib.sha256(self.x.astype("<f4").tobytes()).hexdigest()}
