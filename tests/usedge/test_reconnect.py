"""A run outlives its cable, its board and its port's name; nothing that is lost goes uncounted."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from usedge.errors import LinkError
from usedge.runtime.runner import Run, RunOptions
from usedge.sources import SourceCounts, SourceOptions, open_source, serial_port
from usedge.sources import ports as ports_module
from usedge.sources.account import Account
from usedge.sources.ports import Adapter, PortName
from usedge.sources.serial_port import SerialSource
from usedge.sources.told import RUN_TALK, Backoff
from usedge.tof import classical_picker
from usedge_firmware.faults import FaultPlan
from usedge_firmware.injector import Injector
from usedge_firmware.transducer import VirtualTransducer

USEDGE = [sys.executable, "-m", "usedge"]
DEADLINE_S = 60
ROWS = np.arange(6, dtype=np.int16).repeat(200).reshape(6, 200)
EVERYTHING = ("disconnect=0.01:0.05,reset=0.01:0.02,flip=0.02,loss=0.02,truncate=0.02,duplicate=0.02,"
              "reorder=0.02,drop=0.02,text=0.02,insert=0.02")


class Board:
    """A virtual transducer behind a link, served in a thread."""

    def __init__(self, link: Path, faults: str = "", **options: object) -> None:
        self.link = link
        self.injector = Injector(FaultPlan.parse(faults), seed=1)
        settings: dict[str, object] = {"prf_hz": 400.0, "injector": self.injector, "link": str(link)}
        self.device = VirtualTransducer(ROWS, fs_hz=8_000_000, use_native=False,
                                        **settings | options)  # type: ignore[arg-type]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.device.serve, args=(self._stop,))
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self._stop.set()
            self._thread.join()
            self.device.close()

    def totals(self) -> dict[str, int]:
        return self.injector.ledger.totals()


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Callable[..., Board]]:
    boards: list[Board] = []

    def start(faults: str = "", link: Path | None = None, **options: object) -> Board:
        boards.append(Board(link or tmp_path / "port", faults, **options))
        return boards[-1]

    yield start
    for each in boards:
        each.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cables that are pulled ten times a second would be waited for ever longer."""
    monkeypatch.setattr(serial_port, "Backoff", lambda: Backoff(0.01, 0.1))


def awaited(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def options(**values: object) -> SourceOptions:
    settings: dict[str, object] = {"reconnect": True, "patience_s": 1.0, "protocol": "usfp"}
    return SourceOptions(**settings | values)  # type: ignore[arg-type]


def read(port: Path, n: int, **values: object) -> tuple[list[int], SourceCounts]:
    with open_source(str(port), options(count=n, **values)) as source:
        return [ascan.seq for ascan in source], source.counts


def test_a_cable_that_is_pulled_within_a_frame_and_put_back(board: Callable[..., Board]) -> None:
    device = board("disconnect=0.03:0.05")
    seqs, counts = read(device.link, 100)
    fates = device.totals()
    assert counts.reconnects == fates["faults"]["disconnect"] > 0  # type: ignore[index]
    assert sorted(set(seqs)) == seqs  # one session: its numbers go on
    assert (counts.received, counts.seq_gaps) == (fates["intact"], fates["damaged"])
    assert (counts.sent, counts.unknown_ends, counts.resets) == (fates["sent"], 0, 0)
    assert counts.offline_s > 0.05


def test_a_reset_board_begins_a_session_of_which_the_end_before_is_not_guessed(
        board: Callable[..., Board]) -> None:
    device = board("reset=0.03:0.02")
    seqs, counts = read(device.link, 100)
    assert counts.received == len(seqs) == device.totals()["intact"] == 100
    assert counts.resets == counts.reconnects == counts.unknown_ends == device.device.resets > 0
    assert seqs.count(0) == counts.resets + 1
    assert (counts.sent, counts.duplicated) == (None, 0)


def test_the_account_holds_under_every_fault_at_once(board: Callable[..., Board]) -> None:
    device = board(EVERYTHING)
    seqs, counts = read(device.link, 250)
    fates = device.totals()
    assert (counts.received, counts.duplicated) == (fates["intact"], fates["copies"])
    assert len(seqs) == counts.received
    # What a reset cut off is known to nobody but the board.
    assert 0 <= fates["damaged"] + fates["dropped"] - counts.seq_gaps <= 3 * counts.unknown_ends


def test_a_stall_beyond_patience_is_asked_after_and_goes_on(board: Callable[..., Board]) -> None:
    device = board("stall=0.03:0.6")
    seqs, counts = read(device.link, 60, patience_s=0.3)
    assert counts.reconnects > 0
    assert (counts.received + counts.seq_gaps, counts.sent) == (device.device.sent, device.device.sent)
    assert sorted(set(seqs)) == seqs


@pytest.mark.parametrize("protocol", ["p0rk", "wulpus", "pic0rick"])
def test_a_protocol_without_sessions_comes_back_and_says_what_it_cannot_tell(
        protocol: str, board: Callable[..., Board], caplog: pytest.LogCaptureFixture) -> None:
    device = board("disconnect=0:0.05", dialect=protocol, prf_hz=50.0)
    with caplog.at_level(logging.INFO, logger=RUN_TALK), \
            open_source(str(device.link), options(protocol=protocol)) as source:
        for taken, _ in enumerate(source, 1):
            if taken == 5:
                device.injector.demand("disconnect")
            if source.counts.reconnects and taken > 15:
                source.stop()
    assert (source.counts.reconnects, source.counts.unknown_ends) == (1, 1)
    assert source.counts.sent is None
    assert any("does not tell whether A-scans were lost" in line for line in caplog.messages)


def test_what_happened_is_one_line_each(board: Callable[..., Board],
                                        caplog: pytest.LogCaptureFixture) -> None:
    device = board("disconnect=0:0.3")
    with caplog.at_level(logging.INFO, logger=RUN_TALK), open_source(str(device.link), options()) as source:
        for ascan in source:
            if ascan.seq == 5:
                device.injector.demand("disconnect")
            if source.counts.reconnects:
                source.stop()
    assert len(caplog.messages) == 2
    assert "went away after" in caplog.messages[0]
    assert "is back after" in caplog.messages[1]
    assert "session goes on; A-scans lost: 1." in caplog.messages[1]


def test_a_port_that_was_never_there_is_an_error_still(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="does not exist"):
        open_source(str(tmp_path / "none"), options()).__enter__()


def test_a_board_that_never_sent_an_ascan_is_an_error_still(board: Callable[..., Board]) -> None:
    device = board("baud=1:100000")
    with pytest.raises(LinkError, match="no valid frame"), \
            open_source(str(device.link), options(patience_s=0.5)) as source:
        list(source)


def test_a_run_can_wait_for_its_first_port(tmp_path: Path, board: Callable[..., Board]) -> None:
    source = SerialSource(str(tmp_path / "later"), options(count=10, wait=True))
    taken: list[int] = []
    with source:
        reader = threading.Thread(target=lambda: taken.extend(ascan.seq for ascan in source))
        reader.start()
        assert awaited(lambda: source.beat_ns > 0)
        board(link=tmp_path / "later")
        reader.join(DEADLINE_S)
    assert taken == list(range(10))
    assert (source.counts.reconnects, source.counts.sent) == (0, 10)


def test_the_same_adapter_under_another_name(tmp_path: Path, board: Callable[..., Board],
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    """ttyUSB0 that comes back as ttyUSB1, asked for by its USB numbers."""
    first, second = tmp_path / "ttyUSB0", tmp_path / "ttyUSB1"
    now = [Adapter(str(first), 0x0403, 0x6001, "A1", "1-1")]
    monkeypatch.setattr(ports_module, "adapters", lambda: list(now))
    earlier = board(link=first)
    with open_source("usb:0403:6001:A1", options()) as source:
        for taken, _ in enumerate(source, 1):
            if taken == 10:
                earlier.close()
                now[:] = [Adapter(str(second), 0x0403, 0x6001, "A1", "1-2")]
                board(link=second)
            if source.counts.reconnects and taken > 30:
                source.stop()
    assert source.counts.reconnects == 1
    assert source.counts.resets == 1  # the second board stands for itself: another session


def test_an_adapter_known_by_its_path_is_found_under_another_one() -> None:
    ours = Adapter("/dev/ttyUSB0", 0x0403, 0x6001, "A1", "1-1")
    other = Adapter("/dev/ttyUSB0", 0x10C4, 0xEA60, "X", "1-3")
    now = [ours]
    name = PortName("/dev/ttyUSB0", lambda: now)
    assert name.path() == "/dev/ttyUSB0"
    name.opened(name.path())
    now[:] = [other, ours._replace(path="/dev/ttyUSB1")]
    assert name.path() == "/dev/ttyUSB1"
    now[:] = [other]
    with pytest.raises(LinkError, match=r"another adapter now.*10c4:ea60"):
        name.path()
    now[:] = []
    assert name.path() == "/dev/ttyUSB0"  # whose absence is told by opening it


def run(port: object, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*USEDGE, "run", "--runtime", "classical", "--port", str(port), *arguments],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_till_the_cable_goes(device: Board, *arguments: str) -> subprocess.Popen[str]:
    process = run(device.link, *arguments)
    assert process.stdout is not None
    process.stdout.readline()
    device.close()
    return process


def test_ctrl_c_while_the_port_is_away_leaves_in_good_order(board: Callable[..., Board],
                                                            tmp_path: Path) -> None:
    process = run_till_the_cable_goes(board(), "--summary", str(tmp_path / "summary"))
    assert process.stderr is not None
    assert "went away" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130, talk
    assert "Traceback" not in talk
    told = json.loads((tmp_path / "summary").read_text())
    assert told["received"] == told["classified"] + told["abstained"] + told["dropped"] + told["unread"] > 0
    assert told["reconnects"] == 0


def test_a_port_that_never_returns_does_not_hold_a_run_of_so_many_seconds(
        board: Callable[..., Board]) -> None:
    process = run_till_the_cable_goes(board(), "--seconds", "4")
    _, talk = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, talk
    assert talk.count("\n") == 2, talk


def test_without_reconnect_a_lost_port_ends_the_run(board: Callable[..., Board]) -> None:
    process = run_till_the_cable_goes(board(), "--no-reconnect")
    _, talk = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 3, talk
    assert "went away" in talk.splitlines()[-1]


def test_a_run_over_disconnects_leaves_no_thread_and_no_open_file(board: Callable[..., Board]) -> None:
    device = board("disconnect=0.03:0.02")
    threads, files = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    job = Run(open_source(str(device.link), options(count=120)), classical_picker("threshold"), [],
              RunOptions())
    job.go()
    counts = job.counters()
    assert counts["reconnects"] > 0  # type: ignore[operator]
    assert counts["received"] == sum(counts[key] or 0
                                     for key in ("classified", "abstained", "dropped", "unread"))
    assert set(threading.enumerate()) == threads
    assert len(os.listdir("/proc/self/fd")) == files


# The account by itself


def account(*numbers: int, begin: int | None = 0) -> Account:
    made = Account()
    made.begin(begin)
    for number in numbers:
        made.take(number)
    return made


def test_the_number_of_the_next_stream_proves_the_end_of_the_one_before() -> None:
    books = account(0, 1, 2, 4)
    books.begin(8)
    books.take(8)
    books.end(2)
    assert (books.received, books.missing, books.sent, books.unknown_ends) == (5, 5, 10, 0)


def test_the_end_before_another_session_is_unknown() -> None:
    books = account(0, 1, 3)
    books.lose_session()
    books.begin(0)
    assert books.take(0) == "new"
    books.end(1)
    assert (books.received, books.missing, books.sent, books.unknown_ends) == (4, 1, None, 1)


def test_an_end_that_was_told_is_known_whatever_follows() -> None:
    books = account(0, 1)
    books.end(5)
    books.end(5)  # a STOP that was sent twice
    books.lose_session()
    books.begin(0)
    books.take(0)
    books.end(1)
    assert (books.received, books.missing, books.sent, books.unknown_ends) == (3, 3, 6, 0)
