"""What each rule of `--doubt` costs and saves, for the tables of docs/abstaining.md.

``python docs/abstaining.py [FILE …]`` runs the shipped bundle over synthetic A-scans of three seeds, some as
in training and some that are held out from it, and over labelled files where they are given; a few minutes.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usedge.ascan import AScan, cut_gate
from usedge.bundle import read_bundle
from usedge.labelled import load_labelled
from usedge.metrics import judge
from usedge.preprocess import Preprocessor
from usedge.resources import shipped_bundle
from usedge.runtime.doubts import Doubter, Doubts
from usedge.runtime.picker import load_model_picker
from usedge.synth import FS_HZ, generate
from usedge.tof import Pick
from usedge.zoom import zoom

SEEDS = (1, 2, 3)
FIELD = ((400, 700), (1024, 700), (2048, 1000), (4096, 300))
"""Samples, and A-scans of that many."""
SAMPLES, A_KIND = 1024, 120
RULES = {"flat": ["none", "flat=9"], "tone": ["none", "tone=0.4"], "later": ["none", "later=8"],
         "earlier": ["none", "earlier=8"], "defaults": []}
VERDICTS = ("hit", "near", "wrong", "false alarm")

Array = NDArray[np.float64]
Change = Callable[[np.random.Generator, Array, float, float], tuple[Array, float]]
Gates = list[tuple[AScan, float, float]]
"""Each gate, its onset (NaN: none) and its period, both in samples."""


def _tone(rng: np.random.Generator, n: int, cycle: float) -> Array:
    frequency = min(float(np.exp(rng.uniform(np.log(0.3), np.log(3.0)))) / cycle, 0.45)
    return np.cos(2.0 * np.pi * (frequency * np.arange(n) + rng.random()))


def _noise(rng: np.random.Generator, n: int) -> Array:
    return rng.standard_normal(n) * 10.0 ** (-rng.uniform(10.0, 40.0) / 20.0)


def carrier(rng: np.random.Generator, x: Array, onset: float, cycle: float) -> tuple[Array, float]:
    """A continuous tone of 5–100 % of the largest value beside the echoes."""
    part = float(np.exp(rng.uniform(np.log(0.05), 0.0)))
    return x + part * np.abs(x - np.median(x)).max() * _tone(rng, len(x), cycle), onset


def broadcast(rng: np.random.Generator, x: Array, _: float, cycle: float) -> tuple[Array, float]:
    """A tone that swells and fades, as of a radio station, and no echo."""
    swell = 1.0 + 0.8 * np.cos(2.0 * np.pi * (np.arange(len(x)) / len(x) * rng.uniform(1, 12) + rng.random()))
    return 300.0 * (swell * _tone(rng, len(x), cycle) + _noise(rng, len(x))), np.nan


def switching(rng: np.random.Generator, x: Array, _: float, cycle: float) -> tuple[Array, float]:
    """4–30 equal packets at equal distances, as of a switching supply, and no echo."""
    t, y, at = np.arange(len(x)), np.zeros(len(x)), 0.0
    decay, frequency = cycle * rng.uniform(1, 4), min(rng.uniform(0.5, 2.0) / cycle, 0.4)
    every = len(x) / rng.uniform(4, 30)
    while at < len(x):
        after = np.maximum(t - at, 0.0)
        y += np.exp(-after / decay) * np.sin(2.0 * np.pi * frequency * after)
        at += every
    return 300.0 * (y + _noise(rng, len(x))), np.nan


def torn(rng: np.random.Generator, x: Array, onset: float, _: float) -> tuple[Array, float]:
    """Zeros from somewhere on, as after a DMA that was not in time."""
    stop = int(len(x) * rng.uniform(0.2, 0.8))
    return np.where(np.arange(len(x)) < stop, x, 0.0), onset if onset < stop else np.nan


def slow(rng: np.random.Generator, x: Array, *_: float) -> tuple[Array, float]:
    """An echo of so low a frequency that the gate holds 3–15 cycles."""
    cycle, onset = len(x) / rng.uniform(3, 15), rng.uniform(0.1, 0.6) * len(x)
    u = np.maximum((np.arange(len(x)) - onset) / cycle, 0.0)
    return 500.0 * (u**2 * np.exp(-u) * np.cos(2.0 * np.pi * u) + _noise(rng, len(x))), onset


KINDS: tuple[Change, ...] = (carrier, broadcast, switching, torn, slow)


def synthetic(seed: int) -> Iterator[tuple[str, Gates]]:
    """Gates of the preset ``field``, and of each kind that is held out from training."""
    for samples, n in FIELD:
        batch = generate("field", n, (seed, samples), samples)
        yield "field", [(AScan(x, FS_HZ), float(onset), float(cycle))
                        for x, onset, cycle in zip(batch.x, batch.onset, batch.cycle, strict=True)]
    rng = np.random.default_rng(seed)
    for i, kind in enumerate(KINDS):
        batch = generate("field", A_KIND, (seed, i), SAMPLES)
        gates: Gates = []
        for x, onset, cycle in zip(batch.x, batch.onset, batch.cycle, strict=True):
            y, label = kind(rng, x.astype(np.float64), float(onset), float(cycle))
            gates.append((AScan(np.clip(np.round(y), -32768, 32767).astype(np.int16), FS_HZ), label,
                          float(cycle)))
        yield "held out", gates


def recorded(path: Path) -> Gates:
    """The gates of a labelled file with its centre frequency."""
    labelled = load_labelled(path)
    assert labelled.f0_hz is not None, f"{path} has no f0_hz"
    gated = [cut_gate(labelled.ascan(i), labelled.gate(i)) for i in range(len(labelled))]
    return [(ascan, (tof_s * 1e6 - ascan.t0_us) / ascan.sample_us, labelled.fs_hz / f0_hz)
            for ascan, tof_s, f0_hz in zip(gated, labelled.tof_s, labelled.f0_hz, strict=True)]


def verdicts(gates: Gates, places: Array, *, biased: bool) -> list[str]:
    """What each answer ``places (n,)`` in samples is; ``biased``: less their median error, as for a file."""
    found = judge(places, [label for _, label, _ in gates], [1.0 / period for *_, period in gates])
    off = np.abs(found.off_periods if biased else found.error_s / found.period_s)
    return ["none" if not answered else "false alarm" if not echo else
            "hit" if each <= 0.5 else "near" if each <= 1.0 else "wrong"
            for answered, echo, each in zip(found.answered, found.echo, off, strict=True)]


def count(groups: Iterator[tuple[str, Gates]], *, biased: bool) -> dict[tuple[str, str], Counter[str]]:
    """By rule and group, what the answers are that the rule withholds; rule "" for all answers."""
    spec = read_bundle(shipped_bundle()).spec
    picker, prepare = load_model_picker(doubts=Doubts.parse(["none"])), Preprocessor(spec)
    doubters = {name: Doubter(Doubts.parse(rule)) for name, rule in RULES.items()}
    counts: dict[tuple[str, str], Counter[str]] = {}
    for group, gates in groups:
        picks = [picker.pick(ascan) for ascan, *_ in gates]
        places = np.array([_place(pick, gate) for pick, gate in zip(picks, gates, strict=True)])
        told = verdicts(gates, places, biased=biased)
        for rule in ("", *RULES):
            counts.setdefault((rule, group), Counter())
        for pick, gate, verdict in zip(picks, gates, told, strict=True):
            if verdict == "none":
                continue
            counts["", group][verdict] += 1
            ascan, onset = gate[0], _place(pick, gate)
            prepared, period = prepare(ascan), zoom(ascan.samples, onset, spec.zoom).period
            for rule, doubter in doubters.items():
                withheld = doubter.doubt(prepared, pick.snr_db, onset, period) is not None
                counts[rule, group][verdict] += withheld
    return counts


def _place(pick: Pick, gate: tuple[AScan, float, float]) -> float:
    """The answer in samples, NaN where there is none."""
    return np.nan if pick.tof_us is None else (pick.tof_us - gate[0].t0_us) / gate[0].sample_us


def main() -> None:
    """Print a row for each rule and group."""
    counts = count((each for seed in SEEDS for each in synthetic(seed)), biased=False)
    files = [Path(name) for name in sys.argv[1:]]
    counts |= count((("recorded", recorded(path)) for path in files), biased=True)
    rows = [["A-scans", "rule", *VERDICTS], ["---"] * (2 + len(VERDICTS))]
    for group in dict.fromkeys(group for _, group in counts):
        for rule in ("", *RULES):
            found = counts[rule, group]
            rows.append([group, rule or "all answers", *(str(found[each]) for each in VERDICTS)])
    sys.stdout.write("".join(f"| {' | '.join(row)} |\n" for row in rows))


if __name__ == "__main__":
    main()
