"""Several gates of one A-scan, each with a name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from usedge.errors import InputError
from usedge.spec import Gate

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,32}\Z")


@dataclass(frozen=True, slots=True)
class NamedGate:
    """A gate and the name that its readings carry; its START:WIDTH where it was given none."""

    name: str
    gate: Gate

    @classmethod
    def parse(cls, text: str) -> NamedGate:
        """Read ``START:WIDTH`` or ``NAME=START:WIDTH`` in µs; raises InputError for anything else."""
        name, equals, window = text.rpartition("=")
        gate = Gate.parse(window)
        if equals and not _NAME.match(name):
            raise InputError(f"gate name {name!r} is not 1 to 32 of A–Z, a–z, 0–9, '_', '.' and '-'.",
                             "Example: --gate back=40:20.")
        return cls(name or f"{gate.start_us:g}:{gate.width_us:g}", gate)


def parse_gates(texts: Sequence[str]) -> tuple[NamedGate, ...]:
    """The gates in ``texts``; raises InputError for one that is no gate, and for two of one name."""
    gates = tuple(NamedGate.parse(text) for text in texts)
    names = [each.name for each in gates]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two gates are called {name!r}.",
                             "Example: --gate front=10:20 --gate back=40:20.")
    return gates
