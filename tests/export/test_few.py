"""Variants that are asked about few patches: what they answer is torch's answer on the same patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from usedge.backends import Backend, open_backend
from usedge.errors import InputError
from usedge.sparse import telling
from usedge.spec import SignalSpec

torch = pytest.importorskip("torch", reason="export starts from a torch checkpoint: extra 'export'")
for package in ("onnx", "onnxscript", "onnxruntime", "litert_torch", "ai_edge_quantizer"):
    pytest.importorskip(package, reason="conversion needs the extra 'export'")

from usedge.models.config import MAEConfig  # noqa: E402
from usedge.models.nets import ToFNet  # noqa: E402
from usedge_export.litert_variant import litert_int8  # noqa: E402
from usedge_export.onnx_variant import onnx_fp32, onnx_int8  # noqa: E402

SPEC = SignalSpec()
X = np.random.default_rng(3).standard_normal((1, 2048)).astype(np.float32)


@pytest.fixture(scope="module")
def opened(fp32: dict[str, bytes]) -> dict[str, Backend]:
    files = {"litert-fp32": fp32["litert"], "litert-int8": litert_int8(fp32["litert"]),
             "onnx-fp32": fp32["onnx"], "onnx-int8": onnx_int8(fp32["onnx"])}
    return {name: open_backend(name.partition("-")[0], content) for name, content in files.items()}


@pytest.mark.parametrize("name", ["litert-fp32", "litert-int8", "onnx-fp32", "onnx-int8"])
@torch.no_grad()
def test_few_patches_are_answered_as_torch_does(name: str, net: ToFNet, opened: dict[str, Backend]) -> None:
    backend, limit = opened[name], 0.15 if name.endswith("int8") else 1e-4
    whole = net(torch.from_numpy(X)).numpy()
    for k in (16, 32, None, 16):
        places = None if k is None else telling(X, 32, k)
        wanted = whole if places is None else net(torch.from_numpy(X), torch.from_numpy(places)).numpy()
        out = backend.infer(X) if places is None else backend.infer(X, places)
        assert out.shape == wanted.shape
        assert np.abs(out - wanted).max() < limit


def test_litert_has_fixed_numbers_of_patches(opened: dict[str, Backend]) -> None:
    with pytest.raises(InputError, match="no signature patches_7"):
        opened["litert-int8"].infer(X, np.arange(7)[np.newaxis])


def test_a_network_without_tokens_to_choose_is_exported_for_all(tmp_path: Path) -> None:
    torch.manual_seed(1)
    cnn = ToFNet(SPEC, MAEConfig(d_model=32, backbone="cnn")).eval()
    backend = open_backend("onnx", onnx_fp32(cnn, 2048))
    assert backend.infer(X).shape == (1, 193)
    with pytest.raises(InputError, match="all patches alone"):
        backend.infer(X, np.arange(16)[np.newaxis])
