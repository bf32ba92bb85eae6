"""Energy an A-scan: power while streaming over power at rest, by the meters that the machine has."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from usedge.bundle import Bundle
from usedge.health.machine import Machine
from usedge.runtime.choice import choose
from usedge.runtime.picker import ModelPicker, open_model_picker
from usedge.runtime.runner import Run, RunOptions
from usedge.sources import SourceOptions
from usedge.sources.sim import SimSource
from usedge_bench.conditions import Watch
from usedge_bench.meters import ENERGY, Meter, find_meters, joules
from usedge_bench.percentiles import CONFIDENCE, RESAMPLES, rank
from usedge_bench.report import EnergyReport, common
from usedge_bench.suite import EnergySuite

REST, STREAMING = "rest", "streaming"
Watts = dict[str, dict[str, list[float]]]
"""By meter, by what was done: the mean power of each round."""


class Readings:
    """Mean power of every meter over a stretch of time."""

    def __init__(self, meters: list[Meter], sampling_hz: float) -> None:
        self._meters, self._period_s = meters, 1.0 / sampling_hz

    def watts(self, seconds: float) -> dict[str, float]:
        """Wait ``seconds`` and return the mean power meanwhile, by meter."""
        begun = time.monotonic()
        first = {meter.path: meter.read() for meter in self._meters}
        samples: dict[str, list[float]] = {meter.path: [] for meter in self._meters}
        while (left := begun + seconds - time.monotonic()) > 0:
            for meter in self._meters:
                if meter.kind != ENERGY:
                    samples[meter.path].append(meter.read())
            time.sleep(min(self._period_s, left))
        took = time.monotonic() - begun
        return {meter.path: joules(meter, first[meter.path], meter.read()) / took if meter.kind == ENERGY
                else float(np.mean(samples[meter.path])) for meter in self._meters}


def run_energy(bundle: Bundle, suite: EnergySuite, say: Callable[[str], None],
               machine: Machine | None = None) -> EnergyReport:
    """Measure rest and streaming in turn, and return the report; one that says why not where nothing here
    measures.
    """
    watch = Watch(say)
    meters, why = find_meters(machine or Machine())
    about = {"name": bundle.name, "sha256": bundle.sha256}
    if not meters:
        return EnergyReport(**common("energy", suite, watch), bundle=about, measurable=False,
                            why_not="; ".join(why), meters=[], rows=[], values_w={})
    picker = open_model_picker(bundle, choose(bundle, say))
    readings = Readings(meters, suite.sampling_hz)
    watts: Watts = {meter.path: {REST: [], STREAMING: []} for meter in meters}
    for turn in range(suite.rounds):
        with watch.part(f"rest {turn + 1}", f"round {turn + 1} of {suite.rounds} …"):
            time.sleep(suite.settle_s)
            _note(watts, REST, readings.watts(suite.rest_s))
        with watch.part(f"streaming {turn + 1}"):
            _note(watts, STREAMING, _streaming(picker, suite, readings))
    return EnergyReport(
        **common("energy", suite, watch), bundle=about,
        measurable=True, why_not="; ".join(why) or None,
        meters=[{"name": each.name, "kind": each.kind, "path": each.path} for each in meters],
        rows=[row(meter.name, watts[meter.path], suite) for meter in meters],
        values_w={meter.name: watts[meter.path] for meter in meters},
    )


def _note(watts: Watts, what: str, found: dict[str, float]) -> None:
    for path, mean in found.items():
        watts[path][what].append(mean)


def _streaming(picker: ModelPicker, suite: EnergySuite, readings: Readings) -> dict[str, float]:
    """Power while a run streams; the virtual transducer runs on the same machine, and counts."""
    port = f"sim://?prf={suite.prf_hz:g}&samples={suite.samples}&seed={suite.seed}"
    run = Run(SimSource(port, SourceOptions()), picker, [], RunOptions())
    failed: list[BaseException] = []

    def go() -> None:
        try:
            run.go()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    try:
        while not run.first_reading_ns and thread.is_alive():
            time.sleep(0.01)
        time.sleep(suite.settle_s)
        found = readings.watts(suite.stretch_s)
    finally:
        run.stop.set()
        thread.join()
    if failed:
        raise failed[0]
    return found


def row(meter: str, watts: dict[str, list[float]], suite: EnergySuite) -> dict[str, Any]:
    """Mean powers, and the difference in each round over the PRF, with the interval of its mean."""
    rest, streaming = np.array(watts[REST]), np.array(watts[STREAMING])
    mj = (streaming - rest) / suite.prf_hz * 1e3
    drawn = np.random.default_rng(suite.seed).choice(mj, (RESAMPLES, len(mj))).mean(axis=1)
    tail = (1 - CONFIDENCE) / 2
    ends = np.sort(drawn)[[rank(RESAMPLES, tail), rank(RESAMPLES, 1 - tail)]]
    return {"meter": meter, "rest_w": round(float(rest.mean()), 4),
            "streaming_w": round(float(streaming.mean()), 4), "mj_an_ascan": round(float(mj.mean()), 4),
            "ci95_mj_an_ascan": [round(float(each), 4) for each in ends] if len(mj) > 1 else None}
