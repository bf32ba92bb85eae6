"""``usedge finetune``: the encoder with its pointer head, trained to time of flight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from usedge.cli import options as o

app = o.new_app()


@app.command(epilog="Example: usedge finetune runs/pretrain/last --ascans 600000 --out runs/finetune")
def finetune(  # noqa: PLR0913, PLR0917 - its options
    start: Annotated[Path | None, typer.Argument(help="Checkpoint to start from; default: none.")] = None,
    data: Annotated[Path | None, typer.Option(help="Labelled npz or HDF5 file to train on instead.")] = None,
    ascans: o.Ascans = 600_000,
    batch: o.Batch = 128,
    base_rate: o.BaseRate = 2e-3,
    preset: o.Preset = "field",
    seed: o.Seed = 0,
    out: o.Out = Path("runs/finetune"),
    precision: o.Precision = "auto",
    devices: o.Devices = 1,
    nodes: o.Nodes = 1,
    workers: o.Workers = 1,
) -> None:
    """Fine-tune to ToF classes and "no echo"; interrupt and repeat the command to resume exactly."""
    o.need_training()
    from usedge.labelled import load_labelled
    from usedge.training.loop import TrainSettings
    from usedge.training.tasks import finetune as train

    settings = TrainSettings(ascans=ascans, batch=batch, base_rate=base_rate, preset=preset, seed=seed,
                             precision=precision, devices=devices, nodes=nodes, workers=workers)
    checkpoint = train(settings, start, load_labelled(data) if data else None, out)
    if not checkpoint.record:
        return  # one of several processes; the first speaks
    typer.echo(json.dumps({"checkpoint": str(out / "last"), "ascans": checkpoint.record.get("ascans"),
                           "scores": checkpoint.record.get("scores")}))
