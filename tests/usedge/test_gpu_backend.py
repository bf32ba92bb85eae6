"""onnxruntime's GPU providers, played by a stand-in: what is asked of it, what it took, and what is said."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usedge.backends import gpu, open_backend
from usedge.backends.gpu import CUDA, TENSORRT
from usedge.backends.onnx import CPU
from usedge.bundle import Bundle, read_bundle
from usedge.cli.distance import open_picker
from usedge.errors import InputError, MissingExtraError
from usedge.resources import shipped_bundle
from usedge.runtime import choice
from usedge.runtime.choice import BY_NAME_ALONE, in_bundle
from usedge.runtime.picker import open_model_picker, open_runtime
from usedge_bench.peers import REFERENCE, Peers

CUBLAS = "libcublasLt.so.12: cannot open shared object file"
TALK = (b"2026-01-01 [E:onnxruntime:Default, provider_bridge_ort.cc:1 TryGetProviderInfo_CUDA] FAIL : Failed"
        b" to load library libonnxruntime_providers_cuda.so with error: " + CUBLAS.encode() + b"\n\n"
        b"2026-01-01 [W:onnxruntime:Default] Failed to create CUDAExecutionProvider.\n")


class RuntimeFailedError(Exception):
    """As onnxruntime's own, which share no base that it exports."""


class Runtime(types.ModuleType):
    """An onnxruntime with ``available`` providers, of which ``broken`` ones cannot be loaded: it says so and
    takes the next, or, where ``raises``, refuses. Answers come from ``answer``, or fail on a GPU.
    """

    def __init__(self, *available: str, broken: tuple[str, ...] = (), raises: bool = False,
                 answer: Callable[[Any], Any] | None = None) -> None:
        super().__init__("onnxruntime")
        self.available, self.broken, self.raises, self.answer = [*available, CPU], broken, raises, answer
        self.asked: list[list[Any]] = []
        self.SessionOptions = types.SimpleNamespace

    def get_available_providers(self) -> list[str]:
        return self.available

    def InferenceSession(  # noqa: N802
        self, model: bytes, _options: Any, providers: list[Any], **_: Any
    ) -> Session:
        self.asked.append(providers)
        names = [each if isinstance(each, str) else each[0] for each in providers]
        if model == b"no model":
            raise RuntimeFailedError("Protobuf parsing failed.\nmore")
        if set(names) & set(self.broken):
            print("*** EP Error ***")  # noqa: T201 - what it does to stdout
            os.write(2, TALK)
            if self.raises:
                raise RuntimeFailedError("EP Error CUDA_PATH is set but CUDA wasn't able to be loaded; more")
        return Session([each for each in names if each not in self.broken], self.answer)


class Session:
    def __init__(self, providers: list[str], answer: Callable[[Any], Any] | None) -> None:
        self.providers, self.answer, self.falls_back = providers, answer, True

    def get_providers(self) -> list[str]:
        return self.providers

    def disable_fallback(self) -> None:
        self.falls_back = False

    def get_inputs(self) -> list[Any]:
        return [types.SimpleNamespace(name="x"), types.SimpleNamespace(name="places")]

    get_outputs = get_inputs

    def get_modelmeta(self) -> Any:
        return types.SimpleNamespace(custom_metadata_map={"usedge_patches": "64"})

    def run(self, _outputs: list[str], given: dict[str, Any]) -> list[Any]:
        if self.answer is None:
            raise RuntimeFailedError("CUDA failure 700: an illegal memory access was encountered ; GPU=0")
        return [self.answer(given)]


@pytest.fixture
def bundle() -> Bundle:
    return read_bundle(shipped_bundle())


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Runtime]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def installed(*available: str, **how: Any) -> Runtime:
        runtime = Runtime(*available, **how)
        monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
        return runtime

    return installed


def right(bundle: Bundle) -> Callable[[Any], Any]:
    """The golden answers, on all patches and on any of them."""
    golden, length = bundle.golden(), bundle.spec.n_patches

    def answer(given: dict[str, Any]) -> Any:
        row = next(i for i, x in enumerate(golden.x) if np.array_equal(x, given["x"][0]))
        places, out = given["places"][0], golden.out[row]
        return np.concatenate([out[places], out[length : length + 1], out[places + length + 1],
                               out[places + 2 * length + 1]])[np.newaxis]

    return answer


def test_cuda_comes_before_the_cpu_and_the_cpu_last(install: Callable[..., Runtime]) -> None:
    runtime = install(TENSORRT, CUDA)
    for name, providers in (("onnx", [CPU]), ("cuda", [CUDA, CPU])):
        backend: Any = open_backend(name, b"model")
        assert runtime.asked[-1] == providers
        assert (backend.provider, backend.fault) == (providers[0], "")
        backend.close()


def test_tensorrt_keeps_its_engines_apart_for_each_model(install: Callable[..., Runtime], tmp_path: Path
                                                         ) -> None:
    runtime = install(TENSORRT, CUDA)
    folders = set()
    for model in (b"one", b"other", b"one"):
        backend: Any = open_backend("tensorrt", model)
        assert backend.provider == TENSORRT
        (name, options), *others = runtime.asked[-1]
        assert (name, others) == (TENSORRT, [CUDA, CPU])
        folder = Path(options["trt_engine_cache_path"])
        assert folder.is_dir()
        assert folder.is_relative_to(tmp_path / "cache")
        folders.add(folder)
    assert len(folders) == 2


def test_tensorrt_runs_where_nothing_can_be_kept(install: Callable[..., Runtime], tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    runtime = install(TENSORRT)
    backend: Any = open_backend("tensorrt", b"model")
    assert backend.provider == TENSORRT
    assert runtime.asked == [[(TENSORRT, {}), CPU]]


def test_an_onnxruntime_without_the_provider_says_which_it_has(install: Callable[..., Runtime]) -> None:
    install("AzureExecutionProvider")
    for name, provider in (("cuda", CUDA), ("tensorrt", TENSORRT)):
        with pytest.raises(MissingExtraError, match=provider) as caught:
            open_backend(name, b"model")
        told = str(caught.value)
        assert "\n" not in told
        assert "AzureExecutionProvider, CPUExecutionProvider" in told
        assert "onnxruntime-gpu" in told


@pytest.mark.parametrize("raises", [False, True])
def test_a_provider_that_fails_to_load_ends_no_run_and_is_told_once(
        bundle: Bundle, install: Callable[..., Runtime], capfd: pytest.CaptureFixture[str], raises: bool
) -> None:
    install(CUDA, broken=(CUDA,), raises=raises, answer=right(bundle))
    said: list[str] = []
    _, facts = open_picker("cuda", None, "", None, say=said.append)
    assert said == [f"{CUDA} cannot be loaded ({CUBLAS}); the network runs on {CPU}"]
    assert facts is not None
    assert (facts["variant"], facts["runtime"], facts["provider"]) == ("onnx-fp32", "cuda", CPU)
    written = capfd.readouterr()
    assert (written.out, written.err) == ("", "")
    with pytest.raises(InputError, match="cannot be loaded"):  # the trial takes no CPU for a GPU
        open_runtime(bundle, "cuda")


def test_tensorrt_that_fails_leaves_it_to_cuda(bundle: Bundle, install: Callable[..., Runtime]) -> None:
    install(TENSORRT, CUDA, broken=(TENSORRT,), answer=right(bundle))
    said: list[str] = []
    picker = open_model_picker(bundle, "tensorrt", say=said.append)
    assert picker.provider == CUDA
    assert "may take minutes" in said[0]
    assert said[1].startswith(f"{TENSORRT} cannot be loaded")
    assert said[1].endswith(f"runs on {CUDA}")


def test_what_ran_is_told(bundle: Bundle, install: Callable[..., Runtime]) -> None:
    install(CUDA, answer=right(bundle))
    said: list[str] = []
    for name, variant, provider in (("cuda", "onnx-fp32", CUDA), ("onnx", "onnx-int8", CPU)):
        _, facts = open_picker(name, None, "", None, say=said.append)
        assert facts is not None
        assert (facts["variant"], facts["runtime"], facts["provider"]) == (variant, name, provider)
    assert said == []


def test_benchmarks_compare_it_with_the_cpu(bundle: Bundle, install: Callable[..., Runtime]) -> None:
    install(CUDA, answer=lambda given: given["x"])
    with Peers(bundle, "cuda", 2048, 0) as peers:
        names = list(peers.in_turns(0, 1))
    assert names[0] == "onnxruntime-cuda-fp32"
    assert REFERENCE in names


def test_a_gpu_that_answers_wrongly_or_fails_is_refused(bundle: Bundle, install: Callable[..., Runtime]
                                                        ) -> None:
    install(CUDA, answer=lambda given: 0.5 * right(bundle)(given))
    with pytest.raises(InputError, match="answered wrongly"):
        open_runtime(bundle, "cuda")
    install(CUDA)
    with pytest.raises(InputError, match=f"failed on {CUDA}: an illegal memory access was encountered"):
        open_runtime(bundle, "cuda")


def test_a_damaged_model_is_not_taken_for_a_missing_gpu(install: Callable[..., Runtime]) -> None:
    install(CUDA)
    with pytest.raises(InputError, match="cannot load this model: Protobuf parsing failed"):
        open_backend("cuda", b"no model")


@pytest.mark.parametrize(("said", "told"), [
    ([], "no reason given"), (["", "\n"], "no reason given"), (["x\nlast words.\n"], "last words"),
    (["CUDA failure 100: no CUDA-capable device is detected ; GPU=0"], "no CUDA-capable device is detected"),
    (["with error: " + "x" * 500], "x" * 160),
])
def test_reasons_are_one_short_line(said: list[str], told: str) -> None:
    assert gpu._reason(said) == told


def test_auto_looks_for_cuda_where_onnxruntime_is_and_never_for_tensorrt(
        bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"onnxruntime"}
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: name in there or None)
    assert in_bundle(bundle) == ["litert", "onnx", "cuda", "native"]
    there.clear()
    assert in_bundle(bundle) == ["litert", "onnx", "native"]
    assert BY_NAME_ALONE == ("tensorrt",)


def test_a_real_onnxruntime_without_a_gpu_is_told_apart(bundle: Bundle) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    if CUDA in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime was built for CUDA")
    with pytest.raises(MissingExtraError, match="CPUExecutionProvider"):
        open_backend("cuda", bundle.variant_bytes("onnx-fp32"))


def test_a_real_onnxruntime_gpu_answers_right_and_says_where(bundle: Bundle,
                                                             capfd: pytest.CaptureFixture[str]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    if CUDA not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime was not built for CUDA")
    said: list[str] = []
    picker = open_model_picker(bundle, "cuda", say=said.append)
    assert picker.provider in (CUDA, CPU)
    assert len(said) == (picker.provider == CPU)
    assert capfd.readouterr() == ("", "")
