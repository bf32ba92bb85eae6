"""LiteRT (the TFLite runtime), the default on every device."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usedge.errors import InputError, MissingExtraError
from usedge.sparse import Places

Float32 = NDArray[np.float32]
SOME = "patches_"
"""Signatures that answer on few patches: so many of them as the number behind it."""


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
        self._some: dict[int, Any] = {}

    def infer(self, x: Float32, places: Places | None = None) -> Float32:
        """``x (1, n_samples)`` → (1, 3l + 1), or (1, 3k + 1) on ``places (1, k)``; raises InputError where
        the model was exported without that k.
        """
        if places is not None:
            return self._of_some(x, places)
        self._interpreter.set_tensor(self._input, x)
        self._interpreter.invoke()
        out: Float32 = self._interpreter.get_tensor(self._output)
        return out

    def _of_some(self, x: Float32, places: Places) -> Float32:
        count = places.shape[1]
        if count not in self._some:
            name = f"{SOME}{count}"
            if name not in self._interpreter.get_signature_list():
                raise InputError(f"this TFLite variant does not answer on {count} patches.",
                                 "Export the bundle again.")
            with _native_talk_silenced():
                self._some[count] = self._interpreter.get_signature_runner(name)
        runner = self._some[count]
        answers = runner(args_0=x, args_1=places.astype(np.int32))
        out: Float32 = next(iter(answers.values()))
        return out

    def close(self) -> None:
        """Free the interpreter."""
        self._some.clear()
        del self._interpreter
