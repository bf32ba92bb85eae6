"""The C library as ctypes sees it: its structures, and its compilation by the system's compiler.

Compiled on first use into the user's cache folder, under a name that is the digest of its sources.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from usedge_firmware.messages import NAME_SIZE

_FLAGS: Final = ("-std=c99", "-O2", "-DUSFP_CRC_TABLE=256", "-shared", "-fPIC")
_COMPILE_TIMEOUT_S: Final = 120


class NativeUnavailableError(RuntimeError):
    """The C library cannot be had here; the message says why and what to do."""


class CAscan(ctypes.Structure):
    """``usfp_ascan``."""

    _fields_ = (
        ("t_us", ctypes.c_uint64),
        ("seq", ctypes.c_uint32),
        ("fs_hz", ctypes.c_uint32),
        ("t0_ns", ctypes.c_int32),
        ("gain_cdb", ctypes.c_int16),
        ("flags", ctypes.c_uint16),
        ("channel", ctypes.c_uint8),
    )


class CInfo(ctypes.Structure):
    """``usfp_info``."""

    _fields_ = (
        ("session_id", ctypes.c_uint32),
        ("fs_hz", ctypes.c_uint32),
        ("prf_mhz", ctypes.c_uint32),
        ("t0_ns", ctypes.c_int32),
        ("n_samples", ctypes.c_uint16),
        ("payload_formats", ctypes.c_uint16),
        ("adc_bits", ctypes.c_uint8),
        ("firmware", ctypes.c_uint8 * 3),
        ("name", ctypes.c_uint8 * NAME_SIZE),
    )


class CCommand(ctypes.Structure):
    """``usfp_command``."""

    _fields_ = (
        ("seq", ctypes.c_uint32),
        ("prf_mhz", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("opcode", ctypes.c_uint8),
        ("payload_format", ctypes.c_uint8),
    )


class CAck(ctypes.Structure):
    """``usfp_ack``."""

    _fields_ = (
        ("seq", ctypes.c_uint32),
        ("detail", ctypes.c_uint32),
        ("opcode", ctypes.c_uint8),
        ("status", ctypes.c_uint8),
    )


class CPiece(ctypes.Structure):
    """``usfp_piece``."""

    _fields_ = (("bytes", ctypes.c_void_p), ("length", ctypes.c_size_t))


class CGather(ctypes.Structure):
    """``usfp_gather``."""

    _fields_ = (("piece", CPiece * 3), ("header", ctypes.c_uint8 * 40), ("trailer", ctypes.c_uint8 * 4))


class CFrame(ctypes.Structure):
    """``usfp_frame``."""

    _fields_ = (
        ("payload", ctypes.c_void_p),
        ("t_us", ctypes.c_uint64),
        ("payload_len", ctypes.c_uint32),
        ("seq", ctypes.c_uint32),
        ("fs_hz", ctypes.c_uint32),
        ("t0_ns", ctypes.c_int32),
        ("gain_cdb", ctypes.c_int16),
        ("flags", ctypes.c_uint16),
        ("n_samples", ctypes.c_uint16),
        ("type", ctypes.c_uint8),
        ("format", ctypes.c_uint8),
        ("channel", ctypes.c_uint8),
    )


class CStats(ctypes.Structure):
    """``usfp_stats``."""

    _fields_ = (
        ("frames", ctypes.c_uint32),
        ("crc_errors", ctypes.c_uint32),
        ("header_errors", ctypes.c_uint32),
        ("unsupported", ctypes.c_uint32),
        ("resyncs", ctypes.c_uint32),
        ("truncated", ctypes.c_uint32),
        ("skipped_bytes", ctypes.c_uint32),
    )


class CDecoder(ctypes.Structure):
    """``usfp_decoder``."""

    _fields_ = (
        ("stats", CStats),
        ("buffer", ctypes.c_void_p),
        ("capacity", ctypes.c_size_t),
        ("at", ctypes.c_size_t),
        ("filled", ctypes.c_size_t),
        ("frame_size", ctypes.c_size_t),
        ("in_sync", ctypes.c_uint8),
    )


def load_library() -> ctypes.CDLL:
    """Return the library, compiled if need be, its functions' signatures set.

    Raises ``NativeUnavailableError`` with the reason: no sources, no compiler, or a compiler that fails.
    """
    return with_signatures(build_library("usfp", _sources(), _FLAGS))


def build_library(name: str, root: Path, flags: tuple[str, ...], machine: str = "") -> ctypes.CDLL:
    """Return the library of the C sources in ``root/src``, compiled with ``flags`` on first use.

    It is kept in the user's cache folder by a digest of sources, flags and ``machine``, which says what the
    flags depend on besides, such as the processor of ``-march=native``. Raises ``NativeUnavailableError``.
    """
    files = sorted((*(root / "include").glob("*.h"), *(root / "src").glob("*.[ch]")))
    told = (flags, sys.platform, platform.machine(), *([machine] if machine else []))
    digest = hashlib.sha256(repr(told).encode())
    for each in files:
        digest.update(each.read_bytes())
    library = _cache_folder() / f"{name}-{digest.hexdigest()[:16]}.so"
    try:
        if not library.exists():
            _compile(root, library, flags)
        return ctypes.CDLL(str(library))
    except OSError as fault:
        raise NativeUnavailableError(
            f"the C library cannot be built or loaded at {library}: {fault}. Set XDG_CACHE_HOME to a folder "
            "that is writable and allows execution, and CC to a compiler for this machine."
        ) from fault


def _sources() -> Path:
    here = Path(__file__).resolve().parent
    for root in (here / "_c", here.parent / "c"):
        if (root / "src" / "usfp.c").is_file():
            return root
    raise NativeUnavailableError(f"the C sources are in neither {here / '_c'} nor {here.parent / 'c'}.")


def _cache_folder() -> Path:
    named = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(named) if named else Path.home() / ".cache") / "usedge"
    except RuntimeError as fault:  # a user without a home, as in some containers
        raise NativeUnavailableError(f"{fault} Set XDG_CACHE_HOME to a folder that is writable.") from fault


def _compile(root: Path, library: Path, flags: tuple[str, ...]) -> None:
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(compiler[0]) is None:
        raise NativeUnavailableError(
            f"the C compiler '{compiler[0]}' is not installed. Install gcc or clang, or name one in CC."
        )
    library.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Built aside and renamed, because two processes may compile at the same time.
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        built = Path(scratch) / library.name
        sources = map(str, sorted((root / "src").glob("*.c")))
        command = [*compiler, *flags, f"-I{root / 'include'}", *sources, "-o", str(built)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_COMPILE_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as fault:
            raise NativeUnavailableError(f"'{shlex.join(command)}' took over {fault.timeout} s.") from fault
        if done.returncode != 0:
            raise NativeUnavailableError(f"'{shlex.join(command)}' failed:\n{done.stderr.strip()}")
        # Loaded before it is kept: a cross compiler's library would stand in the way of the next one's.
        ctypes.CDLL(str(built))
        os.replace(built, library)


def with_signatures(library: ctypes.CDLL) -> ctypes.CDLL:
    """Return ``library`` with the argument and return types of usfp.h set on its functions."""
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    u8, u16, u32, u64 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64
    answers_a_code = {
        "encode_ascan_as": (pointer, size, pointer, u8, pointer, u16),
        "encode_info": (pointer, size, u64, u32, pointer),
        "encode_log": (pointer, size, u64, u32, ctypes.c_char_p, size),
        "encode_command": (pointer, size, pointer),
        "encode_ack": (pointer, size, u64, pointer),
        "gather_ascan": (pointer, pointer, pointer, u16),
        "gather_payload": (pointer, pointer, u8, pointer, size, u16),
        "pack12": (pointer, size, pointer, u16),
        "unpack12": (pointer, size, ctypes.c_char_p, size, u16),
        "rice_encode": (pointer, size, pointer, u16),
        "rice_decode": (pointer, size, ctypes.c_char_p, size, u16),
        "decoder_init": (pointer, pointer, size),
        "decoder_next": (pointer, pointer),
        "decoder_finish": (pointer, pointer),
        "read_command": (pointer, pointer),
    }
    for name, arguments in answers_a_code.items():
        function = getattr(library, f"usfp_{name}")
        function.argtypes, function.restype = arguments, ctypes.c_int32
    library.usfp_decoder_put.argtypes = (pointer, pointer, size)
    library.usfp_decoder_put.restype = size
    library.usfp_decoder_pending.argtypes = (pointer,)
    library.usfp_decoder_pending.restype = size
    library.usfp_decoder_reset.argtypes = (pointer,)
    library.usfp_decoder_reset.restype = None
    return library
