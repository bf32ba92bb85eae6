"""Why an answer of the network is not given: the A-scan is like none it knows, or a matched filter disagrees.

The limits were chosen on synthetic A-scans; what each rule costs and saves: docs/abstaining.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from usedge.errors import InputError, known_name
from usedge.preprocess import Float32, Prepared
from usedge.tof import DETECTION, RAYLEIGH_P20, hann_burst

CYCLES = 3.0
"""Of the Hann burst that the matched filter correlates with."""
FRACTION = 0.1
"""The first echo reaches this part of the largest one."""
RISE = 4.0
"""Over its least value so far the envelope must rise by this factor, or what is loud still rings down."""
STEPS_PER_OCTAVE = 16
"""Periods come on this ladder, so that a few filters serve all."""
LEAST_PERIOD = 2.0
ENOUGH, MOST = 8.0, 8
"""Samples a period that show an envelope, which leaves out under 1/1000 of the burst's spectrum, from 4 times
its frequency on; and of how many grid samples at most one is then looked at.
"""
WANDER_BINS = 3
"""Of the spectrum, from 0 on: baseline wander is no tone."""
OFF, NONE = "off", "none"
EXAMPLE = "Example: --doubt earlier=8, --doubt tone=off or --doubt none."

ComplexArray = NDArray[np.complexfloating[Any, Any]]


class Doubt(NamedTuple):
    """Why there is no answer: ``abstain`` as readings have it, ``reason`` the rule."""

    abstain: str
    reason: str


@dataclass(frozen=True, slots=True)
class Doubts:
    """The rules by which an answer is withheld, each with its limit; None: the rule is off.

    Out of distribution: ``flat``, the peak is not so many dB over the noise (median|x| / 0.6745), as where
    interference fills the gate; ``tone``, one line of the spectrum holds at least this part of the power.
    Disagreement with a matched filter (G. L. Turin, IRE Trans. Inf. Theory 6, 1960, p. 311) whose first echo
    comes more than so many periods ``later`` or ``earlier`` than the network's.
    """

    flat: float | None = 9.0
    tone: float | None = 0.4
    later: float | None = 8.0
    earlier: float | None = None

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Doubts:
        """The defaults with each of ``texts`` laid over: RULE=LIMIT, RULE=off, or none for no rule at all.

        Raises InputError for anything else and for a limit that is not positive.
        """
        doubts = cls()
        for text in texts:
            doubts = cls(None, None, None, None) if text == NONE else doubts._with(text)
        return doubts

    def _with(self, text: str) -> Doubts:
        name, equals, limit = text.partition("=")
        known_name(name, [each.name for each in fields(self)], "rule of --doubt")
        try:
            value = None if limit == OFF else float(limit)
        except ValueError:
            value = math.nan
        if not equals or (value is not None and not 0 < value < math.inf):
            raise InputError(f"--doubt {text} is not RULE=LIMIT with a positive limit.", EXAMPLE)
        return replace(self, **{name: value})


class Doubter:
    """Applies ``doubts`` to the network's answers.

    It takes about 30 µs a gate on a desktop core, and nothing where the network has no answer.
    """

    def __init__(self, doubts: Doubts) -> None:
        self._doubts = doubts

    def doubt(self, prepared: Prepared, snr_db: float, onset: float, period: float | None) -> Doubt | None:
        """Why the answer ``onset`` is not given, None where it is.

        ``prepared`` is the whole gate, a single one; ``onset`` and ``period`` of the echo are in native
        samples. Where the period is not known, no matched filter is asked.
        """
        doubts = self._doubts
        if doubts.flat is not None and snr_db < doubts.flat:
            return Doubt("out_of_distribution", "flat")
        if doubts.tone is None and doubts.later is None and doubts.earlier is None:
            return None
        assert prepared.linear is not None
        spectrum = np.fft.rfft(prepared.linear)
        if doubts.tone is not None and tone_share(spectrum) >= doubts.tone:
            return Doubt("out_of_distribution", "tone")
        if period is None or (doubts.later is None and doubts.earlier is None):
            return None
        return self._disagrees(spectrum, onset / prepared.step, max(period / prepared.step, LEAST_PERIOD))

    def _disagrees(self, spectrum: ComplexArray, onset: float, period: float) -> Doubt | None:
        first = first_echo(spectrum, period)
        if first is None:
            return None
        periods = (first - onset) / period
        if self._doubts.later is not None and periods > self._doubts.later:
            return Doubt("disagreement", "later")
        if self._doubts.earlier is not None and -periods > self._doubts.earlier:
            return Doubt("disagreement", "earlier")
        return None


def tone_share(spectrum: ComplexArray) -> float:
    """Part of the power of ``spectrum (m,)`` in its largest line, baseline wander left out of both."""
    power = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    power = power[WANDER_BINS:]
    return float(power[power.argmax()]) / max(float(np.add.reduce(power)), 1e-30)


def first_echo(spectrum: ComplexArray, period: float) -> int | None:
    """Where the matched filter's envelope over the gate of ``spectrum (n / 2 + 1,)`` first reaches the level
    of an echo of ``period`` grid samples, to 1/ENOUGH of a period; None where nothing does.

    The level is 8 × the noise rms and FRACTION of the largest; what rings down from before the gate is
    passed over. As the classical pickers detect, but over the grid, and not looking at an echo's shape.
    """
    steps = round(STEPS_PER_OCTAVE * math.log2(period))
    period = 2.0 ** (steps / STEPS_PER_OCTAVE)
    n, every = 2 * (len(spectrum) - 1), 1
    # The output has few bins: of a long period, every second, fourth, … sample of it shows all there is.
    while every < MOST and period >= 2.0 * ENOUGH * every and n % (4 * every) == 0:
        every *= 2
    burst = _burst(n, steps, every)
    # Both its parts by one real transform of two rows, and no root of their power: less time than one complex
    # transform takes.
    parts = np.fft.irfft(spectrum[: burst.shape[1]] * burst, n // every)
    parts *= parts
    power = parts[0] + parts[1]
    rank, ranks = len(power) // 5, power.copy()
    ranks.partition(rank)
    limit = (DETECTION / RAYLEIGH_P20) ** 2 * float(ranks[rank])
    start = _rung_down(power, limit, period / every)
    rest = power[start:]
    if not len(rest) or (peak := float(rest[rest.argmax()])) <= limit:
        return None
    return every * (start + int((rest >= max(limit, FRACTION**2 * peak)).argmax()))


def _rung_down(power: Float32, limit: float, period: float) -> int:
    """Grid samples at the start in which the envelope, squared ``power (n,)``, only dies away, from over
    ``limit``.
    """
    begin = power[: int(0.5 * period) + 1]
    edge = float(begin[begin.argmax()])
    top = int(power[: int(3.0 * period) + 1].argmax())
    if edge <= limit or power[top] > RISE**2 * edge:
        return 0
    dying = power[top:]
    quiet = int((dying <= limit).argmax())  # 0: nowhere, since it begins over the limit
    if quiet:
        dying = dying[:quiet]
    risen = dying > RISE**2 * np.minimum.accumulate(dying)
    if risen[first := int(risen.argmax())]:
        return top + first
    return top + quiet if quiet else len(power)


@lru_cache(maxsize=64)
def _burst(n: int, steps: int, every: int) -> ComplexArray:
    """First ``n / 2 / every`` bins of two spectra, conjugate: of a burst of CYCLES under a Hann window around
    sample 0 of ``n``, and of the same a quarter of a period on.
    """
    period = 2.0 ** (steps / STEPS_PER_OCTAVE)
    half = min(max(2, round(CYCLES * period / 2)), n // 4)
    burst, laid = hann_burst(half, period).real, np.zeros(n)
    laid[np.arange(-half, half + 1)] = burst / np.linalg.norm(burst)
    spectrum = np.fft.rfft(laid).conj()[: n // (2 * every)]
    spectrum[0] = 0.0
    return np.stack([spectrum, -1j * spectrum]).astype(np.complex64)
