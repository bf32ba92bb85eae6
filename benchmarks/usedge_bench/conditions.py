"""What else the machine did while a suite ran: other programs, a virtual machine's host, heat, supply."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypedDict

from usedge.health.board import THROTTLE_BITS, temperatures_c, throttled_bits
from usedge.health.machine import Machine
from usedge.meter import host_facts

OTHERS_LIMIT = 0.1
"""Cores taken by other programs above which a part of a run is called unstable."""
STEAL_LIMIT = 0.02
"""Cores that the host of a virtual machine kept from it, above which a part is called unstable."""
TOLD = 4
"""Parts that a reason names; of more, how many."""
LEAST_S = 0.5
"""Shorter parts are not judged: the kernel counts in ticks of 10 ms."""
CGROUP_STAT = "/sys/fs/cgroup/cpu.stat"
CLOCK = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
TICKS = os.sysconf("SC_CLK_TCK")
BUSY, STEAL = slice(0, 3), 7
"""Columns of a processor's line in /proc/stat: user, nice and system; steal."""


class Part(TypedDict):
    """One part of a run. Cores are averages over it, None where the machine does not tell.

    ``own_cores`` this process and all below it, ``others_cores`` everybody else, ``steal_cores`` what the
    host of a virtual machine kept. At its end: ``hottest_c``, ``clock_mhz``, ``throttled`` the firmware's
    bits of `vcgencmd get_throttled`. ``held_back`` periods in which a container's quota stopped it.
    """

    part: str
    seconds: float
    own_cores: float | None
    others_cores: float | None
    steal_cores: float | None
    hottest_c: float | None
    clock_mhz: float | None
    throttled: int | None
    held_back: int | None


@dataclass(frozen=True, slots=True)
class _Mark:
    at_s: float
    own_s: float
    busy_s: float | None
    steal_s: float | None
    held_back: int | None


@dataclass
class Watch:
    """Watches a run, part by part; one for each suite, made when it begins. ``say`` is told what begins."""

    say: Callable[[str], None]
    machine: Machine = field(default_factory=Machine)
    host: dict[str, Any] = field(default_factory=host_facts)
    parts: list[Part] = field(default_factory=list)
    pinned: dict[str, list[int]] = field(default_factory=dict)
    cores: set[int] = field(default_factory=lambda: os.sched_getaffinity(0))
    _begun_s: float = field(default_factory=time.monotonic)

    @contextmanager
    def part(self, name: str, line: str = "") -> Iterator[None]:
        """Watch what is done inside the block, as the part ``name`` of the run."""
        if line:
            self.say(line)
        before = self._mark()
        try:
            yield
        finally:
            self.parts.append(self._part(name, before, self._mark()))

    @property
    def seconds(self) -> float:
        """How long the run has taken so far."""
        return round(time.monotonic() - self._begun_s, 1)

    def conditions(self) -> dict[str, Any]:
        """What goes into a report."""
        return {"pinned": self.pinned, "parts": list(self.parts)}

    def disturbances(self) -> list[str]:
        """Why the run is not to be trusted, each with what to do; empty for a quiet one."""
        return disturbances(self.parts)

    def _mark(self) -> _Mark:
        busy_s, steal_s = _processors(self.machine, self.cores)
        return _Mark(time.monotonic(), _own_s(self.machine), busy_s, steal_s, _held_back(self.machine))

    def _part(self, name: str, before: _Mark, after: _Mark) -> Part:
        seconds = max(after.at_s - before.at_s, 1e-6)

        def cores(begin: float | None, end: float | None) -> float | None:
            return None if begin is None or end is None else round(max(0.0, end - begin) / seconds, 3)

        own = cores(before.own_s, after.own_s)
        busy = cores(before.busy_s, after.busy_s)
        temperatures = temperatures_c(self.machine)
        clock_khz = self.machine.number(CLOCK)
        held = None if before.held_back is None or after.held_back is None else (
            after.held_back - before.held_back)
        return Part(
            part=name, seconds=round(seconds, 2), own_cores=own,
            others_cores=None if busy is None or own is None else round(max(0.0, busy - own), 3),
            steal_cores=cores(before.steal_s, after.steal_s),
            hottest_c=max(temperatures.values(), default=None),
            clock_mhz=None if clock_khz is None else clock_khz / 1000.0,
            throttled=throttled_bits(self.machine), held_back=held,
        )


def disturbances(parts: list[Part]) -> list[str]:
    """What disturbed ``parts``, the worst of each kind, and what to do about it."""
    long = [part for part in parts if part["seconds"] >= LEAST_S]
    others = _worst(long, "others_cores", OTHERS_LIMIT)
    steal = _worst(long, "steal_cores", STEAL_LIMIT)
    held = _worst(parts, "held_back", 0)
    bits = {bit: [part["part"] for part in parts if (part["throttled"] or 0) >> bit & 1]
            for bit in THROTTLE_BITS}
    return [
        *(f"other programs took up to {most:.2f} cores ({where}); close them and run again"
          for most, where in others),
        *(f"the host of this virtual machine kept up to {most:.2f} cores ({where}); run again when it is"
          " quieter" for most, where in steal),
        *(f"{THROTTLE_BITS[bit]} ({', '.join(names)}); see `usedge doctor`" for bit, names in bits.items()
          if names),
        *(f"a CPU quota stopped it in up to {most:.0f} periods ({where}); lift the quota"
          for most, where in held),
    ]


def _worst(parts: list[Part], key: str, limit: float) -> list[tuple[float, str]]:
    """The largest value over ``limit`` and the parts that are over it; nothing where none is."""
    over = {part["part"]: value for part in parts
            if isinstance(value := dict(part)[key], (int, float)) and value > limit}
    more = f" and {len(over) - TOLD} more parts" if len(over) > TOLD else ""
    where = "throughout" if len(over) == len(parts) > 1 else ", ".join(list(over)[:TOLD]) + more
    return [(max(over.values()), where)] if over else []


def cores_apart() -> tuple[set[int], set[int]]:
    """The core for what is measured, and the one for the transducer: a real one takes no core from its host.

    Where there is one core only, both are on it.
    """
    cores = sorted(os.sched_getaffinity(0))
    return {cores[0]}, {cores[-1]}


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """This process, and what it starts meanwhile, on ``cores``."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _text(machine: Machine, name: str) -> str:
    # Not Machine.read: it looks at every character, and these files are long.
    try:
        return machine.path(name).read_text()
    except OSError:
        return ""


def _processors(machine: Machine, cores: set[int]) -> tuple[float | None, float | None]:
    """Seconds since its start that the machine was busy on ``cores``, and that were stolen from them."""
    names = {f"cpu{core}" for core in cores}
    rows = [line.split() for line in _text(machine, "/proc/stat").splitlines()]
    ticks = [[int(each) for each in row[1:]] for row in rows if row and row[0] in names]
    if not ticks:
        return None, None
    steal = [row[STEAL] for row in ticks if len(row) > STEAL]
    return sum(sum(row[BUSY]) for row in ticks) / TICKS, sum(steal) / TICKS if steal else None


def _own_s(machine: Machine, own: int | None = None) -> float:
    """Seconds of processor that this process and all below it have used, those that ended included."""
    parents, used = {}, {}
    for folder in machine.path("/proc").glob("[0-9]*"):
        try:
            told = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        parents[int(folder.name)], used[int(folder.name)] = int(told[1]), sum(map(int, told[11:15]))
    ours = {own or os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(used.get(pid, 0) for pid in ours) / TICKS


def _held_back(machine: Machine) -> int | None:
    told = dict(line.split()[:2] for line in _text(machine, CGROUP_STAT).splitlines() if " " in line)
    return int(told["nr_throttled"]) if "nr_throttled" in told else None
