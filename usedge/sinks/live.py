"""What the live page shows, kept ready for any number of browsers: made once for all, ten times a second."""

from __future__ import annotations

import base64
import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usedge.ascan import AScan
from usedge.meter import Histogram
from usedge.reading import Reading
from usedge.sinks import Station
from usedge.sinks.told import link_state

FRAME_S = 0.1
COLUMNS = 480
BINS = 600
HISTORY_S = 300.0
BINS_IN_A_FRAME = 8
OCTAVE = 4
"""Bars of the latency histogram for each doubling."""


def columns(samples: NDArray[np.int16], n: int = COLUMNS) -> NDArray[np.int16]:
    """``samples (m,)`` around their median as (least, largest) of each of ``n`` columns, (2n,); as they are
    where there are no more than 2n.
    """
    middle = int(np.median(samples)) if len(samples) else 0
    x = np.clip(samples.astype(np.int32) - middle, -32768, 32767).astype(np.int16)
    if len(x) <= 2 * n:
        return x
    edges = np.linspace(0, len(x), n + 1).astype(int)[:-1]
    shown = np.empty(2 * n, np.int16)
    shown[::2], shown[1::2] = np.minimum.reduceat(x, edges), np.maximum.reduceat(x, edges)
    return shown


def _trace(ascan: AScan) -> dict[str, Any]:
    shown = columns(ascan.samples)
    return {"t0_us": ascan.t0_us, "end_us": ascan.end_us, "pairs": len(shown) < len(ascan.samples),
            "data": base64.b64encode(shown.astype("<i2").tobytes()).decode()}


@dataclass
class Bin:
    """The readings of a moment: least, newest and largest ToF, how many, and how many abstained."""

    index: int
    low: float | None = None
    newest: float | None = None
    high: float | None = None
    n: int = 0
    abstained: int = 0

    def add(self, tof_us: float | None) -> None:
        """Count one reading."""
        self.n += 1
        if tof_us is None:
            self.abstained += 1
            return
        self.newest = tof_us
        self.low = tof_us if self.low is None else min(self.low, tof_us)
        self.high = tof_us if self.high is None else max(self.high, tof_us)

    def told(self) -> list[float | int | None]:
        """As the page reads it."""
        return [self.index, self.low, self.newest, self.high, self.n, self.abstained]


@dataclass
class GateView:
    """One gate's newest reading, history and abstentions."""

    newest: Reading | None = None
    bins: deque[Bin] = field(default_factory=lambda: deque(maxlen=BINS))
    abstentions: dict[str, int] = field(default_factory=dict)

    def add(self, reading: Reading, index: int) -> None:
        """Count one reading in the bin ``index``."""
        self.newest = reading
        if not self.bins or self.bins[-1].index < index:
            self.bins.append(Bin(index))
        self.bins[-1].add(reading.tof_us)
        if reading.abstain is not None:
            self.abstentions[reading.abstain] = self.abstentions.get(reading.abstain, 0) + 1


class Live:
    """The state of the page. ``see`` and ``show`` are called by the device loop and keep a reference alone,
    ``add`` by the queue's thread, ``frame`` and ``history`` by the server's.
    """

    def __init__(self, station: Station, history_s: float = HISTORY_S,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._station, self._clock = station, clock
        self._bin_ns = int(history_s / BINS * 1e9)
        self._begin_ns = time.monotonic_ns()
        self._whole: AScan | None = None
        self._shown: dict[str, tuple[Reading, AScan, AScan | None]] = {}
        self._gates: dict[str, GateView] = {}
        self._latency, self._bars = Histogram(), dict[int, int]()
        self._lock = threading.Lock()
        self._frame, self._frame_due_s, self._number = b"", float("-inf"), 0

    def see(self, ascan: AScan) -> None:
        """The whole A-scan that the next readings are of."""
        self._whole = ascan

    def show(self, reading: Reading, gated: AScan) -> None:
        """The newest reading and the A-scan that it was made from."""
        self._shown[reading.gate or ""] = (reading, gated, self._whole)

    def add(self, readings: Sequence[Reading]) -> None:
        """Count ``readings`` in histories and histograms."""
        with self._lock:
            for reading in readings:
                gate = self._gates.setdefault(reading.gate or "", GateView())
                gate.add(reading, self._index(reading.t_ns))
                self._latency.add(int(reading.latency_us * 1e3))
                bar = round(OCTAVE * math.log2(max(reading.latency_us, 1.0)))
                self._bars[bar] = self._bars.get(bar, 0) + 1

    def frame(self) -> tuple[int, bytes]:
        """The page's state as JSON and its number, made anew once FRAME_S has gone by."""
        now = self._clock()
        if now >= self._frame_due_s:
            self._frame_due_s = now + FRAME_S
            self._number += 1
            self._frame = json.dumps(self._state()).encode()
        return self._number, self._frame

    def history(self) -> bytes:
        """All bins of all gates, as JSON."""
        with self._lock:
            bins = {name: [each.told() for each in gate.bins] for name, gate in self._gates.items()}
        return json.dumps({"bin_s": self._bin_ns * 1e-9, "bins": BINS, "now": self._index(), "gates": bins}
                          ).encode()

    def now(self) -> int:
        """The bin of this moment."""
        return self._index()

    def _index(self, t_ns: int | None = None) -> int:
        return ((time.monotonic_ns() if t_ns is None else t_ns) - self._begin_ns) // self._bin_ns

    def _state(self) -> dict[str, Any]:
        shown = dict(self._shown)
        last = max((each[0] for each in shown.values()), key=lambda reading: reading.t_ns, default=None)
        prf_hz = self._station.prf_hz()
        with self._lock:
            gates = [self._gate(name, *shown[name]) for name in shown]
            return {"port": self._station.port, "link": link_state(last, prf_hz), "prf_hz": prf_hz,
                    "facts": self._station.facts, "counters": self._station.counters(), "now": self._index(),
                    "bin_s": self._bin_ns * 1e-9, "whole": self._whole_trace(shown), "gates": gates,
                    "latency": self._latency_told()}

    def _gate(self, name: str, reading: Reading, gated: AScan, whole: AScan | None) -> dict[str, Any]:
        view = self._gates.get(name) or GateView()
        is_all = whole is not None and len(whole.samples) == len(gated.samples)
        return {"name": name, "reading": reading.to_dict(), "start_us": gated.t0_us, "end_us": gated.end_us,
                "trace": None if is_all else _trace(gated), "abstentions": view.abstentions,
                "bins": [each.told() for each in list(view.bins)[-BINS_IN_A_FRAME:]]}

    def _whole_trace(self, shown: dict[str, tuple[Reading, AScan, AScan | None]]) -> dict[str, Any] | None:
        for _, gated, whole in shown.values():
            return _trace(gated if whole is None else whole)
        return None

    def _latency_told(self) -> dict[str, Any]:
        if not self._bars:
            return {"bars": [], "first": 0, "octave": OCTAVE}
        first, last = min(self._bars), max(self._bars)
        return {"bars": [self._bars.get(bar, 0) for bar in range(first, last + 1)], "first": first,
                "octave": OCTAVE, **self._latency.summary("_us")}
