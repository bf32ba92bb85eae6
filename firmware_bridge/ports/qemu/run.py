"""Stream from firmware on emulated boards to ``usedge run``, and check every byte that the boards sent.

One line a board; exit status 1 when anything differs. The emulator writes down what the guest sends as it
leaves the UART, so that the check does not rest on the host that is under test.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import table

from usedge_firmware import usfp

HERE = Path(__file__).resolve().parent
BOARDS = ("mps2-an385", "netduinoplus2", "microbit")
QEMU = "qemu-system-arm"
FORMATS = {"int16": "INT16", "packed12": "PACKED12", "rice": "DELTA_RICE"}
READY_DEADLINE_S = 60.0
END_DEADLINE_S = 10.0

# Ends with its parent even when that is killed: Linux only, elsewhere the finally blocks must do.
_LEASHED = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl is not None:
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent has gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


class BoardError(RuntimeError):
    """A board or its host did not come up or did not end; the message says which and shows its last words."""


@dataclass(frozen=True)
class Task:
    """What every board is asked for. ``rows`` int16 payloads to be sent, by seq modulo their number."""

    prf_hz: float = 20.0
    count: int = 200
    payload: str = "int16"
    kernels: Path = HERE / "build"
    rows: Sequence[bytes] = field(default_factory=table.payloads)

    @property
    def format_name(self) -> str:
        """The payload format as USFP names it."""
        return FORMATS[self.payload]

    @property
    def deadline_s(self) -> float:
        """Far beyond what the slowest machine needs: a run that meets it hangs."""
        return READY_DEADLINE_S + 10.0 * self.count / self.prf_hz


@dataclass
class Outcome:
    """What one board sent. ``equal`` A-scans whose hash is their row's; ``faults`` what was not as asked."""

    board: str
    ascans: int = 0
    equal: int = 0
    wire_bytes: int = 0
    seconds: float = 0.0
    session_id: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = "".join(f"\n  {fault}" for fault in self.faults)
        return (f"{self.board}: {self.ascans} A-scans, {self.equal} hashes equal, {self.wire_bytes} bytes,"
                f" {self.seconds:.1f} s{told}")


@contextlib.contextmanager
def child(command: Sequence[str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``command`` with both its outputs in the file ``output``, and end it whatever happens."""
    leash = [sys.executable, "-c", _LEASHED, str(os.getpid()), *command]
    with output.open("wb") as words:
        process = subprocess.Popen(leash, stdin=subprocess.DEVNULL, stdout=words, stderr=words,
                                   start_new_session=True)
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Terminate, wait, and kill what does not listen."""
    process.terminate()
    try:
        process.wait(END_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def emulator(board: str, kernel: Path, wire: Path) -> list[str]:
    """Return the command that runs ``kernel``; what the guest sends also goes to the file ``wire``."""
    return [
        QEMU, "-M", board, "-kernel", str(kernel), "-display", "none", "-monitor", "none", "-nodefaults",
        "-chardev", f"pty,id=wire,logfile={wire},logappend=off", "-serial", "chardev:wire",
    ]


def host(port: str, task: Task, summary: Path) -> list[str]:
    """Return the command that reads the board at ``port``."""
    command = [
        sys.executable, "-m", "usedge", "run", "--port", port, "--prf", str(task.prf_hz),
        "--count", str(task.count), "--patience", str(READY_DEADLINE_S), "--summary", str(summary),
    ]
    return command if task.payload == "int16" else [*command, "--payload", task.payload]


def await_true(question: Callable[[], Any], seconds: float) -> Any:
    """Return the first answer that is true, or the last one when ``seconds`` are over."""
    deadline = time.monotonic() + seconds
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return answer


def port_of(process: subprocess.Popen[bytes], output: Path, board: str) -> str:
    """Return the pseudo-terminal that the emulator announces; raises ``BoardError`` when it does not."""

    def announced() -> re.Match[str] | None:
        return re.search(r"redirected to (\S+) ", output.read_text(encoding="utf-8", errors="replace"))

    found = await_true(lambda: announced() or process.poll() is not None, READY_DEADLINE_S)
    if not isinstance(found, re.Match):
        raise BoardError(f"{board}: the emulator told no port; it said: {_last_words(output)}")
    return str(found[1])


class EmulatedBoard:
    """One board with a host of its own, from ``with`` to its end; both leave their words in ``folder``."""

    def __init__(self, name: str, task: Task, folder: Path) -> None:
        self.name = name
        self._task = task
        self._seconds = 0.0
        self._stack = contextlib.ExitStack()
        self._kernel = task.kernels / f"{name}.elf"
        self._wire, self._guest_words, self._host_words, self._summary = (
            folder / f"{name}.{each}" for each in ("wire", "emulator.txt", "host.txt", "json"))

    def __enter__(self) -> EmulatedBoard:
        if not self._kernel.exists():
            raise BoardError(f"{self._kernel} is missing. Run: make -C {HERE}")
        with self._stack:
            command = emulator(self.name, self._kernel, self._wire)
            guest = self._stack.enter_context(child(command, self._guest_words))
            port = port_of(guest, self._guest_words, self.name)
            self._started = time.monotonic()
            command = host(port, self._task, self._summary)
            self._host = self._stack.enter_context(child(command, self._host_words))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ended(self) -> bool:
        """Whether the host has got what it wants, or has given up."""
        if self._host.poll() is None:
            return False
        self._seconds = self._seconds or time.monotonic() - self._started
        return True

    def outcome(self) -> Outcome:
        """Check what the board sent; raises ``BoardError`` when its host has not ended."""
        status = self._host.poll()
        if status is None:
            raise BoardError(f"{self.name}: the host did not end; {_last_words(self._host_words)}")
        if status == 0:
            # The host needs no last acknowledgement to be content; the board may still be sending it.
            await_true(lambda: _acknowledged(self._sent()), END_DEADLINE_S)
        found = check(self.name, self._sent(), self._task)
        found.seconds = self._seconds
        if status:
            found.faults.append(f"usedge run ended with {status}: {_last_words(self._host_words)}")
        else:
            found.faults += _summary_faults(json.loads(self._summary.read_text()), self._task.count)
        return found

    def _sent(self) -> bytes:
        return self._wire.read_bytes()


def check(board: str, wire: bytes, task: Task) -> Outcome:
    """Compare all that a board sent, from its boot on, with what it was asked for."""
    decoder = usfp.Decoder()
    frames = decoder.feed(wire) + decoder.finish()
    ascans = [each for each in frames if each.type == usfp.FrameType.ASCAN]
    found = Outcome(board, ascans=len(ascans), wire_bytes=len(wire))
    rows = [hashlib.sha256(each).digest() for each in task.rows]
    found.equal = sum(_digest(each) == rows[each.seq % len(rows)] for each in ascans)
    found.session_id = next((usfp.parse_info(each).session_id for each in frames
                             if each.type == usfp.FrameType.INFO), 0)
    stops = _stop_details(frames)
    stats = decoder.stats
    expected = {
        "A-scans sent": (len(ascans), task.count),
        "hashes equal to the table's": (found.equal, task.count),
        "first and last seq": (_ends(ascans), (0, task.count - 1)),
        "steps of seq": ({after.seq - each.seq for each, after in pairwise(ascans)} - {1}, set()),
        "payload formats": ({each.payload_format.name for each in ascans}, {task.format_name}),
        "A-scans acknowledged": (set(stops), {task.count}),
        "CRC errors": (stats.crc_errors, 0),
        "bytes outside frames": (stats.skipped_bytes, 0),
    }
    found.faults = [f"{what}: {got}, not {wanted}" for what, (got, wanted) in expected.items()
                    if got != wanted]
    return found


def _ends(ascans: Sequence[usfp.Frame]) -> tuple[int, int] | None:
    return (ascans[0].seq, ascans[-1].seq) if ascans else None


def _digest(frame: usfp.Frame) -> bytes:
    """Hash an A-scan's samples as an int16 payload: for that format, the payload's own hash."""
    return hashlib.sha256(frame.samples().astype("<i2").tobytes()).digest()


def _stop_details(frames: Sequence[usfp.Frame]) -> list[int]:
    acks = [usfp.parse_ack(each) for each in frames if each.type == usfp.FrameType.ACK]
    return [each.detail for each in acks if each.opcode == usfp.Opcode.STOP]


def _acknowledged(wire: bytes) -> bool:
    return bool(_stop_details(usfp.Decoder().feed(wire)))


def _summary_faults(summary: dict[str, Any], count: int) -> list[str]:
    wanted = {"received": count, "seq_gaps": 0, "crc_errors": 0}
    return [f"usedge run's summary says {key} {summary.get(key)}, not {value}"
            for key, value in wanted.items() if summary.get(key) != value]


def _last_words(output: Path) -> str:
    words = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "; ".join(words[-3:]) or "nothing"


def stream(boards: Sequence[str], task: Task) -> list[Outcome]:
    """Run all ``boards`` at once and return what each sent; their emulators have ended with this call."""
    if shutil.which(QEMU) is None:
        raise BoardError(f"{QEMU} is not installed. Run: make qemu-tools")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        started = [stack.enter_context(EmulatedBoard(each, task, Path(folder))) for each in boards]
        await_true(lambda: not [each for each in started if not each.ended()], task.deadline_s)
        return [each.outcome() for each in started]


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("boards", nargs="*", metavar="BOARD", help=f"default: {' '.join(BOARDS)}")
    parser.add_argument("--prf", type=float, default=20.0, help="A-scans a second; default 20")
    parser.add_argument("--count", type=int, default=200, help="A-scans a board; default 200")
    parser.add_argument("--payload", choices=list(FORMATS), default="int16", help="payload format")
    parser.add_argument("--kernels", type=Path, default=HERE / "build", help="folder of the firmware")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, rows: Sequence[bytes] | None = None) -> int:
    """Run as the command line says; ``rows`` in place of the table's own. Returns the exit status."""
    given = _arguments(arguments)
    # A terminated runner unwinds, and so ends its emulators.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    task = Task(given.prf, given.count, given.payload, given.kernels, rows or table.payloads())
    try:
        outcomes = stream(given.boards or BOARDS, task)
    except BoardError as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    for each in outcomes:
        sys.stdout.write(f"{each}\n")
    return 1 if any(each.faults for each in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
