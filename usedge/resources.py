"""Material that ships with usedge, found in the checkout or in an installed wheel alike.

A wheel holds it under ``usedge/_shipped``; a checkout holds the folders at its root, and the bundle alone in
``usedge/_shipped``.
"""

from __future__ import annotations

from pathlib import Path

from usedge.errors import InputError

_PACKAGE = Path(__file__).resolve().parent
SHIPPED = _PACKAGE / "_shipped"
CHECKOUT = _PACKAGE.parent
BUNDLE = "field.usedge"


def folder(relative: str) -> Path:
    """A shipped folder such as "export/recipes"; raises InputError where this installation has none."""
    # The package's own material lies beside its code, in a checkout and in an installed wheel alike.
    for root in (SHIPPED, CHECKOUT):
        if (root / relative).is_dir():
            return root / relative
    raise InputError(f"this installation of usedge has no {relative}.", "Install usedge again.")


def names(relative: str) -> list[str]:
    """Names, without the ending, of the TOML files in a shipped folder."""
    return sorted(path.stem for path in folder(relative).glob("*.toml"))


def recipe(name_or_path: str) -> Path:
    """An export recipe by its name, or by the path of a TOML file; raises InputError where there is none."""
    return _find("recipe", "export/recipes", name_or_path)


def training_recipe(name_or_path: str) -> Path:
    """A training recipe by its name, or by the path of a TOML file; raises InputError where there is none."""
    return _find("recipe", "usedge/recipes", name_or_path)


def suite(name_or_path: str) -> Path:
    """A benchmark suite by its name, or by the path of a TOML file; raises InputError where there is none."""
    return _find("suite", "benchmarks/suites", name_or_path)


def board(name_or_path: str) -> Path:
    """A board profile by its name, or by the path of a TOML file; raises InputError where there is none."""
    return _find("board", "boards", name_or_path)


def shipped_bundle() -> Path:
    """The bundle that usedge runs when none is given; raises InputError where this installation lacks it."""
    path = SHIPPED / BUNDLE
    if not path.is_file():
        raise InputError("this installation of usedge has no shipped bundle.", "Give one with --bundle FILE.")
    return path


def _find(kind: str, relative: str, name_or_path: str) -> Path:
    if name_or_path.endswith(".toml") or "/" in name_or_path:
        if not Path(name_or_path).is_file():
            raise InputError(f"there is no {kind} file {name_or_path}.", "Check the path.")
        return Path(name_or_path)
    known = names(relative)
    if name_or_path not in known:
        raise InputError(f"there is no {kind} {name_or_path!r}.", f"Known: {', '.join(known) or 'none'}.")
    return folder(relative) / f"{name_or_path}.toml"
