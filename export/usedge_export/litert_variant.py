"""TFLite variants: through StableHLO without tensorflow, then int8 per tensor, dynamic or static."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from usedge.backends.litert import SOME, WHOLE
from usedge_export.calibration_set import CalibrationSet
from usedge_export.forms import OfSome, counts, deployable
from usedge_export.quiet import quiet

HEADS = ".*Linear_(pointer|no_echo|classes).*"
"""Linears that answer: in one int8 range for logits and places alike the places would be coarse."""


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


def litert_static(fp32: bytes, chosen: CalibrationSet) -> bytes:
    """The flatbuffer ``fp32`` with int8 weights per tensor, and activations in the ranges of ``chosen``.

    Raises InputError where ai-edge-quantizer cannot quantise it.
    """
    with quiet("ai-edge-quantizer"):
        from ai_edge_quantizer.calibrator import Calibrator
        from ai_edge_quantizer.qtyping import QuantGranularity, TFLOperationName
        from ai_edge_quantizer.quantizer import Quantizer
        from ai_edge_quantizer.recipe_manager import RecipeManager
        from ai_edge_quantizer.utils.qsv_utils import min_max_update

        quantizer = Quantizer(fp32)
        linear, per_tensor = TFLOperationName.FULLY_CONNECTED, QuantGranularity.TENSORWISE
        quantizer.add_static_config(regex=".*", operation_name=linear, activation_num_bits=8,
                                    weight_num_bits=8, weight_granularity=per_tensor)
        quantizer.add_dynamic_config(regex=HEADS, operation_name=linear, num_bits=8, granularity=per_tensor)
        # Its own way of calibrating forgets: a moving average, which cuts off the largest echoes.
        ranges = Calibrator(fp32, num_threads=1, qsv_update_func=min_max_update)
        recipe = RecipeManager()
        recipe.load_quantization_recipe(quantizer.get_quantization_recipe())
        ranges.calibrate(_asked(fp32, chosen), recipe)
        return bytes(quantizer.quantize(ranges.get_model_qsvs()).quantized_model or b"")


def _asked(fp32: bytes, chosen: CalibrationSet) -> dict[str, list[dict[str, Any]]]:
    """Every A-scan for every signature of ``fp32``, with its most telling patches where that takes few."""
    from ai_edge_litert.interpreter import Interpreter

    asked = {}
    for name in Interpreter(model_content=fp32).get_signature_list():
        if name == WHOLE:
            asked[name] = [{"args_0": x} for x in chosen.rows()]
        else:
            some = chosen.some(int(name.removeprefix(SOME)))
            asked[name] = [{"args_0": x, "args_1": places.astype(np.int32)} for x, places in some]
    return asked
