"""``usedge pretrain``: the masked autoencoder, on synthetic A-scans or those of a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from usedge.cli import options as o

app = o.new_app()


@app.command(epilog="Example: usedge pretrain --recipe deblur --ascans 300000 --out runs/deblur")
def pretrain(  # noqa: PLR0913, PLR0917 - its options
    recipe: o.Recipes = None,
    data: Annotated[Path | None, typer.Option(help="HDF5 file of A-scans to read instead (x).")] = None,
    patch: Annotated[int | None, typer.Option(help="Samples of a patch; divides the grid's 2048.")] = None,
    mask_ratio: Annotated[float | None, typer.Option(help="Share of patches removed.")] = None,
    blur: Annotated[str | None, typer.Option(
        help="gaussian[:SIGMA], srad, mean, median, motion or defocus; for the recipe deblur.")] = None,
    ascans: o.Ascans = None,
    batch: o.Batch = None,
    base_rate: o.BaseRate = None,
    preset: o.Preset = None,
    set_: o.Assignments = None,
    seed: o.Seed = None,
    out: o.Out = Path("runs/pretrain"),
    precision: o.Precision = None,
    devices: o.Devices = None,
    nodes: o.Nodes = None,
    workers: o.Workers = None,
) -> None:
    """Pretrain the masked autoencoder; interrupt and repeat the command to resume exactly."""
    o.need_training()
    from usedge.training.recipe import read_recipes
    from usedge.training.tasks import pretrain as train

    chosen = (read_recipes(recipe or []).changed("signal", patch=patch, blur=blur)
              .changed("model", mask_ratio=mask_ratio)
              .changed("pretrain", ascans=ascans, batch=batch, base_rate=base_rate, preset=preset, seed=seed,
                       precision=precision, devices=devices, nodes=nodes, workers=workers)
              .with_assignments(set_ or []))
    checkpoint = train(chosen.settings("pretrain"), chosen.config(), out, chosen.spec(), data)
    if not checkpoint.record:
        return  # one of several processes; the first speaks
    typer.echo(json.dumps({"checkpoint": str(out / "last"), "ascans": checkpoint.record.get("ascans")}))
