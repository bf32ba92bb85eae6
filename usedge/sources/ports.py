"""Which path a port's name means now: ``usb:VID:PID[:SERIAL]``, or a path whose adapter got another one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from usedge.errors import InputError, LinkError
from usedge.sources.link import LinkGoneError

_USB = re.compile(r"usb:([0-9a-fA-F]{4}):([0-9a-fA-F]{4})(?::(.+))?")


class Adapter(NamedTuple):
    """A serial port on USB: its path, vendor and product numbers, serial number (None: it has none), and the
    place in the USB tree, which tells twins without serial numbers apart.
    """

    path: str
    vid: int
    pid: int
    serial: str | None = None
    location: str | None = None

    def __str__(self) -> str:
        serial = f":{self.serial}" if self.serial else ""
        return f"{self.path} (usb:{self.vid:04x}:{self.pid:04x}{serial})"

    def is_same(self, other: Adapter) -> bool:
        """Whether both are one adapter, plugged in twice: by serial number, else by the place it is in."""
        if (self.vid, self.pid, self.serial) != (other.vid, other.pid, other.serial):
            return False
        return self.serial is not None or self.location == other.location


Listing = Callable[[], Iterable[Adapter]]


def adapters() -> list[Adapter]:
    """The USB serial ports there are now, in the order of their paths."""
    from serial.tools.list_ports import comports  # not needed by a run over a socket or a pty

    return sorted(Adapter(each.device, each.vid, each.pid, each.serial_number or None, each.location)
                  for each in comports() if each.vid is not None and each.pid is not None)


def parse_usb(port: str) -> tuple[int, int, str | None]:
    """VID, PID and serial number of ``usb:VID:PID[:SERIAL]``; raises InputError where it is not that."""
    match = _USB.fullmatch(port)
    if match is None:
        raise InputError(f"port {port!r} is not usb:VID:PID[:SERIAL], four hexadecimal digits each.",
                         "Example: usb:0403:6001, as lsusb has them.")
    return int(match[1], 16), int(match[2], 16), match[3]


class PortName:
    """``port`` as the user named it, and the path that it means: ``path()`` at every opening anew.

    An adapter that was there once under a plain path is known by its USB identity afterwards: another one at
    that path is not taken for it, and it is found where it has become ``ttyUSB1``. Raises InputError for a
    malformed ``usb:`` name.
    """

    def __init__(self, port: str, listing: Listing | None = None) -> None:
        self.port = port
        self._listing = listing or adapters
        self._usb = parse_usb(port) if port.startswith("usb:") else None
        self._known: Adapter | None = None

    def path(self) -> str:
        """The path to open now; raises LinkError where there is none, or more than one."""
        if self._usb is not None:
            return self._by_numbers(*self._usb)
        if self._known is None or "://" in self.port:
            return self.port
        here = {each.path: each for each in self._listing()}
        at_path = here.get(os.path.realpath(self.port))
        if at_path is not None and at_path.is_same(self._known):
            return self.port
        for each in here.values():
            if each.is_same(self._known):
                return each.path
        if at_path is not None:
            raise LinkError(f"{self.port} is another adapter now, {at_path}.", f"Waited for: {self._known}.")
        return self.port

    def opened(self, path: str) -> None:
        """Remember which adapter ``path`` is, now that it was opened."""
        real = os.path.realpath(path)
        if self._usb is None and self._known is None and real.startswith("/dev/tty"):
            self._known = next((each for each in self._listing() if each.path == real), None)

    def _by_numbers(self, vid: int, pid: int, serial: str | None) -> str:
        fitting = [each for each in self._listing()
                   if (each.vid, each.pid) == (vid, pid) and serial in (None, each.serial)]
        if len(fitting) == 1:
            return fitting[0].path
        if fitting:
            raise LinkError(f"port {self.port} fits {', '.join(map(str, fitting))}.",
                            "Add the serial number: usb:VID:PID:SERIAL, or use a path in /dev/serial/by-id.")
        others = ", ".join(map(str, self._listing())) or "none"
        raise LinkGoneError(f"no serial port is {self.port}.", f"There are: {others}.")
