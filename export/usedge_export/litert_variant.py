"""TFLite variants: through StableHLO without tensorflow, then dynamic int8 per tensor."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn

from usedge_export.quiet import quiet


def litert_fp32(model: nn.Module, n_samples: int) -> bytes:
    """``model`` as a TFLite flatbuffer: (1, n_samples) float32 → (1, 3l + 1) float32.

    Raises InputError where litert-torch cannot convert it.
    """
    with tempfile.TemporaryDirectory() as folder, quiet("litert-torch"):
        import litert_torch

        path = Path(folder) / "model.tflite"
        litert_torch.convert(model, (torch.zeros(1, n_samples),)).export(str(path))
        return path.read_bytes()


def litert_int8(fp32: bytes) -> bytes:
    """The flatbuffer ``fp32`` with int8 weights in its linears; activations are quantised as they come.

    Raises InputError where ai-edge-quantizer cannot quantise it.
    """
    with tempfile.TemporaryDirectory() as folder, quiet("ai-edge-quantizer"):
        from ai_edge_quantizer.qtyping import QuantGranularity, TFLOperationName
        from ai_edge_quantizer.quantizer import Quantizer

        source, target = Path(folder) / "fp32.tflite", Path(folder) / "int8.tflite"
        source.write_bytes(fp32)
        quantizer = Quantizer(str(source))
        # Per tensor: the per-channel form is FULLY_CONNECTED version 5, which tflite-runtime 2.14 loads and
        # answers wrongly without a word. Per tensor is right in both, and as fast.
        quantizer.add_dynamic_config(regex=".*", operation_name=TFLOperationName.FULLY_CONNECTED, num_bits=8,
                                     granularity=QuantGranularity.TENSORWISE)
        quantizer.quantize().export_model(str(target))
        return target.read_bytes()
