"""What a report may hold, told by data: a table of keys is itself the description of what it checks.

A description is one of the names in SCALARS (a question mark behind it allows null), a list of one
description (any number of those), a tuple (one: one at least; two: as many), a dict of keys (a
question mark behind a key: it may lack), Each or Maybe.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

SCALARS: dict[str, tuple[tuple[type, ...], str]] = {
    "number": ((int, float), "a number"),
    "count": ((int,), "a whole number"),
    "text": ((str,), "a text"),
    "flag": ((bool,), "true or false"),
    "scalar": ((int, float, str, bool), "a number, a text, true or false"),
    "any": ((object,), "anything"),
}


@dataclass(frozen=True, slots=True)
class Each:
    """A table whose keys are names that a run gives, ``needed`` among them: every value is as ``of`` says."""

    of: Any
    needed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Maybe:
    """As ``of`` says, or null; or, where it may be ``empty``, a table without keys."""

    of: Any
    empty: bool = False


INTERVAL = ("number", "number")
"""Low and high."""


Description: TypeAlias = Any
"""str | list | tuple | dict | Each | Maybe, as above; Python has no short type for it."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong ``at`` a place such as "stages.infer.p50_us"; ``nearest`` to an unknown key is known."""

    at: str
    what: str
    nearest: str = ""


def first_fault(value: Any, wanted: Description) -> Fault | None:
    """The first thing in ``value`` that is not as ``wanted`` says; None where all is."""
    return next(_faults(value, wanted, ""), None)


def _faults(value: Any, wanted: Description, at: str) -> Iterator[Fault]:
    if isinstance(wanted, str):
        if not _is_scalar(value, wanted):
            yield Fault(at, f"is {_short(value)}, not {SCALARS[wanted.rstrip('?')][1]}")
    elif isinstance(wanted, Maybe):
        if value is not None and not (wanted.empty and value == {}):
            yield from _faults(value, wanted.of, at)
    elif isinstance(wanted, (list, tuple)):
        yield from _list_faults(value, wanted, at)
    elif not isinstance(value, Mapping):
        yield Fault(at, f"is {_short(value)}, not a table of keys")
    elif isinstance(wanted, Each):
        yield from (Fault(_joined(at, key), "is missing") for key in wanted.needed if key not in value)
        for key, each in value.items():
            yield from _faults(each, wanted.of, _joined(at, key))
    else:
        yield from _key_faults(value, wanted, at)


def _list_faults(value: Any, wanted: list[Any] | tuple[Any, ...], at: str) -> Iterator[Fault]:
    least = len(wanted) if isinstance(wanted, tuple) else 0
    if not isinstance(value, list):
        yield Fault(at, f"is {_short(value)}, not a list")
        return
    if len(value) < least or (least > 1 and len(value) > least):
        yield Fault(at, f"has {len(value)} values, not {least}{' or more' * (least == 1)}")
    for place, each in enumerate(value):
        # Most values of a report are plain numbers in long lists, which are worth a shorter way.
        if not (wanted[0] == "number" and type(each) in (float, int)):
            yield from _faults(each, wanted[0], f"{at}[{place}]")


def _key_faults(value: Mapping[str, Any], wanted: dict[str, Description], at: str) -> Iterator[Fault]:
    known = {key.rstrip("?"): each for key, each in wanted.items()}
    for key, each in value.items():
        if key not in known:
            yield Fault(_joined(at, key), "is unknown", nearest(key, known))
        else:
            yield from _faults(each, known[key], _joined(at, key))
    for key in wanted:
        if not key.endswith("?") and key not in value:
            yield Fault(_joined(at, key), "is missing")


def nearest(key: str, known: Mapping[str, Any]) -> str:
    """The key of ``known`` that is most like ``key``."""
    return next(iter(difflib.get_close_matches(key, known, 1, 0.0)), "")


def _is_scalar(value: Any, wanted: str) -> bool:
    if value is None and wanted != "any":
        return wanted.endswith("?")
    types = SCALARS[wanted.rstrip("?")][0]
    # A bool is an int to Python, and none to a reader.
    return isinstance(value, types) and (type(value) is not bool or bool in types or object in types)


def _joined(at: str, key: str) -> str:
    shown = key if key.isprintable() and len(key) <= 60 else repr(key[:60])
    return f"{at}.{shown}" if at else shown


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a table of keys"
    return "a list" if isinstance(value, list) else repr(value)[:60]
