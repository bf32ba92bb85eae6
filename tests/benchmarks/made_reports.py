"""Reports that were never measured, of every suite: as small as their keys allow, with figures made up."""

from __future__ import annotations

from typing import Any

import numpy as np

from usedge_bench.reports.read import Report, checked

REFERENCE, OURS = "onnxruntime-fp32", "native-int8"
TURN, TURNS = 10, 30
HOST = {"machine": "aarch64", "cpu": "Cortex-A76", "cores": 4, "system": "Linux", "python": "3.11",
        "numpy": "2.0", "governor": None, "load_1min": 0.0}
BUNDLE = {"name": "field", "sha256": "00" * 32}
READERS = {"contenders": [{"name": name, "what": f"what {name} is", "variant": "int8"}
                          for name in ("usedge", "plain")], "missing": {"other": "not installed"}}


def figures_of(values: Any) -> dict[str, float]:
    quantiles = {"p50": 50, "p90": 90, "p99": 99, "p99_9": 99.9, "max": 100}
    return {f"{name}_us": float(np.percentile(values, at)) for name, at in quantiles.items()}


def latency_report(seed: int, network: float = 1.0, host: float = 1.0, **other: Any) -> Report:
    """A latency report whose network takes ``network`` times as long, on a machine ``host`` times as slow."""
    rng = np.random.default_rng(seed)
    stages = {"decode": 30.0, "preprocess": 300.0, "infer": 700.0 * network, "emit": 25.0}
    values = {name: rng.gamma(100.0, us * host / 100.0, 600) for name, us in stages.items()}
    values["wire_to_reading"] = np.add.reduce(list(values.values())) + 200.0 * host
    drift = np.repeat(rng.gamma(25.0, 1 / 25.0, TURNS), TURN) * host  # what disturbs a turn disturbs both
    peers = {OURS: 500.0 * network * drift * rng.gamma(100.0, 0.01, TURN * TURNS),
             REFERENCE: 1250.0 * drift * rng.gamma(100.0, 0.01, TURN * TURNS)}
    rows = [{"name": name, "p50_us": figures_of(x)["p50_us"], "p99_us": figures_of(x)["p99_us"], "n": len(x)}
            for name, x in peers.items()]
    report = {
        "format_version": 1, "suite": "latency", "version": "0.1.0",
        "host": HOST, "bundle": {**BUNDLE, "variant": OURS},
        "settings": {"peer_block": TURN, "prf_hz": 400.0, "idle_prf_hz": 20.0},
        "stages": {name: figures_of(x) for name, x in values.items()},
        "stages_idle": {name: figures_of(x) for name, x in values.items()}, "overhead_share": 0.3,
        "throughput": {"ascans_per_s": 700.0, "dropped": 0, "received": 2000},
        "peers": rows, "ratio_p50": {REFERENCE: rows[0]["p50_us"] / rows[1]["p50_us"]},
        "peak_rss_mb": 44.0, "first_reading_s": 0.3, "first_reading_all_s": [0.3, 0.31, 0.29, 0.3, 0.32],
        "stable": True, "unstable_because": [],
        "values_us": {name: x.tolist() for name, x in values.items()},
        "values_peers_us": {name: x.tolist() for name, x in peers.items()},
    }
    return checked(report | other, "made up")


def in_rounds(seed: int) -> Report:
    """A latency report of three rounds, with all that reports of rounds tell."""
    report = latency_report(seed)
    pace = [200.0 + k % 7 for k in range(60)]
    whole = np.reshape(report["values_us"]["wire_to_reading"], (3, -1))
    report["settings"] = report["settings"] | {"rounds": 3}
    report["stages"]["wire_to_reading"]["ci95_us"] = {"p50": [1100.0, 1500.0]}
    report["throughput"] = report["throughput"] | {"all_per_s": [690.0, 700.0, 710.0]}
    rounds = [{"wire_to_reading_us": float(np.median(row)), "idle_us": 1900.0, "pace_us": 203.0}
              for row in whole]
    return checked(report | {"pace": figures_of(pace), "values_pace_us": pace, "rounds": rounds,
                             "peak_rss_all_mb": [43.0, 44.0]}, "made up")


def percentiles(middle: float | None, unit: str = "us") -> dict[str, Any]:
    steps = {"p50": 1.0, "p90": 1.5, "p99": 2.0, "p99_9": 3.0, "max": 4.0}
    return {**{f"{name}_{unit}": None if middle is None else middle * by for name, by in steps.items()},
            f"ci95_{unit}": {"p50": None if middle is None else [middle * 0.9, middle * 1.1]}, "n": 60}


def _common(suite: str, **settings: Any) -> dict[str, Any]:
    part = {"part": "whole", "seconds": 9.0, "own_cores": 1.0, "others_cores": 0.0, "steal_cores": None,
            "hottest_c": 61.5, "clock_mhz": 2400.0, "throttled": 0, "held_back": None}
    return {"format_version": 1, "suite": suite, "version": "0.1.0", "host": HOST, "settings": settings,
            "conditions": {"pinned": {"readers": [0]}, "parts": [part]}, "seconds": 9.0, "stable": True,
            "unstable_because": []}


def _openloop() -> dict[str, Any]:
    rows, values = [], dict[str, dict[str, list[float | None]]]()
    for name, us in (("usedge", 1000.0), ("plain", 1500.0)):
        for prf_hz in (50.0, 200.0, 1000.0):
            middle = us if prf_hz < 1e6 / us else None
            rows.append({"contender": name, "prf_hz": prf_hz, "due": 60, "lost": 0 if middle else 60,
                         "deadline_misses": 0 if middle else 60, "miss_share": 0.0 if middle else 1.0,
                         "ci95_miss_share": [0.0, 0.0] if middle else [1.0, 1.0],
                         "latency": percentiles(middle), "wire_us": {"p50": 200.0, "p99": 300.0}})
            values.setdefault(name, {})[f"{prf_hz:g}"] = [middle and middle + k for k in range(60)]
    return {**_common("openloop", prfs_hz=[50.0, 200.0, 1000.0]), "bundle": BUNDLE, **READERS, "rows": rows,
            "values_us": values}


def _throughput() -> dict[str, Any]:
    rows = [{"contender": "usedge", "sustained_hz": 700.0, "first_loss_hz": 720.0, "limited_by": "reader"},
            {"contender": "plain", "sustained_hz": 650.0, "first_loss_hz": None, "limited_by": None}]
    trial = {"contender": "usedge", "prf_hz": 700.0, "due": 256, "lost": 0, "waiting": 3, "held": True}
    return {**_common("throughput"), "bundle": BUNDLE, **READERS, "rows": rows, "trials": [trial]}


def _memory() -> dict[str, Any]:
    curve = {"points": [[0, 40.0], [100, 44.0], [200, 44.2]], "settled_mb": 44.0, "end_mb": 44.2,
             "growth_mb": 0.2, "peak_mb": 45.0}
    told = {"transient_kb": percentiles(80.0, "kb"), "kept_bytes": 0.5,
            "kept_where": [{"line": "usedge/meter.py:9", "bytes": 64}]}
    install = {"total_mb": 120.5, "packages": [{"name": "numpy", "version": "2.0", "mb": 60.0}],
               "missing": ["rich"]}
    return {**_common("memory"), "bundle": BUNDLE, "curves": {"model": curve}, "allocations": {"model": told},
            "install": install}


def _startup() -> dict[str, Any]:
    seconds = [0.3, 0.31, 0.29, 0.33, 0.3]
    rows = [{"contender": name, "start": start, "median_s": 0.3, "min_s": 0.29, "max_s": 0.33}
            for name in ("usedge", "plain") for start in ("cold", "warm")]
    return {**_common("startup"), "bundle": BUNDLE, "missing": {}, "rows": rows,
            "cache": {"how": "posix_fadvise", "mb": 80.0, "kept_mb": 1.0, "files": 300},
            "values_s": {name: {"cold": seconds, "warm": seconds} for name in ("usedge", "plain")}}


def _accuracy() -> dict[str, Any]:
    rows = [{"source": "all", "method": name, "n_echo": 100, "n_empty": 20, "hit_half_period": hit,
             "ci95_hit_half_period": [hit - 0.03, hit + 0.03], "hit_one_period": hit, "miss_rate": 0.01,
             "false_alarm_rate": 0.05} for name, hit in (("model", 0.95), ("aic", 0.9))]
    groups = [{"name": name, "n_echo": 50, "n_empty": 10,
               "methods": {"model": {"hit_half_period": hit}, "aic": {"hit_half_period": None}}}
              for name, hit in (("< 10", 0.6), ("10–20", 0.98))]
    return {**_common("accuracy"), "bundle": BUNDLE, "checkpoint": None, "rows": rows,
            "scorecard": {"groups": {"snr_db": groups}}}


def _energy() -> dict[str, Any]:
    return {**_common("energy"), "bundle": BUNDLE, "measurable": True, "why_not": None,
            "meters": [{"name": "package", "kind": "energy", "path": "/sys/class/powercap/intel-rapl:0"}],
            "rows": [{"meter": "package", "rest_w": 2.0, "streaming_w": 2.5, "mj_an_ascan": 5.0,
                      "ci95_mj_an_ascan": [4.5, 5.5]}], "values_w": {}}


def _link() -> dict[str, Any]:
    names = ("usfp, Python, 4096 B reads", "cobs, C extension, 4096 B reads")
    rows = [{"name": name, "median_per_s": 1000, "min_per_s": 900, "max_per_s": 1100,
             "bytes_per_ascan": 4140.0, "floor_per_s": 0.0} for name in names]
    return {**_common("link", samples=2048), "decoders": rows, "below_floor": [],
            "values_per_s": {name: [1000.0, 990.0, 1010.0, 1005.0, 995.0] for name in names}}


def _training() -> dict[str, Any]:
    def row(key: str, against: str) -> dict[str, Any]:
        return {"key": key, "name": f"{key}, spelt out", "batch": 4, "parameters": 9, "median_per_s": 10.0,
                "p10_per_s": 9.0, "p90_per_s": 11.0, "against": against, "ratio": 1.0, "floor_per_s": 0.0}

    rows = {"pretraining": [row("plain-fp32", "plain-fp32"), row("usedge", "plain-fp32")],
            "data": [row("file", "usedge")], "fine-tuning": [row("finetune-fp32", "finetune-fp32")]}
    values = {each["key"]: [10.0, 9.0, 11.0, 10.0, 10.0] for table in rows.values() for each in table}
    return {**_common("training", floor_pretraining=1.0), "host": {**HOST, "torch": "2", "threads": 2},
            "rows": rows, "below_floor": [], "elapsed_s": 9.0, "values_per_s": values}


def _soak(unaccounted: int = 0) -> dict[str, Any]:
    counts = dict.fromkeys(("received", "dropped", "corrupted", "reconnects", "duplicated", "queue_dropped",
                            "deadline_misses", "threads_left", "files_left"), 0)
    common = {key: value for key, value in _common("soak").items() if "stable" not in key}
    return {**common, **counts, "sent": 200, "unaccounted": unaccounted, "rss_growth_mb": 0.1,
            "p99_first_us": None, "p99_last_us": 9.0, "failed": [], "ascans_per_s": 100.0,
            "faults": {"flip": 3},
            "summary": {"port": "sim://?ledger=/home/anna/soak/ledger"}, "values_rss_mb": [40.0, 41.0, 41.0]}


def _variants() -> dict[str, Any]:
    hits = {"hit_half_period": 0.9, "hit_one_period": 0.95, "miss_rate": 0.01, "false_alarm_rate": 0.05,
            "looked_at_all": 0.2}
    rows = [{"name": name, "default": name == OURS, "patches": 64, "sure": None, "p50_us": us, "p90_us": us,
             "p99_us": us, "ci95_us": {"p50": None}, "n": 20, "ratio_p50": us / 1250.0, "bytes": 1000,
             "rss_mb": 44.0, "cold_start_s": 0.3, "hit_half_period": 0.9, "field": hits, "recorded": None}
            for name, us in ((OURS, 500.0), (REFERENCE, 1250.0))]
    return {**_common("variants", block=5), "bundle": BUNDLE, "missing": {}, "files": [], "rows": rows,
            "values_us": {OURS: [500.0 + k for k in range(20)], REFERENCE: [1250.0 + k for k in range(20)]}}


def _sinks() -> dict[str, Any]:
    stretch = {"prf_hz": 50.0, "samples": 8000, "ascans": 100, "cores": 0.2, "seconds": 2.0, "lost": [],
               "deadline_misses": 0, "latency_us": {"p50": 900.0, "p99": 1900.0}, "peak_rss_mb": 60.0,
               "sinks": {}, "recorded": None, "got": {}}
    common = {key: value for key, value in _common("sinks").items() if "stable" not in key}
    return {**common, "together": [stretch], "alone": {"none": stretch, "web": stretch},
            "added_cores": {"web": 0.03, "csv": None}, "missing": {"mqtt": "not installed"}, "failed": [],
            "cores": {"run": [1], "others": [0]}}


def every_report() -> dict[str, Report]:
    """One report of each suite, by its name."""
    made = [in_rounds(1), _openloop(), _throughput(), _memory(), _startup(), _accuracy(), _energy(),
            _link(), _training(), _soak(), _variants(), _sinks()]
    return {report["suite"]: checked(report, "made up") for report in made}


def soak_report(unaccounted: int) -> Report:
    """A soak with so many A-scans unaccounted for."""
    return checked(_soak(unaccounted), "made up")
