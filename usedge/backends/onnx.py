"""onnxruntime, an extra: for Jetson and for machines without a LiteRT wheel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from usedge.errors import InputError, MissingExtraError

Float32 = NDArray[np.float32]


class OnnxBackend:
    """An ONNX file, run by onnxruntime on the CPU."""

    def __init__(self, model: bytes, threads: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtraError("onnxruntime", "onnx") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # onnxruntime's own error classes share no public base.
            raise InputError(f"onnxruntime cannot load this model: {str(error).splitlines()[0]}") from None
        self._input = self._session.get_inputs()[0].name
        self._outputs = [self._session.get_outputs()[0].name]

    def infer(self, x: Float32) -> Float32:
        """``x (1, n_samples)`` → (1, 3l + 1)."""
        out: Float32 = self._session.run(self._outputs, {self._input: x})[0]
        return out

    def close(self) -> None:
        """Free the session."""
        del self._session
