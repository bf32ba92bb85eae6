"""Where the device decides: the limit of "no echo", and what its confidence is worth.

The limit is measured by the very passes that the device makes, on fixed synthetic scenes under fresh noise:
training's gates are hard on purpose, and a limit that was chosen on them would call much that is no echo one.
Confidence is calibrated where labelled A-scans of the board are at hand, and else left as the network says
it: on synthetic A-scans it is too sure, on those of boards hardly.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from usedge.ascan import AScan
from usedge.bundle import LEAST_DOUBT
from usedge.labelled import LabelledSet
from usedge.models.backend import TorchBackend
from usedge.models.checkpoint import Checkpoint
from usedge.runtime.evaluate import judge_passes
from usedge.runtime.passes import MOST_DOUBT, Passes
from usedge.synth.field import FieldSettings, field_batch
from usedge_export.recipe import OperatingSettings

FloatArray = NDArray[np.float64]
SCENE = FieldSettings(snr_db=(85.0, 85.0), in_band_snr_db=85.0, empty_share=0.0, precursor_share=0.0,
                      spike_share=0.0, hum_share=0.0, drift_share=0.0, tgc_share=0.0, clip_share=0.0,
                      blank_share=0.0, bits=(14,))
"""Echoes of all shapes and reverberations, recorded as well as they can be."""
SAMPLES = (1600, 2560, 4096)
BEFORE_CYCLES, BEHIND_CYCLES = 8.0, 20.0
"""Least room in the gate around an onset."""
FULL_SCALE = 500.0
"""Counts that the largest echo is recorded with: an ADC of 10 bits."""
NEVER = 0.0
"""Every echo is in doubt at this limit of the first look, so that the others say what they think of it."""
LEAST_ECHOES = 50
NEWTON_STEPS = 50
STIFFNESS = 1e-3
"""Keeps the fit finite where every placed echo is a hit, or none is."""


def no_echo_limit(checkpoint: Checkpoint, settings: OperatingSettings) -> float:
    """The least limit of the first pass at which no more than the share ``missed`` of the scenes' echoes is
    lost: those that a second or closer look, at ``no_echo_again``, finds nevertheless are not.
    """
    passes = Passes(checkpoint.spec, TorchBackend(checkpoint.model()))
    rng = np.random.default_rng(settings.seed)
    asked = [each for _ in range(settings.scenes) for each in _repeated(passes, rng, settings)]
    first, second = np.array(asked).T
    needed = np.where((first <= MOST_DOUBT) & (second <= settings.no_echo_again), 0.0, first)
    return float(np.quantile(needed, 1.0 - settings.missed))


def _repeated(passes: Passes, rng: np.random.Generator, settings: OperatingSettings
              ) -> list[tuple[float, float]]:
    """Probabilities of no echo by the first look and by all others, in one scene, again and again with fresh
    noise, in a gate that begins elsewhere.
    """
    rf, onset, cycle = _scene(rng)
    rms = 10.0 ** (-rng.uniform(settings.snr_db_min, settings.snr_db_max) / 20.0)
    answers = []
    for _ in range(settings.repeats):
        start = int(rng.uniform(0.0, onset - BEFORE_CYCLES * cycle))
        noisy = rf[start:] + rms * rng.standard_normal(len(rf) - start)
        counts = np.round(np.clip(noisy, -1.0, 1.0) * FULL_SCALE).astype(np.int16)
        found = passes.find(AScan(counts, 1e6), NEVER, settings.no_echo_again)
        answers.append((found.p_no_echo, found.p_again))
    return answers


def _scene(rng: np.random.Generator) -> tuple[FloatArray, float, float]:
    """RF (n,) whose first echo's peak is 1, its onset in samples, and samples a cycle of the carrier."""
    while True:
        x, scene = field_batch(rng, 1, int(rng.choice(SAMPLES)), SCENE)
        rf, onset, cycle = x[0].astype(np.float64), float(scene.onset[0]), float(scene.cycle[0])
        if onset < BEFORE_CYCLES * cycle or len(rf) - onset < BEHIND_CYCLES * cycle:
            continue
        rf = rf - np.median(rf)
        return rf / np.abs(rf[int(onset) : int(onset + BEHIND_CYCLES * cycle)]).max(), onset, cycle


def calibration(checkpoint: Checkpoint, labelled: LabelledSet, limits: tuple[float, float],
                say: Callable[[str], None]) -> tuple[float, float]:
    """``platt`` on the echoes of ``labelled`` that are placed at the ``limits`` of both passes, hits counted
    as `usedge evaluate` counts them; (1, 0) for fewer than LEAST_ECHOES of them.
    """
    passes = Passes(checkpoint.spec, TorchBackend(checkpoint.model()))
    outcomes = judge_passes(passes, labelled, *limits)
    placed = outcomes.echo & outcomes.answered
    if placed.sum() < LEAST_ECHOES:
        say(f"confidence is left as it is: {int(placed.sum())} echoes placed, {LEAST_ECHOES} needed")
        return 1.0, 0.0
    return platt(outcomes.confidence[placed], outcomes.hits(0.5)[placed])


def platt(confidence: FloatArray, hit: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset of the likeliest line from ``confidence``'s log odds (n,) to those of a ``hit`` (n,);
    (1, 0), confidence as it is, where no rising line fits.
    """
    sure = np.clip(confidence, LEAST_DOUBT, 1.0 - LEAST_DOUBT)
    x = np.stack([np.log(sure / (1.0 - sure)), np.ones(len(sure))], axis=1)
    line = np.array([1.0, 0.0])
    for _ in range(NEWTON_STEPS):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ line, -30.0, 30.0)))
        bend = x.T @ (x * (p * (1.0 - p))[:, np.newaxis]) + STIFFNESS * np.eye(2)
        step = np.linalg.solve(bend, x.T @ (hit - p) + STIFFNESS * (np.array([1.0, 0.0]) - line))
        line = line + np.clip(step, -1.0, 1.0)
    slope, offset = (float(each) for each in line)
    return (slope, offset) if slope > 0 and math.isfinite(offset) else (1.0, 0.0)
