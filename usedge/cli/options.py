"""Options that several commands share, and the extras they need."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from usedge.errors import MissingExtraError

Ascans = Annotated[int, typer.Option(min=1, help="A-scans to see in all; the schedule follows this number.")]
Batch = Annotated[int, typer.Option(min=1, help="A-scans a step and device.")]
BaseRate = Annotated[float, typer.Option(min=0.0, help="Learning rate at a batch of 256; scaled to --batch.")]
Preset = Annotated[str, typer.Option(help="Synthetic A-scans: field or paper.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random choice; stored with the result.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the run; resumed where it holds one.")]
Precision = Annotated[str, typer.Option(help="auto, 32-true or bf16-mixed.")]
Devices = Annotated[int, typer.Option(min=1, help="GPUs (or CPU processes) on each node.")]
Nodes = Annotated[int, typer.Option(min=1, help="Machines that train together.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that make A-scans ahead.")]


def need_training() -> None:
    """Raise MissingExtraError unless the packages of the extra ``train`` are installed."""
    for package in ("torch", "lightning", "safetensors"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "train")


def new_app() -> typer.Typer:
    """A Typer for one command: plain help, no shell completion options in it."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
