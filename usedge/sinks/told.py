"""What sinks say of a reading: its wall-clock time, and whether A-scans come at all."""

from __future__ import annotations

import time
from datetime import datetime, timezone

from usedge.reading import Reading

SILENT_S = 3.0
SILENT_PERIODS = 5.0


def wall_ns(t_ns: int) -> int:
    """Unix time in ns of ``t_ns`` on the host's monotonic clock.

    By both clocks as they are now: a board without a battery is set right some time after it starts.
    """
    return t_ns + time.time_ns() - time.monotonic_ns()


def iso_time(t_ns: int) -> str:
    """``t_ns`` on the host's monotonic clock as UTC, ISO 8601 with µs."""
    ns = wall_ns(t_ns)
    moment = datetime.fromtimestamp(ns // 1_000_000_000, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % 1_000_000_000 // 1000:06d}Z"


def stamped_json(reading: Reading) -> str:
    """The reading's contract keys and ``time`` (UTC), as one line."""
    return f'{reading.to_json()[:-1]}, "time": "{iso_time(reading.t_ns)}"}}'


def link_state(last: Reading | None, prf_hz: float | None) -> str:
    """"waiting" for the first A-scan, "up", or "silent": none for SILENT_S or SILENT_PERIODS of the PRF."""
    if last is None:
        return "waiting"
    quiet_s = (time.monotonic_ns() - last.t_ns) * 1e-9
    return "up" if quiet_s < max(SILENT_S, SILENT_PERIODS / prf_hz if prf_hz else 0.0) else "silent"
