"""Parity figures on answers whose difference is known, and the verdicts drawn from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from usedge import resources
from usedge.errors import GateFailedError
from usedge_export.parity import Figures, faults, figures, scores
from usedge_export.recipe import Recipe, read_recipe
from usedge_export.verdict import choose_defaults, gate, near_fp32, stored

NO_ECHO, PATCH_NS, PATCHES = 0.5, 800.0, 64


def pointing(place: list[float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Answers (n, 193) that point at ``place`` in patches, NaN = no echo."""
    out = np.zeros((len(place), 3 * PATCHES + 1), np.float32)
    for row, at in zip(out, place, strict=True):
        patch = PATCHES if np.isnan(at) else int(at)
        row[patch] = 20.0
        if patch < PATCHES:
            row[PATCHES + 1 + patch] = at - patch
    return out


@pytest.fixture
def shipped() -> Recipe:
    return read_recipe(resources.recipe("int8"))


def test_shift_is_measured_in_ns_where_both_call_an_echo() -> None:
    reference = pointing([10.5, 20.5, 30.5, np.nan, 40.5])
    out = pointing([10.75, 20.25, 31.5, np.nan, np.nan])
    measured = figures(out, reference, np.zeros(5), NO_ECHO, PATCH_NS)
    assert (measured["shift_median_ns"], measured["shift_max_ns"]) == (200.0, 800.0)
    assert measured["shift_p95_ns"] == pytest.approx(740.0)
    assert measured["agreement"] == 0.6
    assert measured["no_echo_agreement"] == 0.8


def test_scores_count_misses_and_false_alarms() -> None:
    onset = np.array([10.5, 20.5, 30.5, 40.5, np.nan, np.nan], np.float32)
    own = scores(pointing([10.75, 22.5, np.nan, 40.5, np.nan, 5.5]), onset, NO_ECHO, PATCH_NS)
    assert own == {"hit_rate": 0.5, "error_median_ns": 200.0, "false_alarm_rate": 0.5}


def test_losses_are_against_the_original() -> None:
    onset = np.array([10.5, 20.5, 30.5, 40.5], np.float32)
    reference, out = pointing([10.5, 20.5, 30.5, 45.5]), pointing([10.75, 20.75, 35.5, 45.5])
    measured = figures(out, reference, onset, NO_ECHO, PATCH_NS)
    assert measured["hit_rate_loss"] == 0.25
    assert measured["error_median_gain_ns"] == pytest.approx((0.25 + 5.0) / 2 * PATCH_NS)


def test_nothing_to_measure_is_none_and_passes(shipped: Recipe) -> None:
    empty = pointing([np.nan] * 4)
    measured = figures(empty, empty, np.full(4, np.nan), NO_ECHO, PATCH_NS)
    assert measured["shift_median_ns"] is measured["hit_rate"] is measured["error_median_gain_ns"] is None
    assert faults(measured, shipped.gate) == []


def test_answers_that_are_not_finite_are_refused(shipped: Recipe) -> None:
    out = pointing([10.5, 20.5, 30.5])
    out[1, 7] = np.nan
    measured = figures(out, pointing([10.5, 20.5, 30.5]), np.zeros(3), NO_ECHO, PATCH_NS)
    assert faults(measured, shipped.gate) == ["1 of 3 answers are not finite"]


PERFECT: Figures = {
    "ascans": 100, "not_finite": 0, "agreement": 1.0, "no_echo_agreement": 1.0, "shift_median_ns": 0.0,
    "shift_p95_ns": 0.0, "hit_rate_loss": 0.0, "error_median_gain_ns": 0.0,
}


@pytest.mark.parametrize(("figure", "value", "message"), [
    ("agreement", 0.9, "class agreement 90.00 % (at least 97.00 %)"),
    ("no_echo_agreement", 0.9, "no-echo agreement 90.00 % (at least 99.00 %)"),
    ("shift_median_ns", 40.0, "median ToF shift 40 ns (at most 12.5 ns)"),
    ("shift_p95_ns", 400.0, "p95 ToF shift 400 ns (at most 50 ns)"),
    ("hit_rate_loss", 0.02, "loss of hit rate 2.00 % (at most 1.00 %)"),
    ("error_median_gain_ns", 20.0, "growth of the median ToF error 20 ns (at most 12.5 ns)"),
])
def test_each_limit_refuses_with_its_figure(shipped: Recipe, figure: str, value: float, message: str) -> None:
    assert faults(PERFECT, shipped.gate) == []
    assert faults(PERFECT | {figure: value}, shipped.gate) == [message]


def test_gate_leaves_out_what_is_not_required(shipped: Recipe) -> None:
    bad = PERFECT | {"agreement": 0.5}
    assert gate({"litert-int8": PERFECT, "onnx-int8": bad}, shipped) == {
        "onnx-int8": ["class agreement 50.00 % (at least 97.00 %)"]}
    with pytest.raises(GateFailedError, match=r"litert-int8 is outside .* 50\.00 % .*Nothing was written"):
        gate({"litert-int8": bad, "onnx-int8": PERFECT}, shipped)


def test_gate_holds_on_the_calibration_file_too(shipped: Recipe) -> None:
    bad = PERFECT | {"calibrate": PERFECT | {"shift_median_ns": 99.0, "file": "tank.npz"}}
    with pytest.raises(GateFailedError, match=r"median ToF shift 99 ns .* on tank\.npz"):
        gate({"litert-int8": bad}, replace(shipped, variants=("litert-int8",)))


def took(p50_us: float, ratio_fp32: float | None) -> Figures:
    return {"p50_us": p50_us, "ratio_fp32": ratio_fp32}


def test_int8_is_the_default_unless_it_is_slower() -> None:
    accepted = {"litert-fp32": took(900, 1.0), "litert-int8": took(500, 0.55), "onnx-fp32": took(1200, 1.0)}
    assert choose_defaults(accepted) == {"litert-int8", "onnx-fp32"}
    assert not any(values["slower_than_fp32"] for values in accepted.values())


def test_slower_than_fp32_is_marked_and_never_default() -> None:
    # A median may look faster while most rounds were slower: the ratio over rounds decides.
    accepted = {"litert-int8": took(880, 1.2), "litert-fp32": took(900, 1.0)}
    assert choose_defaults(accepted) == {"litert-fp32"}
    assert accepted["litert-int8"]["slower_than_fp32"] is True


def test_static_int8_is_the_default_only_where_dynamic_is_missing_or_slower() -> None:
    static = {"onnx-int8-static": took(800, 0.5), "onnx-fp32": took(1200, 1.0)}
    assert choose_defaults({**static, "onnx-int8": took(900, 0.6)}) == {"onnx-int8"}
    assert choose_defaults(static) == {"onnx-int8-static"}
    assert choose_defaults({**static, "onnx-int8": took(1300, 1.1)}) == {"onnx-int8-static"}
    assert choose_defaults({**static, "onnx-int8-static": took(1300, 1.1)}) == {"onnx-fp32"}


def test_what_is_stored_holds_no_time() -> None:
    accepted = {"litert-int8": PERFECT | took(880, 0.5)}
    choose_defaults(accepted)
    assert stored(accepted["litert-int8"]) == PERFECT | {"slower_than_fp32": False}


def test_a_verdict_that_another_export_may_turn_is_told() -> None:
    assert near_fp32({"litert-int8": took(500, 0.5), "litert-fp32": took(900, 1.0),
                      "native-int8": took(400, None), "onnx-fp32": took(900, 1.0)}) == []
    accepted = {"onnx-int8": took(900, 0.98)}
    choose_defaults(accepted)
    assert near_fp32({"onnx-int8-static": took(900, 1.05) | {"slower_than_fp32": True}})[0].startswith(
        "onnx-int8-static takes 1.05 of the time of fp32: another export may call it faster")
    assert near_fp32(accepted) == ["onnx-int8 takes 0.98 of the time of fp32: another export may call it"
                                   " slower, and then its bundle differs"]
