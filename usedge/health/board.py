"""The board: clock governor, throttling, supply, temperature."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from usedge.health.machine import FINE, NOTE, WRONG, Finding, Machine

CPUFREQ = "/sys/devices/system/cpu/cpu*/cpufreq"
SMART_DRIVERS = ("intel_pstate", "amd-pstate-epp", "amd-pstate")
"""With these "powersave" lets the processor choose its clock; elsewhere it pins the lowest."""
THROTTLED_FILES = ("/sys/devices/platform/soc/soc:firmware/get_throttled",
                   "/sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled")
THROTTLE_BITS = {0: "under-voltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}
"""Bits of `vcgencmd get_throttled` for now; each has a twin 16 bits higher for "since the last start"."""
SINCE_START = 16
SUPPLY = ("Use a supply and a cable that the board's maker names (5.1 V, 3 A or 5 A), and power USB devices"
          " apart.")
COOLING = "Give it a heat sink or a fan, and air."
HOT_C, MARGIN_C = 80.0, 10.0
"""Where no trip point is told: the temperature at which a Raspberry Pi begins to throttle."""
PLAUSIBLE_C = (-40.0, 150.0)


def cpu_governor(machine: Machine) -> Iterator[Finding]:
    """A clock that follows the load is low when an A-scan comes."""
    folders = list(machine.match(CPUFREQ))
    found = {machine.read(folder / "scaling_governor") for folder in folders} - {None}
    if not found:
        yield Finding("governor", FINE, "no choice of clock rates here.")
        return
    told = ", ".join(sorted(each for each in found if each))
    drivers = {machine.read(folder / "scaling_driver") for folder in folders}
    if found == {"performance"}:
        yield Finding("governor", FINE, "performance: the clock stays up.")
        return
    pinned = "powersave" in found and not drivers & set(SMART_DRIVERS)
    what = "the clock is pinned to its lowest" if pinned else "the clock follows the load, and p99 with it"
    yield Finding("governor", WRONG if pinned else NOTE, f"{told}: {what}.",
                  f"Run: echo performance | sudo tee {CPUFREQ}/scaling_governor")


def throttling(machine: Machine) -> Iterator[Finding]:
    """What a Raspberry Pi's firmware says of its supply and its clock, now and since its start."""
    bits = throttled_bits(machine)
    if bits is None:
        yield from _supply_alarms(machine)
        return
    if not bits:
        yield Finding("throttling", FINE, "no under-voltage and no throttling since the start.")
    for bit, name in THROTTLE_BITS.items():
        now, before = bits >> bit & 1, bits >> (bit + SINCE_START) & 1
        mend = SUPPLY if bit == 0 else COOLING
        if now:
            yield Finding("throttling", WRONG, f"{name} now (get_throttled {bits:#x}).", mend)
        elif before:
            # A supply that gave way once corrupts cards and boards; a hot hour is over when it is over.
            yield Finding("throttling", WRONG if bit == 0 else NOTE,
                          f"{name} since the start (get_throttled {bits:#x}).", mend)


def throttled_bits(machine: Machine) -> int | None:
    """What a Raspberry Pi's firmware says of its supply and clock (THROTTLE_BITS); None elsewhere."""
    texts = [machine.run("vcgencmd", "get_throttled"), *(machine.read(name) for name in THROTTLED_FILES)]
    for text in filter(None, texts):
        try:
            return int(text.rpartition("=")[2], 16)
        except ValueError:
            continue
    return None


def _supply_alarms(machine: Machine) -> Iterator[Finding]:
    """The kernel's own watch over the supply of a Raspberry Pi, where its firmware cannot be asked."""
    for folder in machine.match("/sys/class/hwmon/*"):
        if machine.read(folder / "name") == "rpi_volt":
            low = machine.number(folder / "in0_lcrit_alarm") == 1
            yield (Finding("throttling", WRONG, "under-voltage now (rpi_volt).", SUPPLY) if low
                   else Finding("throttling", FINE, "no under-voltage now (rpi_volt)."))


def temperature(machine: Machine) -> Iterator[Finding]:
    """The hottest zone against the temperature at which the kernel slows down, and whether it does."""
    zones = [(celsius, _passive_c(machine, folder), machine.read(folder / "type") or folder.name)
             for folder in machine.match("/sys/class/thermal/thermal_zone*")
             if (celsius := _celsius(machine, folder / "temp")) is not None]
    for name in _slowing(machine):
        yield Finding("temperature", WRONG, f"the kernel slows down to cool ({name}).", COOLING)
    if not zones:
        yield Finding("temperature", FINE, "no thermometer here.")
        return
    celsius, limit, name = max(zones, key=lambda zone: zone[0] - zone[1])
    told = f"{name} has {celsius:.0f} °C; it slows down at {limit:.0f} °C."
    state = WRONG if celsius >= limit else NOTE if celsius >= limit - MARGIN_C else FINE
    yield Finding("temperature", state, told, "" if state == FINE else COOLING)


def temperatures_c(machine: Machine) -> dict[str, float]:
    """°C of every thermal zone, by its name; the hottest of those that share one."""
    found: dict[str, float] = {}
    for folder in machine.match("/sys/class/thermal/thermal_zone*"):
        celsius, name = _celsius(machine, folder / "temp"), machine.read(folder / "type") or folder.name
        if celsius is not None:
            found[name] = max(celsius, found.get(name, celsius))
    return found


def _celsius(machine: Machine, path: Path) -> float | None:
    milli = machine.number(path)
    plausible = milli is not None and PLAUSIBLE_C[0] <= milli / 1000 <= PLAUSIBLE_C[1]
    return milli / 1000 if milli is not None and plausible else None


def _passive_c(machine: Machine, zone: Path) -> float:
    """The lowest temperature at which this zone makes the kernel slow down."""
    trips = [_celsius(machine, path.with_name(path.name.replace("_type", "_temp")))
             for path in zone.glob("trip_point_*_type") if machine.read(path) in ("passive", "hot")]
    known = [each for each in trips if each is not None and each > 0]
    return min(known, default=HOT_C)


def _slowing(machine: Machine) -> list[str]:
    """Coolers that cool by slowing down, and are at it; fans cool otherwise."""
    found = [(machine.read(folder / "type") or "", machine.number(folder / "cur_state"))
             for folder in machine.match("/sys/class/thermal/cooling_device*")]
    return sorted({kind for kind, state in found
                   if state and (kind.startswith(("cpufreq", "thermal-cpufreq", "thermal-devfreq"))
                                 or kind in ("Processor", "cpu"))})
