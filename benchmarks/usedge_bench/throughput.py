"""How many A-scans a second a reader keeps up with: the PRF is doubled until one is lost, then bisected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from usedge.bundle import Bundle
from usedge.runtime.feed import QUEUE_ASCANS
from usedge_bench.conditions import Watch
from usedge_bench.contender import PLAIN
from usedge_bench.openloop import Field, Stretch, open_field
from usedge_bench.report import ThroughputReport, common
from usedge_bench.suite import ThroughputSuite

LEAST_ASCANS = 4 * QUEUE_ASCANS
Trial = dict[str, Any]


def run_throughput(bundle: Bundle, suite: ThroughputSuite, say: Callable[[str], None]) -> ThroughputReport:
    """Search each reader's highest PRF, one after the other, and return the report, every trial included."""
    watch, trials, rows = Watch(say), list[Trial](), []
    with open_field(bundle, suite.samples, suite.seed, watch) as readers:
        for name in readers.readers:
            with watch.part(name, f"{name}: up from {suite.first_prf_hz:g} Hz …"):
                own = list(_search(readers, name, suite, say))
            trials += own
            rows.append({"contender": name, **verdict(own)})
    return ThroughputReport(
        **common("throughput", suite, watch), bundle={"name": bundle.name, "sha256": bundle.sha256},
        contenders=readers.about, missing=readers.missing, rows=rows, trials=trials,
    )


def _search(readers: Field, name: str, suite: ThroughputSuite, say: Callable[[str], None]
            ) -> Iterator[Trial]:
    """The trials, until the PRF is known to ``suite.resolution``."""
    held, lost = 0.0, 0.0
    while not lost or lost > held * (1.0 + suite.resolution):
        prf_hz = next_prf(held, lost, suite)
        if prf_hz is None:
            return
        for _ in range(suite.tries):
            trial = _trial(readers, name, prf_hz, suite)
            said = "held" if trial["held"] else f"{trial['lost']} lost, {trial['waiting']} waiting"
            say(f"{name}: {prf_hz:.0f} Hz: {said}")
            yield trial
            if trial["held"]:
                break
        held, lost = (prf_hz, lost) if trial["held"] else (held, prf_hz)


def next_prf(held: float, lost: float, suite: ThroughputSuite) -> float | None:
    """The PRF to try next, when ``held`` is the highest that was held and ``lost`` the lowest that was not,
    0 where there is none yet; None where there is none left to try.
    """
    if not lost:
        prf_hz = 2.0 * held if held else suite.first_prf_hz
        return prf_hz if prf_hz <= suite.most_prf_hz else None
    if not held:
        return 0.5 * lost if lost > 1.0 else None
    return float(np.sqrt(held * lost))


def _trial(readers: Field, name: str, prf_hz: float, suite: ThroughputSuite) -> Trial:
    count = max(round(prf_hz * suite.trial_s), LEAST_ASCANS)
    found = readers.stretch(name, prf_hz, count, suite.grace_s)
    lost, waiting = int(np.isinf(found.latency_us).sum()), most_waiting(found, 1e6 / prf_hz)
    return {"contender": name, "prf_hz": round(prf_hz, 1), "due": count, "lost": lost, "waiting": waiting,
            "held": not lost and waiting <= QUEUE_ASCANS}


def most_waiting(found: Stretch, period_us: float) -> int:
    """The most A-scans that were due and not yet read at any time."""
    due_us = np.arange(len(found.latency_us)) * period_us
    done_us = np.sort(due_us + np.array(found.latency_us))
    behind = np.arange(1, len(due_us) + 1) - np.searchsorted(done_us, due_us, side="right")
    return int(behind.max())


def verdict(trials: list[Trial]) -> dict[str, Any]:
    """What the trials of one reader tell of it."""
    held = [trial["prf_hz"] for trial in trials if trial["held"]]
    failed = [trial for trial in trials if not trial["held"] and trial["prf_hz"] not in held]
    first = min(failed, key=lambda trial: float(trial["prf_hz"]), default=None)
    by = None
    if first is not None:
        # usedge empties the pipe whatever its network does: what waits there was not sent in time.
        on_the_wire = first["contender"] != PLAIN and not first["lost"]
        by = "transducer" if on_the_wire else "reader"
    return {"sustained_hz": max(held, default=None), "first_loss_hz": first and first["prf_hz"],
            "limited_by": by}
