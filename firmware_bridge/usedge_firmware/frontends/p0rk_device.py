"""pic0rick with the on-board DSP firmware, device side."""

from __future__ import annotations

import zlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from usedge_firmware.dialect import DeviceDescription, DeviceState, Order
from usedge_firmware.frame import UsfpError
from usedge_firmware.frontends.p0rk import ALAW_LEVELS, LIMIT_HZ, VERSION, Header, PayloadType
from usedge_firmware.frontends.ten_bit import MID_SCALE, shift_for, to_ten_bit

LONGEST_COMMAND: Final = 128
_TYPES: Final = {"raw": PayloadType.RAW, "envelope": PayloadType.ENVELOPE, "alaw": PayloadType.ALAW}
_ARMED = 1 << 4
_ALAW_REF = 512.0


class P0rkDialect:
    """P0RK, device side: lines of text in, ``OK …`` and ``ERR …`` out, frames of the type last asked for.

    Counts are divided by 2^``shift`` and clipped to ±511, the 10 bits of this board; without a ``shift`` one
    is chosen from the description so that nothing is clipped that its peak, or its ADC, can give.
    """

    name = "p0rk"

    def __init__(self, description: DeviceDescription, *, shift: int | None = None) -> None:
        self.description = description
        self.shift = shift_for(description) if shift is None else shift
        self._heard = bytearray()
        self._type = PayloadType.RAW
        self._armed = False

    def boot(self, state: DeviceState) -> bytes:  # noqa: ARG002
        """Return nothing: this board waits to be asked."""
        return b""

    def orders(self, data: bytes) -> list[Order]:
        """Take the host's next bytes; every line that is not empty is an order, if only to say ERR."""
        self._heard += data
        *lines, rest = bytes(self._heard).replace(b"\r", b"\n").split(b"\n")
        # One byte over the limit is kept, so that the line is still known to be too long when it ends.
        self._heard = bytearray(rest[: LONGEST_COMMAND + 1])
        return [self._order_of(line) for line in lines if line.strip()]

    def reply(self, order: Order, state: DeviceState) -> bytes:
        """Return the line that answers an order; a single A-scan is its own answer."""
        if order.kind in ("start", "once"):
            self._type = PayloadType(order.tag)
        if order.kind == "once" or (order.kind == "stop" and not order.content):
            return b""  # a stream that ended by its count: this wire has no word for it
        if order.content == b"status":
            return b"OK %s sent=%d\r\n" % (b"streaming" if state.streaming else b"idle", state.sent)
        return order.content + b"\r\n"

    def ascan(self, samples: npt.NDArray[Any], *, seq: int, t_us: int) -> bytes:
        """Return the frame of ``(n,)`` int16 counts, n > 0; raises ``UsfpError`` for what it cannot carry."""
        counts = to_ten_bit(samples, self.shift)
        if not len(counts):
            raise UsfpError("a P0RK frame holds at least one sample")
        payload = _payload_of(counts, self._type)
        header = Header(
            version=VERSION, type=self._type, flags=_ARMED * self._armed, seq=seq & 0xFFFFFFFF,
            sample_count=len(counts), rate=self.description.fs_hz, payload_bytes=len(payload),
            timestamp_us=t_us, dc_mean=0.0, env_peak=0.0, alaw_ref=_ALAW_REF, neg_ns=0, damp_ns=0, pos_ns=0,
            drops=0, crc=zlib.crc32(payload),
        )
        return header.pack() + payload

    def _order_of(self, line: bytes) -> Order:
        if len(line) > LONGEST_COMMAND:
            return Order("say", content=b"ERR LINE")
        words = line.decode("latin-1").split()
        match words:
            case ["stream", "start", kind, prf]:
                return _start(kind, prf)
            case ["stream", "stop"]:
                self._armed = False
                return Order("stop", content=b"OK stream stop")
            case ["acq", kind] if kind in _TYPES:
                return Order("once", tag=_TYPES[kind])
        return Order("say", content=self._answer(words))

    def _answer(self, words: list[str]) -> bytes:
        match words:
            case ["status"]:
                return b"status"
            case ["pulser", ("arm" | "disarm") as word]:
                self._armed = word == "arm"
                return b"OK pulser " + word.encode()
            case [("stream" | "acq" | "pulser"), *_]:
                return b"ERR ARG"
        return b"ERR COMMAND"


def _start(kind: str, prf: str) -> Order:
    if kind not in _TYPES or not (prf.isascii() and prf.isdigit()):
        return Order("say", content=b"ERR ARG")
    if not 1 <= int(prf) <= LIMIT_HZ[_TYPES[kind]]:
        return Order("say", content=b"ERR RATE")
    words = b"OK stream start %s %s" % (kind.encode(), prf.encode())
    return Order("start", prf_mhz=1000 * int(prf), tag=_TYPES[kind], content=words)


def _payload_of(counts: npt.NDArray[np.int16], kind: PayloadType) -> bytes:
    if kind == PayloadType.RAW:
        codes: npt.NDArray[np.uint16] = (counts + MID_SCALE).astype("<u2")
        return codes.tobytes()
    envelope = _envelope(counts)
    if kind == PayloadType.ENVELOPE:
        return envelope.astype("<f4").tobytes()
    levels = np.minimum(envelope / _ALAW_REF, 1.0)
    return np.rint(np.interp(levels, ALAW_LEVELS, np.arange(256))).astype(np.uint8).tobytes()


def _envelope(counts: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    """Return the magnitude of the analytic A-scan, ``(n,)``, without its mean, by the FFT."""
    n = len(counts)
    spectrum = np.fft.fft(counts - counts.mean())
    keep = np.zeros(n)
    keep[0], keep[1 : (n + 1) // 2] = 1.0, 2.0
    if n % 2 == 0:
        keep[n // 2] = 1.0
    return np.abs(np.fft.ifft(spectrum * keep))
