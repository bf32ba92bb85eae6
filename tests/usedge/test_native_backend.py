"""The native backend where it cannot be had: each way ends in one line that says what to do."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from usedge.backends import BACKENDS, native, open_backend
from usedge.errors import InputError, MissingExtraError


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No library from an earlier test, and a cache folder of its own."""
    monkeypatch.delenv(native.LIBRARY_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    native._library.cache_clear()
    yield
    native._library.cache_clear()


def refusal(kind: type[InputError] = InputError) -> str:
    with pytest.raises(kind) as caught:
        open_backend("native", b"no weights")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_is_the_last_that_auto_takes() -> None:
    assert list(BACKENDS)[-1] == "native"


def test_no_compiler_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    told = refusal(MissingExtraError)
    assert "'no-such-compiler' is not installed" in told
    assert "apt-get install gcc" in told
    assert native.LIBRARY_VARIABLE in told


def test_compiler_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")
    assert "'false" in refusal(MissingExtraError)


def test_what_is_no_library_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for path, content in ((tmp_path / "missing.so", None), (tmp_path / "text.so", "text")):
        if content is not None:
            path.write_text(content)
        native._library.cache_clear()
        monkeypatch.setenv(native.LIBRARY_VARIABLE, str(path))
        assert str(path) in refusal()


@pytest.mark.skipif(shutil.which("cc") is None, reason="cc is not installed")
def test_library_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source, library = tmp_path / "old.c", tmp_path / "old.so"
    source.write_text("unsigned usnet_version(void) { return 99u; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    monkeypatch.setenv(native.LIBRARY_VARIABLE, str(library))
    assert "is version 99" in refusal()


@pytest.mark.skipif(shutil.which("cc") is None, reason="cc is not installed")
def test_built_once_and_what_is_no_model_is_refused(tmp_path: Path) -> None:
    assert "cannot load this model: the weights are truncated" in refusal()
    built = list((tmp_path / "cache" / "usedge").iterdir())
    assert [path.name.startswith("usnet-") for path in built] == [True]
    made = built[0].stat().st_mtime_ns
    native._library.cache_clear()
    refusal()
    assert built[0].stat().st_mtime_ns == made
