"""ONNX variants: opset 20 with native Gelu and LayerNormalization, then dynamic int8 per tensor."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn

from usedge_export.quiet import quiet


def onnx_fp32(model: nn.Module, n_samples: int) -> bytes:
    """``model`` as an ONNX file: ``x (1, n_samples) float32`` → ``out (1, 3l + 1) float32``.

    Raises InputError where torch cannot export it.
    """
    with tempfile.TemporaryDirectory() as folder, quiet("torch.onnx"):
        path = Path(folder) / "model.onnx"
        torch.onnx.export(model, (torch.zeros(1, n_samples),), path, dynamo=True, external_data=False,
                          input_names=["x"], output_names=["out"])
        return path.read_bytes()


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
