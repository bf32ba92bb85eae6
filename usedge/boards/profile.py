"""A board's profile, read from its TOML file in ``boards/``."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from usedge.boards.schema import FORMAT_VERSION, SECTIONS, check_content
from usedge.errors import InputError
from usedge.resources import board as board_path
from usedge.resources import names

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = "boards"
MAX_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Detect:
    """What tells the board: device-tree ``compatible`` and the beginning of ``model``, ``machine`` as
    ``uname -m`` has it (for the generic profiles), ``usb`` as VID:PID.
    """

    compatible: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    machine: tuple[str, ...] = ()
    usb: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Processor:
    """``clock_ghz`` is the highest that the maker states; ``cache_kib`` the last level's."""

    arch: str
    soc: str | None = None
    core: str | None = None
    cores: int | None = None
    clock_ghz: float | None = None
    simd: tuple[str, ...] = ()
    cache_kib: float | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """``ram_mb``: one size for each version that is sold."""

    ram_mb: tuple[float, ...] = ()
    flash_mb: float | None = None
    bandwidth_gb_s: float | None = None


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Runtimes in the order to try them in, and threads of an inference."""

    runtimes: tuple[str, ...]
    threads: int


@dataclass(frozen=True, slots=True)
class Adc:
    """Of a front end: bits of a sample, samples a second, samples of an A-scan."""

    bits: int | None = None
    fs_hz: float | None = None
    samples: int | None = None


@dataclass(frozen=True, slots=True)
class Links:
    """How A-scans come: ``kinds`` of plug, ``port`` on a host, ``protocol`` and most A-scans a second."""

    protocol: str | None = None
    kinds: tuple[str, ...] = ()
    port: str | None = None
    baud: int | None = None
    prf_hz: float | None = None


@dataclass(frozen=True, slots=True)
class Sensors:
    """Files that tell temperature (m°C), throttling and power; ``*`` stands for any name."""

    temperature: tuple[str, ...] = ()
    throttled: tuple[str, ...] = ()
    power: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may take: p99 from wire to reading, peak RSS and an installed usedge in MB of 10^6 bytes."""

    p99_ms: float
    rss_mb: float
    install_mb: float


@dataclass(frozen=True, slots=True)
class Published:
    """Multiply-accumulates a cycle and core that others measured on this core: ``what`` says of what."""

    precision: str
    macs: float
    what: str


@dataclass(frozen=True, slots=True)
class Rates:
    """Most a core can do in a cycle: multiply-accumulates, instructions, vector operations and loads.

    The last two are a lower and an upper end, where sources differ or units do not take every operation.
    """

    int8_macs: float | None = None
    fp32_macs: float | None = None
    issue_width: int | None = None
    vector_ops: tuple[float, float] | None = None
    loads: tuple[float, float] | None = None
    published: tuple[Published, ...] = ()


@dataclass(frozen=True, slots=True)
class BoardProfile:
    """What is known about a board. ``id`` is its file's name; ``sources`` names that of each fact."""

    id: str
    name: str
    kind: str
    detect: Detect
    processor: Processor
    memory: Memory
    run: RunSettings | None
    adc: Adc
    links: Links
    sensors: Sensors
    budget: Budget | None
    rates: Rates
    sources: dict[str, str]
    note: str = ""

    @property
    def is_host(self) -> bool:
        """Whether usedge runs on it, rather than listening to it."""
        return self.kind == "host"

    def to_dict(self) -> dict[str, Any]:
        """Its facts as JSON values; what is not known is left out."""
        return {"format_version": FORMAT_VERSION, **{name: value for name, value in (
            (name, _known(value)) for name, value in asdict(self).items()) if value not in (None, {}, "")}}


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _known(each) for key, each in value.items() if each not in (None, ())}
    return [_known(each) for each in value] if isinstance(value, tuple) else value


def read_board(path: Path) -> BoardProfile:
    """Read a board file; raises InputError, one line, for an unknown key (naming the nearest), an impossible
    value, a fact without a source, or no TOML.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} is larger than a board file may be ({MAX_BYTES >> 10} KiB).")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"board {path} cannot be read ({error.strerror}).", "Check the path.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"board {path} is no TOML: {error}.") from None
    check_content(f"board {path.name}", content)
    return _profile(path.stem, content)


def _profile(name: str, content: dict[str, Any]) -> BoardProfile:
    parts = {section: _tuples(content.get(section, {})) for section in SECTIONS}
    rates = parts["rates"]
    rates["published"] = tuple(Published(**each) for each in rates.get("published", ()))
    return BoardProfile(
        id=name, name=content["name"], kind=content["kind"], note=content.get("note", ""),
        detect=Detect(**parts["detect"]), processor=Processor(**parts["processor"]),
        memory=Memory(**parts["memory"]), run=RunSettings(**parts["run"]) if parts["run"] else None,
        adc=Adc(**parts["adc"]), links=Links(**parts["links"]), sensors=Sensors(**parts["sensors"]),
        budget=Budget(**parts["budget"]) if parts["budget"] else None, rates=Rates(**rates),
        sources=dict(content.get("sources", {})))


def _tuples(section: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in section.items()}


def load_board(name_or_path: str) -> BoardProfile:
    """A shipped board by its name, or one by the path of its file; raises InputError where there is none."""
    return read_board(board_path(name_or_path))


def every_board() -> list[BoardProfile]:
    """All shipped boards, hosts first."""
    found = [load_board(name) for name in names(FOLDER)]
    return sorted(found, key=lambda each: (not each.is_host, each.id))
