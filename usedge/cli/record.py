"""``usedge record``: A-scans from a port to a file, without reading them."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usedge.cli.link import (
    BAUD,
    PATIENCE_S,
    Baud,
    Count,
    FsMhz,
    Patience,
    Payload,
    Prf,
    Protocol,
    Reconnect,
    Seconds,
    T0Us,
    Wait,
    check_numbers,
    source_options,
)
from usedge.cli.options import new_app
from usedge.cli.recording import (
    RECORDER_TALK,
    Compress,
    QuotaMb,
    RotateMb,
    RotateS,
    SyncS,
    recorder_of,
    tell_recorded,
)

if TYPE_CHECKING:
    from usedge.recording import Recorder
    from usedge.sources import Source

app = new_app()


@app.command(epilog="Example: usedge record --port sim:// --seconds 10 scan.usrec")
def record(  # noqa: PLR0913, PLR0917 - its options
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Recording to make (.usrec).")],
    port: Annotated[str, typer.Option(help="As of usedge run: /dev/…, socket://…, sim://, raw:FILE.")],
    baud: Baud = BAUD,
    protocol: Protocol = "auto",
    payload: Payload = "int16",
    fs_mhz: FsMhz = None,
    t0_us: T0Us = None,
    prf: Prf = 0.0,
    count: Count = 0,
    seconds: Seconds = 0.0,
    patience: Patience = PATIENCE_S,
    reconnect: Reconnect = True,
    wait: Wait = False,
    sync_s: SyncS = 1.0,
    rotate_mb: RotateMb = 0.0,
    rotate_s: RotateS = 0.0,
    quota_mb: QuotaMb = 0.0,
    compress: Compress = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on a terminal as well.")] = False,
) -> None:
    """Record A-scans from PORT to FILE, which a power cut or a full disk does not spoil."""
    from usedge.cli.talk import DeviceTalk
    from usedge.sources import open_source
    from usedge.sources.told import RUN_TALK

    check_numbers(seconds=seconds)
    source = open_source(port, source_options(baud, protocol, patience, count, prf, payload, fs_mhz, t0_us,
                                              reconnect, wait))
    recorder = recorder_of(file, (sync_s, rotate_mb, rotate_s, quota_mb, compress), port, source)
    assert recorder is not None
    interrupted = threading.Event()

    def leave(*_: object) -> None:
        interrupted.set()
        source.stop()

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, leave)
    talks = [DeviceTalk(False), *(DeviceTalk(False, log, "usedge") for log in (RUN_TALK, RECORDER_TALK))]
    try:
        _stream(source, recorder, count, seconds)
    finally:
        for talk in talks:
            talk.close()
        _report(source, recorder, as_json)
    if interrupted.is_set():
        raise typer.Exit(130)


def _stream(source: Source, recorder: Recorder, count: int, seconds: float) -> None:
    end = threading.Timer(seconds, source.stop)
    end.daemon = True
    with recorder, source, _Progress(count) as tell:
        if seconds:
            end.start()
        try:
            for ascan in source:
                recorder.offer(ascan)
                tell(source.counts.received, recorder.recorded)
        finally:
            end.cancel()


class _Progress:
    """A bar on stderr, where that is a terminal."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._bar: Any = None

    def __enter__(self) -> Callable[[int, int], None]:
        if not sys.stderr.isatty():
            return lambda _received, _recorded: None
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(*Progress.get_default_columns(), "{task.fields[written]}",
                             console=Console(stderr=True))
        self._bar.start()
        task = self._bar.add_task("A-scans", total=self._count or None, written="")
        return lambda received, recorded: self._bar.update(
            task, completed=received, written=f"{recorded} recorded")

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _report(source: Source, recorder: Recorder, as_json: bool) -> None:
    counts = source.counts
    kept = recorder.summary()
    summary = {"received": counts.received, "reconnects": counts.reconnects, **kept,
               "unread": counts.received - kept["recorded"] - kept["record_dropped"], "sent": counts.sent,
               "crc_errors": counts.crc_errors, "seq_gaps": counts.seq_gaps, "protocol": source.protocol,
               "file": str(recorder.path)}
    if as_json or not sys.stdout.isatty():
        typer.echo(json.dumps(summary))
    tell_recorded(summary)
