"""``usedge emulate``: a virtual transducer on a pty or a given port."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from usedge.cli.options import new_app
from usedge.errors import InputError, LinkError

if TYPE_CHECKING:
    from usedge.ascan import AScan
    from usedge_firmware.injector import Injector
    from usedge_firmware.transducer import VirtualTransducer

app = new_app()


@app.command(
    epilog="Example: usedge emulate --prf 50")
def emulate(  # noqa: PLR0913, PLR0917 - its options
    data: Annotated[Path | None, typer.Option(help="npz, HDF5 or .usfp file whose A-scans are sent.")] = None,
    x: Annotated[str | None, typer.Option(help="Name of the array in --data.")] = None,
    rows: Annotated[str, typer.Option(help="Rows of --data, START:STOP.")] = ":",
    preset: Annotated[str, typer.Option(help="Without --data: field, paper or plate A-scans.")] = "field",
    ascans: Annotated[int, typer.Option(min=1, help="Synthetic A-scans made; they are sent in turn.")] = 128,
    samples: Annotated[int, typer.Option(help="Samples of a synthetic A-scan.")] = 2048,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the synthetic A-scans.")] = 0,
    prf: Annotated[float, typer.Option(min=0.0, help="A-scans a second; 0 = as fast as it is read.")] = 50.0,
    port: Annotated[str | None, typer.Option(help="Serial port to speak on instead of a new pty.")] = None,
    count: Annotated[int, typer.Option(min=0, help="Exit after this many A-scans; 0 = never.")] = 0,
    dialect: Annotated[str, typer.Option("--as", help="Protocol: usfp, p0rk, wulpus or pic0rick.")] = "usfp",
    faults: Annotated[str, typer.Option(help="Faults to make: NAME=RATE[:SIZE],…; see docs/faults.md.")] = "",
    faults_seed: Annotated[int, typer.Option(min=0, help="Seed of the faults; stored in --ledger.")] = 0,
    ledger: Annotated[Path | None, typer.Option(help="File that tells what became of every A-scan.")] = None,
    link: Annotated[Path | None, typer.Option(help="Symbolic link to keep leading to the pty.")] = None,
    until_eof: Annotated[bool, typer.Option("--until-eof", hidden=True)] = False,
) -> None:
    """Answer a host's commands and stream A-scans, as a board's firmware does. Prints the port first.

    SIGUSR1 pulls the cable and puts it back (with --link), SIGUSR2 resets the board.
    """
    if not (math.isfinite(prf) and (prf == 0 or round(prf * 1000))):
        raise InputError(f"PRF {prf:g} Hz is out of range.", "Give 0 (as fast as it is read), 0.001 or more.")
    content = _recorded(data, x, rows) if data else _synthetic(preset, ascans, seed, samples)
    first = content[0]
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    if until_eof:
        threading.Thread(target=_await_eof, args=(stop,), daemon=True).start()
    with ExitStack() as cleanup:
        injector = _injector(faults, faults_seed, ledger, content)
        cleanup.callback(_close_ledger, injector, ledger)
        if link is None and injector.plan.rate("disconnect"):
            link = Path(cleanup.enter_context(TemporaryDirectory(prefix="usedge-"))) / "port"
        device = cleanup.enter_context(_device(content, injector, dialect, prf, port, link))
        _obey_signals(injector, pty_has_link=link is not None and port is None)
        sys.stdout.write(device.port + "\n")
        sys.stdout.flush()
        sys.stderr.write(f"usedge: {len(content)} A-scans of {len(first.samples)} samples"
                         f" at {first.fs_hz / 1e6:g} MHz, PRF {prf:g} Hz; stop with Ctrl-C.\n")
        _serve(device, stop, count)
    sys.stderr.write(f"usedge: sent {device.sent} A-scans, {device.overruns} PRF slots missed.\n")
    if faults:
        fates = injector.ledger.totals()
        told = ", ".join(f"{fates[each]} {each}" for each in ("intact", "damaged", "dropped", "copies"))
        sys.stderr.write(f"usedge: faults with seed {faults_seed}: {told}.\n")


def _obey_signals(injector: Injector, *, pty_has_link: bool) -> None:
    signal.signal(signal.SIGUSR2, lambda *_: injector.demand("reset"))
    signal.signal(signal.SIGUSR1, lambda *_: injector.demand("disconnect") if pty_has_link else
                  sys.stderr.write("usedge: a cable is pulled only where --link names the port.\n"))


def _await_eof(stop: threading.Event) -> None:
    """Set ``stop`` when whoever holds our standard input has gone, killed or not."""
    # os.read: a thread that waits in sys.stdin would hold its lock when the interpreter ends.
    while os.read(0, 4096):
        pass
    stop.set()


def _serve(device: VirtualTransducer, stop: threading.Event, count: int) -> None:
    try:
        device.serve(stop, exit_after=count or None)
    except OSError as error:
        raise LinkError(f"{error.filename or device.port} failed after {device.sent} A-scans"
                        f" ({error.strerror or error}).", "Check the port and the ledger's disk.") from None


def _injector(faults: str, seed: int, ledger: Path | None, content: list[AScan]) -> Injector:
    from usedge_firmware.faults import FaultPlan, FaultPlanError
    from usedge_firmware.injector import Injector
    from usedge_firmware.ledger import Ledger

    try:
        plan = FaultPlan.parse(faults)
        return Injector(plan, seed=seed, ledger=Ledger(seed=seed, plan=str(plan), path=ledger),
                        adc_bits=_adc_bits(content))
    except FaultPlanError as error:
        raise InputError(f"{error}.") from None
    except OSError as error:
        raise InputError(f"ledger {ledger} cannot be made ({error.strerror}).", "Check --ledger.") from None


def _close_ledger(injector: Injector, ledger: Path | None) -> None:
    try:
        injector.ledger.close()
    except OSError as error:
        raise InputError(f"ledger {ledger} cannot be written ({error.strerror}); it was cut short.",
                         "Is the disk full?") from None


def _device(content: list[AScan], injector: Injector, dialect: str, prf: float, port: str | None,
            link: Path | None) -> VirtualTransducer:
    from usedge_firmware.faults import FaultPlanError
    from usedge_firmware.frontends import UnknownFrontEndError
    from usedge_firmware.native import load_native_encoder
    from usedge_firmware.transducer import VirtualTransducer
    from usedge_firmware.usfp import UsfpError

    if dialect == "usfp" and load_native_encoder() is None:
        sys.stderr.write("usedge: no C compiler found; frames are encoded in Python.\n")
    try:
        return VirtualTransducer([ascan.samples for ascan in content], fs_hz=round(content[0].fs_hz),
                                 t0_us=content[0].t0_us, prf_hz=prf, path=port, dialect=dialect,
                                 adc_bits=_adc_bits(content), injector=injector,
                                 link=None if link is None else str(link))
    except (UnknownFrontEndError, FaultPlanError) as error:
        raise InputError(f"{error}.") from None
    except UsfpError as error:
        raise InputError(f"these A-scans do not fit the wire: {error}.") from None
    except OSError as error:
        if error.filename == port:
            raise LinkError(f"port {port} cannot be opened ({error.strerror}).", "Check --port.") from None
        raise InputError(f"link {link} cannot be made ({error.strerror}).", "Check --link.") from None


def _adc_bits(content: list[AScan]) -> int:
    """12, as boards have, or as many as the counts take."""
    peak = max(max(int(ascan.samples.max()), ~int(ascan.samples.min())) for ascan in content)
    return max(12, peak.bit_length() + 1)


def _synthetic(preset: str, n: int, seed: int, samples: int) -> list[AScan]:
    from usedge.ascan import AScan
    from usedge.synth import FS_HZ, generate

    return [AScan(row, FS_HZ) for row in generate(preset, n, seed, samples).x]


def _recorded(path: Path, x_name: str | None, rows: str) -> list[AScan]:
    from usedge.sources.files import read_ascans

    start, colon, stop = rows.partition(":")
    try:
        if not colon:
            raise ValueError
        chosen = slice(int(start or 0), int(stop) if stop else None)
    except ValueError:
        raise InputError(f"rows {rows!r} is not START:STOP.", "Example: --rows 0:500.") from None
    ascans = read_ascans(path, x_name)[0][chosen]
    if not ascans:
        raise InputError(f"rows {rows} of {path} are none.", "Widen --rows.")
    return ascans
