"""The native runtime: its weights, its C code on every machine at hand, and the command that writes them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

from tests.export.native_builds import CROSS, HOSTS, SOURCES, answers, build, need
from usedge import resources
from usedge.bundle import read_bundle
from usedge.errors import InputError
from usedge.golden import wrong_answers
from usedge.preprocess import Preprocessor
from usedge.spec import SignalSpec
from usedge.synth import generate

torch = pytest.importorskip("torch", reason="weights are made from torch models: extra 'train'")
pytest.importorskip("safetensors", reason="checkpoints need the extra 'train'")
need("cc")

from usedge.backends.native import NativeBackend  # noqa: E402
from usedge.models.checkpoint import load_checkpoint  # noqa: E402
from usedge.models.config import MAEConfig  # noqa: E402
from usedge.models.nets import ToFNet  # noqa: E402
from usedge_export import cli  # noqa: E402
from usedge_export.native_variant import native_int8  # noqa: E402
from usedge_export.recipe import Recipe  # noqa: E402

Float32 = NDArray[np.float32]
Infer = Callable[[Float32], Float32]


@pytest.fixture(scope="module")
def weights(checkpoint: Path) -> bytes:
    return native_int8(load_checkpoint(checkpoint).model())


@pytest.fixture(scope="module")
def gates() -> Float32:
    x: Float32 = Preprocessor(SignalSpec()).batch(generate("field", 3, 99).x).x
    return x


def all_of(infer: Infer, x: Float32) -> Float32:
    return np.concatenate([infer(x[i : i + 1]) for i in range(len(x))])


def torch_answers(model: Any, x: Float32) -> Float32:
    with torch.inference_mode():
        return np.asarray(model(torch.from_numpy(x)).numpy())


@pytest.fixture(scope="module")
def shipped() -> tuple[Any, bytes]:
    """The shipped bundle, and the weights for C that it holds."""
    bundle = read_bundle(resources.shipped_bundle())
    return bundle, bundle.variant_bytes("native-int8")


def test_shipped_weights_answer_the_golden_vectors(shipped: tuple[Any, bytes]) -> None:
    bundle, weights = shipped
    golden, infer = bundle.golden(), NativeBackend(weights).infer
    assert wrong_answers(golden, bundle.thresholds.no_echo, infer) is None
    assert "answered wrongly" in (wrong_answers(golden, bundle.thresholds.no_echo,
                                                lambda x: np.roll(infer(x), 3, axis=1)) or "")


@pytest.mark.parametrize("sizes", [
    {}, {"heads": 1, "d_head": 48}, {"d_model": 48, "mlp_hidden": 80}, {"d_head": 128, "encoder_layers": 2},
], ids=str)
def test_answers_are_torchs(sizes: dict[str, int], gates: Float32) -> None:
    torch.manual_seed(11)
    base = {"d_model": 32, "heads": 2, "d_head": 16, "mlp_hidden": 32, "encoder_layers": 1}
    model = ToFNet(SignalSpec(), MAEConfig(**(base | sizes), decoder_layers=1)).eval()
    expected = torch_answers(model, gates)
    out = all_of(NativeBackend(native_int8(model)).infer, gates)
    assert (out.shape, out.dtype) == ((3, 193), np.float32)
    assert np.abs(out - expected).max() < 0.02 * np.abs(expected).max()


def test_other_grids_are_run(gates: Float32) -> None:
    spec = SignalSpec(n_samples=1024, patch=8)
    model = ToFNet(spec, MAEConfig(d_model=32, heads=2, d_head=16, mlp_hidden=32, encoder_layers=1)).eval()
    x = np.ascontiguousarray(gates[:, :1024])
    expected = torch_answers(model, x)
    out = all_of(NativeBackend(native_int8(model)).infer, x)
    assert np.abs(out - expected).max() < 0.02 * np.abs(expected).max()


def test_silence_is_answered(weights: bytes, checkpoint: Path) -> None:
    silent = np.zeros((1, 2048), np.float32)
    expected = torch_answers(load_checkpoint(checkpoint).model(), silent)
    out = NativeBackend(weights).infer(silent)
    assert np.abs(out - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("name", HOSTS)
def test_every_build_gives_the_same_bits(name: str, weights: bytes, gates: Float32, tmp_path: Path) -> None:
    expected = all_of(NativeBackend(weights).infer, gates).tobytes()
    assert answers(build(HOSTS[name], tmp_path), weights, gates) == expected


def test_avx_vnni_gives_the_same_bits(weights: bytes, gates: Float32, tmp_path: Path) -> None:
    if "avx_vnni" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no AVX-VNNI")
    expected = all_of(NativeBackend(weights).infer, gates).tobytes()
    assert answers(build(("cc", "-O3", "-mavxvnni"), tmp_path), weights, gates) == expected


@pytest.mark.parametrize("name", CROSS)
def test_every_machine_gives_the_same_bits(name: str, weights: bytes, shipped: tuple[Any, bytes],
                                           gates: Float32, tmp_path: Path) -> None:
    kernel, compiler, emulator = CROSS[name]
    need(emulator[0])
    program = build(compiler, tmp_path)
    damaged = subprocess.run([*emulator, str(program), str(program), str(program)], capture_output=True,
                             text=True, check=False)
    assert damaged.stderr == f"{kernel} refused with -3\n"
    golden = shipped[0].golden().x[4:5]
    for each, x in ((weights, gates), (shipped[1], golden)):
        expected = all_of(NativeBackend(each).infer, x).tobytes()
        assert answers(program, each, x, emulator) == expected


def refusal(content: bytes) -> str:
    with pytest.raises(InputError, match="cannot load this model") as caught:
        NativeBackend(content)
    return str(caught.value)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_changed_weights_are_refused(weights: bytes, data: st.DataObject) -> None:
    at = data.draw(st.one_of(st.integers(0, 63), st.integers(0, len(weights) - 1)))
    flip = data.draw(st.integers(1, 255))
    refusal(weights[:at] + bytes([weights[at] ^ flip]) + weights[at + 1 :])


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_other_lengths_are_refused(weights: bytes, data: st.DataObject) -> None:
    assert "truncated" in refusal(weights[: data.draw(st.integers(1, len(weights) - 1))])
    assert "too long" in refusal(weights + bytes(data.draw(st.integers(1, 200))))


def test_refusals_say_why(weights: bytes) -> None:
    for change, reason in (({0: 0}, "no weights of the native runtime"), ({8: 3}, "another version"),
                           ({20: 33}, "sizes that the C code cannot run"), ({60: 1}, "sizes that"),
                           ({16: 31}, "too long"), ({5000: weights[5000] ^ 1}, "checksum differs")):
        changed = bytearray(weights)
        for at, value in change.items():
            changed[at] = value
        assert reason in refusal(bytes(changed))


def test_networks_that_c_does_not_run_are_refused() -> None:
    for sizes, reason in (({"head": "pooled"}, "pointer head"), ({"backbone": "cnn"}, "transformer"),
                          ({"d_head": 20}, "d_head in multiples of 16; it is 20")):
        config = replace(MAEConfig(d_model=32, heads=2, d_head=16, mlp_hidden=32, encoder_layers=1), **sizes)
        with pytest.raises(InputError, match=reason):
            native_int8(ToFNet(SignalSpec(), config))


def test_native_is_added_to_a_recipe_once(recipe: Recipe) -> None:
    added = recipe.with_native()
    assert added.variants == (*recipe.variants, "native-int8")
    assert added.required == (*recipe.required, "native-int8")
    assert added.with_native() == added


def test_header_for_firmware_holds_the_bundles_weights(checkpoint: Path, recipe: Recipe, weights: bytes,
                                                       gates: Float32, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    alone = replace(recipe, variants=("native-int8",), required=())
    monkeypatch.setattr("usedge_export.recipe.read_recipe", lambda _: alone)
    out, header = tmp_path / "b.usedge", tmp_path / "weights.h"
    words = [str(checkpoint), "-o", str(out), "--c-header", str(header)]
    result = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    row = json.loads(result.stdout)["variants"]["native-int8"]
    assert row["accepted"]
    assert row["default"]
    bundle = read_bundle(out)
    assert bundle.default_for("native").name == "native-int8"
    assert bundle.variant_bytes("native-int8") == weights
    assert bundle.sha256 in header.read_text()
    source = (SOURCES / "tests" / "run.c").read_text()
    source = source.replace('#include "usnet.h"', '#include "usnet.h"\n#include "weights.h"')
    source = source.replace("usnet_open(&model, weights, size)",
                            "usnet_open(&model, usnet_weights, usnet_weights_size)")
    (tmp_path / "firmware.c").write_text(source)
    command = ["cc", "-std=c99", f"-I{SOURCES / 'include'}", str(tmp_path / "firmware.c"),
               str(SOURCES / "src" / "usnet.c"), "-o", str(tmp_path / "firmware")]
    subprocess.run(command, check=True)
    assert answers(tmp_path / "firmware", b"none", gates) == all_of(NativeBackend(weights).infer,
                                                                   gates).tobytes()


def test_header_in_no_folder_is_refused_first(checkpoint: Path, tmp_path: Path) -> None:
    words = [str(checkpoint), "-o", str(tmp_path / "b.usedge"), "--c-header", str(tmp_path / "no" / "w.h")]
    with pytest.raises(InputError, match="--c-header"):
        CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


def test_sizes_of_a_microcontroller_are_told(weights: bytes) -> None:
    need("arm-none-eabi-gcc")
    command = [sys.executable, str(SOURCES / "size.py"), "--dims", "32 64 32 2 16 32 1"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"| flash: weights | {len(weights):,} |" in shown
    scratch = re.search(r"scratch \| ([\d,]+)", shown)
    assert scratch is not None
    assert scratch[1] == f"{NativeBackend(weights)._scratch.nbytes:,}"


def test_c_code_is_freestanding(tmp_path: Path) -> None:
    command = ["cc", "-std=c99", "-O2", "-ffreestanding", f"-I{SOURCES / 'include'}", "-c",
               str(SOURCES / "src" / "usnet.c"), "-o", str(tmp_path / "usnet.o")]
    subprocess.run(command, check=True)
    need("nm")
    shown = subprocess.run(["nm", "-u", "usnet.o"], cwd=tmp_path, capture_output=True, text=True, check=True)
    wanted = {line.split()[-1] for line in shown.stdout.splitlines()}
    assert wanted <= {"memcpy", "memset", "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_"}
