"""When a device takes its A-scans: its own clock, and one stream's slots."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_NS_PER_MHZ: Final = 10**12  # one period of 1 mHz, in ns


class DeviceClock:
    """ns since the device's boot, by a clock that is fast by ``drift_ppm``; ``now_ns`` is a steady one."""

    def __init__(self, drift_ppm: float = 0.0, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._drift_ppb = round(drift_ppm * 1000.0)
        self._now_ns = now_ns
        self.boot()

    def boot(self) -> None:
        """Begin at 0."""
        self._boot_ns = self._now_ns()

    def ns(self) -> int:
        """Return ns since boot."""
        elapsed = self._now_ns() - self._boot_ns
        return elapsed + elapsed * self._drift_ppb // 10**9

    def host_ns(self, ns: int) -> int:
        """Return when this clock says ``ns``, in ns of the steady one."""
        return self._boot_ns + ns * 10**9 // (10**9 + self._drift_ppb)


@dataclass(slots=True)
class Stream:
    """One start: its schedule, and what was sent under it. Times are ns of the device's clock.

    ``tag`` the dialect's, of the order that began it; ``prf_mhz`` millihertz, 0 = without slots; ``count``
    A-scans, 0 = until stopped; ``shift_ns`` by how much the next main bang is off its slot.
    """

    tag: int
    prf_mhz: int
    count: int
    started_ns: int
    slot: int = 0
    sent: int = 0
    shift_ns: int = 0

    def due_ns(self) -> int:
        """When the next A-scan is due; never in the future at PRF 0."""
        if not self.prf_mhz:
            return self.started_ns
        return self.started_ns + self.slot * _NS_PER_MHZ // self.prf_mhz + self.shift_ns

    def miss_slots(self, now_ns: int) -> int:
        """Move on to the slot that ``now_ns`` lies in; return how many whole slots went by unused."""
        if not self.prf_mhz:
            return 0
        elapsed = now_ns - self.started_ns - self.shift_ns
        missed = max(0, elapsed * self.prf_mhz // _NS_PER_MHZ - self.slot)
        self.slot += missed
        return missed
