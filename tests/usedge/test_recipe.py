"""Training recipes: those that ship state and explain every number, and what is laid over them is checked."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")

from usedge import resources
from usedge.errors import InputError
from usedge.training.recipe import SECTIONS, Recipe, read_recipes

PRETEXTS = ("mae", "deblur", "denoise")
SHIPPED = ("ablation", "adapt", "deblur", "denoise", "field", "mae", "paper")


def write(folder: Path, text: str, name: str = "own.toml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def shipped(name: str) -> list[str]:
    return resources.training_recipe(name).read_text().splitlines()


# What ships


def test_these_recipes_ship() -> None:
    assert tuple(resources.names("usedge/recipes")) == SHIPPED


@pytest.mark.parametrize(("base", "pretext"), list(product(("field", "paper", "ablation"), PRETEXTS)))
def test_every_shipped_recipe_builds_whatever_its_pretext(base: str, pretext: str) -> None:
    recipe = read_recipes([base, pretext])
    spec, config = recipe.spec(), recipe.config()
    assert config.recipe == pretext
    assert (spec.blur != "none") == (pretext == "deblur")
    for section in ("pretrain", "finetune"):
        settings = recipe.settings(section)
        assert settings.steps > 100
        assert settings.warmup_ascans < settings.ascans
    assert (spec.n_samples, spec.patch) == (2048, 32)


def test_no_recipe_is_the_one_that_ships_models() -> None:
    assert read_recipes([]).sections == read_recipes(["field"]).sections
    assert read_recipes([]).names == ("field",)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_number_of_a_shipped_recipe_has_its_reason(name: str) -> None:
    bare = [line for line in shipped(name) if (value := _value(line)) and "#" not in line
            and not value.startswith('"')]
    assert bare == []


@pytest.mark.parametrize("name", ["field", "paper"])
def test_whole_recipes_give_a_reason_for_every_key(name: str) -> None:
    assert [line for line in shipped(name) if _value(line) and "#" not in line] == []


def _value(line: str) -> str:
    return line.partition("#")[0].partition("=")[2].strip()


def test_every_recipe_says_on_top_what_it_is() -> None:
    for name in SHIPPED:
        assert shipped(name)[0].startswith("# "), name


def test_the_papers_recipe_is_the_papers() -> None:
    """arXiv 2508.20622: 48,000 A-scans for 200 epochs, 9,600 labels, patch 32, three quarters removed."""
    paper = read_recipes(["paper"])
    pretraining, labels = paper.settings("pretrain"), paper.settings("finetune")
    assert (pretraining.pool, pretraining.ascans) == (48_000, 200 * 48_000)
    assert labels.pool == 9_600
    assert labels.ascans % labels.pool == 0
    assert (paper.spec().patch, paper.config().mask_ratio) == (32, 0.75)
    c = paper.config()
    assert (c.d_model, c.heads, c.d_head, c.encoder_layers, c.decoder_layers) == (128, 4, 64, 6, 2)
    assert {pretraining.preset, labels.preset} == {"paper"}


# Laying over


def test_a_recipe_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    own = write(tmp_path, "[pretrain]\nascans = 512\n[model]\nmask_ratio = 0.5\n")
    plain, changed = read_recipes([]), read_recipes([own])
    assert changed.settings("pretrain").ascans == 512
    assert changed.config().mask_ratio == 0.5
    assert changed.names == ("field", own)
    expected = {section: dict(values) for section, values in plain.sections.items()}
    expected["pretrain"]["ascans"], expected["model"]["mask_ratio"] = 512, 0.5
    assert changed.sections == expected


def test_the_last_of_several_recipes_wins(tmp_path: Path) -> None:
    a = write(tmp_path, "[pretrain]\nascans = 1000\nbatch = 8\n", "a.toml")
    b = write(tmp_path, "[pretrain]\nascans = 2000\n", "b.toml")
    for names, ascans in (([a, b], 2000), ([b, a], 1000)):
        settings = read_recipes(names).settings("pretrain")
        assert (settings.ascans, settings.batch) == (ascans, 8)


def test_a_whole_number_will_do_where_any_number_is_asked(tmp_path: Path) -> None:
    recipe = read_recipes([write(tmp_path, "[model]\nenvelope_weight = 1\n[pretrain]\nbetas = [0, 0]\n")])
    assert recipe.config().envelope_weight == 1.0
    assert recipe.settings("pretrain").betas == (0.0, 0.0)


def test_options_change_a_recipe_unless_they_were_left_out() -> None:
    plain = read_recipes([])
    changed = plain.changed("pretrain", ascans=512, batch=None, base_rate=None)
    assert changed.sections["pretrain"] == {**plain.sections["pretrain"], "ascans": 512}
    assert plain.sections["pretrain"]["ascans"] != 512


@pytest.mark.parametrize(("text", "section", "key", "value"), [
    ("pretrain.batch=64", "pretrain", "batch", 64), ("model.mask_ratio = 0.5", "model", "mask_ratio", 0.5),
    ("model.head=pooled", "model", "head", "pooled"), ('model.head="pooled"', "model", "head", "pooled"),
    ("signal.blur=gaussian:1.1", "signal", "blur", "gaussian:1.1"),
    ("model.norm_patches=false", "model", "norm_patches", False),
    ("finetune.betas=[0.8, 0.99]", "finetune", "betas", (0.8, 0.99)),
    ("finetune.probe=true", "finetune", "probe", True)])
def test_any_number_can_be_set(text: str, section: str, key: str, value: Any) -> None:
    assert read_recipes([]).with_assignments([text]).sections[section][key] == value


def test_the_last_assignment_wins() -> None:
    recipe = read_recipes([]).with_assignments(["pretrain.batch=8", "pretrain.batch=16"])
    assert recipe.settings("pretrain").batch == 16


# Refusals


@pytest.mark.parametrize(("text", "said"), [
    ("[pretrian]\nbatch = 8\n", r"section pretrian is unknown\. The nearest known one is pretrain\."),
    ("[pretrain]\nbase_rat = 1\n", r"key pretrain\.base_rat is unknown\. .* is pretrain\.base_rate\."),
    ("[model]\nmaskratio = 0.5\n", r"key model\.maskratio .* is model\.mask_ratio"),
    ("batch = 8\n", r"section batch is unknown"), ("model = 8\n", r"model is no table\. .*\[model\]"),
    ("[pretrain]\nbatch = 8.5\n", r"pretrain\.batch is 8\.5\. It must be of the type int"),
    ("[pretrain]\nbatch = true\n", r"pretrain\.batch is True\. .* type int"),
    ("[pretrain]\nbase_rate = true\n", r"pretrain\.base_rate is True\. .* type float"),
    ('[pretrain]\nbase_rate = "1e-3"\n', r"pretrain\.base_rate is '1e-3'\. .* type float"),
    ("[model]\nnorm_patches = 1\n", r"model\.norm_patches is 1\. .* type bool"),
    ("[model]\nhead = 3\n", r"model\.head is 3\. .* type str"),
    ("[pretrain]\nbetas = [0.9]\n", r"pretrain\.betas is \[0\.9\]\. .* tuple"),
    ("[pretrain]\nbetas = [0.9, 0.95, 1]\n", r"pretrain\.betas is .* tuple"),
    ('[pretrain]\nbetas = ["a", "b"]\n', r"pretrain\.betas is .* tuple"),
    ("[pretrain]\nbetas = 0.9\n", r"pretrain\.betas is 0\.9\. .* tuple"),
    ("[pretrain\n", r"own\.toml is no readable TOML .*Mend the recipe")])
def test_a_recipe_that_cannot_be_meant_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        read_recipes([write(tmp_path, text)])
    assert "own.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"odd\.toml is no readable TOML"):
        read_recipes([str(tmp_path / "odd.toml")])


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no recipe 'deblurr'.*deblur, denoise, field"):
        read_recipes(["deblurr"])
    with pytest.raises(InputError, match=r"no recipe file nowhere\.toml"):
        read_recipes(["nowhere.toml"])


@pytest.mark.parametrize("text", ["pretrain.batch", "batch=8", "=8", ""])
def test_an_assignment_has_section_key_and_value(text: str) -> None:
    with pytest.raises(InputError, match=r"is not SECTION\.KEY=VALUE\. Example: --set pretrain\.batch=128"):
        read_recipes([]).with_assignments([text])


@pytest.mark.parametrize(("text", "said"), [
    ("pretrain.bach=8", r"--set: key pretrain\.bach is unknown\. .* pretrain\.batch"),
    ("train.batch=8", r"--set: section train is unknown\. .* pretrain"),
    ("pretrain.batch=eight", r"--set: pretrain\.batch is 'eight'"), ("pretrain.batch=", r"batch is ''"),
    (".batch=8", "section  is unknown")])
def test_an_assignment_is_checked_as_a_recipe_is(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_recipes([]).with_assignments([text])


@pytest.mark.parametrize(("section", "values", "said"), [
    ("signal", {"patch": 33}, "2048 grid samples cannot be cut into patches of 33"),
    ("signal", {"blur": "fog"}, "blur 'fog' is unknown"),
    ("model", {"mask_ratio": 1.0}, r"mask ratio 1\.0"), ("model", {"head": "tail"}, "head 'tail'"),
    ("pretrain", {"preset": "sea"}, "preset 'sea'")])
def test_numbers_are_checked_when_they_are_used(section: str, values: dict[str, Any], said: str) -> None:
    recipe: Recipe = read_recipes([]).changed(section, **values)
    with pytest.raises(InputError, match=said):
        (recipe.spec(), recipe.config(), recipe.settings("pretrain"))


def test_the_sections_are_these() -> None:
    assert list(SECTIONS) == ["signal", "model", "pretrain", "finetune"]
