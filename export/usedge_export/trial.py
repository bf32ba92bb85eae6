"""Every variant and the torch original answer the same A-scans; gate and golden vectors are taken from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from usedge.backends import open_backend
from usedge.golden import Float32, Infer
from usedge_export import speed
from usedge_export.material import Material, torch_answers
from usedge_export.parity import Figures, figures, scores
from usedge_export.recipe import SpeedSettings


@dataclass(frozen=True, slots=True)
class Trial:
    """``reference (n, 3l + 1)`` of the torch original and each variant's ``answers`` to the same material."""

    material: Material
    reference: Float32
    answers: dict[str, Float32]

    def figures(self, name: str, no_echo: float, patch_ns: float) -> Figures:
        """Figures of the variant ``name`` against the original."""
        return figures(self.answers[name], self.reference, self.material.onset, no_echo, patch_ns)

    def original(self, no_echo: float, patch_ns: float) -> Figures:
        """Scores of the original against the truth."""
        return scores(self.reference, self.material.onset, no_echo, patch_ns)


def open_variants(contents: Mapping[str, bytes]) -> dict[str, Infer]:
    """Each variant in the backend, single-threaded, that the device opens it with."""
    return {name: open_backend(name.partition("-")[0], content).infer for name, content in contents.items()}


def run(model: nn.Module, variants: Mapping[str, Infer], material: Material) -> Trial:
    """Put every A-scan of ``material`` to the original and to each variant."""
    answers = {name: _answers(infer, material.x) for name, infer in variants.items()}
    return Trial(material, torch_answers(model, material.x), answers)


def _answers(infer: Infer, x: Float32) -> Float32:
    return np.concatenate([infer(x[i : i + 1]) for i in range(len(x))])


def measure(trials: list[Trial], variants: Mapping[str, Infer], no_echo: float, patch_ns: float,
            settings: SpeedSettings) -> dict[str, Figures]:
    """Figures of each variant: speed, parity on the first trial, and that on a second under "calibrate"."""
    took = speed.measure(variants, trials[0].material.x, settings)
    measured = {}
    for name in variants:
        measured[name] = trials[0].figures(name, no_echo, patch_ns) | took[name]
        for other in trials[1:]:
            own = other.figures(name, no_echo, patch_ns)
            measured[name]["calibrate"] = own | {"file": other.material.name}
    return measured
