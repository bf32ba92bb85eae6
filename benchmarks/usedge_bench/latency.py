"""The latency suite: the device's own ``run`` over a virtual transducer, and its peers on those A-scans."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from usedge.ascan import AScan
from usedge.bundle import Bundle
from usedge.meter import STAGES, Meter
from usedge.reading import Reading
from usedge.runtime.choice import choose
from usedge.runtime.picker import open_model_picker
from usedge.runtime.runner import Run, RunOptions
from usedge.sinks import JsonLines
from usedge.sources import SourceOptions
from usedge.sources.sim import SimSource
from usedge_bench.conditions import Watch, cores_apart, on_cores
from usedge_bench.peers import time_peers
from usedge_bench.percentiles import summary
from usedge_bench.report import LatencyReport, common
from usedge_bench.suite import LatencySuite

TAIL_LIMIT = 4.0
"""p99 / p50 above which a run is called unstable."""
COLD_START_S = 30.0
METER_BLOCK = 50
"""Laps between two readings of the clock, so that the reading costs next to nothing."""


class RecordingMeter(Meter):
    """A meter that keeps every duration and counts only when asked: streaming pays for an append."""

    def __init__(self) -> None:
        super().__init__()
        self.values_ns: dict[str, list[int]] = {name: [] for name in STAGES}

    def add(self, stage: str, ns: int) -> None:
        """Keep ``ns``."""
        self.values_ns[stage].append(ns)

    def figures(self, warmup: int, seed: int) -> dict[str, dict[str, Any]]:
        """Percentiles by stage, without the first ``warmup`` durations of each."""
        return {stage: summary(np.array(values[warmup:]) * 1e-3, seed)
                for stage, values in self.values_ns.items()}


def metering_ns(values_ns: dict[str, list[int]]) -> dict[str, float]:
    """What metering adds to each stage in a run, ns: two readings of the clock and a count, by the meter of
    ``usedge run`` on these very durations. The median over blocks.
    """
    meter, clock, found = Meter(), time.perf_counter_ns, {}
    for stage, values in values_ns.items():
        took = []
        for begin in range(0, len(values), METER_BLOCK):
            block = values[begin : begin + METER_BLOCK]
            started = clock()
            for ns in block:
                lap = clock()
                lap = clock() - lap
                meter.add(stage, ns)
            took.append((clock() - started) / len(block))
        found[stage] = round(median(took), 1)
    return found


class _Ticker:
    """A sink that writes readings as JSON Lines to nowhere: the work of emitting, without a terminal."""

    def __init__(self) -> None:
        self._file = Path(os.devnull).open("w")  # noqa: SIM115 - closed by close()
        self._lines = JsonLines(self._file)

    def write(self, reading: Reading, gated: AScan) -> None:
        self._lines.write(reading, gated)

    def close(self) -> None:
        self._file.close()


def _stream(
    bundle: Bundle, runtime: str, suite: LatencySuite, ascans: int, prf_hz: float
) -> tuple[Run, RecordingMeter, float]:
    meter = RecordingMeter()
    picker = open_model_picker(bundle, runtime)
    port = f"sim://?prf={prf_hz:g}&samples={suite.samples}&seed={suite.seed}"
    source = SimSource(port, SourceOptions(count=ascans))
    run = Run(source, picker, [_Ticker()], RunOptions(), meter=meter)
    with _cores_apart(source) if prf_hz else nullcontext():
        run.go()
    elapsed_s = (time.monotonic_ns() - run.first_reading_ns) * 1e-9
    return run, meter, elapsed_s


@contextmanager
def _cores_apart(source: SimSource) -> Iterator[None]:
    """This process on the first core, the transducer on the last."""
    ours, theirs = cores_apart()
    source.cores = theirs
    with on_cores(ours):
        yield


def _cold_start(bundle: Bundle, suite: LatencySuite, folder: Path) -> tuple[float, float]:
    """Seconds from start to the first reading, and the peak RSS in MB after 200, of ``usedge run``.

    ``folder`` keeps the bytecode that an installed package has, whatever is set for this process.
    """
    installed = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    summary = folder / "summary.json"
    emulator = subprocess.Popen(
        [sys.executable, "-m", "usedge", "emulate", f"--samples={suite.samples}", "--prf=100"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert emulator.stdout is not None
    try:
        port = emulator.stdout.readline().strip()
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "usedge", "run", "--port", port, "--bundle", str(bundle.path),
             "--count", "200", "--json", "--summary", str(summary)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | installed)
        assert process.stdout is not None
        process.stdout.readline()
        first_s = time.perf_counter() - begun
        process.communicate(timeout=COLD_START_S)
        return first_s, float(json.loads(summary.read_text())["peak_rss_mb"])
    finally:
        emulator.terminate()
        emulator.communicate()


def _unstable(stages: dict[str, Any], dropped: int) -> list[str]:
    why = []
    whole = stages["wire_to_reading"]
    if whole["p99_us"] > TAIL_LIMIT * whole["p50_us"]:
        tail = whole["p99_us"] / whole["p50_us"]
        why.append(f"wire-to-reading p99 is {tail:.1f} × p50; run again, under the governor performance")
    if dropped:
        why.append(f"{dropped} A-scans were dropped; ask for a lower prf_hz")
    return why


def _overhead_share(meter: RecordingMeter, warmup: int) -> float | None:
    """Median over A-scans of the part of wire-to-reading that is not the network: it runs once or twice."""
    infer, whole = (np.array(meter.values_ns[name][warmup:], float) for name in ("infer", "wire_to_reading"))
    return round(float(np.median(1 - infer / whole)), 4) if len(infer) == len(whole) > 0 else None


def run_latency(bundle: Bundle, suite: LatencySuite, say: Callable[[str], None]) -> LatencyReport:
    """Run the suite on ``bundle``, by the runtime that ``usedge run`` takes here, and return the report."""
    watch = Watch(say)
    watch.pinned = dict(zip(("run", "transducer"), map(sorted, cores_apart()), strict=True))
    runtime = choose(bundle, say)
    with watch.part("streaming", f"streaming {suite.ascans} A-scans at {suite.prf_hz:g} Hz …"):
        run, meter, _ = _stream(bundle, runtime, suite, suite.ascans + suite.warmup, suite.prf_hz)
    with watch.part("idle", f"streaming {suite.idle_ascans} A-scans at {suite.idle_prf_hz:g} Hz …"):
        _, idle, _ = _stream(bundle, runtime, suite, suite.idle_ascans, suite.idle_prf_hz)
    with watch.part("burst", f"streaming {suite.burst} A-scans as fast as they are read …"):
        burst, _, burst_s = _stream(bundle, runtime, suite, suite.burst, 0.0)
    with watch.part("peers", "timing the peers, interleaved …"):
        peers, ratios, times_us = time_peers(bundle, runtime, suite)
    with watch.part("start", f"starting {suite.cold_starts} fresh processes …"):
        cold = _cold_starts(bundle, suite)
    stages = meter.figures(suite.warmup, suite.seed)
    return LatencyReport(
        **common("latency", suite, watch, _unstable(stages, run.dropped)),
        bundle={"name": bundle.name, "sha256": bundle.sha256, "variant": peers[0]["name"]},
        stages=stages, stages_idle=idle.figures(0, suite.seed),
        overhead_share=_overhead_share(meter, suite.warmup),
        meter_overhead_ns=metering_ns(meter.values_ns),
        throughput={"ascans_per_s": round((burst.classified + burst.abstained) / burst_s, 1),
                    "dropped": burst.dropped, "received": burst.source.counts.received},
        peers=peers, ratio_p50=ratios, peak_rss_mb=max(rss for _, rss in cold),
        first_reading_s=round(median(first for first, _ in cold), 3),
        first_reading_all_s=[round(first, 3) for first, _ in cold],
        values_us={name: np.round(np.array(values[suite.warmup :]) * 1e-3, 1).tolist()
                   for name, values in meter.values_ns.items()},
        values_peers_us=times_us,
    )


def _cold_starts(bundle: Bundle, suite: LatencySuite) -> list[tuple[float, float]]:
    with tempfile.TemporaryDirectory() as folder:
        _cold_start(bundle, suite, Path(folder))  # it compiles, as an installation does
        return [_cold_start(bundle, suite, Path(folder)) for _ in range(suite.cold_starts)]
