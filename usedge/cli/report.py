"""``usedge report``: what a table of trials shows, as a page with plots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from usedge.cli import options as o
from usedge.errors import InputError

app = o.new_app()


@app.command(epilog="Example: usedge report runs/ablate/trials.csv --out docs/results")
def report(
    table: Annotated[Path, typer.Argument(help="CSV table of usedge ablate.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of report.md and its plots.")
                   ] = Path("runs/report"),
    budget: Annotated[float | None, typer.Option(
        help="Show the trials of this budget; default: for each study the one with the most rows.")] = None,
    pretrained: Annotated[Path | None, typer.Option(
        metavar="FOLDER", help="Checkpoint of usedge pretrain: adds reconstructions and attention.")] = None,
    ascans: Annotated[list[Path] | None, typer.Option(
        metavar="FILE", help="Labelled npz or HDF5 file to reconstruct as well; repeatable. Of its A-scans"
                             " a picture alone is written.")] = None,
) -> None:
    """Write report.md and its plots: every study with its spread over seeds, beside what the papers say."""
    o.need_training()
    from usedge.training.report import write_report

    if ascans and pretrained is None:
        raise InputError("--ascans needs a model to reconstruct them.", "Give --pretrained FOLDER too.")
    written = write_report(table, out, budget, pretrained, ascans or [])
    typer.echo(json.dumps({"report": str(written.path), "figures": [str(path) for path in written.figures],
                           "claims": written.claims}))
