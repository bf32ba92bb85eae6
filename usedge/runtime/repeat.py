"""How far the answers of each method scatter over repeats of a scene in which nothing moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usedge.ascan import AScan
from usedge.tof import Differential, Picker

FORMAT_VERSION = 1
DIFFERENTIAL = "differential"
MAD_TO_STD = 1.4826
"""Standard deviation of Gaussian errors over their median absolute deviation."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Repeats:
    """One file's answers: ``answers`` by method, (n,) ns, NaN = none.

    ToF after the main bang, and for "differential" the difference to the first A-scan of the file.
    """

    file: str
    answers: dict[str, FloatArray]

    def to_dict(self) -> dict[str, Any]:
        """The file's entry in the output of `usedge repeat --json`."""
        n = max((len(each) for each in self.answers.values()), default=0)
        common = self.answers.get(DIFFERENTIAL)
        return {"file": self.file, "n": n,
                "methods": {name: spread(ns, common) for name, ns in self.answers.items()}}


def repeats(file: str, gated: Sequence[AScan], pickers: Mapping[str, Picker],
            f0_hz: float | None, differential: bool, advance: Callable[[], None] = lambda: None) -> Repeats:
    """What each of ``pickers`` and the differential mode answer to ``gated``, A-scans cut to their gate.

    ``advance`` is called after each answer. Raises InputError where the first A-scan has no echo and the
    differential mode is asked for.
    """
    answers: dict[str, FloatArray] = {}
    for name, picker in pickers.items():
        answers[name] = np.full(len(gated), np.nan)
        for i, ascan in enumerate(gated):
            tof_us = picker.pick(ascan).tof_us
            answers[name][i] = np.nan if tof_us is None else tof_us * 1e3
            advance()
    if differential:
        # The first alone, not the mean: a mean holds each A-scan's own noise and flatters the spread.
        against = Differential(gated[0], f0_hz)
        answers[DIFFERENTIAL] = np.full(len(gated), np.nan)
        for i, ascan in enumerate(gated[1:], start=1):
            dtof_ns = against.difference(ascan).dtof_ns
            answers[DIFFERENTIAL][i] = np.nan if dtof_ns is None else dtof_ns
            advance()
    return Repeats(file, answers)


def spread(ns: FloatArray, common_ns: FloatArray | None = None) -> dict[str, Any]:
    """The figures of one method from its answers ``ns (n,)``, NaN = none; None where answers are too few.

    ``answers`` their number, ``median_ns``; ``std_ns`` the standard deviation (n − 1) and ``robust_std_ns``
    1.4826 × the median absolute deviation, which a few astray do not move; ``own_std_ns`` the standard
    deviation after ``common_ns (n,)``, the differences of the same A-scans to a reference, is taken off: what
    is left when the echo itself moved, as by a trigger that is not in step with the ADC's clock.
    """
    known = ns[np.isfinite(ns)]
    own = None
    if common_ns is not None and common_ns is not ns:
        left = (ns - common_ns)[np.isfinite(ns - common_ns)]
        own = float(np.std(left, ddof=1)) if left.size > 1 else None
    some, several = known.size > 0, known.size > 1
    return {
        "answers": int(known.size),
        "median_ns": float(np.median(known)) if some else None,
        "std_ns": float(np.std(known, ddof=1)) if several else None,
        "robust_std_ns": MAD_TO_STD * float(np.median(np.abs(known - np.median(known)))) if several else None,
        "own_std_ns": own,
    }


def report(results: Sequence[Repeats]) -> dict[str, Any]:
    """The whole output of `usedge repeat --json`."""
    return {"format_version": FORMAT_VERSION, "files": [result.to_dict() for result in results]}
