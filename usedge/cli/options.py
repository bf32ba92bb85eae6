"""Options that several commands share, and the extras they need."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usedge.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from usedge.bundle import Bundle

RequireSignature = Annotated[Path | None, typer.Option(
    "--require-signature", metavar="PUBKEY", help="Take only a bundle that this public key's owner signed.")]
Recipes = Annotated[list[str] | None, typer.Option(
    "--recipe", help="field, paper, mae, deblur, denoise, adapt or a TOML file; each is laid over the last.")]
Assignments = Annotated[list[str] | None, typer.Option(
    "--set", metavar="SECTION.KEY=VALUE", help="Any number of the recipe, such as model.head=pooled.")]
Ascans = Annotated[int | None, typer.Option(min=1, help="A-scans to see in all; the schedule follows this.")]
Batch = Annotated[int | None, typer.Option(min=1, help="A-scans a step and device.")]
BaseRate = Annotated[float | None, typer.Option(
    min=0.0, help="Learning rate at a batch of 256; scaled to --batch.")]
Preset = Annotated[str | None, typer.Option(help="Synthetic A-scans: field, paper or plate.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of every random choice; stored with the result.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the run; resumed where it holds one.")]
Precision = Annotated[str | None, typer.Option(help="auto, 32-true or bf16-mixed.")]
Devices = Annotated[int | None, typer.Option(min=1, help="GPUs (or CPU processes) on each node.")]
Nodes = Annotated[int | None, typer.Option(min=1, help="Machines that train together.")]
Workers = Annotated[int | None, typer.Option(min=0, help="Processes that make A-scans ahead.")]


def listed(text: str) -> list[str]:
    """The names in ``text``, which commas part, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def method_names(text: str, known: tuple[str, ...]) -> list[str]:
    """The methods listed in ``text``; raises InputError, naming the ``known`` ones, for any other or none."""
    names = listed(text)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise InputError(f"there is no method {', '.join(unknown) or repr(text)}.",
                         f"Known: {', '.join(known)}.")
    return names


def opened(bundle: Path | None, signed_by: Path | None) -> Bundle:
    """The bundle (None: the shipped one), checked for a signature by the public key ``signed_by``, if any.

    Raises InputError for what is no bundle, and where the signature does not hold.
    """
    from usedge.bundle import read_bundle
    from usedge.resources import shipped_bundle

    chosen = read_bundle(bundle or shipped_bundle())
    if signed_by is not None:
        from usedge.signature import require

        require(chosen.sealed, signed_by)
    return chosen


def need_training() -> None:
    """Raise MissingExtraError unless the packages of the extra ``train`` are installed."""
    for package in ("torch", "lightning", "safetensors"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "train")


def new_app() -> typer.Typer:
    """A Typer for one command: plain help, no shell completion options in it."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
