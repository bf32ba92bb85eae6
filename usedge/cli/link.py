"""What `usedge run`, `record` and `calibrate` share: the options of a port, and the source that they name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from usedge.errors import InputError

if TYPE_CHECKING:
    from usedge.sources import SourceOptions

Baud = Annotated[int, typer.Option(min=1, help="Baud rate of a serial port.")]
Protocol = Annotated[str, typer.Option(help="auto, usfp, wulpus, p0rk or pic0rick.")]
Payload = Annotated[str, typer.Option(help="USFP payload to ask for: int16, packed12, rice.")]
FsMhz = Annotated[float | None, typer.Option(help="Sampling rate, where the wire does not say.")]
T0Us = Annotated[float | None, typer.Option(help="Main bang to first sample, likewise.")]
Prf = Annotated[float, typer.Option(min=0.0, help="PRF to ask the device for; 0: its own.")]
Count = Annotated[int, typer.Option(min=0, help="Stop after this many A-scans.")]
Seconds = Annotated[float, typer.Option(min=0.0, help="Stop after this many seconds.")]
Patience = Annotated[float, typer.Option(min=0.1, help="Seconds to wait for a valid frame.")]
Reconnect = Annotated[bool, typer.Option(
    "--reconnect/--no-reconnect", help="Wait, without end, for a port or board that goes away.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for port and board at the start too.")]

BAUD, PATIENCE_S = 921_600, 5.0


def source_options(baud: int, protocol: str, patience: float, count: int, prf: float, payload: str,  # noqa: PLR0913, PLR0917
                   fs_mhz: float | None, t0_us: float | None, reconnect: bool, wait: bool) -> SourceOptions:
    """The options of a port, for ``open_source``; raises InputError for a number that cannot be one."""
    from usedge.sources import SourceOptions

    check_numbers(fs_mhz=fs_mhz, t0_us=t0_us, prf=prf, patience=patience)
    if fs_mhz is not None and not fs_mhz > 0:
        raise InputError(f"sampling rate {fs_mhz:g} MHz is not positive.", "WULPUS: 8, 4, 2, 1 or 0.5.")
    return SourceOptions(baud, protocol, patience, count, prf, payload, fs_mhz * 1e6 if fs_mhz else None,
                         t0_us, reconnect or wait, wait)


def check_numbers(**options: float | None) -> None:
    """Refuse "nan" and "inf", which pass every test of a least value."""
    for name, value in options.items():
        if value is not None and not math.isfinite(value):
            raise InputError(f"--{name.replace('_', '-')} {value} is no number to work with.")
