"""``usedge run``: A-scans in at a port, readings out."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usedge.cli.distance import Doubt, Gates, Mode, OffsetUs, SpeedOfSound
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
from usedge.cli.options import RequireSignature, new_app
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
    from usedge.cli.talk import DeviceTalk
    from usedge.gates import NamedGate
    from usedge.ranging import Ranging
    from usedge.runtime.lane import Lane
    from usedge.runtime.notify import Notifier
    from usedge.runtime.runner import Run
    from usedge.sinks import Sink
    from usedge.smooth import Smooth

app = new_app()


@app.command(epilog="Example: usedge run --port sim:// --seconds 10")
def run(  # noqa: PLR0913, PLR0917 - its options
    port: Annotated[str, typer.Option(
        help="/dev/…, usb:VID:PID[:SERIAL], socket://host:port, sim://, replay:FILE or raw:FILE.")],
    baud: Baud = BAUD,
    protocol: Protocol = "auto",
    payload: Payload = "int16",
    fs_mhz: FsMhz = None,
    t0_us: T0Us = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle to run; default: the shipped one.")] = None,
    require_signature: RequireSignature = None,
    gate: Gates = None,
    speed_of_sound: SpeedOfSound = None,
    mode: Mode = "pulse-echo",
    offset_us: OffsetUs = None,
    calibration: Annotated[Path | None, typer.Option(help="File of `usedge calibrate`.")] = None,
    tof_sd_ns: Annotated[float | None, typer.Option(
        help="Standard deviation of one ToF, for distance_sd_mm.")] = None,
    smooth: Annotated[str | None, typer.Option(
        help="median:N or ema:SHARE; adds smoothed_us, smoothed_mm.")] = None,
    runtime: Annotated[str, typer.Option(
        help="auto, measure, litert, tflite, onnx, cuda, tensorrt, native, classical.")] = "auto",
    method: Annotated[str, typer.Option(help="With --runtime classical: the picker.")] = "threshold",
    f0_mhz: Annotated[float | None, typer.Option(help="Centre frequency; default: estimated.")] = None,
    passes: Annotated[int, typer.Option(
        min=1, max=2, help="1: without the second look around the echo; quicker, coarser.")] = 2,
    doubt: Doubt = None,
    echoes: Annotated[int, typer.Option(
        help="Most echoes to find; over 1 adds echoes_us, echo_to_echo_mm.")] = 1,
    reference: Annotated[Path | None, typer.Option(
        help="File of still A-scans; adds dtof_ns, the difference to their mean.")] = None,
    prf: Prf = 0.0,
    count: Count = 0,
    seconds: Seconds = 0.0,
    patience: Patience = PATIENCE_S,
    reconnect: Reconnect = True,
    wait: Wait = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON Lines even on a terminal.")] = False,
    sink: Annotated[list[str] | None, typer.Option(
        metavar="URL", help="jsonl:, csv:, mqtt:, prometheus:, influx+http:, web: …; repeatable.")] = None,
    record: Annotated[Path | None, typer.Option(help="Record every A-scan to this file (.usrec).")] = None,
    sync_s: SyncS = 1.0,
    rotate_mb: RotateMb = 0.0,
    rotate_s: RotateS = 0.0,
    quota_mb: QuotaMb = 0.0,
    compress: Compress = False,
    summary: Annotated[Path | None, typer.Option(help="Write the summary to this JSON file.")] = None,
) -> None:
    """Stream A-scans from PORT, classify their ToF, and write readings to stdout."""
    _start_lean()
    from usedge.cli.distance import open_picker, picker_facts, ranging_of
    from usedge.gates import parse_gates
    from usedge.runtime.doubts import Doubts
    from usedge.runtime.echoes import seeker
    from usedge.runtime.runner import Run, RunOptions
    from usedge.smooth import Smooth
    from usedge.sources import open_source

    check_numbers(seconds=seconds)
    _check_summary(summary)
    gates, smoothing = parse_gates(gate or ()), Smooth.parse(smooth) if smooth else None
    source = open_source(port, source_options(baud, protocol, patience, count, prf, payload, fs_mhz, t0_us,
                                              reconnect, wait))
    f0_hz = f0_mhz * 1e6 if f0_mhz else None
    picker, facts = open_picker(runtime, bundle, method, f0_hz, passes, _say, Doubts.parse(doubt or ()),
                                require_signature)
    ranging = ranging_of(speed_of_sound, mode, offset_us, calibration, tof_sd_ns, picker_facts(facts, method))
    job = Run(source, seeker(picker, echoes), [], RunOptions(count, seconds), facts,
              _lanes(gates, ranging, smoothing, reference, f0_hz))
    job.recorder = recorder_of(record, (sync_s, rotate_mb, rotate_s, quota_mb, compress), port, source)
    _go(job, port, sink or (), sys.stdout.isatty() and not as_json, summary)


def _start_lean() -> None:
    """Leave away what costs a tenth of the way to the first reading: BLAS threads, for which a run has no
    work, and looking for garbage among modules that are being loaded.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()


def _go(job: Run, port: str, sinks: Sequence[str], live: bool, summary: Path | None) -> None:
    """Run ``job`` to its end and give the account, whatever that end is."""
    from usedge.runtime.notify import Notifier, told

    gc.freeze()
    gc.enable()
    notifier = Notifier(job.alive, lambda: told(job.counters()))
    _leave_by_signal(job, notifier)
    others = _sinks(job, port, sinks)
    job.sinks = [_sink(job, port, live), *others]
    talks, begun = _talks(live), True
    try:
        with notifier:
            job.go()
    except InputError:
        begun = job.source.counts.received > 0
        raise
    except BrokenPipeError:
        # Whoever read our stdout has gone, as `| head` does; nothing may be written there at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        for each in talks:
            each.close()
        _report(job.summary(), summary, live, begun)
    if job.stop.is_set():
        raise typer.Exit(130)


def _leave_by_signal(job: Run, notifier: Notifier) -> None:
    """Ctrl-C and SIGTERM end ``job`` in order."""
    def leave(*_: object) -> None:
        job.stop.set()
        notifier.stopping()
        job.source.stop()  # it may still be looking for a board

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, leave)


def _talks(live: bool) -> list[DeviceTalk]:
    """What board, run and recorder say goes to stderr from now on."""
    from usedge.cli.talk import DeviceTalk
    from usedge.sources.told import RUN_TALK

    return [DeviceTalk(live), *(DeviceTalk(live, log, "usedge") for log in (RUN_TALK, RECORDER_TALK))]


def _check_summary(path: Path | None) -> None:
    if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        raise InputError(f"summary {path} cannot be written.",
                         "Name a file in a folder that exists and can be written.")


def _lanes(gates: tuple[NamedGate, ...], ranging: Ranging | None, smooth: Smooth | None,
           reference: Path | None, f0_hz: float | None) -> list[Lane]:
    """A lane for each gate, or one for the whole A-scan; readings carry a name where there are several."""
    from usedge.runtime.lane import Lane
    from usedge.smooth import Smoother

    lanes = [Lane(each.name if len(gates) > 1 else None, each.gate) for each in gates] or [Lane()]
    for lane in lanes:
        lane.ranging = ranging
        lane.smoother = Smoother(smooth) if smooth else None
        if reference is not None:
            from usedge.runtime.reference import load_reference

            lane.differential = load_reference(reference, lane.gate, f0_hz)
    return lanes


def _sink(job: Any, port: str, live: bool) -> Sink:
    if live:
        from usedge.cli.view import LiveView

        return LiveView(job, port)
    from usedge.sinks import JsonLines

    return JsonLines(over=job.over, say=_say)


def _sinks(job: Run, port: str, urls: Sequence[str]) -> Sequence[Sink]:
    if not urls:
        return []
    from usedge.sinks import Station, open_sinks

    bundle = job.bundle or {}
    facts = {key: str(bundle[key]) for key in ("name", "variant", "runtime", "provider") if bundle.get(key)}
    return open_sinks(urls, Station(port, _say, job.counters, lambda: job.source.prf_hz, facts))


def _say(text: str) -> None:
    # A live view catches what is written to sys.stderr and shows it above itself, on stdout's terminal.
    from usedge.cli.talk import tell

    tell(f"usedge: {text}\n", sys.stderr if sys.stderr.isatty() else sys.__stderr__)


def _interruptions(summary: dict[str, Any]) -> str:
    if not summary["reconnects"]:
        return ""
    unknown = summary["unknown_ends"]
    beyond = f", what was lost at {unknown} of them unknown" if unknown else ""
    return f" {summary['reconnects']} reconnects, {summary['offline_s']} s without the board{beyond};"


def _report(summary: dict[str, Any], path: Path | None, live: bool, begun: bool) -> None:
    """Write ``summary`` and tell the account, but for a run that an error kept from beginning."""
    from usedge.files import write_whole

    try:
        if path is not None:
            write_whole(path, (json.dumps(summary, indent=1) + "\n").encode())
    finally:
        if begun:
            _tell_account(summary, live)


def _tell_account(summary: dict[str, Any], live: bool) -> None:
    from usedge.cli.talk import tell

    latency, bundle = summary["latency_us"], summary["bundle"]
    tell(f"usedge: {summary['received']} received, {summary['classified']} classified,"
         f" {summary['abstained']} abstained, {summary['dropped']} dropped, {summary['unread']} unread,"
         f" {summary['seq_gaps']} lost on the wire, {summary['crc_errors']} corrupted;"
         f"{_interruptions(summary)}"
         f" latency p50 {latency['p50'] or 0:.0f} µs, p99 {latency['p99'] or 0:.0f} µs;"
         f" peak RSS {summary['peak_rss_mb']} MB"
         f"{'; protocol ' + summary['protocol'] if summary['protocol'] else ''}.\n")
    tell_recorded(summary)
    if live and bundle:
        provider = f" ({bundle['provider']})" if bundle["provider"] else ""
        tell(f"usedge: bundle {bundle['name']}, {bundle['variant']} on {bundle['runtime']}{provider}.\n")
