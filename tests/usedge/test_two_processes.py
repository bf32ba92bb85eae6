"""Two processes that train together take the road of one with the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")

TINY = ("model.d_model=32", "model.heads=2", "model.d_head=16", "model.mlp_hidden=64",
        "model.encoder_layers=1", "model.decoder_layers=1", "model.norm_patches=false",
        "model.envelope_weight=1.0", "pretrain.warmup_ascans=512")


def losses(folder: Path, *words: str) -> list[float]:
    sets = [word for each in TINY for word in ("--set", each)]
    subprocess.run(
        [sys.executable, "-m", "usedge", "pretrain", "--preset", "paper", "--ascans", "5120", "--base-rate",
         "0.02", "--workers", "0", "--precision", "32-true", "--out", str(folder), *sets, *words],
        check=True, timeout=300, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_loss_curve_of_two_processes_is_that_of_one(tmp_path: Path) -> None:
    """80 steps of 64 A-scans, a point every 20: other masks and A-scans, so equal but for noise."""
    one = losses(tmp_path / "one", "--batch", "64")
    two = losses(tmp_path / "two", "--batch", "32", "--devices", "2")
    assert len(one) == len(two) == 4
    assert one[0] > 1.5 * one[-1]
    assert two == pytest.approx(one, rel=0.1)
    stored = [json.loads((tmp_path / name / "last" / "checkpoint.json").read_text())["record"]
              for name in ("one", "two")]
    assert [record["ascans"] for record in stored] == [5120, 5120]
