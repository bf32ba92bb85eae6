"""Where A-scans come from: a port, a virtual transducer, a file. One table, each imported when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from usedge.ascan import AScan
from usedge.errors import InputError


@dataclass(slots=True)
class SourceCounts:
    """What became of the A-scans on the wire. ``seq_gaps`` are A-scans whose number never arrived,
    ``duplicated`` second copies, which are passed over, ``sent`` the device's own count over all its streams
    (None: it did not say, or not of every one).

    ``reconnects`` times that a port or a device that had gone came back, ``offline_s`` seconds without it in
    all, ``resets`` times that it began a new session, ``unknown_ends`` streams of which nobody can say how
    many A-scans the device sent behind the last that came.
    """

    received: int = 0
    crc_errors: int = 0
    resyncs: int = 0
    seq_gaps: int = 0
    reconnects: int = 0
    duplicated: int = 0
    sent: int | None = None
    resets: int = 0
    unknown_ends: int = 0
    offline_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How to open a source: ``baud``, the protocol, seconds to wait for a valid frame, A-scans to ask for
    (0: no end), the PRF to ask for in Hz (0: the device's own), USFP's payload format to ask for. ``fs_hz``
    and ``t0_us`` (main bang to first sample) are for front ends whose wire does not say them.

    ``reconnect``: a port or a device that goes away once it has sent A-scans is waited for, without end;
    ``wait``: it is waited for at the start too.
    """

    baud: int = 921_600
    protocol: str = "auto"
    patience_s: float = 5.0
    count: int = 0
    prf_hz: float = 0.0
    payload: str = "int16"
    fs_hz: float | None = None
    t0_us: float | None = None
    reconnect: bool = False
    wait: bool = False


class Source(Protocol):
    """A context manager that iterates A-scans and counts what it saw.

    ``lossless``: waits for its reader (a file); else it is live, and what is not taken in time is dropped.
    """

    counts: SourceCounts
    lossless: bool

    @property
    def prf_hz(self) -> float | None:
        """A-scans a second, None when not known."""
        ...

    @property
    def protocol(self) -> str | None:
        """What is spoken on the wire; None for a file that is no capture of one."""
        ...

    def __enter__(self) -> Source: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None: ...

    def __iter__(self) -> Iterator[AScan]: ...

    def stop(self) -> None:
        """End the iteration soon; callable from any thread."""
        ...


SOURCES = {
    "sim": ("usedge.sources.sim", "SimSource"),
    "replay": ("usedge.sources.replay", "ReplaySource"),
    "raw": ("usedge.sources.raw", "RawSource"),
    "socket": ("usedge.sources.serial_port", "SerialSource"),
    "usb": ("usedge.sources.serial_port", "SerialSource"),
    "device": ("usedge.sources.serial_port", "SerialSource"),
}


def open_source(port: str, options: SourceOptions) -> Source:
    """The source that ``port`` names: a device path, ``usb:VID:PID[:SERIAL]``, ``socket://…``,
    ``sim://[?options]``, ``replay:FILE``, ``raw:FILE``.

    Nothing is opened before the source's context is entered. Raises InputError for an unknown scheme or a
    malformed name.
    """
    scheme, colon, _ = port.partition(":")
    name = scheme if colon and "/" not in scheme else "device"
    if name not in SOURCES:
        known = ", ".join(f"{each}:" for each in SOURCES if each != "device")
        raise InputError(f"port {port!r} has an unknown scheme {scheme!r}.",
                         f"Known: a device path, {known}.")
    module, cls = SOURCES[name]
    source: Source = getattr(importlib.import_module(module), cls)(port, options)
    return source
