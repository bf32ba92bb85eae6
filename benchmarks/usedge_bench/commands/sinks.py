"""``usedge bench sinks``: every sink at once on one core, and what each adds."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from usedge.cli.options import new_app
from usedge.errors import GateFailedError, InputError

app = new_app()


@app.command(epilog="Example: usedge bench sinks --json sinks.json")
def sinks(
    suite: Annotated[str, typer.Argument(help="sinks, or a TOML file of its kind.")] = "sinks",
    seconds: Annotated[float | None, typer.Option(
        min=1.0, help="Seconds of each stretch; default: the suite's, about 9 minutes in all.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the whole report.")] = None,
) -> None:
    """Stream A-scans to `usedge run` on one core with every sink on, and account for all of them.

    A virtual transducer, a broker, a scraper and a browser share the other cores.
    """
    from usedge.files import write_whole
    from usedge.resources import suite as suite_path
    from usedge_bench.sinks import as_table, run_sinks
    from usedge_bench.suite import SinksSuite, load_suite

    numbers = load_suite(suite_path(suite))
    if not isinstance(numbers, SinksSuite):
        raise InputError(f"{suite} is a suite of another kind.", f"Try: usedge bench {suite}")
    if seconds is not None:
        numbers = replace(numbers, stretch_s=seconds, single_s=seconds)
    report = run_sinks(numbers, lambda line: typer.echo(f"usedge: {line}", err=True))
    if json_out is not None:
        write_whole(json_out, (json.dumps(report) + "\n").encode())
    typer.echo(as_table(report) if sys.stdout.isatty() else json.dumps(report))
    if report["failed"]:
        raise GateFailedError(f"the sinks failed: {'; '.join(report['failed'])}.", "Is the machine busy?")
