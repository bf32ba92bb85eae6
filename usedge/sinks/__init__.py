"""Where readings go: stdout at once, all else behind a bounded queue. One table, imported when asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Protocol

from usedge.ascan import AScan
from usedge.errors import InputError, known_name
from usedge.pipe import Pipe, Stream, descriptor
from usedge.reading import Reading

if TYPE_CHECKING:
    from usedge.sinks.queued import Queued


class Sink(Protocol):
    """Takes each reading with the gated A-scan that it was made from.

    A sink that has ``watch(ascan)`` as well is given the whole A-scan before its reading.
    """

    def write(self, reading: Reading, gated: AScan) -> None:
        """Take one reading."""
        ...

    def close(self) -> None:
        """Finish, after the last reading."""
        ...


def _never() -> bool:
    return False


def _silent(_: str) -> None:
    pass


class JsonLines:
    """One JSON object a line, at once, so that a pipe sees each reading when it is made.

    A reader that takes nothing is waited for until ``over()``; what it did not get then is told by ``say``.
    """

    name = "stdout"

    def __init__(self, file: IO[str] | None = None, over: Callable[[], bool] = _never,
                 say: Callable[[str], None] = _silent) -> None:
        stream = sys.stdout if file is None else file
        fd = descriptor(stream)
        self._pipe = Stream(stream) if fd is None else Pipe(fd, over)
        self._say = say

    def write(self, reading: Reading, gated: AScan) -> None:  # noqa: ARG002 - Sink's signature
        """Write the reading's contract keys as one line."""
        self._pipe.write(reading.to_json().encode() + b"\n")

    def close(self) -> None:
        """Tell what is left."""
        if self._pipe.unwritten:
            self._say(f"nobody reads stdout; readings left unwritten there: {self._pipe.unwritten}.")


def _nothing() -> dict[str, Any]:
    return {}


def _unknown() -> None:
    return None


@dataclass(frozen=True)
class Station:
    """What a sink may tell of the run besides its readings.

    ``counters()`` are the summary's as they stand, ``prf_hz()`` A-scans a second or None, ``facts`` what does
    not change (version, bundle), ``say`` takes one line for the person at the terminal, from any thread.
    """

    port: str = ""
    say: Callable[[str], None] = field(default=lambda _: None)
    counters: Callable[[], dict[str, Any]] = _nothing
    prf_hz: Callable[[], float | None] = _unknown
    facts: dict[str, str] = field(default_factory=dict)


SINKS = {
    "jsonl": ("usedge.sinks.files", "open_jsonl"),
    "csv": ("usedge.sinks.files", "open_csv"),
    "mqtt": ("usedge.sinks.mqtt", "open_mqtt"),
    "mqtts": ("usedge.sinks.mqtt", "open_mqtt"),
    "prometheus": ("usedge.sinks.prometheus", "open_prometheus"),
    "influx+http": ("usedge.sinks.influx", "open_http"),
    "influx+https": ("usedge.sinks.influx", "open_http"),
    "influx+udp": ("usedge.sinks.influx", "open_udp"),
    "web": ("usedge.sinks.web", "open_web"),
}


def open_sinks(urls: Iterable[str], station: Station) -> list[Queued]:
    """The sinks that ``urls`` name, open and waiting for readings.

    Raises InputError for an unknown scheme, an address twice, and whatever cannot be opened; those opened
    before are closed again then.
    """
    opened: list[Queued] = []
    try:
        for url in urls:
            sink = _open(url, station)
            opened.append(sink)
            if sink.name in [each.name for each in opened[:-1]]:
                raise InputError(f"sink {sink.name} is given twice.", "Leave one out.")
    except BaseException:
        close_sinks(opened)
        raise
    return opened


def _open(url: str, station: Station) -> Queued:
    scheme, colon, _ = url.partition(":")
    if not colon:
        raise InputError(f"sink {url!r} has no scheme.", f"Example: --sink jsonl:{url or 'readings.jsonl'}")
    known_name(scheme, SINKS, "sink")
    module, function = SINKS[scheme]
    sink: Queued = getattr(importlib.import_module(module), function)(url, station)
    return sink


def close_sinks(sinks: Sequence[Sink]) -> None:
    """Close all ``sinks``, those with a queue flushing side by side; the first error is raised at the end."""
    for sink in sinks:
        if hasattr(sink, "leave"):
            sink.leave()
    errors: list[BaseException] = []
    for sink in sinks:
        try:
            sink.close()
        except (OSError, ValueError) as error:
            errors.append(error)
    if errors:
        raise errors[0]


def sink_states(sinks: Iterable[Sink]) -> dict[str, dict[str, Any]]:
    """Of every sink with a queue, by its name: written, dropped, state, error."""
    return {sink.name: sink.state() for sink in sinks if hasattr(sink, "leave") and hasattr(sink, "state")
            and hasattr(sink, "name")}
