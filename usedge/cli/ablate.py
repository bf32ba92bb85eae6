"""``usedge ablate``: the papers' ablations, one row a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from usedge.cli import options as o

app = o.new_app()


@app.command(epilog="Example: usedge ablate labels variants --budget 0.01 --seeds 3")
def ablate(
    studies: Annotated[list[str] | None, typer.Argument(help="Studies, see --list; default: all.")] = None,
    recipe: o.Recipes = None,
    budget: Annotated[float, typer.Option(
        help="Share of the paper's A-scans: 1 is 48,000 A-scans for 200 epochs.")] = 0.01,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each trial, seeds 0, 1, …")] = 3,
    table: Annotated[Path, typer.Option(help="CSV table, one row a run; what it holds is not run again.")
                     ] = Path("runs/ablate/trials.csv"),
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the pretrained checkpoints.")
                   ] = Path("runs/ablate"),
    cluster: Annotated[str | None, typer.Option(
        metavar="ADDRESS", help="Ray cluster to run on, or local; needs usedge[cluster].")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trials to run at a time on this machine.")] = 1,
    list_: Annotated[bool, typer.Option("--list", help="Name the studies and count their trials.")] = False,
) -> None:
    """Run studies of the learning system; interrupt and repeat the command to go on where it was."""
    o.need_training()
    from usedge.training.ablate import Plan, Table, in_processes, on_cluster, one_by_one, run_all
    from usedge.training.grid import STUDIES, trials
    from usedge.training.recipe import read_recipes

    wanted = trials(studies or [], seeds)
    if list_:
        for name, (about, _) in STUDIES.items():
            typer.echo(f"{name:10} {len(trials([name], seeds)):4} trials  {about}")
        return
    plan = Plan(read_recipes(["ablation", *(recipe or [])]), budget, out)
    rows = Table(table)
    run = on_cluster(cluster) if cluster else in_processes(jobs) if jobs > 1 else one_by_one
    run_all(plan, wanted, rows, run, lambda text: typer.echo(text, err=True))
    typer.echo(json.dumps({"table": str(table), "trials": len(wanted), "rows": len(rows.rows)}))
