"""Shipped material is found by name or by path, in a checkout and in a wheel's layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from usedge import resources
from usedge.errors import InputError


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation without a checkout around it, with two recipes and no bundle."""
    shipped = tmp_path / "usedge" / "_shipped"
    (shipped / "export" / "recipes").mkdir(parents=True)
    for name in ("int8", "fast"):
        (shipped / "export" / "recipes" / f"{name}.toml").write_text("")
    monkeypatch.setattr(resources, "SHIPPED", shipped)
    monkeypatch.setattr(resources, "CHECKOUT", tmp_path)
    return shipped


def test_recipes_of_the_checkout_are_found() -> None:
    assert "int8" in resources.names("export/recipes")
    assert resources.recipe("int8").is_file()


def test_a_wheel_is_searched_as_well(wheel: Path) -> None:
    assert resources.names("export/recipes") == ["fast", "int8"]
    assert resources.recipe("fast") == wheel / "export" / "recipes" / "fast.toml"


def test_unknown_names_list_the_known_ones(wheel: Path) -> None:
    with pytest.raises(InputError, match=r"no recipe 'int4'\. Known: fast, int8\."):
        resources.recipe("int4")
    with pytest.raises(InputError, match="has no boards"):
        resources.board("pi5")


def test_paths_are_taken_as_they_are(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text("")
    assert resources.suite(str(own)) == own
    with pytest.raises(InputError, match="there is no recipe file"):
        resources.recipe(str(tmp_path / "missing.toml"))


def test_bundle_is_found_where_it_ships(wheel: Path) -> None:
    with pytest.raises(InputError, match="no shipped bundle"):
        resources.shipped_bundle()
    (wheel / resources.BUNDLE).write_bytes(b"x")
    assert resources.shipped_bundle() == wheel / resources.BUNDLE
