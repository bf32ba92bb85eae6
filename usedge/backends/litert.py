"""LiteRT (the TFLite runtime), the default on every device."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from usedge.backends.talk import native_talk_caught
from usedge.errors import InputError, MissingExtraError
from usedge.sparse import Places

Float32 = NDArray[np.float32]
WHOLE, SOME = "serving_default", "patches_"
"""Signatures: that of all patches, and the beginning of those of few, their number behind it."""


class LiteRTBackend:
    """A TFLite flatbuffer, run by ``ai-edge-litert`` through XNNPACK."""

    NAME = "LiteRT"

    def __init__(self, model: bytes, threads: int = 1) -> None:
        interpreter = self.interpreter()
        self._model = model  # the interpreter reads the weights in place
        try:
            with native_talk_caught():  # it greets at every load, and has no switch for it
                self._interpreter = interpreter(model_content=model, num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{self.NAME} cannot load this model: {str(error).splitlines()[0]}") from None
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._signatures = set(self._interpreter.get_signature_list())
        self._runners: dict[str, Any] = {}

    @staticmethod
    def interpreter() -> Any:
        """The interpreter's class; raises MissingExtraError without its package."""
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise MissingExtraError(
                "ai-edge-litert", "onnx", "Run: pip install ai-edge-litert – or, where it has no wheel,"
                " pip install 'usedge[onnx]' or 'usedge[tflite]'.") from None
        return Interpreter

    def infer(self, x: Float32, places: Places | None = None) -> Float32:
        """``x (1, n_samples)`` → (1, 3l + 1), or (1, 3k + 1) on ``places (1, k)``; raises InputError where
        the model was exported without that k.
        """
        if places is not None:
            return self._run(f"{SOME}{places.shape[1]}", args_0=x, args_1=places.astype(np.int32))
        if WHOLE in self._signatures and len(self._signatures) > 1:
            # Beside a signature's runner the interpreter itself may not be run.
            return self._run(WHOLE, args_0=x)
        self._interpreter.set_tensor(self._input, x)
        self._interpreter.invoke()
        out: Float32 = self._interpreter.get_tensor(self._output)
        return out

    def _run(self, name: str, **given: Float32 | NDArray[np.int32]) -> Float32:
        if name not in self._runners:
            if name not in self._signatures:
                raise InputError(f"this TFLite variant has no signature {name}.", "Export the bundle again.")
            with native_talk_caught():
                self._runners[name] = self._interpreter.get_signature_runner(name)
        out: Float32 = next(iter(self._runners[name](**given).values()))
        return out

    def close(self) -> None:
        """Free the interpreter."""
        self._runners.clear()
        del self._interpreter
