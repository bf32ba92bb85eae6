"""The report on a table of trials; every number in the tables here is made up."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("matplotlib")

from typer.testing import CliRunner  # noqa: E402

from usedge.cli import app  # noqa: E402
from usedge.errors import InputError, MissingExtraError  # noqa: E402
from usedge.models.checkpoint import Checkpoint, save_checkpoint  # noqa: E402
from usedge.models.config import MAEConfig  # noqa: E402
from usedge.models.nets import build  # noqa: E402
from usedge.spec import SignalSpec  # noqa: E402
from usedge.synth import FS_HZ, generate  # noqa: E402
from usedge.training.ablate import Table  # noqa: E402
from usedge.training.grid import STUDIES, Trial, trials  # noqa: E402
from usedge.training.report import attention, pictures, plots, rule, select, words, write_report  # noqa: E402
from usedge.training.report.claims import claims, judge  # noqa: E402
from usedge.training.stream import synthetic_pool  # noqa: E402

TINY = MAEConfig(d_model=16, heads=2, d_head=8, mlp_hidden=16, encoder_layers=2, decoder_layers=1,
                 norm_patches=False, envelope_weight=1.0)
Level = Callable[[Trial], float]
MERIT = {"mae": 0.08, "deblur": 0.1, "denoise": -0.02, "scratch": 0.0, "cnn": 0.04}
BLUR_MERIT = {"gaussian": 0.05, "srad": 0.02, "mean:5": 0.0, "median:5": -0.03, "motion:5": -0.12,
              "defocus:3": -0.07}


def plausible(trial: Trial) -> float:
    """A made-up level of accuracy that agrees with every claim of the papers."""
    level = 0.25 + 0.45 * trial.labels**0.4
    gain = MERIT.get(trial.method, 0.3)
    gain += BLUR_MERIT.get(trial.blur, 0.04) if trial.method == "deblur" else 0.0
    level += gain * (1.5 - trial.labels) - 0.1 * trial.probe * (1 if trial.pretrained else 2)
    level -= 0.04 * abs(np.log2(trial.patch / 32)) + 0.5 * abs(trial.mask_ratio - 0.75)
    level -= 0.05 * abs(np.log2(trial.d_model / 128)) + 0.08 * (trial.head == "pooled")
    level += 0.07 * (trial.pretrain_preset == "field")
    if ":" in trial.blur and trial.blur.startswith("gaussian"):
        level -= 0.06 * abs(np.log2(float(trial.blur.partition(":")[2]) / 2))
    return float(np.clip(level, 0.02, 0.98))


def row(trial: Trial, level: Level, jitter: float, budget: float) -> dict[str, Any]:
    rng = random.Random(f"{trial.key()}{budget}")
    score = level(trial) + rng.gauss(0, jitter)
    found = {"key": trial.key(), **asdict(trial), "budget": budget, "usedge": "0.0", "torch": "2.9",
             "host": "test 2 cores", "test_ascans": 20_000, "pretrain_s": 60.0, "finetune_s": 30.0,
             "parameters": int(1.2e6 * (trial.d_model / 128) ** 2),
             "finetune_ascans": int(1_920_000 * budget)}
    if trial.task == "presence":
        return found | {"accuracy": score, "f1_mean": score - 0.02}
    found |= {"top1": score, "within_patch": score + 0.12, "hit_half_period": score - 0.05,
              "hit_one_period": score + 0.05, "median_error_samples": 20 * (1 - score)}
    if trial.pretrained:
        found["pretrain_ascans"] = int(9_600_000 * budget * trial.length)
        if trial.target != "envelope":
            error = 0.01 + 0.008 * float(np.log2(trial.patch / 4)) + rng.gauss(0, jitter / 20)
            found |= {"mean_abs": error, "mean_abs_nothing": 0.09, "explained": 0.9 - 6 * error,
                      "echo_explained": 0.95 - 5 * error}
    return found


def made_up(path: Path, level: Level = plausible, seeds: int = 3, studies: Sequence[str] = (),
            jitter: float = 0.004, budget: float = 0.01) -> Path:
    """A table as `usedge ablate` writes it, with numbers from ``level``."""
    table = Table(path)
    rows = [row(trial, level, jitter, budget) for trial in trials(list(studies), seeds)]
    for each in rows[:-1]:
        table.rows.append({name: words_of(value) for name, value in each.items()})
    table.add(rows[-1])
    return path


def words_of(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def checkpoint(folder: Path, kind: str = "mae", config: MAEConfig = TINY) -> Path:
    torch.manual_seed(0)
    spec = SignalSpec(blur="gaussian:2" if config.recipe == "deblur" else "none")
    record = {"ascans": 64, "settings": {"preset": "paper"}}
    save_checkpoint(folder, Checkpoint(kind, spec, config, record, build(kind, spec, config).state_dict()))
    return folder


def verdicts(path: Path) -> dict[str, str]:
    runs = select.read_runs(path)
    return {each.claim.name: each.verdict for each in judge(runs, select.studies_of(runs))}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return made_up(tmp_path / "trials.csv")


def run_command(*arguments: str | Path) -> Any:
    result = CliRunner().invoke(app, ["report", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return json.loads(result.output)


def test_every_study_appears_with_its_spread(table: Path, tmp_path: Path) -> None:
    said = run_command(table, "--out", tmp_path / "out")
    page = Path(said["report"]).read_text()
    for name, (about, _) in STUDIES.items():
        assert f"## {name}: {about}" in page
    assert "not run |" not in page.partition("## What the papers")[2]
    for name in ("labels-paper", "patch", "mask", "variants", "blur", "sigma", "length"):
        assert f"({name}.png)" in page
    assert {Path(path).name for path in said["figures"]} == {path.name for path in tmp_path.glob("out/*.png")}
    assert "reconstruction.png" not in page
    assert "--pretrained FOLDER" in page


def test_no_number_stands_without_its_spread(table: Path, tmp_path: Path) -> None:
    page = write_report(table, tmp_path / "out").path.read_text()
    section = page.partition("## mask:")[2].partition("## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ") and "n =" in line]
    assert len(rows) == 4
    for line in rows:
        numbers = line.split(" | ")[2:]
        assert all("±" in cell for cell in numbers), line


def test_a_mean_and_its_deviation_are_those_of_the_seeds() -> None:
    spread = select.Spread.of([0.5, 0.6, 0.7])
    assert spread is not None
    assert (spread.mean, spread.deviation, spread.n) == pytest.approx((0.6, 0.1, 3))
    assert words.spread_text(spread, 3) == "0.600 ± 0.100"
    assert select.Spread.of([]) is None


def test_one_seed_is_flagged_and_decides_nothing(tmp_path: Path) -> None:
    path = made_up(tmp_path / "one.csv", seeds=1)
    page = write_report(path, tmp_path / "out").path.read_text()
    assert "n = 1, no spread" in page
    assert "not decided: one seed has no spread" in page
    assert set(verdicts(path).values()) == {rule.UNDECIDED}


def test_what_was_not_run_is_listed(tmp_path: Path) -> None:
    path = made_up(tmp_path / "part.csv", studies=["mask", "heads"])
    table = Table(path)
    gone = replace(Trial(mask_ratio=0.5, labels=0.1)).key(), Trial("scratch", head="pooled", seed=2).key()
    table.rows = [each for each in table.rows
                  if each["key"] not in gone and each["mask_ratio"] != "0.5"]
    table.add(table.rows.pop())
    page = write_report(path, tmp_path / "out").path.read_text()
    assert "| mask | 3 of 4 | 0.01 | 9 | 0, 1, 2 | mask ratio 50 % |" in page
    assert "| patch | 1 of 4 |" in page  # patch 32 at ratio 75 % is the mask study's as well
    assert "| transfer | 0 of 6 | – | 0 | – | all of it |" in page
    assert "from scratch, head pooled: seed 2" in page
    assert "| 50 % | not run |" in page
    assert "usedge ablate transfer --budget 0.01 --seeds 3" in page
    assert verdicts(path)["second_task_frozen"] == rule.NOT_RUN
    assert verdicts(path)["mask_75_best"] == rule.NOT_RUN
    assert "not run: 1 of 3 comparisons" in page


def test_claims_hold_where_the_numbers_agree_with_them(table: Path) -> None:
    found = verdicts(table)
    for name in ("pretraining_over_scratch_10_paper", "pretraining_over_cnn_100_paper", "mask_75_best",
                 "gain_shrinks_with_labels_paper", "patch_32_hit", "small_patches_reconstruct_better",
                 "size_best", "second_task_fine_tuned", "deblur_over_mae_frozen", "gaussian_best",
                 "sigma_inner_optimum", "diverse_pretraining_transfers_better"):
        assert found[name] == rule.HOLDS, name
    assert found["pooled_head_best"] == rule.FAILS
    assert set(found) == {claim.name for claim in claims()}


def test_claims_fail_where_the_numbers_contradict_them(tmp_path: Path) -> None:
    found = verdicts(made_up(tmp_path / "t.csv", lambda trial: 0.9 - plausible(trial)))
    assert found["pretraining_over_scratch_10_paper"] == rule.FAILS
    assert found["sigma_inner_optimum"] == rule.FAILS
    assert found["pooled_head_best"] == rule.HOLDS


def test_nothing_is_decided_within_the_spread(tmp_path: Path) -> None:
    """Over many equal trials, few contrasts may be taken for differences."""
    found = verdicts(made_up(tmp_path / "t.csv", lambda _trial: 0.5, jitter=0.05))
    assert sum(verdict == rule.UNDECIDED for verdict in found.values()) > len(found) / 2


def test_a_difference_within_the_sampling_error_of_the_test_is_not_decided(tmp_path: Path) -> None:
    """Seeds that agree to the last digit say nothing of other test A-scans."""
    def level(trial: Trial) -> float:
        return 0.5 + (0.003 if trial.method == "mae" else 0.0)

    found = verdicts(made_up(tmp_path / "t.csv", level, jitter=0.0))
    assert found["pretraining_over_scratch_10_paper"] == rule.UNDECIDED


def test_every_comparison_is_of_trials_that_the_studies_have(table: Path) -> None:
    """A study that is changed must not turn its claims into "not run" without a word."""
    runs = select.read_runs(table)
    for claim in claims():
        contrasts = claim.contrasts(runs, 0.01)
        assert contrasts, claim.name
        assert all(trial is not None for each in contrasts for _, trial in each.terms), claim.name


def test_a_failed_comparison_decides_a_claim_before_a_missing_one() -> None:
    contrast = rule.Contrast("a over b", "top1", ())
    outcomes = {verdict: rule.Outcome(contrast, verdict)
                for verdict in (rule.HOLDS, rule.FAILS, rule.UNDECIDED, rule.NOT_RUN)}
    assert rule.together(list(outcomes.values())) == rule.FAILS
    assert rule.together([outcomes[rule.HOLDS], outcomes[rule.UNDECIDED], outcomes[rule.NOT_RUN]]) \
        == rule.NOT_RUN
    assert rule.together([outcomes[rule.HOLDS], outcomes[rule.UNDECIDED]]) == rule.UNDECIDED


def test_the_budget_with_the_most_rows_is_shown_and_another_on_request(tmp_path: Path) -> None:
    path = made_up(tmp_path / "t.csv", studies=["mask"], seeds=3)
    made_up(path, studies=["mask"], seeds=1, budget=0.1)
    assert select.studies_of(select.read_runs(path))["mask"].budget == 0.01
    page = write_report(path, tmp_path / "out").path.read_text()
    assert "4 rows of a study at another budget" in page
    assert select.studies_of(select.read_runs(path), 0.1)["mask"].seeds == [0]
    with pytest.raises(InputError, match=r"no row of budget 1\. It has: 0\.01, 0\.1"):
        write_report(path, tmp_path / "out", budget=1)


def test_rows_of_no_study_and_repeated_ones_are_counted(tmp_path: Path) -> None:
    path = made_up(tmp_path / "t.csv", studies=["mask"])
    made_up(path, studies=["mask"])
    table = Table(path)
    table.add(row(Trial(d_model=32), plausible, 0.0, 0.01))
    page = write_report(path, tmp_path / "out").path.read_text()
    assert "12 more are repetitions" in page
    assert "| of no study | 1 rows" in page


def test_the_same_table_gives_the_same_bytes(table: Path, tmp_path: Path) -> None:
    model, recorded = checkpoint(tmp_path / "mae"), labelled(tmp_path / "gauge.npz")
    first = write_report(table, tmp_path / "a", pretrained=model, recorded=[recorded])
    again = write_report(table, tmp_path / "b", pretrained=model, recorded=[recorded])
    assert [path.name for path in first.figures] == [path.name for path in again.figures]
    for mine, theirs in zip([first.path, *first.figures], [again.path, *again.figures], strict=True):
        assert mine.read_bytes() == theirs.read_bytes(), mine.name
        assert mine.stat().st_size < 80_000


def labelled(path: Path) -> Path:
    synth = generate("paper", 6, 1)
    np.savez(path, x=synth.x, fs_hz=FS_HZ, t0_s=2e-6, tof_s=2e-6 + synth.onset / FS_HZ)
    return path


@pytest.mark.parametrize("changes", [
    {}, {"envelope_weight": 0.0}, {"recipe": "deblur"}, {"norm_patches": True, "encoder_layers": 4}])
def test_pictures_of_a_checkpoint(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = checkpoint(tmp_path / "mae", config=replace(TINY, **changes))
    drawn = pictures.draw(folder, [labelled(tmp_path / "gauge.npz")])
    assert list(drawn.files) == ["reconstruction.png", "reconstruction-gauge.png", "attention-distance.png",
                                 "attention-maps.png"]
    assert all(content.startswith(b"\x89PNG") for content in drawn.files.values())
    assert "uniform attention" in drawn.attention


def test_attention_by_distance_adds_up_and_uniform_is_known() -> None:
    maps = np.random.default_rng(0).dirichlet(np.ones(16), (3, 16)).astype(np.float32)
    assert attention.by_distance(maps).sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    near, mean = attention.near_and_mean(attention.uniform(16))
    assert near[0] == pytest.approx((3 * 16 - 2) / 16**2)
    assert mean[0] == pytest.approx((16**2 - 1) / (3 * 16))
    near, mean = attention.near_and_mean(attention.by_distance(np.eye(16, dtype=np.float32)[None]))
    assert (near[0], mean[0]) == pytest.approx((1.0, 0.0))


def test_attention_is_averaged_over_all_ascans() -> None:
    torch.manual_seed(0)
    model = build("mae", SignalSpec(), TINY)
    pool = synthetic_pool("paper", 12, 3, SignalSpec())
    looks = attention.attention(model, pool, 9)
    whole = model.encoder.attention(pool.x).mean(dim=2).detach()
    assert looks.maps == pytest.approx(whole.mean(dim=1).numpy(), abs=1e-6)
    assert looks.example == pytest.approx(whole[:, 9].numpy(), abs=1e-6)
    assert looks.echo[-1][1] > 0
    assert looks.echo.shape == (TINY.encoder_layers + 1, 3)


def test_tables_of_no_use_are_one_line(tmp_path: Path) -> None:
    foreign, empty, odd = tmp_path / "foreign.csv", tmp_path / "empty.csv", tmp_path / "odd.csv"
    foreign.write_text("a,b\n1,2\n")
    made_up(empty, studies=["size"])
    empty.write_text(empty.read_text().splitlines()[0] + "\n")
    made_up(odd, studies=["size"])
    odd.write_text(odd.read_text().replace(",0.01,", ",soon,", 1))
    for path, said in ((tmp_path / "none.csv", "cannot be read"), (tmp_path, "cannot be read"),
                       (foreign, "is no table of trials"), (empty, "holds no trials yet"),
                       (odd, "line 2: budget is 'soon'")):
        with pytest.raises(InputError, match=said) as caught:
            write_report(path, tmp_path / "out")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_row_that_was_cut_short_is_one_line(tmp_path: Path) -> None:
    path = made_up(tmp_path / "t.csv", studies=["size"])
    text = path.read_text()
    path.write_text(text[: text.rindex(",") - 40])
    with pytest.raises(InputError, match="line 10: "):
        write_report(path, tmp_path / "out")


def test_checkpoints_of_no_use_are_refused_before_anything_is_written(table: Path, tmp_path: Path) -> None:
    tof = checkpoint(tmp_path / "tof", "tof")
    envelope = checkpoint(tmp_path / "envelope", config=replace(TINY, rf_weight=0.0))
    for folder, said in ((tof, "holds a 'tof' model, not 'mae'"), (envelope, "predicts no RF"),
                         (tmp_path / "none", "is no usedge checkpoint")):
        with pytest.raises(InputError, match=said):
            write_report(table, tmp_path / "out", pretrained=folder)
    twice = [labelled(tmp_path / "a.npz"), tmp_path / "b" / "a.npz"]
    with pytest.raises(InputError, match="two files of A-scans are named a"):
        write_report(table, tmp_path / "out", pretrained=tof, recorded=twice)
    with pytest.raises(InputError, match="Give --pretrained FOLDER too"):
        run_command(table, "--ascans", twice[0], "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="no folder that can be written"):
        write_report(table, table)


def test_a_missing_matplotlib_is_named(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"'matplotlib'.*usedge\[train\]"):
        write_report(table, tmp_path / "out")


def test_plots_are_small_files(table: Path) -> None:
    figures = plots.figures(select.studies_of(select.read_runs(table)))
    assert all(len(content) < 40_000 for content in figures.values())
