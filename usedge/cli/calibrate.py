"""``usedge calibrate``: speed of sound and offset from echoes of known targets."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usedge import __version__
from usedge.cli.distance import Gates, Mode, OffsetUs, SpeedOfSound
from usedge.cli.link import (
    BAUD,
    PATIENCE_S,
    Baud,
    FsMhz,
    Patience,
    Payload,
    Prf,
    Protocol,
    Reconnect,
    T0Us,
    Wait,
    source_options,
)
from usedge.cli.options import new_app
from usedge.errors import InputError

if TYPE_CHECKING:
    from usedge.calibration import Calibration, Target
    from usedge.gates import NamedGate
    from usedge.ranging import Ranging
    from usedge.runtime.calibrate import Answers
    from usedge.sound import Stated
    from usedge.sources import SourceOptions
    from usedge.spec import Gate
    from usedge.tof import Picker

app = new_app()


@app.command(epilog="Example: usedge calibrate --port replay:near.npz --target 30+-0.02 --speed-of-sound"
                    " water@23.5C -o tank.json")
def calibrate(  # noqa: PLR0913, PLR0917 - its options
    port: Annotated[list[str], typer.Option(help="As for run; once, or once for each target.")],
    target: Annotated[list[str] | None, typer.Option(
        help="Known distance in mm, best with its uncertainty: 30+-0.02; repeatable.")] = None,
    thickness: Annotated[str | None, typer.Option(
        help="Known thickness in mm: the speed is sought; two --gate time front and back.")] = None,
    speed_of_sound: SpeedOfSound = None,
    offset_us: OffsetUs = None,
    mode: Mode = "pulse-echo",
    gate: Gates = None,
    count: Annotated[int, typer.Option(min=5, help="A-scans of each target.")] = 100,
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")] = Path("calibration.json"),
    bundle: Annotated[Path | None, typer.Option(help="Bundle to run; default: the shipped one.")] = None,
    runtime: Annotated[str, typer.Option(help="auto, classical, or another of `usedge run`.")] = "auto",
    method: Annotated[str, typer.Option(help="With --runtime classical: the picker.")] = "threshold",
    f0_mhz: Annotated[float | None, typer.Option(help="Centre frequency; default: estimated.")] = None,
    baud: Baud = BAUD,
    protocol: Protocol = "auto",
    payload: Payload = "int16",
    fs_mhz: FsMhz = None,
    t0_us: T0Us = None,
    prf: Prf = 0.0,
    patience: Patience = PATIENCE_S,
    reconnect: Reconnect = True,
    wait: Wait = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on a terminal as well.")] = False,
) -> None:
    """Time the echoes of known targets, and write speed and offset for `usedge run --calibration`.

    Two targets give both. One gives the offset with --speed-of-sound, else the speed with --offset-us.
    """
    from usedge.cli.distance import open_picker, picker_facts
    from usedge.gates import parse_gates

    wanted = _wanted(target or [], thickness, speed_of_sound, offset_us, mode)
    gates = parse_gates(gate or ())
    _check_counts(len(wanted), len(gates), len(port), thickness is not None)
    _check_rest(out, f0_mhz)
    options = source_options(baud, protocol, patience, count, prf, payload, fs_mhz, t0_us, reconnect, wait)
    picker, facts = open_picker(runtime, bundle, method, f0_mhz * 1e6 if f0_mhz else None)
    answers = _answers(port, options, picker, wanted, [each.gate for each in gates], thickness is not None)
    targets, ranging = (_thickness(answers[0], wanted[0], offset_us) if thickness
                        else _targets(answers, wanted, speed_of_sound, offset_us, mode))
    _show(_written(out, targets, ranging, gates, picker_facts(facts, method)), out, as_json)


def _check_rest(out: Path, f0_mhz: float | None) -> None:
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"calibration {out} cannot be written.", "Name a file in a folder that exists.")
    if f0_mhz is not None and not 0 < f0_mhz < float("inf"):
        raise InputError(f"--f0-mhz {f0_mhz} is not positive.", "Give it in MHz.")


def _answers(ports: list[str], options: SourceOptions, picker: Picker, wanted: list[Stated],
             gates: list[Gate], thickness: bool) -> list[Answers]:
    """What ``picker`` answers to the A-scans of each target; who is at the terminal is asked to put it there
    where several share a port.
    """
    from usedge.runtime.calibrate import answers_of
    from usedge.sources import open_source

    answers = []
    for i, each in enumerate(wanted):
        if len(wanted) > len(ports):
            _await_target(each, i)
        places = gates if thickness else gates[i : i + 1] or gates[:1]
        answers.append(answers_of(open_source(ports[i % len(ports)], options), picker, places or [None],
                                  options.count))
    return answers


def _written(out: Path, targets: tuple[Target, ...], ranging: Ranging, gates: Sequence[NamedGate],
             picker: dict[str, Any]) -> Calibration:
    from usedge.calibration import Calibration, write_calibration

    made = datetime.now(timezone.utc).isoformat(timespec="seconds")
    calibration = Calibration(ranging, targets, tuple(each.name for each in gates), picker, made,
                              __version__).fitted()
    write_calibration(out, calibration)
    return calibration


def _wanted(targets: list[str], thickness: str | None, speed: str | None, offset: str | None, mode: str
            ) -> list[Stated]:
    """The known distances; every value is looked at before an A-scan is taken."""
    from usedge.cli.distance import offset_of
    from usedge.ranging import share_of_way
    from usedge.sound import parse_speed, stated

    share_of_way(mode)
    offset_of(offset)
    if thickness is not None:
        if targets or speed is not None or mode != "pulse-echo":
            raise InputError("--thickness seeks the speed of one plate, in pulse-echo.",
                             "Leave out --target, --speed-of-sound and --mode.")
        wanted = [stated(thickness, "thickness", "--thickness 10+-0.01")]
    else:
        wanted = [stated(each, "target", "--target 30+-0.02") for each in targets]
    if not wanted:
        raise InputError("nothing is known.", "Give --target MM, two of them, or --thickness MM.")
    if len(wanted) > 1 and (speed is not None or offset is not None):
        raise InputError("two targets give speed and offset.", "Leave out --speed-of-sound and --offset-us.")
    if speed is not None:
        if offset is not None:
            raise InputError("speed and offset are both given.", "Leave out the one that is sought.")
        parse_speed(speed)
    _check_distances(wanted)
    return wanted


def _check_distances(wanted: list[Stated]) -> None:
    values = [each.value for each in wanted]
    for value in values:
        if not value > 0:
            raise InputError(f"{value:g} mm is no distance.", "Give it in mm, above 0.")
        if values.count(value) > 1:
            raise InputError(f"two targets are at {value:g} mm.", "Give two that differ.")


def _check_counts(n_targets: int, n_gates: int, n_ports: int, thickness: bool) -> None:
    most = 2 if thickness else n_targets
    if n_gates > most or (n_gates > 1 and n_gates != most):
        raise InputError(f"{n_gates} gates for {n_targets} target{'s' * (n_targets > 1)}.",
                         "Give one for all, one for each target, or front and back of --thickness.")
    if n_ports not in (1, n_targets):
        raise InputError(f"{n_ports} ports for {n_targets} target{'s' * (n_targets > 1)}.",
                         "Give --port once, or once for each target.")


def _await_target(distance: Stated, number: int) -> None:
    sys.stderr.write(f"usedge: put the target at {distance.value:g} mm, then press Enter. ")
    sys.stderr.flush()
    if not sys.stdin.readline():
        raise InputError(f"nobody pressed Enter for target {number + 1}.",
                         "For recordings give one --port for each target.")


def _targets(answers: list[Answers], wanted: list[Stated], speed: str | None, offset: str | None, mode: str
             ) -> tuple[tuple[Target, ...], Ranging]:
    from usedge.calibration import by_targets, offset_by_target, speed_by_target, target
    from usedge.cli.distance import offset_of
    from usedge.sound import parse_speed

    targets = tuple(target(distance, each.tof_us[0], each.sample_us)
                    for distance, each in zip(wanted, answers, strict=True))
    if len(targets) > 1:
        return targets, by_targets(targets, mode)
    if speed is not None:
        return targets, offset_by_target(targets[0], parse_speed(speed), mode)
    return targets, speed_by_target(targets[0], offset_of(offset), mode)


def _thickness(answers: Answers, thickness: Stated, offset: str | None) -> tuple[tuple[Target, ...], Ranging]:
    from usedge.calibration import speed_by_target, speed_by_thickness, target
    from usedge.cli.distance import offset_of

    if len(answers.tof_us) == 1:
        back = target(thickness, answers.tof_us[0], answers.sample_us)
        return (back,), speed_by_target(back, offset_of(offset), "pulse-echo")
    if offset is not None:
        raise InputError("with a front and a back gate the offset is the front echo's ToF.",
                         "Leave out --offset-us.")
    front = replace(target(thickness, answers.tof_us[0], answers.sample_us), distance_mm=0.0,
                    distance_sd_mm=0.0)
    between = target(thickness, answers.between(0, 1), answers.sample_us)
    back = replace(between, tof_us=front.tof_us + between.tof_us)
    return (front, back), speed_by_thickness(front, between)


def _show(calibration: Calibration, path: Path, as_json: bool) -> None:
    content = calibration.to_dict()
    if as_json or not sys.stdout.isatty():
        typer.echo(json.dumps(content))
    else:
        _print_table(content)
    sys.stderr.write(f"usedge: wrote {path}; use it with: usedge run --calibration {path}\n")
    if calibration.ranging.speed_sd_m_s is None or calibration.ranging.offset_sd_us is None:
        sys.stderr.write("usedge: distance_sd_mm will be null: a value was given without its uncertainty,"
                         " such as 30+-0.02.\n")


def _print_table(content: dict[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for heading in ("known", "ToF", "spread", "answers", "abstained", "left out", "residual"):
        table.add_column(heading, justify="right")
    for each in content["targets"]:
        known = f"{each['distance_mm']:g}{_sd(each['distance_sd_mm'], 'g')} mm"
        table.add_row(known, f"{each['tof_us']:.4f} µs", f"{each['spread_us'] * 1e3:.1f} ns", str(each["n"]),
                      str(each["abstained"]), str(each["outliers"]), f"{each['residual_mm']:+.4f} mm")
    ranging, console = content["ranging"], Console()
    console.print(table)
    console.print(f"speed of sound {ranging['speed_m_s']:.2f}{_sd(ranging['speed_sd_m_s'], '.2f')} m/s,"
                  f" offset {ranging['offset_us']:.4f}{_sd(ranging['offset_sd_us'], '.4f')} µs,"
                  f" {ranging['mode']}", highlight=False)


def _sd(sd: float | None, form: str) -> str:
    return "" if sd is None else f" ± {sd:{form}}"
