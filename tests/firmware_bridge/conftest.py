"""What the firmware tests share: the C encoder, and a host's end of a transducer's port."""

from __future__ import annotations

import os
import select
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from usedge_firmware import usfp
from usedge_firmware.native import NativeEncoder, build_native_encoder
from usedge_firmware.transducer import VirtualTransducer

ROOM = Path(__file__).resolve().parents[2] / "firmware_bridge"
DEADLINE_S = 60.0


@pytest.fixture(scope="session")
def room() -> Path:
    """The folder firmware_bridge/ of this checkout."""
    return ROOM


@pytest.fixture(scope="session")
def compiler() -> str:
    found = shutil.which("cc")
    if found is None:
        pytest.skip("no C compiler 'cc' on this machine: the C library cannot be tested here")
    return found


@pytest.fixture(scope="session")
def native(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeEncoder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield build_native_encoder()


class Host:
    """The other end of the line: raw bytes by os calls, so that only our own decoder is under test."""

    def __init__(self, path: str) -> None:
        # Not blocking: what select promised is gone again when the device drops what nobody has read.
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self.decoder = usfp.Decoder()
        self.frames: list[usfp.Frame] = []

    def send(self, data: bytes) -> None:
        os.write(self.fd, data)

    def read_until(self, done: Callable[[list[usfp.Frame]], bool]) -> list[usfp.Frame]:
        """Collect frames until ``done`` says so; fail after a generous deadline."""
        deadline = time.monotonic() + DEADLINE_S
        while not done(self.frames):
            assert time.monotonic() < deadline, f"gave up with {self.decoder.stats}"
            self._take(0.2)
        return self.frames

    def read_for(self, seconds: float) -> list[usfp.Frame]:
        """Collect whatever comes within ``seconds``."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._take(0.05)
        return self.frames

    def _take(self, seconds: float) -> None:
        if select.select([self.fd], [], [], seconds)[0]:
            with suppress(BlockingIOError):
                self.frames += self.decoder.feed(os.read(self.fd, 65536))

    def await_ack(self, opcode: int, seq: int) -> usfp.Ack:
        """Read until the command ``seq`` has been answered."""

        def answers(frames: list[usfp.Frame]) -> list[usfp.Ack]:
            acks = [each for each in frames if each.type == usfp.FrameType.ACK and each.seq == seq]
            return [ack for ack in map(usfp.parse_ack, acks) if ack.opcode == opcode]

        return answers(self.read_until(lambda frames: bool(answers(frames))))[0]

    def ascans(self) -> list[usfp.Frame]:
        return [each for each in self.frames if each.type == usfp.FrameType.ASCAN]

    def send_all(self, data: bytes) -> None:
        """Send on a port that may be full, reading meanwhile so that it empties."""
        while data:
            self._take(0.05)
            if select.select([], [self.fd], [], 0)[1]:
                data = data[os.write(self.fd, data) :]

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


@pytest.fixture
def make_host() -> Iterator[Callable[[str], Host]]:
    """Open hosts on a port; they are closed with the test."""
    hosts: list[Host] = []

    def open_host(path: str) -> Host:
        hosts.append(Host(path))
        return hosts[-1]

    yield open_host
    for each in hosts:
        each.close()


@pytest.fixture
def serving(make_host: Callable[[str], Host]) -> Iterator[Callable[[VirtualTransducer], Host]]:
    """Serve a transducer in a thread and return a host on its port; both end with the test."""
    stop = threading.Event()
    endings: list[Callable[[], None]] = []

    def begin(transducer: VirtualTransducer) -> Host:
        thread = threading.Thread(target=transducer.serve, args=(stop,), daemon=True)
        thread.start()
        endings.extend((lambda: thread.join(DEADLINE_S), transducer.close))
        return make_host(transducer.port)

    yield begin
    stop.set()
    for end in endings:
        end()
