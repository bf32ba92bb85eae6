"""Runtimes that execute a bundle's variants, each imported only when it is chosen."""

from __future__ import annotations

import importlib
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from usedge.errors import InputError
from usedge.sparse import Places

Float32 = NDArray[np.float32]

BACKENDS = {
    "litert": ("usedge.backends.litert", "LiteRTBackend"),
    "tflite": ("usedge.backends.tflite", "TFLiteBackend"),
    "onnx": ("usedge.backends.onnx", "OnnxBackend"),
    "cuda": ("usedge.backends.gpu", "CudaBackend"),
    "tensorrt": ("usedge.backends.gpu", "TensorRTBackend"),
    "native": ("usedge.backends.native", "NativeBackend"),
}


class Backend(Protocol):
    """A loaded model: normalised gates in, the network's numbers out."""

    def infer(self, x: Float32, places: Places | None = None) -> Float32:
        """``x (1, n_samples) float32`` → (1, 3l + 1); or (1, 3k + 1) on the patches ``places (1, k)`` alone,
        which raises InputError where the model was exported without.
        """
        ...

    def close(self) -> None:
        """Free the model."""
        ...


def open_backend(runtime: str, model: bytes, threads: int = 1) -> Backend:
    """Load ``model`` (a TFLite flatbuffer, an ONNX file, or weights for our C code) into ``runtime``.

    Raises InputError for an unknown runtime and MissingExtraError where its package is not installed.
    """
    if runtime not in BACKENDS:
        raise InputError(f"runtime {runtime!r} is unknown.",
                         f"Known: {', '.join(BACKENDS)}, classical, auto.")
    module, name = BACKENDS[runtime]
    backend: Backend = getattr(importlib.import_module(module), name)(model, threads)
    return backend
