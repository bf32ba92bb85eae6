"""Recipes: TOML files that state every number of pretraining and fine-tuning, laid over one another.

``field`` states all of it; each further recipe, shipped or a user's own, changes what it names.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from usedge import resources
from usedge.errors import InputError, known_name
from usedge.models.config import MAEConfig
from usedge.spec import SignalSpec
from usedge.training.loop import TrainSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SECTIONS: dict[str, type[Any]] = {"signal": SignalSpec, "model": MAEConfig, "pretrain": TrainSettings,
                                  "finetune": TrainSettings}
BASE = "field"
Section = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """Numbers by section: ``signal`` (SignalSpec), ``model`` (MAEConfig), ``pretrain`` and ``finetune``
    (TrainSettings). ``names`` tells what it was laid together from.
    """

    names: tuple[str, ...]
    sections: Mapping[str, Section]
    asked: frozenset[str] = frozenset()
    """Keys that were named above ``field``, by a recipe or an option."""

    def spec(self) -> SignalSpec:
        """What the model is given; raises InputError for a patch that does not divide the grid."""
        return SignalSpec(**self.sections["signal"])

    def config(self) -> MAEConfig:
        """Sizes and pretext."""
        return MAEConfig(**self.sections["model"])

    def settings(self, section: str) -> TrainSettings:
        """How to train: ``section`` is "pretrain" or "finetune"."""
        return TrainSettings(**self.sections[section])

    def changed(self, section: str, **values: Any) -> Recipe:
        """The same recipe with these numbers; None leaves a number as it is."""
        given = {key: value for key, value in values.items() if value is not None}
        sections = {**self.sections, section: {**self.sections[section], **given}}
        return Recipe(self.names, sections, self.asked | given.keys())

    def with_assignments(self, assignments: Iterable[str]) -> Recipe:
        """The same recipe with each ``SECTION.KEY=VALUE`` (TOML); raises InputError as reading does."""
        sections, asked = self.sections, set(self.asked)
        for text in assignments:
            place, equals, value = text.partition("=")
            section, dot, key = place.strip().partition(".")
            if not (equals and dot):
                raise InputError(f"--set {text!r} is not SECTION.KEY=VALUE.",
                                 "Example: --set pretrain.batch=128.")
            try:
                read = tomllib.loads(f"value = {value}")["value"]
            except tomllib.TOMLDecodeError:
                read = value.strip()
            sections = _laid_over(sections, {section: {key: read}}, "--set")
            asked.add(key)
        return Recipe(self.names, sections, frozenset(asked))


def read_recipes(names: Sequence[str]) -> Recipe:
    """The shipped recipes or TOML files ``names``, each laid over those before it, the first over ``field``.

    Raises InputError for an unknown recipe, bad TOML, and keys that are unknown or of another type.
    """
    sections: Mapping[str, Section] = {name: {} for name in SECTIONS}
    asked: set[str] = set()
    for place, name in enumerate((BASE, *names)):
        path = resources.training_recipe(name)
        try:
            values = tomllib.loads(path.read_text())
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{path} is no readable TOML ({reason}).", "Mend the recipe.") from None
        sections = _laid_over(sections, values, name)
        if place:
            asked.update(*values.values())
    return Recipe((BASE, *names), sections, frozenset(asked))


def _laid_over(below: Mapping[str, Section], above: Mapping[str, Any], name: str) -> dict[str, Section]:
    merged = {section: dict(values) for section, values in below.items()}
    for section, values in above.items():
        known_name(section, SECTIONS, f"{name}: section")
        if not isinstance(values, dict):
            raise InputError(f"{name}: {section} is no table.", f"Write it as [{section}].")
        kinds = {each.name: str(each.type) for each in fields(SECTIONS[section])}
        for key, value in values.items():
            known_name(key, kinds, f"{name}: key", f"{section}.")
            merged[section][key] = _typed(value, kinds[key], f"{name}: {section}.{key}")
    return merged


def _typed(value: Any, kind: str, where: str) -> Any:
    if kind.startswith("float") and type(value) in (int, float):
        return float(value)
    if kind.startswith("tuple") and isinstance(value, list):
        numbers = tuple(float(v) for v in value if type(v) in (int, float))
        if len(numbers) == len(value) == kind.count("float"):
            return numbers
    if type(value).__name__ == kind:
        return value
    raise InputError(f"{where} is {value!r}.", f"It must be of the type {kind}.")
