"""One round of the latency suite in a process of its own: streaming, peers, and the machine's own pace.

``python -m usedge_bench.latency_round BUNDLE RUNTIME`` opens the bundle and answers ``{}`` when it is ready;
then every line ``{"do", …}`` by what it measured, durations in ns or µs as their keys tell.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from usedge.ascan import AScan
from usedge.bundle import Bundle, read_bundle
from usedge.errors import UsedgeError
from usedge.meter import STAGES, Meter
from usedge.reading import Reading
from usedge.runtime.picker import open_model_picker
from usedge.runtime.runner import Run, RunOptions
from usedge.sinks import JsonLines
from usedge.sources import SourceOptions
from usedge.sources.sim import SimSource
from usedge.tof import Picker
from usedge_bench.peers import Peers
from usedge_bench.wire import answers

FIXED_NUMBERS, FIXED_BYTES = [k / 7 for k in range(200)], bytes(range(256)) * 256
"""Of the work that the machine's pace is told by: Python's own code over 64 KiB, whatever usedge does."""


class RecordingMeter(Meter):
    """A meter that keeps every duration and counts only when asked: streaming pays for an append."""

    def __init__(self) -> None:
        super().__init__()
        self.values_ns: dict[str, list[int]] = {name: [] for name in STAGES}

    def add(self, stage: str, ns: int) -> None:
        """Keep ``ns``."""
        self.values_ns[stage].append(ns)


class _Ticker:
    """A sink that writes readings as JSON Lines to nowhere: the work of emitting, without a terminal."""

    def __init__(self) -> None:
        self._file = Path(os.devnull).open("w")  # noqa: SIM115 - closed by close()
        self._lines = JsonLines(self._file)

    def write(self, reading: Reading, gated: AScan) -> None:
        self._lines.write(reading, gated)

    def close(self) -> None:
        self._file.close()


def streamed(picker: Picker, port: str, count: int, cores: Iterable[int] | None) -> dict[str, Any]:
    """``count`` A-scans of the ``port`` through the device's own run; the transducer on ``cores``.

    ``values_ns``: {stage: durations, the first A-scans included}; ``seconds`` since the first reading.
    """
    meter = RecordingMeter()
    source = SimSource(port, SourceOptions(count=count))
    source.cores = set(cores) if cores else None
    run = Run(source, picker, [_Ticker()], RunOptions(), meter=meter)
    run.go()
    return {"values_ns": meter.values_ns, "read": run.classified + run.abstained, "dropped": run.dropped,
            "received": source.counts.received,
            "seconds": (time.monotonic_ns() - run.first_reading_ns) * 1e-9}


def woken(work: Callable[[], Any], times: int, asleep_s: float) -> list[float]:
    """µs that ``work`` took, ``times`` over, each after ``asleep_s``: as a stream finds the core."""
    took = []
    for _ in range(times):
        time.sleep(asleep_s)
        begun = time.perf_counter_ns()
        work()
        took.append(round((time.perf_counter_ns() - begun) * 1e-3, 1))
    return took


def fixed_work() -> None:
    """The same on every machine and in every version of usedge."""
    json.dumps(FIXED_NUMBERS)
    zlib.crc32(FIXED_BYTES)


def _answers(bundle: Bundle, runtime: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    picker = open_model_picker(bundle, runtime)

    def answer(asked: dict[str, Any]) -> dict[str, Any]:
        do = asked.pop("do", None)
        if do == "stream":
            return streamed(picker, **asked)
        if do == "pace":
            return {"values_us": woken(fixed_work, **asked)}
        if do == "peers":
            return {"values_us": _peers(bundle, runtime, **asked)}
        return {}

    return answer


def _peers(bundle: Bundle, runtime: str, samples: int, seed: int, turns: int, block: int, asleep_s: float
           ) -> dict[str, list[float]]:
    with Peers(bundle, runtime, samples, seed) as peers:
        return peers.in_turns(turns, block) | peers.woken(woken, block, asleep_s)


def main() -> int:
    """Measure as asked until stdin ends."""
    try:
        answers(_answers(read_bundle(Path(sys.argv[1])), sys.argv[2]))
    except UsedgeError as error:
        sys.stderr.write(f"usedge: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
