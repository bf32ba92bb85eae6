"""Runs pickers over labelled A-scan files and scores them, every method by the same code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usedge.ascan import AScan, cut_gate
from usedge.errors import InputError
from usedge.files import whole_file
from usedge.labelled import LabelledSet
from usedge.metrics import Outcomes, calibration, file_scores, gate_snr_db, judge
from usedge.runtime.passes import Passes
from usedge.tof import Picker, echo_peak, estimate_f0

GRID = 2048
"""Grid samples of the model's input, on which samples a cycle are counted."""
LOW_CONFIDENCE = 0.4
"""A ToF of a checkpoint with less is not given, as in the bundles that `usedge export` makes."""
SPECTRUM_ROWS = 256
"""As many A-scans, evenly spread over a file, are enough for its median spectrum."""

FloatArray = NDArray[np.float64]
PickerFactory = Callable[[float | None], Picker]
"""Gives the picker for a centre frequency in Hz (None: unknown); the model takes no notice of it."""


@dataclass(frozen=True)
class Predictions:
    """One method's answers: ``tof_s (n,)`` after the main bang, NaN = none; ``confidence (n,)`` in 0..1."""

    tof_s: FloatArray
    confidence: FloatArray


@dataclass(frozen=True)
class FileResult:
    """What every method answered on one file, and what became of it.

    ``f0_hz (n,)`` are the centre frequencies that hits were counted with, ``f0_estimated`` tells that the
    file had none; ``samples_a_cycle (n,)`` on the model's grid, GRID · period / gate length; ``snr_db (n,)``
    as ``gate_snr_db`` measures it on each gate.
    """

    file: str
    source: str
    n_echo: int
    n_empty: int
    f0_hz: FloatArray
    f0_estimated: bool
    samples_a_cycle: FloatArray
    snr_db: FloatArray
    predictions: dict[str, Predictions]
    outcomes: dict[str, Outcomes]

    @property
    def methods(self) -> dict[str, dict[str, Any]]:
        """Every method's figures on this file, by the keys of `usedge evaluate --json`."""
        return {name: {**file_scores(found), **calibration(found)} for name, found in self.outcomes.items()}


def evaluate_file(labelled: LabelledSet, pickers: Mapping[str, PickerFactory],
                  advance: Callable[[], None] = lambda: None) -> FileResult:
    """Run each of ``pickers`` over every gate of ``labelled``; ``advance`` is called after each pick.

    Without ``f0_hz`` in the file the pickers get None, and hits are counted with the frequency of the median
    spectrum of its gates. Where the file labels peaks, every pick is carried to the peak of its echo
    (``echo_peak``), which an onset is not a constant time before. Raises InputError where a gate cannot be
    evaluated, naming the row.
    """
    gated = gates_of(labelled)
    known = labelled.f0_hz
    f0_hz = known if known is not None else np.full(len(gated), median_f0(gated, labelled.has_echo))
    file = str(labelled.path or labelled.source)
    predictions = {name: _predict(file, gated, known, factory, advance) for name, factory in pickers.items()}
    predictions = {name: as_labelled(found, labelled, gated, f0_hz) for name, found in predictions.items()}
    outcomes = {name: judge(found.tof_s, labelled.tof_s, f0_hz, found.confidence)
                for name, found in predictions.items()}
    n_echo, period = int(labelled.has_echo.sum()), labelled.fs_hz / f0_hz
    return FileResult(file, labelled.source, n_echo, len(gated) - n_echo, f0_hz, known is None,
                      GRID * period / [len(ascan.samples) for ascan in gated],
                      gates_snr_db(gated, labelled.tof_s, period), predictions, outcomes)


def place_all(passes: Passes, gated: Sequence[AScan], no_echo: float, low_confidence: float = 0.0,
              no_echo_again: float = 0.0) -> Predictions:
    """What ``passes`` say of every gate, at limits as in a bundle's ``Thresholds``; confidence as the network
    says it.
    """
    tof_s, confidence = np.full(len(gated), np.nan), np.zeros(len(gated))
    for i, gate in enumerate(gated):
        found = passes.find(gate, no_echo, no_echo_again)
        confidence[i] = found.confidence
        if found.onset is not None and found.confidence >= low_confidence:
            tof_s[i] = (gate.t0_us + found.onset * gate.sample_us) * 1e-6
    return Predictions(tof_s, confidence)


def judge_passes(passes: Passes, labelled: LabelledSet, no_echo: float, no_echo_again: float) -> Outcomes:
    """What became of the gates of ``labelled`` by ``passes``, at limits as in a bundle's ``Thresholds``; hits
    are counted as `usedge evaluate` counts them.
    """
    gated = gates_of(labelled)
    f0_hz = labelled.f0_hz if labelled.f0_hz is not None else median_f0(gated, labelled.has_echo)
    found = place_all(passes, gated, no_echo, no_echo_again=no_echo_again)
    found = as_labelled(found, labelled, gated, f0_hz)
    return judge(found.tof_s, labelled.tof_s, f0_hz, found.confidence)


def gates_of(labelled: LabelledSet) -> list[AScan]:
    """Every gate of ``labelled``."""
    return [cut_gate(labelled.ascan(i), labelled.gate(i)) for i in range(len(labelled))]


def gates_snr_db(gated: Sequence[AScan], tof_s: FloatArray, period: FloatArray) -> FloatArray:
    """``gate_snr_db`` of each gate (n,); ``tof_s (n,)`` after the main bang, ``period (n,)`` in samples."""
    place = [(tof * 1e6 - ascan.t0_us) / ascan.sample_us for tof, ascan in zip(tof_s, gated, strict=True)]
    return np.array([gate_snr_db(*each) for each in zip((a.samples for a in gated), place, period,
                                                        strict=True)])


def median_f0(gated: Sequence[AScan], has_echo: NDArray[np.bool_]) -> float:
    """Centre frequency, Hz, of the median spectrum of the gates with an echo (of all, where none has one)."""
    chosen = [ascan for ascan, echo in zip(gated, has_echo, strict=True) if echo or not has_echo.any()]
    chosen = chosen[:: max(1, len(chosen) // SPECTRUM_ROWS)]
    shortest = min(len(ascan.samples) for ascan in chosen)
    return estimate_f0(np.stack([ascan.samples[:shortest] for ascan in chosen]), gated[0].fs_hz)


def _predict(file: str, gated: Sequence[AScan], f0_hz: FloatArray | None, factory: PickerFactory,
             advance: Callable[[], None]) -> Predictions:
    tof_s, confidence = np.full(len(gated), np.nan), np.zeros(len(gated))
    pickers: dict[float | None, Picker] = {}
    for i, ascan in enumerate(gated):
        f0 = None if f0_hz is None else float(f0_hz[i])
        if f0 not in pickers:
            pickers[f0] = factory(f0)
        try:
            pick = pickers[f0].pick(ascan)
        except InputError as error:
            raise InputError(f"{file}, row {i}: {error.what}", error.next_step) from error
        tof_s[i] = np.nan if pick.tof_us is None else pick.tof_us * 1e-6
        confidence[i] = pick.confidence
        advance()
    return Predictions(tof_s, confidence)


def as_labelled(found: Predictions, labelled: LabelledSet, gated: Sequence[AScan], f0_hz: ArrayLike
                ) -> Predictions:
    """``found`` in the ``gated`` A-scans of ``labelled``, at the point that its labels mark: onsets as
    they are, or the peaks of their echoes. ``f0_hz`` (n,) or one number.
    """
    if labelled.label_point == "onset":
        return found
    tof_s, f0 = found.tof_s.copy(), np.broadcast_to(np.asarray(f0_hz, np.float64), found.tof_s.shape)
    for i, gate in enumerate(gated):
        if np.isnan(tof_s[i]):
            continue
        onset = (tof_s[i] * 1e6 - gate.t0_us) / gate.sample_us
        peak = echo_peak(gate.samples, onset, gate.fs_hz / float(f0[i]))
        tof_s[i] = (gate.t0_us + peak * gate.sample_us) * 1e-6
    return Predictions(tof_s, found.confidence)


def check_predictions_path(out: Path, files: Sequence[Path]) -> None:
    """Raise InputError where ``save_predictions`` would fail, before any work is lost to it."""
    if out.suffix != ".npz":
        raise InputError(f"predictions are written as .npz, not to {out}.", "Give a name that ends in .npz.")
    if not out.parent.is_dir():
        raise InputError(f"there is no folder {out.parent} to write to.", "Create it first.")
    stems = [file.stem for file in files]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise InputError(f"two files are called {twice[0]}, and predictions are named after them.",
                         "Evaluate them one at a time.")


def save_predictions(out: Path, results: Sequence[FileResult]) -> None:
    """Write ``<method>_tof_s (n,)`` and ``<method>_confidence (n,)`` of every method, whole or not at all.

    With several files each name begins with the file's stem and an underscore. NaN = no answer.
    """
    arrays: dict[str, FloatArray] = {}
    for result in results:
        prefix = f"{Path(result.file).stem}_" if len(results) > 1 else ""
        for method, found in result.predictions.items():
            arrays[f"{prefix}{method}_tof_s"] = found.tof_s
            arrays[f"{prefix}{method}_confidence"] = found.confidence
    with whole_file(out) as fresh, fresh.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
