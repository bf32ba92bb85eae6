"""A virtual transducer: recorded or synthetic A-scans behind a port that speaks USFP as firmware does.

One thread, one loop: take commands, write the frame under way, begin the next one. Commands are obeyed at
frame boundaries only, so what stands on the wire is always a whole frame or the start of one.
"""

from __future__ import annotations

import secrets
import select
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol

import numpy.typing as npt

from usedge_firmware.decoder import Decoder
from usedge_firmware.frame import Frame, FrameType, UsfpError, check_ascan_array, encode_ascan
from usedge_firmware.messages import (
    Ack,
    AckStatus,
    Command,
    Info,
    Opcode,
    encode_ack,
    encode_info,
    parse_command,
)
from usedge_firmware.native import COMMAND_MAX, build_native_encoder, load_native_encoder
from usedge_firmware.port import open_device, open_pty

FIRMWARE_VERSION: Final = (0, 1, 0)
_LONGEST_WAIT_S: Final = 0.05
_MOST_WAITING: Final = 64
_U32_MASK: Final = 0xFFFFFFFF
_NS_PER_MHZ: Final = 10**12  # one period of 1 mHz, in ns


class _AscanEncoder(Protocol):
    def __call__(
        self, samples: npt.NDArray[Any], *, seq: int, fs_hz: int, t_us: int, t0_ns: int, gain_cdb: int
    ) -> bytes: ...


@dataclass(slots=True)
class _Stream:
    """One START: its schedule, and what was sent under it."""

    command_seq: int
    prf_mhz: int
    count: int
    started_ns: int
    slot: int = 0
    sent: int = 0

    def due_ns(self) -> int:
        """When the next A-scan is due, ns of the monotonic clock; never in the future at PRF 0."""
        if not self.prf_mhz:
            return self.started_ns
        return self.started_ns + self.slot * _NS_PER_MHZ // self.prf_mhz

    def miss_slots(self, now_ns: int) -> int:
        """Move on to the slot that ``now_ns`` lies in; return how many whole slots went by unused."""
        if not self.prf_mhz:
            return 0
        missed = max(0, (now_ns - self.started_ns) * self.prf_mhz // _NS_PER_MHZ - self.slot)
        self.slot += missed
        return missed


class VirtualTransducer:
    """A device on a pseudo-terminal, or on the port at ``path``, that streams A-scans when told to.

    ``ascans``: int16 arrays of one length, ``(n, n_samples)`` or a finite iterable of ``(n_samples,)``, sent
    in turn and again from the first. ``fs_hz`` samples a second; ``t0_us`` µs from main bang to the first
    sample; ``prf_hz`` the device's own PRF, 0 = as fast as the pipe takes; ``gain_db`` dB. ``use_native``:
    encode in C (True: raise ``NativeUnavailableError`` where that is impossible; None: where possible).
    ``stall_s``: seconds without any progress after which an unread stream is given up.

    Counters, over the whole life: ``sent`` A-scans written whole; ``overruns`` PRF slots that went by while
    the pipe was busy (no A-scan is taken in them and no seq spent); ``commands`` obeyed or refused;
    ``stalls`` streams given up.

    Raises ``UsfpError`` for A-scans of another dtype, shape or unequal lengths, or a value that does not fit
    its field; ``OSError`` when the port cannot be opened.
    """

    def __init__(  # noqa: PLR0913 - each is one property of the device, given by name
        self, ascans: Iterable[npt.NDArray[Any]], *, fs_hz: int, t0_us: float = 0.0, prf_hz: float = 0.0,
        gain_db: float = 0.0, name: str = "virtual", adc_bits: int = 12, session_id: int | None = None,
        path: str | None = None, baud: int | None = None, use_native: bool | None = None,
        stall_s: float = 2.0,
    ) -> None:
        self._ascans = _checked(ascans)
        self._fs_hz = fs_hz
        self._t0_ns = round(t0_us * 1000.0)
        self._gain_cdb = round(gain_db * 100.0)
        self._stall_s = stall_s
        self.info = Info(
            session_id=secrets.randbits(32) if session_id is None else session_id, adc_bits=adc_bits,
            firmware=FIRMWARE_VERSION, fs_hz=fs_hz, n_samples=len(self._ascans[0]),
            prf_mhz=round(prf_hz * 1000.0), t0_ns=self._t0_ns, name=name,
        )
        self._encode: _AscanEncoder = _choose_encoder(use_native)
        self._encode_ascan(0, t_us=0)  # a value that fits no field is told now, not in the stream
        encode_info(self.info)

        self.sent = 0
        self.overruns = 0
        self.commands = 0
        self.stalls = 0
        self._next_seq = 0
        self._stream: _Stream | None = None
        self._last_sent = 0
        self._decoder = Decoder(max_payload=COMMAND_MAX)
        self._waiting: deque[Frame] = deque()
        self._answers: deque[bytes] = deque()
        self._out = memoryview(b"")
        self._out_is_ascan = False
        self._boot_ns = self._progress_ns = time.monotonic_ns()
        self._port = open_pty() if path is None else open_device(path, baud)

    @property
    def port(self) -> str:
        """The path that the host opens."""
        return self._port.path

    def __enter__(self) -> VirtualTransducer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the port; not while ``serve`` runs in another thread."""
        self._port.close()

    def serve(self, stop_event: threading.Event | None = None, *, exit_after: int | None = None) -> None:
        """Announce the device, then obey commands until ``stop_event`` is set (seen within 50 ms).

        With ``exit_after``, return once that many A-scans were sent in all, the final ACK behind them, and
        the host has read them or has stopped reading for ``stall_s``. Raises ``OSError`` when the port hangs
        up, which a pseudo-terminal of our own never does.
        """
        self._answers.append(encode_info(self.info, seq=self._next_seq, t_us=self._clock_us()))
        while stop_event is None or not stop_event.is_set():
            if exit_after is not None and self.sent >= exit_after:
                self._end_stream()
                if not self._out and not self._answers:
                    self._await_reader()
                    return
            self._begin_frame()
            self._exchange()

    def _exchange(self) -> None:
        """Wait until the port can take or give bytes, or an A-scan is due; then do what can be done."""
        # A host that floods commands and reads no answer is not read either, so memory stays bounded.
        listen = [self._port.fd] if len(self._waiting) < _MOST_WAITING else []
        speak = [self._port.fd] if self._out else []
        readable, writable, _ = select.select(listen, speak, [], self._wait_s())
        if readable:
            self._receive()
        if writable:
            self._write()
        elif self._out and time.monotonic_ns() - self._progress_ns > self._stall_s * 1e9:
            self._give_up()

    def _wait_s(self) -> float:
        if self._stream is None or self._out:
            return _LONGEST_WAIT_S
        return min(_LONGEST_WAIT_S, max(0.0, (self._stream.due_ns() - time.monotonic_ns()) / 1e9))

    def _receive(self) -> None:
        self._waiting += (each for each in self._decoder.feed(self._port.read()) if _is_command(each))

    def _write(self) -> None:
        written = self._port.write(self._out)
        if not written:
            return
        self._progress_ns = time.monotonic_ns()
        self._out = self._out[written:]
        if not self._out and self._out_is_ascan:
            self._ascan_written()

    def _ascan_written(self) -> None:
        assert self._stream is not None
        self.sent += 1
        self._stream.sent += 1
        if self._stream.count and self._stream.sent >= self._stream.count:
            self._end_stream()

    def _begin_frame(self) -> None:
        """At a frame boundary, choose what goes out next: answers, then what commands ask, then A-scans."""
        if self._out:
            return
        while self._waiting and not self._answers:
            self._obey(self._waiting.popleft())
        self._out_is_ascan = not self._answers
        if self._answers:
            self._send(self._answers.popleft())
        elif self._stream is not None:
            self._send_if_due(self._stream)

    def _send(self, frame: bytes) -> None:
        self._out = memoryview(frame)
        self._progress_ns = time.monotonic_ns()

    def _send_if_due(self, stream: _Stream) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < stream.due_ns():
            return
        self.overruns += stream.miss_slots(now_ns)
        taken_ns = stream.due_ns() if stream.prf_mhz else now_ns
        self._send(self._encode_ascan(self._next_seq, t_us=(taken_ns - self._boot_ns) // 1000))
        stream.slot += 1
        self._next_seq = (self._next_seq + 1) & _U32_MASK

    def _encode_ascan(self, seq: int, *, t_us: int) -> bytes:
        return self._encode(
            self._ascans[seq % len(self._ascans)], seq=seq, fs_hz=self._fs_hz, t_us=t_us, t0_ns=self._t0_ns,
            gain_cdb=self._gain_cdb,
        )

    def _obey(self, frame: Frame) -> None:
        command = parse_command(frame)
        self.commands += 1
        if command.opcode == Opcode.INFO:
            self._answers.append(encode_info(self.info, seq=self._next_seq, t_us=self._clock_us()))
        elif command.opcode == Opcode.START:
            self._start(command, frame.seq)
        elif command.opcode == Opcode.STOP:
            self._close_stream()
            self._acknowledge(Ack(Opcode.STOP, detail=self._last_sent), frame.seq)
        else:
            self._acknowledge(Ack(command.opcode, AckStatus.UNKNOWN_OPCODE), frame.seq)

    def _start(self, command: Command, command_seq: int) -> None:
        self._end_stream()
        self._acknowledge(Ack(Opcode.START, detail=self._next_seq), command_seq)
        prf_mhz = command.prf_mhz or self.info.prf_mhz
        self._stream = _Stream(command_seq, prf_mhz, command.count, time.monotonic_ns())

    def _end_stream(self) -> None:
        """End a stream that the host did not stop itself, and tell it how much was sent."""
        ended = self._close_stream()
        if ended is not None:
            self._acknowledge(Ack(Opcode.STOP, detail=ended.sent), ended.command_seq)

    def _close_stream(self) -> _Stream | None:
        ended, self._stream = self._stream, None
        if ended is not None:
            self._last_sent = ended.sent
        return ended

    def _acknowledge(self, ack: Ack, seq: int) -> None:
        self._answers.append(encode_ack(ack, seq=seq, t_us=self._clock_us()))

    def _give_up(self) -> None:
        """Nobody reads: drop the stream and what is in the pipe, and wait for another START."""
        self.stalls += 1
        self._close_stream()
        self._answers.clear()
        self._out = memoryview(b"")
        self._port.discard_unread()

    def _await_reader(self) -> None:
        """Wait until the pipe is empty, or nobody has read from it for ``stall_s``."""
        # A pseudo-terminal holds bytes in two places and tells of one, so one reading of zero proves nothing.
        empty_readings, unread_before = 0, -1
        deadline = time.monotonic() + self._stall_s
        while empty_readings < 3 and time.monotonic() < deadline:
            unread = self._port.unread()
            empty_readings = 0 if unread else empty_readings + 1
            if unread != unread_before:
                unread_before, deadline = unread, time.monotonic() + self._stall_s
            time.sleep(0.01)

    def _clock_us(self) -> int:
        return (time.monotonic_ns() - self._boot_ns) // 1000


def _checked(ascans: Iterable[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    checked = list(ascans)
    for each in checked:
        check_ascan_array(each)
    if len({len(each) for each in checked}) != 1:
        raise UsfpError(f"a transducer needs A-scans of one length, and at least one; got {len(checked)}")
    return checked


def _choose_encoder(use_native: bool | None) -> _AscanEncoder:
    if use_native:
        return build_native_encoder().encode_ascan
    native = load_native_encoder() if use_native is None else None
    return encode_ascan if native is None else native.encode_ascan


def _is_command(frame: Frame) -> bool:
    """Whether this can be obeyed; anything else on the line is not meant for a device."""
    try:
        parse_command(frame)
    except UsfpError:
        return False
    return frame.type == FrameType.COMMAND
