"""The device's end of a byte link: a pseudo-terminal of its own, or a port that exists already."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import termios
import tty
from typing import Final

from usedge_firmware.frame import UsfpError

_READ_BYTES: Final = 4096


class DevicePort:
    """A raw, non-blocking descriptor. ``path`` is what the other side opens, or the port that was opened."""

    def __init__(self, fd: int, path: str, peer_fd: int | None = None) -> None:
        self.fd = fd
        self.path = path
        self._peer_fd = peer_fd
        os.set_blocking(fd, False)

    def read(self) -> bytes:
        """Return what has arrived, at most 4 KiB, empty when nothing has.

        Raises ``OSError`` (EIO) when the other end has hung up.
        """
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return b""
        if not data:
            raise OSError(errno.EIO, "the other end hung up", self.path)
        return data

    def write(self, data: memoryview) -> int:
        """Write what fits now and return how many bytes that was; raises ``OSError`` on a hang-up."""
        try:
            return os.write(self.fd, data)
        except BlockingIOError:
            return 0

    def discard_unread(self) -> None:
        """Throw away what was written and not yet read by the other side; raises ``OSError`` on a hang-up."""
        try:
            # A pseudo-terminal holds unread bytes in two places, and each call empties one of them.
            termios.tcflush(self.fd, termios.TCOFLUSH)
            if self._peer_fd is not None:
                termios.tcflush(self._peer_fd, termios.TCIFLUSH)
        except termios.error as fault:
            raise OSError(*fault.args, self.path) from fault

    def unread(self) -> int:
        """Bytes written that the other side has not taken, as far as the system tells."""
        count = array.array("i", [0])
        if self._peer_fd is not None:
            fcntl.ioctl(self._peer_fd, termios.FIONREAD, count)
        else:
            fcntl.ioctl(self.fd, termios.TIOCOUTQ, count)
        return count[0]

    def close(self) -> None:
        """Close both ends; may be called twice."""
        for fd in (self.fd, self._peer_fd):
            if fd is not None and fd >= 0:
                os.close(fd)
        self.fd, self._peer_fd = -1, None


def open_pty() -> DevicePort:
    """Open a raw pseudo-terminal; ``path`` is the slave, for the host to open.

    The slave stays open on this side too, so that a host may close it and come back.
    """
    fd, peer_fd = os.openpty()
    tty.setraw(peer_fd)
    return DevicePort(fd, os.ttyname(peer_fd), peer_fd)


def point_link(link: str, target: str) -> None:
    """Make the symbolic link ``link`` lead to ``target``, in one step: no reader finds it missing.

    Raises ``FileExistsError`` where something other than a symbolic link bears that name.
    """
    if os.path.lexists(link) and not os.path.islink(link):
        raise FileExistsError(errno.EEXIST, "this is no symbolic link and will not be replaced", link)
    beside = f"{link}.{os.getpid()}"
    os.symlink(target, beside)
    os.replace(beside, link)


def remove_link(link: str, target: str) -> None:
    """Remove ``link`` if it still leads to ``target``."""
    if os.path.islink(link) and os.readlink(link) == target:
        os.unlink(link)


def open_device(path: str, baud: int | None = None) -> DevicePort:
    """Open the terminal at ``path`` in raw mode, at ``baud`` or at the speed it has.

    Raises ``OSError`` when it cannot be opened and ``UsfpError`` when the baud rate has no constant here.
    """
    speed = getattr(termios, f"B{baud}", None)
    if baud is not None and speed is None:
        raise UsfpError(f"{baud} baud is no standard rate of this system")
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        tty.setraw(fd)
        settings = termios.tcgetattr(fd)
        settings[2] |= termios.CLOCAL | termios.CREAD
        if speed is not None:
            settings[4] = settings[5] = speed
        termios.tcsetattr(fd, termios.TCSANOW, settings)
    except termios.error as fault:
        os.close(fd)
        raise OSError(*fault.args, path) from fault
    return DevicePort(fd, path)
