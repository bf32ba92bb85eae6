"""The FTDI latency timer: an adapter that waits 16 ms for more bytes before it hands on what it has."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SYS_ROOT = Path("/sys")
BEST_MS = 1


@dataclass(frozen=True, slots=True)
class LatencyTimer:
    """What an adapter's timer was found at, and what it is now, both in ms; ``path`` is where it stands."""

    found_ms: int
    now_ms: int
    path: Path

    @property
    def high(self) -> bool:
        """Whether A-scans wait in the adapter for longer than they need to."""
        return self.now_ms > BEST_MS

    def facts(self) -> dict[str, Any]:
        """For the summary."""
        return {name: value for name, value in asdict(self).items() if name != "path"}


def timer_path(port: str, sys_root: Path = SYS_ROOT) -> Path:
    """Where the timer of ``port``, a path or a link to one, stands; only FTDI adapters have that file."""
    return sys_root / "bus/usb-serial/devices" / os.path.basename(os.path.realpath(port)) / "latency_timer"


def read_timer(port: str, sys_root: Path = SYS_ROOT) -> int | None:
    """The timer of ``port`` in ms; None where its adapter has none that can be read."""
    try:
        return int(timer_path(port, sys_root).read_text())
    except (OSError, ValueError):
        return None


def quicken(port: str, device: Any = None, sys_root: Path = SYS_ROOT) -> LatencyTimer | None:
    """Set the timer of ``port`` to 1 ms where that is permitted; None where its adapter has no timer.

    ``device`` is the open pyserial port: its low-latency flag needs no root, and the driver reads it as 1 ms.
    """
    found_ms = read_timer(port, sys_root)
    if found_ms is None:
        return None
    path = timer_path(port, sys_root)
    if found_ms > BEST_MS and device is not None:
        with suppress(AttributeError, OSError, ValueError):  # the file may be writable all the same
            device.set_low_latency_mode(True)
    if (read_timer(port, sys_root) or 0) > BEST_MS:
        with suppress(OSError):  # told by what is read back
            path.write_text(f"{BEST_MS}\n")
    now_ms = read_timer(port, sys_root)
    return LatencyTimer(found_ms, found_ms if now_ms is None else now_ms, path)
