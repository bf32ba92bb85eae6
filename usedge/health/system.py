"""The system: clock, disk, memory."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from usedge.health.machine import FINE, NOTE, WRONG, Finding, Machine

EARLIEST_S = 1_735_689_600.0
"""2025-01-01: no clock that is right says less."""
SYNCED_FILE = "/run/systemd/timesync/synchronized"
LEAST_DISK_MB, LOW_DISK_MB = 200, 1000
LEAST_MEMORY_MB, LOW_MEMORY_MB = 100, 200
"""A run takes 60 MB and a Python about 20 more."""


def clock(machine: Machine) -> Iterator[Finding]:
    """Whether the clock is right: recordings and sinks carry its time."""
    now_s = machine.now_s()
    mend = "Run: sudo timedatectl set-ntp true; without a network fit a real-time clock."
    if now_s < EARLIEST_S:
        day = time.strftime("%Y-%m-%d", time.gmtime(now_s))
        yield Finding("clock", WRONG, f"the clock says {day}.", mend)
        return
    said = machine.run("timedatectl", "show", "--property=NTPSynchronized", "--value")
    if said == "yes" or machine.path(SYNCED_FILE).exists():
        yield Finding("clock", FINE, "synchronised by NTP.")
    elif said == "no":
        yield Finding("clock", WRONG, "not synchronised.", mend)
    else:
        yield Finding("clock", NOTE, "nothing here tells whether the clock is synchronised.",
                      "Run timedatectl or chronyc tracking where they are.")


def disk(machine: Machine) -> Iterator[Finding]:
    """Room for recordings and for what the system itself writes."""
    seen = set()
    for path in (machine.here, machine.path("/var/lib")):
        try:
            total, free = space = machine.space(path)
        except OSError:
            continue
        if space in seen:
            continue  # one file system
        seen.add(space)
        told = f"{free / 1e6:.0f} of {total / 1e6:.0f} MB free at {path}."
        state = (WRONG if free < LEAST_DISK_MB * 1e6 else NOTE if free < LOW_DISK_MB * 1e6 else FINE)
        mend = "" if state == FINE else "Delete or move what is not needed: sudo du -xh / | sort -h | tail"
        yield Finding("disk", state, told, mend)


def memory(machine: Machine) -> Iterator[Finding]:
    """What is left for a run."""
    text = machine.read("/proc/meminfo") or ""
    lines = re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)
    found = {name: int(kib) * 1024 / 1e6 for name, kib in lines}
    if "MemAvailable" not in found:
        yield Finding("memory", NOTE, "/proc/meminfo does not tell what is available.", "Is /proc mounted?")
        return
    left = found["MemAvailable"]
    state = WRONG if left < LEAST_MEMORY_MB else NOTE if left < LOW_MEMORY_MB else FINE
    mend = "" if state == FINE else "See what takes it: ps aux --sort=-rss | head; a desktop is not needed."
    yield Finding("memory", state, f"{left:.0f} of {found.get('MemTotal', 0):.0f} MB available.", mend)
