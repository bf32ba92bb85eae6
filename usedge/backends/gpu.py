"""onnxruntime on an NVIDIA GPU: the fp32 ONNX file by CUDA, or by TensorRT, which compiles it for minutes.

Dynamic int8 has no kernel there for DynamicQuantizeLinear, and would go to the CPU and back at every layer.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from usedge.backends.onnx import CPU, Float32, OnnxBackend
from usedge.backends.talk import native_talk_caught
from usedge.errors import InputError, MissingExtraError
from usedge.sparse import Places

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
_REASON = re.compile(r"(?:with error: |failure \d+: |EP Error )([^;\n]+)")
_REASON_LENGTH = 160


class NoProviderError(MissingExtraError):
    """The onnxruntime that is installed was built without the provider that was asked for."""

    def __init__(self, provider: str, available: list[str]) -> None:
        self.package, self.extra = "onnxruntime-gpu", ""
        InputError.__init__(
            self, f"this onnxruntime has no {provider}, only {', '.join(available)}.",
            "For an NVIDIA GPU install onnxruntime-gpu in its place; on a Jetson NVIDIA's wheel.")


class CudaBackend(OnnxBackend):
    """An ONNX file, run by onnxruntime on a GPU; what has no kernel there, and all of it where the GPU cannot
    be used, on the CPU. ``provider`` says on which, ``fault`` why it is not the one that was asked for.
    """

    PROVIDERS: tuple[str, ...] = (CUDA,)

    def _session_of(self, onnxruntime: Any, model: bytes, options: Any) -> Any:
        available = onnxruntime.get_available_providers()
        if self.PROVIDERS[0] not in available:
            raise NoProviderError(self.PROVIDERS[0], available)
        wanted = [self._with_options(each, model) for each in self.PROVIDERS if each in available]
        said: list[str] = []
        try:
            # onnxruntime's own fallback tells of itself on stdout, among the readings.
            with redirect_stdout(io.StringIO()), native_talk_caught() as said:
                session = onnxruntime.InferenceSession(model, options, providers=[*wanted, CPU],
                                                       enable_fallback=0)
        except Exception as error:
            said.append(str(error))
            session = super()._session_of(onnxruntime, model, options)
        session.disable_fallback()
        if session.get_providers()[0] != self.PROVIDERS[0]:
            self.fault = f"{self.PROVIDERS[0]} cannot be loaded ({_reason(said)})"
        return session

    def infer(self, x: Float32, places: Places | None = None) -> Float32:
        """As of ``OnnxBackend``; raises InputError where the GPU fails."""
        try:
            return super().infer(x, places)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"onnxruntime failed on {self.provider}: {_reason([str(error)])}.",
                             "Run with another: --runtime onnx") from None

    @staticmethod
    def _with_options(provider: str, model: bytes) -> Any:
        return (provider, _kept_engines(model)) if provider == TENSORRT else provider


class TensorRTBackend(CudaBackend):
    """The same by TensorRT, and by CUDA what TensorRT leaves."""

    PROVIDERS = (TENSORRT, CUDA)


def _kept_engines(model: bytes) -> dict[str, str]:
    """A folder for each model: onnxruntime names an engine by the graph, whatever its weights are."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "usedge" / f"tensorrt-{hashlib.sha256(model).hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return {}  # a read-only home: it is compiled at each start
    return {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(folder)}


def _reason(said: list[str]) -> str:
    """What onnxruntime gives as the cause, in one short line."""
    text = "\n".join(said)
    found = _REASON.search(text)
    lines = [each for each in text.splitlines() if each.strip()] or ["no reason given"]
    line = found[1] if found else lines[-1]
    return " ".join(line.split())[:_REASON_LENGTH].rstrip(" .")
