"""What a picker answers for one gated A-scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from usedge.ascan import AScan


@dataclass(frozen=True, slots=True)
class Pick:
    """A picker's answer for one gated A-scan.

    ``tof_us`` is the onset of the first echo in µs after the main bang, None when the picker abstains and
    then ``abstain`` says why ("no_echo", "low_confidence", …) and ``reason``, where that is one of
    several, which ("tone", "later", …). ``label`` is the class: the index of the patch
    that holds the onset (the gate cut into as many equal patches as the model has), None for classical
    abstentions. ``confidence`` is in 0..1, ``snr_db`` the peak over the noise (median|x| / 0.6745) of the
    gate. ``echoes_us`` are the onsets of all echoes, the first among them, where they were asked for.
    """

    tof_us: float | None
    confidence: float
    snr_db: float
    label: int | None = None
    abstain: str | None = None
    echoes_us: tuple[float, ...] | None = None
    reason: str | None = None


class Picker(Protocol):
    """Anything that finds the first echo's onset in a gated A-scan: the model or a classical method."""

    def pick(self, gated: AScan) -> Pick:
        """The onset of the first echo in ``gated`` (an A-scan already cut to its gate)."""
        ...
