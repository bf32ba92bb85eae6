"""The training suite: pretraining against a plain form of the same model, data rates, and precision.

torch stays out of this process: the work is done by ``python -m usedge.training.speed``, one process for
each group of contenders, which take their turns here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from usedge.cli.options import need_training
from usedge.errors import InputError, MissingExtraError
from usedge_bench.conditions import Watch
from usedge_bench.report import common
from usedge_bench.suite import TrainingSuite

SPREAD_LIMIT = 1.25
"""p90 over p10 of a contender's rounds above which a run is called unstable."""
GROUPS = ("plain", "usedge", "data")
OURS = "usedge"
TABLES = {
    "pretraining": ("plain-fp32", "plain-bf16", OURS, "usedge-half"),
    "data": ("generator-field", "generator-paper", "generator-plate", "file"),
    "fine-tuning": ("finetune-fp32", "finetune-bf16"),
}
AGAINST = {"pretraining": "plain-fp32", "data": OURS, "fine-tuning": "finetune-fp32"}
"""What the rows of a table are a multiple of."""


class Worker:
    """A process with a group of contenders, asked for one turn at a time."""

    def __init__(self, group: str, process: subprocess.Popen[str], errors: Any) -> None:
        self.group, self._process, self._errors = group, process, errors

    def ready(self) -> dict[str, Any]:
        """What the process has to say of itself, once it is warm."""
        return self._answer()

    def rate(self, key: str) -> float:
        """A-scans/s of one turn."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{key}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it is gone; reading says why
        answer = self._answer()
        return float(answer["ascans"] / answer["elapsed_s"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return dict(json.loads(line))
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines() or ["nothing"]
        raise InputError(f"the {self.group} process ended. It said: {said[-1]}")


@contextmanager
def _worker(group: str, suite: TrainingSuite, folder: Path) -> Iterator[Worker]:
    command = [sys.executable, "-m", "usedge.training.speed", group, f"--recipe={suite.recipe}",
               f"--folder={folder}", f"--seed={suite.seed}", f"--warmup={suite.warmup}",
               f"--data-ascans={suite.data_ascans}", f"--file-ascans={suite.file_ascans}"]
    # Cores are compared with cores: no process sees a GPU.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryFile("w+") as errors, subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment,
            text=True) as process:
        try:
            yield Worker(group, process, errors)
        finally:
            process.kill()  # it holds nothing that is worth an orderly end


def run_training(suite: TrainingSuite, say: Callable[[str], None]) -> dict[str, Any]:
    """Time every contender in turn; the report, every round included (keys: docs/benchmarking.md)."""
    _need_packages()
    watch = Watch(say)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        by_key: dict[str, Worker] = {}
        about: dict[str, dict[str, Any]] = {}
        for group in GROUPS:  # one after the other: they warm up on all cores
            say(f"starting the {group} process …")
            worker = stack.enter_context(_worker(group, suite, folder))
            ready = worker.ready()
            if group == OURS:
                watch.host |= {key: ready[key] for key in ("torch", "threads")}
            for each in ready["contenders"]:
                by_key[each["key"]], about[each["key"]] = worker, each
        with watch.part("rounds"):
            rates = _rounds(by_key, suite.rounds, say)
    rows = {table: [_row(key, AGAINST[table], about[key], rates, suite) for key in keys]
            for table, keys in TABLES.items()}
    every = [row for table in rows.values() for row in table]
    return {
        **common("training", suite, watch, _unstable(every)), "rows": rows,
        "below_floor": [row["name"] for row in every if row["median_per_s"] < row["floor_per_s"]],
        "elapsed_s": watch.seconds,
        "values_per_s": {key: [round(rate, 2) for rate in values] for key, values in rates.items()},
    }


def _need_packages() -> None:
    need_training()
    if importlib.util.find_spec("h5py") is None:
        raise MissingExtraError("h5py", "train")


def _rounds(workers: dict[str, Worker], rounds: int, say: Callable[[str], None]) -> dict[str, list[float]]:
    """A-scans/s of every contender in every round; a round gives each one turn, so that drift hits all."""
    order = [key for keys in TABLES.values() for key in keys]
    rates: dict[str, list[float]] = {key: [] for key in order}
    say(f"{len(order)} contenders in turn, {rounds} rounds …")
    for _ in range(rounds):
        for key in order:
            rates[key].append(workers[key].rate(key))
    return rates


def _row(key: str, against: str, about: dict[str, Any], rates: dict[str, list[float]], suite: TrainingSuite
         ) -> dict[str, Any]:
    p10, p90 = np.percentile(rates[key], [10, 90])
    # The median of the ratios within each round, not the ratio of medians: what slows a round slows both.
    ratio = median(mine / theirs for mine, theirs in zip(rates[key], rates[against], strict=True))
    return {**about, "median_per_s": round(median(rates[key]), 1), "p10_per_s": round(float(p10), 1),
            "p90_per_s": round(float(p90), 1), "against": against, "ratio": round(ratio, 3),
            "floor_per_s": suite.floor_pretraining if key == OURS else 0.0}


def _unstable(rows: list[dict[str, Any]]) -> list[str]:
    spread, worst = max((row["p90_per_s"] / row["p10_per_s"], row["key"]) for row in rows)
    return [f"p90 of {worst} is {spread:.2f} × its p10; close other programs"] * (spread > SPREAD_LIMIT)
