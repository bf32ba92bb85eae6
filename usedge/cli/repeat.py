"""``usedge repeat``: how far each method's answers scatter over repeats of a fixed scene."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usedge.cli.options import method_names, new_app
from usedge.errors import InputError

if TYPE_CHECKING:
    from usedge.runtime.repeat import Repeats
    from usedge.tof import Picker

METHODS = ("model", "threshold", "envelope", "aic", "xcorr", "differential")
LEAST_REPEATS = 3
COLUMNS = {"answers": "answers", "median_ns": "median", "std_ns": "std", "robust_std_ns": "robust std",
           "own_std_ns": "own std"}
"""Headings of the table; all but the first in ns."""

app = new_app()


@app.command(epilog="Example: usedge repeat still.npz --gate 20:40 --methods envelope,differential")
def repeat(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="A-scans of one scene (npz, HDF5).")],
    gate: Annotated[str | None, typer.Option(help="START:WIDTH, µs after main bang; default: all.")] = None,
    methods: Annotated[str, typer.Option(help="Methods to compare, with commas.")] = ",".join(METHODS),
    f0_mhz: Annotated[float | None, typer.Option(help="Centre frequency; default: estimated.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle of the model (default: the shipped).")] = None,
    runtime: Annotated[str, typer.Option(help="What runs the model, as of `usedge run`.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="JSON on a terminal as well.")] = False,
) -> None:
    """Tell the standard deviation of the ToF over repeats of a scene in which nothing moves.

    "own std" is what a method adds itself: the differential mode's answer, which holds the trigger's jitter
    and the scene's drift, is taken off each A-scan.
    """
    from usedge.ascan import cut_gate
    from usedge.runtime.repeat import DIFFERENTIAL, repeats, report
    from usedge.sources.files import read_ascans
    from usedge.spec import Gate

    names = method_names(methods, METHODS)
    if f0_mhz is not None and not 0 < f0_mhz < float("inf"):
        raise InputError(f"centre frequency {f0_mhz} MHz is not positive.", "Example: --f0-mhz 2.25")
    f0_hz = f0_mhz * 1e6 if f0_mhz else None
    window = Gate.parse(gate) if gate else None
    pickers = {name: _picker(name, f0_hz, bundle, runtime) for name in names if name != DIFFERENTIAL}
    results = []
    for path in files:
        gated = [cut_gate(ascan, window) for ascan in read_ascans(path)[0]]
        if len(gated) < LEAST_REPEATS:
            raise InputError(f"{path} holds {len(gated)} A-scans.", f"Record at least {LEAST_REPEATS}.")
        try:
            results.append(repeats(str(path), gated, pickers, f0_hz, DIFFERENTIAL in names))
        except InputError as error:
            raise InputError(f"{path}: {error.what}", error.next_step) from error
    if as_json or not sys.stdout.isatty():
        typer.echo(json.dumps(report(results), allow_nan=False))
    else:
        _print_tables(results)


def _picker(name: str, f0_hz: float | None, bundle: Path | None, runtime: str) -> Picker:
    if name != "model":
        from usedge.tof import classical_picker

        return classical_picker(name, f0_hz)
    from usedge.runtime.picker import load_model_picker

    return load_model_picker(bundle, runtime)


def _print_tables(results: list[Repeats]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for result in results:
        figures = result.to_dict()
        console.print(f"{figures['file']}: {figures['n']} A-scans", soft_wrap=True, markup=False,
                      highlight=False)
        table = Table(box=SIMPLE_HEAD, caption="in ns; differential: to the first A-scan")
        table.add_column("method")
        for heading in COLUMNS.values():
            table.add_column(heading, justify="right")
        for name, values in figures["methods"].items():
            table.add_row(name, *(_cell(values[key]) for key in COLUMNS))
        console.print(table)


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.2f}"
