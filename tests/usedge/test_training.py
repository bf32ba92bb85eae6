"""Training: exact resume, the schedule, refusals, streams, and both commands from the shell's side."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

from torch import Tensor, nn  # noqa: E402

from usedge import cli  # noqa: E402
from usedge.errors import InputError  # noqa: E402
from usedge.labelled import LabelledSet, load_labelled  # noqa: E402
from usedge.models.checkpoint import Checkpoint, load_checkpoint  # noqa: E402
from usedge.models.mae import MAEConfig, MaskedAutoencoder, ToFNet  # noqa: E402
from usedge.preprocess import Preprocessor  # noqa: E402
from usedge.spec import SignalSpec  # noqa: E402
from usedge.synth import FS_HZ, generate  # noqa: E402
from usedge.synth.files import write_synth  # noqa: E402
from usedge.training import tasks  # noqa: E402
from usedge.training.loop import Run, TrainSettings, adamw, resolve_precision  # noqa: E402
from usedge.training.stream import Batch, LabelledStream, SynthStream, batches  # noqa: E402
from usedge.training.tasks import finetune, predict, pretrain, validate  # noqa: E402

SPEC = SignalSpec()
TINY = MAEConfig(d_model=16, heads=2, d_head=8, mlp_hidden=16, encoder_layers=1, decoder_layers=1)
SETTINGS = TrainSettings(ascans=48, batch=4, base_rate=0.1, warmup_ascans=16, workers=0, precision="32-true")
"""Twelve steps."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower on two threads than on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def ctrl_c_interrupts() -> Iterator[None]:
    """Also where the tests were started with SIGINT ignored, as shells start background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def few_validation_ascans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "VALIDATION_ASCANS", 256)


def at_step(run: Run, step: int, act: Any) -> Run:
    """``run``, but its loss does ``act`` first, every time that ``step`` is taken."""
    loss = run.loss

    def wrapped(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        return act(loss(model, batch, generator)) if run._done == step else loss(model, batch, generator)

    run.loss = wrapped
    return run


def mae_run(folder: Path, settings: TrainSettings = SETTINGS, config: MAEConfig = TINY) -> Run:
    torch.manual_seed(settings.seed)
    stream = SynthStream(settings.preset, settings.seed, settings.batch, SPEC)

    def loss(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        value: Tensor = model(batch[0], generator)
        return value

    return Run("mae", MaskedAutoencoder(SPEC, config), loss, stream, settings, SPEC, config, folder, {})


def assert_same(a: Checkpoint, b: Checkpoint) -> None:
    """Weights, optimizer and progress agree to the bit."""
    assert a.record["step"] == b.record["step"]
    for mine, theirs in ((a.weights, b.weights), (a.optimizer, b.optimizer)):
        assert mine is not None
        assert theirs is not None
        assert mine.keys() == theirs.keys()
        assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []


def interrupt(_loss: Tensor) -> Tensor:
    raise KeyboardInterrupt


def ctrl_c(loss: Tensor) -> Tensor:
    signal.raise_signal(signal.SIGINT)
    return loss


def test_the_same_settings_give_the_same_weights_and_they_move(tmp_path: Path) -> None:
    first, again = mae_run(tmp_path / "a").fit(), mae_run(tmp_path / "b").fit()
    other = mae_run(tmp_path / "c", replace(SETTINGS, seed=1)).fit()
    assert_same(first, again)
    assert not torch.equal(first.weights["encoder.embed.weight"], other.weights["encoder.embed.weight"])
    torch.manual_seed(SETTINGS.seed)
    fresh = MaskedAutoencoder(SPEC, TINY).state_dict()
    assert [name for name in fresh if torch.equal(fresh[name], first.weights[name])] == []


@pytest.mark.parametrize(("step", "act", "stored"), [(5, interrupt, 5), (5, ctrl_c, 6), (11, ctrl_c, 12)])
def test_an_interrupted_run_resumes_to_the_bit(tmp_path: Path, step: int, act: Any, stored: int) -> None:
    """Ctrl-C within a step is held back to its end, so that what is stored is a whole step."""
    whole = mae_run(tmp_path / "whole").fit()
    with pytest.raises(KeyboardInterrupt):
        at_step(mae_run(tmp_path / "cut"), step, act).fit()
    assert load_checkpoint(tmp_path / "cut" / "last").record["step"] == stored
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert_same(mae_run(tmp_path / "cut").fit(), whole)


def test_a_killed_run_resumes_from_its_last_checkpoint(tmp_path: Path) -> None:
    def die(_loss: Tensor) -> Tensor:
        raise MemoryError

    often = replace(SETTINGS, checkpoint_s=0.0)
    with pytest.raises(MemoryError):
        at_step(mae_run(tmp_path / "cut", often), 7, die).fit()
    assert load_checkpoint(tmp_path / "cut" / "last").record["step"] == 7
    assert_same(mae_run(tmp_path / "cut").fit(), mae_run(tmp_path / "whole").fit())


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    done = mae_run(tmp_path / "a").fit()
    assert_same(at_step(mae_run(tmp_path / "a"), 12, interrupt).fit(), done)


@pytest.mark.parametrize(("settings", "config", "named"), [
    (replace(SETTINGS, batch=8), TINY, "batch"), (replace(SETTINGS, base_rate=0.2), TINY, "base_rate"),
    (replace(SETTINGS, ascans=64), TINY, "ascans"), (replace(SETTINGS, seed=5), TINY, "seed"),
    (replace(SETTINGS, preset="paper"), TINY, "preset"),
    (SETTINGS, replace(TINY, mask_ratio=0.5), "mask_ratio"),
    (SETTINGS, replace(TINY, norm_patches=False), "norm_patches"),
    (SETTINGS, replace(TINY, encoder_layers=2), "encoder_layers")])
def test_another_runs_folder_is_refused_by_the_setting_that_differs(
    tmp_path: Path, settings: TrainSettings, config: MAEConfig, named: str
) -> None:
    mae_run(tmp_path).fit()
    with pytest.raises(InputError, match=rf"other settings \({named}\).*--out"):
        mae_run(tmp_path, settings, config).fit()


def test_workers_and_the_time_between_checkpoints_may_change(tmp_path: Path) -> None:
    done = mae_run(tmp_path).fit()
    assert_same(mae_run(tmp_path, replace(SETTINGS, workers=2, checkpoint_s=1.0)).fit(), done)


def test_a_folder_of_the_other_task_is_refused(tmp_path: Path) -> None:
    mae_run(tmp_path).fit()
    with pytest.raises(InputError, match="holds a 'mae' model"):
        finetune(SETTINGS, None, None, tmp_path)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_checkpoint(
    tmp_path: Path, value: float
) -> None:
    often = replace(SETTINGS, checkpoint_s=0.0)
    with pytest.raises(InputError, match=r"not finite at step 5\..*--base-rate"):
        at_step(mae_run(tmp_path, often), 4, lambda loss: loss * value).fit()
    assert load_checkpoint(tmp_path / "last").record["step"] == 4


def test_the_log_tells_progress_loss_and_rate(tmp_path: Path) -> None:
    mae_run(tmp_path, replace(SETTINGS, ascans=4 * 25)).fit()
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(entry["step"], entry["ascans"]) for entry in entries] == [(20, 80), (25, 100)]
    for entry in entries:
        assert 0 < entry["loss"] < 10
        assert entry["ascans_per_s"] > 0
        assert entry["learning_rate"] == pytest.approx(
            replace(SETTINGS, ascans=100).rate(entry["step"] - 1))


def test_the_rate_warms_up_linearly_then_falls_to_nothing() -> None:
    s = TrainSettings(ascans=256_000, batch=256, base_rate=1e-3, warmup_ascans=25_600)
    rates = [s.rate(step) for step in range(s.steps)]
    assert s.steps == 1000
    np.testing.assert_allclose(np.diff(rates[:100]), 1e-5, rtol=1e-6)
    assert max(rates) == rates[99] == pytest.approx(1e-3)
    assert np.all(np.diff(rates[100:]) < 0)
    assert rates[550] == pytest.approx(0.5e-3)
    assert rates[-1] < 1e-8


@pytest.mark.parametrize("changes", [{"batch": 512}, {"devices": 2}, {"nodes": 2}])
def test_the_schedule_follows_ascans_and_scales_with_the_batch(changes: dict[str, int]) -> None:
    plain = TrainSettings(ascans=256_000, batch=256, warmup_ascans=0)
    doubled = replace(plain, **changes)
    assert doubled.steps == plain.steps // 2
    for ascans in (0, 64_000, 200_192):
        assert doubled.rate(ascans // 512) == pytest.approx(2 * plain.rate(ascans // 256), rel=0.02)


@pytest.mark.parametrize(("changes", "named"), [
    ({"ascans": 3}, "3 A-scans do not fill one batch of 4"), ({"devices": 13}, "batch of 52"),
    ({"preset": "sea"}, "'sea'.*field, paper"), ({"precision": "8"}, "'8'.*auto, 32-true, bf16-mixed"),
    ({"seed": -1}, "seed -1"), ({"seed": 2**31}, "seed 2147483648")])
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        replace(SETTINGS, **changes)


def test_a_given_precision_is_taken_and_auto_is_resolved() -> None:
    assert resolve_precision("32-true") == "32-true"
    assert resolve_precision("auto") in {"32-true", "bf16-mixed"}


def test_biases_norms_and_the_mask_token_are_not_decayed() -> None:
    model = MaskedAutoencoder(SPEC, TINY)
    decayed, free = adamw(model, SETTINGS).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))
    assert any(parameter is model.mask_token for parameter in free["params"])
    assert any(parameter is model.encoder.embed.weight for parameter in decayed["params"])


@pytest.mark.parametrize("preset", ["field", "paper"])
def test_a_synthetic_batch_depends_on_its_seed_and_index_alone(preset: str) -> None:
    stream = SynthStream(preset, 3, 70, SPEC)
    x, onset = stream[5]
    assert (x.shape, x.dtype, onset.shape, onset.dtype) == ((70, 2048), torch.float32, (70,), torch.float32)
    again = SynthStream(preset, 3, 70, SPEC)[5]
    assert torch.equal(x, again[0])
    assert torch.equal(onset.nan_to_num(-1), again[1].nan_to_num(-1))
    for other in (stream[6], SynthStream(preset, 4, 70, SPEC)[5]):
        assert not torch.equal(x, other[0])
    echo = onset[~onset.isnan()]
    assert echo.min() >= 0
    assert echo.max() < 64
    assert x.abs().max() <= 1 + 1e-6


def test_a_paper_batch_is_the_prepared_synthetic_ascans() -> None:
    x, onset = SynthStream("paper", 3, 8, SPEC)[2]
    synth = generate("paper", 8, (3, 2, 0), 2048)
    np.testing.assert_array_equal(x.numpy(), Preprocessor(SPEC).batch(synth.x).x)
    np.testing.assert_allclose(onset.numpy(), synth.onset / 32, rtol=1e-6)


def test_onsets_are_counted_on_the_grid_not_in_the_gate() -> None:
    """Batch 8 of seed 1 is drawn at 1064 samples, under a grid that spans 1120 of them."""
    onset = SynthStream("field", 1, 8, SPEC)[8][1]
    expected = [24.496658, 21.381893, 2.070787, 42.195515]
    np.testing.assert_allclose(onset[[0, 1, 4, 6]], expected, rtol=1e-5)
    native = generate("field", 8, (1, 8, 0), 1064).onset
    np.testing.assert_allclose(onset, native * 64 / 1120, rtol=1e-6)


def test_worker_processes_deliver_the_same_batches_in_order() -> None:
    stream, order = SynthStream("field", 1, 4, SPEC), [3, 0, 7]
    for mine, theirs in zip(batches(stream, order, 0), batches(stream, order, 1), strict=True):
        assert torch.equal(mine[0], theirs[0])
        assert torch.equal(mine[1].nan_to_num(-1), theirs[1].nan_to_num(-1))


@pytest.fixture
def labelled(tmp_path: Path) -> LabelledSet:
    pytest.importorskip("h5py")
    write_synth(tmp_path / "set.h5", "field", 40, 500, 2)
    return load_labelled(tmp_path / "set.h5")


def test_a_labelled_file_is_drawn_from_by_seed(labelled: LabelledSet) -> None:
    stream = LabelledStream.of(labelled, SPEC, 7, 200)
    x, onset = stream[0]
    assert x.shape == (200, 2048)
    assert torch.equal(x, stream[0][0])
    assert not torch.equal(x, stream[1][0])
    assert 30 < len({row.numpy().tobytes() for row in x}) <= 40
    step = Preprocessor(SPEC).batch(labelled.x[:1]).step
    expected = labelled.tof_s * FS_HZ / (step * 32)
    np.testing.assert_allclose(stream.onset.numpy(), expected, rtol=1e-5)
    assert 0 < int(onset.isnan().sum()) < 200


def test_a_labelled_gate_is_counted_from_its_own_start(labelled: LabelledSet) -> None:
    echo = np.flatnonzero(labelled.has_echo)[0]
    start = np.floor(labelled.tof_s[echo] * FS_HZ) - 3
    gate_s = labelled.gate_s.copy()
    gate_s[echo] = [start / FS_HZ, min(200.0, 500 - start) / FS_HZ]
    stream = LabelledStream.of(replace(labelled, gate_s=gate_s), SPEC, 0, 1)
    assert 3 / 200 * 64 * 0.9 < stream.onset[echo] < 4 / min(200.0, 500 - start) * 64


def test_finetuning_starts_from_the_pretrained_encoder_and_scores_itself(tmp_path: Path) -> None:
    start = pretrain(SETTINGS, TINY, tmp_path / "mae")
    still = replace(SETTINGS, base_rate=0.0)
    tuned = finetune(still, tmp_path / "mae" / "last", None, tmp_path / "tof")
    for name, value in tuned.weights.items():
        if name.startswith("encoder."):
            assert torch.equal(value, start.weights[name]), name
    assert tuned.config == TINY
    assert tuned.record["origin"]["from"] == "mae"
    assert tuned.record["origin"]["ascans"] == 48
    scores = tuned.record["scores"]
    assert scores["validation"]["ascans"] == 256
    for key in ("top1", "within_patch", "missed", "false_alarms", "no_echo_threshold"):
        assert 0 <= scores[key] <= 1
    assert load_checkpoint(tmp_path / "tof" / "last", "tof").record["scores"] == scores


def test_finetuning_again_starts_from_the_heads_too(tmp_path: Path) -> None:
    pretrain(SETTINGS, TINY, tmp_path / "mae")
    first = finetune(SETTINGS, tmp_path / "mae" / "last", None, tmp_path / "a")
    again = finetune(replace(SETTINGS, base_rate=0.0), tmp_path / "a" / "last", None, tmp_path / "b")
    assert all(torch.equal(again.weights[name], first.weights[name]) for name in first.weights)


def test_a_finetuning_from_another_start_is_another_run(tmp_path: Path) -> None:
    pretrain(SETTINGS, TINY, tmp_path / "mae")
    pretrain(replace(SETTINGS, seed=9), TINY, tmp_path / "other")
    finetune(SETTINGS, tmp_path / "mae" / "last", None, tmp_path / "tof")
    with pytest.raises(InputError, match=r"other settings \(start\)"):
        finetune(SETTINGS, tmp_path / "other" / "last", None, tmp_path / "tof")


def test_finetuning_on_a_labelled_file_records_which(tmp_path: Path, labelled: LabelledSet) -> None:
    pretrain(SETTINGS, TINY, tmp_path / "mae")
    tuned = finetune(SETTINGS, tmp_path / "mae" / "last", labelled, tmp_path / "tof")
    assert tuned.record["origin"]["data"] == {"file": "set.h5", "ascans": 40}
    with pytest.raises(InputError, match=r"other settings \(start\)"):
        finetune(SETTINGS, tmp_path / "mae" / "last", None, tmp_path / "tof")


def test_an_interrupted_pretraining_draws_the_masks_it_would_have_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pretrain(SETTINGS, TINY, tmp_path / "whole")
    draw = SynthStream.__getitem__

    def until_five(stream: SynthStream, index: int) -> Batch:
        if index == 5:
            raise KeyboardInterrupt
        return draw(stream, index)

    monkeypatch.setattr(SynthStream, "__getitem__", until_five)
    with pytest.raises(KeyboardInterrupt):
        pretrain(SETTINGS, TINY, tmp_path / "cut")
    monkeypatch.setattr(SynthStream, "__getitem__", draw)
    assert load_checkpoint(tmp_path / "cut" / "last").record["step"] == 5
    assert_same(pretrain(SETTINGS, TINY, tmp_path / "cut"), whole)


class Told(nn.Module):
    """A network that knows the validation onsets, and gives "no echo" the probabilities it is told to."""

    def __init__(self, onset: Tensor, p_echo_gate: float = 1e-6, p_empty_gate: float = 1 - 1e-6) -> None:
        super().__init__()
        self.place, self.row, self.p = nn.Parameter(onset), 0, (p_echo_gate, p_empty_gate)

    def forward(self, x: Tensor) -> Tensor:
        onset = self.place[self.row : self.row + len(x)]
        self.row += len(x)
        out = torch.full((len(x), 129), -30.0)
        p_no_echo = torch.where(onset.isnan(), self.p[1], self.p[0])
        out[torch.arange(len(x)), onset.nan_to_num(0.0).long()] = torch.log(1 - p_no_echo)
        out[:, 64] = torch.log(p_no_echo)
        out[:, 65:] = onset.nan_to_num(0.0)[:, None] - torch.arange(64)
        return out


@pytest.mark.parametrize("preset", ["field", "paper"])
def test_a_perfect_network_scores_perfectly(preset: str) -> None:
    onset = SynthStream(preset, tasks.VALIDATION_SEED, 256, SPEC)[0][1]
    scores = validate(Told(onset), SPEC, preset)
    assert (scores["top1"], scores["within_patch"], scores["missed"]) == (1.0, 1.0, 0.0)
    assert scores["median_error_samples"] < 0.01
    assert scores["false_alarms"] == (0.0 if preset == "field" else None)


def test_a_network_that_sees_nothing_is_not_called_good() -> None:
    onset = SynthStream("field", tasks.VALIDATION_SEED, 256, SPEC)[0][1]
    scores = validate(Told(onset, p_echo_gate=1 - 1e-6), SPEC, "field")
    assert scores["missed"] + scores["false_alarms"] == pytest.approx(1.0)


def test_the_operating_point_parts_echoes_from_empty_gates() -> None:
    onset = SynthStream("field", tasks.VALIDATION_SEED, 256, SPEC)[0][1]
    scores = validate(Told(onset, p_echo_gate=0.1, p_empty_gate=0.3), SPEC, "field")
    assert 0.1 <= scores["no_echo_threshold"] < 0.3
    assert (scores["missed"], scores["false_alarms"]) == (0.0, 0.0)


def test_predictions_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(3)
    net, x = ToFNet(SPEC, TINY), SynthStream("field", 1, 20, SPEC)[0][0]
    whole, parts = predict(net, x, 20), predict(net, x, 7)
    assert whole.shape == (20, 129)
    np.testing.assert_allclose(whole, parts, atol=1e-5)


def usedge(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run ``usedge`` as from a shell and give its exit status."""
    monkeypatch.setattr(sys, "argv", ["usedge", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


PLAIN = ("--workers", 0, "--precision", "32-true")


def test_both_commands_train_and_say_what_they_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("pretrain", "--ascans", 4, "--batch", 2, "--mask-ratio", 0.5, "--out", tmp_path / "mae", *PLAIN)
    assert usedge(monkeypatch, *words) == 0
    assert json.loads(capsys.readouterr().out) == {"checkpoint": str(tmp_path / "mae" / "last"), "ascans": 4}
    assert load_checkpoint(tmp_path / "mae" / "last", "mae").config == MAEConfig(mask_ratio=0.5)

    status = usedge(monkeypatch, "finetune", tmp_path / "mae" / "last", "--ascans", 2, "--batch", 2,
                    "--out", tmp_path / "tof", *PLAIN)
    assert status == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ascans"] == 2
    assert said["scores"] == load_checkpoint(tmp_path / "tof" / "last", "tof").record["scores"]


@pytest.mark.parametrize(("words", "said"), [
    (("pretrain", "--preset", "sea"), "preset 'sea' is unknown. Known: field, paper, plate."),
    (("pretrain", "--ascans", 3), "3 A-scans do not fill one batch of 256. Raise --ascans."),
    (("finetune", "nowhere"), "nowhere is no usedge checkpoint."),
    (("finetune", "--data", "nowhere.h5"), "there is no file nowhere.h5."),
    (("finetune", "--precision", "half"), "precision 'half' is unknown.")])
def test_bad_input_is_one_line_and_status_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: tuple[object, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert usedge(monkeypatch, *words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"usedge: {said}")
    assert len(told.err.splitlines()) == 1


def test_an_interrupted_command_exits_130_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(SETTINGS, TINY, tmp_path / "mae")
    words = ("finetune", tmp_path / "mae" / "last", "--ascans", 8, "--batch", 2, "--out", tmp_path / "tof",
             *PLAIN)
    real = tasks.tof_loss

    def interrupted(out: Tensor, onset: Tensor) -> Tensor:
        signal.raise_signal(signal.SIGINT)
        return real(out, onset)

    monkeypatch.setattr(tasks, "tof_loss", interrupted)
    assert usedge(monkeypatch, *words) == 130
    assert load_checkpoint(tmp_path / "tof" / "last").record["step"] == 1
    monkeypatch.setattr(tasks, "tof_loss", real)
    capsys.readouterr()
    assert usedge(monkeypatch, *words) == 0
    assert json.loads(capsys.readouterr().out)["ascans"] == 8


def test_two_processes_train_together_and_one_speaks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "usedge", "pretrain", "--ascans", "8", "--batch", "2", "--devices", "2",
               "--out", str(tmp_path / "mae"), *map(str, PLAIN)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ascans"] == 8
    stored = load_checkpoint(tmp_path / "mae" / "last", "mae")
    assert (stored.record["step"], stored.record["settings"]["devices"]) == (2, 2)
    assert 0 < json.loads((tmp_path / "mae" / "log.jsonl").read_text())["loss"] < 10
