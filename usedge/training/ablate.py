"""Runs trials and keeps a table of them: one row a run, here or on a Ray cluster, resumable."""

from __future__ import annotations

import csv
import ctypes
import io
import logging
import os
import platform
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from usedge import __version__
from usedge.errors import InputError, MissingExtraError
from usedge.files import alone, write_whole
from usedge.models.checkpoint import load_checkpoint
from usedge.models.config import MAEConfig
from usedge.models.mae import MaskedAutoencoder
from usedge.models.nets import build
from usedge.tof import CLASSICAL
from usedge.training.classical import classical_scores
from usedge.training.grid import Trial
from usedge.training.recipe import Recipe
from usedge.training.scores import presence_scores, reconstruction_scores, tof_scores
from usedge.training.stream import Batch, synthetic_pool
from usedge.training.tasks import TEST_SEED, Downstream, finetune, pretrain

RECONSTRUCTED = 512
PR_SET_PDEATHSIG = 1
Row = dict[str, Any]
ABOUT = ("budget", "usedge", "torch", "host")
SCORES = ("top1", "within_patch", "hit_half_period", "hit_one_period", "median_error_samples", "accuracy",
          "f1_mean", "mean_abs", "mean_abs_nothing", "explained", "echo_explained")
FIGURES = ("parameters", "pretrain_ascans", "finetune_ascans", "test_ascans", "pretrain_s", "finetune_s")
COLUMNS = ("key", *(each.name for each in fields(Trial)), *SCORES, *FIGURES, *ABOUT)


@dataclass(frozen=True, slots=True)
class Plan:
    """How trials are run: ``recipe`` at ``budget``, in ``folder``, scored on ``test_ascans``."""

    recipe: Recipe
    budget: float
    folder: Path
    test_ascans: int = 2048

    def __post_init__(self) -> None:
        if not 0 < self.budget <= 1:
            raise InputError(f"budget {self.budget} is not in 0 … 1.", "1 is the paper's 200 epochs.")


Runner = Callable[[Plan, Sequence[Trial]], Iterator[Row]]
"""Runs trials and gives their rows, in any order."""


class Table:
    """The rows of all trials so far, in a CSV file that is rewritten whole with each new row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        self.read()

    def read(self) -> None:
        """Take the rows as they stand in the file."""
        self.rows = read_table(self.path) if self.path.exists() else []

    def has(self, trial: Trial, budget: float) -> bool:
        """Whether the trial was run at this budget."""
        return any(row["key"] == trial.key() and float(row["budget"]) == budget for row in self.rows)

    def add(self, row: Row) -> None:
        """Append ``row`` and store the table."""
        self.rows.append({name: _text(row.get(name)) for name in COLUMNS})
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, buffer.getvalue().encode())


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def read_table(path: Path) -> list[Row]:
    """The rows of a table, all values texts; raises InputError for a file that is no such table."""
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}).", "Make one: usedge ablate.") from None
    if missing := set(COLUMNS) - set(reader.fieldnames or ()):
        raise InputError(f"{path} is no table of trials: it lacks {', '.join(sorted(missing))}.",
                         "Make one: usedge ablate.")
    return rows


def run_all(plan: Plan, trials: Sequence[Trial], table: Table, run: Runner | None = None,
            say: Callable[[str], None] = lambda _text: None) -> None:
    """Run what ``table`` lacks by ``run`` (default: one after the other, here), each pretraining once.

    Raises InputError where another process is at the same table.
    """
    with alone(table.path):
        table.read()
        _run_waiting(plan, trials, table, run or one_by_one, say)


def _run_waiting(plan: Plan, trials: Sequence[Trial], table: Table, run: Runner,
                 say: Callable[[str], None]) -> None:
    waiting = [trial for trial in trials if not table.has(trial, plan.budget)]
    done = len(trials) - len(waiting)
    for row in run(plan, waiting):
        table.add(row)
        done += 1
        found = row.get("top1", row.get("accuracy"))
        say(f"{done}/{len(trials)} {row['method']} {row['task']} seed {row['seed']}: {_text(found)}"
            f" ({row['pretrain_s']:.0f} + {row['finetune_s']:.0f} s)")


def one_by_one(plan: Plan, trials: Sequence[Trial]) -> Iterator[Row]:
    """Rows of ``trials``, run in this process."""
    for trial in trials:
        yield run_trial(plan, trial)


def in_processes(jobs: int) -> Runner:
    """A runner with ``jobs`` processes, the cores shared out among them.

    Two processes of one thread do a quarter more than one of two: these networks are small.
    """
    def run(plan: Plan, trials: Sequence[Trial]) -> Iterator[Row]:
        threads = max(1, (os.cpu_count() or 1) // jobs)
        with ProcessPoolExecutor(jobs, get_context("spawn"), _begin_worker, (threads,)) as pool:
            yield from _spread(trials, lambda trial: pool.submit(run_trial, plan, trial), _first_done)
    return run


def _begin_worker(threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        # Or it would train on for hours after the command itself was killed.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    except (OSError, AttributeError):
        return  # not Linux


def _first_done(running: Sequence[Any]) -> tuple[Any, Row]:
    first = next(iter(wait(running, return_when=FIRST_COMPLETED).done))
    return first, first.result()


def on_cluster(address: str) -> Runner:
    """A runner on the Ray cluster at ``address`` ("local": one made here for the run).

    Its machines must see the plan's folder under one path, since pretrained checkpoints pass through it.
    Raises InputError where no cluster answers, MissingExtraError without Ray.
    """
    def run(plan: Plan, trials: Sequence[Trial]) -> Iterator[Row]:
        ray = _connected(address)
        remote = ray.remote(num_cpus=1, num_gpus=0.25 if torch.cuda.is_available() else 0)(run_trial)

        def first_done(running: Sequence[Any]) -> tuple[Any, Row]:
            first = ray.wait(list(running))[0][0]
            return first, ray.get(first)

        try:
            yield from _spread(trials, lambda trial: remote.remote(plan, trial), first_done)
        finally:
            ray.shutdown()
    return run


def _connected(address: str) -> Any:
    try:
        import ray
    except ImportError:
        raise MissingExtraError("ray", "cluster") from None
    try:
        ray.init(address=None if address == "local" else address, logging_level=logging.ERROR,
                 log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"no Ray cluster answers at {address!r} ({error}).",
                         "Start one: ray start --head; or give --cluster local.") from None
    return ray


def _spread(trials: Sequence[Trial], submit: Callable[[Trial], Any],
            first_done: Callable[[Sequence[Any]], tuple[Any, Row]]) -> Iterator[Row]:
    """Rows as they come; of trials that share a pretraining, one goes first and makes it."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.pretraining_key() if trial.pretrained else trial.key(), []).append(trial)
    running = {submit(first): rest for first, *rest in groups.values()}
    while running:
        done, row = first_done(list(running))
        for trial in running.pop(done):
            running[submit(trial)] = []
        yield row


def run_trial(plan: Plan, trial: Trial) -> Row:
    """Pretrain (or find that done), learn downstream, and score: the trial's row."""
    recipe = trial.recipe(plan.recipe, plan.budget)
    row: Row = {"key": trial.key(), **asdict(trial), "budget": plan.budget, "usedge": __version__,
                "torch": torch.__version__, "host": f"{platform.machine()} {os.cpu_count()} cores"}
    start, began = None, time.monotonic()
    if trial.method in CLASSICAL:
        scores = classical_scores(trial.method, trial.preset, plan.test_ascans, TEST_SEED + trial.seed,
                                  recipe.spec())
        return row | {"test_ascans": plan.test_ascans, "pretrain_s": 0.0, "finetune_s": 0.0} | scores
    if trial.pretrained:
        start = plan.folder / f"pretrain-{trial.pretraining_key()}" / f"budget-{plan.budget:g}"
        # Without the trial's head, or trials of several heads could not share their pretraining.
        headless = replace(recipe.config(), head=MAEConfig().head)
        checkpoint = pretrain(recipe.settings("pretrain"), headless, start, recipe.spec())
        row |= {"pretrain_ascans": checkpoint.record["ascans"]}
        row |= _reconstruction(start / "last", recipe, trial)
    middle = time.monotonic()
    row |= _downstream(plan, trial, recipe, start / "last" if start else None)
    return row | {"pretrain_s": middle - began, "finetune_s": time.monotonic() - middle}


def _reconstruction(folder: Path, recipe: Recipe, trial: Trial) -> Row:
    model = load_checkpoint(folder, "mae").model()
    if not isinstance(model, MaskedAutoencoder) or not model.config.rf_weight:
        return {}
    pool = synthetic_pool(trial.pretrain_preset, RECONSTRUCTED, TEST_SEED, recipe.spec())
    return reconstruction_scores(model, pool, TEST_SEED)


def _downstream(plan: Plan, trial: Trial, recipe: Recipe, start: Path | None) -> Row:
    test = synthetic_pool(trial.preset, plan.test_ascans, TEST_SEED, recipe.spec())
    about = {"test_ascans": plan.test_ascans}
    if trial.labels == 0:
        torch.manual_seed(trial.seed)
        untrained = build(trial.task, recipe.spec(), recipe.config())
        return about | {"finetune_ascans": 0} | _scores(untrained.eval(), trial, test, recipe)
    folder = plan.folder / f"finetune-{trial.key()}-{plan.budget:g}"
    what = Downstream(trial.task, start, recipe.config(), recipe.spec(), validate=False)
    checkpoint = finetune(recipe.settings("finetune"), what, folder)
    scores = _scores(checkpoint.model(), trial, test, recipe)
    shutil.rmtree(folder)
    return about | {"finetune_ascans": checkpoint.record["ascans"]} | scores


def _scores(net: torch.nn.Module, trial: Trial, test: Batch, recipe: Recipe) -> Row:
    row: Row = {"parameters": sum(p.numel() for p in net.parameters())}
    if trial.task == "presence":
        return row | presence_scores(net, test)
    return row | tof_scores(net, test, recipe.spec().patch)
