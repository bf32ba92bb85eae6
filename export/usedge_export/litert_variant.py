"""TFLite variants: through StableHLO without tensorflow, then dynamic int8 per tensor."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn

from usedge.backends.litert import SOME
from usedge_export.forms import OfSome, counts, deployable
from usedge_export.quiet import quiet


def litert_fp32(model: nn.Module, n_samples: int) -> bytes:
    """``model`` as a TFLite flatbuffer: (1, n_samples) float32 → (1, 3l + 1) float32; beside it, with the
    same weights, a signature for each of ``counts`` that answers on so many patches.

    Raises InputError where litert-torch cannot convert it.
    """
    with tempfile.TemporaryDirectory() as folder, quiet("litert-torch"):
        import litert_torch
        from litert_torch.model import DEFAULT_SIGNATURE_NAME

        path, x = Path(folder) / "model.tflite", torch.zeros(1, n_samples)
        whole = deployable(model)
        made = litert_torch.signature(DEFAULT_SIGNATURE_NAME, whole, (x,))
        for count in counts(model):
            places = torch.arange(count, dtype=torch.int32)[None]
            made = made.signature(f"{SOME}{count}", OfSome(whole).eval(), (x, places))
        made.convert().export(str(path))
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
