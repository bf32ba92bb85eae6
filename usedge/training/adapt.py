"""Few-shot adaptation: a finished ToF network learns one board from a few labelled A-scans.

Every batch mixes the board's gates, cut and made noisy afresh (``cuts``), with fresh synthetic ones, so that
the other boards are not forgotten. What it is worth is told by leaving out blocks of the file in turn, and by
the synthetic validation A-scans; weights that became worse on either are refused.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from usedge.errors import InputError
from usedge.files import write_whole
from usedge.labelled import LabelledSet
from usedge.metrics import Scores, file_scores, judge
from usedge.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from usedge.pointer import decode
from usedge.runtime.evaluate import Predictions, as_labelled, gates_of
from usedge.spec import SignalSpec
from usedge.training import tasks
from usedge.training.cuts import OwnStream, own_gates, rows_of
from usedge.training.loop import Run, TrainSettings
from usedge.training.scores import place_scores, predict
from usedge.training.stream import Batch, SynthStream, synthetic_pool

FORMAT_VERSION = 1
LEAST_ECHOES = 5
"""Fewer A-scans with an echo say nothing of a board, and nothing of what they were worth."""
FOLDS = 3
FEW_JUDGED = 20
"""With fewer left-out echoes one A-scan more or less is over 5 %: the figure is poor, and is called so."""
OWN_MARGIN, ONE_ASCAN = 0.05, 1.0
"""The left-out A-scans may lose this share of hits, or gain it in errors; or one of them, if that is more."""
SYNTHETIC_MARGIN = 0.02
"""The same of the synthetic validation A-scans, which are many."""
REPORT = "adaptation.json"
WORK = "adapting"

Find = Callable[[nn.Module, LabelledSet], NDArray[np.float64]]
"""What a network answers to a file through both passes of the device: ``tof_s (n,)``, NaN = no echo."""
Say = Callable[[str], None]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MixedStream:
    """``own`` gates of a board and fresh synthetic ones in every batch."""

    own: OwnStream
    fresh: SynthStream

    def __getitem__(self, index: int) -> Batch:
        return Batch.join([self.own[index], self.fresh[index]])


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What came of it: the new ``checkpoint`` and where it lies, the ``report`` as stored, and in words what
    became ``worse`` beyond its margin (nothing: the checkpoint is ``folder/last``).
    """

    checkpoint: Checkpoint
    folder: Path
    report: dict[str, Any]
    worse: list[str]


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adaptation: ``start`` with the A-scans ``labelled`` (their ``f0_hz`` known) into ``folder``.

    ``find`` answers files as the device would, at the no-echo limit of ``start`` before and after. Raises
    InputError for settings that are none of an adaptation, and for fewer than LEAST_ECHOES echoes.
    """

    settings: TrainSettings
    start: Path
    labelled: LabelledSet
    folder: Path
    find: Find
    say: Say = lambda _text: None

    def __post_init__(self) -> None:
        s, echoes = self.settings, int(self.labelled.has_echo.sum())
        if s.world > 1 or s.pool or s.augment:
            raise InputError("adaptation runs in one process, with synthetic A-scans that are always new.",
                             "Leave --devices, --nodes, --labels and finetune.augment out.")
        own = s.batch - round(s.rehearsal * s.batch)
        if not 0 < own < s.batch:
            raise InputError(f"a rehearsal of {s.rehearsal} leaves {own} of {s.batch} A-scans to the board.",
                             "Half of a batch: --set finetune.rehearsal=0.5")
        if echoes < LEAST_ECHOES:
            told = f"only {echoes}" if echoes else "no"
            raise InputError(f"{self.labelled.path} has {told} A-scans with an echo;"
                             f" at least {LEAST_ECHOES} are needed.", "Label more: usedge label.")
        # With work left in it, it was interrupted, maybe when all but that was stored.
        for name in () if (self.folder / WORK).exists() else ("last", "refused", REPORT):
            if (self.folder / name).exists():
                raise InputError(f"{self.folder} holds a run already ({name}).", "Give another --out.")

    def run(self) -> Adaptation:
        """Adapt, judge, and store: ``folder/last`` and ``folder/adaptation.json``; where it became worse
        ``folder/refused`` instead of ``last``. Interrupted, the same call resumes.
        """
        began = time.monotonic(), time.process_time()
        start = load_checkpoint(self.start, "tof")
        before = self.find(start.model(), self.labelled)
        after, folds = self._left_out(start, before)
        self.say("adapting to all of them")
        checkpoint = self.train_whole(start, before)
        own = self._own_scores(before, after, folds)
        synthetic = self._forgotten(start, checkpoint)
        worse = _worse(own, synthetic)
        report = {
            "format_version": FORMAT_VERSION, "start": str(self.start), **self._about(),
            "label_shift_ns": self._shift_s(before, np.arange(len(self.labelled))) * 1e9,
            "left_out": own, "synthetic": synthetic,
            "margins": {"left_out": OWN_MARGIN, "left_out_ascans": ONE_ASCAN,
                        "synthetic": SYNTHETIC_MARGIN},
            "worse": worse, "checkpoint": str(self.folder / ("refused" if worse else "last")),
            "wall_s": round(time.monotonic() - began[0], 1),
            "cpu_s": round(time.process_time() - began[1], 1)}
        return self._stored(checkpoint, report, worse)

    def train_whole(self, start: Checkpoint, before: NDArray[np.float64]) -> Checkpoint:
        """``start`` adapted to every row, unjudged; ``before (n,)`` is what ``start`` answers to them, s."""
        return self._trained(start, np.arange(len(self.labelled)), before, "whole")

    def _about(self) -> dict[str, Any]:
        s, echoes = self.settings, int(self.labelled.has_echo.sum())
        return {"file": _name(self.labelled), "sha256": _digest(self.labelled), "n": len(self.labelled),
                "n_echo": echoes, "n_empty": len(self.labelled) - echoes,
                "label_point": self.labelled.label_point, "seed": s.seed, "settings": asdict(s),
                "ascans": {"own": s.steps * (s.batch - self._fresh), "fresh": s.steps * self._fresh}}

    @property
    def _fresh(self) -> int:
        """Synthetic A-scans in a batch."""
        return round(self.settings.rehearsal * self.settings.batch)

    def _left_out(self, start: Checkpoint, before: NDArray[np.float64]
                  ) -> tuple[NDArray[np.float64], list[Rows]]:
        """Answers (n,) to each row by a network adapted to others, and the folds that were judged."""
        after, judged = np.full(len(self.labelled), np.nan), []
        folds = left_out(self.labelled)
        for i, (learnt, held) in enumerate(folds, 1):
            self.say(f"left out, {i} of {len(folds)}: adapting to {len(learnt)}, judging {len(held)}")
            fold = self._trained(start, learnt, before, f"fold-{i}")
            after[held] = self.find(fold.model(), rows_of(self.labelled, held))
            judged.append(held)
        return after, judged

    def _trained(self, start: Checkpoint, rows: Rows, before: NDArray[np.float64], name: str) -> Checkpoint:
        s = self.settings
        torch.manual_seed(s.seed)
        seed = s.seed + tasks.LABELS_SEED
        gates = own_gates(rows_of(self.labelled, rows), self._shift_s(before, rows))
        stream = MixedStream(OwnStream(gates, seed, s.batch - self._fresh, start.spec),
                             SynthStream(s.preset, seed, self._fresh, start.spec))
        # In evaluation mode, in which it was trained but for averages that few A-scans must not move.
        net = start.model()
        if s.probe:
            tasks.freeze(net)
        origin = {"from": start.kind, "ascans": start.record["ascans"], "settings": start.record["settings"],
                  "origin": start.record["origin"], "weights": _weights(start),
                  "data": {"file": _name(self.labelled), "sha256": _digest(self.labelled),
                           "ascans": len(rows)}}
        run = Run("tof", net, tasks.LOSSES["tof"], stream, s, start.spec, start.config,
                  self.folder / WORK / name, origin)
        return run.fit()

    def _shift_s(self, before: NDArray[np.float64], rows: Rows) -> float:
        """What the labels of peaks are moved by, to where the network itself sees those echoes begin."""
        if self.labelled.label_point == "onset":
            return 0.0
        chosen = rows_of(self.labelled, rows)
        return float(judge(before[rows], chosen.tof_s, _f0(chosen)).bias_s[0])

    def _own_scores(self, before: NDArray[np.float64], after: NDArray[np.float64], folds: list[Rows]
                    ) -> dict[str, Any]:
        rows = np.sort(np.concatenate(folds)) if folds else np.zeros(0, np.int64)
        held = rows_of(self.labelled, rows)
        n_echo = int(held.has_echo.sum())
        about = {"folds": len(folds), "n_echo": n_echo, "n_empty": len(rows) - n_echo,
                 "poor": n_echo < FEW_JUDGED}
        if not folds:
            return about | {"before": None, "after": None}
        return about | {"before": _file_scores(before[rows], held), "after": _file_scores(after[rows], held)}

    def _forgotten(self, start: Checkpoint, checkpoint: Checkpoint) -> dict[str, Any]:
        """Scores on the synthetic validation A-scans, at the no-echo limit of ``start`` before and after."""
        limit, preset = no_echo_limit(start), self.settings.preset
        before, after = (synthetic_scores(each.model(), each.spec, preset, limit)
                         for each in (start, checkpoint))
        return {"preset": preset, "seed": tasks.VALIDATION_SEED, "ascans": tasks.VALIDATION_ASCANS,
                "no_echo_threshold": limit, "before": before, "after": after}

    def _stored(self, checkpoint: Checkpoint, report: dict[str, Any], worse: list[str]) -> Adaptation:
        scores = tasks.validate(checkpoint.model(), checkpoint.spec, self.settings.preset)
        record = checkpoint.record | {"scores": scores | {"adaptation": report}}
        final = replace(checkpoint, record=record, optimizer=None)
        folder = self.folder / ("refused" if worse else "last")
        save_checkpoint(folder, final)
        write_whole(self.folder / REPORT, (json.dumps(report, indent=1, allow_nan=False) + "\n").encode())
        shutil.rmtree(self.folder / WORK)
        return Adaptation(final, folder, report, worse)


def no_echo_limit(start: Checkpoint) -> float:
    """The no-echo limit that training chose; raises InputError for a checkpoint that was never validated."""
    limit = (start.record.get("scores") or {}).get("no_echo_threshold")
    if not isinstance(limit, float):
        raise InputError("the checkpoint has no threshold for \"no echo\" among its scores.",
                         "Let its `usedge finetune` run to its end: it validates last.")
    return limit


def left_out(labelled: LabelledSet) -> list[tuple[Rows, Rows]]:
    """Pairs of rows to learn and rows to judge, FOLDS of them: blocks of neighbours in the order of the file.

    Neighbours are near copies, so that a random split would judge what was learnt. Echoes and empty gates
    are parted into blocks each for themselves. An A-scan that is, sample by sample, one of those to be
    judged is not learnt either; a pair without an echo on one of both sides is left out.
    """
    parts = [np.array_split(np.flatnonzero(kind), FOLDS) for kind in (labelled.has_echo, ~labelled.has_echo)]
    _, scene = np.unique(labelled.x, axis=0, return_inverse=True)
    scene = scene.reshape(-1)
    pairs = []
    for block in zip(*parts, strict=True):
        held = np.sort(np.concatenate(block))
        learnt = np.flatnonzero(~np.isin(scene, scene[held]))
        if labelled.has_echo[held].any() and labelled.has_echo[learnt].any():
            pairs.append((learnt, held))
    return pairs


def told_where_labelled(tof_s: NDArray[np.float64], labelled: LabelledSet) -> NDArray[np.float64]:
    """Answers ``tof_s (n,)`` at the point of the echo that ``labelled``, its ``f0_hz`` known, marks."""
    told = Predictions(tof_s, np.ones_like(tof_s))
    return as_labelled(told, labelled, gates_of(labelled), _f0(labelled)).tof_s


def synthetic_scores(model: nn.Module, spec: SignalSpec, preset: str, limit: float) -> Scores:
    """``place_scores`` on the validation A-scans, and shares of echoes ``missed`` and empty gates answered
    (``false_alarms``) at the no-echo ``limit``; ``no_echo_errors`` of both kinds among all gates.
    """
    batch = synthetic_pool(preset, tasks.VALIDATION_ASCANS, tasks.VALIDATION_SEED, replace(spec, zoom=0.0))
    pointed = decode(predict(model, batch.x))
    echo = ~np.isnan(batch.onset.numpy())
    wrong = (pointed.p_no_echo > limit) == echo
    return place_scores(pointed.place, batch, spec.patch) | {
        "missed": _mean(wrong[echo]), "false_alarms": _mean(wrong[~echo]), "no_echo_errors": _mean(wrong)}


def _file_scores(tof_s: NDArray[np.float64], held: LabelledSet) -> Scores:
    outcomes = judge(told_where_labelled(tof_s, held), held.tof_s, _f0(held))
    return file_scores(outcomes) | {"no_echo_errors": _mean(outcomes.answered != outcomes.echo)}


def _worse(own: dict[str, Any], synthetic: dict[str, Any]) -> list[str]:
    """What became worse beyond its margin, a line each."""
    n_echo, n = own["n_echo"], own["n_echo"] + own["n_empty"]
    cases = [("synthetic A-scans", synthetic, SYNTHETIC_MARGIN, SYNTHETIC_MARGIN)]
    if own["before"] is not None:
        cases.insert(0, ("left-out A-scans", own, max(OWN_MARGIN, ONE_ASCAN / n_echo),
                         max(OWN_MARGIN, ONE_ASCAN / n)))
    lines = []
    for name, scores, fewer_hits, more_errors in cases:
        before, after = scores["before"], scores["after"]
        for key, sign, margin, words in (("hit_half_period", -1, fewer_hits, "hits within half a period"),
                                         ("no_echo_errors", 1, more_errors, "no-echo errors")):
            if sign * (after[key] - before[key]) > margin + 1e-9:
                lines.append(f"{words}: {before[key]:.3f} before, {after[key]:.3f} after, on the {name}")
    return lines


def _mean(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None


def _f0(labelled: LabelledSet) -> NDArray[np.float64]:
    assert labelled.f0_hz is not None
    return labelled.f0_hz


def _name(labelled: LabelledSet) -> str:
    return labelled.path.name if labelled.path else ""


def _digest(labelled: LabelledSet) -> str:
    """Of A-scans and labels: a run is not resumed with others."""
    parts = (labelled.x, labelled.tof_s, labelled.gate_s, _f0(labelled))
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def _weights(start: Checkpoint) -> str:
    """Of the weights that an adaptation starts from."""
    parts = (start.weights[name].numpy().tobytes() for name in sorted(start.weights))
    return hashlib.sha256(b"".join(parts)).hexdigest()
