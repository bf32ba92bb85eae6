from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType

import numpy as np
import pytest

from usedge.ascan import AScan
from usedge.errors import LinkError
from usedge.runtime.feed import Feed
from usedge.sources import SourceCounts

DEADLINE_S = 30.0


class ListSource:
    """A source of n A-scans that can fail after them, and says when it has given all."""

    prf_hz = None

    def __init__(self, n: int, lossless: bool, error: Exception | None = None) -> None:
        self.n, self.lossless, self.error = n, lossless, error
        self.counts = SourceCounts()
        self.exhausted = threading.Event()
        self.stopped = False

    def __enter__(self) -> ListSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __iter__(self) -> Iterator[AScan]:
        for seq in range(self.n):
            if self.stopped:
                return
            self.counts.received += 1
            yield AScan(np.zeros(8, np.int16), 1e6, seq=seq)
        self.exhausted.set()
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        self.stopped = True


def drain(feed: Feed) -> list[int]:
    taken = []
    while not feed.ended:
        ascan = feed.take(0.1)
        if ascan is not None:
            taken.append(ascan.seq)
    return taken


def test_a_live_source_drops_the_oldest_and_counts_it() -> None:
    source = ListSource(100, lossless=False)
    with Feed(source, size=10) as feed:
        assert source.exhausted.wait(DEADLINE_S)
        taken = drain(feed)
    assert taken == list(range(90, 100))
    assert feed.dropped == 90


def test_a_lossless_source_waits_for_its_reader() -> None:
    source = ListSource(1000, lossless=True)
    with Feed(source, size=4) as feed:
        assert drain(feed) == list(range(1000))
    assert feed.dropped == 0


def test_the_sources_error_comes_after_the_ascans_before_it() -> None:
    source = ListSource(3, lossless=False, error=LinkError("the cable is out."))
    with Feed(source) as feed:
        assert source.exhausted.wait(DEADLINE_S)
        assert [feed.take(DEADLINE_S).seq for _ in range(3)] == [0, 1, 2]  # type: ignore[union-attr]
        with pytest.raises(LinkError, match="cable is out"):
            feed.take(DEADLINE_S)


def test_leaving_early_stops_a_waiting_reader() -> None:
    source = ListSource(1000, lossless=True)
    with Feed(source, size=4) as feed:
        assert feed.take(DEADLINE_S) is not None
    assert not any(thread.name == "usedge-reader" for thread in threading.enumerate())
    assert source.counts.received < 1000
