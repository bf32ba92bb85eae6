"""What keeps a link alive and quiet: names of ports, the FTDI timer, backoff, what is told, the watchdog."""

from __future__ import annotations

import logging
import os
import pty
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from usedge.ascan import AScan
from usedge.errors import InputError, LinkError
from usedge.reading import Reading
from usedge.runtime.runner import Run, RunOptions
from usedge.runtime.watchdog import Watchdog
from usedge.sources import SourceCounts, SourceOptions, open_source
from usedge.sources.latency_timer import quicken, timer_path
from usedge.sources.link import Link, LinkGoneError
from usedge.sources.ports import Adapter, PortName
from usedge.sources.serial_port import SerialSource
from usedge.sources.told import RUN_TALK, Backoff, Teller
from usedge.tof import Pick
from usedge_firmware.transducer import VirtualTransducer

DEADLINE_S = 30.0
TWINS = [Adapter("/dev/ttyUSB0", 0x0403, 0x6001, "A1", "1-1"),
         Adapter("/dev/ttyUSB1", 0x0403, 0x6001, "A2", "1-2")]


def awaited(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


# Names


def test_a_usb_name_is_the_path_of_the_one_that_fits() -> None:
    assert PortName("usb:0403:6001:A2", lambda: TWINS).path() == "/dev/ttyUSB1"
    assert PortName("usb:0403:6001", lambda: TWINS[:1]).path() == "/dev/ttyUSB0"


def test_twins_are_told_apart_by_serial_number_or_refused() -> None:
    with pytest.raises(LinkError, match=r"ttyUSB0 .*6001:A1.*ttyUSB1.*Add the serial number"):
        PortName("usb:0403:6001", lambda: TWINS).path()
    with pytest.raises(LinkGoneError, match=r"no serial port is usb:dead:beef.*ttyUSB0"):
        PortName("usb:dead:beef", lambda: TWINS).path()


@pytest.mark.parametrize("port", ["usb:", "usb:403:6001", "usb:0403", "usb:0403:6001:", "usb:xxxx:6001"])
def test_a_malformed_usb_name_is_bad_input(port: str) -> None:
    with pytest.raises(InputError, match="not usb:VID:PID"):
        open_source(port, SourceOptions())


def test_without_serial_numbers_the_place_in_the_usb_tree_decides() -> None:
    nameless = TWINS[0]._replace(serial=None)
    assert nameless.is_same(nameless._replace(path="/dev/ttyUSB7"))
    assert not nameless.is_same(nameless._replace(location="1-2"))
    assert TWINS[0].is_same(TWINS[0]._replace(location="3-1"))


def test_a_path_of_by_id_is_followed_at_every_opening(tmp_path: Path) -> None:
    link = tmp_path / "by-id"
    name = PortName(str(link), list)
    link.symlink_to("/dev/ttyUSB0")
    assert name.path() == str(link)


# The FTDI latency timer


def sysfs(root: Path, port: str, ms: object) -> Path:
    folder = root / "bus/usb-serial/devices" / port
    folder.mkdir(parents=True)
    (folder / "latency_timer").write_text(f"{ms}\n")
    return folder / "latency_timer"


def test_a_latency_timer_is_set_to_1_ms_where_that_is_permitted(tmp_path: Path) -> None:
    timer = sysfs(tmp_path, "ttyUSB3", 16)
    found = quicken("/dev/ttyUSB3", None, tmp_path)
    assert found is not None
    assert found.facts() == {"found_ms": 16, "now_ms": 1}
    assert not found.high
    assert timer.read_text() == "1\n"


def test_the_low_latency_flag_is_asked_for_first(tmp_path: Path) -> None:
    timer = sysfs(tmp_path, "ttyUSB3", 16)
    asked: list[bool] = []

    class Device:
        def set_low_latency_mode(self, wanted: bool) -> None:
            asked.append(wanted)
            timer.write_text("1\n")  # as ftdi_sio shows it
            timer.chmod(0o444)

    found = quicken("/dev/ttyUSB3", Device(), tmp_path)
    assert found is not None
    assert (asked, found.now_ms) == ([True], 1)


def test_a_timer_that_may_not_be_set_is_reported_as_it_stands(tmp_path: Path) -> None:
    timer = sysfs(tmp_path, "ttyUSB3", 16)
    timer.unlink()
    timer.symlink_to("/proc/version")  # read as no number: no timer
    assert quicken("/dev/ttyUSB3", None, tmp_path) is None
    timer.unlink()
    timer.symlink_to("/proc/sys/kernel/ngroups_max")  # a number that nobody may write
    found = quicken("/dev/ttyUSB3", None, tmp_path)
    assert found is not None
    assert found.high
    assert found.now_ms == found.found_ms > 1


def test_other_ports_have_no_timer(tmp_path: Path) -> None:
    assert quicken("/dev/ttyACM0", None, tmp_path) is None


def test_a_high_timer_is_told_and_stands_in_the_summary(tmp_path: Path,
                                                        caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    rows = np.zeros((2, 100), np.int16)
    with VirtualTransducer(rows, fs_hz=1_000_000, prf_hz=200, use_native=False) as device:
        serving = threading.Thread(target=device.serve, args=(stop,))
        serving.start()
        timer = timer_path(device.port, tmp_path)
        timer.parent.mkdir(parents=True)
        timer.symlink_to("/proc/sys/kernel/ngroups_max")
        source = SerialSource(device.port, SourceOptions(count=3, protocol="usfp"))
        source.sys_root = tmp_path
        job = Run(source, NeverSure(), [], RunOptions())
        with caplog.at_level(logging.INFO, logger=RUN_TALK):
            job.go()
        stop.set()
        serving.join()
    assert [line for line in caplog.messages if f"tee {timer}" in line]
    assert job.summary()["latency_timer"]["now_ms"] > 1


# Deadlines


def test_a_write_that_nobody_takes_ends_and_so_does_closing() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    link = Link(os.ttyname(slave), 115_200)
    with pytest.raises(LinkGoneError, match="takes no bytes"):
        link.write(bytes(1 << 20))
    link.close()
    link.close()
    os.close(master)
    os.close(slave)


def test_a_port_that_hangs_up_is_gone() -> None:
    master, slave = pty.openpty()
    link = Link(os.ttyname(slave), 115_200)
    os.close(slave)
    os.close(master)
    with pytest.raises(LinkGoneError, match="went away after 0 bytes"):
        link.read(DEADLINE_S)
    with pytest.raises(LinkGoneError, match="went away"):
        link.write(b"x")
    link.close()


# What is told, and when


def test_backoff_doubles_up_to_its_bound_and_begins_anew_when_things_hold() -> None:
    backoff = Backoff(0.1, 1.0)
    assert [backoff.next_s() for _ in range(7)] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    backoff.worked(0.5)
    assert backoff.next_s() == 1.0
    backoff.worked(1.0)
    assert backoff.next_s() == 0.0


def test_a_year_of_a_loose_cable_is_no_flood(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 0.0
    tell = Teller(at_once=5, every_s=60.0, clock=lambda: now_s)
    with caplog.at_level(logging.INFO, logger=RUN_TALK):
        for _ in range(600):
            tell("loose")
            now_s += 1.0
    assert 5 + 600 // 60 >= len(caplog.messages) >= 600 // 60
    assert caplog.messages[:5] == ["loose"] * 5
    assert "lines before this one were not shown" in caplog.messages[6]


# The watchdog


class NeverSure:
    """A picker that answers nothing, at once."""

    def pick(self, ascan: AScan) -> Pick:  # noqa: ARG002
        return Pick(None, 0.0, 0.0, abstain="no_echo")


class Few:
    """A source of ten A-scans."""

    lossless, prf_hz, protocol = True, None, None

    def __init__(self) -> None:
        self.counts = SourceCounts()

    def __enter__(self) -> Few:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[AScan]:
        for seq in range(10):
            self.counts.received += 1
            yield AScan(np.zeros(8, np.int16), 1e6, seq=seq)

    def stop(self) -> None: ...


class Slow:
    """A sink that takes the fifth reading only when it is let go."""

    name = "slow"

    def __init__(self) -> None:
        self.held, self.let_go = threading.Event(), threading.Event()

    def write(self, reading: Reading, gated: AScan) -> None:  # noqa: ARG002 - Sink's signature
        if reading.seq == 5:
            self.held.set()
            assert self.let_go.wait(DEADLINE_S)

    def close(self) -> None: ...


def test_a_stuck_sink_is_named_while_it_is_stuck_and_in_the_summary(
        caplog: pytest.LogCaptureFixture) -> None:
    sink = Slow()
    job = Run(Few(), NeverSure(), [sink], RunOptions(stuck_s=0.2))  # type: ignore[arg-type]
    with caplog.at_level(logging.INFO, logger=RUN_TALK):
        running = threading.Thread(target=job.go)
        assert job.alive()
        running.start()
        assert sink.held.wait(DEADLINE_S)
        assert awaited(lambda: not job.alive())
        assert awaited(lambda: any("stage 'sink slow' has not moved" in line for line in caplog.messages))
        sink.let_go.set()
        running.join()
    assert job.alive()
    assert job.summary()["stuck"]["sink slow"]["times"] == 1
    assert job.summary()["stuck"]["sink slow"]["longest_s"] >= 0.2
    assert "usedge-watchdog" not in [each.name for each in threading.enumerate()]


def test_a_reader_that_stands_still_is_found() -> None:
    beat_ns = time.monotonic_ns()
    with Watchdog(lambda: beat_ns, 0.2) as dog:
        def loop() -> bool:
            dog.enter("wait")
            return not dog.alive()

        assert awaited(loop)
        assert awaited(lambda: bool(loop() and dog.found()))
        assert set(dog.found()) == {"read"}
        beat_ns = time.monotonic_ns() + 10**12
        assert awaited(lambda: not loop())
