"""``usedge pretrain``: the masked autoencoder on synthetic A-scans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from usedge.cli import options as o

app = o.new_app()


@app.command(epilog="Example: usedge pretrain --ascans 300000 --out runs/pretrain")
def pretrain(  # noqa: PLR0913, PLR0917 - its options
    ascans: o.Ascans = 300_000,
    batch: o.Batch = 256,
    base_rate: o.BaseRate = 1.5e-3,
    mask_ratio: Annotated[float, typer.Option(min=0.05, max=0.95, help="Share of patches removed.")] = 0.75,
    raw_targets: Annotated[bool, typer.Option(help="Predict raw patches, not standardised ones.")] = False,
    preset: o.Preset = "field",
    seed: o.Seed = 0,
    out: o.Out = Path("runs/pretrain"),
    precision: o.Precision = "auto",
    devices: o.Devices = 1,
    nodes: o.Nodes = 1,
    workers: o.Workers = 1,
) -> None:
    """Pretrain the masked autoencoder; interrupt and repeat the command to resume exactly."""
    o.need_training()
    from usedge.models.mae import MAEConfig
    from usedge.training.loop import TrainSettings
    from usedge.training.tasks import pretrain as train

    settings = TrainSettings(ascans=ascans, batch=batch, base_rate=base_rate, preset=preset, seed=seed,
                             precision=precision, devices=devices, nodes=nodes, workers=workers)
    checkpoint = train(settings, MAEConfig(mask_ratio=mask_ratio, norm_patches=not raw_targets), out)
    if not checkpoint.record:
        return  # one of several processes; the first speaks
    typer.echo(json.dumps({"checkpoint": str(out / "last"), "ascans": checkpoint.record.get("ascans")}))
