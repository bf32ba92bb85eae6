"""``usedge recover``: what recordings hold, and whole files in place of damaged ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usedge.cli.options import new_app
from usedge.errors import InputError

if TYPE_CHECKING:
    from usedge.recording.repair import Recovered

FORMAT_VERSION = 1

app = new_app()


@app.command(epilog="Example: usedge recover scan.usrec")
def recover(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Recordings, or folders of them.")],
    out: Annotated[Path | None, typer.Option(
        "--out", "-o", metavar="DIR", help="Write whole files there, and leave FILE as it is.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on a terminal as well.")] = False,
) -> None:
    """Tell what each recording holds, and make a damaged one whole; it is kept beside as FILE.damaged."""
    from usedge.sources.files import stored_files

    if out is not None and not out.is_dir():
        raise InputError(f"there is no folder {out}.", "Make it, or name another --out.")
    done, errors = _all([path for file in files for path in stored_files(file)], out)
    if as_json or not sys.stdout.isatty():
        typer.echo(json.dumps({"format_version": FORMAT_VERSION, "files": [each.to_dict() for each in done]}))
    else:
        for each in done:
            typer.echo(_sentence(each))
    for error in errors[:-1]:
        sys.stderr.write(f"usedge: {error}\n")
    if errors:
        raise errors[-1]


def _all(paths: list[Path], out: Path | None) -> tuple[list[Recovered], list[InputError]]:
    """Recover each of ``paths``; one that cannot be does not keep the others from it."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from usedge.recording.repair import recover as recover_file

    console = Console(stderr=True)
    done: list[Recovered] = []
    errors: list[InputError] = []
    with Progress("{task.description}", DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
                  console=console, disable=not console.is_terminal, transient=True) as bar:
        sizes = [2 * path.stat().st_size if path.is_file() else 0 for path in paths]  # read, and copied
        task = bar.add_task("recover", total=sum(sizes))
        for i, path in enumerate(paths):
            try:
                done.append(recover_file(path, out, lambda n: bar.advance(task, n)))
            except InputError as error:
                errors.append(error)
            bar.update(task, completed=sum(sizes[: i + 1]))
    return done, errors


def _sentence(each: Recovered) -> str:
    found = each.found
    told = f"{each.file}: {found.ascans} A-scans in {found.chunks} chunks, {found.seq_gaps} numbers missing"
    if found.remark:
        told += f"; it {found.remark.removesuffix('.').partition('; all else')[0]}"
    if each.written is None:
        return f"{told}. Nothing to repair."
    kept = f", the damaged one is {each.kept}" if each.kept else ""
    return f"{told}. Whole file written to {each.written}{kept}."
