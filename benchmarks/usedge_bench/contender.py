"""A reader under test in a process of its own: usedge, usedge with one pass, or the plain script.

``python -m usedge_bench.contender NAME BUNDLE RUNTIME`` loads its model and answers ``{}`` by what it is;
then every line ``{"port", "count", "limit_s"}`` by ``{"done", "dropped"}``: (seq, ns) of every reading when
it had been written, by the monotonic clock that all processes share, and the A-scans it dropped itself.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from usedge.ascan import AScan
from usedge.bundle import Bundle, read_bundle
from usedge.reading import Reading
from usedge.sinks import JsonLines
from usedge_bench.wire import answers

USEDGE, ONE_PASS, PLAIN = "usedge", "usedge-1-pass", "plain"
ABOUT = {
    USEDGE: "usedge run with the bundle: both passes",
    ONE_PASS: "usedge run --passes 1: the first pass alone",
    PLAIN: "pyserial, numpy, onnxruntime fp32 on one thread: one pass, one loop (plain.py)",
}
Work = Callable[[str, int, float], dict[str, Any]]


class _Noted:
    """A sink that writes readings as JSON Lines to nowhere and notes when each had been written."""

    def __init__(self) -> None:
        self.done: list[tuple[int, int]] = []
        self._file = Path(os.devnull).open("w")  # noqa: SIM115 - closed by close()
        self._lines = JsonLines(self._file)

    def write(self, reading: Reading, gated: AScan) -> None:
        self._lines.write(reading, gated)
        self.done.append((reading.seq, time.monotonic_ns()))

    def close(self) -> None:
        self._file.close()


def ours(bundle: Bundle, runtime: str, passes: int) -> tuple[str, Work]:
    """The variant of ``bundle`` for ``runtime``, and ``usedge run`` with it."""
    from usedge.runtime.picker import open_model_picker
    from usedge.runtime.runner import Run, RunOptions
    from usedge.sources import SourceOptions
    from usedge.sources.serial_port import SerialSource

    picker = open_model_picker(bundle, runtime, passes=passes)

    def work(port: str, count: int, limit_s: float) -> dict[str, Any]:
        noted = _Noted()
        run = Run(SerialSource(port, SourceOptions(count=count)), picker, [noted],
                  RunOptions(seconds=limit_s))
        run.go()
        return {"done": noted.done, "dropped": run.dropped}

    return picker.variant.name, work


def plain(bundle: Bundle) -> tuple[str, Work]:
    """The fp32 variant of ``bundle`` for onnxruntime, and the plain script with it."""
    from usedge_bench.plain import open_session, read_loop

    variant = next(each for each in bundle.variants.values()
                   if (each.runtime, each.precision) == ("onnx", "fp32"))
    session = open_session(bundle.variant_bytes(variant.name))

    def work(port: str, count: int, limit_s: float) -> dict[str, Any]:
        done: list[tuple[int, int]] = []
        with Path(os.devnull).open("w") as lines:
            read_loop(port, count, session, bundle.spec.noise_floor, bundle.spec.patch, lines,
                      lambda seq: done.append((seq, time.monotonic_ns())), limit_s)
        return {"done": done, "dropped": 0}

    return variant.name, work


def main() -> None:
    """Load the model, then work as asked until stdin ends."""
    name, bundle, runtime = sys.argv[1], read_bundle(Path(sys.argv[2])), sys.argv[3]
    variant, work = plain(bundle) if name == PLAIN else ours(bundle, runtime, 1 if name == ONE_PASS else 2)

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        if not question:
            return {"name": name, "what": ABOUT[name], "variant": variant}
        return work(question["port"], question["count"], question["limit_s"])

    answers(answer)


if __name__ == "__main__":
    main()
