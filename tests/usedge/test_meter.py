"""Latency histograms: exact enough, bounded, and honest when empty."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usedge.ascan import AScan
from usedge.meter import STAGES, Histogram, Meter, host_facts, peak_rss_mb
from usedge.runtime.lane import Lane
from usedge.runtime.runner import Run, RunOptions
from usedge.sources import SourceCounts
from usedge.spec import Gate
from usedge.tof import Pick


def counted(values: list[int]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=300), st.floats(0.1, 100))
def test_percentiles_are_within_one_per_cent(values: list[int], percent: float) -> None:
    expected = float(np.percentile(values, percent, method="inverted_cdf")) * 1e-3
    assert counted(values).percentile_us(percent) == pytest.approx(expected, rel=0.01)


def test_percentiles_of_a_long_tail() -> None:
    values = np.random.default_rng(1).lognormal(12, 1.5, 50_000).astype(int)
    summary = counted(values.tolist()).summary()
    for key, percent in (("p50", 50), ("p90", 90), ("p99", 99), ("p99_9", 99.9)):
        assert summary[key] == pytest.approx(np.percentile(values, percent) * 1e-3, rel=0.01)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=50))
def test_the_maximum_is_exact_and_nothing_exceeds_it(values: list[int]) -> None:
    histogram = counted(values)
    assert histogram.max_ns == max(values)
    assert histogram.n == len(values)
    assert histogram.percentile_us(100) <= max(values) * 1e-3
    assert histogram.percentile_us(50) <= histogram.percentile_us(99) <= histogram.percentile_us(100)


def test_a_clock_that_went_backwards_counts_as_zero() -> None:
    histogram = counted([-5])
    assert (histogram.n, histogram.max_ns, histogram.percentile_us(50)) == (1, 0, 0.0)


def test_a_million_durations_take_no_more_memory_than_a_thousand_buckets() -> None:
    histogram = Histogram()
    for value in np.random.default_rng(2).lognormal(12.0, 0.7, 1_000_000).astype(int).tolist():
        histogram.add(value)
    assert histogram.n == 1_000_000
    assert len(histogram._counts) < 2_000


def test_an_empty_histogram_says_none_not_zero() -> None:
    histogram = Histogram()
    assert math.isnan(histogram.percentile_us(50))
    assert histogram.summary() == dict.fromkeys(("p50", "p90", "p99", "p99_9", "max"))
    assert set(histogram.summary("_us")) == {"p50_us", "p90_us", "p99_us", "p99_9_us", "max_us"}


def test_a_summary_carries_its_suffix() -> None:
    summary = counted([1_000_000]).summary("_us")
    assert summary["max_us"] == 1000.0
    assert summary["p50_us"] == pytest.approx(1000.0, rel=0.01)


def test_stages_are_counted_apart() -> None:
    meter = Meter()
    meter.add("infer", 5_000)
    assert set(meter.stages) == set(STAGES)
    assert {name: each.n for name, each in meter.stages.items() if each.n} == {"infer": 1}
    with pytest.raises(KeyError):
        meter.add("lunch", 1)


class Three:
    """A source of three A-scans that each took 20 µs to decode."""

    lossless, prf_hz, protocol, decode_ns = True, None, None, 20_000

    def __init__(self) -> None:
        self.counts = SourceCounts()

    def __enter__(self) -> Three:
        return self

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[AScan]:
        for seq in range(3):
            self.counts.received += 1
            yield AScan(np.arange(100, dtype=np.int16), 10e6, 0.0, seq, time.monotonic_ns() - 30_000)

    def stop(self) -> None: ...


class Looker:
    """A picker that says what part of its time was what."""

    laps_ns: dict[str, int]

    def pick(self, gated: AScan) -> Pick:  # noqa: ARG002 - Picker's signature
        begun = time.perf_counter_ns()
        time.sleep(1e-4)
        took = time.perf_counter_ns() - begun
        time.sleep(1e-4)
        self.laps_ns = {"preprocess": took // 3, "infer": took - took // 3}
        return Pick(1.0, 1.0, 20.0, 0)


class Told(Meter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.ns: dict[str, list[int]] = {name: [] for name in STAGES}

    def add(self, stage: str, ns: int) -> None:
        self.ns[stage].append(ns)


@pytest.mark.parametrize("gates", [1, 2])
def test_the_stages_of_an_ascan_add_up_to_its_whole_way(gates: int) -> None:
    lanes = [Lane(f"gate{i}", Gate(1.0, 5.0)) for i in range(gates)]
    meter = Told()
    Run(cast("Any", Three()), Looker(), [], RunOptions(), lanes=lanes, meter=meter).go()
    whole = meter.ns.pop("wire_to_reading")
    assert len(whole) == 3
    assert [sum(each) for each in zip(*meter.ns.values(), strict=True)] == whole
    assert min(meter.ns["decide"]) > gates * 100_000  # the second sleep, which no lap names
    assert min(meter.ns["queue"]) >= 10_000


def test_peak_memory_of_this_process_and_of_none() -> None:
    assert peak_rss_mb() == pytest.approx(peak_rss_mb(os.getpid()), rel=0.05)
    assert 5 < peak_rss_mb() < 1e6
    assert math.isnan(peak_rss_mb("no-such-process"))


def test_host_facts_are_json_and_name_the_machine() -> None:
    facts = json.loads(json.dumps(host_facts()))
    assert facts["cores"] == os.cpu_count()
    assert facts["numpy"] == np.__version__
    assert facts["cpu"]
