"""LiteRT (the TFLite runtime), the default on every device."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from usedge.errors import InputError, MissingExtraError

Float32 = NDArray[np.float32]


@contextmanager
def _native_talk_silenced() -> Iterator[None]:
    """LiteRT's C++ side greets on stderr at every load and has no switch for it."""
    sys.stderr.flush()
    kept = os.dup(2)
    silent = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silent, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(silent)


class LiteRTBackend:
    """A TFLite flatbuffer, run by ``ai-edge-litert`` through XNNPACK."""

    def __init__(self, model: bytes, threads: int = 1) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise MissingExtraError(
                "ai-edge-litert", "onnx", "Run: pip install ai-edge-litert – or, where it has no wheel,"
                " pip install 'usedge[onnx]' and --runtime onnx.") from None
        self._model = model  # the interpreter reads the weights in place
        try:
            with _native_talk_silenced():
                self._interpreter = Interpreter(model_content=model, num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InputError(f"LiteRT cannot load this model: {str(error).splitlines()[0]}") from None
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def infer(self, x: Float32) -> Float32:
        """``x (1, n_samples)`` → (1, 3l + 1)."""
        self._interpreter.set_tensor(self._input, x)
        self._interpreter.invoke()
        out: Float32 = self._interpreter.get_tensor(self._output)
        return out

    def close(self) -> None:
        """Free the interpreter."""
        del self._interpreter
