"""The ablation: which trials, what a row says, resuming, shared pretraining, Ray, and the command."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

from usedge import cli  # noqa: E402
from usedge.errors import InputError  # noqa: E402
from usedge.files import alone  # noqa: E402
from usedge.training import ablate  # noqa: E402
from usedge.training.ablate import (  # noqa: E402
    COLUMNS,
    Plan,
    Table,
    in_processes,
    on_cluster,
    read_table,
    run_all,
    run_trial,
)
from usedge.training.grid import STUDIES, Trial, trials  # noqa: E402
from usedge.training.recipe import Recipe, read_recipes  # noqa: E402
from usedge.training.stream import Prepare, SynthStream, Truth  # noqa: E402
from usedge.training.tasks import TEST_SEED  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

BUDGET = 1e-5
"""96 A-scans for pretraining, one batch for fine-tuning."""
SMALL = Trial(d_model=16, labels=0.005, seed=3)


@pytest.fixture
def recipe() -> Recipe:
    return (read_recipes(["ablation"]).changed("model", encoder_layers=1, decoder_layers=1)
            .changed("pretrain", pool=64, batch=32).changed("finetune", batch=32))


@pytest.fixture
def plan(tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(ablate, "RECONSTRUCTED", 32)
    return Plan(recipe, BUDGET, tmp_path / "runs", test_ascans=64)


def test_every_study_has_trials_of_its_own_seed_and_none_twice() -> None:
    for name in STUDIES:
        found = trials([name], 3)
        assert len(found) == len(set(found)) >= 3
        assert {trial.seed for trial in found} == ({1000} if name == "rates" else {0, 1, 2})
    everything = trials([], 2)
    assert len({trial.key() for trial in everything}) == len(everything)
    assert len(everything) < sum(len(trials([name], 2)) for name in STUDIES)


def test_the_grid_is_that_of_the_papers() -> None:
    assert {trial.patch for trial in trials(["patch"], 1)} == {8, 16, 32, 64}
    assert {trial.mask_ratio for trial in trials(["mask"], 1)} == {0.5, 0.625, 0.75, 0.875}
    assert {trial.d_model for trial in trials(["size"], 1)} == {64, 128, 256}
    shares = {(trial.method, trial.labels) for trial in trials(["labels"], 1)}
    assert shares == {(m, s) for m in ("mae", "scratch", "cnn") for s in (0.0, 0.1, 0.25, 0.5, 1.0)}


@pytest.mark.parametrize(("trial", "parameters"), [
    (Trial("scratch", d_model=64), 0.3e6), (Trial("scratch"), 1.2e6), (Trial("scratch", d_model=256), 4.8e6),
    (Trial("cnn"), 1.2e6)])
def test_sizes_are_the_stated_ones(trial: Trial, parameters: float) -> None:
    from usedge.models.nets import build

    built = trial.recipe(read_recipes(["ablation"]), 1.0)
    net = build("tof", built.spec(), built.config())
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(parameters, rel=0.15)


def test_the_budget_scales_ascans_and_nothing_else() -> None:
    base = read_recipes(["ablation"])
    whole, small = (Trial().recipe(base, budget) for budget in (1.0, 0.01))
    assert whole.settings("pretrain").ascans == 9_600_000
    assert small.settings("pretrain").ascans == 96_000
    assert whole.settings("finetune").ascans == 100 * small.settings("finetune").ascans
    scaled = {"ascans", "warmup_ascans"}
    for section in ("pretrain", "finetune"):
        mine, theirs = whole.sections[section], small.sections[section]
        assert {key for key in mine if mine[key] != theirs[key]} <= scaled
    assert small.config() == whole.config()


def test_a_row_says_what_was_run_and_how_well(plan: Plan) -> None:
    row = run_trial(plan, SMALL)
    assert set(row) <= set(COLUMNS) | {"no_echo_threshold", "missed", "false_alarms"}
    assert (row["method"], row["seed"], row["budget"], row["test_ascans"]) == ("mae", 3, BUDGET, 64)
    assert (row["pretrain_ascans"], row["finetune_ascans"]) == (96, 32)
    assert 0 <= row["top1"] <= row["within_patch"] <= 1
    assert row["mean_abs"] > 0
    assert row["parameters"] > 1000


def test_equal_trials_give_equal_rows_and_another_seed_another(plan: Plan, tmp_path: Path) -> None:
    def scores(trial: Trial, folder: str) -> list[Any]:
        row = run_trial(replace(plan, folder=tmp_path / folder), trial)
        return [row[name] for name in ("top1", "within_patch", "median_error_samples", "mean_abs")]

    assert scores(SMALL, "a") == scores(SMALL, "b") != scores(replace(SMALL, seed=4), "c")


def test_trials_of_several_heads_share_their_pretraining(plan: Plan) -> None:
    rows = [run_trial(plan, replace(SMALL, head=head)) for head in ("pooled", "pointer")]
    assert rows[0]["mean_abs"] == rows[1]["mean_abs"]
    assert len(list(plan.folder.glob("pretrain-*"))) == 1


def test_without_labels_nothing_is_learnt(plan: Plan) -> None:
    row = run_trial(plan, replace(SMALL, method="scratch", labels=0.0))
    assert row["finetune_ascans"] == 0
    assert row["within_patch"] < 0.3


@pytest.mark.parametrize("trial", [
    Trial("aic", labels=0.0), Trial("xcorr", preset="field", labels=0.0), replace(SMALL, method="cnn"),
    replace(SMALL, method="deblur", blur="gaussian:2"),
    replace(SMALL, method="denoise"), replace(SMALL, target="envelope"), replace(SMALL, probe=True),
    replace(SMALL, head="pooled"), replace(SMALL, patch=64), replace(SMALL, preset="field"),
    replace(SMALL, task="presence", preset="plate")])
def test_every_kind_of_trial_runs_and_scores(plan: Plan, trial: Trial) -> None:
    row = run_trial(plan, trial)
    assert 0 <= row["accuracy" if trial.task == "presence" else "top1"] <= 1
    assert ("mean_abs" in row) == (trial.pretrained and trial.target != "envelope")


@pytest.mark.parametrize("preset", ["paper", "field"])
def test_classical_pickers_are_scored_on_the_ascans_of_the_networks(preset: str) -> None:
    """An oracle's places would be the truth: the picks are of the same A-scans, and near it at high SNR."""
    from usedge.training.classical import classical_scores
    from usedge.training.stream import synthetic_pool

    spec = read_recipes(["ablation"]).spec()
    pool = synthetic_pool(preset, 64, TEST_SEED, spec)
    stream = SynthStream(preset, TEST_SEED, 256, spec)
    native = stream.native(0, 0, 64)
    np.testing.assert_array_equal(Prepare(spec).counts(native.x, Truth.of(native)).onset, pool.onset)
    found = classical_scores("aic", preset, 64, TEST_SEED, spec)
    assert found["within_patch"] > (0.8 if preset == "paper" else 0.1)
    assert 0 <= found["missed"] < 0.5


def test_a_table_goes_on_where_it_was_and_shares_pretraining(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [SMALL, replace(SMALL, probe=True), replace(SMALL, method="scratch")]
    table = Table(tmp_path / "trials.csv")
    run_all(plan, wanted[:1], table)
    ran: list[Trial] = []
    real = ablate.run_trial
    monkeypatch.setattr(ablate, "run_trial", lambda p, trial: ran.append(trial) or real(p, trial))
    said: list[str] = []
    again = Table(tmp_path / "trials.csv")
    run_all(plan, wanted, again, say=said.append)
    assert ran == wanted[1:]
    assert len(said) == 2
    assert [row["key"] for row in read_table(tmp_path / "trials.csv")] == [trial.key() for trial in wanted]
    assert len(list(plan.folder.glob("pretrain-*"))) == 1
    assert not list(plan.folder.glob("finetune-*"))
    ran.clear()
    run_all(replace(plan, budget=2 * BUDGET), wanted[2:], again)
    assert ran == wanted[2:]


def test_several_processes_give_the_rows_of_one(plan: Plan, tmp_path: Path) -> None:
    wanted = [SMALL, replace(SMALL, probe=True), replace(SMALL, method="scratch")]
    tables = [Table(tmp_path / f"{name}.csv") for name in ("one", "two")]
    for table, run in zip(tables, (None, in_processes(2)), strict=True):
        # Two threads for two processes: one each, as the fixture has it here.
        run_all(replace(plan, folder=tmp_path / table.path.stem), wanted, table, run)
    one, two = ({row["key"]: row["top1"] for row in table.rows} for table in tables)
    assert one == two
    assert len(one) == 3


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_killing_the_command_ends_its_processes(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SHELL_RECIPE)
    command = subprocess.Popen(
        [sys.executable, "-m", "usedge", "ablate", "rates", "--jobs", "2", "--seeds", "1", "--recipe",
         str(tmp_path / "small.toml"), "--table", str(tmp_path / "t.csv"), "-o", str(tmp_path / "runs")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("runs/finetune-*")) and time.monotonic() < deadline:
            time.sleep(0.2)
        workers = _children(command.pid)
        assert len(workers) >= 2
    finally:
        command.kill()
        command.wait()
    deadline = time.monotonic() + 60
    while any(map(_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(map(_running, workers))


def test_two_at_one_table_are_one_too_many(plan: Plan, tmp_path: Path) -> None:
    table = Table(tmp_path / "trials.csv")
    with alone(table.path), pytest.raises(InputError, match=r"trials\.csv is being written by another"):
        run_all(plan, [SMALL], table)
    assert not table.path.exists()
    run_all(plan, [SMALL], table)
    assert len(read_table(table.path)) == 1


def test_a_foreign_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"no table of trials.*lacks"):
        Table(tmp_path / "other.csv")


@pytest.mark.parametrize("budget", [0.0, -1.0, 1.5, float("nan")])
def test_a_budget_outside_0_to_1_is_refused(recipe: Recipe, tmp_path: Path, budget: float) -> None:
    with pytest.raises(InputError, match="budget"):
        Plan(recipe, budget, tmp_path)


SHELL_RECIPE = """
[model]
encoder_layers = 1
decoder_layers = 1
[pretrain]
pool = 64
batch = 32
[finetune]
batch = 32
"""


def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    (tmp_path / "small.toml").write_text(SHELL_RECIPE)
    monkeypatch.setattr(sys, "argv", ["usedge", "ablate", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_command_runs_a_study_and_names_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ablate, "RECONSTRUCTED", 32)
    monkeypatch.setitem(STUDIES, "labels", ("", lambda: [Trial("scratch", d_model=16, labels=0.005)]))
    table = tmp_path / "t.csv"
    words = ("labels", "--recipe", str(tmp_path / "small.toml"), "--budget", str(BUDGET), "--seeds", "2",
             "--table", str(table), "-o", str(tmp_path / "runs"))
    assert command(tmp_path, monkeypatch, *words) == 0
    said = capsys.readouterr()
    assert json.loads(said.out.splitlines()[-1]) == {"table": str(table), "trials": 2, "rows": 2}
    assert "2/2" in said.err
    with table.open() as file:
        assert [row["seed"] for row in csv.DictReader(file)] == ["0", "1"]


@pytest.mark.parametrize(("words", "named"), [
    (["colour"], "study 'colour' is unknown. Known: labels, variants"), (["--budget", "2"], "budget 2.0"),
    (["--recipe", "no.toml"], "no.toml")])
def test_the_command_refuses_what_it_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str],
    named: str
) -> None:
    assert command(tmp_path, monkeypatch, *words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert named in said


def test_without_ray_a_cluster_is_refused_by_its_extra(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"usedge\[cluster\]"):
        run_all(plan, [SMALL], Table(tmp_path / "t.csv"), on_cluster("local"))


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray (usedge[cluster]) is not installed")
def test_a_ray_cluster_gives_the_rows_of_this_process(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SHELL_RECIPE)
    code = f"""
from pathlib import Path
import torch
from usedge.training.ablate import Plan, Table, on_cluster, one_by_one, run_all
from usedge.training.grid import Trial
from usedge.training.recipe import read_recipes
torch.set_num_threads(1)
wanted = [Trial("scratch", d_model=16, labels=0.005, seed=s) for s in (0, 1)]
for name, run in (("ray", on_cluster("local")), ("here", one_by_one)):
    plan = Plan(read_recipes(["ablation", r"{tmp_path}/small.toml"]), {BUDGET}, Path(r"{tmp_path}/runs"), 64)
    run_all(plan, wanted, Table(Path(r"{tmp_path}") / f"{{name}}.csv"), run)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, capture_output=True)
    there, here = (read_table(tmp_path / f"{name}.csv") for name in ("ray", "here"))
    by_seed = {row["seed"]: row["top1"] for row in there}
    assert by_seed == {row["seed"]: row["top1"] for row in here}
