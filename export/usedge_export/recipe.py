"""Export recipes: TOML files that state every choice and limit, each checked by name, type and range."""

from __future__ import annotations

import math
import sys
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from usedge.errors import InputError, known_name
from usedge.synth import PRESETS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NATIVE = "native-int8"
STATIC = "int8-static"
VARIANTS = ("litert-fp32", "litert-int8", f"litert-{STATIC}",
            "onnx-fp32", "onnx-int8", f"onnx-{STATIC}", NATIVE)


def _within(low: float, high: float = math.inf) -> Any:
    return field(metadata={"low": low, "high": high})


@dataclass(frozen=True, slots=True)
class ParitySettings:
    """The seeded synthetic A-scans that variants are compared on, and the gate that turns patches into ns."""

    preset: str
    seed: int = _within(0)
    ascans: int = _within(16, 1 << 20)
    gate_us: float = _within(1e-3, 1e6)


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """The calibration set of static variants: seeded synthetic A-scans."""

    preset: str
    seed: int = _within(0)
    ascans: int = _within(16, 1 << 14)


@dataclass(frozen=True, slots=True)
class GateLimits:
    """Limits of a variant's figures (``parity.figures``); outside any of them it is refused."""

    agreement_min: float = _within(0, 1)
    no_echo_agreement_min: float = _within(0, 1)
    shift_median_ns_max: float = _within(0)
    shift_p95_ns_max: float = _within(0)
    hit_rate_loss_max: float = _within(0, 1)
    error_median_gain_ns_max: float = _within(0)


@dataclass(frozen=True, slots=True)
class SpeedSettings:
    """``rounds`` in which each variant in turn answers ``runs`` A-scans, after ``warmup`` unmeasured ones."""

    rounds: int = _within(1, 10_000)
    runs: int = _within(1, 10_000)
    warmup: int = _within(0, 10_000)


@dataclass(frozen=True, slots=True)
class GoldenSettings:
    """How many golden vectors, and how far from any decision boundary they must lie."""

    vectors: int = _within(1, 256)
    without_echo: int = _within(0, 256)
    tolerance_patches: float = _within(1e-6, 1)
    margin_patches: float = _within(0, 0.5)
    margin_log_odds: float = _within(0, 100)


@dataclass(frozen=True, slots=True)
class OperatingSettings:
    """The seeded fixed scenes, ``repeats`` times each, ``snr_db_min`` to ``snr_db_max`` over white noise,
    that the operating point is chosen on, and how. No scenes: the limit that training validated.
    ``patches`` and ``sure``: how a network that was trained on few patches looks at a gate
    (``usedge.sparse.Glance``); 0 patches: all, as any other does.
    """

    seed: int = _within(0)
    scenes: int = _within(0, 1 << 20)
    repeats: int = _within(2, 1 << 20)
    snr_db_min: float = _within(0, 60)
    snr_db_max: float = _within(0, 60)
    missed: float = _within(0, 1)
    no_echo_again: float = _within(0, 1)
    low_confidence: float = _within(0, 1)
    patches: int = _within(0, 1 << 12)
    sure: float = _within(0, 1)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole recipe. ``required`` variants must pass the gate, or nothing is written; static ones alone
    need a ``calibration`` set.
    """

    name: str
    variants: tuple[str, ...]
    required: tuple[str, ...]
    parity: ParitySettings
    gate: GateLimits
    speed: SpeedSettings
    golden: GoldenSettings
    operating: OperatingSettings
    calibration: CalibrationSettings | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields that it states as plain JSON values."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    def without_int8(self) -> Recipe:
        """The same recipe with its fp32 variants alone, all of them required."""
        kept = tuple(name for name in self.variants if name.endswith("fp32"))
        if not kept:
            raise InputError(f"recipe {self.name} has no fp32 variant.", "Leave --no-int8 away.")
        return replace(self, variants=kept, required=kept, calibration=None)

    def with_native(self) -> Recipe:
        """The same recipe with the weights for our own C code beside its variants, and required."""
        variants, required = (names if NATIVE in names else (*names, NATIVE)
                              for names in (self.variants, self.required))
        return replace(self, variants=variants, required=required)


SECTIONS: dict[str, type] = {kind.__name__: kind
                             for kind in (ParitySettings, GateLimits, SpeedSettings, GoldenSettings,
                                          OperatingSettings, CalibrationSettings)}


def runtime_and_precision(variant: str) -> tuple[str, str]:
    """ "onnx" and "int8" of "onnx-int8-static": static or not, the weights are int8."""
    runtime, precision = variant.split("-")[:2]
    return runtime, precision


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; raises InputError for bad TOML and for keys unknown, missing or out of range."""
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is no readable TOML ({reason}).", "Mend the recipe.") from None
    recipe: Recipe = _section(Recipe, values, str(path), "")
    known_name(recipe.parity.preset, PRESETS, f"{path}: preset")
    for name in (*recipe.variants, *recipe.required):
        known_name(name, VARIANTS, f"{path}: variant")
    missing = sorted(set(recipe.required) - set(recipe.variants))
    if missing or not recipe.variants or len(set(recipe.variants)) != len(recipe.variants):
        raise InputError(f"{path}: variants are {list(recipe.variants)}, required {list(recipe.required)}.",
                         "Name each variant once, and the required ones among them.")
    _check_calibration(path, recipe)
    return recipe


def _check_calibration(path: Path, recipe: Recipe) -> None:
    static = [name for name in recipe.variants if name.endswith(STATIC)]
    chosen = recipe.calibration
    if chosen is None:
        if static:
            raise InputError(f"{path} names {static[0]}, but no calibration set.",
                             "Copy [calibration] from static.toml.")
        return
    known_name(chosen.preset, PRESETS, f"{path}: preset")
    if (chosen.preset, chosen.seed) == (recipe.parity.preset, recipe.parity.seed):
        raise InputError(f"{path}: calibration.seed is {chosen.seed}, as parity.seed is.",
                         "Give another: variants are judged on A-scans that did not fix their ranges.")


def _section(kind: type, values: Any, path: str, where: str) -> Any:
    if not isinstance(values, dict):
        raise InputError(f"{path}: {where.rstrip('.')} is no table.", f"Write it as [{where.rstrip('.')}].")
    known = {each.name: each for each in fields(kind)}
    for key in values:
        known_name(key, known, f"{path}: key", where)
    missing = [where + key for key, each in known.items() if key not in values and each.default is MISSING]
    if missing:
        raise InputError(f"{path} lacks the key {missing[0]}.", "A recipe states everything; copy int8.toml.")
    return kind(**{key: _value(known[key], values[key], path, where + key) for key in known if key in values})


def _value(key: Any, value: Any, path: str, where: str) -> Any:
    section = SECTIONS.get(key.type.removesuffix(" | None"))
    if section is not None:
        return _section(section, value, path, f"{where}.")
    if key.type == "tuple[str, ...]":
        right = isinstance(value, list) and all(isinstance(item, str) for item in value)
        value = tuple(value) if right else value
    elif key.type == "float":
        right = type(value) in (int, float) and key.metadata["low"] <= value <= key.metadata["high"]
        value = float(value) if right else value
    elif key.type == "int":
        right = type(value) is int and key.metadata["low"] <= value <= key.metadata["high"]
    else:
        right = isinstance(value, str)
    if not right:
        raise InputError(f"{path}: {where} is {value!r}.", _expected(key))
    return value


def _expected(key: Any) -> str:
    if not key.metadata:
        return f"It must be {'a list of texts' if key.type.startswith('tuple') else 'a text'}."
    kind = "a whole number" if key.type == "int" else "a number"
    return f"It must be {kind} from {key.metadata['low']:g} to {key.metadata['high']:g}."
