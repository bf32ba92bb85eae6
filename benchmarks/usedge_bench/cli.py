"""``usedge bench``: what a decision costs, from the wire to the reading, and what learning costs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usedge.cli.options import new_app
from usedge.errors import GateFailedError

if TYPE_CHECKING:
    from usedge_bench.suite import Suite

app = new_app()


def _say(line: str) -> None:
    sys.stderr.write(f"usedge: {line}\n")


@app.command(epilog="Example: usedge bench latency --json latency.json")
def bench(
    suite: Annotated[str, typer.Argument(help="latency, link, training, or a TOML file.")] = "latency",
    bundle: Annotated[Path | None, typer.Option(help="Bundle to measure; default: the shipped one.")] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the whole report, every value included.")
    ] = None,
) -> None:
    """Measure this machine: wire to reading (latency), decoding of the wire (link) or learning (training)."""
    from usedge.files import write_whole
    from usedge.resources import suite as suite_path
    from usedge_bench.report import as_table
    from usedge_bench.suite import load_suite

    report = _run(load_suite(suite_path(suite)), bundle)
    if json_out is not None:
        write_whole(json_out, (json.dumps(report) + "\n").encode())
    if sys.stdout.isatty():
        typer.echo(as_table(report))
    else:
        typer.echo(json.dumps({key: value for key, value in report.items() if not key.startswith("values_")}))
    if report.get("below_floor"):
        raise GateFailedError(f"below their floor: {', '.join(report['below_floor'])}.",
                              "Is the machine busy? The floors stand in the suite.")


def _run(numbers: Suite, bundle: Path | None) -> dict[str, Any]:
    from usedge_bench.suite import LinkSuite, TrainingSuite

    if isinstance(numbers, LinkSuite):
        from usedge_bench.link import run_link

        return run_link(numbers, _say)
    if isinstance(numbers, TrainingSuite):
        from usedge_bench.training import run_training

        return run_training(numbers, _say)
    from usedge.bundle import read_bundle
    from usedge.resources import shipped_bundle
    from usedge_bench.latency import run_latency

    return run_latency(read_bundle(bundle or shipped_bundle()), numbers, _say)
