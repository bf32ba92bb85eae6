"""``usedge bench``: what a decision costs, from the wire to the reading, and what learning costs."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usedge.errors import GateFailedError, InputError
from usedge_bench.commands import SUITE, BenchGroup, SuiteCommand

if TYPE_CHECKING:
    from usedge.bundle import Bundle
    from usedge_bench.suite import Suite

app = typer.Typer(cls=BenchGroup, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def _group() -> None:
    """Measure this machine, compare reports, write them as pages."""


def _say(line: str) -> None:
    sys.stderr.write(f"usedge: {line}\n")


@app.command(SUITE, cls=SuiteCommand, epilog="Example: usedge bench latency --json latency.json")
def bench(  # noqa: PLR0913, PLR0917 - its options
    suite: Annotated[str, typer.Argument(help="One of those below, or a TOML file.")] = "latency",
    bundle: Annotated[Path | None, typer.Option(help="Bundle to measure; default: the shipped one.")] = None,
    ascans: Annotated[int | None, typer.Option(min=1, help="soak: A-scans to send.")] = None,
    disconnects: Annotated[int | None, typer.Option(min=0, help="soak: times the cable is pulled.")] = None,
    runtime: Annotated[str | None, typer.Option(help="soak: classical, auto, litert or onnx.")] = None,
    board: Annotated[str | None, typer.Option(help="latency: judge by this board's budget.")] = None,
    data: Annotated[list[Path] | None, typer.Option(
        metavar="FILE", help="accuracy, variants: labelled A-scans; may be given again.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(
        metavar="DIR", help="accuracy: a checkpoint beside, such as a CNN.")] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", help="Write the whole report, every value included.")
    ] = None,
    html_out: Annotated[
        Path | None, typer.Option("--html", help="Write the report as a page with plots.")] = None,
) -> None:
    """Measure this machine: wire to reading (latency), the same from when each A-scan was due (openloop), the
    highest PRF (throughput), every variant beside its peers (variants), memory, startup, accuracy, energy,
    decoding of the wire (link), learning (training), or whether a run holds for millions of A-scans over a
    link that fails (soak).
    """
    from usedge.files import write_whole
    from usedge.resources import suite as suite_path
    from usedge_bench.budget import at_its_prf, board_asked, held_against, tell
    from usedge_bench.report import as_table
    from usedge_bench.suite import bundle_of, load_suite

    numbers = load_suite(suite_path(suite))
    bundle = bundle or bundle_of(suite_path(suite))
    _check_outputs(json_out, html_out)
    judged_by = board_asked(board, numbers)
    numbers = at_its_prf(numbers, judged_by, _say)
    asked = {"ascans": ascans, "disconnects": disconnects, "runtime": runtime}
    report = _run(_as_asked(numbers, asked), bundle, {"files": data, "checkpoint": checkpoint})
    verdict = held_against(report, judged_by) if judged_by else None
    if verdict is not None:
        report["board"] = verdict.to_dict()
    if json_out is not None:
        write_whole(json_out, (json.dumps(report) + "\n").encode())
    if html_out is not None:
        from usedge_bench.page.document import write_page

        write_page(html_out, json.loads(json.dumps(report)))
    if sys.stdout.isatty():
        typer.echo(as_table(report))
    else:
        typer.echo(json.dumps({key: value for key, value in report.items() if not key.startswith("values_")}))
    if verdict is not None:
        tell(verdict, _say)
    if report.get("failed"):
        raise GateFailedError(f"the soak failed: {'; '.join(report['failed'])}.")
    if report.get("below_floor"):
        raise GateFailedError(f"below their floor: {', '.join(report['below_floor'])}.",
                              "Is the machine busy? The floors stand in the suite.")


def _check_outputs(json_out: Path | None, html_out: Path | None) -> None:
    """Raise, before anything is measured, what would keep the report from being written."""
    for path in (json_out, html_out):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise InputError(f"{path} cannot be written: it is a folder, or its folder is not there.",
                             "Give a file in a folder that is there.")
    if html_out is not None:
        from usedge_bench.page.canvas import need_matplotlib

        need_matplotlib()


def _as_asked(numbers: Suite, asked: dict[str, Any]) -> Suite:
    from usedge_bench.suite import SoakSuite

    given = {name: value for name, value in asked.items() if value is not None}
    if given and not isinstance(numbers, SoakSuite):
        raise InputError(f"--{next(iter(given))} is of the soak suite.",
                         "Example: usedge bench soak --ascans 20000")
    return replace(numbers, **given)


def _run(numbers: Suite, bundle: Path | None, labelled: dict[str, Any]) -> dict[str, Any]:
    from usedge_bench.suite import AccuracySuite, LinkSuite, SoakSuite, TrainingSuite, VariantsSuite

    given = {name: value for name, value in labelled.items() if value}
    if "files" in given and not isinstance(numbers, (AccuracySuite, VariantsSuite)):
        raise InputError("--data is of the suites accuracy and variants.",
                         "Example: usedge bench accuracy --data water.npz")
    if "checkpoint" in given and not isinstance(numbers, AccuracySuite):
        raise InputError("--checkpoint is of the accuracy suite.",
                         "Example: usedge bench accuracy --checkpoint runs/cnn/last")
    if isinstance(numbers, LinkSuite):
        from usedge_bench.link import run_link

        return run_link(numbers, _say)
    if isinstance(numbers, TrainingSuite):
        from usedge_bench.training import run_training

        return run_training(numbers, _say)
    from usedge.bundle import read_bundle
    from usedge.resources import shipped_bundle

    opened = read_bundle(bundle or shipped_bundle())
    if isinstance(numbers, SoakSuite):
        from usedge.runtime.picker import open_model_picker
        from usedge_bench.soak import run_soak

        model = None if numbers.runtime == "classical" else open_model_picker(opened, numbers.runtime)
        return run_soak(numbers, _say, model)
    return _on_bundle(opened, numbers, given)


def _on_bundle(bundle: Bundle, numbers: Suite, given: dict[str, Any]) -> dict[str, Any]:
    """The suite of that kind: ``run_KIND`` of the module KIND; ``given`` are options of its own."""
    from usedge_bench.suite import kind_of

    kind = kind_of(numbers)
    run = getattr(importlib.import_module(f"usedge_bench.{kind}"), f"run_{kind}")
    report: dict[str, Any] = run(bundle, numbers, _say, **given)
    return report
