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

from usedge import __version__
from usedge.ascan import AScan
from usedge.bundle import Bundle
from usedge.meter import STAGES, Histogram, Meter, host_facts
from usedge.reading import Reading
from usedge.runtime.choice import choose
from usedge.runtime.picker import open_model_picker
from usedge.runtime.runner import Run, RunOptions
from usedge.sinks import JsonLines
from usedge.sources import SourceOptions
from usedge.sources.sim import SimSource
from usedge_bench.peers import time_peers
from usedge_bench.suite import LatencySuite

FORMAT_VERSION = 1
LOAD_LIMIT = 0.5
"""1-minute load of other work, in cores, above which a run is called unstable."""
TAIL_LIMIT = 2.0
"""p99 / p50 above which a run is called unstable."""
COLD_START_S = 30.0


class RecordingMeter(Meter):
    """A meter that keeps every duration and counts only when asked: streaming pays for an append."""

    def __init__(self) -> None:
        super().__init__()
        self.values_ns: dict[str, list[int]] = {name: [] for name in STAGES}

    def add(self, stage: str, ns: int) -> None:
        """Keep ``ns``."""
        self.values_ns[stage].append(ns)

    def after(self, warmup: int) -> dict[str, Histogram]:
        """Histograms by stage, without the first ``warmup`` durations of each."""
        histograms = {name: Histogram() for name in self.values_ns}
        for stage, values in self.values_ns.items():
            for ns in values[warmup:]:
                histograms[stage].add(ns)
        return histograms


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
    """This process on the first core, the transducer on the last: a real one takes no core from us."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        source.cores = {cores[-1]}
        os.sched_setaffinity(0, {cores[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _cold_start(bundle: Bundle, suite: LatencySuite, summary: Path) -> tuple[float, float]:
    """Seconds from start to the first reading, and the peak RSS in MB after 200, of ``usedge run``."""
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
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        first_s = time.perf_counter() - begun
        process.communicate(timeout=COLD_START_S)
        return first_s, float(json.loads(summary.read_text())["peak_rss_mb"])
    finally:
        emulator.terminate()
        emulator.communicate()


def _unstable(host: dict[str, Any], stages: dict[str, Any], dropped: int) -> list[str]:
    why = []
    if host["load_1min"] > LOAD_LIMIT:
        why.append(f"other work was running (1-minute load {host['load_1min']}); close it and run again")
    whole = stages["wire_to_reading"]
    if whole["p99_us"] > TAIL_LIMIT * whole["p50_us"]:
        tail = whole["p99_us"] / whole["p50_us"]
        why.append(f"wire-to-reading p99 is {tail:.1f} × p50; pin a core or run again")
    if dropped:
        why.append(f"{dropped} A-scans were dropped")
    return why


def _overhead_share(meter: RecordingMeter, warmup: int) -> float | None:
    """Median over A-scans of the part of wire-to-reading that is not the network: it runs once or twice."""
    infer, whole = (np.array(meter.values_ns[name][warmup:], float) for name in ("infer", "wire_to_reading"))
    return round(float(np.median(1 - infer / whole)), 4) if len(infer) == len(whole) > 0 else None


def run_latency(bundle: Bundle, suite: LatencySuite, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the suite on ``bundle``, by the runtime that ``usedge run`` takes here, and return the report.

    Its keys are in docs/benchmarking.md.
    """
    host, runtime = host_facts(), choose(bundle, say)
    say(f"streaming {suite.ascans} A-scans at {suite.prf_hz:g} Hz …")
    run, meter, _ = _stream(bundle, runtime, suite, suite.ascans + suite.warmup, suite.prf_hz)
    stages = {name: histogram.summary("_us") for name, histogram in meter.after(suite.warmup).items()}
    say(f"streaming {suite.idle_ascans} A-scans at {suite.idle_prf_hz:g} Hz …")
    _, idle, _ = _stream(bundle, runtime, suite, suite.idle_ascans, suite.idle_prf_hz)
    say(f"streaming {suite.burst} A-scans as fast as they are read …")
    burst, _, burst_s = _stream(bundle, runtime, suite, suite.burst, 0.0)
    say("timing the peers, interleaved …")
    peers, ratios, times_us = time_peers(bundle, runtime, suite)
    say(f"starting {suite.cold_starts} fresh processes …")
    with tempfile.TemporaryDirectory() as folder:
        cold = [_cold_start(bundle, suite, Path(folder) / "summary.json") for _ in range(suite.cold_starts)]
    why = _unstable(host, stages, run.dropped)
    return {
        "format_version": FORMAT_VERSION, "suite": "latency", "version": __version__, "host": host,
        "bundle": {"name": bundle.name, "sha256": bundle.sha256, "variant": peers[0]["name"]},
        "settings": {name: getattr(suite, name) for name in suite.__slots__},
        "stages": stages,
        "stages_idle": {name: histogram.summary("_us") for name, histogram in idle.after(0).items()},
        "overhead_share": _overhead_share(meter, suite.warmup),
        "throughput": {"ascans_per_s": round((burst.classified + burst.abstained) / burst_s, 1),
                       "dropped": burst.dropped, "received": burst.source.counts.received},
        "peers": peers, "ratio_p50": ratios,
        "peak_rss_mb": max(rss for _, rss in cold),
        "first_reading_s": round(median(first for first, _ in cold), 3),
        "first_reading_all_s": [round(first, 3) for first, _ in cold],
        "stable": not why, "unstable_because": why,
        "values_us": {name: np.round(np.array(values[suite.warmup :]) * 1e-3, 1).tolist()
                      for name, values in meter.values_ns.items()},
        "values_peers_us": times_us,
    }
