"""Both passes of the network over a gate: where its first echo begins, and how sure that is."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from usedge.ascan import AScan
from usedge.backends import Backend
from usedge.errors import InputError
from usedge.pointer import Pointing, decode_few, decode_one
from usedge.preprocess import Prepared, Preprocessor
from usedge.settle import settle
from usedge.sparse import Glance, telling
from usedge.spec import SignalSpec
from usedge.tof import QUANTISATION_RMS
from usedge.zoom import ECHO_CYCLES, WORTH, Place, Window, outdone, surer, zoom

MOST_DOUBT = 0.35
"""An echo that the first pass doubts more gets no second look: quantised noise is full of such."""
CLOSER, CLOSER_WORTH = (1.0, 0.8, 0.64), 0.97
"""An echo in doubt is looked at in gates of so many times the second pass's width, if shorter than this part
of the whole: the fuller the gate, the less is there that could pass for an echo.
"""
LAPS = ("preprocess", "infer")
"""Stages that ``Passes`` times."""


class Found(NamedTuple):
    """What the passes found in a gate: ``p_no_echo`` and ``confidence`` as the network says them, ``snr_db``,
    native samples a ``patch``; ``place`` by both passes and ``onset`` settled, in native samples, None where
    none is told; ``p_again`` the least probability of no echo of the looks after the first, 1 for none.
    """

    p_no_echo: float
    confidence: float
    snr_db: float
    patch: float
    place: Place | None
    onset: float | None
    p_again: float = 1.0


class Passes:
    """The network of ``backend`` over gates; where ``spec`` has a second pass, over a shorter gate around the
    echo once more.

    ``f0_hz``: the transducer's centre frequency, None to estimate it from each echo; raises InputError for
    one that is not positive. ``laps_ns`` says what the last gate took in the stages "preprocess" and "infer",
    both passes together; ``whole`` is that gate as the first pass saw it, and ``period`` its echo's in native
    samples, None where nobody told it and no second pass found it. With a ``glance`` each pass looks at few
    patches first; ``again`` counts the passes that then had to look at all.
    """

    def __init__(self, spec: SignalSpec, backend: Backend, f0_hz: float | None = None,
                 glance: Glance | None = None) -> None:
        if f0_hz is not None and not 0.0 < f0_hz < math.inf:
            raise InputError(f"centre frequency {f0_hz * 1e-6:g} MHz is not positive.",
                             "Example: --f0-mhz 2.25")
        self.laps_ns: dict[str, int] = {}
        self.whole: Prepared | None = None
        self.period: float | None = None
        self.spec = spec
        self.backend = backend
        self.f0_hz = f0_hz
        self.glance = glance
        self.again = 0
        self._prepare = Preprocessor(spec)

    def find(self, gated: AScan, no_echo: float, no_echo_again: float = 0.0) -> Found:
        """The first echo of ``gated``, placed unless the probability of none is over ``no_echo``; but placed
        if that is at most MOST_DOUBT and what the second pass says, or a closer look, at most
        ``no_echo_again``.

        Raises InputError for too short a gate and for a centre frequency not under the Nyquist frequency.
        """
        self.laps_ns = dict.fromkeys(LAPS, 0)
        prepared, first = self._look(gated.samples)
        self.whole, self.period = prepared, gated.fs_hz / self.f0_hz if self.f0_hz else None
        snr_db = 20.0 * math.log10(prepared.peak[0] / max(prepared.noise[0], QUANTISATION_RMS))
        patch = self.spec.patch * prepared.step
        none = Found(first.p_no_echo, first.confidence, snr_db, patch, None, None)
        doubted = first.p_no_echo > no_echo
        if doubted and (first.p_no_echo > MOST_DOUBT or not no_echo_again):
            return none
        place = self._significant(gated, first, patch, prepared.median[0])
        none = none._replace(confidence=place.confidence)
        if not self.spec.zoom:
            return none if doubted else none._replace(place=place, onset=min(place.onset, len(gated.samples)))
        both, window, p_again = self._again(gated, place, prepared.median[0])
        if doubted and p_again > no_echo_again:
            p_again = self._closer(gated, place.onset, prepared.median[0], p_again, no_echo_again)
            if p_again > no_echo_again:
                return none._replace(p_again=p_again)
        return none._replace(place=both, onset=settle(gated.samples, both, window), p_again=p_again)

    def _look(self, samples: NDArray[np.int16]) -> tuple[Prepared, Pointing]:
        clock = time.perf_counter_ns
        begun = clock()
        prepared = self._prepare.one(samples)
        ready = clock()
        found = self._asked(prepared.x)
        self.laps_ns["preprocess"] += ready - begun
        self.laps_ns["infer"] += clock() - ready
        return prepared, found

    def _asked(self, x: NDArray[np.float32]) -> Pointing:
        """The network's answer: of a few patches where that is sure, else of all."""
        if self.glance is not None:
            places = telling(x, self.spec.patch, self.glance.patches)
            found = decode_few(self.backend.infer(x, places)[0], places[0], self.spec.n_patches)
            if found.confidence * (1.0 - found.p_no_echo) >= self.glance.sure:
                return found
            self.again += 1
        return decode_one(self.backend.infer(x)[0])

    def _significant(self, gated: AScan, first: Pointing, patch: float, median: float) -> Place:
        """Where ``first`` puts the first significant echo, in native samples: that of its two answers which
        the labels' convention leaves, where the earlier one is too weak beside the other.
        """
        place = _placed(first, patch)
        if first.rival is None:
            return place
        rival = _placed(first.rival, patch)
        window = self._cut(gated.samples, rival.onset, ECHO_CYCLES[1], self._period(gated), median)
        if outdone(gated.samples, place, rival, window):
            return rival._replace(confidence=min(rival.confidence / (1.0 - place.confidence), 1.0))
        return place

    def _again(self, gated: AScan, place: Place, median: float) -> tuple[Place, Window, float]:
        """Where both passes together put the echo, in native samples; the second pass's gate; and its
        probability of no echo, 1 where a second pass is not worth its while.
        """
        samples, p_again = gated.samples, 1.0
        window = self._cut(samples, place.onset, self.spec.zoom, self._period(gated), median)
        self.period = window.period
        if window.stop - window.start < len(samples):
            prepared, found = self._look(samples[window.start : window.stop])
            second = _placed(found, self.spec.patch * prepared.step, window.start)
            place, p_again = surer(place, second, window), found.p_no_echo
        return place, window, p_again

    def _closer(self, gated: AScan, place: float, median: float, p_again: float, enough: float) -> float:
        """The least probability of no echo of closer and closer looks at ``place``, in native samples, and of
        ``p_again``; no further look once it is at most ``enough``.
        """
        samples = gated.samples
        for part in CLOSER if p_again == 1.0 else CLOSER[1:]:
            window = self._cut(samples, place, part * self.spec.zoom, self.period, median, CLOSER_WORTH)
            if window.stop - window.start < len(samples):
                p_again = min(p_again, self._look(samples[window.start : window.stop])[1].p_no_echo)
            if p_again <= enough:
                break
        return p_again

    def _cut(self, samples: NDArray[np.int16], place: float, cycles: float, period: float | None,
             median: float, worth: float = WORTH) -> Window:
        """``zoom``, its time counted as preprocessing."""
        begun = time.perf_counter_ns()
        window = zoom(samples, place, cycles, period, median, worth)
        self.laps_ns["preprocess"] += time.perf_counter_ns() - begun
        return window

    def _period(self, gated: AScan) -> float | None:
        """Period of the known centre frequency in native samples."""
        if self.f0_hz is None:
            return None
        if self.f0_hz >= gated.fs_hz / 2:
            raise InputError(f"centre frequency {self.f0_hz * 1e-6:g} MHz is not under the Nyquist frequency,"
                             f" {gated.fs_hz / 2e6:g} MHz.", "Check --f0-mhz and the sampling rate.")
        return gated.fs_hz / self.f0_hz


def _placed(found: Pointing, patch: float, start: int = 0) -> Place:
    """``found`` in native samples, ``patch`` of them in a patch, the first at ``start``."""
    return Place(start + found.place * patch, start + found.arrival * patch, found.confidence)
