"""Suites: what a benchmark does, read from TOML and checked."""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass, fields
from pathlib import Path

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

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "seed" else 1
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < least:
                raise InputError(f"suite: {field.name} = {value!r} is not a positive number.")


def load_suite(path: Path) -> LatencySuite:
    """Read a suite; raises InputError for an unknown key (naming the nearest), a missing one, or no TOML."""
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"suite {path} cannot be read: {error}.") from None
    known = [field.name for field in fields(LatencySuite)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise InputError(f"suite {path} has the unknown key {key!r}.",
                             f"Nearest known: {(near or known)[0]}.")
    missing = [name for name in known if name not in values]
    if missing:
        raise InputError(f"suite {path} lacks {', '.join(missing)}.")
    return LatencySuite(**values)
