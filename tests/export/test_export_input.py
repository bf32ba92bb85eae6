"""What `usedge export` refuses, as its user sees it: one line, exit code 2, and nothing written."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usedge import resources
from usedge.cli import main
from usedge.synth import generate

torch = pytest.importorskip("torch", reason="export starts from a torch checkpoint: extra 'export'")
for package in ("safetensors", "onnx", "onnxscript", "onnxruntime", "litert_torch", "ai_edge_quantizer"):
    pytest.importorskip(package, reason="conversion needs the extra 'export'")

SHIPPED = resources.recipe("int8").read_text()
ROWS, SAMPLES, FS_HZ = 24, 640, 20e6


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `usedge export` with the given words and returns the one line with which it ends."""
    (tmp_path / "out").mkdir()

    def run(*words: object) -> str:
        out = ["-o", str(tmp_path / "out" / "b.usedge"), "--c-header", str(tmp_path / "out" / "w.h")]
        monkeypatch.setattr(sys, "argv", ["usedge", "export", *map(str, words), *out])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        assert end.value.code == 2
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert list((tmp_path / "out").iterdir()) == []
        return said.err

    return run


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(checkpoint: Path, tmp_path: Path, refused: Any, value: float) -> None:
    """A checkpoint that was not written by usedge's own training, which stores none of these."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "last"
    shutil.copytree(checkpoint, folder)
    weights = load_file(folder / "weights.safetensors")
    weights["pointer.weight"][0, 0] = value
    save_file(weights, folder / "weights.safetensors")
    record = json.loads((folder / "checkpoint.json").read_text())
    digest = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    record["sha256"]["weights.safetensors"] = digest
    (folder / "checkpoint.json").write_text(json.dumps(record))
    assert refused(folder) == (f"usedge: {folder} has weights that are not finite (pointer.weight)."
                               " The training diverged; train again.\n")


def test_a_damaged_checkpoint(checkpoint: Path, tmp_path: Path, refused: Any) -> None:
    folder = tmp_path / "last"
    shutil.copytree(checkpoint, folder)
    whole = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "SHA-256 differs" in refused(folder)


RECIPES = {
    'name = "int8"': ('name = "int8"\nopset = 99', "key opset is unknown."),
    '"onnx-int8"]': ('"onnx-int4"]', "variant onnx-int4 is unknown. The nearest known one is onnx-int8."),
    '"litert-fp32", ': ('"openvino-fp32", ', "variant openvino-fp32 is unknown."),
    "ascans = 1024": ("ascans = 1e999", "parity.ascans is inf. It must be a whole number"),
    "[gate]": ("[gate", "is no readable TOML"),
}


@pytest.mark.parametrize("old", RECIPES)
def test_recipes(checkpoint: Path, tmp_path: Path, refused: Any, old: str) -> None:
    new, told = RECIPES[old]
    assert SHIPPED.count(old) == 1
    recipe = tmp_path / "own.toml"
    recipe.write_text(SHIPPED.replace(old, new))
    said = refused(checkpoint, "--recipe", recipe)
    assert f"{recipe}" in said
    assert told in said


def calibration(**changes: Any) -> dict[str, Any]:
    synth = generate("field", ROWS, 5, SAMPLES)
    return {"x": synth.x, "fs_hz": FS_HZ, "t0_s": 0.0, "tof_s": synth.onset / FS_HZ} | changes


def with_row(value: float) -> np.ndarray[Any, Any]:
    """A-scans whose fourth row holds ``value`` alone."""
    return np.where(np.arange(ROWS)[:, np.newaxis] == 3, value, calibration()["x"])


EMPTY = np.full(ROWS, np.nan)
CALIBRATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "short": ({"x": np.ones((ROWS, 10)), "tof_s": EMPTY}, "the gate of row 0 is constant"),
    "short RF": ({"x": np.arange(10.0) * np.ones((ROWS, 1)), "tof_s": EMPTY}, "at least 64 are needed"),
    "one A-scan": ({"x": np.arange(640.0)}, "x has shape (640,). It must be (A-scans, samples)"),
    "labels": ({"tof_s": np.zeros(5)}, "tof_s has shape (5,), but x has 24 rows"),
    "constant": ({"x": with_row(7.0)}, "the gate of row 3 is constant, which no receiver sends. Leave it"),
    "nan": ({"x": with_row(np.nan)}, "x has NaN or infinity in row 3. Leave it out."),
    "inf": ({"x": with_row(np.inf)}, "x has NaN or infinity in row 3. Leave it out."),
    "gates": ({"gate_s": np.zeros((ROWS, 2))}, "the gate of row 0"),
    "objects": ({"x": np.array([[print]], object)}, "cannot be read"),
}


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_calibration_files(checkpoint: Path, tmp_path: Path, refused: Any, name: str) -> None:
    changes, told = CALIBRATIONS[name]
    path = tmp_path / "tank.npz"
    np.savez(path, **calibration(**changes))
    said = refused(checkpoint, "--calibrate", path)
    assert f"{path}" in said
    assert told in said


@pytest.mark.parametrize("name", ["short", "short RF", "constant", "nan", "labels"])
def test_calibration_files_that_would_fix_ranges(checkpoint: Path, tmp_path: Path, refused: Any, name: str
                                                 ) -> None:
    changes, told = CALIBRATIONS[name]
    path = tmp_path / "tank.npz"
    np.savez(path, **calibration(**changes))
    said = refused(checkpoint, "--recipe", "static", "--calibrate", path)
    assert f"{path}" in said
    assert told in said


def test_a_cut_calibration_file(checkpoint: Path, tmp_path: Path, refused: Any) -> None:
    path = tmp_path / "tank.npz"
    np.savez(path, **calibration())
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path} cannot be read" in refused(checkpoint, "--calibrate", path)
    assert "neither .npz nor .h5" in refused(checkpoint, "--calibrate", checkpoint / "weights.safetensors")
    assert f"there is no file {tmp_path / 'none.npz'}" in refused(
        checkpoint, "--calibrate", tmp_path / "none.npz")


def test_a_key_of_no_use_is_refused_before_the_work_begins(checkpoint: Path, tmp_path: Path, refused: Any
                                                           ) -> None:
    pytest.importorskip("cryptography", reason="signatures need the extra 'sign'")
    assert "the private key" in refused(checkpoint, "--sign", tmp_path / "none.pem")
