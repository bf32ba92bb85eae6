"""What the front ends for foreign wires share: the bytes held back, and the account of those passed over."""

from __future__ import annotations

from abc import ABC, abstractmethod

from usedge_firmware.frontend import Event, LinkStats, Request


class Gathering(ABC):
    """Feeds ``_step`` until it needs more bytes; a subclass says what a record looks like.

    Bytes fed = bytes of what was understood + ``stats.skipped_bytes`` + ``pending``.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.seen = 0
        self._stats = LinkStats()
        self._buffer = bytearray()
        self._at = 0
        self._need = 0  # length of the buffer below which _step has nothing to look at
        self._searched = 0  # bytes of the buffer, for a subclass that need not look at them again
        self._in_sync = False
        self._ended = False

    @property
    def stats(self) -> LinkStats:
        """What was met so far."""
        return self._stats

    @property
    def prf_hz(self) -> float | None:
        """A-scans a second that ``start`` asks for, None = the device's own."""
        return self.request.prf_hz or None

    @property
    def pending(self) -> int:
        """Bytes held back until more arrive."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes, in pieces of any length; return what they complete, in the wire's order."""
        self._buffer += data
        events: list[Event] = []
        if len(self._buffer) >= self._need:
            self._drain(events)
        return events

    def finish(self) -> list[Event]:
        """End the stream: return what is sound in the bytes held back, and skip the rest.

        A record that the end has cut off is no damaged one: its bytes count as skipped, and that is all.
        """
        events: list[Event] = []
        self._ended = True
        self._drain(events)
        while self._buffer:
            self._in_sync = False
            self._skip_to(min(self._false_start(), len(self._buffer)))
            self._drain(events)
        self._ended = self._in_sync = False
        return events

    def reset(self) -> None:
        """Forget the bytes held back, as after a reconnect; they count as skipped, not as a resync."""
        self._stats.skipped_bytes += len(self._buffer)
        self._buffer.clear()
        self._at = self._need = self._searched = 0
        self._in_sync = False

    def wants(self, now_s: float) -> bytes:  # noqa: ARG002 - a device that streams needs no clock here
        """Return nothing: this device streams by itself."""
        return b""

    @abstractmethod
    def _step(self, events: list[Event]) -> bool:
        """Understand or skip what stands at ``_at``; False when that takes more bytes (see ``_need``)."""

    @abstractmethod
    def _false_start(self) -> int:
        """How many bytes to pass over when what begins the buffer will never be complete; at least 1."""

    def _drain(self, events: list[Event]) -> None:
        self._need = 0
        while self._step(events):
            pass
        del self._buffer[: self._at]
        self._need = max(0, self._need - self._at)
        self._searched = max(0, self._searched - self._at)
        self._at = 0

    def _skip_to(self, position: int) -> None:
        """Pass over bytes that are no record; the first of them after a sound record means sync is lost."""
        if position == self._at:
            return
        self._stats.skipped_bytes += position - self._at
        self._stats.resyncs += self._in_sync
        self._in_sync = False
        self._at = position

    def _take(self, position: int) -> None:
        """Go past bytes that were understood."""
        self._in_sync = True
        self._at = position


def marker_tail(buffer: bytearray, marker: bytes, at: int) -> int:
    """Where, from ``at`` on, the buffer's last bytes could begin ``marker``; its end when they could not."""
    for length in range(min(len(marker) - 1, len(buffer) - at), 0, -1):
        if buffer.endswith(marker[:length]):
            return len(buffer) - length
    return len(buffer)


class Patience:
    """When to ask again, told by the number of times one could have: at once, then ever more rarely.

    Asking starts the device anew, so one that sends slowly must be left alone long enough to send.
    """

    def __init__(self) -> None:
        self._pause = 0
        self._left = 0

    def due(self) -> bool:
        """Whether to ask this time."""
        if self._left:
            self._left -= 1
            return False
        self._left = self._pause
        self._pause += 1
        return True
