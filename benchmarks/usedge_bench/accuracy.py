"""How often the ToF is right: the bundle, the classical pickers, and a checkpoint where one is given."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usedge.bundle import Bundle
from usedge.cli.options import need_training
from usedge.errors import InputError
from usedge.labelled import LabelledSet, load_labelled
from usedge.metrics import Outcomes, judge, pooled_scores
from usedge.runtime.choice import choose
from usedge.runtime.evaluate import FileResult, PickerFactory, Predictions, evaluate_file
from usedge.runtime.picker import open_model_picker
from usedge.runtime.scorecard import report as scorecard
from usedge.runtime.scorecard import source_name
from usedge.synth import FS_HZ, generate
from usedge.tof import CLASSICAL
from usedge_bench.conditions import Watch
from usedge_bench.percentiles import share_interval
from usedge_bench.report import AccuracyReport, common
from usedge_bench.suite import AccuracySuite

MODEL, CHECKPOINT, ALL = "model", "checkpoint", "all"
CHUNK = 1024


def run_accuracy(bundle: Bundle, suite: AccuracySuite, say: Callable[[str], None],
                 files: Sequence[Path] = (), checkpoint: Path | None = None) -> AccuracyReport:
    """Score every method on ``files``, or on the suite's synthetic A-scans where there are none.

    Raises InputError for a file or a checkpoint that cannot be used.
    """
    watch = Watch(say)
    if checkpoint is not None:
        need_training()
    sets = [load_labelled(path) for path in files] or [synthetic_set(suite)]
    picker = open_model_picker(bundle, choose(bundle, say))
    factories: dict[str, PickerFactory] = {MODEL: lambda _f0_hz: picker, **CLASSICAL}
    results = []
    for labelled in sets:
        name = str(labelled.path or labelled.source)
        with watch.part(name, f"{name}: {len(factories)} methods on {len(labelled)} gates …"):
            results.append(evaluate_file(labelled, factories))
    if checkpoint is not None:
        with watch.part(CHECKPOINT, f"{checkpoint} on the same gates …"):
            results = [_with_checkpoint(result, labelled, checkpoint)
                       for result, labelled in zip(results, sets, strict=True)]
    # How busy the machine was changes no hit.
    return AccuracyReport(
        **{**common("accuracy", suite, watch), "stable": True, "unstable_because": []},  # type: ignore[typeddict-item]
        bundle={"name": bundle.name, "sha256": bundle.sha256},
        checkpoint=None if checkpoint is None else str(checkpoint),
        rows=rows(results, suite.seed), scorecard=scorecard(results),
    )


def synthetic_set(suite: AccuracySuite) -> LabelledSet:
    """The suite's synthetic A-scans with their labels; those of ``usedge synth`` with the same numbers."""
    parts = [generate(suite.preset, min(CHUNK, suite.ascans - i * CHUNK), (suite.seed, i), suite.samples)
             for i in range(-(-suite.ascans // CHUNK))]
    onset, cycle = (np.concatenate([getattr(part, key) for part in parts]).astype(np.float64)
                    for key in ("onset", "cycle"))
    gate_s = np.tile([0.0, suite.samples / FS_HZ], (suite.ascans, 1))
    return LabelledSet(np.concatenate([part.x for part in parts]), FS_HZ, 0.0, onset / FS_HZ, gate_s,
                       FS_HZ / cycle, source=f"synthetic, preset {suite.preset}: seed {suite.seed}")


def rows(results: Sequence[FileResult], seed: int) -> list[dict[str, Any]]:
    """Every method's figures over all gates, then by source where there are several."""
    sources = list(dict.fromkeys(source_name(result.source) for result in results))
    groups: list[tuple[str, Sequence[FileResult]]] = [(ALL, results)]
    if len(sources) > 1:
        groups += [(name, [result for result in results if source_name(result.source) == name])
                   for name in sources]
    return [row for name, chosen in groups for row in _group(name, chosen, seed)]


def _group(source: str, results: Sequence[FileResult], seed: int) -> list[dict[str, Any]]:
    methods: Mapping[str, Outcomes] = {
        name: Outcomes.join([result.outcomes[name] for result in results]) for name in results[0].outcomes}
    found = []
    for name, outcomes in methods.items():
        echo = outcomes.echo
        scores = pooled_scores(outcomes)
        found.append({"source": source, "method": name, "n_echo": int(echo.sum()),
                      "n_empty": int((~echo).sum()), **scores,
                      "ci95_hit_half_period": share_interval(outcomes.hits(0.5)[echo], seed)})
    return found


def _with_checkpoint(result: FileResult, labelled: LabelledSet, checkpoint: Path) -> FileResult:
    """``result`` with the checkpoint's picks beside; torch stays out of this process."""
    with tempfile.TemporaryDirectory() as folder:
        gates, picks = Path(folder) / "gates.npz", Path(folder) / "picks.npz"
        np.savez(gates, x=labelled.x, fs_hz=labelled.fs_hz, t0_s=labelled.t0_s, tof_s=labelled.tof_s,
                 gate_s=labelled.gate_s, label_point=labelled.label_point)
        done = subprocess.run([sys.executable, "-m", "usedge.training.picks", str(checkpoint), str(gates),
                               str(picks)], capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise InputError(f"checkpoint {checkpoint} made no picks: {said}")
        with np.load(picks) as told:
            found = Predictions(told["tof_s"], told["confidence"])
    result.predictions[CHECKPOINT] = found
    result.outcomes[CHECKPOINT] = judge(found.tof_s, labelled.tof_s, result.f0_hz, found.confidence)
    return result
