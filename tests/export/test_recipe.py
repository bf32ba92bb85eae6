"""Recipes: the shipped one is valid, and a wrong key, type or range is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from usedge import resources
from usedge.errors import InputError
from usedge_export.recipe import read_recipe

SHIPPED = resources.recipe("int8").read_text()


def written(folder: Path, old: str, new: str) -> Path:
    """A copy of the shipped recipe in which ``old`` is ``new``."""
    assert SHIPPED.count(old) == 1
    path = folder / "own.toml"
    path.write_text(SHIPPED.replace(old, new))
    return path


def test_shipped_recipes_are_valid() -> None:
    for name in resources.names("export/recipes"):
        recipe = read_recipe(resources.recipe(name))
        assert recipe.name == name
        assert recipe.golden.tolerance_patches < recipe.golden.margin_patches


FAULTS = {
    "\nagreement_min = ": ("\nagrement_min = ", r"key gate\.agrement_min is unknown.* gate\.agreement_min"),
    "low_confidence = 0.4": ("low_confidense = 0.5",
                             r"key operating\.low_confidense is unknown.*operating\.low_confidence"),
    "[speed]": ("[speeds]", r"key speeds is unknown.*one is speed"),
    "seed = 39447": ("", r"lacks the key parity\.seed"),
    "ascans = 1024": ("ascans = 1024.5", r"parity\.ascans is 1024\.5\. It must be a whole number from 16"),
    "rounds = 24": ("rounds = true", r"speed\.rounds is True"),
    "hit_rate_loss_max = 0.01": ("hit_rate_loss_max = 2", r"hit_rate_loss_max is 2\. .* number from 0 to 1"),
    "margin_patches = 0.2": ("margin_patches = nan", r"golden\.margin_patches is nan"),
    'required = ["litert-int8"]': ('required = ["litert-int4"]', r"litert-int4 is unknown.* litert-int8"),
    '"onnx-fp32", "onnx-int8"]': ('"onnx-fp32", "onnx-fp32"]', r"Name each variant once"),
    'name = "int8"': ("name = 8", r"name is 8\. It must be a text"),
    'preset = "field"': ('preset = "feild"', r"preset feild is unknown.*one is field"),
    "[gate]": ("[gate", r"is no readable TOML"),
}


@pytest.mark.parametrize("old", FAULTS)
def test_faults_are_named(tmp_path: Path, old: str) -> None:
    new, message = FAULTS[old]
    with pytest.raises(InputError, match=message) as caught:
        read_recipe(written(tmp_path, old, new))
    assert "\n" not in str(caught.value)


def test_required_must_be_among_the_variants(tmp_path: Path) -> None:
    path = written(tmp_path, '"litert-fp32", "litert-int8", ', "")
    with pytest.raises(InputError, match="required"):
        read_recipe(path)


def test_a_section_must_be_a_table(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("gate = 3\n" + SHIPPED.split("[parity]")[0])
    with pytest.raises(InputError, match=r"lacks the key|gate is no table"):
        read_recipe(path)


def test_without_int8_needs_all_that_is_left(tmp_path: Path) -> None:
    plain = read_recipe(resources.recipe("int8")).without_int8()
    assert plain.variants == plain.required == ("litert-fp32", "onnx-fp32")
    only = written(tmp_path, '["litert-fp32", "litert-int8", "onnx-fp32", "onnx-int8"]', '["litert-int8"]')
    with pytest.raises(InputError, match="no fp32 variant"):
        read_recipe(only).without_int8()
