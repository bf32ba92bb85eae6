"""Measures few-shot adaptation on recorded A-scans, for the table of docs/adapting.md.

``python docs/adapting.py CHECKPOINT FOLDER`` adapts CHECKPOINT to the first 5, 20 and 100 rows of labelled
files in FOLDER, one file and number at a time, judges each on what is left of its file and on all the other
files, and writes benchmarks/results/adapting.json; ``--table`` prints what is stored as a table.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from usedge.cli.adaptation import finder
from usedge.labelled import LabelledSet, load_labelled
from usedge.metrics import file_scores, judge
from usedge.models.checkpoint import Checkpoint, load_checkpoint
from usedge.resources import recipe
from usedge.training.adapt import Adapter, Find, no_echo_limit, synthetic_scores, told_where_labelled
from usedge.training.cuts import rows_of
from usedge.training.loop import TrainSettings
from usedge.training.recipe import read_recipes
from usedge_export.operating import no_echo_limit as scenes_limit
from usedge_export.recipe import read_recipe

STORED = Path(__file__).parents[1] / "benchmarks" / "results" / "adapting.json"
SIZES = (5, 20, 100)
BOARDS = ("cublock_pk", "plane_if2", "un0_mul21")
EVERY = 4
"""Of the files that are not adapted to, every fourth row is judged, before and after."""
FIGURES = ("hit_half_period", "raw_hit_half_period", "false_alarm_rate")

Answers = dict[str, NDArray[np.float64]]


def rest_of(labelled: LabelledSet, learnt: int) -> NDArray[np.int64]:
    """Rows that are not among the first ``learnt``, nor sample by sample the same A-scan as one of those."""
    _, scene = np.unique(labelled.x, axis=0, return_inverse=True)
    scene = scene.reshape(-1)
    return np.flatnonzero(~np.isin(scene, scene[:learnt]))


def scores(tof_s: NDArray[np.float64], labelled: LabelledSet) -> dict[str, Any]:
    """Figures of one file's answers, as `usedge evaluate` counts them."""
    assert labelled.f0_hz is not None
    return dict(file_scores(judge(told_where_labelled(tof_s, labelled), labelled.tof_s, labelled.f0_hz)))


def means(files: dict[str, list[dict[str, Any]]], key: str) -> list[float]:
    """Means of a figure before and after over the files that have it."""
    return [mean(each[i][key] for each in files.values() if each[i][key] is not None) for i in (0, 1)]


class Trial:
    """CHECKPOINT (or a bundle) and the files; what it answers before is answered once."""

    def __init__(self, start: Path, folder: Path, settings: TrainSettings) -> None:
        self.start, self.settings = start, settings
        self.checkpoint = load_checkpoint(start, "tof")
        self.sets = {path.stem: load_labelled(path) for path in sorted(folder.glob("*.npz"))}
        self.some = {name: rows_of(each, np.arange(0, len(each), EVERY)) for name, each in self.sets.items()}
        self.find = self.finder(self.checkpoint)
        self.before = self.answers(self.find, self.checkpoint, self.some)
        self.synthetic = self.forgotten(self.checkpoint)

    @staticmethod
    def finder(checkpoint: Checkpoint) -> Find:
        """Both passes at the no-echo limits that `usedge export` would choose for ``checkpoint``."""
        operating = read_recipe(recipe("int8")).operating
        return finder(checkpoint, scenes_limit(checkpoint, operating), operating.no_echo_again)

    @staticmethod
    def answers(find: Find, checkpoint: Checkpoint, sets: dict[str, LabelledSet]) -> Answers:
        """``tof_s (n,)`` of every file."""
        return {name: find(checkpoint.model(), labelled) for name, labelled in sets.items()}

    def forgotten(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Scores on the synthetic validation A-scans, at the limit that ``start`` was trained with."""
        limit = no_echo_limit(self.checkpoint)
        return dict(synthetic_scores(checkpoint.model(), checkpoint.spec, "field", limit))

    def one(self, name: str, learnt: int) -> dict[str, Any]:
        """Adapt to the first ``learnt`` rows of ``name``; what it gave there and elsewhere."""
        labelled = self.sets[name]
        rest, first = rest_of(labelled, learnt), rows_of(labelled, np.arange(learnt))
        held = rows_of(labelled, rest)
        others = {other: each for other, each in self.some.items() if other != name}
        before = self.find(self.checkpoint.model(), labelled)
        began = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            adapter = Adapter(self.settings, self.start, first, Path(folder), self.find)
            after = adapter.train_whole(self.checkpoint, before[:learnt])
        cpu_s = time.process_time() - began
        find = self.finder(after)
        found = self.answers(find, after, others)
        return {
            "file": name, "learnt": learnt, "judged": len(rest), "cpu_s": round(cpu_s, 1),
            "own": [scores(before[rest], held), scores(find(after.model(), held), held)],
            "others": {other: [scores(each[other], others[other]) for each in (self.before, found)]
                       for other in others},
            "synthetic": [self.synthetic, self.forgotten(after)]}


def table(report: dict[str, Any]) -> str:
    """The stored report as a table of Markdown, before → after."""
    head = ("adapted to", "rows", "judged", "hit ½T, left of it", "raw", "false", "hit ½T, other files",
            "raw", "false", "hit ½T, synthetic", "errors", "CPU s")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for run in report["runs"]:
        cells = [run["file"], str(run["learnt"]), str(run["judged"])]
        cells += [_arrow(*(each[key] for each in run["own"])) for key in FIGURES]
        cells += [_arrow(*means(run["others"], key)) for key in FIGURES]
        cells += [_arrow(*(each[key] for each in run["synthetic"]))
                  for key in ("hit_half_period", "no_echo_errors")]
        lines.append("| " + " | ".join([*cells, f"{run['cpu_s']:.0f}"]) + " |")
    return "\n".join(lines)


def _arrow(before: float | None, after: float | None) -> str:
    return "–" if before is None or after is None else f"{before:.3f} → {after:.3f}"


def main() -> int:
    """Measure and store, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--files", nargs="*", default=BOARDS)
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--set", dest="assignments", nargs="*", default=())
    parser.add_argument("-o", "--out", type=Path, default=STORED)
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    if asked.table:
        sys.stdout.write(table(json.loads(asked.out.read_text())) + "\n")
        return 0
    if asked.folder is None or not any(asked.folder.glob("*.npz")):
        sys.stderr.write("no recorded A-scans: give a checkpoint and a folder of labelled .npz files\n")
        return 0
    torch.set_num_threads(1)
    settings = read_recipes(["adapt"]).with_assignments(asked.assignments).settings("finetune")
    trial = Trial(asked.checkpoint, asked.folder, settings)
    report: dict[str, Any] = {"format_version": 1, "settings": asdict(settings), "every": EVERY, "runs": []}
    for name in asked.files:
        for learnt in asked.sizes:
            report["runs"].append(trial.one(name, learnt))
            sys.stderr.write(table({"runs": report["runs"][-1:]}).splitlines()[-1] + "\n")
            asked.out.write_text(json.dumps(report, indent=1) + "\n")
    sys.stdout.write(table(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
