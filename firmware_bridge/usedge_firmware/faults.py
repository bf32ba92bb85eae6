"""What can go wrong on a link, and how a plan of it is written: ``flip=0.01,burst=0.002:64,jitter=200us``.

The tables below are the one place that names the faults; docs/faults.md shows them to people.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final


class FaultPlanError(ValueError):
    """A fault plan that cannot be read; the message names the word, the value and what is known."""


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One kind of fault. ``unit`` of its size, empty when it has none; ``default``, ``least`` and ``most``
    of that size; ``whole`` sizes are integers.
    """

    meaning: str
    unit: str = ""
    default: float = 0.0
    least: float = 0.0
    most: float = 0.0
    whole: bool = True


KINDS: Final = {
    "flip": FaultKind("1 to 8 bits of the frame are inverted"),
    "loss": FaultKind("1 to SIZE bytes inside the frame are missing", "bytes", 4, 1, 65536),
    "insert": FaultKind("1 to SIZE random bytes stand where none were sent", "bytes", 4, 1, 65536),
    "burst": FaultKind(
        "SIZE bytes in a row are replaced by other ones, on into the next frame", "bytes", 64, 1, 1 << 20
    ),
    "truncate": FaultKind("the frame's tail is missing, 8 bytes at least"),
    "drop": FaultKind("the A-scan is never sent, its seq is spent"),
    "duplicate": FaultKind("the A-scan is sent twice"),
    "reorder": FaultKind("the A-scan is sent after the next one"),
    "text": FaultKind("a line of plain text stands before the frame"),
    "stall": FaultKind("silence inside the frame", "s", 0.2, 0.001, 3600, whole=False),
    "saturate": FaultKind(
        "the samples are amplified and clipped by the ADC", "gain", 2.0, 1.0, 1000, whole=False
    ),
    "disconnect": FaultKind(
        "the cable is pulled inside the frame and put back: same session, seq goes on", "s", 1.0, 0.001, 3600,
        whole=False,
    ),
    "reset": FaultKind(
        "the device reboots inside the frame: new session, seq from 0", "s", 0.2, 0.001, 3600, whole=False
    ),
    "baud": FaultKind("SIZE frames arrive as garbage, as under a wrong baud rate", "frames", 3, 1, 100_000),
}
"""Faults that hit a frame with a probability: NAME=RATE or NAME=RATE:SIZE."""

ALWAYS: Final = {
    "jitter": FaultKind("the main bang is up to this much early or late", "us", 0.0, 0.0, 1e6, whole=False),
    "drift": FaultKind("the device's clock runs fast by this much", "ppm", 0.0, -1e5, 1e5, whole=False),
}
"""Faults that are always there: NAME=VALUE with its unit, us, ms or s for jitter and ppm for drift."""

_MICROSECONDS: Final = {"us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6}
_NUMBER_AND_UNIT: Final = re.compile(r"([-+0-9.eE]+)(us|µs|ms|s|ppm)")


@dataclass(frozen=True, slots=True)
class Fault:
    """How often a kind of fault hits: ``rate`` a probability for each frame; ``size`` in the kind's unit."""

    rate: float
    size: float


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Which faults are to happen. ``faults`` by name; ``jitter_us`` µs; ``drift_ppm`` parts in a million."""

    faults: dict[str, Fault] = field(default_factory=dict)
    jitter_us: float = 0.0
    drift_ppm: float = 0.0

    @classmethod
    def parse(cls, spec: str) -> FaultPlan:
        """Read ``NAME=RATE[:SIZE],…``; an empty text is the plan without faults.

        Raises ``FaultPlanError`` for a name that is unknown or stands twice and for a value out of its range.
        """
        faults: dict[str, Fault] = {}
        always = dict.fromkeys(ALWAYS, 0.0)
        seen: set[str] = set()
        for word in filter(None, (each.strip() for each in spec.split(","))):
            name, equals, value = word.partition("=")
            if name not in KINDS and name not in ALWAYS:
                raise FaultPlanError(_unknown(name))
            if not equals or name in seen:
                raise FaultPlanError(f"fault {word!r} {'stands twice' if equals else 'has no value'}")
            seen.add(name)
            if name in KINDS:
                faults[name] = _parse_fault(name, value)
            else:
                always[name] = _parse_always(name, value)
        return cls(faults, always["jitter"], always["drift"])

    def __str__(self) -> str:
        words = [
            f"{name}={_plain(each.rate)}" + (f":{_plain(each.size)}" if KINDS[name].unit else "")
            for name, each in self.faults.items()
        ]
        words += [f"jitter={_plain(self.jitter_us)}us"] if self.jitter_us else []
        words += [f"drift={_plain(self.drift_ppm)}ppm"] if self.drift_ppm else []
        return ",".join(words)

    def rate(self, name: str) -> float:
        """Return the probability of a kind of fault, 0 when it is not planned."""
        return self.faults[name].rate if name in self.faults else 0.0

    def size(self, name: str) -> float:
        """Return the size of a kind of fault in its unit, the default when it is not planned."""
        return self.faults[name].size if name in self.faults else KINDS[name].default


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(float(number))


def _unknown(name: str) -> str:
    known = [*KINDS, *ALWAYS]
    nearest = get_close_matches(name, known, n=1, cutoff=0.0)[0]
    return f"fault {name!r} is unknown, nearest is {nearest!r}. Known: {', '.join(known)}"


def _parse_fault(name: str, value: str) -> Fault:
    kind = KINDS[name]
    rate_text, colon, size_text = value.partition(":")
    rate = _number(name, rate_text, "rate", 0.0, 1.0)
    if colon and not kind.unit:
        raise FaultPlanError(f"fault {name!r} has no size, not {size_text!r}")
    if not colon:
        return Fault(rate, kind.default)
    size = _number(name, size_text, f"size in {kind.unit}", kind.least, kind.most)
    if kind.whole and size != int(size):
        raise FaultPlanError(f"fault {name!r} takes a whole number of {kind.unit}, not {size_text!r}")
    return Fault(rate, size)


def _parse_always(name: str, value: str) -> float:
    match = _NUMBER_AND_UNIT.fullmatch(value)
    units = _MICROSECONDS if name == "jitter" else {"ppm": 1.0}
    if match is None or match[2] not in units:
        example = "200us" if name == "jitter" else "50ppm"
        raise FaultPlanError(f"fault {name!r} is a value with its unit such as {example}, not {value!r}")
    kind, scale = ALWAYS[name], units[match[2]]
    return _number(name, match[1], f"value in {match[2]}", kind.least / scale, kind.most / scale) * scale


def _number(name: str, text: str, what: str, least: float, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise FaultPlanError(f"the {what} of fault {name!r} is {least:g} to {most:g}, not {text!r}")
    return number
