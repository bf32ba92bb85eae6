"""Runtimes that usedge does not ship, as backends to be compared with, each only where it is installed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usedge.errors import MissingExtraError

Float32 = NDArray[np.float32]

CALIBRATION = 128
"""Prepared A-scans that int8 ranges are taken from."""


class OpenVINOBackend:
    """An ONNX file, run by OpenVINO on one thread of the CPU, in fp32; with ``calibrate (n, n_samples)`` in
    full-integer int8 by NNCF, which is how OpenVINO's documentation quantises a transformer.
    """

    def __init__(self, model: bytes, patches: int, calibrate: Float32 | None = None) -> None:
        try:
            import openvino
        except ImportError:
            raise MissingExtraError("openvino", "", "Run: pip install openvino nncf") from None
        core = openvino.Core()
        graph: Any = core.read_model(io.BytesIO(model))
        self._places = [np.arange(patches)[np.newaxis]] if len(graph.inputs) > 1 else []
        if self._places:
            graph.reshape({graph.inputs[1]: [1, patches]})
        if calibrate is not None:
            graph = self._quantised(graph, calibrate)
        hints = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
        self._request = core.compile_model(graph, "CPU", hints).create_infer_request()

    def _quantised(self, graph: Any, calibrate: Float32) -> Any:
        try:
            import nncf
        except ImportError:
            raise MissingExtraError("nncf", "", "Run: pip install nncf") from None
        rows = [[row[np.newaxis], *self._places] for row in calibrate]
        return nncf.quantize(graph, nncf.Dataset(rows), model_type=nncf.ModelType.TRANSFORMER,
                             subset_size=len(rows))

    def infer(self, x: Float32, places: Any = None) -> Float32:
        """``x (1, n_samples)`` → (1, 3l + 1); it is asked about all patches alone."""
        del places
        self._request.infer([x, *self._places])
        return np.array(self._request.get_output_tensor(0).data)

    def close(self) -> None:
        """Free the request."""
        del self._request
