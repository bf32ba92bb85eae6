"""The project's own C library on the host: compiled once by the system's compiler, called by ctypes.

The virtual transducer sends what firmware would send, and the golden frames bind both languages to the same
bytes. Nothing on a receiving device needs this module, or a compiler.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from usedge_firmware.clibrary import (
    CAck,
    CAscan,
    CCommand,
    CDecoder,
    CFrame,
    CGather,
    CInfo,
    NativeUnavailableError,
    load_library,
)
from usedge_firmware.decoder import DecoderStats
from usedge_firmware.frame import (
    HEADER_SIZE,
    MAX_PAYLOAD,
    TRAILER_SIZE,
    Frame,
    FrameType,
    Int16Array,
    PayloadFormat,
    UsfpError,
    check_ascan_array,
)
from usedge_firmware.messages import COMMAND_MAX, NAME_SIZE, Ack, Command, Info

__all__ = [
    "NativeCommandParser",
    "NativeDecoder",
    "NativeEncoder",
    "NativeUnavailableError",
    "build_native_encoder",
    "load_native_encoder",
]

_CHUNK: Final = 4096  # bytes handed over at a time, so that what the C side leaves is cheap to copy
_OVERHEAD: Final = HEADER_SIZE + TRAILER_SIZE
_NUMBERS: Final = (ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_size_t)
_ERRORS: Final = {
    -1: "null pointer", -2: "capacity", -3: "length", -4: "a sample outside 12 bits", -5: "format",
    -6: "payload", -7: "byte order",
}
_STATS: Final = tuple(DecoderStats.__dataclass_fields__)
_LOG = logging.getLogger(__name__)


class NativeDecoder:
    """The C decoder behind the Python ``Decoder``'s own signatures. One thread only."""

    def __init__(self, library: ctypes.CDLL, *, max_payload: int = MAX_PAYLOAD) -> None:
        self._library = library
        self._state = CDecoder()
        self._frame = CFrame()
        # Kept here, because the C side holds no more than its address.
        self._buffer = ctypes.create_string_buffer(_OVERHEAD + max_payload)
        self._at, self._frame_at = ctypes.addressof(self._state), ctypes.addressof(self._frame)
        _checked(library.usfp_decoder_init(self._at, self._buffer, len(self._buffer)))

    @property
    def stats(self) -> DecoderStats:
        """What the decoder has met so far; the C counts wrap at 2³²."""
        counts = self._state.stats
        return DecoderStats(*(int(getattr(counts, name)) for name in _STATS))

    @property
    def pending(self) -> int:
        """Bytes held back until more arrive."""
        return int(self._library.usfp_decoder_pending(self._at))

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """Take the next bytes of the stream, in pieces of any length; return the frames they complete."""
        return [_frame(raw) for raw in self.raw_frames(data)]

    def raw_frames(self, data: bytes | bytearray | memoryview) -> Iterator[CFrame]:
        """Yield the C frames that ``data`` completes; each holds until the next one is asked for."""
        held = bytes(data)
        for start in range(0, len(held), _CHUNK):
            chunk = held[start : start + _CHUNK]
            while chunk:
                chunk = chunk[self._library.usfp_decoder_put(self._at, chunk, len(chunk)) :]
                while _checked(self._library.usfp_decoder_next(self._at, self._frame_at)):
                    yield self._frame

    def finish(self) -> list[Frame]:
        """End the stream, as ``Decoder.finish`` does; return sound frames found in what is cut off."""
        frames = []
        while _checked(self._library.usfp_decoder_finish(self._at, self._frame_at)):
            frames.append(_frame(self._frame))
        return frames

    def reset(self) -> None:
        """Forget the bytes held back, as after a reconnect; they count as skipped, not as a resync."""
        self._library.usfp_decoder_reset(self._at)


class NativeCommandParser:
    """What a device does with the bytes that a host sends: the C decoder in a command's buffer."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._decoder = NativeDecoder(library, max_payload=COMMAND_MAX)

    @property
    def skipped_bytes(self) -> int:
        """Bytes passed over in search of a sound frame."""
        return self._decoder.stats.skipped_bytes

    def feed(self, data: bytes) -> list[tuple[int, Command]]:
        """Return ``(seq, command)`` for every command that ``data`` completes."""
        found = []
        raw = CCommand()
        for frame in self._decoder.raw_frames(data):
            if self._library.usfp_read_command(ctypes.addressof(frame), ctypes.addressof(raw)) == 0:
                command = Command(int(raw.opcode), int(raw.prf_mhz), int(raw.count), int(raw.payload_format))
                found.append((int(raw.seq), command))
        return found


class NativeEncoder:
    """The C library behind the Python encoder's own signatures; ``UsfpError`` where Python raises it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def encode_ascan(
        self, samples: npt.NDArray[Any], *, seq: int, fs_hz: int, t_us: int = 0, t0_ns: int = 0,
        gain_cdb: int = 0, channel: int = 0, flags: int = 0,
        payload_format: PayloadFormat = PayloadFormat.INT16,
    ) -> bytes:
        """Return the A-scan frame of ``samples``, ``(n,)`` int16; units as in ``usfp.encode_ascan``."""
        counts = _contiguous(samples)
        header = _filled(
            CAscan(), seq=seq, fs_hz=fs_hz, t_us=t_us, t0_ns=t0_ns, gain_cdb=gain_cdb, channel=channel,
            flags=flags,
        )
        return self._call(
            self._library.usfp_encode_ascan_as, _OVERHEAD + counts.nbytes, ctypes.byref(header),
            payload_format, counts.ctypes.data, len(counts),
        )

    def gather_ascan(
        self, samples: npt.NDArray[Any], *, payload: bytes | None = None,
        payload_format: PayloadFormat = PayloadFormat.INT16, **fields: int,
    ) -> bytes:
        """Return the three pieces of an A-scan frame, joined; ``fields`` as for ``encode_ascan``.

        ``payload``: the coded samples, framed by ``usfp_gather_payload``; None frames the samples themselves.
        """
        counts, header, gathered = _contiguous(samples), _filled(CAscan(), **fields), CGather()
        made, ascan = ctypes.byref(gathered), ctypes.byref(header)
        if payload is None:
            _called(self._library.usfp_gather_ascan, made, ascan, counts.ctypes.data, len(counts))
        else:
            gather = self._library.usfp_gather_payload
            _called(gather, made, ascan, payload_format, payload, len(payload), len(counts))
        return b"".join(ctypes.string_at(each.bytes, each.length) for each in gathered.piece if each.length)

    def encode_info(self, info: Info, *, seq: int = 0, t_us: int = 0) -> bytes:
        """Return an INFO frame, as ``usfp.encode_info`` does."""
        packed = info.pack()  # the name's limits are checked in one place
        raw = _filled(
            CInfo(), session_id=info.session_id, fs_hz=info.fs_hz, prf_mhz=info.prf_mhz, t0_ns=info.t0_ns,
            n_samples=info.n_samples, payload_formats=info.payload_formats, adc_bits=info.adc_bits,
        )
        raw.firmware[:] = info.firmware
        raw.name[:] = info.name.encode("utf-8").ljust(NAME_SIZE, b"\0")
        size = _OVERHEAD + len(packed)
        return self._call(self._library.usfp_encode_info, size, t_us, seq, ctypes.byref(raw))

    def encode_log(self, text: str, *, seq: int = 0, t_us: int = 0) -> bytes:
        """Return a LOG frame, as ``usfp.encode_log`` does."""
        payload = text.encode("utf-8")
        size = _OVERHEAD + len(payload)
        return self._call(self._library.usfp_encode_log, size, t_us, seq, payload, len(payload))

    def encode_command(self, command: Command, *, seq: int = 0) -> bytes:
        """Return a COMMAND frame, as ``usfp.encode_command`` does."""
        raw = _filled(
            CCommand(), seq=seq, opcode=command.opcode, payload_format=command.payload_format,
            prf_mhz=command.prf_mhz, count=command.count,
        )
        size = _OVERHEAD + len(command.pack())
        return self._call(self._library.usfp_encode_command, size, ctypes.byref(raw))

    def encode_ack(self, ack: Ack, *, seq: int = 0, t_us: int = 0) -> bytes:
        """Return an ACK frame, as ``usfp.encode_ack`` does."""
        raw = _filled(CAck(), seq=seq, opcode=ack.opcode, status=ack.status, detail=ack.detail)
        size = _OVERHEAD + len(ack.pack())
        return self._call(self._library.usfp_encode_ack, size, t_us, ctypes.byref(raw))

    def pack12(self, samples: npt.NDArray[Any]) -> bytes:
        """Return the payload, as ``payload.pack12`` does."""
        counts = _contiguous(samples)
        return self._call(self._library.usfp_pack12, counts.nbytes, counts.ctypes.data, len(counts))

    def rice_encode(self, samples: npt.NDArray[Any]) -> bytes:
        """Return the payload, as ``payload.rice_encode`` does."""
        counts = _contiguous(samples)
        return self._call(self._library.usfp_rice_encode, counts.nbytes, counts.ctypes.data, len(counts))

    def unpack12(self, payload: bytes, n_samples: int) -> Int16Array:
        """Return the ``(n_samples,)`` int16 samples, as ``payload.unpack12`` does."""
        return self._samples(self._library.usfp_unpack12, payload, n_samples)

    def rice_decode(self, payload: bytes, n_samples: int) -> Int16Array:
        """Return the ``(n_samples,)`` int16 samples, as ``payload.rice_decode`` does."""
        return self._samples(self._library.usfp_rice_decode, payload, n_samples)

    def decoder(self, *, max_payload: int = MAX_PAYLOAD) -> NativeDecoder:
        """Return a fresh decoder; ``max_payload`` bytes as for ``usfp.Decoder``."""
        return NativeDecoder(self._library, max_payload=max_payload)

    def command_parser(self) -> NativeCommandParser:
        """Return a fresh parser of the commands that a host sends."""
        return NativeCommandParser(self._library)

    def _call(self, function: Any, capacity: int, *arguments: Any) -> bytes:
        out = ctypes.create_string_buffer(max(capacity, 1))
        length = _called(function, out, capacity, *arguments)
        return out.raw[:length]

    def _samples(self, function: Any, payload: bytes, n_samples: int) -> Int16Array:
        samples = np.empty(max(n_samples, 0), np.int16)
        _called(function, samples.ctypes.data, n_samples, payload, len(payload), n_samples)
        return samples


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
    return NativeEncoder(load_library())


def _frame(raw: CFrame) -> Frame:
    payload = ctypes.string_at(raw.payload, raw.payload_len)
    return Frame(
        _FRAME_TYPES[raw.type], _PAYLOAD_FORMATS[raw.format], raw.channel, raw.flags, raw.n_samples, raw.t_us,
        raw.seq, raw.fs_hz, raw.t0_ns, raw.gain_cdb, payload,
    )


def _contiguous(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    check_ascan_array(samples)
    return np.ascontiguousarray(samples)


def _checked(code: int) -> int:
    if code < 0:
        raise UsfpError(f"the C library refused it: {_ERRORS.get(code, 'error')} ({code})")
    return code


def _called(function: Any, *arguments: Any) -> int:
    """Call it with numbers that fit its own: ctypes wraps one that is too large without a word."""
    for kind, value in zip(function.argtypes, arguments, strict=True):
        if kind in _NUMBERS and kind(value).value != value:
            raise UsfpError(f"a number is out of range: {value} is none of {8 * ctypes.sizeof(kind)} bits")
    return _checked(function(*arguments))


def _filled(structure: Any, **fields: int) -> Any:
    """Set the fields and read them back, because ctypes wraps these as well."""
    for name, value in fields.items():
        setattr(structure, name, value)
        if getattr(structure, name) != value:
            raise UsfpError(f"a header field is out of range: {name} = {value}")
    return structure


_FRAME_TYPES: Final = {int(each): each for each in FrameType}
_PAYLOAD_FORMATS: Final = {int(each): each for each in PayloadFormat}
