"""ONNX variants: opset 20 with native Gelu and LayerNormalization, then dynamic int8 per tensor."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from usedge.backends.onnx import PATCHES
from usedge.sparse import SHARES
from usedge_export.forms import OfSome, counts, deployable
from usedge_export.quiet import quiet


def onnx_fp32(model: nn.Module, n_samples: int) -> bytes:
    """``model`` as an ONNX file: ``x (1, n_samples) float32`` → ``out (1, 3l + 1) float32``; where it can be
    asked about some patches, with ``places (1, k) int64`` → (1, 3k + 1), whatever k.

    Raises InputError where torch cannot export it.
    """
    with tempfile.TemporaryDirectory() as folder, quiet("torch.onnx"):
        import onnx

        path, form, given = Path(folder) / "model.onnx", deployable(model), [torch.zeros(1, n_samples)]
        shapes: list[dict[int, Any] | None] = [None]
        few = counts(model)
        if few:
            form = OfSome(form).eval()
            given.append(torch.arange(few[0])[None])
            shapes.append({1: torch.export.Dim("k", min=2, max=few[0] * SHARES[0])})
        torch.onnx.export(form, tuple(given), path, dynamo=True, external_data=False,
                          input_names=["x", "places"][: len(given)], output_names=["out"],
                          dynamic_shapes=tuple(shapes))
        graph = onnx.load(path)
        if few:
            onnx.helper.set_model_props(graph, {PATCHES: str(few[0] * SHARES[0])})
        return bytes(graph.SerializeToString(deterministic=True))


def onnx_int8(fp32: bytes) -> bytes:
    """The ONNX file ``fp32`` with int8 weights per tensor; activations are quantised as they come.

    Raises InputError where onnxruntime cannot quantise it.
    """
    with tempfile.TemporaryDirectory() as folder, quiet("onnxruntime"):
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        graph = onnx.load_from_string(fp32)
        # The shapes that torch noted contradict those that the quantiser infers, which it refuses.
        del graph.graph.value_info[:]
        path = Path(folder) / "model.onnx"
        quantize_dynamic(graph, path, weight_type=QuantType.QInt8, per_channel=False)
        return path.read_bytes()
