"""The systemd unit of a run: locked in, restarted, watched."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from usedge.errors import InputError

OURS = "# Written by `usedge service`."
STATE_FOLDER = Path("/var/lib")
UNIT_FOLDER = Path("/etc/systemd/system")
FILE_SINKS = ("jsonl", "csv")
BACKOFF_SYSTEMD = 254
"""The first systemd that waits longer from restart to restart."""
USB_SERIAL = ("ttyUSB", "ttyACM")
DEVICE_CLASSES = (*USB_SERIAL, "ttyAMA", "ttyTHS", "ttyS")
"""Beginnings of device files, and their names in /proc/devices."""
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z")
_PLAIN = re.compile(r"[A-Za-z0-9_./:=@,+-]+\Z")


@dataclass(frozen=True, slots=True)
class Job:
    """What a unit runs: the program's words, then those of ``usedge run``; ``port`` and ``sinks`` are its
    options, ``group`` may open serial ports, ``reads`` are the files that it is given.
    """

    program: tuple[str, ...]
    words: tuple[str, ...]
    port: str
    sinks: tuple[str, ...] = ()
    group: str = "dialout"
    reads: tuple[Path, ...] = ()


def check_name(name: str) -> None:
    """Raise InputError unless ``name`` can be that of a unit and of its state folder."""
    if not _NAME.match(name):
        raise InputError(f"service name {name!r} is not 1 to 32 of a–z, 0–9, '_' and '-'.",
                         "Example: --name usedge.")


def unit(job: Job, name: str = "usedge", watchdog_s: int = 30, systemd: int | None = None) -> str:
    """The text of ``name.service``. ``systemd`` is the version that will read it, None for unknown.

    Raises InputError for words that a unit cannot hold.
    """
    check_name(name)
    command = " ".join(quoted(word) for word in (*job.program, "run", *job.words))
    networked = uses_network(job)
    lines = [
        OURS, "[Unit]", "Description=Time of flight from ultrasound A-scans",
        *(["Wants=network-online.target", "After=network-online.target"] if networked else []),
        # systemd would give up after five quick ends, and a board may be away for a week.
        "StartLimitIntervalSec=0", "",
        "[Service]", "Type=notify", "NotifyAccess=main", f"WatchdogSec={watchdog_s}",
        f"ExecStart={command}", f"WorkingDirectory=%S/{name}", f"StateDirectory={name}", "UMask=0027",
        f"EnvironmentFile=-/etc/{name}.env", f"StandardOutput={'null' if job.sinks else 'journal'}",
        *_restart(systemd), "", *_locks(job, networked), "",
        "[Install]", "WantedBy=multi-user.target",
    ]
    return "\n".join(line for i, line in enumerate(lines) if line or lines[i - 1]) + "\n"


def _restart(systemd: int | None) -> list[str]:
    lines = ["Restart=always", "RestartSec=2"]
    if systemd is None or systemd >= BACKOFF_SYSTEMD:
        lines += ["RestartSteps=6", "RestartMaxDelaySec=60"]
    # 130 is the orderly end after a signal; 2 is an option or a file that no restart mends.
    return [*lines, "SuccessExitStatus=130", "RestartPreventExitStatus=2"]


def _locks(job: Job, networked: bool) -> list[str]:
    files = (Path(job.program[0]), *job.reads)
    home = any(each.is_relative_to(folder) for each in files for folder in ("/home", "/root"))
    return [
        "DynamicUser=yes", *_devices(job), "ProtectSystem=strict",
        f"ProtectHome={'read-only' if home else 'yes'}", "PrivateTmp=yes", "NoNewPrivileges=yes",
        "CapabilityBoundingSet=", "ProtectKernelTunables=yes", "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes", "ProtectControlGroups=yes", "ProtectClock=yes", "ProtectHostname=yes",
        "ProtectProc=invisible", "RestrictNamespaces=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes",
        "LockPersonality=yes", "SystemCallArchitectures=native", "SystemCallFilter=@system-service",
        *(["RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"] if networked
          else ["RestrictAddressFamilies=AF_UNIX", "PrivateNetwork=yes"]),
    ]


def _devices(job: Job) -> list[str]:
    allowed = device_allow(job.port)
    if not allowed:
        return ["PrivateDevices=yes"]
    return [f"SupplementaryGroups={job.group}", "DevicePolicy=closed",
            *(f"DeviceAllow={each} rw" for each in allowed)]


def device_allow(port: str) -> list[str]:
    """What DeviceAllow= must name for ``port``: a class, as an adapter that comes back has another number."""
    if port.startswith("usb:"):
        return [f"char-{each}" for each in USB_SERIAL]
    if not port.startswith("/dev/"):
        return []
    name = Path(port).name
    for each in DEVICE_CLASSES:
        if port == f"/dev/{name}" and name.startswith(each):
            return [f"char-{each}"]
    return [f"char-{each}" for each in USB_SERIAL]  # a link, as in /dev/serial/by-id


def uses_network(job: Job) -> bool:
    """Whether the run speaks to anything but a port and files."""
    return job.port.startswith("socket:") or any(each.partition(":")[0] not in FILE_SINKS
                                                 for each in job.sinks)


def quoted(word: str) -> str:
    """``word`` as systemd's ExecStart= reads it back; raises InputError for one with a line's end in it."""
    if any(not each.isprintable() for each in word):
        raise InputError(f"{word!r} cannot stand in a unit.", "Leave out line ends and control characters.")
    escaped = word.replace("%", "%%").replace("$", "$$")
    if _PLAIN.match(word):
        return escaped
    return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unreadable(path: Path) -> Path | None:
    """The first folder or file on the way to ``path`` that an unknown user may not read; None: all may be."""
    real = path.resolve()
    for each in (*reversed(real.parents), real):
        try:
            mode = each.stat().st_mode
        except OSError:
            return each
        need = stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH
        if not mode & need:
            return each
    return None


def absolute(words: Sequence[str], reads: Sequence[Path]) -> tuple[str, ...]:
    """``words`` with the files in ``reads`` by their absolute paths: a service works in another folder."""
    found = {str(each): str(each.absolute()) for each in reads}
    result = []
    for word in words:
        option, equals, value = word.partition("=")
        if word in found:
            result.append(found[word])
        elif equals and option.startswith("--") and value in found:
            result.append(f"{option}={found[value]}")
        else:
            result.append(word)
    return tuple(result)
