"""``usedge record``: A-scans from a port to a file, without reading them."""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from usedge.errors import InputError

if TYPE_CHECKING:
    from usedge.recording import Recorder
    from usedge.sources import Source

app = new_app()


@app.command(epilog="Example: usedge record --port sim:// --seconds 10 scan.usrec")
def record(  # noqa: PLR0913, PLR0917 - its options
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Recording to make (.usrec).")],
    port: Annotated[str, typer.Option(help="As of usedge run: /dev/…, socket://…, sim://, raw:FILE.")],
    baud: Annotated[int, typer.Option(min=1, help="Baud rate of a serial port.")] = 921_600,
    protocol: Annotated[str, typer.Option(help="auto, usfp, wulpus, p0rk or pic0rick.")] = "auto",
    payload: Annotated[str, typer.Option(help="USFP payload to ask for: int16, packed12, rice.")] = "int16",
    fs_mhz: Annotated[float | None, typer.Option(help="Sampling rate, where the wire does not say.")] = None,
    t0_us: Annotated[float | None, typer.Option(help="Main bang to first sample, likewise.")] = None,
    prf: Annotated[float, typer.Option(min=0.0, help="PRF to ask the device for; 0: its own.")] = 0.0,
    count: Annotated[int, typer.Option(min=0, help="Stop after this many A-scans.")] = 0,
    seconds: Annotated[float, typer.Option(min=0.0, help="Stop after this many seconds.")] = 0.0,
    patience: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for a valid frame.")] = 5.0,
    reconnect: Annotated[bool, typer.Option(
        "--reconnect/--no-reconnect", help="Wait, without end, for a port or board that goes away.")] = True,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for port and board at the start too.")] = False,
    sync_s: SyncS = 1.0,
    rotate_mb: RotateMb = 0.0,
    rotate_s: RotateS = 0.0,
    quota_mb: QuotaMb = 0.0,
    compress: Compress = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on a terminal as well.")] = False,
) -> None:
    """Record A-scans from PORT to FILE, which a power cut or a full disk does not spoil."""
    from usedge.cli.talk import DeviceTalk
    from usedge.sources import SourceOptions, open_source
    from usedge.sources.told import RUN_TALK

    for name, value in (("fs-mhz", fs_mhz), ("t0-us", t0_us), ("prf", prf), ("seconds", seconds),
                        ("patience", patience)):
        if value is not None and not math.isfinite(value):
            raise InputError(f"--{name} {value} is no number to work with.")
    if fs_mhz is not None and not fs_mhz > 0:
        raise InputError(f"sampling rate {fs_mhz:g} MHz is not positive.", "WULPUS: 8, 4, 2, 1 or 0.5.")
    source = open_source(port, SourceOptions(baud, protocol, patience, count, prf, payload,
                                             fs_mhz * 1e6 if fs_mhz else None, t0_us,
                                             reconnect or wait, wait))
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
