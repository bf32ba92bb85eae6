"""``usedge label``: A-scans get their onsets, proposed by the pickers, decided by a person in a web page."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from usedge.cli.options import new_app
from usedge.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from usedge.labelling.proposals import Proposal
    from usedge.labelling.session import Session
    from usedge.labelling.task import Task

app = new_app()
PORT_IN_USE = "Give another --host or --port; --port 0 takes a free one."


@app.command(epilog="Example: usedge label mine.npz --gate 20:40 --f0-mhz 2.25")
def label(  # noqa: PLR0913, PLR0917 - its options
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A-scans (.npz, .h5): x and fs_hz.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Default: FILE-labelled.npz.")] = None,
    gate: Annotated[str | None, typer.Option(help="START:WIDTH, µs after main bang; default: all.")] = None,
    f0_mhz: Annotated[float | None, typer.Option(
        "--f0-mhz", "--f0", help="Centre frequency, MHz; default: the file's, or estimated.")] = None,
    method: Annotated[str, typer.Option(help="Classical picker beside the model.")] = "aic",
    confidence: Annotated[float, typer.Option(
        min=0.0, max=1.0, help="Of the model, at least, for consensus.")] = 0.9,
    bundle: Annotated[Path | None, typer.Option(help="Bundle of the model (default: the shipped).")] = None,
    accept_consensus: Annotated[bool, typer.Option(
        "--accept-consensus", help="No page: write what both pickers agree on.")] = False,
    host: Annotated[str, typer.Option(help="Address of the page.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0: a free one.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
) -> None:
    """Label A-scans: onsets are proposed, you accept or move them in a web page, the doubtful ones first.

    Every decision is kept at once; the same command goes on where it ended.
    """
    from usedge.labelling.session import Session, check_out
    from usedge.labelling.task import read_task
    from usedge.spec import Gate

    if not accept_consensus:
        _need_web()
    out = out or file.with_name(f"{file.stem}-labelled.npz")
    check_out(out, file)
    if f0_mhz is not None and not math.isfinite(f0_mhz):
        raise InputError(f"--f0-mhz {f0_mhz} is no number to work with.")
    task = read_task(file, Gate.parse(gate) if gate else None, None if f0_mhz is None else f0_mhz * 1e6)
    proposals = _propose(task, bundle, method, confidence)
    with closing(Session(task, proposals, out, method)) as session:
        _greet(session)
        if accept_consensus:
            session.accept_consensus()
            _end(session)
        elif not _in_browser(session, host, port, no_browser):
            _end(session, interrupted=True)
            raise typer.Exit(130)
        else:
            _end(session)


def _need_web() -> None:
    for package in ("starlette", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "web",
                                    "Run: pip install 'usedge[web]', or use --accept-consensus.")


def _propose(task: Task, bundle: Path | None, method: str, confidence: float) -> list[Proposal]:
    from rich.console import Console
    from rich.progress import Progress

    from usedge.labelling.proposals import propose
    from usedge.runtime.picker import load_model_picker

    if task.ascans.f0_hz is None:
        _say(f"{task.file} has no f0_hz: taken as {task.f0_hz / 1e6:.3g} MHz, from its median spectrum.")
    console = Console(stderr=True)
    with closing(load_model_picker(bundle)) as picker, \
            Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        progress = bar.add_task("proposing", total=len(task))
        return propose(task, picker, method, confidence, lambda: bar.advance(progress))


def _greet(session: Session) -> None:
    counts = session.counts()
    if session.journal.cut_short:
        _say(f"the last decision in {session.journal.path} was not whole, and is left out.")
    resumed = f", resumed from {session.journal.path}" if session.resumed else ""
    _say(f"{counts['rows']} A-scans: {counts['rows'] - counts['left']} decided, {counts['left']} left,"
         f" {counts['doubtful_left']} of them doubtful{resumed}.")


def _in_browser(session: Session, host: str, port: int, no_browser: bool) -> bool:
    """Serve the page; whether the person finished, rather than interrupted, it."""
    from usedge.labelling.server import label_server
    from usedge.webpage import OPEN_ADDRESSES, listen

    with closing(listen(host, port, PORT_IN_USE)) as sock:
        name = "127.0.0.1" if host in OPEN_ADDRESSES else host
        url = f"http://{f'[{name}]' if ':' in name else name}:{sock.getsockname()[1]}/"
        if host in OPEN_ADDRESSES:
            _say("anyone who reaches this machine can see and label these A-scans.")
        _say(f"label at {url} and press Finish there; Ctrl-C stops and keeps every decision.")
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            if not no_browser:
                _open_browser(url)
            label_server(session, sock, host).run(sockets=[sock])
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGTERM, before)
    return session.finished


def _open_browser(url: str) -> None:
    # Without a display, Python would start a text browser in this very terminal.
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    import webbrowser

    webbrowser.open(url)


def _end(session: Session, interrupted: bool = False) -> None:
    """Write what is decided, and say what became of every A-scan."""
    counts = session.counts()
    written = counts.pop("written")
    if written and not session.finished:
        session.write()
    typer.echo(json.dumps({"file": str(session.out) if written else None, "written": written}
                          | {key: n for key, n in counts.items() if not key.endswith("_left")}))
    if written:
        _say(f"{written} labelled A-scans are in {session.out}, {counts['left']} are left undecided.")
    if interrupted:
        path = session.journal.path
        kept = f"Every decision is kept in {path}: the same command goes on there."
        _say(f"interrupted. {kept if session.journal.events else 'Nothing was decided, nothing is kept.'}")
    elif not written:
        raise InputError(f"nothing was written: of {counts['rows']} A-scans none has an onset by consensus.",
                         "Label them by hand: leave --accept-consensus out.")


def _say(text: str) -> None:
    sys.stderr.write(f"usedge: {text}\n")
    sys.stderr.flush()
