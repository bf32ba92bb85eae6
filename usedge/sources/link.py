"""The bytes of a serial port, a pty or a socket: no read or write without a deadline, every failure named."""

from __future__ import annotations

import errno
import os
import select
import time

import serial

from usedge.errors import LinkError

READ_BYTES = 65_536
WRITE_PATIENCE_S = 1.0
DRAIN_S = 0.2


class Link:
    """An open port. Raises LinkError where ``port`` cannot be opened at ``baud``, and when it goes away.

    ``n_bytes`` read so far, ``read_ns`` the monotonic clock at the last read.
    """

    def __init__(self, port: str, baud: int) -> None:
        self.port = port
        self.n_bytes = 0
        self.read_ns = 0
        self._serial = _open(port, baud)
        self._fd = self._serial.fileno()

    def read(self, wait_s: float) -> bytes:
        """What has arrived, within ``wait_s`` at most; empty when nothing has."""
        readable, _, _ = select.select([self._fd], [], [], wait_s)
        if not readable:
            return b""
        try:
            chunk = os.read(self._fd, READ_BYTES)
        except OSError as error:
            raise self._gone(error) from None
        self.read_ns = time.monotonic_ns()
        if not chunk:
            raise self._gone(None)
        self.n_bytes += len(chunk)
        return chunk

    def write(self, content: bytes) -> None:
        """Write all of ``content``; raises LinkError when the other end takes nothing for a second."""
        deadline = time.monotonic() + WRITE_PATIENCE_S
        try:
            while content:
                _, writable, _ = select.select([], [self._fd], [], max(0.0, deadline - time.monotonic()))
                if not writable:
                    raise LinkError(f"{self.port} takes no bytes.",
                                    "Is flow control on, or the other end stuck?")
                content = content[os.write(self._fd, content) :]
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
        self._serial.close()

    def _gone(self, error: OSError | None) -> LinkError:
        why = os.strerror(error.errno) if error and error.errno else "end of stream"
        return LinkError(f"{self.port} went away after {self.n_bytes} bytes ({why}).",
                         "Plug it in again and restart.")


def _open(port: str, baud: int) -> serial.SerialBase:
    try:
        exclusive = None if "://" in port else True
        return serial.serial_for_url(port, baudrate=baud, timeout=0, exclusive=exclusive)
    except (ValueError, OverflowError) as error:
        raise LinkError(f"{port} cannot be opened at {baud} baud: {error}.",
                        "Check --port and --baud.") from None
    except OSError as error:
        raise LinkError(*why_not(port, error)) from None


def _last_words(error: OSError) -> str:
    """What is wrong with a socket; pyserial wraps whatever it met, a bad port number too."""
    cause = error.__context__
    return (cause.strerror or str(cause)) if isinstance(cause, OSError) else "this is not socket://HOST:PORT"


def why_not(port: str, error: OSError) -> tuple[str, str]:
    """Why ``port`` did not open, and what to do about it."""
    if port.startswith("socket:"):
        return (f"{port} cannot be reached ({_last_words(error)}).",
                "Does anything listen there? Example: socket://127.0.0.1:4000.")
    code = error.errno or getattr(error.__context__, "errno", None)
    if code == errno.ENOENT:
        return f"port {port} does not exist.", "Plug the board in, or try --port sim://."
    if code in (errno.EACCES, errno.EPERM):
        return (f"no permission to open {port}.",
                "Run: sudo usermod -aG dialout $USER, then log in again.")
    if code in (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK):
        return f"port {port} is in use by another program.", "Close it first."
    return f"port {port} cannot be opened ({error}).", "Check that it is a serial port."
