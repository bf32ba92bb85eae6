"""A-scans from files, without loss: as fast as they are taken, or at the pace that they came in."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import TracebackType

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.sources import SourceOptions
from usedge.sources.files import StoredAScans, stored_files

QUERY = re.compile(r"(.+)\?([a-z_]+)=([^?*\[\]/]*)")


class ReplaySource:
    """``replay:FILE[?pace=1]``: a recording, rows of an npz or HDF5 file, or a capture (``.usfp``, ``.bin``).

    FILE may be a folder of recordings or a pattern of files. ``pace`` 1 is as fast as the A-scans were
    recorded, 2 twice that, 0 as fast as they are taken. ``t_ns`` is the time of the replay, so that latencies
    are its own.
    """

    lossless = True
    prf_hz = None
    protocol = None

    def __init__(self, port: str, options: SourceOptions) -> None:
        name, self.pace = _pace_of(port.partition(":")[2])
        self._stored = StoredAScans(stored_files(name))
        self.count = options.count
        self.counts = self._stored.counts
        self._stopping = threading.Event()

    def __enter__(self) -> ReplaySource:
        missing = next((path for path in self._stored.paths if not path.exists()), None)
        if missing is not None:
            raise InputError(f"there is no file {missing}.", "Check the path.")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stopping.set()

    def __iter__(self) -> Iterator[AScan]:
        pace = _Pace(self.pace)
        for ascan in islice(self._stored, self.count or None):
            if self.pace:
                self._check_times()
                self._stopping.wait(pace.wait_s(ascan.t_ns, self._stored.session))
            if self._stopping.is_set():
                return
            self.counts.received += 1
            yield replace(ascan, t_ns=time.monotonic_ns())

    def stop(self) -> None:
        """End the iteration before the next A-scan."""
        self._stopping.set()

    def _check_times(self) -> None:
        if not self._stored.recorded:
            raise InputError(f"{self._stored.paths[0]} does not tell when its A-scans came in.",
                             "Only recordings have a pace; leave out ?pace.")


class _Pace:
    """When the next A-scan is due: as long after the first as it was recorded after it, over ``factor``."""

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._session: str | None = None
        self._recorded_ns = self._begun_ns = 0

    def wait_s(self, recorded_ns: int, session: str | None) -> float:
        """Seconds to wait for an A-scan of ``session`` that came in at ``recorded_ns``."""
        now_ns = time.monotonic_ns()
        if session != self._session or recorded_ns < self._recorded_ns or not self._begun_ns:
            # Another session's clock says nothing about the pause between the two.
            self._session, self._recorded_ns, self._begun_ns = session, recorded_ns, now_ns
        due_ns = self._begun_ns + (recorded_ns - self._recorded_ns) / self._factor
        return max(0.0, (due_ns - now_ns) * 1e-9)


def _pace_of(name: str) -> tuple[str, float]:
    """FILE and the pace; a file whose own name looks like a query is taken as it is."""
    match = QUERY.fullmatch(name)
    if match is None or Path(name).exists():
        return name, 0.0
    file, key, value = match.groups()
    if key != "pace":
        raise InputError(f"replay: has no option {key!r}.", "Known: pace.")
    try:
        pace = float(value)
    except ValueError:
        pace = math.nan
    if not (math.isfinite(pace) and pace >= 0):
        raise InputError(f"pace {value!r} is no speed.", "1: as recorded, 2: twice as fast.")
    return file, pace
