"""Options of picker and distance: what ``usedge run`` and ``usedge calibrate`` make of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usedge.cli.options import opened
from usedge.errors import InputError

if TYPE_CHECKING:
    from usedge.ranging import Ranging
    from usedge.runtime.doubts import Doubts
    from usedge.sound import Stated
    from usedge.tof import Picker

Gates = Annotated[list[str] | None, typer.Option(
    "--gate", help="[NAME=]START:WIDTH, µs after main bang; repeatable; default: all.")]
SpeedOfSound = Annotated[str | None, typer.Option(
    help="m/s, a material (steel, acrylic, …), water@23.5C or air@20C; adds distance_mm.")]
Mode = Annotated[str, typer.Option(help="pulse-echo (there and back) or pitch-catch (one way).")]
OffsetUs = Annotated[str | None, typer.Option(help="Delay line and electronics, taken off the ToF.")]

Doubt = Annotated[list[str] | None, typer.Option(
    metavar="RULE=LIMIT", help="When to withhold an answer: flat, tone, later, earlier; =off; none.")]


def open_picker(runtime: str, bundle: Path | None, method: str, f0_hz: float | None,
                passes: int = 2, say: Callable[[str], None] = lambda _: None, doubts: Doubts | None = None,
                signed_by: Path | None = None) -> tuple[Picker, dict[str, Any] | None]:
    """The classical picker ``method``, or that of a bundle (None: the shipped one) and the bundle's facts.

    ``signed_by`` is a public key that must have signed the bundle.
    """
    if runtime == "classical":
        if signed_by is not None:
            raise InputError("--runtime classical runs no bundle whose signature could be required.",
                             "Leave --require-signature away.")
        from usedge.tof import classical_picker

        return classical_picker(method, f0_hz), None
    from usedge.runtime.picker import open_model_picker

    chosen = opened(bundle, signed_by)
    picker = open_model_picker(chosen, runtime, f0_hz, passes, say, doubts)
    return picker, {"name": chosen.name, "sha256": chosen.sha256, "variant": picker.variant.name,
                    "runtime": picker.variant.runtime, "provider": picker.provider}


def offset_of(text: str | None) -> Stated:
    """The offset in µs; without one, 0 and exact."""
    from usedge.sound import Stated, stated

    return Stated(0.0, 0.0) if text is None else stated(text, "offset", "--offset-us 1.85+-0.02")


def ranging_of(speed: str | None, mode: str, offset: str | None, calibration: Path | None,
               tof_sd_ns: float | None, picker: dict[str, Any]) -> Ranging | None:
    """How ToF become distances, None where nothing says so; ``picker`` is compared with the calibration's.

    Raises InputError for a value that cannot be used, and for a calibration beside what it holds.
    """
    from usedge.ranging import Ranging, share_of_way
    from usedge.sound import parse_speed

    share_of_way(mode)
    if tof_sd_ns is not None and not 0 <= tof_sd_ns < math.inf:
        raise InputError(f"--tof-sd-ns {tof_sd_ns:g} is no standard deviation.", "`usedge repeat` tells it.")
    tof_sd_us = None if tof_sd_ns is None else tof_sd_ns * 1e-3
    if calibration is not None:
        if speed is not None or offset is not None or mode != "pulse-echo":
            raise InputError("--calibration holds speed, offset and mode.",
                             "Leave out --speed-of-sound, --offset-us and --mode.")
        ranging = _calibrated(calibration, picker)
        return ranging if tof_sd_us is None else replace(ranging, tof_sd_us=tof_sd_us)
    if speed is None:
        if offset is not None:
            raise InputError("--offset-us without a speed of sound makes no distance.",
                             "Example: --speed-of-sound water@20C.")
        return None
    sound, off = parse_speed(speed), offset_of(offset)
    return Ranging(sound.m_s, sound.sd_m_s, mode, off.value, off.sd, 0.0, tof_sd_us)


def _calibrated(path: Path, picker: dict[str, Any]) -> Ranging:
    from usedge.calibration import read_calibration

    calibration = read_calibration(path)
    if calibration.picker != picker:
        sys.stderr.write(f"usedge: {path} was made with {told(calibration.picker)}, not {told(picker)}; its"
                         " offset may not hold. Calibrate again.\n")
    return calibration.ranging


def picker_facts(bundle: dict[str, Any] | None, method: str) -> dict[str, Any]:
    """What timed the echoes: its offset is in the calibration's."""
    return {"method": method} if bundle is None else {key: bundle[key] for key in ("name", "sha256")}


def told(picker: dict[str, Any]) -> str:
    """The same in words."""
    if "method" in picker:
        return f"the picker {picker['method']}"
    return f"the bundle {picker.get('name')} ({str(picker.get('sha256'))[:8]})"
