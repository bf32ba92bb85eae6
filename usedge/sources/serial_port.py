"""A-scans over a serial port: handshake, start, incremental decoding, an orderly stop."""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Iterator
from types import TracebackType

import serial

from usedge.ascan import AScan
from usedge.errors import LinkError
from usedge.sources import SourceCounts, SourceOptions
from usedge_firmware import usfp

READ_BYTES = 65_536
POLL_S = 0.1
ASK_EVERY_S = 0.5
STOP_PATIENCE_S = 1.0
START_SEQ, STOP_SEQ = 0x55530001, 0x55530002
"""Numbers of our commands; a device repeats them in its answers."""


class SerialSource:
    """A device that speaks USFP on a serial port, a pty or ``socket://host:port``.

    Entering the context opens the port, asks for INFO and starts the stream; leaving it stops the stream and
    collects what is still on the wire. No read is without a deadline.
    """

    lossless = False

    def __init__(self, port: str, options: SourceOptions) -> None:
        self.port = port
        self.options = options
        self.counts = SourceCounts()
        self.prf_hz: float | None = None
        self.info: usfp.Info | None = None
        self.decode_ns = 0
        """Time spent decoding the bytes of the A-scans yielded last, ns an A-scan."""
        self._decoder = usfp.Decoder()
        self._expected: int | None = None
        self._stopping = False
        self._ended = False
        self._bytes = 0
        self._read_ns = 0
        self._early: list[usfp.Frame] = []

    def __enter__(self) -> SerialSource:
        self._serial = _open(self.port, self.options.baud)
        try:
            self._fd = self._serial.fileno()
            self._drain()
            self._handshake()
            self._start()
        except BaseException:
            self._serial.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            if not self._ended and kind is not LinkError:
                self._stop_stream()
        finally:
            self._tally()
            self._serial.close()

    def __iter__(self) -> Iterator[AScan]:
        deadline = time.monotonic() + self.options.patience_s
        yield from self._ascans(self._early)
        while not self._stopping and not self._ended:
            frames = self._read_frames(POLL_S)
            if frames:
                deadline = time.monotonic() + self._patience_s()
                yield from self._ascans(frames)
            elif time.monotonic() > deadline:
                raise LinkError(f"{self.port} fell silent for {self._patience_s():g} s after"
                                f" {self.counts.received} A-scans.", "Check the cable and the board's power.")

    def stop(self) -> None:
        """End the iteration at the next read."""
        self._stopping = True

    def _patience_s(self) -> float:
        return max(self.options.patience_s, 3.0 / self.prf_hz if self.prf_hz else 0.0)

    def _drain(self) -> None:
        while select.select([self._fd], [], [], 0)[0] and self._read():
            pass
        self._decoder.reset()
        self._bytes = 0

    def _handshake(self) -> None:
        """Ask who is there, again and again: a board may still be booting."""
        deadline = time.monotonic() + self.options.patience_s
        while time.monotonic() < deadline:
            self._write(usfp.command_info())
            for frame in self._frames_until(min(time.monotonic() + ASK_EVERY_S, deadline)):
                if frame.type == usfp.FrameType.INFO:
                    self.info = usfp.parse_info(frame)
                    return
        raise LinkError(*self._silence())

    def _frames_until(self, deadline: float) -> Iterator[usfp.Frame]:
        while time.monotonic() < deadline:
            yield from self._read_frames(POLL_S)

    def _silence(self) -> tuple[str, str]:
        wait = f"in {self.options.patience_s:g} s"
        if not self._bytes:
            return (f"{self.port} sent nothing {wait}.",
                    "Is this the right port, is the board powered, does its firmware speak USFP?")
        return (f"{self.port} sent {self._bytes} bytes {wait}, but no valid frame.",
                f"Likely a wrong --baud (now {self.options.baud}), another protocol,"
                " or a second program on the port.")

    def _start(self) -> None:
        """Start the stream. What comes before the answer belongs to one that another host left running."""
        assert self.info is not None
        self._write(usfp.command_start(self.options.prf_hz, self.options.count, seq=START_SEQ))
        self.prf_hz = (self.options.prf_hz or self.info.prf_hz) or None
        deadline = time.monotonic() + self.options.patience_s
        while time.monotonic() < deadline:
            frames = self._read_frames(POLL_S)
            for i, frame in enumerate(frames):
                if frame.type == usfp.FrameType.ACK and frame.seq == START_SEQ:
                    self._early = frames[i:]
                    return
        raise LinkError(f"{self.port} did not acknowledge START in {self.options.patience_s:g} s.",
                        "Reset the board; is its firmware current?")

    def _stop_stream(self) -> None:
        """Send STOP, and count the A-scans that were already on the wire as received and not classified."""
        try:
            self._write(usfp.command_stop(seq=STOP_SEQ))
            deadline = time.monotonic() + STOP_PATIENCE_S
            while not self._ended and time.monotonic() < deadline:
                for _ in self._ascans(self._read_frames(POLL_S)):
                    pass
        except LinkError:
            pass  # the port is gone: nothing is left to stop

    def _read_frames(self, wait_s: float) -> list[usfp.Frame]:
        readable, _, _ = select.select([self._fd], [], [], wait_s)
        if not readable:
            return []
        chunk = self._read()
        self._read_ns = time.monotonic_ns()
        frames = self._decoder.feed(chunk)
        self.decode_ns = (time.monotonic_ns() - self._read_ns) // max(len(frames), 1)
        return frames

    def _ascans(self, frames: list[usfp.Frame]) -> Iterator[AScan]:
        for frame in frames:
            if frame.type == usfp.FrameType.ASCAN:
                self._account(frame.seq)
                yield AScan(frame.samples(), float(frame.fs_hz), frame.t0_ns * 1e-3, frame.seq, self._read_ns,
                            frame.gain_cdb * 0.01, frame.channel)
            elif frame.type == usfp.FrameType.ACK and frame.seq in (START_SEQ, STOP_SEQ):
                self._acknowledged(usfp.parse_ack(frame))

    def _account(self, seq: int) -> None:
        if self._expected is not None:
            self.counts.seq_gaps += (seq - self._expected) & 0xFFFFFFFF
        self._expected = (seq + 1) & 0xFFFFFFFF
        self.counts.received += 1

    def _acknowledged(self, ack: usfp.Ack) -> None:
        if not ack.ok:
            raise LinkError(f"{self.port} refused a command (opcode {ack.opcode}, status {ack.status}).",
                            "Check --prf and --count against the board's limits.")
        if ack.opcode == usfp.Opcode.START:
            self._expected = ack.detail
        elif ack.opcode == usfp.Opcode.STOP:
            self.counts.sent = ack.detail
            self.counts.seq_gaps = max(self.counts.seq_gaps, ack.detail - self.counts.received)
            self._ended = True

    def _tally(self) -> None:
        self._decoder.finish()
        stats = self._decoder.stats
        self.counts.crc_errors = stats.crc_errors + stats.header_errors
        self.counts.resyncs = stats.resyncs

    def _read(self) -> bytes:
        try:
            chunk = os.read(self._fd, READ_BYTES)
        except OSError as error:
            raise self._gone(error) from None
        if not chunk:
            raise self._gone(None)
        self._bytes += len(chunk)
        return chunk

    def _write(self, frame: bytes) -> None:
        deadline = time.monotonic() + STOP_PATIENCE_S
        try:
            while frame:
                _, writable, _ = select.select([], [self._fd], [], max(0.0, deadline - time.monotonic()))
                if not writable:
                    raise LinkError(f"{self.port} takes no bytes.",
                                    "Is flow control on, or the other end stuck?")
                frame = frame[os.write(self._fd, frame) :]
        except OSError as error:
            raise self._gone(error) from None

    def _gone(self, error: OSError | None) -> LinkError:
        why = os.strerror(error.errno) if error and error.errno else "end of stream"
        return LinkError(f"{self.port} went away after {self.counts.received} A-scans ({why}).",
                         "Plug it in again and restart.")


def _open(port: str, baud: int) -> serial.SerialBase:
    try:
        exclusive = None if "://" in port else True
        return serial.serial_for_url(port, baudrate=baud, timeout=0, exclusive=exclusive)
    except ValueError as error:
        raise LinkError(f"{port} cannot be opened at {baud} baud: {error}.",
                        "Check --port and --baud.") from None
    except OSError as error:
        raise LinkError(*_why_not(port, error)) from None


def _why_not(port: str, error: OSError) -> tuple[str, str]:
    code = error.errno or getattr(error.__context__, "errno", None)
    if code == errno.ENOENT:
        return f"port {port} does not exist.", "Plug the board in, or try --port sim://."
    if code in (errno.EACCES, errno.EPERM):
        return (f"no permission to open {port}.",
                "Run: sudo usermod -aG dialout $USER, then log in again.")
    if code in (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK):
        return f"port {port} is in use by another program.", "Close it first."
    return f"port {port} cannot be opened ({error}).", "Check that it is a serial port."
