"""The two sides of the account that ``torture`` keeps: what was sent and how it fared, what was accepted."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from usedge_firmware.frame import HEADER, HEADER_SIZE, TRAILER_SIZE, Frame
from usedge_firmware.ledger import Fate, Ledger

REMEMBERED: Final = 4096
"""Frames held against arrivals; more bytes than a link and a decoder can hold back."""
QUIET_FRAMES: Final = 3
"""Frames without a fault that must follow one before its cost is taken to be its own."""


@dataclass(slots=True)
class Sent:
    """One frame as it was handed to the injector, what the ledger says of it, and how often it arrived."""

    number: int
    seq: int | None
    frame: bytes
    fate: Fate | None = None
    copies: int = 0
    arrivals: int = 0
    faults: list[tuple[str, float]] = field(default_factory=list)

    def is_content_of(self, accepted: Frame) -> bool:
        """Whether ``accepted`` says, field by field and payload byte by byte, what was sent here."""
        _, _, kind, form, channel, flags, n_samples, _, t_us, seq, fs, t0, gain, _ = HEADER.unpack_from(
            self.frame
        )
        return (
            (kind, form, channel, flags, n_samples) == (
                accepted.type, accepted.payload_format, accepted.channel, accepted.flags, accepted.n_samples
            )
            and (t_us, seq, fs, t0, gain) == (
                accepted.t_us, accepted.seq, accepted.fs_hz, accepted.t0_ns, accepted.gain_cdb
            )
            and accepted.payload == self.frame[HEADER_SIZE:-TRAILER_SIZE]
        )


class Costs:
    """What single faults cost: frames that did not arrive, from a lone fault to the quiet behind it."""

    def __init__(self) -> None:
        self.worst: dict[str, int] = {}
        self.excess = 0
        self._faults: list[tuple[str, float]] = []
        self._lost = 0
        self._quiet = QUIET_FRAMES

    def take(self, sent: Sent) -> None:
        """Take the frames in the order of their numbers."""
        if sent.faults:
            if self._quiet >= QUIET_FRAMES:
                self.close()
            self._faults += sent.faults
            self._quiet = 0
        elif sent.fate == "damaged":  # a burst or a wrong baud rate goes on
            self._quiet = 0
        else:
            self._quiet += 1
        self._lost += not sent.arrivals

    def close(self) -> None:
        """Charge what was lost since the last quiet to its fault, if that was a single one."""
        if len(self._faults) == 1:
            name, size = self._faults[0]
            self.worst[name] = max(self.worst.get(name, 0), self._lost)
            self.excess += max(0, self._lost - dearest(name, size))
        self._faults, self._lost = [], 0


def dearest(name: str, size: float) -> int:
    """Return how many frames one fault may cost; a burst touches two when it runs over a boundary."""
    if name in ("duplicate", "reorder", "text", "stall", "saturate"):
        return 0
    if name == "baud":
        return int(size)
    return 2 + int(size) // (HEADER_SIZE + TRAILER_SIZE) if name == "burst" else 1


class Books(Ledger):
    """A ledger that remembers the last frames, so that arrivals can be held against what was sent.

    ``received`` A-scans that arrived; ``lost`` never on the wire; ``corrupted`` damaged and not arrived;
    ``healed`` damaged by the ledger and yet arrived; ``false_accepts`` arrivals of what was never sent;
    ``miscounted`` frames of a fate that does not fit their arrivals. The sender's thread enters and settles,
    the receiver's thread matches.
    """

    def __init__(self, *, seed: int, plan: str, path: str | Path | None = None) -> None:
        super().__init__(seed=seed, plan=plan, path=path)
        self.received = self.lost = self.corrupted = self.healed = 0
        self.false_accepts = self.miscounted = 0
        self.costs = Costs()
        self._order: deque[Sent] = deque()
        self._by_number: dict[int, Sent] = {}
        self._early: list[tuple[str, float]] = []

    def enter(self, number: int, seq: int | None, frame: bytes) -> None:
        """Remember a frame that is about to be sent, its number being the ``t_us`` in its header."""
        sent = Sent(number, seq, frame, faults=self._early)
        self._early = []
        self._order.append(sent)
        self._by_number[number] = sent
        if len(self._order) > REMEMBERED:
            self._settle(self._order.popleft())

    def match(self, accepted: Frame) -> None:
        """Hold a frame that the decoder returned against what was sent."""
        sent = self._by_number.get(accepted.t_us)
        if sent is not None and sent.is_content_of(accepted):
            sent.arrivals += 1
        else:
            self.false_accepts += 1

    def settle_all(self) -> None:
        """Settle what is still remembered, when nothing is on its way any more."""
        while self._order:
            self._settle(self._order.popleft())
        self.costs.close()

    def fault(self, frame: int, seq: int | None, name: str, **details: float) -> None:
        """Note one fault, as the ledger does, and which frame it began in."""
        super().fault(frame, seq, name, **details)
        sent = self._by_number.get(frame)  # a saturated A-scan is told of before its frame is made
        (self._early if sent is None else sent.faults).append((name, details.get("size", 0.0)))

    def fate(self, frame: int, seq: int | None, fate: Fate, copies: int = 0) -> None:
        """Note what became of a frame, as the ledger does."""
        super().fate(frame, seq, fate, copies)
        sent = self._by_number[frame]
        sent.fate, sent.copies = fate, copies

    def _settle(self, sent: Sent) -> None:
        del self._by_number[sent.number]
        self.costs.take(sent)
        expected = 1 + sent.copies if sent.fate == "intact" else 0
        # A damaged frame may be made whole by what follows it by chance; that is luck and no fault.
        healed = sent.fate == "damaged" and sent.arrivals == 1
        self.healed += healed
        self.miscounted += sent.arrivals != expected and not healed
        if sent.seq is None:
            return
        self.received += sent.arrivals > 0
        if not sent.arrivals:
            self.lost += sent.fate == "dropped"
            self.corrupted += sent.fate == "damaged"
