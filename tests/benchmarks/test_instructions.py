"""Counted instructions: that they are of a pass, do not depend on values, how the stored ones were made."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from usedge.backends.native import NativeBackend, NativeMissingError
from usedge.boards.work import Sizes, native_sizes
from usedge.errors import InputError

ROOT = Path(__file__).parents[2]
TINY = Sizes(tokens=16, d_model=16, heads=1, d_head=16, mlp_hidden=32, layers=1, patch=8)


def _module() -> ModuleType:
    path = ROOT / "benchmarks" / "instructions" / "run.py"
    spec = importlib.util.spec_from_file_location("usedge_instructions", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


instructions = _module()


def need(core: str) -> None:
    compiler, _, emulator, _ = instructions.CORES[core]
    for tool in ("cc", compiler, emulator):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    major = re.search(r"version (\d+)", instructions.version(emulator))
    if major is None or not 6 <= int(major[1]) <= 8:
        pytest.skip(f"the plugin is for QEMU 6 to 8, and not for {instructions.version(emulator)}")


def test_random_weights_are_weights_of_the_native_runtime() -> None:
    content = instructions.weights(TINY)
    assert native_sizes(content) == TINY
    try:
        backend = NativeBackend(content)
    except NativeMissingError as error:
        pytest.skip(str(error))
    out = backend.infer(np.ones((1, TINY.tokens * TINY.patch), np.float32))
    assert out.shape == (1, 3 * TINY.tokens + 1)
    assert np.isfinite(out).all()


def test_a_pass_of_two_layers_takes_nearly_twice_the_instructions(tmp_path: Path) -> None:
    need("Cortex-A72")
    one = instructions.one_pass("Cortex-A72", TINY, tmp_path)
    two = instructions.one_pass("Cortex-A72", replace(TINY, layers=2), tmp_path)
    assert 1.6 < two["total"] / one["total"] < 2.0
    kinds = one["vector"] + one["loads"] + one["stores"] + one["branch"]
    assert 0.7 * one["total"] < kinds < 1.3 * one["total"]  # loads count by the registers that they fill


def test_the_count_does_not_depend_on_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("Cortex-A76")
    first = instructions.one_pass("Cortex-A76", TINY, tmp_path)
    made = instructions.weights
    monkeypatch.setattr(instructions, "weights", lambda sizes: made(sizes, seed=7))
    other = instructions.one_pass("Cortex-A76", TINY, tmp_path)
    assert other["total"] == pytest.approx(first["total"], rel=1e-3)


def test_the_stored_counts_are_still_those_of_this_code() -> None:
    stored = json.loads((ROOT / "benchmarks" / "results" / "instructions.json").read_text())
    assert stored["command"] == "make instructions"
    assert {row["core"] for row in stored["rows"]} == set(instructions.CORES)
    assert stored["flags"] == list(instructions.FLAGS)
    assert stored["sources"] == instructions.source_sums(), "export/c has changed. Run: make instructions"


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="cc is not installed"):
        instructions.one_pass("Cortex-A72", TINY, tmp_path)
