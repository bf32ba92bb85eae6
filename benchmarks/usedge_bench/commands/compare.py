"""``usedge bench compare``: two stored reports, figure by figure."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usedge.cli.options import new_app

if TYPE_CHECKING:
    from usedge_bench.reports.compare import Comparison, Line

app = new_app()


@app.command(epilog="Example: usedge bench compare before.json after.json")
def compare(
    a: Annotated[Path, typer.Argument(help="Report of the earlier run.")],
    b: Annotated[Path, typer.Argument(help="Report of the later run, of the same suite.")],
    margin: Annotated[float, typer.Option(
        min=0.0, max=1.0, help="A change of less is called none, as a part of A.")] = 0.02,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
) -> None:
    """Say of every figure of B whether it is better than A's, worse, or no different within its uncertainty.

    Ratios to a peer in the same run come first; microseconds decide between runs of one host class alone.
    """
    from usedge_bench.reports.compare import compare as held_against
    from usedge_bench.reports.read import read_report

    found = held_against(read_report(a), read_report(b), seed, margin)
    if sys.stdout.isatty():
        typer.echo(as_text(found))
    else:
        typer.echo(json.dumps({"a": str(a), "b": str(b), **found.as_dict()}, ensure_ascii=False))


def as_text(found: Comparison) -> str:
    """The comparison as a Markdown table whose columns stand under one another, with its notes."""
    head = ["figure", "A", "B", "change", "95 % interval", "verdict"]
    rows = [_cells(line) for line in found.lines]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [_row(head, widths), _row(["-" * width for width in widths], widths)]
    lines += [_row(row, widths) for row in rows]
    counts = ", ".join(f"{found.count(word)} {word}" for word in ("better", "worse", "no difference",
                                                                  "undecided"))
    return "\n".join([*lines, "", f"{found.suite}: {counts}.", *(f"note: {note}" for note in found.notes)])


def _cells(line: Line) -> list[str]:
    unit = f" {line.unit}" if line.unit else ""
    interval = "–" if line.low is None or line.high is None else f"{line.low:+.1%} to {line.high:+.1%}"
    return [line.name, _number(line.a) + unit, _number(line.b) + unit,
            "–" if line.change is None else f"{line.change:+.1%}", interval,
            f"{line.verdict} ({line.why})" if line.why else line.verdict]


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _row(cells: list[str], widths: list[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
