"""The training loop: exact resume, the schedule, the layers' rates, and what is refused."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

from torch import Tensor, nn  # noqa: E402

from usedge.errors import InputError  # noqa: E402
from usedge.models.checkpoint import Checkpoint, load_checkpoint  # noqa: E402
from usedge.models.config import MAEConfig  # noqa: E402
from usedge.models.mae import MaskedAutoencoder  # noqa: E402
from usedge.models.nets import ToFNet  # noqa: E402
from usedge.spec import SignalSpec  # noqa: E402
from usedge.synth.files import write_synth  # noqa: E402
from usedge.training.loop import Run, TrainSettings, adamw, resolve_precision  # noqa: E402
from usedge.training.stream import Batch, FileStream, PoolStream, SynthStream  # noqa: E402
from usedge.training.tasks import Downstream, finetune, pretrain  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = SignalSpec()
BLURRED = SignalSpec(blur="gaussian:2")
TINY = MAEConfig(d_model=16, heads=2, d_head=8, mlp_hidden=16, encoder_layers=1, decoder_layers=1)
SETTINGS = TrainSettings(ascans=48, batch=4, base_rate=0.1, warmup_ascans=16, workers=0, precision="32-true")
"""Twelve steps."""


@pytest.fixture(autouse=True)
def ctrl_c_interrupts() -> Iterator[None]:
    """Also where the tests were started with SIGINT ignored, as shells start background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def at_step(run: Run, step: int, act: Any) -> Run:
    """``run``, but its loss does ``act`` first, every time that ``step`` is taken."""
    loss = run.loss

    def wrapped(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        return act(loss(model, batch, generator)) if run._done == step else loss(model, batch, generator)

    run.loss = wrapped
    return run


def mae_run(folder: Path, settings: TrainSettings = SETTINGS, config: MAEConfig = TINY,
            spec: SignalSpec = SPEC) -> Run:
    torch.manual_seed(settings.seed)
    stream = SynthStream(settings.preset, settings.seed, settings.batch, spec)

    def loss(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        value: Tensor = model(batch.x, generator)
        return value

    return Run("mae", MaskedAutoencoder(spec, config), loss, stream, settings, spec, config, folder, {})


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


def test_every_step_draws_its_own_masks(tmp_path: Path) -> None:
    drawn: list[tuple[float, ...]] = []
    run = mae_run(tmp_path)
    loss = run.loss

    def watched(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        drawn.append(tuple(torch.rand(4, generator=generator).tolist()))
        value: Tensor = loss(model, batch, generator)
        return value

    run.loss = watched
    run.fit()
    assert len(set(drawn)) == len(drawn) == 12


def test_a_killed_run_resumes_from_its_last_checkpoint(tmp_path: Path) -> None:
    def die(_loss: Tensor) -> Tensor:
        raise MemoryError

    often = replace(SETTINGS, checkpoint_s=0.0)
    with pytest.raises(MemoryError):
        at_step(mae_run(tmp_path / "cut", often), 7, die).fit()
    assert load_checkpoint(tmp_path / "cut" / "last").record["step"] == 7
    assert_same(mae_run(tmp_path / "cut").fit(), mae_run(tmp_path / "whole").fit())


def test_what_was_logged_after_the_last_checkpoint_is_not_logged_twice(tmp_path: Path) -> None:
    longer = replace(SETTINGS, ascans=4 * 60)
    mae_run(tmp_path, longer).fit()
    whole = (tmp_path / "log.jsonl").read_text()
    with pytest.raises(KeyboardInterrupt):
        at_step(mae_run(tmp_path / "cut", longer), 30, interrupt).fit()
    log = tmp_path / "cut" / "log.jsonl"
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [20]
    log.write_text(whole + '{"step": 60, "asc')
    mae_run(tmp_path / "cut", longer).fit()
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [20, 40, 60]


def test_how_long_a_run_is_costs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a list of all its batches sent to each worker process."""
    orders: list[Any] = []

    def seen(_stream: object, order: Any, _workers: int) -> Iterator[Batch]:
        orders.append(order)
        raise KeyboardInterrupt

    monkeypatch.setattr("usedge.training.loop.batches", seen)
    with pytest.raises(KeyboardInterrupt):
        mae_run(tmp_path).fit()
    assert orders == [range(12)]


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    done = mae_run(tmp_path / "a").fit()
    assert_same(at_step(mae_run(tmp_path / "a"), 12, interrupt).fit(), done)


@pytest.mark.parametrize(("settings", "config", "named"), [
    (replace(SETTINGS, batch=8), TINY, "batch"), (replace(SETTINGS, base_rate=0.2), TINY, "base_rate"),
    (replace(SETTINGS, ascans=64), TINY, "ascans"), (replace(SETTINGS, seed=5), TINY, "seed"),
    (replace(SETTINGS, preset="paper"), TINY, "preset"), (replace(SETTINGS, pool=100), TINY, "pool"),
    (replace(SETTINGS, betas=(0.9, 0.99)), TINY, "betas"),
    (SETTINGS, replace(TINY, mask_ratio=0.5), "mask_ratio"),
    (SETTINGS, replace(TINY, norm_patches=False), "norm_patches"),
    (SETTINGS, replace(TINY, encoder_layers=2), "encoder_layers")])
def test_another_runs_folder_is_refused_by_the_setting_that_differs(
    tmp_path: Path, settings: TrainSettings, config: MAEConfig, named: str
) -> None:
    mae_run(tmp_path).fit()
    with pytest.raises(InputError, match=rf"other settings \({named}\).*--out"):
        mae_run(tmp_path, settings, config).fit()


@pytest.mark.parametrize(("stored", "asked", "named"), [
    (BLURRED, SPEC, "blur"), (SPEC, BLURRED, "blur"), (BLURRED, SignalSpec(blur="gaussian:3"), "blur"),
    (SPEC, SignalSpec(patch=64), "patch")])
def test_another_spec_is_another_run(
    tmp_path: Path, stored: SignalSpec, asked: SignalSpec, named: str
) -> None:
    mae_run(tmp_path, spec=stored).fit()
    with pytest.raises(InputError, match=rf"other settings \({named}\)"):
        mae_run(tmp_path, spec=asked).fit()


def test_workers_and_the_time_between_checkpoints_may_change(tmp_path: Path) -> None:
    done = mae_run(tmp_path).fit()
    assert_same(mae_run(tmp_path, replace(SETTINGS, workers=1, checkpoint_s=1.0)).fit(), done)


def test_a_folder_of_the_other_task_is_refused(tmp_path: Path) -> None:
    mae_run(tmp_path).fit()
    with pytest.raises(InputError, match=r"holds a 'mae' model, not 'tof'.*another --out"):
        finetune(SETTINGS, Downstream(), tmp_path)


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
    ({"seed": -1}, "seed -1"), ({"seed": 2**31}, "seed 2147483648"),
    ({"base_rate": math.nan}, "base_rate nan"), ({"clip_norm": -1.0}, r"clip_norm -1\.0"),
    ({"weight_decay": math.inf}, "weight_decay inf"), ({"layer_decay": 0.0}, r"layer_decay 0\.0"),
    ({"layer_decay": 1.5}, r"layer_decay 1\.5"), ({"pool": -1}, "pool -1"),
    ({"warmup_ascans": -1}, "warmup_ascans -1"), ({"checkpoint_s": math.nan}, "checkpoint_s nan")])
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        replace(SETTINGS, **changes)


def test_a_given_precision_is_taken_and_auto_is_resolved() -> None:
    assert resolve_precision("32-true") == "32-true"
    assert resolve_precision("auto") in {"32-true", "bf16-mixed"}


def test_a_card_that_emulates_bf16_trains_in_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert resolve_precision("auto") == "32-true"


def test_biases_norms_and_the_mask_token_are_not_decayed() -> None:
    model = MaskedAutoencoder(SPEC, TINY)
    free, decayed = sorted(adamw(model, SETTINGS).param_groups, key=lambda group: group["weight_decay"])
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))
    assert any(parameter is model.mask_token for parameter in free["params"])
    assert any(parameter is model.encoder.embed.weight for parameter in decayed["params"])


# The layers' rates


def test_each_layer_down_from_the_head_gets_a_slower_rate() -> None:
    net = ToFNet(SPEC, replace(TINY, encoder_layers=3))
    groups = adamw(net, replace(SETTINGS, layer_decay=0.5)).param_groups
    scale = {parameter: group["scale"] for group in groups for parameter in group["params"]}
    assert set(scale) == set(net.parameters())
    expected = {"pointer": 1.0, "no_echo": 1.0, "encoder.norm": 1.0, "encoder.blocks.2": 0.5,
                "encoder.blocks.1": 0.25, "encoder.blocks.0": 0.125, "encoder.embed": 0.0625,
                "encoder.position": 0.0625}
    for name, parameter in net.named_parameters():
        assert [scale[parameter]] == [s for prefix, s in expected.items() if name.startswith(prefix)], name


def test_the_layers_rates_are_what_the_steps_take(tmp_path: Path) -> None:
    """AdamW's first step is the rate itself, whatever the gradient, but for weight decay."""
    one = replace(SETTINGS, ascans=4, warmup_ascans=0, base_rate=0.064, weight_decay=0.0, layer_decay=0.5)
    torch.manual_seed(one.seed)
    before = ToFNet(SPEC, TINY).state_dict()
    after = finetune(one, Downstream("tof", config=TINY, spec=SPEC, validate=False), tmp_path).weights
    for name, scale in (("pointer.weight", 1.0), ("encoder.norm.weight", 1.0),
                        ("encoder.blocks.0.fc1.weight", 0.5), ("encoder.embed.weight", 0.25)):
        step = (after[name] - before[name]).abs().max().item()
        assert step == pytest.approx(0.001 * scale, rel=0.01), name


def test_a_probes_optimizer_holds_the_head_alone() -> None:
    net = ToFNet(SPEC, TINY)
    net.encoder.requires_grad_(False)
    held = {parameter for group in adamw(net, SETTINGS).param_groups for parameter in group["params"]}
    assert held == {*net.pointer.parameters(), *net.no_echo.parameters()}


# Every task resumes to the bit


def deblurring(folder: Path) -> Checkpoint:
    return pretrain(SETTINGS, replace(TINY, recipe="deblur", decoded_share=0.5), folder, BLURRED)


def denoising(folder: Path) -> Checkpoint:
    return pretrain(replace(SETTINGS, pool=16), replace(TINY, recipe="denoise"), folder)


def from_a_file(folder: Path) -> Checkpoint:
    path = folder.with_name("ascans.h5")
    if not path.exists():
        write_synth(path, "paper", 30, 300, 2)
    return pretrain(SETTINGS, TINY, folder, data=path)


def cnn(folder: Path) -> Checkpoint:
    what = Downstream("tof", config=replace(TINY, backbone="cnn"), spec=SPEC, validate=False)
    return finetune(SETTINGS, what, folder)


def presence(folder: Path) -> Checkpoint:
    return finetune(replace(SETTINGS, preset="plate"), Downstream("presence", config=TINY, validate=False),
                    folder)


def probing(folder: Path) -> Checkpoint:
    start = folder.with_name("mae")
    pretrain(SETTINGS, TINY, start)
    probe = replace(SETTINGS, probe=True, pool=20, layer_decay=0.5)
    return finetune(probe, Downstream(start=start / "last", validate=False), folder)


@pytest.mark.parametrize("train", [deblurring, denoising, from_a_file, cnn, presence, probing])
def test_a_killed_training_of_any_task_resumes_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: Callable[[Path], Checkpoint]
) -> None:
    pytest.importorskip("h5py")
    whole = train(tmp_path / "whole")
    for kind in (SynthStream, PoolStream, FileStream):
        monkeypatch.setattr(kind, "__getitem__", _until_five(kind.__getitem__))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut")
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "cut" / "last").record["step"] == 5
    assert_same(train(tmp_path / "cut"), whole)
    if train is cnn:
        assert whole.weights["encoder.stem.1.num_batches_tracked"] == 12


def _until_five(draw: Callable[[Any, int], Batch]) -> Callable[[Any, int], Batch]:
    def until_five(stream: Any, index: int) -> Batch:
        if index == 5:
            raise KeyboardInterrupt
        return draw(stream, index)

    return until_five
