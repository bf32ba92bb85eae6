"""What `usedge evaluate` shows on a terminal: tables of at most about 100 columns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from usedge.runtime.scorecard import report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usedge.runtime.evaluate import FileResult

COLUMNS = {
    "hit_half_period": "hit ½T",
    "hit_one_period": "hit 1T",
    "raw_hit_half_period": "raw ½T",
    "bias_ns": "bias",
    "median_abs_ns": "median",
    "p95_abs_ns": "p95",
    "miss_rate": "miss",
    "false_alarm_rate": "false",
    "ece": "ECE",
}
"""Headings of the full table; hits, rates and ECE in %, errors in ns, T the centre frequency's period."""
BRIEF = ("hit_half_period", "hit_one_period", "false_alarm_rate")
BRIEF_CAPTION = "% within ½T / within 1T / false alarms"
GROUPS = {"source": "source", "samples_a_cycle": "samples a cycle", "snr_db": "SNR, dB"}


def print_tables(results: Sequence[FileResult]) -> None:
    """One file: all its figures; several: a line each, their means, their sources. Then bands and rungs."""
    console = Console()
    scores = report(results)
    for file in scores["files"] if len(results) == 1 else []:
        _say(console, f"{file['file']}: {file['n_echo']} echo gates, {file['n_empty']} empty")
        console.print(_full(file["methods"]))
    if len(results) > 1:
        rows = [{"name": Path(file["file"]).stem, **file} for file in scores["files"]]
        console.print(_brief("file", rows))
        _say(console, f"mean of {len(results)} files")
        console.print(_full(scores["mean"]["methods"]))
    for key, title in GROUPS.items():
        groups = scores["groups"][key]
        if key != "source" or 1 < len(groups) < len(results):
            console.print(_brief(title, groups))


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def _full(methods: dict[str, dict[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, caption="hits, rates and ECE in %, errors in ns")
    table.add_column("method")
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right")
    for name, figures in methods.items():
        table.add_row(name, *(_cell(key, figures[key]) for key in COLUMNS))
    return table


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if key.endswith("_ns") else f"{100 * value:.1f}"


def _brief(title: str, rows: list[dict[str, Any]]) -> Table:
    """One line a group: its gates, and BRIEF of every method in one cell."""
    table = Table(box=SIMPLE_HEAD, caption=BRIEF_CAPTION, padding=(0, 1, 0, 0))
    table.add_column(title, overflow="fold")
    table.add_column("echo", justify="right", no_wrap=True)
    table.add_column("empty", justify="right", no_wrap=True)
    for method in rows[0]["methods"]:
        table.add_column(method, justify="right", no_wrap=True)
    for row in rows:
        cells = ("/".join(_percent(figures[key]) for key in BRIEF) for figures in row["methods"].values())
        table.add_row(row["name"] or "–", str(row["n_echo"]), str(row["n_empty"]), *cells)
    return table


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}"
