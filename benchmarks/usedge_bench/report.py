"""What the reports of the suites hold, and any of them as Markdown.

Every report has the keys of ``Report``; each suite's own class names what it adds. Keys are a contract: they
are added, not renamed. Durations are in µs, memory in MB (10^6 bytes), figures that the machine cannot give
None. ``values_*`` hold every value measured, in the order of measuring.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict

from usedge import __version__
from usedge_bench import tables
from usedge_bench.conditions import Watch
from usedge_bench.suite import Suite, settings

FORMAT_VERSION = 1

Figures = dict[str, Any]
"""Of durations, as ``percentiles.summary`` gives them: ``p50_us``, ``p90_us``, ``p99_us``, ``p99_9_us``,
``max_us``, ``ci95_us`` {percentile: [low, high] or None}, ``n``."""


class Report(TypedDict):
    """What every suite's report holds. ``conditions``: ``pinned`` {what: cores} and ``parts`` (a list of
    ``conditions.Part``); ``unstable_because``: each reason with what to do, empty where ``stable``.
    """

    format_version: int
    suite: str
    version: str
    host: dict[str, Any]
    settings: dict[str, Any]
    conditions: dict[str, Any]
    seconds: float
    stable: bool
    unstable_because: list[str]


class LatencyReport(Report):
    """``stages`` and ``stages_idle``: {stage: Figures} at ``prf_hz`` and at ``idle_prf_hz`` of the settings.

    ``meter_overhead_ns``: {stage: ns that metering adds to it}; ``peers``: [{name, p50_us, p99_us, n}], those
    whose name ends in ", woken" asleep before each inference; ``pace``: Figures of the same fixed work,
    asleep before each; ``rounds``: the medians of each round. Values are those of round after round, as many
    of each.
    """

    bundle: dict[str, Any]
    stages: dict[str, Figures]
    stages_idle: dict[str, Figures]
    overhead_share: float | None
    meter_overhead_ns: dict[str, float]
    throughput: dict[str, Any]
    peers: list[dict[str, Any]]
    ratio_p50: dict[str, float]
    pace: Figures
    rounds: list[dict[str, float]]
    peak_rss_mb: float
    peak_rss_all_mb: list[float]
    first_reading_s: float
    first_reading_all_s: list[float]
    values_us: dict[str, list[float]]
    values_peers_us: dict[str, list[float]]
    values_pace_us: list[float]


class VariantsReport(Report):
    """``rows``: [{name, default, patches, sure, p50_us, p90_us, p99_us, ci95_us, n, ratio_p50, bytes, rss_mb,
    cold_start_s, hit_half_period, field, recorded}], ``field`` and ``recorded`` being {hit_half_period,
    hit_one_period, miss_rate, false_alarm_rate, looked_at_all}, ``recorded`` None without ``files``;
    ``missing``: peers that cannot run here, and why.
    """

    bundle: dict[str, Any]
    missing: dict[str, str]
    files: list[str]
    rows: list[dict[str, Any]]
    values_us: dict[str, list[float]]


class OpenLoopRow(TypedDict):
    """One contender at one PRF, over all rounds. Latencies are from when an A-scan was due to its reading.

    ``due`` A-scans, ``lost`` those of them that never got a reading, ``deadline_misses`` those whose reading
    was not there when the next A-scan was due, lost ones among them; ``miss_share`` of those due, with its
    interval; ``wire_us`` from due to the last byte written (p50, p99): what the transducer and a full pipe
    add.
    """

    contender: str
    prf_hz: float
    due: int
    lost: int
    deadline_misses: int
    miss_share: float
    ci95_miss_share: list[float] | None
    latency: Figures
    wire_us: dict[str, float | None]


class OpenLoopReport(Report):
    """``contenders``: [{name, what, variant}]; ``missing``: contenders that cannot run here, and why;
    ``values_us``: {contender: {PRF: latencies, None where the A-scan was lost}}.
    """

    bundle: dict[str, Any]
    contenders: list[dict[str, str]]
    missing: dict[str, str]
    rows: list[OpenLoopRow]
    values_us: dict[str, dict[str, list[float | None]]]


class ThroughputReport(Report):
    """``rows``: [{contender, sustained_hz, first_loss_hz, limited_by}]: the highest PRF without a loss and
    the lowest with one (None where ``most_prf_hz`` was reached); ``trials``: [{contender, prf_hz, due, lost,
    waiting, held}] in their order, ``waiting`` being the most A-scans due and not yet read.
    """

    bundle: dict[str, Any]
    contenders: list[dict[str, str]]
    missing: dict[str, str]
    rows: list[dict[str, Any]]
    trials: list[dict[str, Any]]


class MemoryReport(Report):
    """``curves``: {picker: {points: [[A-scans, RSS MB]], settled_mb, end_mb, growth_mb, peak_mb}}, with
    ``settled_mb`` behind the first tenth; ``allocations``: {picker: {transient_kb: Figures-like, kept_bytes,
    kept_where}}; ``install``: {total_mb, packages: [{name, version, mb}], missing}.
    """

    bundle: dict[str, Any]
    curves: dict[str, dict[str, Any]]
    allocations: dict[str, dict[str, Any]]
    install: dict[str, Any]


class StartupReport(Report):
    """``rows``: [{contender, start, median_s, min_s, max_s}], ``start`` being "cold" or "warm"; ``cache``:
    how the page cache was emptied and what stayed in it; ``values_s``: {contender: {start: seconds}}.
    """

    bundle: dict[str, Any]
    missing: dict[str, str]
    rows: list[dict[str, Any]]
    cache: dict[str, Any]
    values_s: dict[str, dict[str, list[float]]]


class AccuracyReport(Report):
    """``rows``: [{source, method, n_echo, n_empty, hit_half_period, ci95_hit_half_period, hit_one_period,
    miss_rate, false_alarm_rate}], ``source`` "all" first; ``scorecard``: all of `usedge evaluate --json`.
    """

    bundle: dict[str, Any]
    checkpoint: str | None
    rows: list[dict[str, Any]]
    scorecard: dict[str, Any]


class EnergyReport(Report):
    """``measurable``: whether this machine has a meter; ``why_not`` where it has none; ``meters``: [{name,
    kind, path}]; ``rows``: [{meter, rest_w, streaming_w, mj_an_ascan, ci95_mj_an_ascan}].
    """

    bundle: dict[str, Any]
    measurable: bool
    why_not: str | None
    meters: list[dict[str, str]]
    rows: list[dict[str, Any]]
    values_w: dict[str, Any]


def common(kind: str, suite: Suite, watch: Watch, why: Iterable[str] = ()) -> Report:
    """The part of a report that all suites have; ``why`` it is unstable, besides what ``watch`` saw."""
    reasons = [*watch.disturbances(), *why]
    return Report(format_version=FORMAT_VERSION, suite=kind, version=__version__, host=watch.host,
                  settings=settings(suite), conditions=watch.conditions(), seconds=watch.seconds,
                  stable=not reasons, unstable_because=reasons)


def as_table(report: dict[str, Any]) -> str:
    """A report as Markdown."""
    table: str = getattr(tables, f"{report['suite']}_table")(report)
    return table
