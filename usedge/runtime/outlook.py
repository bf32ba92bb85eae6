"""A bundle's passes on boards that are not at hand: what this host measures, put through the formula."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from usedge.boards.instructions import Opinion, longest_us, opinion, read_counts
from usedge.boards.predict import Checked, Measured, check, core_of, floor_us, predict, spread
from usedge.boards.profile import BoardProfile
from usedge.boards.work import Sizes, Work, count, native_sizes, sizes_of
from usedge.bundle import Bundle, read_bundle
from usedge.errors import InputError
from usedge.meter import host_facts
from usedge.resources import shipped_bundle
from usedge.runtime.pace import host_core, pace

BUSY = 0.5
"""1-minute load of other work, in cores, above which this host's figures are not to be trusted."""
Say = Callable[[str], None]


def outlook(path: Path | None, boards: Sequence[BoardProfile], tokens: int | None, *, every_variant: bool,
            say: Say) -> dict[str, Any]:
    """Predictions for ``boards``: each runtime's default variant, or every one; docs/boards.md has the keys.

    ``tokens``: of a pass, where they are not the bundle's own. Raises InputError for a network that is not
    counted, or where nothing of the bundle runs here.
    """
    bundle, facts = read_bundle(path or shipped_bundle()), host_facts()
    own = bundle_sizes(bundle)
    sizes = replace(own, tokens=tokens or own.tokens)
    if facts["load_1min"] > BUSY:
        say(f"other work is running (1-minute load {facts['load_1min']}): this host's figures, and the"
            " predictions by them, are too slow")
    say("timing every variant of the bundle on this host …")
    measured = _measured(bundle, count(own), say)
    if not measured:
        raise InputError(f"no variant of {bundle.path} runs on this host.", "Run: usedge doctor")
    checked = check(measured)
    factor, work = spread(checked), count(sizes)
    shown = [each for each in measured if every_variant or bundle.variants[each.variant].default]
    return {
        "kind": "predicted", "bundle": {"name": bundle.name, "sha256": bundle.sha256},
        "sizes": asdict(sizes), "work": _work(work),
        "passes": _passes(bundle),
        "host": {**facts, "measured": [_row(each) for each in measured],
                 "check": [_checked(each) for each in checked]},
        "spread": round(factor, 3),
        "predictions": _predictions(boards, work, sizes, shown, factor),
        "decisions": [_decision(board, sizes, few(bundle, sizes)) for board in boards if core_of(board)],
    }


def few(bundle: Bundle, sizes: Sizes) -> int:
    """Tokens that a pass looks at first: all of them where the bundle never looks at fewer."""
    glance = bundle.thresholds.glance
    return max(1, sizes.tokens * glance.patches // bundle.spec.n_patches) if glance else sizes.tokens


def _passes(bundle: Bundle) -> str:
    glance = bundle.thresholds.glance
    told = "one pass, and a second where it finds an echo" if bundle.spec.zoom else "one pass"
    if glance is None:
        return told
    return f"{told}, each on {glance.patches} of {bundle.spec.n_patches} patches and, unsure, on all"


def _decision(board: BoardProfile, sizes: Sizes, first: int) -> dict[str, Any]:
    """The longest decision by counted instructions, µs, beside the budget that it must keep."""
    longest = longest_us(board, sizes, first, read_counts())
    return {"board": board.id, "longest_us": longest and [round(each, 1) for each in longest],
            "budget_p99_ms": board.budget and board.budget.p99_ms}


def bundle_sizes(bundle: Bundle) -> Sizes:
    """The sizes of ``bundle``'s network: those in its native variant, else those of its provenance."""
    for variant in bundle.variants.values():
        if variant.runtime == "native":
            return native_sizes(bundle.variant_bytes(variant.name))
    return sizes_of(bundle.spec, bundle.provenance.get("config", {}))


def _measured(bundle: Bundle, work: Work, say: Say) -> list[Measured]:
    took = pace(bundle, say)
    if not took:
        return []
    core = host_core()
    return [Measured(name, bundle.variants[name].runtime, bundle.variants[name].precision, p50_us,
                     floor_us(work, bundle.variants[name].precision, core)) for name, p50_us in took.items()]


def _predictions(boards: Sequence[BoardProfile], work: Work, sizes: Sizes, measured: Sequence[Measured],
                 factor: float) -> list[dict[str, Any]]:
    counts, found = read_counts(), []
    for board in boards:
        for each in measured:
            predicted = predict(board, work, each, factor)
            if predicted is not None:
                second: Opinion | None = None
                if each.runtime == "native":
                    second = opinion(board, sizes, counts)
                found.append({**predicted.to_dict(), "by_instructions": second and second.to_dict()})
    return found


def _work(work: Work) -> dict[str, int]:
    return {**asdict(work), "macs": work.macs, "bytes_moved_int8": work.bytes_moved("int8"),
            "bytes_moved_fp32": work.bytes_moved("fp32")}


def _row(each: Measured) -> dict[str, Any]:
    return {"variant": each.variant, "precision": each.precision, "p50_us": round(each.p50_us, 1),
            "floor_us": round(each.floor_us, 1), "efficiency": round(each.efficiency, 3)}


def _checked(each: Checked) -> dict[str, Any]:
    return {"variant": each.variant, "measured_us": round(each.measured_us, 1),
            "predicted_us": round(each.predicted_us, 1), "deviation": round(each.deviation, 3)}
