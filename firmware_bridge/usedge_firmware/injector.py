"""Between a device's frames and its port: does to them what the plan says, and tells the ledger.

What became of a frame is not concluded from the faults but read off the bytes that were made: a frame that
stands whole in them is intact, whatever was done around it.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from usedge_firmware.faults import FaultPlan, FaultPlanError
from usedge_firmware.ledger import Ledger

_LEAST_TAIL: Final = 8  # a tail this long is not made good by the first bytes of what follows
_ON_ASCANS: Final = ("drop", "duplicate", "reorder")
_ON_PORTS: Final = ("disconnect", "reset")
_IN_TIME: Final = ("stall", *_ON_PORTS)
_BAUD_RATIOS: Final = (0.5, 0.75, 1.5, 2.0)
_TEXTS: Final = (
    b"ets Jul 29 2019 12:21:46\r\n", b"rst:0x1 (POWERON_RESET),boot:0x13\r\n", b"> \r\n",
    b"I (31) boot: compile time 12:01:55\r\n", b"WARN: supply 3.21 V, below 3.3 V\r\n", b"\r\nOK\r\n",
)


@dataclass(frozen=True, slots=True)
class Pause:
    """Silence for ``seconds`` between two bytes."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Unplug:
    """The cable is pulled for ``seconds``; what of the frame had not been sent is lost."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reboot:
    """The device resets and is silent for ``seconds``; it is a new session afterwards."""

    seconds: float


Deed = bytes | Pause | Unplug | Reboot


@dataclass(slots=True)
class _Outgoing:
    frame: bytes
    seq: int | None
    number: int
    hits: list[str] = field(default_factory=list)


class Injector:
    """Deterministic: the same ``plan``, ``seed`` and frames of the same lengths give the same faults.

    Frames are numbered from 0 in the order in which they are handed over, those given to ``spare`` excepted.
    ``adc_bits`` bounds what ``saturate`` leaves of the samples. One thread only.
    """

    def __init__(
        self, plan: FaultPlan, *, seed: int, ledger: Ledger | None = None, adc_bits: int = 16
    ) -> None:
        if not 1 <= adc_bits <= 16:
            raise FaultPlanError(f"an ADC has 1 to 16 bits, not {adc_bits}")
        self.ledger = Ledger(seed=seed, plan=str(plan)) if ledger is None else ledger
        self.plan = plan
        self._random = random.Random(seed)
        self._sessions = random.Random(f"sessions of {seed}")
        self._rates = [(name, each.rate) for name, each in plan.faults.items() if name != "saturate"]
        self._adc_bits = adc_bits
        self._number = 0
        self._demanded: deque[str] = deque()
        self._held: _Outgoing | None = None
        self._burst_left = 0
        self._garbage_left = 0

    def demand(self, name: str) -> None:
        """Let fault ``name``, and no other, hit the next A-scan that it can hit; from any thread.

        Its size is the plan's. The faults drawn for later frames are the same as without it.
        """
        self._demanded.append(name)

    def samples(self, samples: npt.NDArray[Any], seq: int) -> npt.NDArray[Any]:
        """Return what the ADC makes of ``samples``, ``(n,)`` int16, of the A-scan that is sent next."""
        if self._random_hit("saturate"):
            gain, top = self.plan.size("saturate"), 1 << (self._adc_bits - 1)
            self.ledger.fault(self._number, seq, "saturate", size=gain)
            amplified: npt.NDArray[Any] = np.clip(np.rint(samples * gain), -top, top - 1)
            return amplified.astype(np.int16)
        return samples

    def session_id(self) -> int:
        """Return the ``session_id`` of the device's next boot, 32 bits."""
        return self._sessions.getrandbits(32)

    def jitter_us(self) -> float:
        """Return by how much the next main bang is late, µs, negative for early."""
        most = self.plan.jitter_us
        return self._random.uniform(-most, most) if most else 0.0

    def send(self, frame: bytes, seq: int | None = None) -> list[Deed]:
        """Return what comes to the port in place of ``frame``, in order; ``seq`` of an A-scan, else None.

        Nothing, when the frame is dropped or waits to be sent after the next one.
        """
        outgoing = _Outgoing(frame, seq, self._number, self._draw(seq))
        self._number += 1
        if "drop" in outgoing.hits:
            self.ledger.fault(outgoing.number, seq, "drop")
            self.ledger.fate(outgoing.number, seq, "dropped")
            return []
        if "reorder" in outgoing.hits and self._held is None:
            self._held = outgoing
            return []
        held, self._held = self._held, None
        deeds = self._emit(outgoing)
        if held is not None:
            self.ledger.fault(held.number, held.seq, "reorder")
            deeds += self._emit(held)
        return deeds

    def spare(self, frame: bytes) -> list[Deed]:
        """Return ``frame`` untouched, behind what waited for a next one."""
        deeds = self.flush()
        self._burst_left = 0
        return [*deeds, frame]

    def flush(self) -> list[Deed]:
        """Return what waited for a next frame, in its own place after all."""
        held, self._held = self._held, None
        return self._emit(held) if held is not None else []

    def _random_hit(self, name: str) -> bool:
        rate = self.plan.rate(name)
        return rate > 0.0 and self._random.random() < rate

    def _draw(self, seq: int | None) -> list[str]:
        draw = self._random.random
        hits = [name for name, rate in self._rates if draw() < rate]
        if self._demanded and seq is not None and self._held is None:
            return [self._demanded.popleft()]
        if hits and seq is None:
            hits = [name for name in hits if name not in _ON_ASCANS]
        # What waits behind this frame would be lost with the port, for a fault that was not its own.
        return [name for name in hits if name not in _ON_PORTS] if self._held is not None else hits

    def _emit(self, each: _Outgoing) -> list[Deed]:
        if not (each.hits or self._burst_left or self._garbage_left):
            self.ledger.fate(each.number, each.seq, "intact")
            return [each.frame]
        wire = self._spoilt(each)
        if "duplicate" in each.hits:
            self._note(each, "duplicate")
            wire += each.frame
        if "text" in each.hits:
            line = self._random.choice(_TEXTS)
            self._note(each, "text", size=len(line))
            wire[:0] = line
        self._continue_burst(each, wire)
        deeds = self._interrupted(each, bytes(wire))
        sent = b"".join(deed for deed in deeds if isinstance(deed, bytes))
        whole = sent.count(each.frame)
        self.ledger.fate(each.number, each.seq, "intact" if whole else "damaged", max(0, whole - 1))
        return deeds

    def _spoilt(self, each: _Outgoing) -> bytearray:
        """Return the frame's own bytes after the faults inside it."""
        if "baud" in each.hits and not self._garbage_left:
            self._garbage_left = int(self.plan.size("baud"))
            self._note(each, "baud", size=self._garbage_left)
        if self._garbage_left:
            self._garbage_left -= 1
            each.hits = [name for name in each.hits if name in _IN_TIME]
            return bytearray(self._random.randbytes(int(len(each.frame) * self._random.choice(_BAUD_RATIOS))))
        wire = bytearray(each.frame)
        for name, spoil in _SPOILERS.items():
            if name in each.hits and len(wire) > 2 * _LEAST_TAIL:
                spoil(self, each, wire)
        return wire

    def _flip(self, each: _Outgoing, wire: bytearray) -> None:
        bits = self._random.sample(range(8 * len(wire)), self._random.randint(1, 8))
        for bit in bits:
            wire[bit // 8] ^= 1 << bit % 8
        self._note(each, "flip", at=min(bits) // 8, size=len(bits))

    def _lose(self, each: _Outgoing, wire: bytearray) -> None:
        at = self._random.randrange(len(wire) - _LEAST_TAIL)
        most = min(int(self.plan.size("loss")), len(wire) - _LEAST_TAIL - at)
        size = self._random.randint(1, most)
        del wire[at : at + size]
        self._note(each, "loss", at=at, size=size)

    def _insert(self, each: _Outgoing, wire: bytearray) -> None:
        at = self._random.randrange(len(wire))
        extra = self._random.randbytes(self._random.randint(1, int(self.plan.size("insert"))))
        wire[at:at] = extra
        self._note(each, "insert", at=at, size=len(extra))

    def _burst(self, each: _Outgoing, wire: bytearray) -> None:
        at, size = self._random.randrange(len(wire)), int(self.plan.size("burst"))
        self._replace(wire, at, size)
        self._burst_left = max(0, at + size - len(wire))
        self._note(each, "burst", at=at, size=size)

    def _truncate(self, each: _Outgoing, wire: bytearray) -> None:
        at = self._random.randint(1, len(wire) - _LEAST_TAIL)
        self._note(each, "truncate", at=at, size=len(wire) - at)
        del wire[at:]

    def _continue_burst(self, each: _Outgoing, wire: bytearray) -> None:
        """Let a burst that ran past an earlier frame's end go on into this one."""
        begun_here = "burst" in each.hits
        size = 0 if begun_here else min(self._burst_left, len(wire))
        if size:
            self._replace(wire, 0, size)
            self._burst_left -= size
            self.ledger.note("the burst goes on", frame=each.number, at=0, size=size)

    def _replace(self, wire: bytearray, at: int, size: int) -> None:
        """Replace bytes by others, so that every one of them is really wrong."""
        stop = min(at + size, len(wire))
        wrong = self._random.choices(range(1, 256), k=stop - at)
        wire[at:stop] = bytes(old ^ mask for old, mask in zip(wire[at:stop], wrong, strict=True))

    def _interrupted(self, each: _Outgoing, wire: bytes) -> list[Deed]:
        """Cut the bytes where time passes or the port goes away."""
        deeds: list[Deed] = [wire]
        if "stall" in each.hits and len(wire) > 1:
            at, size = self._random.randrange(1, len(wire)), self.plan.size("stall")
            self._note(each, "stall", at=at, size=size)
            deeds = [wire[:at], Pause(size), wire[at:]]
        for name, ending in (("disconnect", Unplug), ("reset", Reboot)):
            if name in each.hits and len(wire) > _LEAST_TAIL:
                at, size = self._random.randint(1, len(wire) - _LEAST_TAIL), self.plan.size(name)
                self._note(each, name, at=at, size=size)
                self._burst_left = self._garbage_left = 0
                return [wire[:at], ending(size)]
        return deeds

    def _note(self, each: _Outgoing, name: str, **details: float) -> None:
        self.ledger.fault(each.number, each.seq, name, **details)


_SPOILERS: Final = {
    "flip": Injector._flip, "insert": Injector._insert, "loss": Injector._lose, "burst": Injector._burst,
    "truncate": Injector._truncate,
}
