"""Labelled gates of a board, cut anew each time that they are drawn: what few-shot adaptation learns them by.

A gate is cut at a random place around its echo, since a network that saw the few gates of a file as they are
would learn where in them the onset stands; noise is added afresh, polarity is the board's own. Cuts stay
inside the labelled gate: what lies outside it nobody has looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from usedge.ascan import cut_gate
from usedge.errors import InputError
from usedge.labelled import LabelledSet
from usedge.preprocess import MIN_GATE_SAMPLES
from usedge.spec import SignalSpec
from usedge.tof.gated import Gated, centred, crossing, noise_rms
from usedge.training.stream import Batch, Prepare, Truth

WHOLE = 0.25
"""Share of the gates that are left as long as they are."""
LEAST_CYCLES = 28.0
"""Shortest cut, as the shortest synthetic gate."""
LEAD_CYCLES, TAIL_CYCLES = 2.0, 10.0
"""What a cut leaves before and after the onset, where the gate has as much."""
NOISY = 0.5
"""Share of the gates that noise is added to."""
ADDED_SNR_DB = (15.0, 45.0)
"""Peak of the echo (of an empty gate: of all) over the rms of the noise that is added."""
ARRIVAL_SNR_DB = 20.0
"""Under this the noise moves the place where an envelope reaches half its peak."""
ECHO_CYCLES = 12.0
"""The echo's peak is sought so far behind its onset."""

Float32 = NDArray[np.float32]
Rng = np.random.Generator


class OwnGate(NamedTuple):
    """One labelled gate: ``samples (n,)`` in counts, and in native samples from its first: ``onset`` and
    ``arrival`` (NaN = none, or unknown) and ``cycle`` of the centre frequency; ``peak`` of the echo, counts.
    """

    samples: Float32
    onset: float
    arrival: float
    cycle: float
    peak: float


def rows_of(labelled: LabelledSet, rows: NDArray[np.int64]) -> LabelledSet:
    """The A-scans ``rows (m,)`` of a file alone."""
    f0_hz = None if labelled.f0_hz is None else labelled.f0_hz[rows]
    return replace(labelled, x=labelled.x[rows], tof_s=labelled.tof_s[rows], gate_s=labelled.gate_s[rows],
                   f0_hz=f0_hz)


def own_gates(labelled: LabelledSet, shift_s: float = 0.0) -> list[OwnGate]:
    """Every gate of ``labelled``, which must have ``f0_hz``; labels moved by ``shift_s``.

    The arrival is measured behind labels of onsets; behind a peak it is unknown (NaN). Raises InputError for
    a gate that is too short for the network, naming its row.
    """
    if labelled.f0_hz is None:
        raise InputError("the A-scans have no f0_hz.", "Add it to the file.")
    return [_own_gate(labelled, i, labelled.fs_hz / float(labelled.f0_hz[i]), shift_s)
            for i in range(len(labelled))]


def _own_gate(labelled: LabelledSet, i: int, cycle: float, shift_s: float) -> OwnGate:
    gated = cut_gate(labelled.ascan(i), labelled.gate(i))
    n = len(gated.samples)
    if n < MIN_GATE_SAMPLES:
        raise InputError(f"{labelled.path}: the gate of row {i} holds {n} samples; at least"
                         f" {MIN_GATE_SAMPLES} are needed.", "Widen gate_s.")
    samples = centred(gated.samples)
    onset = ((labelled.tof_s[i] + shift_s) * 1e6 - gated.t0_us) / gated.sample_us
    onset = min(max(onset, 0.0), n - 1.0) if np.isfinite(onset) else math.nan
    begin = 0 if math.isnan(onset) else int(onset)
    stop = n if math.isnan(onset) else int(onset + ECHO_CYCLES * cycle) + 1
    unknown = math.isnan(onset) or labelled.label_point == "peak"
    arrival = math.nan if unknown else _arrival(samples, onset, cycle)
    return OwnGate(samples.astype(np.float32), onset, arrival, cycle,
                   float(np.abs(samples[begin:stop]).max()))


def _arrival(samples: NDArray[np.float64], onset: float, cycle: float) -> float:
    """Where the envelope behind ``onset`` first reaches half of its first hump's peak; NaN under noise."""
    envelope = np.abs(Gated(samples, cycle).in_band())
    begin = int(onset)
    echo = envelope[begin : begin + int(ECHO_CYCLES * cycle) + 1]
    highest = np.maximum.accumulate(echo)
    falls = (echo < 0.5 * highest) & (highest > 0.5 * highest[-1])
    peak = float(highest[int(np.argmax(falls))] if falls.any() else highest[-1])
    if peak < noise_rms(envelope, 1.0) * 10.0 ** (ARRIVAL_SNR_DB / 20.0):
        return math.nan
    return max(begin + crossing(echo, 0.5 * peak), onset)


def cut(gate: OwnGate, rng: Rng) -> tuple[int, int]:
    """First and last sample (exclusive) of a random part of ``gate``, with its onset where it has one."""
    n = len(gate.samples)
    least = max(MIN_GATE_SAMPLES, math.ceil(LEAST_CYCLES * gate.cycle))
    if n <= least or rng.random() < WHOLE:
        return 0, n
    width = min(max(round(math.exp(rng.uniform(math.log(least), math.log(n)))), least), n)
    low, high = 0.0, float(n - width)
    if not math.isnan(gate.onset):
        low = max(low, min(gate.onset + TAIL_CYCLES * gate.cycle, float(n)) - width)
        high = min(high, max(gate.onset - LEAD_CYCLES * gate.cycle, 0.0))
    start = math.ceil(rng.uniform(low, high))
    return start, start + width


@dataclass(frozen=True, slots=True)
class OwnStream:
    """``gates``, every one once an epoch in an order drawn from the seed, each cut and made noisy afresh; one
    in two of them as the second pass cuts it, where ``spec`` has one.
    """

    gates: list[OwnGate]
    seed: int
    batch: int
    spec: SignalSpec

    def __getitem__(self, index: int) -> Batch:
        n, prepare = len(self.gates), Prepare(self.spec)
        parts = []
        for place in range(index * self.batch, (index + 1) * self.batch):
            order = np.random.default_rng((self.seed, place // n)).permutation(n)
            rng = np.random.default_rng((self.seed, place, 1))
            parts.append(prepare.zoomed(*drawn(self.gates[order[place % n]], rng), rng))
        return Batch.join(parts)


def drawn(gate: OwnGate, rng: Rng) -> tuple[Float32, Truth]:
    """A cut of ``gate``, ``x (1, m)``, and what is known of it: labels move with the cut."""
    start, stop = cut(gate, rng)
    x = gate.samples[start:stop]
    if rng.random() < NOISY:
        rms = gate.peak * 10.0 ** (-rng.uniform(*ADDED_SNR_DB) / 20.0)
        x = x + np.float32(rms) * rng.standard_normal(len(x), np.float32)
    echo = not math.isnan(gate.onset)
    inside = gate.arrival - start if gate.arrival < stop else math.nan
    return x[np.newaxis], Truth(np.array([gate.onset - start]), np.array([inside]), np.array([gate.cycle]),
                                np.array([int(echo)]))
