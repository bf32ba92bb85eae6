"""pic0rick with its stock firmware (RP2040): text, one A-scan for each ``read``.

Answer: ``----------Start of ACQ----------``, upper-case hex values of 10 bits each with a comma,
``-----------End of ACQ-----------``. That lines may end in CR LF, that commands may be echoed, and the prompt
``run> `` are inferred; all are taken with and without.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from usedge_firmware.dialect import DeviceDescription, DeviceState, Order
from usedge_firmware.frame import MAX_SAMPLES, UsfpError
from usedge_firmware.frontend import Event, Record, Request
from usedge_firmware.frontends.gathering import Gathering
from usedge_firmware.frontends.ten_bit import MID_SCALE, TOP, shift_for, to_ten_bit

START: Final = b"----------Start of ACQ----------"
END: Final = b"-----------End of ACQ-----------"
STOCK_SAMPLES: Final = 8000
FS_HZ: Final = 60_000_000
READ: Final = b"read\r\n"
PULSE_NS: Final = (100, 100, 5000)
"""Widths of ``start acq PON POFF DAMP``, ns: a choice of ours, not the vendor's."""
NO_ANSWER_S: Final = 1.0
LONGEST_ANSWER: Final = 4 * MAX_SAMPLES + 64
_LONGEST_CHATTER = 1024

_VALUES = re.compile(rb"(?:[0-9A-F]{1,3},)+")
# Each byte can be matched in one way only, so that a long text cannot make the search backtrack.
_CHATTER = re.compile(rb"(?:\s|run>|read|start acq(?: [0-9]+)*)*")


class Pic0rickFrontEnd(Gathering):
    """Stock pic0rick, host side: it is asked for every A-scan, a transmit pulse and a ``read`` at a time.

    ``corrupted``: answers cut short by the next one, without a beginning, with a value that is none, or of
    another length than the last. A length other than the stock one of 8000 samples is believed when two
    answers in a row agree on it; the first of them is held until then. ``seq`` counts the answers, damaged
    ones too. t0, gain and clock are not on this wire.
    """

    name: ClassVar[str] = "pic0rick"
    blind_to: ClassVar[str] = (
        "There is no checksum and no number: a changed or lost digit and a lost A-scan are not seen."
    )
    evidence: ClassVar[int] = 1
    acknowledges: ClassVar[bool] = False
    max_prf_hz: ClassVar[float | None] = None

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._fs_hz = float(request.fs_hz or FS_HZ)
        self._t0_us = request.t0_us or 0.0
        self._answers = 0
        self._n_samples = STOCK_SAMPLES
        self._held: tuple[Record, int] | None = None  # and its bytes
        self._polling = False
        self._awaiting = False
        self._due_s = self._heard_s = 0.0
        self._answers_seen = 0
        self._fed = self._fed_seen = 0

    @property
    def pending(self) -> int:
        """Bytes held back until more arrive, those of an answer held included."""
        return super().pending + (self._held[1] if self._held else 0)

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes, in pieces of any length; return what they complete, in the wire's order."""
        self._fed += len(data)
        return super().feed(data)

    def finish(self) -> list[Event]:
        """End the stream; an answer of another length that nothing contradicted is given."""
        events = super().finish()
        if self._held is not None:
            self._give(self._held[0], events)
            self._held = None
        return events

    def reset(self) -> None:
        """Forget the bytes held back and the question unanswered, as after a reconnect."""
        super().reset()
        self._forget_held()
        self._awaiting = False

    def probe(self) -> bytes:
        """Return a ``read`` without a transmit pulse, on a line of its own."""
        return b"\r\n" + READ

    def start(self) -> bytes:
        """Begin to ask, in ``wants``; nothing is to be said now."""
        self._polling = True
        return b""

    def stop(self) -> bytes:
        """Ask no more; nothing is to be said."""
        self._polling = False
        return b""

    def wants(self, now_s: float) -> bytes:
        """Return the next question: when the last was answered and the PRF lets it, or when it was in vain.

        It was in vain when nothing at all has come for a second.
        """
        if self._fed != self._fed_seen:
            self._fed_seen, self._heard_s = self._fed, now_s
        if not self._polling or not self._may_ask(now_s):
            return b""
        period_s = 1.0 / self.request.prf_hz if self.request.prf_hz else 0.0
        # From the time it was due, not from now: on the whole the PRF is kept although a poll is late.
        self._due_s = max(self._due_s + period_s, now_s)
        self._heard_s = now_s
        self._awaiting, self._answers_seen = True, self._answers
        return b"start acq %d %d %d\r\n" % PULSE_NS + READ

    def _may_ask(self, now_s: float) -> bool:
        if self._awaiting and self._answers == self._answers_seen:
            return now_s - self._heard_s >= NO_ANSWER_S
        return now_s >= self._due_s

    def _step(self, events: list[Event]) -> bool:
        if self._buffer.startswith(START, self._at):
            return self._step_over_answer(events)
        looked_from = max(self._at, self._searched)
        start = self._buffer.find(START, looked_from)
        end = self._buffer.find(END, looked_from, None if start < 0 else start)
        if end >= 0:
            self._drop_headless(end + len(END))
            return True
        if start >= 0:
            self._step_over_chatter(start)
            return True
        self._searched = max(self._at, len(self._buffer) - len(START) + 1)
        if self._ended:
            self._in_sync = False  # the beginning of a marker, perhaps, that the end has cut off
            self._step_over_chatter(len(self._buffer))
        elif len(self._buffer) - self._at > _LONGEST_CHATTER:
            self._step_over_chatter(self._searched)
        return False

    def _step_over_chatter(self, position: int) -> None:
        """Pass over an echo or a prompt in step, and over anything else out of step."""
        if _CHATTER.fullmatch(bytes(self._buffer[self._at : position])):
            self._at = position
        else:
            self._skip_to(position)

    def _drop_headless(self, position: int) -> None:
        """An end without its beginning is a damaged answer, unless we have just joined in its midst."""
        if self._in_sync:
            self._stats.corrupted += 1
        self._answers += 1
        self._skip_to(position)

    def _step_over_answer(self, events: list[Event]) -> bool:
        body = self._at + len(START)
        looked_from = max(body, self._searched)
        end = self._buffer.find(END, looked_from)
        again = self._buffer.find(START, looked_from, None if end < 0 else end)
        if again >= 0:
            self._drop(again)
            return True
        if end >= 0:
            self._take_or_drop(body, end, events)
            return True
        self._searched = max(body, len(self._buffer) - len(START) + 1)
        if len(self._buffer) - self._at <= LONGEST_ANSWER:
            return False
        self._drop(body)
        return True

    def _take_or_drop(self, body: int, end: int, events: list[Event]) -> None:
        values = _values(bytes(self._buffer[body:end]))
        if values is None:
            self._drop(end + len(END))
            return
        record = Record(values, self._answers & 0xFFFFFFFF, self._fs_hz, self._t0_us)
        self._answers += 1
        n_bytes = end + len(END) - self._at
        self._take(end + len(END))
        self._judge_length(record, n_bytes, events)

    def _judge_length(self, record: Record, n_bytes: int, events: list[Event]) -> None:
        held = self._held[0] if self._held else None
        if held is not None and len(held.samples) == len(record.samples):
            self._n_samples, self._held = len(held.samples), None
            self._give(held, events)
        self._stats.corrupted += self._held is not None
        self._forget_held()
        if len(record.samples) == self._n_samples:
            self._give(record, events)
        else:
            self._held = record, n_bytes

    def _forget_held(self) -> None:
        if self._held is not None:
            self._stats.skipped_bytes += self._held[1]
        self._held = None

    def _give(self, record: Record, events: list[Event]) -> None:
        events.append(record)
        self._stats.records += 1
        self.seen += 1

    def _drop(self, position: int) -> None:
        self._stats.corrupted += 1
        self._answers += 1
        self._skip_to(position)

    def _false_start(self) -> int:
        return len(START) if self._buffer.startswith(START) else len(self._buffer)


def _values(body: bytes) -> npt.NDArray[np.int16] | None:
    """Return the counts about zero, ``(n,)`` int16; None when this is no list of 10-bit hex values."""
    text = body.strip()
    if not _VALUES.fullmatch(text):
        return None
    values = [int(each, 16) for each in text[:-1].split(b",")]
    if len(values) > MAX_SAMPLES or max(values) > TOP:
        return None
    counts: npt.NDArray[np.int16] = np.array(values, dtype=np.int16) - np.int16(MID_SCALE)
    return counts


class Pic0rickDialect:
    """Stock pic0rick, device side: answers ``read`` with one A-scan; ``start acq …`` is taken and not told.

    Counts are divided by 2^``shift`` and clipped to ±511, the 10 bits of this board; without a ``shift`` one
    is chosen from the description so that nothing is clipped that its peak, or its ADC, can give. With
    ``terminal`` it echoes what it hears, ends lines in CR LF and shows a prompt, as is inferred of a board.
    """

    name = "pic0rick"

    def __init__(
        self, description: DeviceDescription, *, shift: int | None = None, terminal: bool = False
    ) -> None:
        self.description = description
        self.shift = shift_for(description) if shift is None else shift
        self.terminal = terminal
        self._heard = bytearray()

    def boot(self, state: DeviceState) -> bytes:  # noqa: ARG002
        """Return the prompt of a terminal, otherwise nothing."""
        return b"run> " if self.terminal else b""

    def orders(self, data: bytes) -> list[Order]:
        """Take the host's next bytes; every line that is not empty is an order."""
        self._heard += data
        *lines, rest = bytes(self._heard).replace(b"\r", b"\n").split(b"\n")
        self._heard = bytearray(rest[-_LONGEST_CHATTER:])
        words = (line.strip() for line in lines)
        return [Order("once" if word == b"read" else "say", content=word) for word in words if word]

    def reply(self, order: Order, state: DeviceState) -> bytes:  # noqa: ARG002
        """Return a terminal's echo, with a prompt where no A-scan follows; otherwise nothing."""
        if not self.terminal:
            return b""
        return order.content + (b"\r\n" if order.kind == "once" else b"\r\nrun> ")

    def ascan(self, samples: npt.NDArray[Any], *, seq: int, t_us: int) -> bytes:  # noqa: ARG002
        """Return the answer that holds ``(n,)`` int16 counts, n > 0; raises ``UsfpError`` for others."""
        counts = to_ten_bit(samples, self.shift) + MID_SCALE
        if not len(counts):
            raise UsfpError("a pic0rick answer holds at least one sample")
        end = b"\r\n" if self.terminal else b"\n"
        values = "".join(f"{each:X}," for each in counts.tolist()).encode()
        return START + end + values + end + END + end + (b"run> " if self.terminal else b"")
