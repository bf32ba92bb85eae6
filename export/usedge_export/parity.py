"""The gate: a variant's answers against those of its torch original, in % and in ns."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usedge.golden import Float32, called
from usedge.pointer import patches_of
from usedge_export.recipe import GateLimits

Figures = dict[str, Any]
"""JSON values only; None where there was nothing to measure."""

LIMITS = {
    "agreement_min": ("agreement", "%", "class agreement"),
    "no_echo_agreement_min": ("no_echo_agreement", "%", "no-echo agreement"),
    "shift_median_ns_max": ("shift_median_ns", "ns", "median ToF shift"),
    "shift_p95_ns_max": ("shift_p95_ns", "ns", "p95 ToF shift"),
    "hit_rate_loss_max": ("hit_rate_loss", "%", "loss of hit rate"),
    "error_median_gain_ns_max": ("error_median_gain_ns", "ns", "growth of the median ToF error"),
}
"""Key of a limit → the figure it bounds, its unit, and its name in the field's words."""


def scores(out: Float32, onset: Float32, no_echo: float, patch_ns: float) -> Figures:
    """Answers ``out (n, 3l + 1)`` against the truth ``onset (n,)`` in patches: hit rate and median error.

    A hit is an echo placed within one patch; an echo that is called "no echo" is none. The error is the
    median over the echoes that were called.
    """
    _, place = called(out, no_echo)
    error = np.abs(place - onset)[~np.isnan(onset)]
    answered = error[~np.isnan(error)]
    alarms = ~np.isnan(place[np.isnan(onset)])
    return {
        "hit_rate": _share(np.nan_to_num(error, nan=np.inf) <= 1.0),
        "error_median_ns": _rounded(np.median(answered) * patch_ns) if answered.size else None,
        "false_alarm_rate": _share(alarms),
    }


def figures(out: Float32, reference: Float32, onset: Float32, no_echo: float, patch_ns: float) -> Figures:
    """A variant's answers ``out`` (n, 3l + 1) against those of its torch original, ``reference``.

    ``agreement`` is the share of A-scans given the same class, "no echo" being one of them;
    ``no_echo_agreement`` that of the same decision on whether there is an echo; the shifts are of the ToF
    where both call an echo, ``patch_ns`` being the length of a patch.
    """
    bad = ~np.isfinite(out).all(axis=1)
    if bad.any():
        return {"ascans": len(out), "not_finite": int(bad.sum())}
    (label, place), (label0, place0) = called(out, no_echo), called(reference, no_echo)
    length = patches_of(out.shape[1])
    shift = np.abs(place - place0)
    shift = shift[~np.isnan(shift)] * patch_ns
    own, torch_own = scores(out, onset, no_echo, patch_ns), scores(reference, onset, no_echo, patch_ns)
    return {
        "ascans": len(out), "not_finite": 0,
        "agreement": _share(label == label0),
        "no_echo_agreement": _share((label == length) == (label0 == length)),
        **_percentiles(shift), **own,
        "hit_rate_loss": _difference(torch_own["hit_rate"], own["hit_rate"]),
        "error_median_gain_ns": _difference(own["error_median_ns"], torch_own["error_median_ns"]),
    }


def faults(measured: Figures, gate: GateLimits) -> list[str]:
    """Each limit that ``measured`` breaks, with figure and limit; empty for a variant that passes."""
    if measured["not_finite"]:
        return [f"{measured['not_finite']} of {measured['ascans']} answers are not finite"]
    broken = []
    for key, limit in asdict(gate).items():
        figure, unit, name = LIMITS[key]
        value, least = measured[figure], key.endswith("_min")
        if value is not None and (value < limit if least else value > limit):
            bound = f"at {'least' if least else 'most'} {_shown(limit, unit)}"
            broken.append(f"{name} {_shown(value, unit)} ({bound})")
    return broken


def _percentiles(shift_ns: NDArray[np.floating[Any]]) -> Figures:
    points = {"shift_median_ns": 50, "shift_p95_ns": 95, "shift_max_ns": 100}
    if not shift_ns.size:
        return dict.fromkeys(points)
    return {name: _rounded(np.percentile(shift_ns, percent)) for name, percent in points.items()}


def _share(right: NDArray[np.bool_]) -> float | None:
    return round(float(right.mean()), 5) if right.size else None


def _rounded(value: Any) -> float:
    return round(float(value), 3)


def _difference(larger: float | None, smaller: float | None) -> float | None:
    return None if larger is None or smaller is None else round(larger - smaller, 5)


def _shown(value: float, unit: str) -> str:
    return f"{100 * value:.2f} %" if unit == "%" else f"{value:.3g} ns"
