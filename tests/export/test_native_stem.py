"""The native runtime's stem, and its answers on some patches alone: torch's, and the same bits everywhere."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.export.native_builds import CROSS, HOSTS, answers, build, need
from usedge.errors import InputError
from usedge.preprocess import Preprocessor
from usedge.spec import SignalSpec
from usedge.synth import generate

torch = pytest.importorskip("torch", reason="weights are made from torch models: extra 'train'")
need("cc")

from usedge.backends.native import NativeBackend  # noqa: E402
from usedge.models.config import MAEConfig  # noqa: E402
from usedge.models.nets import ToFNet  # noqa: E402
from usedge.models.stem import Stem  # noqa: E402
from usedge_export.native_variant import native_int8  # noqa: E402

Float32 = NDArray[np.float32]
Places = NDArray[np.int64]
SMALL = {"d_model": 32, "heads": 2, "d_head": 16, "mlp_hidden": 32, "encoder_layers": 1, "decoder_layers": 1}


def network(spec: SignalSpec | None = None, stem: str = "conv") -> Any:
    """An untrained network whose batch norms have seen something."""
    torch.manual_seed(7)
    model = ToFNet(spec or SignalSpec(), MAEConfig(**SMALL, stem=stem)).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_(0.0, 0.2)
                module.running_var.uniform_(0.3, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0.0, 0.2)
    return model


@pytest.fixture(scope="module")
def gates() -> Float32:
    x: Float32 = Preprocessor(SignalSpec()).batch(generate("field", 2, 98).x).x
    return x


@pytest.fixture(scope="module")
def weights() -> bytes:
    return native_int8(network())


def evenly(count: int, length: int = 64) -> Places:
    return (np.arange(count) * length // count)[np.newaxis]


def torch_answers(model: Any, x: Float32, places: Places | None = None) -> Float32:
    chosen = None if places is None else torch.from_numpy(places).expand(len(x), -1)
    with torch.inference_mode():
        return np.asarray(model(torch.from_numpy(x), chosen).numpy())


def native_answers(backend: NativeBackend, x: Float32, places: Places | None = None) -> Float32:
    return np.concatenate([backend.infer(x[i : i + 1], places) for i in range(len(x))])


def near(out: Float32, expected: Float32) -> bool:
    return bool(np.abs(out - expected).max() < 0.02 * np.abs(expected).max())


@pytest.mark.parametrize("patch", [16, 32, 64])
def test_stem_answers_as_torch(patch: int, gates: Float32) -> None:
    model = network(SignalSpec(n_samples=1024, patch=patch))
    x = np.ascontiguousarray(gates[:, :1024])
    out, expected = native_answers(NativeBackend(native_int8(model)), x), torch_answers(model, x)
    assert near(out, expected)
    assert isinstance(model.encoder.stem, Stem)
    model.encoder.stem = None
    assert not near(out, torch_answers(model, x))


def test_stem_sees_both_ends_of_the_gate(weights: bytes, gates: Float32) -> None:
    """An echo that begins or ends with the gate: frames that reach beyond it find zeros, as torch's do."""
    ends = np.zeros((2, 2048), np.float32)
    ends[0, :24], ends[1, -24:] = gates[0, 900:924] + 0.5, gates[0, 900:924] - 0.5
    assert near(native_answers(NativeBackend(weights), ends), torch_answers(network(), ends))


@pytest.mark.parametrize("stem", ["none", "conv"])
@pytest.mark.parametrize("count", [16, 48, 64])
def test_some_patches_answer_as_torch(stem: str, count: int, gates: Float32) -> None:
    model, places = network(stem=stem), evenly(count)
    backend = NativeBackend(native_int8(model))
    out = native_answers(backend, gates, places)
    assert (out.shape, out.dtype) == ((2, 3 * count + 1), np.float32)
    assert near(out, torch_answers(model, gates, places))
    if count == 64:
        assert out.tobytes() == native_answers(backend, gates).tobytes()


def test_the_last_patches_are_answered(weights: bytes, gates: Float32) -> None:
    places = np.arange(48, 64)[np.newaxis]
    out = native_answers(NativeBackend(weights), gates, places)
    assert near(out, torch_answers(network(), gates, places))


@pytest.mark.parametrize(("places", "said"), [
    (evenly(15), "multiple of 16"), (np.zeros((1, 0), np.int64), "multiple of 16"),
    (np.arange(16)[np.newaxis, ::-1], "ascending"), (np.zeros((1, 16), np.int64), "ascending"),
    (np.arange(49, 65)[np.newaxis], "0 … 63"), (np.arange(-1, 15)[np.newaxis], "0 … 63"),
    (np.arange(65536, 65552)[np.newaxis], "0 … 63"), (evenly(16)[0], r"shape \(1, k\)"),
    (np.repeat(evenly(16), 2, axis=0), r"shape \(1, k\)"),
], ids=str)
def test_bad_places_are_refused(places: Places, said: str, weights: bytes, gates: Float32) -> None:
    with pytest.raises(InputError, match=said) as caught:
        NativeBackend(weights).infer(gates[:1], places)
    assert "\n" not in str(caught.value)


def test_samples_that_are_not_finite_are_refused(weights: bytes, gates: Float32) -> None:
    x = gates[:1].copy()
    x[0, 2000] = np.nan
    with pytest.raises(InputError, match="not finite"):
        NativeBackend(weights).infer(x, evenly(16))


@pytest.mark.parametrize("patches", [0, 16])
@pytest.mark.parametrize("name", [name for name in HOSTS if name != "this machine"])
def test_every_build_gives_the_same_bits(name: str, patches: int, weights: bytes, gates: Float32,
                                         tmp_path: Path) -> None:
    places = evenly(patches) if patches else None
    expected = native_answers(NativeBackend(weights), gates, places).tobytes()
    assert answers(build(HOSTS[name], tmp_path), weights, gates, patches=patches) == expected


@pytest.mark.parametrize("name", CROSS)
def test_every_machine_gives_the_same_bits(name: str, weights: bytes, gates: Float32, tmp_path: Path) -> None:
    _, compiler, emulator = CROSS[name]
    need(emulator[0])
    expected = native_answers(NativeBackend(weights), gates[:1], evenly(32)).tobytes()
    assert answers(build(compiler, tmp_path), weights, gates[:1], emulator, patches=32) == expected


def changed(weights: bytes, at: int, value: int, version: int = 2) -> bytes:
    """``weights`` with another number in their header, and a checksum that is right."""
    content = bytearray(weights)
    struct.pack_into("<I", content, 8, version)
    struct.pack_into("<H", content, at, value)
    return bytes(content[:-4]) + struct.pack("<I", zlib.crc32(content[:-4]))


def test_weights_of_version_1_are_read(gates: Float32) -> None:
    weights = native_int8(network(stem="none"))
    new, old = NativeBackend(weights), NativeBackend(changed(weights, 30, 0, version=1))
    assert native_answers(new, gates).tobytes() == native_answers(old, gates).tobytes()


@pytest.mark.parametrize(("at", "value"), [
    (30, 0), (30, 65), (32, 0), (32, 17), (32, 12), (34, 4), (34, 17), (36, 0), (36, 3), (38, 24), (38, 16),
    (40, 40), (40, 128), (40, 0), (42, 65), (44, 65), (46, 1),
])
def test_stems_that_c_cannot_run_are_refused(at: int, value: int, weights: bytes) -> None:
    with pytest.raises(InputError, match="sizes that the C code cannot run"):
        NativeBackend(changed(weights, at, value))


def test_a_stem_in_weights_of_version_1_is_refused(weights: bytes) -> None:
    with pytest.raises(InputError, match="sizes that the C code cannot run"):
        NativeBackend(changed(weights, 30, 16, version=1))
