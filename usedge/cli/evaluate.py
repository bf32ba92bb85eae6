"""`usedge evaluate`: the model and the classical methods on labelled A-scan files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usedge.cli.distance import Doubt
from usedge.cli.options import RequireSignature, method_names, new_app, opened
from usedge.errors import InputError

if TYPE_CHECKING:
    from usedge.labelled import LabelledSet
    from usedge.runtime.evaluate import FileResult, PickerFactory

METHODS = ("model", "threshold", "envelope", "aic", "xcorr")
RUNTIMES = ("auto", "litert", "tflite", "onnx", "cuda", "tensorrt", "native")
EXAMPLE = "Example: usedge evaluate water.npz --methods threshold,aic"
app = new_app()


@app.command(epilog=EXAMPLE)
def evaluate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Labelled A-scans (.npz, .h5).")],
    bundle: Annotated[Path | None, typer.Option(help="Bundle of the model (default: the shipped).")] = None,
    require_signature: RequireSignature = None,
    runtime: Annotated[str, typer.Option(help=f"What runs the model: {', '.join(RUNTIMES)}.")] = "auto",
    doubt: Doubt = None,
    methods: Annotated[str, typer.Option(help="Methods to compare, with commas.")] = ",".join(METHODS),
    as_json: Annotated[bool, typer.Option("--json", help="JSON on a terminal as well.")] = False,
    predictions: Annotated[Path | None, typer.Option(help="Write every pick to this .npz.")] = None,
    plots: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to draw plots into.")] = None,
) -> None:
    """Score ToF methods on labelled A-scans: hits, bias, misses, false alarms and calibration.

    A hit is an onset within half a period of the centre frequency, after the method's median error in that
    file is taken off; where a file labels peaks, every method's onset is carried to the peak of its echo
    first. Abstentions count as misses. Over several files: their mean, and the gates of all by
    source, by samples a cycle on the model's grid and by SNR.
    """
    from usedge.cli.evaluation_plots import check_plots_folder, save_plots
    from usedge.labelled import load_labelled
    from usedge.runtime.evaluate import check_predictions_path, save_predictions

    names = method_names(methods, METHODS)
    if runtime not in RUNTIMES:
        raise InputError(f"there is no runtime {runtime!r}.", f"Known: {', '.join(RUNTIMES)}.")
    if predictions is not None:
        check_predictions_path(predictions, files)
    if plots is not None:
        check_plots_folder(plots)
    sets = [load_labelled(path) for path in files]
    results = _evaluate(sets, _factories(names, bundle, runtime, require_signature, doubt or []))
    if predictions is not None:
        save_predictions(predictions, results)
    if plots is not None:
        save_plots(plots, results)
    _say(results, as_json or not sys.stdout.isatty())


def _say(results: list[FileResult], as_json: bool) -> None:
    if as_json:
        from usedge.runtime.scorecard import report

        typer.echo(json.dumps(report(results), allow_nan=False))
    else:
        from usedge.cli.evaluation_table import print_tables

        print_tables(results)


def _factories(names: list[str], bundle: Path | None, runtime: str, signed_by: Path | None,
               doubts: list[str]) -> dict[str, PickerFactory]:
    from usedge.tof import CLASSICAL

    factories: dict[str, PickerFactory] = {}
    for name in names:
        model = name == "model"
        factories[name] = _model_factory(bundle, runtime, signed_by, doubts) if model else CLASSICAL[name]
    return factories


def _model_factory(bundle: Path | None, runtime: str, signed_by: Path | None, doubts: list[str]
                   ) -> PickerFactory:
    from usedge.runtime.doubts import Doubts
    from usedge.runtime.picker import open_model_picker

    picker = open_model_picker(opened(bundle, signed_by), runtime, doubts=Doubts.parse(doubts),
                               say=lambda text: typer.echo(f"usedge: {text}", err=True))
    return lambda _f0_hz: picker


def _evaluate(sets: list[LabelledSet], factories: dict[str, PickerFactory]) -> list[FileResult]:
    from usedge.runtime.evaluate import evaluate_file

    results = []
    with _progress(len(factories) * sum(len(labelled) for labelled in sets)) as advance:
        for labelled in sets:
            result = evaluate_file(labelled, factories, advance)
            if result.f0_estimated:
                typer.echo(f"{result.file} has no f0_hz: taken as {result.f0_hz[0] / 1e6:.3g} MHz,"
                           " from its median spectrum.", err=True)
            results.append(result)
    return results


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Gives the function to call after each of ``total`` picks; a bar on stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich import progress as rich_progress
    from rich.console import Console
    from rich.text import Text

    class Rate(rich_progress.ProgressColumn):
        def render(self, task: rich_progress.Task) -> Text:
            return Text(f"{task.speed or 0:.0f} A-scans/s")

    columns = (rich_progress.BarColumn(), rich_progress.MofNCompleteColumn(), Rate(),
               rich_progress.TimeRemainingColumn())
    with rich_progress.Progress("evaluating", *columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
