"""What the figures decide: which variants are left out, and which one a device takes by default."""

from __future__ import annotations

from collections.abc import Mapping

from usedge.errors import GateFailedError
from usedge_export.parity import Figures, faults
from usedge_export.recipe import STATIC, Recipe, runtime_and_precision
from usedge_export.speed import TIMES

NEAR_FP32 = 0.1
"""A ratio to fp32 that is no further from 1 may fall on its other side at the next export."""


def gate(measured: Mapping[str, Figures], recipe: Recipe) -> dict[str, list[str]]:
    """Variants outside the recipe's limits, with the reasons; raises GateFailedError for a required one."""
    refused = {}
    for name, values in measured.items():
        broken = faults(values, recipe.gate)
        if "calibrate" in values:
            own = values["calibrate"]
            broken += [f"{fault} on {own['file']}" for fault in faults(own, recipe.gate)]
        if broken:
            refused[name] = broken
    for name in recipe.required:
        if name in refused:
            reasons = "; ".join(refused[name])
            raise GateFailedError(f"{name} is outside the gate of recipe {recipe.name}: {reasons}. Nothing"
                                  " was written.", "Train the model further, or give a recipe of your own.")
    return refused


def choose_defaults(accepted: Mapping[str, Figures]) -> set[str]:
    """Dynamic int8 of each runtime, or else static int8, or else fp32: where those before are missing or
    slower than fp32. Marks the slower in its figures.

    The median ratio over rounds is all of the timing that enters: what is stored must not vary with it.
    """
    chosen: dict[str, str] = {}
    for name, values in sorted(accepted.items(), key=lambda each: _rank(each[0])):
        values["slower_than_fp32"] = (values["ratio_fp32"] or 0.0) > 1.0
        runtime, _ = runtime_and_precision(name)
        if runtime not in chosen or accepted[chosen[runtime]]["slower_than_fp32"]:
            chosen[runtime] = name
    return set(chosen.values())


def _rank(name: str) -> tuple[bool, bool]:
    return name.endswith("fp32"), name.endswith(STATIC)


def stored(values: Figures) -> Figures:
    """The figures that a bundle bears: those that the next export of the same checkpoint measures again."""
    return {key: value for key, value in values.items() if key not in TIMES}


def near_fp32(accepted: Mapping[str, Figures]) -> list[str]:
    """A line on each int8 variant that is hardly faster or slower than fp32 in the same runtime."""
    return [f"{name} takes {values['ratio_fp32']:.2f} of the time of fp32: another export may call it"
            f" {'faster' if values['slower_than_fp32'] else 'slower'}, and then its bundle differs"
            for name, values in accepted.items()
            if not name.endswith("fp32") and abs((values["ratio_fp32"] or 0.0) - 1.0) <= NEAR_FP32]
