"""Which stage of a run does not move: the reader, the picker, or which sink."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from usedge.sources.told import Teller

STUCK_S = 10.0
LOOKS_A_LIMIT = 5
WAITING, OPENING, STOPPING, READER = "wait", "open", "stop", "read"
WITH_THE_SOURCE = (OPENING, STOPPING)
"""Stages that may last, as long as the source does something in them."""


class Watchdog:
    """Looks, in a thread of its own, whether the loop went on to another stage within ``limit_s`` seconds.

    The loop says ``enter`` as it begins a stage, which costs it a timestamp. ``beat_ns`` tells when the
    source last did something, on the monotonic clock; 0 where it does not tell, and is not watched.
    """

    def __init__(self, beat_ns: Callable[[], int], limit_s: float = STUCK_S) -> None:
        self.limit_s = limit_s
        self._beat_ns = beat_ns
        self._at = (OPENING, time.monotonic_ns())
        self._stuck: tuple[str, int] | None = None
        self._found: dict[str, dict[str, Any]] = {}
        self._tell = Teller()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="usedge-watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._at = (OPENING, time.monotonic_ns())
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._judge()

    def enter(self, stage: str) -> None:
        """The loop begins ``stage``."""
        self._at = (stage, time.monotonic_ns())

    def alive(self) -> bool:
        """Whether every stage has moved within the limit; from any thread, and True while nothing runs."""
        return not self._thread.is_alive() or self._overdue() is None

    def found(self) -> dict[str, dict[str, Any]]:
        """For the summary: by stage, how many ``times`` it was stuck and its ``longest_s``."""
        return {stage: dict(each) for stage, each in self._found.items()}

    def _overdue(self) -> tuple[str, int] | None:
        """The stage that has not moved within the limit, and since when."""
        stage, since_ns = self._at
        beat_ns = self._beat_ns()
        if stage in WITH_THE_SOURCE:
            since_ns = max(since_ns, beat_ns)
        late_ns = time.monotonic_ns() - self.limit_s * 1e9
        if since_ns < late_ns:
            return stage, since_ns
        if beat_ns and beat_ns < late_ns and stage not in WITH_THE_SOURCE:
            return READER, beat_ns
        return None

    def _look(self) -> None:
        while not self._over.wait(self.limit_s / LOOKS_A_LIMIT):
            self._judge()

    def _judge(self) -> None:
        now, before = self._overdue(), self._stuck
        self._stuck = now
        if now is not None:
            self._note(*now, again=now == before)
        if before is not None and now != before:
            longest_s = self._found[before[0]]["longest_s"]
            self._tell(f"stage {before[0]!r} moves again, after about {longest_s:.0f} s.")

    def _note(self, stage: str, since_ns: int, *, again: bool) -> None:
        seconds = round((time.monotonic_ns() - since_ns) * 1e-9, 1)
        each = self._found.setdefault(stage, {"times": 0, "longest_s": 0.0})
        each["longest_s"] = max(each["longest_s"], seconds)
        if not again:
            each["times"] += 1
            self._tell(f"stage {stage!r} has not moved for {seconds:.0f} s.")
