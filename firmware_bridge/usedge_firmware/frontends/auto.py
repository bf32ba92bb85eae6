"""Which protocol is it? All are listened for at once, and the first that proves itself is kept."""

from __future__ import annotations

from typing import Final

from usedge_firmware.frontend import Event, FrontEnd, LinkStats, Record, Request
from usedge_firmware.frontends.p0rk import P0rkFrontEnd
from usedge_firmware.frontends.pic0rick import Pic0rickFrontEnd
from usedge_firmware.frontends.usfp_link import UsfpFrontEnd
from usedge_firmware.frontends.wulpus import WulpusFrontEnd

MOST_WORDS: Final = 64
"""Events other than A-scans that are held of one candidate; the oldest go first."""
_ROUND: Final = ("usfp", "p0rk", "usfp", "pic0rick", "wulpus")


class AutoFrontEnd:
    """Hands every byte to all front ends until one has its ``evidence``; from then on it is that one.

    Candidates stand in the order of what protects them: USFP (two CRCs), P0RK (CRC of the payload), WULPUS
    (marker and length), pic0rick (text). One that has its evidence waits while USFP stands in a frame whose
    header CRC was sound: what the others found may lie inside that frame. Nothing is returned until then;
    then all that the chosen one understood is, in its order. ``finish`` settles for the most that was seen.

    ``chosen``: the front end found, None before; ``name``, ``seen`` and the rest are its own from then on,
    and "auto", 0 and the least until then.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.chosen: FrontEnd | None = None
        self._turn = 0
        self._begin()

    @property
    def name(self) -> str:
        """The protocol found, "auto" before."""
        return self.chosen.name if self.chosen else "auto"

    @property
    def blind_to(self) -> str:
        """What the wire found cannot detect."""
        return self.chosen.blind_to if self.chosen else ""

    @property
    def evidence(self) -> int:
        """The evidence that the chosen one needed."""
        return self.chosen.evidence if self.chosen else 1

    @property
    def acknowledges(self) -> bool:
        """Whether ``start`` and ``stop`` are answered."""
        return self.chosen.acknowledges if self.chosen else False

    @property
    def max_prf_hz(self) -> float | None:
        """The most A-scans a second that the device takes, None = no limit or not known yet."""
        return self.chosen.max_prf_hz if self.chosen else None

    @property
    def prf_hz(self) -> float | None:
        """A-scans a second that the chosen one asks for."""
        return self.chosen.prf_hz if self.chosen else self.request.prf_hz or None

    @property
    def seen(self) -> int:
        """Valid records or messages of the chosen one; 0 before."""
        return self.chosen.seen if self.chosen else 0

    @property
    def stats(self) -> LinkStats:
        """What the chosen one met; before, what the likeliest candidate did."""
        return (self.chosen or self._likeliest()).stats

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; return nothing until the protocol is known, then all that was understood."""
        if self.chosen is not None:
            return self.chosen.feed(data)
        for name, candidate in self._candidates.items():
            self._hold(name, candidate.feed(data))
        if self._usfp.in_frame:
            return []
        proven = (each for each in self._candidates.values() if each.seen >= each.evidence)
        return self._adopt(next(proven, None))

    def finish(self) -> list[Event]:
        """End the stream; when nothing was proven, settle for the candidate that has seen most, if any."""
        if self.chosen is not None:
            return self.chosen.finish()
        for name, candidate in self._candidates.items():
            self._hold(name, candidate.finish())
        likeliest = self._likeliest()
        return self._adopt(likeliest if likeliest.seen else None)

    def reset(self) -> None:
        """Forget the bytes held back, as after a reconnect; what was found stays found."""
        if self.chosen is not None:
            self.chosen.reset()
        else:
            self._begin()

    def probe(self) -> bytes:
        """Return the next question in turn, and leave a candidate that has begun to answer alone with it.

        Harmless ones first: USFP's INFO starts nothing; P0RK's stream fires no pulser that is not armed; USFP
        once more, for a board that was still booting; pic0rick's bare ``read`` returns what was acquired
        before; WULPUS's config packet comes last, for it makes the board transmit.
        """
        if self.chosen is not None:
            return self.chosen.probe()
        likeliest = self._likeliest()
        self._turn += 1
        if likeliest.seen and self._turn % 4:  # every fourth time the round goes on: it may be a mistake
            return likeliest.probe()
        for _ in _ROUND:
            question = self._candidates[_ROUND[self._asked % len(_ROUND)]].probe()
            self._asked += 1
            if question:
                return question
        return b""

    def start(self) -> bytes:
        """Return the bytes that begin the stream of the chosen one."""
        return self.chosen.start() if self.chosen else b""

    def stop(self) -> bytes:
        """Return the bytes that end the stream: of the chosen one, or of those that were heard or asked.

        A question may have made a board transmit whose answer was not understood.
        """
        if self.chosen is not None:
            return self.chosen.stop()
        asked = _ROUND[: self._asked]
        words = [each.stop() for name, each in self._candidates.items() if each.seen or name in asked]
        # A line end before each: what stands before it must not become part of a command in text.
        return b"".join(b"\n" + each for each in words if each)

    def wants(self, now_s: float) -> bytes:
        """Return what the chosen one wants sent now."""
        return self.chosen.wants(now_s) if self.chosen else b""

    def _begin(self) -> None:
        self._usfp = UsfpFrontEnd(self.request)
        foreign = (P0rkFrontEnd, WulpusFrontEnd, Pic0rickFrontEnd)
        self._candidates: dict[str, FrontEnd] = {"usfp": self._usfp}
        self._candidates.update((each.name, each(self.request)) for each in foreign)
        self._held: dict[str, list[Event]] = {name: [] for name in self._candidates}
        self._asked = 0

    def _hold(self, name: str, events: list[Event]) -> None:
        """Keep every A-scan, of which there are few before the evidence is there, and the newest words."""
        held = self._held[name]
        held += events
        surplus = sum(not isinstance(each, Record) for each in held) - MOST_WORDS
        while surplus > 0:
            del held[next(i for i, each in enumerate(held) if not isinstance(each, Record))]
            surplus -= 1

    def _likeliest(self) -> FrontEnd:
        return max(self._candidates.values(), key=lambda each: each.seen)

    def _adopt(self, candidate: FrontEnd | None) -> list[Event]:
        if candidate is None:
            return []
        self.chosen = candidate
        events = self._held[candidate.name]
        self._candidates, self._held = {}, {}
        return events
