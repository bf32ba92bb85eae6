"""The open loop: A-scans come when they are due, and a reading's latency counts from then.

A reader that falls behind meets A-scans that have waited, and those that it never reads count as lost: no
figure gets better because the next A-scan was held back (G. Tene: "How NOT to Measure Latency", 2013, calls
that coordinated omission).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from usedge.bundle import Bundle
from usedge.runtime.choice import choose
from usedge_bench.conditions import Watch, cores_apart
from usedge_bench.contender import ONE_PASS, PLAIN, USEDGE
from usedge_bench.percentiles import disagreement, rank, share_interval, summary
from usedge_bench.report import OpenLoopReport, OpenLoopRow, common
from usedge_bench.suite import OpenLoopSuite
from usedge_bench.wire import Child, child

LATE_US, LATE_SHARE = 2000.0, 0.01
"""A transducer that sends more than this share of its A-scans this late lacks a core; judged by a reader
that keeps the pipe empty.
"""


@dataclass
class Stretch:
    """What became of the A-scans of one stretch, or of several: (n,) each, in the order that they were due.

    ``latency_us`` from due to the reading, infinite for those without one; ``wire_us`` from due to the last
    byte written, infinite for those never written.
    """

    latency_us: list[float] = field(default_factory=list)
    wire_us: list[float] = field(default_factory=list)
    dropped: int = 0

    def add(self, other: Stretch, warmup: int = 0) -> None:
        """Add ``other`` behind its first ``warmup`` A-scans."""
        self.latency_us += other.latency_us[warmup:]
        self.wire_us += other.wire_us[warmup:]
        self.dropped += other.dropped

    def misses(self, deadline_us: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which A-scans (n,) had no reading within ``deadline_us``."""
        return np.array(self.latency_us) > deadline_us


@dataclass
class Field:
    """The transducer and the readers under test, each in its process; ``missing``: those that cannot run."""

    transducer: Child
    readers: dict[str, Child]
    about: list[dict[str, str]]
    missing: dict[str, str]

    def stretch(self, name: str, prf_hz: float, count: int, grace_s: float) -> Stretch:
        """Let ``name`` read ``count`` A-scans at ``prf_hz``; raises LinkError where a process ends."""
        port = self.transducer.ask(prf_hz=prf_hz)["port"]
        told = self.readers[name].ask(port=port, count=count, limit_s=count / prf_hz + grace_s)
        times = self.transducer.ask()["times"]
        return fates(times, told["done"], count, 1e9 / prf_hz, told["dropped"])


def fates(times: list[list[int]], done: list[list[int]], count: int, period_ns: float, dropped: int
          ) -> Stretch:
    """What became of ``count`` A-scans, by the transducer's ``times`` and the reader's ``done``.

    Those that were never written were due at their slot all the same.
    """
    read: dict[int, float] = {seq: ns for seq, ns in done}  # noqa: C416 - JSON has lists, and no pairs
    written: dict[int, tuple[float, float]] = {seq: (due, end) for seq, due, end in times}
    found = Stretch(dropped=dropped)
    first_ns = times[0][1] if times else 0
    for seq in range(count):
        due_ns, end_ns = written.get(seq, (first_ns + seq * period_ns, math.inf))
        found.latency_us.append((read.get(seq, math.inf) - due_ns) * 1e-3)
        found.wire_us.append((end_ns - due_ns) * 1e-3)
    return found


@contextmanager
def open_field(bundle: Bundle, samples: int, seed: int, watch: Watch) -> Iterator[Field]:
    """Start the transducer and every reader that can run here, loaded and warm."""
    missing = missing_readers(bundle, samples)
    runtime = choose(bundle, watch.say)
    ours, theirs = cores_apart()
    watch.pinned = {"readers": sorted(ours), "transducer": sorted(theirs)}
    with ExitStack() as stack:
        transducer = stack.enter_context(
            child("the transducer", "usedge_bench.wire", str(samples), str(seed), cores=theirs))
        readers = {name: stack.enter_context(child(name, "usedge_bench.contender", name, str(bundle.path),
                                                   runtime, cores=ours))
                   for name in (USEDGE, ONE_PASS, PLAIN) if name not in missing}
        about = [reader.ask() for reader in readers.values()]
        yield Field(transducer, readers, about, missing)


def missing_readers(bundle: Bundle, samples: int) -> dict[str, str]:
    """Readers that cannot run here, and why."""
    if importlib.util.find_spec("onnxruntime") is None:
        return {PLAIN: "onnxruntime is not installed. Run: pip install 'usedge[onnx]'"}
    if not any((each.runtime, each.precision) == ("onnx", "fp32") for each in bundle.variants.values()):
        return {PLAIN: "the bundle has no ONNX variant in fp32"}
    if samples != bundle.spec.n_samples:
        return {PLAIN: f"it takes A-scans of {bundle.spec.n_samples} samples alone"}
    return {}


def run_openloop(bundle: Bundle, suite: OpenLoopSuite, say: Callable[[str], None]) -> OpenLoopReport:
    """Stream at every PRF to every reader, in turn, and return the report."""
    watch = Watch(say)
    with open_field(bundle, suite.samples, suite.seed, watch) as readers:
        found = {(name, prf_hz): Stretch() for prf_hz in suite.prfs_hz for name in readers.readers}
        for turn in range(suite.rounds):
            with watch.part(f"round {turn + 1}", f"round {turn + 1} of {suite.rounds}, about"
                            f" {len(found) * (suite.stretch_s + 0.5):.0f} s …"):
                for (name, prf_hz), whole in found.items():
                    count = round(prf_hz * suite.stretch_s) + suite.warmup
                    whole.add(readers.stretch(name, prf_hz, count, suite.grace_s), suite.warmup)
    rows = [_row(name, prf_hz, whole, suite) for (name, prf_hz), whole in found.items()]
    return OpenLoopReport(
        **common("openloop", suite, watch, [*_late(found), *_apart(rows, found, suite.rounds)]),
        bundle={"name": bundle.name, "sha256": bundle.sha256}, contenders=readers.about,
        missing=readers.missing, rows=rows, values_us=_values(found),
    )


def _row(name: str, prf_hz: float, whole: Stretch, suite: OpenLoopSuite) -> OpenLoopRow:
    seed, rounds = suite.seed, suite.rounds
    misses = whole.misses(1e6 / prf_hz)
    wire = np.sort(whole.wire_us)
    return OpenLoopRow(
        contender=name, prf_hz=prf_hz, due=len(misses),
        lost=int(np.isinf(whole.latency_us).sum()), deadline_misses=int(misses.sum()),
        miss_share=round(float(misses.mean()), 5), ci95_miss_share=share_interval(misses, seed, rounds),
        latency=summary(whole.latency_us, seed, rounds=rounds),
        wire_us={key: _finite(wire[rank(len(wire), share)]) for key, share in (("p50", 0.5), ("p99", 0.99))},
    )


def _late(found: dict[tuple[str, float], Stretch]) -> list[str]:
    """Whether the transducer itself was late."""
    why = []
    for (name, prf_hz), whole in found.items():
        share = float(np.mean(np.array(whole.wire_us) > LATE_US))
        if name == USEDGE and share > LATE_SHARE:
            why.append(f"at {prf_hz:g} Hz the transducer sent {share:.0%} of its A-scans over"
                       f" {LATE_US * 1e-3:g} ms late; give it a core of its own")
    return why


def _apart(rows: list[OpenLoopRow], found: dict[tuple[str, float], Stretch], rounds: int) -> list[str]:
    """The worst of usedge's PRFs at which the rounds disagree."""
    told = [(row["latency"], found[row["contender"], row["prf_hz"]].latency_us, f"{row['prf_hz']:g} Hz")
            for row in rows if row["contender"] == USEDGE]
    why = [disagreement(f"usedge at {at}", latency, values, rounds) for latency, values, at in told]
    apart = [each[0] for each in why if each]
    more = f" (so do those at {len(apart) - 1} more of its PRFs)" if len(apart) > 1 else ""
    return [f"{apart[0]}{more}"] if apart else []


def _values(found: dict[tuple[str, float], Stretch]) -> dict[str, dict[str, list[float | None]]]:
    values: dict[str, dict[str, list[float | None]]] = {}
    for (name, prf_hz), whole in found.items():
        values.setdefault(name, {})[f"{prf_hz:g}"] = [_finite(each) for each in whole.latency_us]
    return values


def _finite(value: float) -> float | None:
    return round(float(value), 1) if math.isfinite(value) else None
