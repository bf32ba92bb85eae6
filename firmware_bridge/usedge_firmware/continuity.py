"""The host's account of sequence numbers: which A-scans came, which never did, which came late or twice."""

from __future__ import annotations

from typing import Final, Literal

WINDOW: Final = 4096
"""How far behind the newest number an arrival can still be told to be late or a duplicate."""
_MODULUS: Final = 1 << 32

Verdict = Literal["new", "late", "duplicate"]


class Continuity:
    """Follows 32-bit sequence numbers over wraps, gaps, reordering and repeats, in memory of a fixed size.

    ``received`` distinct numbers taken; ``missing`` numbers passed over and not arrived so far; ``late``
    arrivals among ``received`` that came behind a greater number; ``duplicated`` arrivals of a number that
    had come already. Whatever happens, each ``take`` raises exactly one of ``received`` and ``duplicated``.

    A number over ``window`` behind or ahead is a wild jump. It is followed at once: ahead, all numbers
    between are missing; behind, it is a device that started anew without saying so, and what was missing
    stays so. When the next number goes on from where the jump began, the jump was one wild number, and its
    gap is taken back. An untold new start *within* the window cannot be told from repeats: it reads as
    duplicates until it has caught up.
    """

    def __init__(self, *, window: int = WINDOW) -> None:
        self.received = 0
        self.missing = 0
        self.late = 0
        self.duplicated = 0
        self._window = window
        self._next: int | None = None
        self._unseen = 0  # bit k: the number k + 1 behind _next has not come
        self._known = 0  # numbers behind _next, up to the window, that belong to this stream
        self._before_jump: tuple[int, int, int, int] | None = None

    def restart(self, next_seq: int | None) -> None:
        """Begin another stream: ``next_seq`` is the number of its first A-scan, None where that is not told.

        The counters stand. Numbers before a told ``next_seq`` are of no stream of ours: duplicates.
        """
        self._next = next_seq
        self._unseen = 0
        self._known = self._window
        self._before_jump = None

    def resume(self, next_seq: int) -> None:
        """Go on in the same session, as after a replug: numbers before ``next_seq`` will come no more.

        Those among them that did not come are missing, such as the A-scan under way when the cable went.
        """
        if self._next is not None:
            self.missing += max(0, _distance(next_seq, self._next))
        self.restart(next_seq)

    def has(self, seq: int) -> bool:
        """Whether an arrival of ``seq`` now would be a second copy."""
        behind = -_distance(seq, self._next) if self._next is not None else 0
        return 0 < behind <= self._known and not self._unseen >> (behind - 1) & 1

    def take(self, seq: int) -> Verdict:
        """Account for one arrival, ``seq`` modulo 2³²: "new", "late" (behind a newer one), "duplicate"."""
        if self._next is None:
            self._begin_at(seq)
        assert self._next is not None
        ahead = _distance(seq, self._next)
        if not -self._window <= ahead <= self._window:
            return self._take_wild(seq, ahead)
        self._before_jump = None
        if ahead >= 0:
            self._advance(seq, ahead)
            return "new"
        return self._take_behind(-ahead)

    def _begin_at(self, seq: int) -> None:
        self._next, self._unseen, self._known = seq, 0, 0

    def _advance(self, seq: int, passed_over: int) -> None:
        self.received += 1
        self.missing += passed_over
        self._next = (seq + 1) % _MODULUS
        self._known = min(self._window, self._known + passed_over + 1)
        if self._unseen or passed_over:
            gap = (1 << min(passed_over, self._window)) - 1
            shift = min(passed_over, self._window) + 1
            self._unseen = (self._unseen << shift | gap << 1) & ((1 << self._window) - 1)

    def _take_behind(self, behind: int) -> Verdict:
        if behind > self._known:  # before the first that came, whose place in the stream nobody told
            between = behind - self._known - 1
            self._unseen |= ((1 << between) - 1) << self._known
            self.missing += between
            self._known = behind
        elif self._unseen >> (behind - 1) & 1:
            self._unseen ^= 1 << (behind - 1)
            self.missing -= 1
        else:
            self.duplicated += 1
            return "duplicate"
        self.received += 1
        self.late += 1
        return "late"

    def _take_wild(self, seq: int, ahead: int) -> Verdict:
        if self._before_jump is not None and self._back_where_it_was(seq):
            return self.take(seq)
        assert self._next is not None
        self._before_jump = (self._next, self._unseen, self._known, max(0, ahead))
        if ahead < 0:
            self._begin_at(seq)
        self._advance(seq, max(0, ahead))
        return "new"

    def _back_where_it_was(self, seq: int) -> bool:
        assert self._before_jump is not None
        expected, unseen, known, gap = self._before_jump
        if not -self._window <= _distance(seq, expected) <= self._window:
            return False
        self._next, self._unseen, self._known = expected, unseen, known
        self.missing -= gap
        return True


def _distance(seq: int, origin: int) -> int:
    """How far ``seq`` lies ahead of ``origin``, −2³¹ … 2³¹ − 1."""
    return (seq - origin + _MODULUS // 2) % _MODULUS - _MODULUS // 2
