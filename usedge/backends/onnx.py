"""onnxruntime on the CPU, an extra: for machines without a LiteRT wheel, or where it is the faster one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from usedge.errors import InputError, MissingExtraError
from usedge.sparse import Places

Float32 = NDArray[np.float32]
CPU = "CPUExecutionProvider"
PATCHES = "usedge_patches"
"""Key of the file's own notes: how many patches a model has that can be asked about some of them."""


class OnnxBackend:
    """An ONNX file, run by onnxruntime on the CPU. ``provider`` is onnxruntime's word for what runs it."""

    fault = ""
    """Why it is another provider than the one that was asked for."""

    def __init__(self, model: bytes, threads: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtraError("onnxruntime", "onnx") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        try:
            self._session = self._session_of(onnxruntime, model, options)
        except InputError:
            raise
        except Exception as error:
            # onnxruntime's own error classes share no public base.
            raise InputError(f"onnxruntime cannot load this model: {str(error).splitlines()[0]}") from None
        self.provider: str = self._session.get_providers()[0]
        self._inputs = [each.name for each in self._session.get_inputs()]
        patches = self._session.get_modelmeta().custom_metadata_map.get(PATCHES, "0")
        self._every: Places = np.arange(int(patches))[np.newaxis]
        self._outputs = [self._session.get_outputs()[0].name]

    def _session_of(self, onnxruntime: Any, model: bytes, options: Any) -> Any:
        """A session; raises onnxruntime's own errors for a model that it cannot load."""
        return onnxruntime.InferenceSession(model, options, providers=[CPU])

    def infer(self, x: Float32, places: Places | None = None) -> Float32:
        """``x (1, n_samples)`` → (1, 3l + 1), or (1, 3k + 1) on ``places (1, k)``; raises InputError where
        the model was exported without.
        """
        given: dict[str, Float32 | Places] = {self._inputs[0]: x}
        if len(self._inputs) > 1:
            given[self._inputs[1]] = self._every if places is None else places
        elif places is not None:
            raise InputError("this ONNX variant answers on all patches alone.", "Export the bundle again.")
        out: Float32 = self._session.run(self._outputs, given)[0]
        return out

    def close(self) -> None:
        """Free the session."""
        del self._session
