"""Training that goes on from a bundle: the shipped network adapted to a board without any other file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the extra 'train'")
pytest.importorskip("lightning", reason="training needs the extra 'train'")

from tests.usedge.test_adapt import (
    FEW,
    SPEC,
    ctrl_c_interrupts,
    in_a_folder,
    start,
    usedge,
    write,
)
from tests.usedge.test_bundle import parts
from usedge.bundle import write_bundle
from usedge.errors import InputError
from usedge.models.checkpoint import load_checkpoint, weights_of
from usedge.resources import shipped_bundle

pytestmark = pytest.mark.usefixtures("one_thread")
__all__ = ["ctrl_c_interrupts", "in_a_folder", "start", "usedge"]
"""Fixtures."""


@pytest.fixture
def bundle(start: Path) -> Path:
    """A bundle of the checkpoint ``start``."""
    checkpoint = load_checkpoint(start)
    made = {"checkpoint": checkpoint.record, "config": checkpoint.config.to_dict()}
    write_bundle("mine.usedge", parts(spec=SPEC, weights=weights_of(start), provenance=made))
    return Path("mine.usedge")


def test_a_board_is_learnt_from_the_shipped_bundle_where_no_checkpoint_is_given(
    bundle: Path, usedge: Callable[..., int], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usedge.resources.shipped_bundle", lambda: bundle)
    write("mine.npz")
    capsys.readouterr()
    assert usedge("finetune", "--data", "mine.npz", "-o", "out", *FEW) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["start"], report["checkpoint"]) == ("mine.usedge", "out/last")
    before, after = load_checkpoint(bundle), load_checkpoint(Path("out/last"))
    assert after.config == before.config
    assert any(bool((after.weights[name] != before.weights[name]).any()) for name in before.weights)
    assert after.record["origin"]["ascans"] == before.record["ascans"]


def test_from_scratch_takes_no_notice_of_it(
    usedge: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Path:
        raise AssertionError

    monkeypatch.setattr("usedge.resources.shipped_bundle", refuse)
    write("mine.npz")
    tiny = ("--set", "model.d_model=16", "--set", "model.heads=2", "--set", "model.encoder_layers=1")
    capsys.readouterr()
    assert usedge("finetune", "--from-scratch", "--data", "mine.npz", "-o", "out", *FEW, *tiny) == 0
    assert json.loads(capsys.readouterr().out)["checkpoint"] == "out/last"


def test_a_bundle_is_no_checkpoint_of_another_kind_and_none_without_its_weights(bundle: Path) -> None:
    with pytest.raises(InputError, match=r"mine\.usedge holds a 'tof' model, not 'mae'\."):
        load_checkpoint(bundle, "mae")
    bare = write_bundle("bare.usedge", parts(spec=SPEC))
    with pytest.raises(InputError, match=r"bare\.usedge holds no weights to go on from"):
        load_checkpoint(bare.path)
    unknown = write_bundle("unknown.usedge", parts(spec=SPEC, weights=weights_of(bundle)))
    with pytest.raises(InputError, match=r"unknown\.usedge lacks checkpoint, config in its provenance"):
        load_checkpoint(unknown.path)


def test_the_shipped_bundle_can_be_gone_on_from() -> None:
    checkpoint = load_checkpoint(shipped_bundle(), "tof")
    assert sum(weights.numel() for weights in checkpoint.weights.values()) > 1_200_000
    assert np.isfinite(checkpoint.record["scores"]["no_echo_threshold"])
    checkpoint.model()
