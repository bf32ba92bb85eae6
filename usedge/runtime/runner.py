"""``run``: every A-scan of a source becomes a reading, or is counted for what became of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usedge import __version__
from usedge.ascan import AScan
from usedge.meter import Meter, host_facts, peak_rss_mb
from usedge.runtime.feed import QUEUE_ASCANS, Feed
from usedge.runtime.lane import Lane
from usedge.runtime.watchdog import STOPPING, STUCK_S, WAITING, Watchdog
from usedge.sinks import Sink, close_sinks, sink_states
from usedge.sources import Source
from usedge.tof import Difference, Pick, Picker

if TYPE_CHECKING:
    from usedge.recording import Recorder

WAIT_S = 0.1


@dataclass(frozen=True, slots=True)
class RunOptions:
    """When a run ends: after ``count`` A-scans or ``seconds`` (0: no end). A stage that has not moved for
    ``stuck_s`` is told as stuck.
    """

    count: int = 0
    seconds: float = 0.0
    queue_ascans: int = QUEUE_ASCANS
    stuck_s: float = STUCK_S


@dataclass
class Run:
    """One run. ``meter`` holds latencies by stage, ``stop`` ends it from any thread, ``summary()`` sums up.

    ``lanes`` are the gates; each makes a reading of every A-scan.

    received = classified + abstained + dropped + unread, at every end: these count A-scans, classified where
    at least one gate has an answer. The readings of each gate are counted in its lane. ``recorder`` is given
    every A-scan that comes, before it is queued.
    """

    source: Source
    picker: Picker
    sinks: Sequence[Sink]
    options: RunOptions
    bundle: dict[str, Any] | None = None
    lanes: Sequence[Lane] = field(default_factory=lambda: [Lane()])
    meter: Meter = field(default_factory=Meter)
    stop: threading.Event = field(default_factory=threading.Event)
    recorder: Recorder | None = None
    classified: int = 0
    abstained: int = 0
    deadline_misses: int = 0
    dropped: int = 0
    unread: int = 0
    first_reading_ns: int = 0
    _until: float = field(default=float("inf"), init=False, repr=False)
    _feed: Feed | None = field(default=None, init=False, repr=False)
    _watching: list[Callable[[AScan], None]] = field(default_factory=list, init=False, repr=False)
    _named: list[tuple[str, Sink]] = field(default_factory=list, init=False, repr=False)
    _watchdog: Watchdog = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._watchdog = Watchdog(lambda: getattr(self.source, "beat_ns", 0), self.options.stuck_s)

    def go(self) -> None:
        """Stream until the source ends, the options' end, or ``stop``; sinks are closed whatever happens.

        Raises LinkError when the port fails, InputError for an A-scan that does not cover the gate.
        """
        self._until = time.monotonic() + self.options.seconds if self.options.seconds else float("inf")
        feed = self._feed = Feed(self.source, self.options.queue_ascans,
                                 self.recorder.offer if self.recorder else None)
        self._watching = [sink.watch for sink in self.sinks if hasattr(sink, "watch")]
        self._named = [(f"sink {getattr(sink, 'name', type(sink).__name__)}", sink) for sink in self.sinks]
        with self._watchdog:
            self._go(feed)

    def over(self) -> bool:
        """Whether the run has to end now, whatever still waits; from any thread."""
        return self.stop.is_set() or time.monotonic() >= self._until

    def _go(self, feed: Feed) -> None:
        enter = self._watchdog.enter
        try:
            with self.recorder or nullcontext(), self.source, feed:
                while not feed.ended and not self.over():
                    enter(WAITING)
                    ascan = feed.take(WAIT_S)
                    if ascan is not None:
                        self._read(ascan)
                enter(STOPPING)
        finally:
            self.dropped = feed.dropped
            self.unread = self.source.counts.received - self.classified - self.abstained - feed.dropped
            enter("close the sinks")
            close_sinks(self.sinks)

    def _read(self, ascan: AScan) -> None:
        begun_ns, laps_ns = time.monotonic_ns(), dict[str, int]()
        for watch in self._watching:
            watch(ascan)
        enter = self._watchdog.enter
        enter("pick")
        gated = [lane.cut(ascan) for lane in self.lanes]
        picks = [self._pick(lane, part, laps_ns) for lane, part in zip(self.lanes, gated, strict=True)]
        picked_ns = time.monotonic_ns()
        for lane, part, (pick, difference) in zip(self.lanes, gated, picks, strict=True):
            reading = lane.reading(ascan, pick, difference, picked_ns)
            for name, sink in self._named:
                enter(name)
                sink.write(reading, part)
        done_ns = time.monotonic_ns()
        self._clock(ascan, laps_ns, begun_ns, picked_ns, done_ns)
        self._count(done_ns - ascan.t_ns, any(pick.abstain is None for pick, _ in picks))

    def _pick(self, lane: Lane, gated: AScan, laps_ns: dict[str, int]) -> tuple[Pick, Difference | None]:
        answer = lane.pick(gated, self.picker)
        if gated.rf:
            for stage, ns in getattr(self.picker, "laps_ns", {}).items():
                laps_ns[stage] = laps_ns.get(stage, 0) + ns
        return answer

    def _clock(self, ascan: AScan, laps_ns: dict[str, int], begun_ns: int, picked_ns: int, done_ns: int
               ) -> None:
        """Count what each stage took, all gates together; queue and decide are what the others leave."""
        self.first_reading_ns = self.first_reading_ns or done_ns
        add, decode_ns = self.meter.add, getattr(self.source, "decode_ns", 0)
        add("decode", decode_ns)
        add("queue", begun_ns - ascan.t_ns - decode_ns)
        for stage, ns in laps_ns.items():
            add(stage, ns)
        add("decide", picked_ns - begun_ns - sum(laps_ns.values()))
        add("emit", done_ns - picked_ns)
        add("wire_to_reading", done_ns - ascan.t_ns)

    def _count(self, latency_ns: int, answered: bool) -> None:
        if self.source.prf_hz and latency_ns > 1e9 / self.source.prf_hz:
            self.deadline_misses += 1
        if answered:
            self.classified += 1
        else:
            self.abstained += 1

    def _gates(self) -> dict[str, Any]:
        """Readings by gate, where there are several."""
        return {lane.name: {"classified": lane.classified, "abstained": lane.abstained}
                for lane in self.lanes if lane.name is not None}

    def alive(self) -> bool:
        """Whether every stage has moved within ``options.stuck_s``, as a service's watchdog asks; from any
        thread, before and behind ``go`` True. A cable that is out is waited for, and is no stuck stage.
        """
        return self._watchdog.alive()

    def _link_facts(self) -> dict[str, Any]:
        counts, timer = self.source.counts, getattr(self.source, "latency_timer", None)
        return {"resets": counts.resets, "unknown_ends": counts.unknown_ends,
                "offline_s": round(counts.offline_s, 1), "latency_timer": timer.facts() if timer else None}

    def counters(self) -> dict[str, int | None]:
        """The summary's counts as they stand, from any thread; ``sent`` is the device's own count."""
        counts = self.source.counts
        return {
            "received": counts.received, "classified": self.classified, "abstained": self.abstained,
            "dropped": self._feed.dropped if self._feed else self.dropped, "unread": self.unread,
            "sent": counts.sent, "crc_errors": counts.crc_errors, "resyncs": counts.resyncs,
            "seq_gaps": counts.seq_gaps, "reconnects": counts.reconnects, "duplicated": counts.duplicated,
            "deadline_misses": self.deadline_misses,
        }

    def summary(self) -> dict[str, Any]:
        """The contract's summary: counters (``unread``: what an early end left), latency, host, sinks."""
        gates = self._gates()
        recorded = self.recorder.summary() if self.recorder else {}
        return self.counters() | recorded | {
            **self._link_facts(), "stuck": self._watchdog.found(),
            "protocol": self.source.protocol, "latency_us": self.meter.stages["wire_to_reading"].summary(),
            "prf_hz": self.source.prf_hz, "peak_rss_mb": round(peak_rss_mb(), 1), "host": host_facts(),
            "bundle": self.bundle, "version": __version__, "sinks": sink_states(self.sinks),
            **({"gates": gates} if gates else {}),
        }
