"""What is wrong with a machine, and how to mend it: each check looks at one thing and says what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from usedge.health.board import cpu_governor, temperature, throttling
from usedge.health.machine import Finding, Machine
from usedge.health.ports import latency_timers, ports, stable_names
from usedge.health.runtimes import runtimes
from usedge.health.system import clock, disk, memory

__all__ = ["CHECKS", "Finding", "Machine", "examine"]

CHECKS: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    ports, stable_names, latency_timers, cpu_governor, throttling, temperature, clock, disk, memory,
)


def examine(machine: Machine, bundle: Path | None = None) -> list[Finding]:
    """All findings on ``machine``; the runtimes are tried on ``bundle``, None for the shipped one."""
    found = [finding for check in CHECKS for finding in check(machine)]
    return [*found, *runtimes(bundle)]
