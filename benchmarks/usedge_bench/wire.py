"""A virtual transducer that keeps its schedule whatever its reader does, in a process of its own.

``python -m usedge_bench.wire SAMPLES SEED`` answers each line on stdin, ``{"prf_hz", "count"}``, by
``{"port"}``; the next line ends that stretch, and it answers ``{"times"}``: (seq, due, written) of every
A-scan sent, ns of the monotonic clock that all processes share.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from usedge.errors import LinkError
from usedge_bench.conditions import on_cores

ADC_BITS = 16
PATIENCE_S = 120.0
POOL = 128
"""A-scans that are sent in turn, as many as ``sim://`` has."""


class Child:
    """A process that answers each line of JSON by another."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self.name, self._process = name, process

    def ask(self, **question: Any) -> dict[str, Any]:
        """Send ``question`` and wait for the answer; raises LinkError when the process has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it is gone; reading says so
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next answer."""
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return dict(json.loads(line))
        raise LinkError(f"the process of {self.name} ended with status {self._process.wait()}.",
                        "What it said stands above.")


@contextmanager
def child(name: str, module: str, *arguments: str, cores: set[int]) -> Iterator[Child]:
    """``python -m MODULE ARGUMENTS`` on ``cores``, ended with the block."""
    with on_cores(cores):
        process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True, start_new_session=True)
    with process:
        try:
            yield Child(name, process)
        finally:
            process.kill()  # it holds nothing that is worth an orderly end


def end_of(process: subprocess.Popen[str], what: str) -> None:
    """Wait until ``process`` ends by itself; raises LinkError, and ends it, when that takes too long."""
    try:
        process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise LinkError(f"{what} did not end within {PATIENCE_S:g} s.",
                        "Is the machine busy? Close other programs and run again.") from None


def answers(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer every line on stdin until it ends."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Stream as asked until stdin ends."""
    from usedge.synth import FS_HZ, generate
    from usedge_firmware.transducer import VirtualTransducer

    samples, seed = int(sys.argv[1]), int(sys.argv[2])
    ascans = list(generate("field", POOL, seed, samples).x)
    under_way: list[tuple[VirtualTransducer, threading.Event, threading.Thread]] = []

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        if under_way:
            device, stop, thread = under_way.pop()
            stop.set()
            thread.join()
            device.close()
            return {"times": device.times}
        device = VirtualTransducer(ascans, fs_hz=round(FS_HZ), prf_hz=question["prf_hz"], adc_bits=ADC_BITS,
                                   open_loop=True)
        stop = threading.Event()
        thread = threading.Thread(target=device.serve, args=(stop,), daemon=True)
        thread.start()
        under_way.append((device, stop, thread))
        return {"port": device.port}

    answers(answer)


if __name__ == "__main__":
    main()
