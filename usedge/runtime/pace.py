"""What this host does: the most that one core multiplies, and the median pass of each variant of a bundle."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

from usedge.backends import open_backend
from usedge.backends.native import native_flags
from usedge.boards.predict import Core
from usedge.bundle import Bundle, Variant, check_golden
from usedge.errors import InputError, MissingExtraError
from usedge.meter import processor
from usedge.runtime.choice import seconds
from usedge_firmware.clibrary import NativeUnavailableError, build_library

SOURCES = Path(__file__).parent / "peak"
FLAGS = ("-std=gnu99", "-O3", "-ffp-contract=fast", "-shared", "-fPIC")
ROUNDS, TIMES = 20_000, 40
"""Of a run, a tenth of a millisecond, and how many: the fastest of them is one that nothing cut."""


def host_core(caches: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> Core:
    """One core of this host: the most multiply-accumulates a second that it was seen to do, float and int8,
    and its last cache. Raises MissingExtraError without a C compiler.
    """
    try:
        library = build_library("peak", SOURCES, (*FLAGS, *native_flags()), processor())
    except NativeUnavailableError as error:
        raise NoCompilerError(str(error)) from None
    fp32 = _best(library.peak_fp32, ctypes.c_float(0.999))
    return Core(_best(library.peak_int8, ctypes.c_int32(0x01020304)) or fp32, fp32, _cache_bytes(caches))


class NoCompilerError(MissingExtraError):
    """The C code that measures this core's limit cannot be built here."""

    def __init__(self, reason: str) -> None:
        self.package, self.extra = "cc", ""
        InputError.__init__(self, "this core's limit cannot be measured:"
                            f" {reason.splitlines()[0].rstrip('.:')}.",
                            "Install a C compiler (Debian: apt-get install gcc libc6-dev).")


def _best(function: Any, seed: Any) -> float:
    function.argtypes, function.restype = (ctypes.c_size_t, type(seed)), ctypes.c_double
    return max(float(function(ROUNDS, seed)) for _ in range(TIMES))


def _cache_bytes(folder: Path) -> float | None:
    sizes = [path.read_text().strip() for path in folder.glob("index*/size")]
    whole = [int(size[:-1]) * 1024.0 for size in sizes if size.endswith("K") and size[:-1].isdigit()]
    return max(whole, default=None)


def pace(bundle: Bundle, say: Callable[[str], None]) -> dict[str, float]:
    """Median µs of a pass, for each variant whose runtime is installed and answers the golden vectors."""
    found = {}
    for variant in bundle.variants.values():
        try:
            found[variant.name] = 1e6 * _timed(bundle, variant)
        except MissingExtraError:
            say(f"{variant.name} is left out: {variant.runtime} is not installed")
        except InputError as error:
            say(f"{variant.name} is left out: {error.what}")
    return found


def _timed(bundle: Bundle, variant: Variant) -> float:
    backend = open_backend(variant.runtime, bundle.variant_bytes(variant.name))
    try:
        check_golden(bundle, backend.infer)
        return seconds(backend.infer, bundle.golden().x)
    finally:
        backend.close()
