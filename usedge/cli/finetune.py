"""``usedge finetune``: an encoder with a head, trained to time of flight, or to echo and defect presence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usedge.cli import options as o

if TYPE_CHECKING:
    from usedge.training.loop import TrainSettings
    from usedge.training.tasks import Downstream

app = o.new_app()


@app.command(epilog="Example: usedge finetune runs/pretrain/last --ascans 600000 --out runs/finetune")
def finetune(  # noqa: PLR0913, PLR0917 - its options
    start: Annotated[Path | None, typer.Argument(
        help="Checkpoint or bundle to start from; default: none, with --data the shipped one.")] = None,
    recipe: o.Recipes = None,
    data: Annotated[Path | None, typer.Option(help="Labelled npz or HDF5 file of one board.")] = None,
    from_scratch: Annotated[bool, typer.Option(
        "--from-scratch", help="With --data: start from no checkpoint.")] = False,
    task: Annotated[str, typer.Option(help="tof, or presence (no echo, sound, defect).")] = "tof",
    head: Annotated[str | None, typer.Option(help="pointer, or pooled (the paper's classifier).")] = None,
    backbone: Annotated[str | None, typer.Option(help="transformer, or cnn (the baseline).")] = None,
    probe: Annotated[bool | None, typer.Option("--probe", help="Train the head alone.")] = None,
    labels: Annotated[int | None, typer.Option(
        min=0, help="Distinct A-scans, seen again every epoch; 0: always new ones.")] = None,
    layer_decay: Annotated[float | None, typer.Option(help="Factor on the rate per layer downwards.")] = None,
    ascans: o.Ascans = None,
    batch: o.Batch = None,
    base_rate: o.BaseRate = None,
    preset: o.Preset = None,
    set_: o.Assignments = None,
    seed: o.Seed = None,
    out: o.Out = Path("runs/finetune"),
    precision: o.Precision = None,
    devices: o.Devices = None,
    nodes: o.Nodes = None,
    workers: o.Workers = None,
) -> None:
    """Fine-tune to ToF classes and "no echo"; interrupt and repeat the command to resume exactly.

    A checkpoint brings its own sizes and blur; a recipe or an option that asks for others is refused.

    A finished ToF checkpoint (default: the shipped one) is adapted to the board of --data by the recipe
    "adapt": a few A-scans are enough, mixed with synthetic ones, and a before/after table tells what it gave;
    status 1 where it became worse.
    """
    o.need_training()
    from usedge.labelled import load_labelled
    from usedge.resources import shipped_bundle
    from usedge.training.recipe import read_recipes
    from usedge.training.tasks import Downstream
    from usedge.training.tasks import finetune as train

    if task == "presence" and preset is None:
        preset = "plate"
    if data is not None and start is None and task == "tof" and not from_scratch:
        start = shipped_bundle()
    few = data is not None and start is not None and _finished(start)
    chosen = (read_recipes([*(["adapt"] if few else []), *(recipe or [])])
              .changed("model", head=head, backbone=backbone)
              .changed("finetune", ascans=ascans, batch=batch, base_rate=base_rate, preset=preset, seed=seed,
                       pool=labels, layer_decay=layer_decay, probe=probe, precision=precision,
                       devices=devices, nodes=nodes, workers=workers)
              .with_assignments(set_ or []))
    what = Downstream(task, start, chosen.config(), chosen.spec(), load_labelled(data) if data else None,
                      asked=chosen.asked)
    if few and chosen.settings("finetune").rehearsal:
        _adapt(chosen.settings("finetune"), what, out)
        return
    checkpoint = train(chosen.settings("finetune"), what, out)
    if not checkpoint.record:
        return  # one of several processes; the first speaks
    typer.echo(json.dumps({"checkpoint": str(out / "last"), "ascans": checkpoint.record.get("ascans"),
                           "scores": checkpoint.record.get("scores")}))


def _finished(start: Path) -> bool:
    from usedge.models.checkpoint import load_checkpoint

    return load_checkpoint(start).kind == "tof"


def _adapt(settings: TrainSettings, what: Downstream, out: Path) -> None:
    from usedge.cli.adaptation import adapted, tell

    tell(adapted(settings, what, out))
