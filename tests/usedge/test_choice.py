"""Which runtime "auto" takes: measured here, once, and only one that answers right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from usedge.bundle import Bundle, read_bundle
from usedge.errors import InputError, MissingExtraError
from usedge.resources import shipped_bundle
from usedge.runtime import choice
from usedge.runtime.choice import RUNTIME_VARIABLE, Tried, choose, try_runtime
from usedge.runtime.picker import open_model_picker


@pytest.fixture
def bundle() -> Bundle:
    return read_bundle(shipped_bundle())


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(RUNTIME_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "usedge" / "runtimes.json"


def answers(monkeypatch: pytest.MonkeyPatch, **found: Tried | float) -> list[str]:
    """Stand-ins for the trials, by runtime; gives the list of those that were tried."""
    tried: list[str] = []

    def stand_in(name: str, _bundle: Bundle) -> Tried:
        tried.append(name)
        what = found.get(name, Tried(name, None, f"{name} is not installed.", "Install it.", missing=True))
        return what if isinstance(what, Tried) else Tried(name, what)

    monkeypatch.setattr(choice, "try_runtime", stand_in)
    return tried


def test_the_fastest_is_taken_and_said_and_not_measured_again(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, said = answers(monkeypatch, litert=700.0, onnx=450.0), list[str]()
    assert choose(bundle, said.append) == "onnx"
    assert said[-1] == "runtime onnx 450 µs, litert 700 µs an inference: onnx is taken"
    n = len(tried)
    assert n >= 2
    assert choose(bundle, said.append) == "onnx"
    assert len(tried) == n
    answers(monkeypatch, litert=300.0, onnx=450.0)
    assert choose(bundle) == "onnx"
    assert choose(bundle, anew=True) == "litert"
    assert choose(bundle) == "litert"


def test_one_that_answers_wrongly_is_named_and_never_taken(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, litert=700.0, onnx=Tried("onnx", None, "onnx: golden vector 3 differs.", "Do not."))
    said: list[str] = []
    assert choose(bundle, said.append) == "litert"
    assert any("golden vector 3 differs. It is not used." in line for line in said)


def test_where_none_answers_there_is_a_next_step(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch)
    with pytest.raises(MissingExtraError, match="Install it"):
        choose(bundle)
    answers(monkeypatch, litert=Tried("litert", None, "litert: no.", "Try onnx."))
    with pytest.raises(InputError, match="usedge doctor"):
        choose(bundle)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"x": 3}'])
def test_a_damaged_cache_is_measured_anew(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, own_cache: Path,
                                          content: str) -> None:
    own_cache.parent.mkdir(parents=True)
    own_cache.write_text(content)
    tried = answers(monkeypatch, litert=700.0)
    assert choose(bundle) == "litert"
    assert tried
    answers(monkeypatch, onnx=1.0)
    assert choose(bundle) == "litert"


def test_without_a_cache_folder_it_still_runs(bundle: Bundle, monkeypatch: pytest.MonkeyPatch,
                                              tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    answers(monkeypatch, litert=700.0)
    assert choose(bundle) == "litert"


def test_a_package_that_was_installed_anew_is_tried_anew(bundle: Bundle, monkeypatch: pytest.MonkeyPatch,
                                                         tmp_path: Path) -> None:
    package = tmp_path / "some_runtime" / "__init__.py"
    package.parent.mkdir()
    package.touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(choice, "PACKAGES", {**choice.PACKAGES, "some": "some_runtime"})
    answers(monkeypatch, litert=700.0)
    assert choose(bundle) == "litert"
    answers(monkeypatch, onnx=1.0)
    assert choose(bundle) == "litert"
    os.utime(package, ns=(1, 1))
    assert choose(bundle) == "onnx"


def test_a_named_runtime_spares_the_trial(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUNTIME_VARIABLE, "onnx")
    assert not answers(monkeypatch)
    assert choose(bundle) == "onnx"


def test_a_real_trial_is_timed_or_says_what_is_missing(bundle: Bundle) -> None:
    pytest.importorskip("ai_edge_litert", reason="the extra tflite is not installed")
    tried = try_runtime("litert", bundle)
    assert tried.p50_us is not None
    assert 1 < tried.p50_us < 1e6
    damaged = try_runtime("no-such-runtime", bundle)
    assert damaged.p50_us is None
    assert damaged.what


def test_a_picker_takes_the_choice(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    answers(monkeypatch, litert=700.0, onnx=450.0)
    picker = open_model_picker(bundle)
    assert picker.variant.runtime == "onnx"
    picker.close()
