"""Where time and memory go: bounded latency histograms by stage, peak RSS, facts about the host."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STAGES = ("decode", "queue", "preprocess", "infer", "decide", "emit", "wire_to_reading")
"""In an A-scan's order; the last is all the others together."""
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9}
SUB_BITS = 7
"""Each power of two is split into 2^7 buckets: percentiles right to 0.8 %, in bounded memory for months."""


def _bucket(ns: int) -> int:
    shift = max(0, ns.bit_length() - SUB_BITS - 1)
    return (shift << SUB_BITS) + (ns >> shift)


def _bucket_middle(bucket: int) -> float:
    shift = max(0, (bucket >> SUB_BITS) - 1)
    return (bucket - (shift << SUB_BITS) + (0.5 if shift else 0.0)) * (1 << shift)


class Histogram:
    """Durations in ns, kept as counts in logarithmic buckets; ``max`` is exact."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.n = 0
        self.max_ns = 0

    def add(self, ns: int) -> None:
        """Count one duration."""
        ns = max(ns, 0)
        bucket = _bucket(ns)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self.n += 1
        self.max_ns = max(self.max_ns, ns)

    def percentile_us(self, percent: float) -> float:
        """The duration, in µs, that ``percent`` of those counted do not exceed; NaN when there are none."""
        left = percent / 100.0 * self.n
        for bucket in sorted(self._counts):
            left -= self._counts[bucket]
            if left <= 1e-9:
                return min(_bucket_middle(bucket), self.max_ns) * 1e-3
        return float("nan")

    def summary(self, suffix: str = "") -> dict[str, float | None]:
        """p50, p90, p99, p99.9 and max in µs, keys ending in ``suffix``; None when nothing was counted."""
        if not self.n:
            return dict.fromkeys(f"{name}{suffix}" for name in (*PERCENTILES, "max"))
        values = {name: self.percentile_us(percent) for name, percent in PERCENTILES.items()}
        values["max"] = self.max_ns * 1e-3
        return {f"{name}{suffix}": round(value, 2) for name, value in values.items()}


class Meter:
    """A histogram for each stage of an A-scan's way."""

    def __init__(self, stages: Sequence[str] = STAGES) -> None:
        self.stages = {name: Histogram() for name in stages}

    def add(self, stage: str, ns: int) -> None:
        """Count ``ns`` spent in ``stage``."""
        self.stages[stage].add(ns)


def peak_rss_mb(pid: int | str = "self") -> float:
    """Peak resident memory (VmHWM) of a process in MB (10^6 bytes); NaN where /proc does not tell."""
    return _status_mb(pid, "VmHWM:")


def rss_mb(pid: int | str = "self") -> float:
    """Resident memory (VmRSS) of a process now, as ``peak_rss_mb``."""
    return _status_mb(pid, "VmRSS:")


def _status_mb(pid: int | str, key: str) -> float:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return float("nan")


def processor() -> str:
    """What tells one processor from another: its name, its part, its instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    told = ("flags", "Features", "CPU implementer", "CPU part", "model name")
    return "\n".join(sorted({line for line in lines if line.startswith(told)}))


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    for key in ("model name", "Model", "Hardware"):
        for line in lines:
            if line.startswith(key):
                return line.partition(":")[2].strip()
    return platform.machine()


def host_facts() -> dict[str, Any]:
    """What a figure's reader must know of the machine that it was measured on."""
    import numpy

    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "machine": platform.machine(), "cpu": _cpu_model(), "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}", "python": platform.python_version(),
        "numpy": numpy.__version__, "governor": governor.read_text().strip() if governor.exists() else None,
        "load_1min": round(os.getloadavg()[0], 2),
    }
