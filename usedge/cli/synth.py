"""``usedge synth``: synthetic A-scans with their truth, in an HDF5 file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from usedge.cli.options import new_app

app = new_app()


@app.command(epilog="Example: usedge synth -o field.h5 -n 1000 --seed 7")
def synth(
    out: Annotated[Path, typer.Option("--out", "-o", help="HDF5 file to write; a labelled A-scan file.")],
    n: Annotated[int, typer.Option("-n", "--ascans", min=1, help="A-scans to make.")] = 1000,
    preset: Annotated[str, typer.Option(help="field, paper or plate.")] = "field",
    samples: Annotated[int, typer.Option(help="Samples of each A-scan.")] = 2048,
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same seed gives the same file content.")] = 0,
) -> None:
    """Make seeded synthetic A-scans and write them with onset, classes, SNR and number of echoes."""
    from rich.console import Console
    from rich.progress import Progress

    from usedge.synth.files import write_synth

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("A-scans", total=n)
        write_synth(out, preset, n, samples, seed, lambda done: bar.update(task, completed=done))
    facts = {"file": str(out), "ascans": n, "preset": preset, "samples": samples, "seed": seed}
    typer.echo(json.dumps(facts))
