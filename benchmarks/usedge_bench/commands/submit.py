"""``usedge bench submit``: a report as the one file that is handed in for a board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from usedge.cli.options import new_app

app = new_app()


@app.command(epilog="Example: usedge bench submit latency.json")
def submit(
    report: Annotated[Path, typer.Argument(help="Report of a suite, as --json wrote it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path(),
) -> None:
    """Write a report as the file to add to benchmarks/results/boards by a pull request.

    It holds the figures, every value, and the facts of the host; names of machines and paths are left out.
    """
    from usedge.errors import InputError
    from usedge.files import write_whole
    from usedge_bench.reports.read import read_report
    from usedge_bench.reports.submit import file_name, handed_in

    found = handed_in(read_report(report))
    if not out.is_dir():
        raise InputError(f"{out} is no folder.", "Give the folder benchmarks/results/boards of a checkout.")
    path = out / file_name(found)
    write_whole(path, (json.dumps(found, ensure_ascii=False) + "\n").encode())
    if not found.get("stable", True):
        typer.echo(f"usedge: the run was unstable: {'; '.join(found['unstable_because'])}.", err=True)
    typer.echo(f"usedge: add {path.name} to benchmarks/results/boards and open a pull request.", err=True)
    typer.echo(str(path))
