"""``usedge bench``: what a decision costs, from the wire to the reading."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from usedge.cli.options import new_app

app = new_app()


def _say(line: str) -> None:
    sys.stderr.write(f"usedge: {line}\n")


@app.command(epilog="Example: usedge bench latency --json latency.json")
def bench(
    suite: Annotated[str, typer.Argument(help="latency, or the path of a suite's TOML file.")] = "latency",
    bundle: Annotated[Path | None, typer.Option(help="Bundle to measure; default: the shipped one.")] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the whole report, every value included.")
    ] = None,
) -> None:
    """Measure latency by stage, throughput, peers, memory and cold start on this machine."""
    from usedge.bundle import read_bundle
    from usedge.files import write_whole
    from usedge.resources import shipped_bundle
    from usedge.resources import suite as suite_path
    from usedge_bench.latency import run_latency
    from usedge_bench.report import as_table
    from usedge_bench.suite import load_suite

    numbers = load_suite(suite_path(suite))
    report = run_latency(read_bundle(bundle or shipped_bundle()), numbers, _say)
    if json_out is not None:
        write_whole(json_out, (json.dumps(report) + "\n").encode())
    if sys.stdout.isatty():
        typer.echo(as_table(report))
    else:
        typer.echo(json.dumps({key: value for key, value in report.items() if key != "values_us"}))
