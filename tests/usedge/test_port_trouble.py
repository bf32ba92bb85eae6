"""What goes wrong at a port and while a run is interrupted, as a user meets it."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from usedge.errors import InputError, LinkError
from usedge.sources import SourceOptions, open_source
from usedge.sources.intake import Intake, front_end
from usedge_firmware import usfp
from usedge_firmware.faults import FaultPlan
from usedge_firmware.frontends.usfp_link import START_SEQ
from usedge_firmware.injector import Injector
from usedge_firmware.transducer import VirtualTransducer

USEDGE = [sys.executable, "-m", "usedge"]
DEADLINE_S = 60
ROWS = np.arange(6, dtype=np.int16).repeat(400).reshape(6, 400)
Serve = Callable[..., VirtualTransducer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a virtual transducer of the given kind in a thread."""
    stop, running = threading.Event(), []

    def start(**options: object) -> VirtualTransducer:
        device = VirtualTransducer(ROWS, fs_hz=8_000_000, use_native=False, **options)  # type: ignore[arg-type]
        thread = threading.Thread(target=device.serve, args=(stop,))
        thread.start()
        running.append((device, thread))
        return device

    yield start
    stop.set()
    for device, thread in running:
        thread.join()
        device.close()


@pytest.fixture
def board() -> Iterator[tuple[int, str]]:
    """A board's end of a pty, and the port on the other."""
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


def interrupt(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130, talk
    assert "Traceback" not in talk
    return talk


def run(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*USEDGE, "run", "--runtime", "classical", *arguments], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def test_a_search_for_a_board_can_be_interrupted(board: tuple[int, str]) -> None:
    master, port = board
    process = run("--port", port, "--patience", "600")
    assert select.select([master], [], [], DEADLINE_S)[0]  # the first question
    assert "0 received" in interrupt(process)


def has_open(process: subprocess.Popen[str], path: Path) -> bool:
    try:
        return any(os.readlink(each) == str(path) for each in Path(f"/proc/{process.pid}/fd").iterdir())
    except FileNotFoundError:
        return False  # it closed one of its files between our two looks


@pytest.mark.parametrize("written", [False, True])
def test_a_pipe_that_nobody_writes_to_can_be_interrupted(written: bool, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = run("--port", f"raw:{pipe}")
    assert process.stdout is not None
    if written:
        frames = [usfp.encode_ascan(row, seq=seq, fs_hz=8_000_000) for seq, row in enumerate(ROWS)]
        with pipe.open("wb") as writer:
            writer.write(b"".join(frames))
            writer.flush()
            assert all(process.stdout.readline() for _ in ROWS)  # without waiting for more
            interrupt(process)
    else:
        assert awaited(lambda: has_open(process, pipe))
        interrupt(process)


def test_a_search_in_vain_leaves_no_board_transmitting(serve: Serve) -> None:
    """A WULPUS whose records arrive as garbage: the question made it transmit, the answer means nothing."""
    device = serve(dialect="wulpus", injector=Injector(FaultPlan.parse("baud=1:100000"), seed=1))
    for protocol, patience_s in (("wulpus", 0.5), ("auto", 3.5)):
        with pytest.raises(LinkError, match="no valid frame"):
            open_source(device.port, SourceOptions(protocol=protocol, patience_s=patience_s)).__enter__()
        assert device.sent > 0
        assert awaited(lambda: device._stream is None), protocol


def test_a_board_found_while_leaving_is_stopped(serve: Serve) -> None:
    device = serve(dialect="wulpus")
    source = open_source(device.port, SourceOptions(protocol="wulpus"))
    with source:
        source.stop()
    assert device.sent > 0
    assert awaited(lambda: device._stream is None)


@pytest.mark.parametrize("protocol", ["wulpus", "auto"])
def test_a_board_that_is_asked_for_few_ascans_has_the_time_to_be_found(protocol: str, serve: Serve) -> None:
    device = serve(dialect="wulpus")
    patience_s = 3.0 if protocol == "auto" else 1.5
    options = SourceOptions(protocol=protocol, prf_hz=1.0, patience_s=patience_s)
    with open_source(device.port, options) as source:
        assert source.protocol == "wulpus"


def awaited(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("protocol", ["p0rk", "wulpus", "auto"])
def test_a_prf_beyond_the_board_is_told_with_its_limit(protocol: str, serve: Serve) -> None:
    device = serve(dialect="p0rk" if protocol == "auto" else protocol)
    options = SourceOptions(protocol=protocol, prf_hz=200.0)
    with pytest.raises(LinkError, match=r"at most (100|50) A-scans a second, not 200"):
        open_source(device.port, options).__enter__()


@pytest.mark.parametrize(("protocol", "asked_hz", "told_hz"), [
    ("p0rk", 0.0, 50), ("p0rk", 12.4, 12), ("wulpus", 0.0, 50), ("wulpus", 20.0, 20), ("pic0rick", 0.0, None),
    ("usfp", 0.0, 30), ("usfp", 20.0, 20),
])
def test_the_prf_told_is_the_one_that_the_board_was_asked_for(protocol: str, asked_hz: float,
                                                              told_hz: float | None, serve: Serve) -> None:
    device = serve(dialect=protocol, prf_hz=30.0)
    with open_source(device.port, SourceOptions(protocol=protocol, prf_hz=asked_hz)) as source:
        assert source.prf_hz == (None if told_hz is None else pytest.approx(told_hz, rel=0.01))


def test_a_reset_of_the_board_is_told_as_one(serve: Serve) -> None:
    device = serve(prf_hz=0.0, injector=Injector(FaultPlan.parse("reset=0.2:0.01"), seed=1))
    with pytest.raises(LinkError, match="was reset after"), \
            open_source(device.port, SourceOptions(patience_s=2.0)) as source:
        list(source)


def test_numbers_that_restart_with_a_new_session_are_no_second_copies() -> None:
    frames = [usfp.encode_ascan(row, seq=seq, fs_hz=8_000_000) for seq, row in enumerate(ROWS)]
    infos = [usfp.encode_info(usfp.Info(each, 12, (1, 0, 0), 8_000_000, 400, 0, 0, "x")) for each in (1, 2)]
    options = SourceOptions(protocol="usfp")
    front = front_end(options)
    intake = Intake("capture", front, counts := open_source("raw:x", options).counts)
    list(intake.ascans(front.feed(infos[0] + b"".join(frames) + infos[1] + b"".join(frames)), 0))
    assert (counts.received, counts.duplicated, counts.seq_gaps, intake.reboots) == (12, 0, 0, 1)


def test_a_refusal_in_a_capture_is_told_and_ends_nothing(tmp_path: Path) -> None:
    capture = tmp_path / "capture.bin"
    refused = usfp.encode_ack(usfp.Ack(usfp.Opcode.START, usfp.AckStatus.BAD_ARGUMENT), seq=START_SEQ)
    capture.write_bytes(refused + usfp.encode_ascan(ROWS[0], seq=0, fs_hz=8_000_000))
    with open_source(f"raw:{capture}", SourceOptions()) as source:
        assert len(list(source)) == 1


def test_a_second_copy_of_the_last_ascan_is_counted_too() -> None:
    options = SourceOptions(protocol="usfp", count=3)
    front = front_end(options)
    intake = Intake("port", front, counts := open_source("raw:x", options).counts, limit=3)
    frames = [usfp.encode_ascan(row, seq=seq, fs_hz=8_000_000) for seq, row in enumerate(ROWS)]
    events = front.feed(b"".join([*frames[:3], frames[2], frames[3]]))
    assert [ascan.seq for ascan in intake.ascans(events, 0)] == [0, 1, 2]
    assert (counts.received, counts.duplicated) == (3, 1)


def test_a_line_that_is_not_silent_is_not_called_so(serve: Serve) -> None:
    device = serve(prf_hz=0.0, injector=Injector(FaultPlan.parse("baud=1:100000"), seed=1))
    with pytest.raises(LinkError, match=r"no valid frame for 2 s after 0 A-scans"), \
            open_source(device.port, SourceOptions(protocol="usfp", patience_s=2.0)) as source:
        list(source)


def test_a_board_that_never_pauses_is_not_drained_for_ever() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def flood() -> None:
        peer, _ = listener.accept()
        with peer:
            try:
                while True:
                    peer.sendall(b"I (31) boot: " * 40_000)
            except OSError:
                return

    thread = threading.Thread(target=flood)
    thread.start()
    port = f"socket://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with pytest.raises(LinkError, match="no valid frame"):
            open_source(port, SourceOptions(protocol="usfp", patience_s=0.3)).__enter__()
    finally:
        thread.join()
        listener.close()


def test_a_virtual_transducer_does_not_outlive_a_killed_run() -> None:
    process = run("--port", "sim://?ascans=4")
    assert process.stdout is not None
    process.stdout.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    process.kill()
    process.communicate()
    deadline = time.monotonic() + DEADLINE_S
    while Path(f"/proc/{children[0]}/cmdline").is_file() and time.monotonic() < deadline:
        if not Path(f"/proc/{children[0]}/cmdline").read_bytes():
            break  # ended, and nobody here to collect it
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{children[0]}").exists()


def test_bad_options_of_the_virtual_transducer_are_bad_input() -> None:
    with pytest.raises(InputError, match="nearest is 'flip'"):
        open_source("sim://?faults=flop=1", SourceOptions()).__enter__()


def test_a_ledger_whose_disk_is_full_ends_the_emulator_with_one_line(tmp_path: Path) -> None:
    ledger, link = tmp_path / "ledger", tmp_path / "port"
    limited = 'ulimit -f 4; exec "$@"'  # blocks of 512 or 1024 bytes; Python takes no signal for it
    command = ["sh", "-c", limited, "sh", *USEDGE, "emulate", "--ascans", "4", "--prf", "0",
               "--faults", "drop=0.9", "--ledger", str(ledger), "--link", str(link)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with pytest.raises(LinkError), open_source(process.stdout.readline().strip(), SourceOptions()) as source:
        list(source)
    _, talk = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2, talk
    assert "Traceback" not in talk
    assert f"ledger {ledger} cannot be written (File too large)" in talk.splitlines()[-1]
    assert not link.is_symlink()


def test_a_port_that_hangs_up_ends_the_emulator_with_one_line() -> None:
    master, slave = os.openpty()
    process = subprocess.Popen([*USEDGE, "emulate", "--ascans", "4", "--port", os.ttyname(slave)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    os.close(slave)
    os.close(master)
    _, talk = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 3
    assert "Traceback" not in talk
    assert "failed after 0 A-scans" in talk.splitlines()[-1]


def test_a_run_after_a_killed_one_has_a_stream_of_its_own(serve: Serve) -> None:
    device = serve(prf_hz=50.0)
    killed = open_source(device.port, SourceOptions())
    killed.__enter__()
    killed._link.close()  # type: ignore[attr-defined] # as a kill does: without a word to the board
    with open_source(device.port, SourceOptions(count=5)) as source:
        assert len(list(source)) == 5
    assert (source.counts.sent, source.counts.seq_gaps) == (5, 0)
