"""Where the device decides: the no-echo limit, and calibrated confidence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from usedge.bundle import Thresholds
from usedge.errors import InputError
from usedge_export.recipe import Recipe

pytest.importorskip("torch", reason="export starts from a torch checkpoint: extra 'export'")
pytest.importorskip("safetensors", reason="export starts from a torch checkpoint: extra 'export'")

from usedge.models.checkpoint import load_checkpoint
from usedge_export.operating import no_echo_limit, platt


def test_the_limit_is_the_least_that_keeps_the_echoes_asked_for(checkpoint: Path, recipe: Recipe) -> None:
    loaded, settings = load_checkpoint(checkpoint), replace(recipe.operating, scenes=6, repeats=4)
    few, many = (no_echo_limit(loaded, replace(settings, missed=share)) for share in (0.0, 0.5))
    assert 0 < many < few < 1
    assert no_echo_limit(loaded, settings) == no_echo_limit(loaded, settings)
    assert no_echo_limit(loaded, settings) != no_echo_limit(loaded, replace(settings, seed=1))


def test_what_the_second_pass_finds_nevertheless_asks_for_no_higher_limit(
        checkpoint: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = iter([(0.01, 0.9), (0.02, 1.0), (0.3, 0.05), (0.7, 0.05)])
    monkeypatch.setattr("usedge_export.operating._repeated", lambda *_: [next(asked)])
    settings = replace(recipe.operating, scenes=4, missed=0.25, no_echo_again=0.1)
    limit = no_echo_limit(load_checkpoint(checkpoint), settings)
    assert 0.01 < limit <= 0.7
    asked = iter([(0.01, 0.9), (0.02, 1.0), (0.3, 0.05), (0.2, 0.05)])
    assert no_echo_limit(load_checkpoint(checkpoint), settings) <= 0.02


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.0), (0.5, 0.8), (2.0, -1.5)])
def test_calibrated_confidence_is_the_share_of_hits(slope: float, offset: float) -> None:
    rng = np.random.default_rng(8)
    said = rng.beta(3, 1, 20_000)
    true = Thresholds(0.1, 0.5, slope, offset)
    hit = rng.random(len(said)) < np.array([true.calibrated(each) for each in said])
    fitted = Thresholds(0.1, 0.5, *platt(said, hit))
    for each in (0.3, 0.6, 0.9, 0.99):
        assert fitted.calibrated(each) == pytest.approx(true.calibrated(each), abs=0.03)


def test_confidence_that_tells_nothing_is_left_as_it_is() -> None:
    rng = np.random.default_rng(8)
    said = rng.random(500)
    assert platt(said, said < 0.5) == (1.0, 0.0)


def test_a_fit_to_hits_alone_stays_finite() -> None:
    slope, offset = platt(np.full(60, 0.97), np.ones(60, bool))
    assert 0.97 < Thresholds(0.1, 0.5, slope, offset).calibrated(0.97) < 1


@pytest.mark.parametrize("line", [(0.0, 0.0), (-1.0, 0.0), (float("nan"), 0.0), (1.0, float("inf"))])
def test_a_calibration_that_does_not_rise_is_refused(line: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="does not rise"):
        Thresholds(0.1, 0.5, *line)
