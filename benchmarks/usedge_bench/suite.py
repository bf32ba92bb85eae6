"""Suites: what a benchmark does, read from TOML and checked."""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from usedge.errors import InputError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class LatencySuite:
    """Numbers of the latency suite; ``benchmarks/suites/latency.toml`` gives the reason for each."""

    ascans: int
    warmup: int
    prf_hz: float
    idle_prf_hz: float
    idle_ascans: int
    samples: int
    burst: int
    peer_rounds: int
    peer_block: int
    cold_starts: int
    seed: int


@dataclass(frozen=True, slots=True)
class LinkSuite:
    """Numbers of the link suite; ``benchmarks/suites/link.toml`` gives the reason for each."""

    samples: int
    ascans: int
    rounds: int
    seed: int
    floor_4096: float
    floor_64: float
    floor_rice: float


@dataclass(frozen=True, slots=True)
class TrainingSuite:
    """Numbers of the training suite; ``benchmarks/suites/training.toml`` gives the reason for each."""

    recipe: str
    rounds: int
    warmup: int
    data_ascans: int
    file_ascans: int
    seed: int
    floor_pretraining: float


@dataclass(frozen=True, slots=True)
class SoakSuite:
    """Numbers of the soak suite; ``benchmarks/suites/soak.toml`` gives the reason for each."""

    ascans: int
    disconnects: int
    prf_hz: float
    samples: int
    runtime: str
    method: str
    outage_s: float
    patience_s: float
    faults: str
    rss_limit_mb: float
    seed: int


Suite = LatencySuite | LinkSuite | TrainingSuite | SoakSuite
KINDS: dict[str, type[Suite]] = {"latency": LatencySuite, "link": LinkSuite, "training": TrainingSuite,
                                 "soak": SoakSuite}
MAY_BE_ZERO = ("seed", "disconnects", "outage_s", "rss_limit_mb", "floor_4096", "floor_64", "floor_rice",
               "floor_pretraining")


def load_suite(path: Path) -> Suite:
    """Read a suite; raises InputError for an unknown key (naming the nearest), a missing one, or no TOML."""
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"suite {path} cannot be read: {error}.") from None
    kind = values.pop("kind", "latency")
    if kind not in KINDS:
        raise InputError(f"suite {path} is of the unknown kind {kind!r}.", f"Known: {', '.join(KINDS)}.")
    known = [field.name for field in fields(KINDS[kind])]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise InputError(f"suite {path} has the unknown key {key!r}.",
                             f"Nearest known: {(near or known)[0]}.")
    missing = [name for name in known if name not in values]
    if missing:
        raise InputError(f"suite {path} lacks {', '.join(missing)}.")
    for field in fields(KINDS[kind]):
        _check(field.name, values[field.name], str(field.type))
    return KINDS[kind](**values)


def _check(key: str, value: Any, kind: str) -> None:
    if kind == "str":
        if not isinstance(value, str):
            raise InputError(f"suite: {key} = {value!r} is not a name.")
        return
    least = 0 if key in MAY_BE_ZERO else 1
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < least:
        raise InputError(f"suite: {key} = {value!r} is not a positive number.")
