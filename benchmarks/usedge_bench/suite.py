"""Suites: what a benchmark does, read from TOML and checked."""

from __future__ import annotations

import difflib
import math
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

    rounds: int
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


@dataclass(frozen=True, slots=True)
class OpenLoopSuite:
    """Numbers of the open loop; ``benchmarks/suites/openloop.toml`` gives the reason for each."""

    prfs_hz: tuple[float, ...]
    rounds: int
    stretch_s: float
    warmup: int
    grace_s: float
    samples: int
    seed: int


@dataclass(frozen=True, slots=True)
class ThroughputSuite:
    """Numbers of the throughput suite; ``benchmarks/suites/throughput.toml`` gives the reason for each."""

    first_prf_hz: float
    most_prf_hz: float
    resolution: float
    trial_s: float
    tries: int
    grace_s: float
    samples: int
    seed: int


@dataclass(frozen=True, slots=True)
class MemorySuite:
    """Numbers of the memory suite; ``benchmarks/suites/memory.toml`` gives the reason for each."""

    ascans: int
    prf_hz: float
    points: int
    traced_ascans: int
    traced_warmup: int
    traced_prf_hz: float
    samples: int
    seed: int


@dataclass(frozen=True, slots=True)
class StartupSuite:
    """Numbers of the start-up suite; ``benchmarks/suites/startup.toml`` gives the reason for each."""

    rounds: int
    prf_hz: float
    samples: int
    seed: int


@dataclass(frozen=True, slots=True)
class AccuracySuite:
    """Numbers of the accuracy suite; ``benchmarks/suites/accuracy.toml`` gives the reason for each."""

    preset: str
    ascans: int
    samples: int
    seed: int


@dataclass(frozen=True, slots=True)
class EnergySuite:
    """Numbers of the energy suite; ``benchmarks/suites/energy.toml`` gives the reason for each."""

    rounds: int
    rest_s: float
    stretch_s: float
    settle_s: float
    prf_hz: float
    sampling_hz: float
    samples: int
    seed: int


@dataclass(frozen=True, slots=True)
class SinksSuite:
    """Numbers of the sinks suite; ``benchmarks/suites/sinks.toml`` gives the reason for each."""

    prfs_hz: tuple[float, ...]
    samples: tuple[float, ...]
    stretch_s: float
    single_s: float
    settle_s: float
    web_cores: float
    seed: int


@dataclass(frozen=True, slots=True)
class VariantsSuite:
    """Numbers of the variants suite; ``benchmarks/suites/variants.toml`` gives the reason for each."""

    rounds: int
    block: int
    gates: int
    warmup: int
    ascans: int
    samples: int
    starts: int
    seed: int


Suite = (LatencySuite | LinkSuite | TrainingSuite | SoakSuite | OpenLoopSuite | ThroughputSuite | MemorySuite
         | StartupSuite | AccuracySuite | EnergySuite | SinksSuite | VariantsSuite)
KINDS: dict[str, type[Suite]] = {
    "latency": LatencySuite, "link": LinkSuite, "training": TrainingSuite, "soak": SoakSuite,
    "openloop": OpenLoopSuite, "throughput": ThroughputSuite, "memory": MemorySuite, "startup": StartupSuite,
    "accuracy": AccuracySuite, "energy": EnergySuite,
    "sinks": SinksSuite, "variants": VariantsSuite,
}
MAY_BE_ZERO = ("seed", "disconnects", "outage_s", "rss_limit_mb", "floor_4096", "floor_64", "floor_rice",
               "floor_pretraining", "grace_s", "settle_s")


def load_suite(path: Path) -> Suite:
    """Read a suite; raises InputError for an unknown key (naming the nearest), a missing one, or no TOML."""
    values = _read(path)
    values.pop("bundle", None)  # bundle_of tells it
    kind = values.pop("kind", "latency")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"suite {path} is of the unknown kind {kind!r}.", f"Known: {', '.join(KINDS)}.")
    known = [field.name for field in fields(KINDS[kind])]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise InputError(f"suite {path} has the unknown key {key!r}.",
                             f"Nearest known: {(near or known)[0]}.")
    missing = [name for name in known if name not in values]
    if missing:
        raise InputError(f"suite {path} lacks {', '.join(missing)}.",
                         f"The shipped suite has every key with its reason: benchmarks/suites/{kind}.toml")
    for field in fields(KINDS[kind]):
        _check(field.name, values[field.name], str(field.type))
    numbers: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each
                               for key, each in values.items()}
    return KINDS[kind](**numbers)


def bundle_of(path: Path) -> Path | None:
    """The bundle that a suite names, from the folder that the suite lies in; None where it names none.

    Raises InputError where there is no such file.
    """
    name = _read(path).get("bundle")
    if name is None:
        return None
    bundle = path.parent / name if isinstance(name, str) else path.parent
    if not bundle.is_file():
        raise InputError(f"suite {path} names the bundle {name!r}, and there is no file {bundle}.",
                         "Correct it, or leave it out and give one with --bundle FILE.")
    return bundle


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"suite {path} cannot be read: {error}.") from None


def kind_of(suite: Suite) -> str:
    """The name of a suite's kind."""
    return next(kind for kind, cls in KINDS.items() if isinstance(suite, cls))


def settings(suite: Suite) -> dict[str, Any]:
    """A suite's numbers, as its report holds them."""
    return {name: getattr(suite, name) for name in suite.__slots__}


def _check(key: str, value: Any, kind: str) -> None:
    if kind == "str":
        if not isinstance(value, str):
            raise InputError(f"suite: {key} = {value!r} is not a name.")
        return
    if kind.startswith("tuple"):
        if not isinstance(value, list) or not value:
            raise InputError(f"suite: {key} = {value!r} is not a list of numbers.")
        for each in value:
            _check(key, each, "float")
        return
    number = isinstance(value, int if kind == "int" else (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0 or (value == 0 and key not in MAY_BE_ZERO):
        raise InputError(f"suite: {key} = {value!r} is not a positive{' whole' * (kind == 'int')} number.")
