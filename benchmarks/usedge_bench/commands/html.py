"""``usedge bench html``: a stored report as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from usedge.cli.options import new_app

app = new_app()


@app.command(epilog="Example: usedge bench html latency.json latency.html")
def html(
    report: Annotated[Path, typer.Argument(help="Report of a suite, as --json wrote it.")],
    out: Annotated[Path, typer.Argument(help="The page; a file there is replaced.")],
) -> None:
    """Write a stored report as one HTML file that opens from disk: tables, and plots by matplotlib."""
    from usedge_bench.page.document import write_page
    from usedge_bench.reports.read import read_report

    write_page(out, read_report(report))
