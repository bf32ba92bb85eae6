"""``usedge doctor``: what is wrong with this machine, and how to mend it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usedge.cli.options import new_app
from usedge.errors import InputError

if TYPE_CHECKING:
    from usedge.health import Finding

FORMAT_VERSION = 1
MARKS = {"fine": "[green]fine[/]", "note": "[yellow]note[/]", "wrong": "[bold red]wrong[/]"}

app = new_app()


@app.command(epilog="Example: usedge doctor")
def doctor(
    bundle: Annotated[Path | None, typer.Option(help="Bundle to try; default: the shipped one.")] = None,
    udev: Annotated[bool, typer.Option("--udev", help="Print udev rules for the ports there are.")] = False,
    root: Annotated[Path, typer.Option(help="Look at the machine below this folder.")] = Path("/"),
    as_json: Annotated[bool, typer.Option("--json", help="JSON on a terminal as well.")] = False,
) -> None:
    """Look at ports, runtimes, clock, supply, heat, disk and memory; exit 1 where something is wrong."""
    from usedge.health import Machine, examine
    from usedge.health.ports import udev_rules

    if not root.is_dir():
        raise InputError(f"there is no folder {root}.", "Leave out --root for this machine.")
    machine = Machine(root)
    if udev:
        sys.stdout.write(udev_rules(machine))
        return
    findings = examine(machine, bundle)
    wrong = [each for each in findings if each.state == "wrong"]
    if as_json or not sys.stdout.isatty():
        typer.echo(json.dumps(_content(findings, not wrong, udev_rules(machine))))
    else:
        _print_table(findings, len(wrong))
    if wrong:
        raise typer.Exit(1)


def _content(findings: list[Finding], ok: bool, rules: str) -> dict[str, Any]:
    from usedge import __version__
    from usedge.meter import host_facts

    return {"format_version": FORMAT_VERSION, "ok": ok, "findings": [asdict(each) for each in findings],
            "udev_rules": rules, "host": host_facts(), "version": __version__}


def _print_table(findings: list[Finding], n_wrong: int) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for heading in ("check", "", "found, and how to mend it"):
        table.add_column(heading)
    before = ""
    for each in findings:
        mend = f"\n[dim]→[/] {escape(each.mend)}" if each.mend else ""
        table.add_row("" if each.check == before else each.check, MARKS[each.state], escape(each.what) + mend)
        before = each.check
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{n_wrong} wrong." if n_wrong else "Nothing is wrong.")
