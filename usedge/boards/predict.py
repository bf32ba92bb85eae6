"""How long a pass of the network should take on a board that is not at hand: predicted, never measured.

A core's floor is work / (operations a cycle × clock), from cited rates. What a runtime makes of a floor is
its efficiency: measured on this host for each variant, and on the board's core where others published some.
The prediction is the floor over the geometric mean of those efficiencies; its bar spans the best and the
worst of them, each widened by the error that the same formula makes on this host's other variants.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from usedge.boards.profile import BoardProfile
from usedge.boards.work import Work

LEAST_SPREAD, UNKNOWN_SPREAD = 1.25, 2.0
"""Factor by which a prediction may be off: at least, and where nothing on this host could check it."""


@dataclass(frozen=True, slots=True)
class Core:
    """One core: multiply-accumulates and float operations a second at most, the cache that weights may stay
    in, and the memory behind it (None: not known, and left out).
    """

    int8_macs_s: float
    fp32_macs_s: float
    cache_bytes: float | None = None
    memory_bytes_s: float | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """A variant on this host: its precision, the median of a pass, and the floor of the same work here."""

    variant: str
    runtime: str
    precision: str
    p50_us: float
    floor_us: float

    @property
    def efficiency(self) -> float:
        """Share of the floor's speed that this variant reaches here."""
        return self.floor_us / self.p50_us


@dataclass(frozen=True, slots=True)
class Checked:
    """The formula on this host: what the other variants' efficiency predicts for one, against its own p50."""

    variant: str
    measured_us: float
    predicted_us: float

    @property
    def deviation(self) -> float:
        """Predicted over measured, less one."""
        return self.predicted_us / self.measured_us - 1.0


@dataclass(frozen=True, slots=True)
class Predicted:
    """A pass of ``variant`` on ``board``: floor, p50 and its bar in µs; ``efficiencies`` that went in."""

    board: str
    variant: str
    floor_us: float
    p50_us: float
    fast_us: float
    slow_us: float
    efficiencies: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The fields, rounded, as JSON values."""
        values = asdict(self)
        return {key: round(value, 1) if isinstance(value, float) else value for key, value in values.items()
                } | {"efficiencies": {name: round(each, 3) for name, each in self.efficiencies.items()},
                     "kind": "predicted"}


def core_of(board: BoardProfile) -> Core | None:
    """The core that ``board``'s profile describes; None where it lacks a clock or rates."""
    clock, rates = board.processor.clock_ghz, board.rates
    if clock is None or rates.int8_macs is None or rates.fp32_macs is None:
        return None
    cache, bandwidth = board.processor.cache_kib, board.memory.bandwidth_gb_s
    return Core(rates.int8_macs * clock * 1e9, rates.fp32_macs * clock * 1e9,
                None if cache is None else cache * 1024, None if bandwidth is None else bandwidth * 1e9)


def floor_us(work: Work, precision: str, core: Core) -> float:
    """The least time of a pass on ``core`` in µs, all units busy all the time.

    An int8 variant computes the blocks' matrices in int8 and quantises its activations, the rest in float;
    other float operations take a lane each, like a multiply-accumulate. Weights that do not fit the cache
    come from memory once a pass.
    """
    int8 = precision == "int8"
    in_float = work.attention_macs + work.end_macs + work.vector_ops + (work.quantise_ops if int8 else 0)
    linear_s = work.linear_macs / (core.int8_macs_s if int8 else core.fp32_macs_s)
    seconds = linear_s + in_float / core.fp32_macs_s
    weight_bytes = work.weights * (1 if int8 else 4)
    if core.memory_bytes_s and core.cache_bytes is not None and weight_bytes > core.cache_bytes:
        seconds += weight_bytes / core.memory_bytes_s
    return seconds * 1e6


def check(measured: Sequence[Measured]) -> list[Checked]:
    """Each variant predicted from the efficiency of the others on this host; none where there is only one."""
    checked = []
    for each in measured:
        others = [other.efficiency for other in measured if other is not each]
        if others:
            checked.append(Checked(each.variant, each.p50_us, each.floor_us / _mean(others)))
    return checked


def spread(checked: Sequence[Checked]) -> float:
    """The largest factor by which ``checked`` are off."""
    if not checked:
        return UNKNOWN_SPREAD
    return max(LEAST_SPREAD, *(math.exp(abs(math.log1p(each.deviation))) for each in checked))


def predict(board: BoardProfile, work: Work, measured: Measured, factor: float) -> Predicted | None:
    """A pass of the variant that was ``measured`` here, on ``board``; None where its profile lacks rates.

    ``factor`` widens the bar on both sides (``spread``); nothing is predicted faster than its floor.
    """
    core = core_of(board)
    if core is None:
        return None
    known = {"this host": min(measured.efficiency, 1.0), **_published(board, measured.precision)}
    floor, best, worst = floor_us(work, measured.precision, core), max(known.values()), min(known.values())
    return Predicted(board.id, measured.variant, floor, floor / _mean(list(known.values())),
                     floor / min(best * factor, 1.0), floor / worst * factor, known)


def _published(board: BoardProfile, precision: str) -> dict[str, float]:
    most = {"int8": board.rates.int8_macs, "fp32": board.rates.fp32_macs}[precision]
    return {each.what: min(each.macs / most, 1.0) for each in board.rates.published
            if most and each.precision == precision}


def _mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))
