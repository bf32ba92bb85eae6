"""A report as it is handed in: the facts of the host and the figures, and nothing of whose machine it is."""

from __future__ import annotations

import getpass
import platform
import re
from collections.abc import Iterator
from typing import Any

from usedge_bench.reports.read import Report, checked

LEFT_OUT = {"soak": ("summary",)}
"""Suite → keys that tell of the run's ports and files, which no figure needs: they stay, empty."""
PATH = re.compile(r"(?:(?<=^)|(?<=[\s=:,;('\"]))(?:~|\.{1,2}|[A-Za-z]:)?(?:[\\/][^\\/\s,;:'\"()]+)+[\\/]?")
"""A path from a root, from a home, or from a drive."""
ORDINARY = {"", "localhost", "root", "user", "runner", "pi", "raspberrypi", "ubuntu", "debian"}
"""Names of machines and users that tell nothing."""
DEVICE = re.compile(r"^/(?:sys|proc|dev)/")
LEAST_NAME = 3


def handed_in(report: Report) -> Report:
    """``report`` without paths and names of the machine and its user; raises InputError if that breaks it."""
    emptied: dict[str, Any] = {key: {} for key in LEFT_OUT.get(report["suite"], ())}
    names = [name for name in (platform.node(), platform.node().partition(".")[0], _user())
             if name.lower() not in ORDINARY and len(name) >= LEAST_NAME]
    told = _without({**report, **emptied}, names)
    return checked(told, "the report to hand in")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # no such user: Python 3.10 to 3.13 raise one of these
        return ""


def _without(value: Any, names: list[str]) -> Any:
    if isinstance(value, dict):
        return {_clean(key, []): _without(each, names) for key, each in value.items()}
    if isinstance(value, list):
        # Long lists hold numbers alone, and are not looked at one by one.
        return value if value and isinstance(value[0], (int, float)) else [_without(each, names)
                                                                           for each in value]
    return _clean(value, names) if isinstance(value, str) else value


def _clean(text: str, names: list[str]) -> str:
    text = PATH.sub(lambda found: found[0] if DEVICE.match(found[0]) else _last(found[0]), text)
    for name in names:
        if text == name:  # a word of the report's own that the machine happens to be called by
            continue
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "(name)", text)
    return text


def _last(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def paths_in(value: Any) -> Iterator[str]:
    """Texts in a report that hold a path of somebody's machine."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from paths_in(key)
            yield from paths_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from paths_in(each)
    elif isinstance(value, str) and _clean(value, []) != value:
        yield value


def file_name(report: Report) -> str:
    """A name such as "raspberry-pi-5-model-b-rev-1-0-4-cores-latency.json": processor, cores, suite."""
    host = report["host"]
    words = re.sub(r"[^a-z0-9]+", "-", str(host["cpu"]).lower()).strip("-")[:60] or "unknown"
    return f"{words}-{host['cores'] or 'unknown'}-cores-{report['suite']}.json"
