"""The soak suite: A-scans by the million through the device's own ``run``, every one accounted for."""

from __future__ import annotations

import math
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from usedge.ascan import AScan
from usedge.errors import LinkError
from usedge.meter import rss_mb
from usedge.reading import Reading
from usedge.runtime.runner import Run, RunOptions
from usedge.sinks import JsonLines
from usedge.sources import SourceOptions
from usedge.sources.sim import SimSource
from usedge.tof import Picker, classical_picker
from usedge_bench.conditions import Watch
from usedge_bench.percentiles import rank
from usedge_bench.report import common
from usedge_bench.suite import SoakSuite
from usedge_firmware.ledger import read_ledger

SETTLED = 0.05
"""The first part, in which caches fill: growth and the first latencies are counted behind it."""
WINDOW = 0.1
"""Part of the A-scans whose latencies are the first ones, and the last ones."""
BLOCK = 1000
"""A-scans that a p99 is taken of. Faults hold up half a percent of all A-scans, most of these in few blocks:
the median block has hardly any, where the p99 of a whole tenth would tell how many fell into it.
"""
RSS_POINTS = 200
TOLD = 10


class Observer:
    """A sink that writes readings to nowhere, watches memory and latency, and pulls the cable when due."""

    name = "observer"

    def __init__(self, suite: SoakSuite, pull: Callable[[], None], say: Callable[[str], None]) -> None:
        self.rss_mb: list[float] = []
        self.p99_us: list[tuple[int, float]] = []
        self._block: list[float] = []
        self.settled_mb: float | None = None
        self._n = suite.ascans
        self._pull, self._say = pull, say
        self._pulls = [(k + 1) * self._n // (suite.disconnects + 1) for k in range(suite.disconnects)]
        self._next_point = self._next_told = 0
        self._begun = time.monotonic()
        self._file = Path(os.devnull).open("w")  # noqa: SIM115 - closed by close()
        self._lines = JsonLines(self._file)

    def write(self, reading: Reading, gated: AScan) -> None:
        """Take one reading; where it stands in the whole is told by its number, for the session is one."""
        self._lines.write(reading, gated)
        seq, n = reading.seq, self._n
        self._block.append(reading.latency_us)
        if len(self._block) >= min(BLOCK, WINDOW * n):
            ordered = sorted(self._block)
            self.p99_us.append((seq, round(ordered[rank(len(ordered), 0.99)], 1)))
            self._block.clear()
        while self._pulls and seq >= self._pulls[0]:
            self._pulls.pop(0)
            self._pull()
        if seq >= self._next_point:
            self._next_point += max(1, n // RSS_POINTS)
            self._look(seq)

    def close(self) -> None:
        """Measure once more."""
        self.rss_mb.append(round(rss_mb(), 3))
        self._file.close()

    @property
    def growth_mb(self) -> float | None:
        """Memory at the end less that behind the first part, MB; None where it did not get that far."""
        return None if self.settled_mb is None else round(self.rss_mb[-1] - self.settled_mb, 2)

    def typical_p99_us(self, begin: float, end: float) -> float | None:
        """Median of the blocks' p99 between two parts of the A-scans; None without a block."""
        own = [p99 for seq, p99 in self.p99_us if begin * self._n <= seq < end * self._n]
        return round(median(own), 1) if own else None

    def _look(self, seq: int) -> None:
        self.rss_mb.append(round(rss_mb(), 3))
        if self.settled_mb is None and seq >= SETTLED * self._n:
            self.settled_mb = self.rss_mb[-1]
        if seq >= self._next_told:
            self._next_told += self._n // TOLD
            elapsed_s = time.monotonic() - self._begun
            rate = seq / elapsed_s
            left = f"about {(self._n - seq) / rate:.0f} s left, " if rate else ""
            self._say(f"{seq} of {self._n} A-scans, {rate:.0f} a second, {left}RSS {self.rss_mb[-1]:.1f} MB")


def run_soak(suite: SoakSuite, say: Callable[[str], None], picker: Picker | None = None) -> dict[str, Any]:
    """Run the suite and return the report (keys: docs/benchmarking.md); ``picker`` instead of a classical.

    Raises LinkError when the link does not come back, or the transducer leaves no ledger.
    """
    watch = Watch(say)
    threads, files = set(threading.enumerate()), _open_files()
    with tempfile.TemporaryDirectory(prefix="usedge-soak-") as folder:
        ledger = Path(folder) / "ledger"
        source = SimSource(_port(suite, Path(folder)),
                           SourceOptions(count=suite.ascans, patience_s=suite.patience_s, reconnect=True))
        observer = Observer(suite, lambda: os.kill(source.pid, signal.SIGUSR1), say)
        run = Run(source, picker or classical_picker(suite.method), [observer], RunOptions())
        begun = time.monotonic()
        with watch.part("soak"):
            run.go()
        seconds = time.monotonic() - begun
        try:
            fates = read_ledger(ledger)[2]
        except (OSError, ValueError) as error:
            raise LinkError(f"the transducer left no whole ledger: {error}.") from None
    report = _account(run, fates) | {
        "rss_growth_mb": observer.growth_mb,
        "threads_left": len(set(threading.enumerate()) - threads), "files_left": _open_files() - files,
        "p99_first_us": observer.typical_p99_us(SETTLED, SETTLED + WINDOW),
        "p99_last_us": observer.typical_p99_us(1.0 - WINDOW, math.inf),
    }
    return {
        **common("soak", suite, watch), **report, "failed": _failed(report, suite),
        "ascans_per_s": round(fates["sent"] / seconds, 1), "faults": fates["faults"],
        "summary": run.summary(), "values_rss_mb": observer.rss_mb,
        "values_p99_us": [p99 for _, p99 in observer.p99_us],
    }


def _port(suite: SoakSuite, folder: Path) -> str:
    faults = ",".join(filter(None, [suite.faults, f"disconnect=0:{suite.outage_s:g}"]))
    return (f"sim://?prf={suite.prf_hz:g}&samples={suite.samples}&seed={suite.seed}&faults={faults}"
            f"&faults-seed={suite.seed}&ledger={folder / 'ledger'}&link={folder / 'port'}")


def _account(run: Run, fates: dict[str, Any]) -> dict[str, Any]:
    """The host's counts against the ledger of what the transducer did: they share nothing but the bytes."""
    told = run.counters()
    counts = {key: value or 0 for key, value in told.items()}
    lost = fates["dropped"] + fates["damaged"]
    differences = (
        fates["sent"] - counts["received"] - lost,
        counts["sent"] - fates["sent"],
        counts["seq_gaps"] - lost,
        counts["duplicated"] - fates["copies"],
        counts["received"] - sum(counts[key] for key in ("classified", "abstained", "dropped", "unread")),
    )
    return {
        "sent": fates["sent"], "received": counts["received"], "dropped": fates["dropped"],
        "corrupted": fates["damaged"], "unaccounted": sum(map(abs, differences)),
        "reconnects": counts["reconnects"], "duplicated": counts["duplicated"],
        "queue_dropped": counts["dropped"], "deadline_misses": counts["deadline_misses"],
    }


def _failed(report: dict[str, Any], suite: SoakSuite) -> list[str]:
    failed = [f"{key} {report[key]}" for key in ("unaccounted", "threads_left", "files_left") if report[key]]
    if report["reconnects"] != suite.disconnects:
        failed.append(f"reconnects {report['reconnects']} for {suite.disconnects} pulled cables")
    growth_mb = report["rss_growth_mb"]
    if growth_mb is not None and growth_mb > suite.rss_limit_mb:
        failed.append(f"memory grew by {growth_mb} MB, limit {suite.rss_limit_mb:g}")
    return failed


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
