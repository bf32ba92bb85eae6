"""Serial ports: who may open them, names that stay, and adapters that wait with what they have."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from usedge.health.machine import FINE, NOTE, WRONG, Finding, Machine

BOARD_PORTS = ("ttyUSB", "ttyACM", "ttyAMA", "ttyTHS", "ttyS")
PLAIN_GROUP = "dialout"
RULES_FILE = "/etc/udev/rules.d/60-usedge.rules"
INSTALL_RULES = (f"usedge doctor --udev | sudo tee {RULES_FILE} && sudo udevadm control --reload"
                 " && sudo udevadm trigger")
LEAST_LATENCY_MS = 1
_PLAIN = re.compile(r"[A-Za-z0-9_.:+@ -]+\Z")
"""What needs no quoting in a rule of udev."""


@dataclass(frozen=True, slots=True)
class Port:
    """A serial port with hardware behind it; vendor and product numbers where that is on USB."""

    name: str
    vid: str | None = None
    pid: str | None = None
    serial: str | None = None
    product: str | None = None

    @property
    def path(self) -> str:
        """Its path on the machine."""
        return f"/dev/{self.name}"

    def __str__(self) -> str:
        numbers = "" if self.vid is None else f" ({' '.join(filter(None, (self.vid_pid, self.product)))})"
        return f"{self.path}{numbers}"

    @property
    def vid_pid(self) -> str:
        """Its USB numbers, as lsusb has them."""
        return f"{self.vid}:{self.pid}"


def serial_ports(machine: Machine) -> list[Port]:
    """The serial ports that have a device behind them, in the order of their names."""
    found = []
    for path in machine.match("/sys/class/tty/*"):
        # A kernel makes ttyS0 … ttyS31 on suspicion; a type of 0 says that nothing was found there.
        phantom = path.name.startswith("ttyS") and machine.read(path / "type") == "0"
        if path.name.startswith(BOARD_PORTS) and (path / "device").exists() and not phantom:
            found.append(_described(machine, path))
    return found


def _described(machine: Machine, path: Path) -> Port:
    device = (path / "device").resolve()
    for folder in (device, *device.parents):
        if (folder / "idVendor").exists():
            vid, pid, serial, product = (machine.read(folder / name)
                                         for name in ("idVendor", "idProduct", "serial", "product"))
            return Port(path.name, vid, pid, serial, product)
        if folder == machine.root.resolve():
            break
    return Port(path.name)


def ports(machine: Machine) -> Iterator[Finding]:
    """Whether there is a port, and whether this user may open it."""
    found = serial_ports(machine)
    if not found:
        yield Finding("ports", NOTE, "no serial port with a device behind it.",
                      "Plug the board in; see `dmesg | tail` where it does not appear. Without a board:"
                      " usedge run --port sim://")
    for port in found:
        yield _permission(machine, port)


def _permission(machine: Machine, port: Port) -> Finding:
    try:
        facts = machine.path(port.path).stat()
    except OSError:
        return Finding("ports", WRONG, f"{port} is known to the kernel, but has no device file.",
                       "Is udev running? In a container pass it on: --device " + port.path)
    if _may(machine, facts.st_mode, facts.st_uid, facts.st_gid):
        return Finding("ports", FINE, f"{port} may be opened.")
    group = _groups(machine).get(facts.st_gid, (str(facts.st_gid), ()))[0]
    if not facts.st_mode & stat.S_IRGRP:
        return Finding("ports", WRONG, f"no permission to open {port}: its group may not either.",
                       f"Give it a group by a rule: {INSTALL_RULES}")
    if _user(machine) in _groups(machine).get(facts.st_gid, ("", ()))[1]:
        return Finding("ports", WRONG, f"no permission to open {port}: you are in {group}, but not yet here.",
                       "Log out and in again.")
    return Finding("ports", WRONG, f"no permission to open {port}: it is for the group {group}.",
                   f"Run: sudo usermod -aG {group} $USER, then log in again.")


def _may(machine: Machine, mode: int, owner: int, group: int) -> bool:
    if machine.uid == 0:
        return True
    if machine.uid == owner:
        return mode & (stat.S_IRUSR | stat.S_IWUSR) == stat.S_IRUSR | stat.S_IWUSR
    if group in machine.groups:
        return mode & (stat.S_IRGRP | stat.S_IWGRP) == stat.S_IRGRP | stat.S_IWGRP
    return mode & (stat.S_IROTH | stat.S_IWOTH) == stat.S_IROTH | stat.S_IWOTH


def _groups(machine: Machine) -> dict[int, tuple[str, tuple[str, ...]]]:
    """Group number → its name and members."""
    groups = {}
    for line in (machine.read("/etc/group") or "").splitlines():
        name, _, number, members = [*line.split(":"), "", "", "", ""][:4]
        if number.isdigit():
            groups[int(number)] = name, tuple(filter(None, members.split(",")))
    return groups


def _user(machine: Machine) -> str | None:
    for line in (machine.read("/etc/passwd") or "").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(machine.uid):
            return fields[0]
    return None


def stable_names(machine: Machine) -> Iterator[Finding]:
    """Whether a board keeps its name when another is plugged in before it."""
    found = [port for port in serial_ports(machine) if port.vid is not None]
    if not found:
        return
    text = "".join(machine.read(path) or "" for path in machine.match("/etc/udev/rules.d/*.rules"))
    for port in found:
        if f'"{port.vid}"' in text and f'"{port.pid}"' in text and "SYMLINK" in text:
            yield Finding("names", FINE, f"{port} has a name that stays, by a rule of udev.")
        else:
            yield Finding("names", NOTE, f"{port} may get another name when it is plugged in again.",
                          f"Use {_by_id(machine, port)}, or a rule: {INSTALL_RULES}")


def _by_id(machine: Machine, port: Port) -> str:
    for link in machine.match("/dev/serial/by-id/*"):
        if link.is_symlink() and link.readlink().name == port.name:
            return f"--port /dev/serial/by-id/{link.name}"
    return f"--port usb:{port.vid_pid}" + (f":{port.serial}" if port.serial else "")


def udev_rules(machine: Machine) -> str:
    """Rules for the USB ports there are: /dev/usedge0, /dev/usedge1, … for good, to be opened by the group
    dialout, and no waiting in FTDI adapters.
    """
    lines = [f"# {RULES_FILE}, by `usedge doctor --udev`"]
    for i, port in enumerate(each for each in serial_ports(machine) if each.vid is not None):
        plain = port.serial and _PLAIN.match(port.serial)
        serial = f', ATTRS{{serial}}=="{port.serial}"' if plain else ""
        lines.append(f'SUBSYSTEM=="tty", ATTRS{{idVendor}}=="{port.vid}", ATTRS{{idProduct}}=="{port.pid}"'
                     f'{serial}, SYMLINK+="usedge{i}", GROUP="{PLAIN_GROUP}", MODE="0660"')
    lines.append('ACTION=="add", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio",'
                 f' ATTR{{latency_timer}}="{LEAST_LATENCY_MS}"')
    return "\n".join(lines) + "\n"


def latency_timers(machine: Machine) -> Iterator[Finding]:
    """FTDI adapters hand on what they have after 16 ms, unless they are told otherwise."""
    for path in machine.match("/sys/bus/usb-serial/devices/*/latency_timer"):
        wait_ms, port = machine.number(path), f"/dev/{path.parent.name}"
        if wait_ms is None or wait_ms <= LEAST_LATENCY_MS:
            yield Finding("latency timer", FINE, f"{port} hands on its bytes after {wait_ms or 0} ms.")
        else:
            yield Finding("latency timer", NOTE,
                          f"{port} hands on its bytes after {wait_ms} ms; so much later are readings.",
                          "Run: echo 1 | sudo tee /sys/bus/usb-serial/devices/"
                          f"{path.parent.name}/latency_timer, or for good: {INSTALL_RULES}")
