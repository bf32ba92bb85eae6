"""Reading a stored report: refused with one line unless it is what its suite and version say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from usedge import __version__
from usedge.errors import InputError
from usedge_bench.reports.keys import Fault, first_fault, nearest
from usedge_bench.reports.shapes import SHAPES

Report = dict[str, Any]
MAX_BYTES = 256 << 20
"""More than the longest suite writes; a file that is larger is none of ours."""


def read_report(path: Path) -> Report:
    """The report in ``path``; raises InputError naming what is wrong with it, and the next step."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has over {MAX_BYTES >> 20} MB and is no report.", "Check the file.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).", "Check the path.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not a text file.", "Give a report of `usedge bench --json`.") from None
    return checked(parsed(text, str(path)), str(path))


def parsed(text: str, name: str) -> Any:
    """The JSON in ``text``; raises InputError where it is none, telling a cut-off file from another one."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and error.pos >= len(text.rstrip()) - 1 and text.strip():
            raise InputError(f"{name} ends in the middle (line {error.lineno}): it was cut off.",
                             "Copy it again, or run the suite again.") from None
        raise InputError(f"{name} is not JSON: {str(error)[:100]}.",
                         "Give a report of `usedge bench --json`.") from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def checked(report: Any, name: str) -> Report:
    """``report`` itself; raises InputError, naming ``name``, unless it is as its suite and version say."""
    if not isinstance(report, Mapping) or "suite" not in report or "format_version" not in report:
        raise InputError(f"{name} is no report of a suite: it names no suite and format_version.",
                         "Give a report of `usedge bench --json`.")
    suite = report["suite"]
    if not isinstance(suite, str) or suite not in SHAPES:
        raise InputError(f"{name} is of the unknown suite {suite!r}, nearest known:"
                         f" {nearest(str(suite), SHAPES)}.", _update(report))
    shape, version = SHAPES[suite], report["format_version"]
    if type(version) is not int or not 1 <= version <= shape.version:
        raise InputError(f"{name} has format version {version!r:.20}; this usedge reads {suite} up to version"
                         f" {shape.version}.", "Update usedge, or run the suite again.")
    fault = first_fault(report, shape.keys)
    if fault is None and (place := shape.unmatched(dict(report))):
        fault = Fault(place, "is missing")
    if fault is not None:
        near = f", nearest known: {fault.nearest}" if fault.nearest else ""
        raise InputError(f"{name}: {fault.at} {fault.what}{near}.", _update(report))
    return dict(report)


def _update(report: Mapping[str, Any]) -> str:
    written = report.get("version")
    if isinstance(written, str) and written != __version__:
        return f"It was written by usedge {written:.20}; this is {__version__}: update the older one."
    return "Correct it, or run the suite again."


def host_class(report: Report) -> str:
    """What machines must share for their microseconds to be held against one another."""
    host = report["host"]
    return f"{host['cpu']}, {host['cores']} cores, {host['machine']}"
