"""A pipe that nobody reads: whatever stands in it, the run ends when it is told to, and gives its account."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from usedge.cli.talk import Stderr
from usedge.pipe import Pipe

USEDGE = [sys.executable, "-m", "usedge"]
DEADLINE_S = 120
LEAST_PIPE = 4096


@pytest.fixture
def narrow() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, LEAST_PIPE)
    yield ends
    for end in ends:
        os.close(end)


def fill(end: int) -> None:
    os.set_blocking(end, False)
    try:
        while os.write(end, b"x"):
            pass
    except BlockingIOError:
        os.set_blocking(end, True)


def test_what_waits_is_written_once_it_is_read(narrow: tuple[int, int]) -> None:
    there, here = narrow
    fill(here)
    pipe, line = Pipe(here, lambda: False), bytes(range(256)) * 40
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(pipe.write(line)))
    thread.start()
    read = b""
    while len(read) < LEAST_PIPE + len(line):
        read += os.read(there, 1000)
    thread.join(DEADLINE_S)
    assert (done, read[LEAST_PIPE:], pipe.unwritten) == ([True], line, 0)


def test_what_nobody_reads_is_given_up_whole_and_counted(narrow: tuple[int, int]) -> None:
    there, here = narrow
    fill(here)
    pipe = Pipe(here, lambda: True)
    assert [pipe.write(b"line\n"), pipe.write(b"line\n")] == [False, False]
    assert pipe.unwritten == 2
    assert os.read(there, 10 * LEAST_PIPE) == b"x" * LEAST_PIPE


def test_a_descriptor_that_never_waits_is_waited_for_all_the_same(narrow: tuple[int, int]) -> None:
    there, here = narrow
    os.set_blocking(here, False)
    assert Pipe(here, lambda: True).write(b"line\n")
    assert os.read(there, 100) == b"line\n"


def test_a_pipe_without_a_reader_is_broken_as_ever() -> None:
    there, here = os.pipe()
    os.close(there)
    with pytest.raises(BrokenPipeError):
        Pipe(here, lambda: False).write(b"line\n")
    os.close(here)


def test_talk_to_a_full_stderr_is_lost_and_talk_goes_on_once_it_is_read(narrow: tuple[int, int]) -> None:
    there, here = narrow
    fill(here)
    with os.fdopen(os.dup(here), "w") as stream:
        tell = Stderr()
        tell("one\n", stream)
        tell("two\n", stream)
        os.read(there, LEAST_PIPE)
        tell("three\n", stream)
    assert os.read(there, LEAST_PIPE) == b"three\n"


@pytest.mark.parametrize("told_to_end", [signal.SIGINT, signal.SIGTERM])
def test_a_run_whose_output_nobody_reads_ends_by_a_signal_with_its_account(
    told_to_end: signal.Signals, narrow: tuple[int, int], tmp_path: Path,
) -> None:
    _, here = narrow
    summary, lines = tmp_path / "s.json", tmp_path / "a.jsonl"
    run = subprocess.Popen(
        [*USEDGE, "run", "--port", "sim://?prf=500&samples=400", "--runtime", "classical", "--summary",
         str(summary), "--sink", f"jsonl:{lines}"], stdout=here, stderr=here)
    until = time.monotonic() + DEADLINE_S
    # The loop stands still in stdout, so that no reading goes anywhere any more.
    size, seen = -1, 0
    while (size != seen or not seen) and time.monotonic() < until:
        size = seen
        time.sleep(1.0)
        seen = lines.stat().st_size if lines.exists() else 0
    run.send_signal(told_to_end)
    assert run.wait(DEADLINE_S) == 130
    told = json.loads(summary.read_text())
    assert told["received"] == sum(told[key] for key in ("classified", "abstained", "dropped", "unread")) > 0


def test_a_run_whose_output_nobody_reads_ends_by_its_time_and_says_what_was_left(
    narrow: tuple[int, int], tmp_path: Path,
) -> None:
    _, here = narrow
    run = subprocess.run(
        [*USEDGE, "run", "--port", "sim://?prf=500&samples=400", "--runtime", "classical", "--seconds", "3",
         "--summary", str(tmp_path / "s.json")], stdout=here, stderr=subprocess.PIPE, text=True,
        timeout=DEADLINE_S, check=False)
    assert run.returncode == 0
    assert "nobody reads stdout; readings left unwritten there: 1.\n" in run.stderr
    assert " received, " in run.stderr
    assert json.loads((tmp_path / "s.json").read_text())["received"] > 0
