"""The bytes of a serial port, a pty or a socket: no read or write without a deadline, every failure named."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct
import termios
import time
from contextlib import suppress
from typing import Protocol
from urllib.parse import urlsplit

import serial

from usedge.errors import LinkError

READ_BYTES = 65_536
WRITE_PATIENCE_S = 1.0
CONNECT_PATIENCE_S = 2.0
DRAIN_S = 0.2
LAST_WORDS_S = 0.2
"""How long closing waits for what was written last, such as a STOP, to leave the host."""


class LinkGoneError(LinkError):
    """The port is not there, went away or takes nothing more; only opening it again can help."""


class _Port(Protocol):
    def fileno(self) -> int: ...

    def close(self) -> None: ...


class Link:
    """An open port. Raises LinkError where ``port`` cannot be opened at ``baud``, LinkGoneError when it goes.

    ``n_bytes`` read so far, ``read_ns`` the monotonic clock at the last read. ``path`` is what was opened
    where that is not ``port`` itself.
    """

    def __init__(self, port: str, baud: int, path: str | None = None) -> None:
        self.port = port
        self.n_bytes = 0
        self.read_ns = 0
        self._closed = False
        self.device = _open(path or port, baud)
        self._fd = self.device.fileno()

    def read(self, wait_s: float) -> bytes:
        """What has arrived, within ``wait_s`` at most; empty when nothing has."""
        readable, _, _ = select.select([self._fd], [], [], wait_s)
        if not readable:
            return b""
        try:
            chunk = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return b""  # what select promised can be dropped meanwhile
        except OSError as error:
            raise self._gone(error) from None
        self.read_ns = time.monotonic_ns()
        if not chunk:
            raise self._gone(None)
        self.n_bytes += len(chunk)
        return chunk

    def write(self, content: bytes) -> None:
        """Write all of ``content``; raises LinkGoneError when the other end takes nothing for a second."""
        deadline = time.monotonic() + WRITE_PATIENCE_S
        while content:
            left_s = deadline - time.monotonic()
            _, writable, _ = select.select([], [self._fd], [], max(0.0, left_s))
            if not writable or left_s < 0:
                raise LinkGoneError(f"{self.port} takes no bytes.",
                                    "Is flow control on, or the other end stuck?")
            try:
                content = content[os.write(self._fd, content) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._gone(error) from None

    def drain(self) -> None:
        """Throw away what lies in the buffers; of a board that never pauses, what it sends meanwhile."""
        deadline = time.monotonic() + DRAIN_S
        while self.read(0.0) and time.monotonic() < deadline:
            pass
        self.n_bytes = 0

    def close(self) -> None:
        """Close the port; may be called twice."""
        if self._closed:
            return
        self._closed = True
        if isinstance(self.device, serial.SerialBase):
            _let_go(self._fd)
        self.device.close()

    def _gone(self, error: OSError | None) -> LinkGoneError:
        why = os.strerror(error.errno) if error and error.errno else "end of stream"
        return LinkGoneError(f"{self.port} went away after {self.n_bytes} bytes ({why}).",
                             "Plug it in again and restart.")


def _let_go(fd: int) -> None:
    """Leave nothing unsent behind: closing a port whose other end takes nothing waits half a minute."""
    deadline = time.monotonic() + LAST_WORDS_S
    with suppress(OSError, termios.error):
        while _unsent(fd) and time.monotonic() < deadline:
            time.sleep(0.01)
        if _unsent(fd):
            termios.tcflush(fd, termios.TCOFLUSH)


def _unsent(fd: int) -> int:
    count: int = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)))[0]
    return count


def _open(port: str, baud: int) -> _Port:
    if port.startswith("socket:"):
        return _open_socket(port)
    try:
        device: _Port = serial.Serial(port, baudrate=baud, timeout=0, exclusive=True)
        return device
    except (ValueError, OverflowError) as error:
        raise LinkError(f"{port} cannot be opened at {baud} baud: {error}.",
                        "Check --port and --baud.") from None
    except (OSError, termios.error) as error:
        kind = LinkGoneError if _code(error) == errno.ENOENT else LinkError
        raise kind(*why_not(port, error)) from None


def _code(error: Exception) -> int | None:
    code: int | None = getattr(error, "errno", None) or getattr(error.__context__, "errno", None)
    return code


def _open_socket(port: str) -> socket.socket:
    # Not pyserial's: it waits 5 s to connect, empties a flooded socket for ever and sleeps when it closes.
    try:
        parts = urlsplit(port)
        if not (parts.hostname and parts.port):
            raise ValueError
        peer = socket.create_connection((parts.hostname, parts.port), timeout=CONNECT_PATIENCE_S)
    except (ValueError, OverflowError):
        raise LinkError(f"{port} cannot be reached (this is not socket://HOST:PORT).",
                        "Example: socket://127.0.0.1:4000.") from None
    except OSError as error:
        raise LinkGoneError(f"{port} cannot be reached ({error.strerror or error}).",
                            "Does anything listen there? Example: socket://127.0.0.1:4000.") from None
    peer.setblocking(False)
    return peer


def why_not(port: str, error: Exception) -> tuple[str, str]:
    """Why ``port`` did not open, and what to do about it."""
    code = _code(error)
    if code == errno.ENOENT:
        return f"port {port} does not exist.", "Plug the board in, or try --port sim://."
    if code in (errno.EACCES, errno.EPERM):
        return (f"no permission to open {port}.",
                "Run: sudo usermod -aG dialout $USER, then log in again.")
    if code in (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK):
        return f"port {port} is in use by another program.", "Close it first."
    return f"port {port} cannot be opened ({error}).", "Check that it is a serial port."
