"""Golden vectors are the clear A-scans, answered alike by all; never one at a boundary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from usedge.errors import GateFailedError
from usedge_export.golden_choice import choose
from usedge_export.recipe import GoldenSettings

PATCHES, NO_ECHO = 64, 0.5
SETTINGS = GoldenSettings(vectors=4, without_echo=1, tolerance_patches=0.1, margin_patches=0.2,
                          margin_log_odds=1.5)


def answers(places: list[float], height: float = 20.0) -> np.ndarray[Any, np.dtype[np.float32]]:
    out = np.zeros((len(places), 3 * PATCHES + 1), np.float32)
    for row, at in zip(out, places, strict=True):
        patch = PATCHES if np.isnan(at) else int(at)
        row[patch] = height
        row[PATCHES + 1 :] = 0.5 if np.isnan(at) else at - patch
    return out


PLACES = [5.5, 15.5, 25.5, 35.5, 45.5, np.nan, np.nan]


def x_of(places: list[float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.arange(len(places), dtype=np.float32)[:, np.newaxis] * np.ones((1, 2048), np.float32)


def test_choice_spans_the_gate_and_has_some_without_echo() -> None:
    golden = choose(x_of(PLACES), answers(PLACES), [answers(PLACES)], NO_ECHO, SETTINGS)
    assert golden.label.tolist() == [5, 25, 45, PATCHES]
    assert golden.x[:, 0].tolist() == [0, 2, 4, 5]
    assert golden.place[:3].tolist() == [5.5, 25.5, 45.5]
    assert np.isnan(golden.place[3])


def test_a_scans_at_a_boundary_are_not_taken() -> None:
    at_edge = answers([60.02])
    two_places = answers([61.5])
    two_places[0, 3] = 19.0
    half_empty = answers([62.5])
    half_empty[0, PATCHES] = 20.0
    reference = np.concatenate([at_edge, two_places, half_empty, answers(PLACES)])
    golden = choose(x_of([0.0] * len(reference)), reference, [reference], NO_ECHO, SETTINGS)
    assert golden.label.max() == PATCHES
    assert not {60, 61, 62} & set(golden.label.tolist())


@pytest.mark.parametrize("other", [14.5, 15.56, np.nan])
def test_a_scans_that_one_variant_answers_otherwise_are_not_taken(other: float) -> None:
    variant = answers([5.5, other, 25.5, 35.5, 45.5, np.nan, np.nan])
    golden = choose(x_of(PLACES), answers(PLACES), [answers(PLACES), variant], NO_ECHO, SETTINGS)
    assert 15 not in golden.label
    with pytest.raises(GateFailedError, match=r"2 of 3 A-scans are clear enough .* 3 are needed"):
        choose(x_of(PLACES[:3]), answers(PLACES[:3]), [answers(PLACES[:3]), variant[:3]], NO_ECHO,
               GoldenSettings(3, 0, 0.1, 0.2, 1.5))


def test_undecided_models_give_no_golden_vectors() -> None:
    with pytest.raises(GateFailedError, match="0 of 7 A-scans"):
        choose(x_of(PLACES), answers(PLACES, height=0.5), [], 0.01, SETTINGS)
