"""What systemd is told of a run: that it is ready, alive, how it goes, and that it stops (sd_notify(3))."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

STATUS_EVERY_S = 5.0
WATCHDOG_SHARE = 0.25
"""Of the time that systemd waits for a sign of life; half would do, were the machine never busy."""


class Notifier:
    """Sends the state of a run to ``NOTIFY_SOCKET``; without that variable it does nothing at all.

    Entering says READY=1; from then on a thread of its own sends STATUS with ``status()``, and WATCHDOG=1 as
    long as ``alive()`` holds, four times within ``WATCHDOG_USEC``. Leaving says STOPPING=1.
    """

    def __init__(self, alive: Callable[[], bool], status: Callable[[], str],
                 environ: Mapping[str, str] = os.environ) -> None:
        self._alive, self._status = alive, status
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watched_s = _watched_s(environ)
        self._socket: Any = None
        self._stopping = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell_on, name="usedge-notify", daemon=True)

    def __enter__(self) -> Notifier:
        if self._address:
            import socket  # a run that nobody asks has no use for it

            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._send("READY=1\nSTATUS=looking for the board")
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._socket is None:
            return
        self._over.set()
        self._thread.join()
        self.stopping()
        self._socket.close()

    def stopping(self) -> None:
        """Say, once, that the run comes to its end; from a signal's handler too."""
        if self._socket is not None and not self._stopping:
            self._stopping = True
            self._send("STOPPING=1")

    def _tell_on(self) -> None:
        every_s = min(STATUS_EVERY_S, WATCHDOG_SHARE * self._watched_s if self._watched_s else STATUS_EVERY_S)
        while not self._over.wait(every_s):
            alive = self._alive()
            # A run that is stuck keeps silent, and systemd puts an end to it.
            sign = "WATCHDOG=1\n" if self._watched_s and alive else ""
            self._send(f"{sign}STATUS={'' if alive else 'stuck: '}{self._status()}")

    def _send(self, text: str) -> None:
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError):  # nobody listens: there is no one to tell it either
            self._socket.sendto(text.encode(), address)


def _watched_s(environ: Mapping[str, str]) -> float:
    """How long systemd waits for a sign of life of this process, s; 0 where it does not."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) * 1e-6 if text.isdigit() else 0.0


def told(counters: Mapping[str, Any]) -> str:
    """A run's counters in the words of its last line."""
    names = ("received", "classified", "abstained", "dropped", "reconnects")
    return ", ".join(f"{counters[name]} {name}" for name in names)
