"""The project's own C encoder on the host: compiled once by the system's compiler, called by ctypes.

The virtual transducer sends what firmware would send, and the golden frames bind both languages to the same
bytes. Nothing on a receiving device needs this module, or a compiler.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from usedge_firmware.frame import HEADER_SIZE, TRAILER_SIZE, UsfpError, check_ascan_array
from usedge_firmware.messages import NAME_SIZE, Ack, Command, Info

_FLAGS: Final = ("-std=c99", "-O2", "-shared", "-fPIC")
_COMPILE_TIMEOUT_S: Final = 120
COMMAND_MAX: Final = 32
"""Longest command payload that the C parser takes, bytes: USFP_COMMAND_MAX."""
_OVERHEAD: Final = HEADER_SIZE + TRAILER_SIZE
_LOG = logging.getLogger(__name__)


class NativeUnavailableError(RuntimeError):
    """The C encoder cannot be had here; the message says why and what to do."""


class _Ascan(ctypes.Structure):
    _fields_ = (
        ("t_us", ctypes.c_uint64),
        ("seq", ctypes.c_uint32),
        ("fs_hz", ctypes.c_uint32),
        ("t0_ns", ctypes.c_int32),
        ("gain_cdb", ctypes.c_int16),
        ("flags", ctypes.c_uint16),
        ("channel", ctypes.c_uint8),
    )


class _Info(ctypes.Structure):
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


class _Command(ctypes.Structure):
    _fields_ = (
        ("seq", ctypes.c_uint32),
        ("prf_mhz", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("opcode", ctypes.c_uint8),
    )


class _Parser(ctypes.Structure):
    _fields_ = (
        ("skipped_bytes", ctypes.c_uint32),
        ("filled", ctypes.c_uint32),
        ("header_sound", ctypes.c_uint32),
        ("bytes", ctypes.c_uint8 * (_OVERHEAD + COMMAND_MAX)),
    )


class NativeCommandParser:
    """The C command parser, fed in pieces of any length. One thread only."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._state = _Parser()
        library.usfp_parser_init(ctypes.byref(self._state))

    @property
    def skipped_bytes(self) -> int:
        """Bytes passed over in search of a sound frame."""
        return int(self._state.skipped_bytes)

    def feed(self, data: bytes) -> list[tuple[int, Command]]:
        """Return ``(seq, command)`` for every command that ``data`` completes."""
        found = []
        raw = _Command()
        for byte in data:
            if self._library.usfp_parser_push(ctypes.byref(self._state), byte, ctypes.byref(raw)) == 1:
                found.append((int(raw.seq), Command(int(raw.opcode), int(raw.prf_mhz), int(raw.count))))
        return found


class NativeEncoder:
    """The C encoder behind the Python encoder's own signatures; ``UsfpError`` where Python raises it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = _with_signatures(library)

    def encode_ascan(
        self, samples: npt.NDArray[Any], *, seq: int, fs_hz: int, t_us: int = 0, t0_ns: int = 0,
        gain_cdb: int = 0, channel: int = 0, flags: int = 0,
    ) -> bytes:
        """Return the A-scan frame of ``samples``, ``(n,)`` int16; units as in ``usfp.encode_ascan``."""
        check_ascan_array(samples)
        counts = np.ascontiguousarray(samples)
        header = _filled(
            _Ascan(), seq=seq, fs_hz=fs_hz, t_us=t_us, t0_ns=t0_ns, gain_cdb=gain_cdb, channel=channel,
            flags=flags,
        )
        return self._call(
            self._library.usfp_encode_ascan, counts.nbytes, ctypes.byref(header), counts.ctypes.data,
            len(counts),
        )

    def encode_info(self, info: Info, *, seq: int = 0, t_us: int = 0) -> bytes:
        """Return an INFO frame, as ``usfp.encode_info`` does."""
        packed = info.pack()  # the name's limits are checked in one place
        raw = _filled(
            _Info(), session_id=info.session_id, fs_hz=info.fs_hz, prf_mhz=info.prf_mhz, t0_ns=info.t0_ns,
            n_samples=info.n_samples, payload_formats=info.payload_formats, adc_bits=info.adc_bits,
        )
        raw.firmware[:] = info.firmware
        raw.name[:] = info.name.encode("utf-8").ljust(NAME_SIZE, b"\0")
        return self._call(self._library.usfp_encode_info, len(packed), t_us, seq, ctypes.byref(raw))

    def encode_log(self, text: str, *, seq: int = 0, t_us: int = 0) -> bytes:
        """Return a LOG frame, as ``usfp.encode_log`` does."""
        payload = text.encode("utf-8")
        return self._call(self._library.usfp_encode_log, len(payload), t_us, seq, payload, len(payload))

    def encode_ack(self, ack: Ack, *, seq: int = 0, t_us: int = 0) -> bytes:
        """Return an ACK frame, as ``usfp.encode_ack`` does."""
        n_bytes = len(ack.pack())
        return self._call(
            self._library.usfp_encode_ack, n_bytes, t_us, seq, ack.opcode, ack.status, ack.detail
        )

    def command_parser(self) -> NativeCommandParser:
        """Return a fresh parser of the commands that a host sends."""
        return NativeCommandParser(self._library)

    def _call(self, function: Any, payload_len: int, *arguments: Any) -> bytes:
        size = _OVERHEAD + payload_len
        out = ctypes.create_string_buffer(size)
        length = function(out, size, *arguments)
        if length < 0:
            raise UsfpError(f"the C encoder refused a payload of {payload_len} bytes with code {length}")
        return out.raw[:length]


def load_native_encoder() -> NativeEncoder | None:
    """Return the C encoder, or None where it cannot be had; the reason is logged at level INFO."""
    try:
        return build_native_encoder()
    except NativeUnavailableError as fault:
        _LOG.info("%s", fault)
        return None


def build_native_encoder() -> NativeEncoder:
    """Return the C encoder, compiled on first use into the user's cache folder.

    Raises ``NativeUnavailableError`` with the reason: no sources, no compiler, or a compiler that fails.
    """
    root = _sources()
    files = [root / "include" / "usfp.h", root / "src" / "usfp.c"]
    digest = hashlib.sha256(repr((_FLAGS, sys.platform, platform.machine())).encode())
    for each in files:
        digest.update(each.read_bytes())
    library = _cache_folder() / f"usfp-{digest.hexdigest()[:16]}.so"
    try:
        if not library.exists():
            _compile(root, library)
        return NativeEncoder(ctypes.CDLL(str(library)))
    except OSError as fault:
        raise NativeUnavailableError(
            f"the C encoder cannot be built or loaded at {library}: {fault}. "
            "Set XDG_CACHE_HOME to a folder that is writable and allows execution."
        ) from fault


def _sources() -> Path:
    here = Path(__file__).resolve().parent
    for root in (here / "_c", here.parent / "c"):
        if (root / "src" / "usfp.c").is_file():
            return root
    raise NativeUnavailableError(f"the C sources are in neither {here / '_c'} nor {here.parent / 'c'}.")


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "usedge"


def _compile(root: Path, library: Path) -> None:
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(compiler[0]) is None:
        raise NativeUnavailableError(
            f"the C compiler '{compiler[0]}' is not installed. Install gcc or clang, or name one in CC."
        )
    library.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Built aside and renamed, because two processes may compile at the same time.
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        built = Path(scratch) / library.name
        source = root / "src" / "usfp.c"
        command = [*compiler, *_FLAGS, f"-I{root / 'include'}", str(source), "-o", str(built)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_COMPILE_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as fault:
            raise NativeUnavailableError(f"'{shlex.join(command)}' took over {fault.timeout} s.") from fault
        if done.returncode != 0:
            raise NativeUnavailableError(f"'{shlex.join(command)}' failed:\n{done.stderr.strip()}")
        os.replace(built, library)


def _with_signatures(library: ctypes.CDLL) -> ctypes.CDLL:
    out = (ctypes.c_char_p, ctypes.c_size_t)
    clock_and_seq = (ctypes.c_uint64, ctypes.c_uint32)
    library.usfp_encode_ascan.argtypes = (*out, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint16)
    library.usfp_encode_info.argtypes = (*out, *clock_and_seq, ctypes.c_void_p)
    library.usfp_encode_log.argtypes = (*out, *clock_and_seq, ctypes.c_char_p, ctypes.c_size_t)
    library.usfp_encode_ack.argtypes = (
        *out, *clock_and_seq, ctypes.c_uint8, ctypes.c_uint8, ctypes.c_uint32,
    )
    library.usfp_parser_init.argtypes = (ctypes.c_void_p,)
    library.usfp_parser_init.restype = None
    library.usfp_parser_push.argtypes = (ctypes.c_void_p, ctypes.c_uint8, ctypes.c_void_p)
    for name in ("encode_ascan", "encode_info", "encode_log", "encode_ack", "parser_push"):
        getattr(library, f"usfp_{name}").restype = ctypes.c_int32
    return library


def _filled(structure: Any, **fields: int) -> Any:
    """Set the fields and read them back: ctypes wraps a number that is too large without a word."""
    for name, value in fields.items():
        setattr(structure, name, value)
        if getattr(structure, name) != value:
            raise UsfpError(f"a header field is out of range: {name} = {value}")
    return structure
