"""What became of a device's A-scans, over every stream that it was told to start and every session."""

from __future__ import annotations

from usedge_firmware.continuity import Continuity, Verdict


class Account:
    """One account over streams, pulled cables and resets; a stream is what follows one START.

    ``sent`` is what the device says, stream by stream, or what its numbers prove: a START in the same session
    tells the number that comes next, and so how many the stream before it had. Where neither is told, as
    before a reset, ``unknown_ends`` grows: A-scans sent behind the last one that came cannot be known there,
    and nothing is guessed. ``sent`` is None then, and while a stream runs.
    """

    def __init__(self) -> None:
        self.unknown_ends = 0
        self._numbers = Continuity()
        self._closed = 0  # received and missing of the streams before this one
        self._tails = 0  # A-scans that the streams before this one lost behind the last that came
        self._sent = 0  # by the streams before this one
        self._told: int | None = None  # what the device says of this stream
        self._open = True  # a capture may begin in the midst of a stream
        self._begun = self._numbered = False

    @property
    def received(self) -> int:
        """Distinct A-scans that came."""
        return self._numbers.received

    @property
    def duplicated(self) -> int:
        """Second copies."""
        return self._numbers.duplicated

    @property
    def missing(self) -> int:
        """A-scans that were sent, as far as anything tells, and did not come."""
        return self._numbers.missing + self._tails + self._tail()

    @property
    def sent(self) -> int | None:
        """A-scans that the device sent, None where that is not known."""
        return None if self._told is None or self.unknown_ends else self._sent + self._told

    def take(self, seq: int) -> Verdict:
        """Account for one arrival."""
        return self._numbers.take(seq)

    def has(self, seq: int) -> bool:
        """Whether an arrival of ``seq`` now would be a second copy."""
        return self._numbers.has(seq)

    def begin(self, next_seq: int | None) -> None:
        """A stream of ours begins with the number ``next_seq``, None where that is not told."""
        proven = next_seq is not None and self._open and self._numbered
        if proven:
            assert next_seq is not None
            self._numbers.resume(next_seq)  # what the stream before this one lost at its end is among these
        else:
            self._numbers.restart(next_seq)
        self._close(proven=proven)
        self._begun, self._numbered = True, next_seq is not None

    def end(self, sent: int | None) -> None:
        """The device says that its stream is over, and how many it sent."""
        if self._open:  # a STOP that was sent twice is answered twice
            self._open, self._told = False, sent

    def lose_session(self) -> None:
        """What comes now bears the numbers of another session, or may: they tell nothing of those before."""
        self._numbers.restart(None)
        self._close(proven=False)
        self._begun = self._numbered = False

    def _close(self, *, proven: bool) -> None:
        """Close this stream's account and open another."""
        if self._open and not proven and (self._begun or self._known()):
            self.unknown_ends += 1
        self._sent += self._known() if self._told is None else self._told
        self._tails += self._tail()
        self._closed = self._numbers.received + self._numbers.missing
        self._told, self._open = None, True

    def _known(self) -> int:
        """Received and missing of this stream."""
        return self._numbers.received + self._numbers.missing - self._closed

    def _tail(self) -> int:
        return max(0, self._told - self._known()) if self._told is not None else 0
