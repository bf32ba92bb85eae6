"""Meters of energy and power that a machine has: RAPL, INA219 and INA226, the rails of a Jetson."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from usedge.health.machine import Machine

RAPL = "/sys/class/powercap/intel-rapl:*"
HWMON = "/sys/class/hwmon/hwmon*"
IIO_RAILS = "/sys/bus/i2c/drivers/ina3221x/*/iio:device*"
"""Where the kernels of older Jetsons have their rails."""
CHIPS = ("ina219", "ina220", "ina226", "ina230", "ina231", "ina238", "ina3221")
ENERGY, POWER = "energy", "power"


@dataclass(frozen=True, slots=True)
class Meter:
    """One meter: ``read()`` gives joules of a counter that ``wraps_j`` says the length of (kind "energy"), or
    watts now (kind "power"); it raises OSError or ValueError where there is nothing to read.
    """

    name: str
    kind: str
    path: str
    read: Callable[[], float]
    wraps_j: float = 0.0


def find_meters(machine: Machine) -> tuple[list[Meter], list[str]]:
    """The meters that can be read, and why others cannot."""
    meters, why = [], []
    for meter in (*_rapl(machine), *_chips(machine), *_iio_rails(machine)):
        try:
            meter.read()
        except PermissionError:
            why.append(f"{meter.path} may be read by root alone. Run: sudo chmod a+r {meter.path}")
        except (OSError, ValueError):
            why.append(f"{meter.path} gives no number")
        else:
            meters.append(meter)
    if not meters and not why:
        why.append("no RAPL, no INA219 or INA226 and no Jetson rail in /sys. Measure at the supply: an INA226"
                   " in its line, with the kernel's ina2xx driver, is found here")
    return meters, why


def joules(meter: Meter, before: float, after: float) -> float:
    """What an energy counter counted from ``before`` to ``after``, at most one wrap between."""
    return after - before if after >= before else after - before + meter.wraps_j


def _number(path: Path, scale: float) -> float:
    return int(path.read_text()) * scale


def _rapl(machine: Machine) -> Iterator[Meter]:
    """Packages alone: cores and memory are parts of them."""
    for folder in machine.match(RAPL):
        if folder.name.count(":") == 1:
            file, longest = folder / "energy_uj", machine.number(folder / "max_energy_range_uj") or 0
            yield Meter(f"RAPL {machine.read(folder / 'name') or folder.name}", ENERGY, os.fspath(file),
                        partial(_number, file, 1e-6), longest * 1e-6)


def _chips(machine: Machine) -> Iterator[Meter]:
    for folder in machine.match(HWMON):
        chip = machine.read(folder / "name") or ""
        if chip not in CHIPS:
            continue
        if (power := folder / "power1_input").exists():
            yield Meter(chip, POWER, os.fspath(power), partial(_number, power, 1e-6))
            continue
        for current in sorted(folder.glob("curr[1-3]_input")):
            voltage = folder / current.name.replace("curr", "in")
            rail = machine.read(folder / voltage.name.replace("_input", "_label"))
            if voltage.exists():
                yield Meter(rail or f"{chip} {voltage.name[2]}", POWER, os.fspath(current),
                            partial(_product, current, voltage))


def _product(current: Path, voltage: Path) -> float:
    """W of a current in mA and a voltage in mV."""
    return _number(current, 1e-3) * _number(voltage, 1e-3)


def _iio_rails(machine: Machine) -> Iterator[Meter]:
    for folder in machine.match(IIO_RAILS):
        for file in sorted(folder.glob("in_power[0-2]_input")):
            rail = machine.read(folder / file.name.replace("in_power", "rail_name_").replace("_input", ""))
            yield Meter(rail or file.name, POWER, os.fspath(file), partial(_number, file, 1e-3))
