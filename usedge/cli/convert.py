"""``usedge convert``: recordings and captures to HDF5 or npz."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usedge.cli.options import new_app
from usedge.cli.recording import RECORDER_TALK
from usedge.errors import InputError

if TYPE_CHECKING:
    from usedge.ascan import AScan

app = new_app()


@app.command(epilog="Example: usedge convert scan.usrec -o scan.h5")
def convert(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Recordings, folders, captures.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="HDF5 (.h5) or .npz to write.")],
    channel: Annotated[int | None, typer.Option(help="Only A-scans of this channel.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Only A-scans of so many samples.")] = None,
    seq: Annotated[str, typer.Option(metavar="START:STOP", help="Only A-scans with these numbers.")] = ":",
) -> None:
    """Write the A-scans of FILES to a labelled-file layout without labels: x, fs_hz, t0_s, seq, t_ns, ….

    All must have one length, sampling rate and t0; none is padded or cut.
    """
    from rich.console import Console
    from rich.progress import Progress

    from usedge.cli.talk import DeviceTalk
    from usedge.recording.export import Choice, check_ending, tabulate, write_labelled
    from usedge.sources.files import stored_files

    check_ending(out)
    choice = Choice(channel, samples, *_bounds(seq))
    paths = [path for file in files for path in stored_files(file)]
    if out.resolve() in [path.resolve() for path in paths]:
        raise InputError(f"{out} is itself to be converted.", "Name another --out.")
    talk = DeviceTalk(False, RECORDER_TALK, "usedge")
    table = tabulate(lambda: _rows(paths), choice)
    talk.close()  # the second look would say the same again
    console = Console(stderr=True)
    source = f"usedge convert {', '.join(path.name for path in paths[:3])}{', …' if len(paths) > 3 else ''}"
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("A-scans", total=len(table))
        write_labelled(out, lambda: _rows(paths), choice, table, source, lambda n: bar.advance(task, n))
    typer.echo(json.dumps({"file": str(out), "ascans": len(table), "left_out": table.left_out,
                           "samples": table.samples, "fs_hz": table.fs_hz, "t0_us": table.t0_us}))


def _rows(paths: list[Path]) -> Iterator[tuple[AScan, float]]:
    from usedge.sources.files import StoredAScans

    stored = StoredAScans(paths)
    for ascan in stored:
        yield ascan, stored.unix_s(ascan)


def _bounds(seq: str) -> tuple[int | None, int | None]:
    first, colon, stop = seq.partition(":")
    try:
        if not colon:
            raise ValueError
        return int(first) if first else None, int(stop) if stop else None
    except ValueError:
        raise InputError(f"--seq {seq!r} is not START:STOP.", "Example: --seq 0:500") from None
