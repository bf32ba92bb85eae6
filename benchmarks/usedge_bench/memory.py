"""What a run takes: resident memory over A-scans, what each A-scan allocates, the installation on disk."""

from __future__ import annotations

import math
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from usedge.ascan import AScan
from usedge.bundle import Bundle
from usedge.meter import peak_rss_mb, rss_mb
from usedge.reading import Reading
from usedge.runtime.choice import choose
from usedge.runtime.picker import open_model_picker
from usedge.runtime.runner import Run, RunOptions
from usedge.sources import SourceOptions
from usedge.sources.sim import SimSource
from usedge.tof import Picker, classical_picker
from usedge_bench.conditions import Watch
from usedge_bench.install import install_size
from usedge_bench.percentiles import summary
from usedge_bench.report import MemoryReport, common
from usedge_bench.suite import MemorySuite
from usedge_bench.wire import end_of

SETTLED = 0.1
"""Of the A-scans: behind them caches are full, and growth is counted."""
TOP = 5
METHOD = "threshold"
"""The classical picker beside the model."""


class Traced:
    """A sink that asks at every A-scan how much was allocated at most since the one before, and is kept."""

    name = "traced"

    def __init__(self, warmup: int) -> None:
        self.transient_kb: list[float] = []
        self.kept_bytes: list[int] = []
        self.before: tracemalloc.Snapshot | None = None
        self._left = warmup

    def write(self, reading: Reading, gated: AScan) -> None:  # noqa: ARG002 - Sink's signature
        """Take one reading."""
        self._left -= 1
        if self._left > 0:
            return
        now, most = tracemalloc.get_traced_memory()
        if self._left < 0:
            self.transient_kb.append((most - self.kept_bytes[-1]) / 1000)
        else:
            self.before = tracemalloc.take_snapshot()
            now = tracemalloc.get_traced_memory()[0]  # with the snapshot, which stays
        self.kept_bytes.append(now)
        tracemalloc.reset_peak()

    def close(self) -> None:
        """Nothing to close."""


def run_memory(bundle: Bundle, suite: MemorySuite, say: Callable[[str], None]) -> MemoryReport:
    """Run the suite on ``bundle`` and on a classical picker, and return the report."""
    watch, runtime = Watch(say), choose(bundle, say)
    runs = {"model": ["--bundle", str(bundle.path), "--runtime", runtime],
            METHOD: ["--runtime", "classical", "--method", METHOD]}
    seconds = suite.ascans / suite.prf_hz
    curves, allocations = {}, {}
    for name, options in runs.items():
        with watch.part(f"curve of {name}", f"{name}: {suite.ascans} A-scans, {seconds:.0f} s …"):
            curves[name] = _curve(options, suite)
    pickers: dict[str, Picker] = {"model": open_model_picker(bundle, runtime),
                                  METHOD: classical_picker(METHOD)}
    for name, picker in pickers.items():
        with watch.part(f"allocations of {name}", f"{name}: every allocation of {suite.traced_ascans}"
                                                  " A-scans …"):
            allocations[name] = _allocations(picker, suite)
    return MemoryReport(
        **common("memory", suite, watch), bundle={"name": bundle.name, "sha256": bundle.sha256},
        curves=curves, allocations=allocations, install=install_size("usedge"),
    )


def _port(suite: MemorySuite, prf_hz: float) -> str:
    return f"sim://?prf={prf_hz:g}&samples={suite.samples}&seed={suite.seed}"


def _curve(options: list[str], suite: MemorySuite) -> dict[str, Any]:
    """Resident memory of a fresh ``usedge run``, looked at from outside as its readings come."""
    command = [sys.executable, "-m", "usedge", "run", "--port", _port(suite, suite.prf_hz), *options,
               "--count", str(suite.ascans), "--json"]
    every = max(1, suite.ascans // suite.points)
    points, peak_mb = [], float("nan")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for n, _ in enumerate(process.stdout, 1):
            if n == 1 or n % every == 0:
                now_mb = rss_mb(process.pid)
                if not math.isnan(now_mb):  # it may end before we have looked
                    points.append((n, round(now_mb, 3)))
                    peak_mb = np.fmax(peak_mb, peak_rss_mb(process.pid))
        end_of(process, "usedge run")
    return curve_figures(points, float(peak_mb))


def curve_figures(points: list[tuple[int, float]], peak_mb: float) -> dict[str, Any]:
    """What a curve of (A-scans, MB) says; growth is None where there is nothing behind the first tenth."""
    last = points[-1][0] if points else 0
    settled = [mb for n, mb in points if n >= SETTLED * last]
    growth = round(settled[-1] - settled[0], 3) if len(settled) > 1 else None
    return {"points": points, "settled_mb": settled[0] if settled else None,
            "end_mb": points[-1][1] if points else None, "growth_mb": growth, "peak_mb": round(peak_mb, 3)}


def _allocations(picker: Picker, suite: MemorySuite) -> dict[str, Any]:
    """What Python and numpy allocate for an A-scan, from the wire to the reading; what C allocates is not
    seen.
    """
    traced = Traced(suite.traced_warmup)
    source = SimSource(_port(suite, suite.traced_prf_hz),
                       SourceOptions(count=suite.traced_warmup + suite.traced_ascans))
    tracemalloc.start()
    try:
        Run(source, picker, [traced], RunOptions()).go()
        after = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    return allocation_figures(traced, after, suite.seed)


def allocation_figures(traced: Traced, after: tracemalloc.Snapshot, seed: int) -> dict[str, Any]:
    """``transient_kb`` at most at a time in an A-scan; ``kept_bytes`` an A-scan, by a straight line through
    all; ``kept_where``: the lines of code that keep most.
    """
    kept = np.array(traced.kept_bytes, np.float64)
    slope = float(np.polyfit(np.arange(len(kept)), kept, 1)[0]) if len(kept) > 1 else None
    grown = after.compare_to(traced.before, "lineno") if traced.before else []
    where = [{"line": f"{_short(stat.traceback[0].filename)}:{stat.traceback[0].lineno}",
              "bytes": stat.size_diff} for stat in grown[:TOP] if stat.size_diff > 0]
    return {"transient_kb": summary(traced.transient_kb, seed, "kb"),
            "kept_bytes": None if slope is None else round(slope, 2), "kept_where": where}


def _short(file: str) -> str:
    """The end of a path: it tells the module, and nothing of whose machine this is."""
    return "/".join(Path(file).parts[-2:])
