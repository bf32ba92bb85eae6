"""The latency suite: the device's own ``run`` over a virtual transducer, and its peers on those A-scans.

It is cut into rounds, each in a process of its own and with a share of everything, so that what makes one
run differ from another – a machine that changes its pace, a process that lies differently in memory – shows
within it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from usedge.bundle import Bundle
from usedge.meter import STAGES, Meter
from usedge.runtime.choice import choose
from usedge_bench.conditions import Watch, cores_apart, on_cores
from usedge_bench.peers import Times, peer_rows
from usedge_bench.percentiles import disagreement, summary
from usedge_bench.report import LatencyReport, common
from usedge_bench.suite import LatencySuite
from usedge_bench.wire import Child, child, end_of

TAIL_LIMIT = 4.0
"""p99 / p50 above which a run is called unstable."""
METER_BLOCK = 50
"""Laps between two readings of the clock, so that the reading costs next to nothing."""
PACE_TIMES = 50
"""How often the fixed work is done in a round."""
IDLE_WARMUP = 2
"""First A-scans at the idle PRF that are not counted: the port has just opened."""
WHOLE = "wire_to_reading"


def _stages() -> dict[str, list[float]]:
    return {name: [] for name in STAGES}


@dataclass
class Found:
    """What all rounds measured, one behind the other: µs by stage, streaming and idle; peers; the pace."""

    stages: dict[str, list[float]] = field(default_factory=_stages)
    idle: dict[str, list[float]] = field(default_factory=_stages)
    peers: Times = field(default_factory=dict)
    pace: list[float] = field(default_factory=list)
    bursts: list[dict[str, Any]] = field(default_factory=list)
    starts: list[tuple[float, float]] = field(default_factory=list)
    dropped: int = 0


def share_of(count: int, rounds: int) -> int:
    """How many of ``count`` a round has, at least one."""
    return -(-count // rounds)


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


def _streamed(reader: Child, suite: LatencySuite, cores: set[int], count: int, prf_hz: float
              ) -> dict[str, Any]:
    port = f"sim://?prf={prf_hz:g}&samples={suite.samples}&seed={suite.seed}"
    return reader.ask(do="stream", port=port, count=count, cores=sorted(cores))


def add(values: dict[str, list[float]], found: dict[str, Any], warmup: int) -> None:
    """Add what a round ``found`` to the µs of each stage, without its first ``warmup`` A-scans."""
    for stage, each in found["values_ns"].items():
        values[stage] += np.round(np.array(each[warmup:]) * 1e-3, 1).tolist()


def one_round(reader: Child, found: Found, suite: LatencySuite, watch: Watch, name: str) -> None:
    """A share of every part but the cold starts, by a process that has just started."""
    cores, rounds, asleep_s = cores_apart()[1], suite.rounds, 0.5 / suite.prf_hz
    with watch.part(f"streaming of {name}"):
        count = share_of(suite.ascans, rounds) + suite.warmup
        told = _streamed(reader, suite, cores, count, suite.prf_hz)
        add(found.stages, told, suite.warmup)
        found.dropped += told["dropped"]
    with watch.part(f"idle of {name}"):
        count = share_of(suite.idle_ascans, rounds) + IDLE_WARMUP
        add(found.idle, _streamed(reader, suite, cores, count, suite.idle_prf_hz), IDLE_WARMUP)
    with watch.part(f"burst of {name}"):
        found.bursts.append(_streamed(reader, suite, cores, share_of(suite.burst, rounds), 0.0))
    with watch.part(f"peers of {name}"):
        found.pace += reader.ask(do="pace", times=PACE_TIMES, asleep_s=asleep_s)["values_us"]
        told = reader.ask(do="peers", turns=share_of(suite.peer_rounds, rounds), block=suite.peer_block,
                          samples=suite.samples, seed=suite.seed, asleep_s=asleep_s)
        for peer, values in told["values_us"].items():
            found.peers.setdefault(peer, []).extend(values)


def _cold_start(bundle: Bundle, suite: LatencySuite, folder: Path) -> tuple[float, float]:
    """Seconds from start to the first reading, and the peak RSS in MB after 200, of ``usedge run``.

    ``folder`` keeps the bytecode that an installed package has, whatever is set for this process.
    """
    installed = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    told = folder / "summary.json"
    ours, theirs = cores_apart()
    with on_cores(theirs):
        emulator = subprocess.Popen(
            [sys.executable, "-m", "usedge", "emulate", f"--samples={suite.samples}", "--prf=100"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert emulator.stdout is not None
    try:
        port = emulator.stdout.readline().strip()
        begun = time.perf_counter()
        with on_cores(ours):
            process = subprocess.Popen(
                [sys.executable, "-m", "usedge", "run", "--port", port, "--bundle", str(bundle.path),
                 "--count", "200", "--json", "--summary", str(told)],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | installed)
        assert process.stdout is not None
        process.stdout.readline()
        first_s = time.perf_counter() - begun
        end_of(process, "usedge run of 200 A-scans")
        return first_s, float(json.loads(told.read_text())["peak_rss_mb"])
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
        why.append(f"{dropped} A-scans were dropped; name the board with --board, which takes the PRF of its"
                   " budget, or a lower prf_hz in a suite of your own")
    return why


def _overhead_share(stages: dict[str, list[float]]) -> float | None:
    """Median over A-scans of the part of wire-to-reading that is not the network: it runs once or twice."""
    infer, whole = (np.array(stages[name], float) for name in ("infer", WHOLE))
    return round(float(np.median(1 - infer / whole)), 4) if len(infer) == len(whole) > 0 else None


def run_latency(bundle: Bundle, suite: LatencySuite, say: Callable[[str], None]) -> LatencyReport:
    """Run the suite on ``bundle``, by the runtime that ``usedge run`` takes here, and return the report."""
    watch, found, (ours, theirs) = Watch(say), Found(), cores_apart()
    watch.pinned = {"run": sorted(ours), "transducer": sorted(theirs)}
    runtime = choose(bundle, say)
    with tempfile.TemporaryDirectory() as folder:
        _cold_start(bundle, suite, Path(folder))  # it compiles, as an installation does
        for turn in range(suite.rounds):
            say(f"round {turn + 1} of {suite.rounds} …")
            with child("the reader", "usedge_bench.latency_round", str(bundle.path), runtime,
                       cores=ours) as reader:
                reader.ask()
                one_round(reader, found, suite, watch, f"round {turn + 1}")
            for _ in range(turn, suite.cold_starts, suite.rounds):
                with watch.part(f"start of round {turn + 1}"):
                    found.starts.append(_cold_start(bundle, suite, Path(folder)))
    return _report(bundle, suite, watch, found)


def _report(bundle: Bundle, suite: LatencySuite, watch: Watch, found: Found) -> LatencyReport:
    stages, idle = ({name: summary(values, suite.seed, rounds=suite.rounds) for name, values in each.items()}
                    for each in (found.stages, found.idle))
    peers, ratios = peer_rows(found.peers, suite.seed, suite.rounds)
    rates = [round(each["read"] / each["seconds"], 1) for each in found.bursts]
    first_s, rss_mb = zip(*found.starts, strict=True)
    why = [*_unstable(stages, found.dropped),
           *disagreement("wire-to-reading", stages[WHOLE], found.stages[WHOLE], suite.rounds)]
    with on_cores(cores_apart()[0]):
        metering = metering_ns({name: [round(us * 1e3) for us in values]
                                for name, values in found.stages.items()})
    return LatencyReport(
        **common("latency", suite, watch, why),
        bundle={"name": bundle.name, "sha256": bundle.sha256, "variant": peers[0]["name"]},
        stages=stages, stages_idle=idle, overhead_share=_overhead_share(found.stages),
        meter_overhead_ns=metering,
        throughput={"ascans_per_s": round(median(rates), 1), "all_per_s": rates,
                    **{key: sum(each[key] for each in found.bursts) for key in ("dropped", "received")}},
        peers=peers, ratio_p50=ratios, pace=summary(found.pace, suite.seed, rounds=suite.rounds),
        rounds=_rounds(suite.rounds, found),
        peak_rss_mb=max(rss_mb), peak_rss_all_mb=list(rss_mb),
        first_reading_s=round(median(first_s), 3), first_reading_all_s=[round(each, 3) for each in first_s],
        values_us=found.stages, values_peers_us=found.peers, values_pace_us=found.pace,
    )


def _rounds(rounds: int, found: Found) -> list[dict[str, float]]:
    """The medians of each round, µs."""
    every = {"wire_to_reading_us": found.stages[WHOLE], "idle_us": found.idle[WHOLE], "pace_us": found.pace}
    parts = {name: np.array_split(np.array(values, float), rounds) for name, values in every.items()}
    return [{name: round(float(np.median(part[turn])), 1) for name, part in parts.items() if len(part[turn])}
            for turn in range(rounds)]
