"""tflite-runtime, the fallback: when it is taken, what is said where it cannot be, and its real answers."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from usedge.backends import open_backend, tflite
from usedge.bundle import Bundle, read_bundle
from usedge.errors import InputError, MissingExtraError
from usedge.resources import shipped_bundle
from usedge.runtime.choice import in_bundle, try_runtime
from usedge.runtime.picker import open_model_picker

FAKE = """
class Interpreter:
    def __init__(self, model_content, num_threads):
        self.threads = num_threads
        if model_content == b"no model":
            raise ValueError("Model provided has model identifier 'mode'\\nmore")
    def allocate_tensors(self): pass
    def get_input_details(self): return [{"index": 0}]
    get_output_details = get_input_details
    def get_signature_list(self): return {}
    def set_tensor(self, index, x): self.x = x
    def invoke(self): pass
    def get_tensor(self, index): return 0.0 * self.x[:, :193]
"""


@pytest.fixture
def bundle() -> Bundle:
    return read_bundle(shipped_bundle())


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a package of that name before the real one, if any, here and in processes that are started."""

    def put(content: str) -> None:
        folder = tmp_path / "first" / "tflite_runtime"
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        (folder / "interpreter.py").write_text(content)
        monkeypatch.syspath_prepend(str(folder.parent))
        monkeypatch.setenv("PYTHONPATH", str(folder.parent))
        monkeypatch.setattr(np, "__version__", "1.26.4")
        for name in ("tflite_runtime", "tflite_runtime.interpreter"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()

    return put


@pytest.fixture(autouse=True)
def none_left_behind() -> None:
    for name in [name for name in sys.modules if name.startswith("tflite_runtime")]:
        del sys.modules[name]


def refusal(kind: type[InputError] = InputError, model: bytes = b"model") -> str:
    with pytest.raises(kind) as caught:
        open_backend("tflite", model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_runs_the_fp32_file_of_litert(bundle: Bundle) -> None:
    variant = bundle.default_for("tflite")
    assert (variant.name, variant.runtime) == ("litert-fp32", "tflite")
    assert bundle.default_for("litert").name == "litert-int8"


def test_a_bundle_without_that_file_says_so(bundle: Bundle) -> None:
    int8 = {name: each for name, each in bundle.variants.items() if each.precision == "int8"}
    poor = replace(bundle, variants=int8)
    with pytest.raises(InputError, match="It has: litert-int8") as caught:
        open_model_picker(poor, "tflite")
    assert "has no variant litert-fp32, which the runtime 'tflite' runs" in str(caught.value)
    assert "tflite" not in in_bundle(poor)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tflite, "find_spec", lambda _: None)
    monkeypatch.setattr(sys, "version_info", (3, 11, 7))
    assert "pip install 'usedge[tflite]'" in refusal(MissingExtraError)
    monkeypatch.setattr(sys, "version_info", (3, 13, 1))
    assert "no wheel for Python 3.13" in refusal(MissingExtraError)


def test_numpy_2_is_named_with_what_to_run(package: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
                                           ) -> None:
    package("raise AssertionError('it must not be imported')")
    monkeypatch.setattr(np, "__version__", "2.4.6")
    told = refusal()
    assert "this is numpy 2.4.6" in told
    assert 'pip install "numpy<2"' in told


def test_one_that_cannot_be_loaded_is_named(package: Callable[[str], None]) -> None:
    package("raise ImportError(\"/lib/libc.so.6: version `GLIBC_2.34' not found\")")
    assert "`GLIBC_2.34' not found" in refusal()


def test_what_it_cannot_read_is_refused(package: Callable[[str], None]) -> None:
    package(FAKE)
    assert "tflite-runtime cannot load this model: Model provided" in refusal(model=b"no model")


def test_one_that_answers_wrongly_is_never_taken(package: Callable[[str], None], bundle: Bundle) -> None:
    package(FAKE)
    assert "tflite" in in_bundle(bundle)
    with pytest.raises(InputError, match="answered wrongly"):
        open_model_picker(bundle, "tflite")


def test_auto_looks_for_it_only_where_it_is_installed(bundle: Bundle, package: Callable[[str], None]) -> None:
    assert ("tflite" in in_bundle(bundle)) == (find_spec("tflite_runtime") is not None)
    package(FAKE)
    assert in_bundle(bundle)[:2] == ["litert", "tflite"]


def test_the_real_one_answers_the_golden_vectors(bundle: Bundle) -> None:
    if find_spec("tflite_runtime") is None or np.__version__.startswith("2"):
        pytest.skip("tflite-runtime is not installed, or is with numpy 2")
    tried = try_runtime("tflite", bundle)
    assert tried.p50_us is not None, tried.what
    done = subprocess.run([sys.executable, "-m", "usedge", "run", "--port", "sim://", "--count", "3",
                           "--runtime", "tflite"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 3
    assert "XNNPACK" not in done.stderr
