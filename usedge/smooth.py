"""Smoothing over successive readings, beside the ToF and never in its place."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from usedge.errors import InputError, known_name

KINDS = ("median", "ema")
MOST_READINGS = 1001
_EXAMPLE = "Examples: --smooth median:9, --smooth ema:0.1."


@dataclass(frozen=True, slots=True)
class Smooth:
    """``median`` of the last ``amount`` answers, or ``ema``: the newest counts ``amount``, 0 < amount ≤ 1."""

    kind: str
    amount: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.amount:g}"

    @classmethod
    def parse(cls, text: str) -> Smooth:
        """Read ``median:N`` (N odd) or ``ema:SHARE``; raises InputError for anything else."""
        kind, colon, amount_text = text.partition(":")
        known_name(kind, KINDS, "smoothing")
        try:
            amount = float(amount_text) if colon else math.nan
        except ValueError:
            amount = math.nan
        if kind == "median" and not (amount % 2 == 1 and 3 <= amount <= MOST_READINGS):
            raise InputError(f"smoothing {text!r} is not the median of an odd number in 3 … {MOST_READINGS}.",
                             _EXAMPLE)
        if kind == "ema" and not 0 < amount <= 1:
            raise InputError(f"smoothing {text!r} has no share above 0 and up to 1.", _EXAMPLE)
        return cls(kind, amount)

    @property
    def memory(self) -> int:
        """How many A-scans an answer goes on to matter: N, or 1/SHARE."""
        return math.ceil(self.amount if self.kind == "median" else 1.0 / self.amount)


@dataclass
class Smoother:
    """The state of one smoothing over one gate's answers."""

    smooth: Smooth
    _answers: deque[float] = field(default_factory=deque)
    _seq: int | None = None

    def __post_init__(self) -> None:
        self._answers = deque(maxlen=int(self.smooth.amount) if self.smooth.kind == "median" else 1)

    def update(self, tof_us: float | None, seq: int) -> float | None:
        """The smoothed ToF after the answer ``tof_us`` to A-scan ``seq``; None for an abstention.

        An abstention changes nothing. What is remembered is forgotten when the last answer lies more A-scans
        back than ``memory``, or when ``seq`` runs backwards, as after a board's reset.
        """
        if tof_us is None:
            return None
        if self._seq is not None and not 0 < seq - self._seq <= self.smooth.memory:
            self._answers.clear()
        self._seq = seq
        if self.smooth.kind == "median":
            self._answers.append(tof_us)
            return _median(self._answers)
        before = self._answers[0] if self._answers else tof_us
        self._answers.append(before + self.smooth.amount * (tof_us - before))
        return self._answers[0]


def _median(values: Collection[float]) -> float:
    """As ``statistics.median``, which brings 2 MB of other modules to the device."""
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else 0.5 * (ordered[middle - 1] + ordered[middle])
