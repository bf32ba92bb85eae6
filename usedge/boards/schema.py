"""The keys of a board file: which there are, what each may hold, and which must be there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from usedge.errors import InputError, known_name

ARCHITECTURES = ("x86_64", "aarch64", "armv7l", "armv6-m", "armv7e-m", "armv8-m")
SIMD = ("avx2", "avx512-vnni", "avx-vnni", "neon", "neon-dot")
RUNTIMES = ("litert", "native", "onnx", "classical")
PROTOCOLS = ("usfp", "p0rk", "wulpus", "pic0rick")
KINDS = ("host", "front-end")

Check = Callable[[Any], str | None]
"""What is wrong with a value, or None."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key's check; ``needed`` names the kinds of board that must have it."""

    check: Check
    needed: tuple[str, ...] = ()


def _number(low: float, high: float, whole: bool = False) -> Check:
    def check(value: Any) -> str | None:
        kind = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind):
            return f"is no {'whole ' if whole else ''}number"
        if not math.isfinite(value) or not low <= value <= high:
            return f"is not within {low:g} and {high:g}"
        return None

    return check


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value.strip() else "is no text"


def _one_of(known: tuple[str, ...]) -> Check:
    def check(value: Any) -> str | None:
        return None if value in known else f"is none of {', '.join(known)}"

    return check


def _each(check: Check, at_least: int = 1) -> Check:
    def check_all(value: Any) -> str | None:
        if not isinstance(value, list) or len(value) < at_least:
            return f"is no list of {at_least} or more"
        return next((f"holds {each!r}, which {fault}" for each in value if (fault := check(each))), None)

    return check_all


def _range(low: float, high: float) -> Check:
    inner = _each(_number(low, high), 2)

    def check(value: Any) -> str | None:
        fault = inner(value)
        if fault is None and not (len(value) == 2 and value[0] <= value[1]):
            return "is no pair of a lower and an upper end"
        return fault

    return check


def _sys_path(value: Any) -> str | None:
    good = isinstance(value, str) and value.startswith(("/sys/", "/proc/")) and ".." not in value
    return None if good else "is no path below /sys or /proc"


def _vid_pid(value: Any) -> str | None:
    vid, _, pid = value.partition(":") if isinstance(value, str) else ("", "", "")
    hexadecimal = all(len(part) == 4 and set(part) <= set("0123456789abcdef") for part in (vid, pid))
    return None if hexadecimal else "is not VID:PID, four small hexadecimal digits each"


def _published(value: Any) -> str | None:
    if not isinstance(value, dict) or set(value) != {"precision", "macs", "what"}:
        return "has not the keys precision, macs and what"
    faults = (_one_of(("int8", "fp32"))(value["precision"]), _number(0.01, 4096)(value["macs"]),
              _text(value["what"]))
    return next((fault for fault in faults if fault), None)


_HOST, _FRONT, _BOTH = ("host",), ("front-end",), KINDS
SECTIONS: Mapping[str, Mapping[str, Key]] = {
    "detect": {
        "compatible": Key(_each(_text)), "model": Key(_each(_text)), "machine": Key(_each(_text)),
        "usb": Key(_each(_vid_pid)),
    },
    "processor": {
        "arch": Key(_one_of(ARCHITECTURES), _BOTH), "soc": Key(_text), "core": Key(_text),
        "cores": Key(_number(1, 1024, whole=True)), "clock_ghz": Key(_number(0.001, 10)),
        "simd": Key(_each(_one_of(SIMD))), "cache_kib": Key(_number(1, 1 << 21)),
    },
    "memory": {
        "ram_mb": Key(_each(_number(0.001, 1 << 24))), "flash_mb": Key(_number(0.001, 1 << 16)),
        "bandwidth_gb_s": Key(_number(0.01, 10_000)),
    },
    "run": {
        "runtimes": Key(_each(_one_of(RUNTIMES)), _HOST),
        "threads": Key(_number(1, 256, whole=True), _HOST),
    },
    "adc": {"bits": Key(_number(1, 32, whole=True)), "fs_hz": Key(_number(1, 1e10)),
            "samples": Key(_number(1, 1 << 24, whole=True))},
    "links": {
        "protocol": Key(_one_of(PROTOCOLS), _FRONT), "kinds": Key(_each(_text)), "port": Key(_text),
        "baud": Key(_number(300, 100e6, whole=True)), "prf_hz": Key(_number(0.01, 1e6)),
    },
    "sensors": {"temperature": Key(_each(_sys_path)), "throttled": Key(_each(_sys_path)),
                "power": Key(_each(_sys_path))},
    "budget": {"p99_ms": Key(_number(0.01, 60_000), _HOST), "rss_mb": Key(_number(1, 1 << 20), _HOST),
               "install_mb": Key(_number(1, 1 << 20), _HOST)},
    "rates": {
        "int8_macs": Key(_number(0.01, 4096)), "fp32_macs": Key(_number(0.01, 4096)),
        "issue_width": Key(_number(1, 16, whole=True)), "vector_ops": Key(_range(0.1, 16)),
        "loads": Key(_range(0.1, 16)), "published": Key(_each(_published)),
    },
}
ONLY_OF = {"run": "host", "budget": "host", "rates": "host", "sensors": "host", "adc": "front-end"}
TOP = ("format_version", "name", "kind", "note", "sources")
FORMAT_VERSION = 1


def check_content(where: str, content: dict[str, Any]) -> None:
    """Raise InputError, naming ``where``, the key and what is wrong with it, unless ``content`` fits."""
    for name in content:
        known_name(name, (*TOP, *SECTIONS), f"{where}: key")
    _check_top(where, content)
    for name, keys in SECTIONS.items():
        section = content.get(name, {})
        if not isinstance(section, dict):
            raise InputError(f"{where}: {name} is no section.", f"Write [{name}].")
        if section and ONLY_OF.get(name, content["kind"]) != content["kind"]:
            raise InputError(f"{where}: [{name}] does not belong to a {content['kind']}.")
        for key, value in section.items():
            known_name(key, keys, f"{where}: key", f"{name}.")
            if fault := keys[key].check(value):
                raise InputError(f"{where}: {name}.{key} = {value!r} {fault}.")
        for key, rule in keys.items():
            if content["kind"] in rule.needed and key not in section:
                raise InputError(f"{where}: {name}.{key} is missing.",
                                 f"A {content['kind']} has to state it.")
    _check_sources(where, content)


def _check_top(where: str, content: dict[str, Any]) -> None:
    version = content.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise InputError(f"{where}: format_version is {version!r}, not {FORMAT_VERSION}.",
                         "Take a newer usedge, or write the file anew.")
    if fault := _text(content.get("name")):
        raise InputError(f"{where}: name = {content.get('name')!r} {fault}.")
    if content.get("kind") not in KINDS:
        raise InputError(f"{where}: kind = {content.get('kind')!r} is none of {', '.join(KINDS)}.")
    if "note" in content and (fault := _text(content["note"])):
        raise InputError(f"{where}: note = {content['note']!r} {fault}.")


def _check_sources(where: str, content: dict[str, Any]) -> None:
    """Every fact has a source: its own, or its section's."""
    sources = content.get("sources", {})
    if not isinstance(sources, dict):
        raise InputError(f"{where}: sources is no section.", "Write [sources].")
    facts = [(name, key) for name in SECTIONS for key in content.get(name, {})]
    known = [*{name: None for name, _ in facts}, *(f"{name}.{key}" for name, key in facts)]
    for name, value in sources.items():
        known_name(name, known or SECTIONS, f"{where}: source of")
        if fault := _text(value):
            raise InputError(f"{where}: the source of {name} {fault}.")
    for name, key in facts:
        if name not in sources and f"{name}.{key}" not in sources:
            raise InputError(f"{where}: {name}.{key} has no source.",
                             f'Say under [sources] where it is from: "{name}.{key}" = "data sheet, page".')
