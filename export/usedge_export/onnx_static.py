"""The static int8 ONNX variant: the dynamic one, its activations in ranges that a calibration set has fixed.

Not by QDQ nodes around each linear: of those onnxruntime computes some in fp32, and adds each bias apart, so
that they take longer than dynamic int8.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usedge.backends.onnx import PATCHES
from usedge.sparse import SHARES
from usedge_export.calibration_set import CalibrationSet
from usedge_export.onnx_variant import onnx_int8
from usedge_export.quiet import quiet

LEVELS = 255
"""Steps of uint8 from the lowest to the highest activation."""


def onnx_static(fp32: bytes, chosen: CalibrationSet) -> bytes:
    """The ONNX file ``fp32`` with int8 weights per tensor, and activations in the ranges of ``chosen``.

    Raises InputError where onnxruntime cannot quantise it.
    """
    dynamic = onnx_int8(fp32)
    with quiet("onnxruntime"):
        import onnx

        model = onnx.load_from_string(dynamic)
        scalings = [node for node in model.graph.node if node.op_type == "DynamicQuantizeLinear"]
        _fix(model.graph, scalings, *_ranges(dynamic, [node.output[1:] for node in scalings], chosen))
        _fuse(model.graph)
        if not any(each.domain == "com.microsoft" for each in model.opset_import):
            model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
        return bytes(model.SerializeToString(deterministic=True))


def _ranges(dynamic: bytes, names: list[Any], chosen: CalibrationSet
            ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest activation (len(names),) that ``dynamic`` scales on ``chosen``, by what it tells as
    scale and zero point under ``names``.
    """
    import onnx
    import onnxruntime

    model = onnx.load_from_string(dynamic)
    asked = [name for pair in names for name in pair]
    kinds = [onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8] * len(names)
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, kind, [])
                              for name, kind in zip(asked, kinds, strict=True))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                           providers=["CPUExecutionProvider"])
    low, high = np.zeros(len(names)), np.zeros(len(names))
    for given in _asked(model, chosen):
        told = np.array([float(each) for each in session.run(asked, given)])
        scale, zero = told[::2], told[1::2]
        low, high = np.minimum(low, -zero * scale), np.maximum(high, (LEVELS - zero) * scale)
    return low, high


def _asked(model: Any, chosen: CalibrationSet) -> Iterator[dict[str, Any]]:
    """Every A-scan asked about whole and, where the model can be, about each share of its patches."""
    patches = int({each.key: each.value for each in model.metadata_props}.get(PATCHES, 0))
    every = {"places": np.arange(patches)[np.newaxis]} if patches else {}
    yield from ({"x": x, **every} for x in chosen.rows())
    for share in SHARES if patches else ():
        yield from ({"x": x, "places": places} for x, places in chosen.some(patches // share))


def _fix(graph: Any, scalings: list[Any], low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
    """Let each of ``scalings`` take constants from ``low`` and ``high`` instead of finding its own."""
    from onnx import numpy_helper

    for node, lowest, highest in zip(scalings, low, high, strict=True):
        scale = np.float32((highest - lowest) / LEVELS)
        quantised, *names = node.output
        values = (np.array(scale), np.array(np.rint(-lowest / scale), np.uint8))
        graph.initializer.extend(numpy_helper.from_array(value, name)
                                 for value, name in zip(values, names, strict=True))
        node.op_type, node.input[:], node.output[:] = "QuantizeLinear", [node.input[0], *names], [quantised]


def _fuse(graph: Any) -> None:
    """Each product of integers, what scales it and its bias as one node: onnxruntime does so by itself where
    scales are found on the way, and not where they are constants.
    """
    makers = {name: node for node in graph.node for name in node.output}
    constants = {each.name: each for each in graph.initializer}
    spent = []
    for product in [node for node in graph.node if node.op_type == "MatMulInteger"]:
        chain = list(_behind(graph, product, constants))
        cast, scaled, *added = chain
        both = makers[next(name for name in scaled.input if name != cast.output[0])]
        a_scale = makers[product.input[0]].input[1]
        b_scale = next(name for name in both.input if name != a_scale)
        bias = [name for node in added for name in node.input if name in constants]
        product.op_type, product.domain = "MatMulIntegerToFloat", "com.microsoft"
        a, b, *zeros = product.input
        product.input[:], product.output[:] = [a, b, a_scale, b_scale, *zeros, *bias], chain[-1].output
        spent += [both.output[0], *(node.output[0] for node in chain)]
    kept = [node for node in graph.node
            if node.op_type == "MatMulIntegerToFloat" or node.output[0] not in spent]
    del graph.node[:]
    graph.node.extend(kept)


def _behind(graph: Any, product: Any, constants: Any) -> Iterator[Any]:
    """What follows ``product`` and belongs to it: a cast, a scaling and, where it has one, the bias."""
    node = product
    for kind in ("Cast", "Mul", "Add"):
        after = [each for each in graph.node if node.output[0] in each.input]
        biases = [constants[name] for each in after for name in each.input if name in constants]
        if kind == "Add" and not (len(after) == 1 and after[0].op_type == kind
                                  and len(biases) == 1 and len(biases[0].dims) == 1):
            return
        (node,) = after
        yield node
