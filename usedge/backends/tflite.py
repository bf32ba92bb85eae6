"""tflite-runtime 2.14, for systems that ai-edge-litert has no wheel for: 32-bit ARM with Python 3.11.

fp32 alone: int8 with a scale for each channel it answers wrongly, without a word, and other int8 slowly.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import numpy as np

from usedge.backends.litert import LiteRTBackend
from usedge.errors import InputError, MissingExtraError

PACKAGE = "tflite-runtime"
NO_WHEEL_FROM = (3, 12)


class TFLiteBackend(LiteRTBackend):
    """A TFLite flatbuffer in fp32, run by ``tflite-runtime`` through XNNPACK."""

    NAME = PACKAGE

    @staticmethod
    def interpreter() -> Any:
        """The interpreter's class; raises MissingExtraError without the package, InputError where it is of
        no use.
        """
        if find_spec("tflite_runtime") is None:
            raise MissingExtraError(PACKAGE, "tflite", _how_to_install())
        if int(np.__version__.partition(".")[0]) >= 2:
            # It is imported all the same, and ends in the midst of NumPy's own warnings.
            raise InputError(f"{PACKAGE} needs numpy 1, and this is numpy {np.__version__}.",
                             'Run: pip install "numpy<2"')
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError as error:
            raise InputError(f"{PACKAGE} cannot be loaded: {str(error).splitlines()[0]}.",
                             "It needs glibc 2.34 or newer (Debian 12).") from None
        return Interpreter


def _how_to_install() -> str:
    if sys.version_info >= NO_WHEEL_FROM:
        return (f"It has no wheel for Python {sys.version_info[0]}.{sys.version_info[1]}: take Python 3.11,"
                " or --runtime litert.")
    return "Run: pip install 'usedge[tflite]'"
