"""Whom sinks talk to: a broker, a scraper, a receiver of UDP, a browser; each in a thread or a process."""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

SCRAPE_S = 1.0
PATIENCE_S = 20.0
BROKER = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of this machine that nobody uses."""
    with socket.socket(socket.AF_INET, kind) as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


class Partner:
    """Something that runs in a thread until the block ends; ``got`` counts what came."""

    def __init__(self, port: int) -> None:
        self.port, self.got = port, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Partner:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(PATIENCE_S)

    def _work(self) -> None:
        """Until ``_over``."""
        raise NotImplementedError


class Lines(Partner):
    """Receives lines by UDP and counts them."""

    def _work(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as received:
            received.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
            received.bind(("127.0.0.1", self.port))
            received.settimeout(0.2)
            while not self._over.is_set():
                with suppress(TimeoutError):
                    self.got += received.recv(65_536).count(b"\n")


class Scraper(Partner):
    """Fetches /metrics every SCRAPE_S, as a Prometheus does more seldom, and counts the answers."""

    def _work(self) -> None:
        while not self._over.wait(SCRAPE_S):
            with suppress(OSError, http.client.HTTPException):
                asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
                asked.request("GET", "/metrics")
                self.got += asked.getresponse().read().startswith(b"#")
                asked.close()


class Browser(Partner):
    """Reads the live page's stream of states, as an open tab does, and counts them."""

    def _work(self) -> None:
        while not self._over.wait(0.2):
            with suppress(OSError, http.client.HTTPException):
                self._watch()

    def _watch(self) -> None:
        asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        asked.request("GET", "/events")
        answer = asked.getresponse()
        while not self._over.is_set() and (line := answer.readline()):
            self.got += line == b"event: state\n"
        asked.close()


class Broker:
    """mosquitto on this machine, on ``port``."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self._settings = folder / "mosquitto.conf"
        self._settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n")

    def __enter__(self) -> Broker:
        assert BROKER is not None
        self._process = subprocess.Popen([BROKER, "-c", str(self._settings)], stdout=subprocess.DEVNULL,
                                         stderr=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
                return self
            time.sleep(0.1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)
