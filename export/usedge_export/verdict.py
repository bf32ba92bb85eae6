"""What the figures decide: which variants are left out, and which one a device takes by default."""

from __future__ import annotations

from collections.abc import Mapping

from usedge.errors import GateFailedError
from usedge_export.parity import Figures, faults
from usedge_export.recipe import Recipe


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
    """The fastest variant of each runtime; marks in its figures each slower than the runtime's fp32."""
    fastest: dict[str, str] = {}
    for name, values in accepted.items():
        values["slower_than_fp32"] = (values["ratio_fp32"] or 0.0) > 1.0
        runtime = name.partition("-")[0]
        if runtime not in fastest or _rank(values) < _rank(accepted[fastest[runtime]]):
            fastest[runtime] = name
    return set(fastest.values())


def _rank(values: Figures) -> tuple[bool, float]:
    return bool(values["slower_than_fp32"]), float(values["p50_us"])
