"""Our own C code (``export/c``), compiled once on this machine by its C compiler and called by ctypes.

One thread only. ``USEDGE_NATIVE_LIBRARY`` names a library that was built elsewhere, for devices without a
compiler.
"""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usedge.errors import InputError, MissingExtraError
from usedge.meter import processor
from usedge.resources import folder
from usedge_firmware.clibrary import NativeUnavailableError, build_library

Float32 = NDArray[np.float32]
Places = NDArray[np.int64]

LIBRARY_VARIABLE = "USEDGE_NATIVE_LIBRARY"
SOURCES = "export/c"
VERSION = 2
ALIGN = 64
SOME = 16
"""Patches that are looked at alone come in multiples of it."""
MODEL_BYTES = 64
"""Room for a ``usnet_model``, which is smaller."""

# Without these two, compilers may fuse products and sums into other bits.
FLAGS = ("-std=c99", "-ffp-contract=off", "-O3", "-shared", "-fPIC")
PLACES_REFUSED = -11
_OPEN_ERRORS = {
    -3: "these are no weights of the native runtime", -4: "the weights are of another version",
    -5: "the weights are truncated or too long", -6: "the network has sizes that the C code cannot run",
    -7: "the weights are damaged: their checksum differs", -10: "this machine is big-endian",
}


class NativeMissingError(MissingExtraError):
    """The C code cannot be built here; the message says why, and what to do about it."""

    def __init__(self, reason: str) -> None:
        self.package, self.extra = "cc", ""
        InputError.__init__(
            self, f"the native runtime cannot be built: {reason.splitlines()[0].rstrip('.:')}.",
            f"Install a C compiler (Debian: apt-get install gcc libc6-dev), name a library that was built"
            f" elsewhere in {LIBRARY_VARIABLE}, or choose another --runtime.")


class NativeBackend:
    """Weights in the format of ``usnet.h``, run by our own C code."""

    def __init__(self, model: bytes, threads: int = 1) -> None:
        del threads  # there is one, whatever is asked for
        self._library = _library()
        self._weights = _aligned(len(model))
        self._weights[:] = np.frombuffer(model, np.uint8)
        self._model = ctypes.create_string_buffer(MODEL_BYTES)
        code = self._library.usnet_open(self._model, self._weights.ctypes.data, len(model))
        if code:
            raise InputError(f"the native runtime cannot load this model: {_OPEN_ERRORS.get(code, code)}.",
                             "Export the bundle again with this version of usedge.")
        self._inputs = self._library.usnet_inputs(self._model)
        self._outputs = self._library.usnet_outputs(self._model)
        self._scratch = _aligned(self._library.usnet_scratch_size(self._model))
        self.patches = (self._outputs - 1) // 3

    @property
    def kernel(self) -> str:
        """Which vector instructions it was compiled for."""
        name: bytes = self._library.usnet_kernel()
        return name.decode()

    def infer(self, x: Float32, places: Places | None = None) -> Float32:
        """``x (1, n_samples)`` → (1, 3l + 1), or (1, 3k + 1) of the patches ``places (1, k)`` alone.

        Raises InputError for another shape, for NaN or ∞ in ``x``, and for places that are not in ascending
        order, not patches of ``x``, or no multiple of 16.
        """
        if x.shape != (1, self._inputs):
            raise InputError(f"the native runtime takes A-scans of shape (1, {self._inputs}), not {x.shape}.")
        x, scratch = np.ascontiguousarray(x, np.float32), self._scratch
        if places is None:
            out = np.empty((1, self._outputs), np.float32)
            code = self._library.usnet_infer(self._model, x.ctypes.data, out.ctypes.data, scratch.ctypes.data,
                                             scratch.nbytes)
        else:
            chosen = self._chosen(places)
            out = np.empty((1, 3 * chosen.size + 1), np.float32)
            code = self._library.usnet_infer_some(self._model, x.ctypes.data, chosen.ctypes.data, chosen.size,
                                                  out.ctypes.data, scratch.ctypes.data, scratch.nbytes)
        if code == PLACES_REFUSED:
            raise InputError(f"the native runtime refused the places {_shortly(places)}.",
                             f"Give a multiple of {SOME} of the {self.patches} patches, in ascending order.")
        if code:
            raise InputError(f"the native runtime refused an A-scan (error {code}): a sample is not finite.")
        return out

    def _chosen(self, places: Places) -> NDArray[np.uint16]:
        if places.ndim != 2 or len(places) != 1:
            raise InputError(f"the native runtime takes places of shape (1, k), not {places.shape}.")
        if places.size and not 0 <= int(places.min()) <= int(places.max()) < self.patches:
            raise InputError(f"the native runtime refused the places {_shortly(places)}.",
                             f"Patches are numbered 0 … {self.patches - 1}.")
        return np.ascontiguousarray(places[0], np.uint16)

    def close(self) -> None:
        """Free weights and scratch."""
        del self._weights, self._scratch


def _shortly(places: Places | None) -> str:
    return np.array2string(np.asarray(places).ravel(), threshold=8, separator=", ").replace("\n", "")


def _aligned(size: int) -> NDArray[np.uint8]:
    """Bytes (size,) at a multiple of ALIGN."""
    room = np.empty(size + ALIGN, np.uint8)
    start = -room.ctypes.data % ALIGN
    return room[start : start + size]


@cache
def _library() -> ctypes.CDLL:
    named = os.environ.get(LIBRARY_VARIABLE)
    return _with_signatures(_named(Path(named)) if named else _built())


def _named(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
        version = int(library.usnet_version())
    except (OSError, AttributeError) as error:
        raise InputError(f"{path}, which {LIBRARY_VARIABLE} names, is no library of the native runtime"
                         f" ({str(error).splitlines()[0]}).", "Build it for this machine: make -C export/c"
                         " library.") from None
    if version != VERSION:
        raise InputError(f"{path} is version {version} of the native runtime; {VERSION} is needed.",
                         "Build it from this release: make -C export/c library.")
    return library


def native_flags() -> tuple[str, ...]:
    """What lets a compiler use all that this processor has."""
    arm = platform.machine().startswith(("aarch64", "arm"))
    return ("-mcpu=native",) if arm else ("-march=native", "-mprefer-vector-width=512")


def _built() -> ctypes.CDLL:
    # An SD card moves to another board: what was built for one processor is not for the next.
    try:
        try:
            return build_library("usnet", folder(SOURCES), (*FLAGS, *native_flags()), processor())
        except NativeUnavailableError:  # a compiler that does not know this processor
            return build_library("usnet", folder(SOURCES), FLAGS)
    except NativeUnavailableError as error:
        raise NativeMissingError(str(error)) from None


def _with_signatures(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    library.usnet_open.argtypes = (pointer, pointer, size)
    library.usnet_open.restype = ctypes.c_int32
    library.usnet_infer.argtypes = (pointer, pointer, pointer, pointer, size)
    library.usnet_infer.restype = ctypes.c_int32
    library.usnet_infer_some.argtypes = (pointer, pointer, pointer, size, pointer, pointer, size)
    library.usnet_infer_some.restype = ctypes.c_int32
    for name in ("inputs", "outputs", "scratch_size"):
        function = getattr(library, f"usnet_{name}")
        function.argtypes, function.restype = (pointer,), size
    library.usnet_kernel.restype = ctypes.c_char_p
    return library
