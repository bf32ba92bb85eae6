"""Pretraining and what follows it: what is taken over from a checkpoint, what moves, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

from torch import Tensor, nn  # noqa: E402

from usedge.errors import InputError  # noqa: E402
from usedge.labelled import LabelledSet, load_labelled  # noqa: E402
from usedge.models.checkpoint import Checkpoint, load_checkpoint  # noqa: E402
from usedge.models.config import MAEConfig  # noqa: E402
from usedge.models.mae import MaskedAutoencoder  # noqa: E402
from usedge.preprocess import Preprocessor  # noqa: E402
from usedge.spec import SignalSpec  # noqa: E402
from usedge.synth import generate  # noqa: E402
from usedge.synth.files import write_synth  # noqa: E402
from usedge.training import tasks  # noqa: E402
from usedge.training.loop import Run, TrainSettings  # noqa: E402
from usedge.training.stream import Batch, SynthStream  # noqa: E402
from usedge.training.tasks import Downstream, finetune, pretrain  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = SignalSpec()
BLURRED = SignalSpec(blur="gaussian:2")
TINY = MAEConfig(d_model=16, heads=2, d_head=8, mlp_hidden=16, encoder_layers=1, decoder_layers=1)
DEBLUR = replace(TINY, recipe="deblur")
CNN = replace(TINY, backbone="cnn")
SETTINGS = TrainSettings(ascans=12, batch=4, base_rate=0.1, warmup_ascans=4, workers=0, precision="32-true")
"""Three steps."""
STILL = replace(SETTINGS, base_rate=0.0)


@pytest.fixture(autouse=True)
def few_validation_ascans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "VALIDATION_ASCANS", 256)


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    pretrain(SETTINGS, TINY, tmp_path / "mae")
    return tmp_path / "mae" / "last"


@pytest.fixture
def labelled(tmp_path: Path) -> LabelledSet:
    pytest.importorskip("h5py")
    write_synth(tmp_path / "set.h5", "field", 40, 500, 2)
    return load_labelled(tmp_path / "set.h5")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """Every batch that a synthetic stream gives from now on."""
    taken: list[Batch] = []
    draw = SynthStream.__getitem__

    def watched(stream: SynthStream, index: int) -> Batch:
        taken.append(draw(stream, index))
        return taken[-1]

    monkeypatch.setattr(SynthStream, "__getitem__", watched)
    return taken


def tuned(folder: Path, settings: TrainSettings = SETTINGS, **what: Any) -> Checkpoint:
    return finetune(settings, Downstream(**{"validate": False, **what}), folder)


def same_encoder(a: Checkpoint, b: Checkpoint) -> bool:
    """Whether both encoders agree to the bit, averages of batch norms included."""
    names = [name for name in a.weights if name.startswith("encoder.")]
    return bool(names) and all(torch.equal(a.weights[name], b.weights[name]) for name in names)


# What is taken over


def test_finetuning_starts_from_the_pretrained_encoder_and_scores_itself(
    tmp_path: Path, pretrained: Path
) -> None:
    result = tuned(tmp_path / "tof", STILL, start=pretrained, validate=True)
    assert same_encoder(result, load_checkpoint(pretrained))
    assert result.config == TINY
    assert result.record["origin"]["from"] == "mae"
    assert result.record["origin"]["ascans"] == 12
    scores = result.record["scores"]
    assert scores["validation"]["ascans"] == 256
    for key in ("top1", "within_patch", "missed", "false_alarms", "no_echo_threshold"):
        assert 0 <= scores[key] <= 1
    assert load_checkpoint(tmp_path / "tof" / "last", "tof").record["scores"] == scores


def test_finetuning_again_starts_from_the_heads_too(tmp_path: Path, pretrained: Path) -> None:
    first = tuned(tmp_path / "a", start=pretrained)
    again = tuned(tmp_path / "b", STILL, start=tmp_path / "a" / "last")
    assert all(torch.equal(again.weights[name], first.weights[name]) for name in first.weights)


@pytest.mark.parametrize("what", [{"task": "presence"}, {"config": replace(TINY, head="pooled")}])
def test_another_head_starts_from_the_encoder_alone(
    tmp_path: Path, pretrained: Path, what: dict[str, Any]
) -> None:
    first = tuned(tmp_path / "a", start=pretrained)
    other = tuned(tmp_path / "b", STILL, start=tmp_path / "a" / "last", **what)
    assert same_encoder(first, other)
    assert other.config == what.get("config", TINY)
    assert (other.kind, other.record["origin"]["from"]) == (what.get("task", "tof"), "tof")


def test_a_cnn_may_be_tuned_further(tmp_path: Path) -> None:
    first = tuned(tmp_path / "a", config=CNN)
    other = tuned(tmp_path / "b", replace(STILL, probe=True), start=tmp_path / "a" / "last", task="presence")
    assert same_encoder(first, other)


def test_a_finetuning_from_another_start_is_another_run(tmp_path: Path, pretrained: Path) -> None:
    pretrain(replace(SETTINGS, seed=9), TINY, tmp_path / "other")
    tuned(tmp_path / "tof", start=pretrained)
    with pytest.raises(InputError, match=r"other settings \(start\)"):
        tuned(tmp_path / "tof", start=tmp_path / "other" / "last")


def test_finetuning_on_a_labelled_file_records_which(
    tmp_path: Path, pretrained: Path, labelled: LabelledSet
) -> None:
    result = tuned(tmp_path / "tof", start=pretrained, data=labelled)
    assert result.record["origin"]["data"] == {"file": "set.h5", "ascans": 40}
    with pytest.raises(InputError, match=r"other settings \(start\)"):
        tuned(tmp_path / "tof", start=pretrained)


def test_pretraining_on_a_file_records_which(tmp_path: Path, labelled: LabelledSet) -> None:
    assert labelled.path is not None
    result = pretrain(SETTINGS, TINY, tmp_path / "mae", data=labelled.path)
    assert result.record["origin"] == {"data": {"file": "set.h5", "ascans": 40}}


def test_presence_is_learnt_and_scored_by_its_classes(tmp_path: Path, pretrained: Path) -> None:
    settings = replace(SETTINGS, preset="plate")
    result = tuned(tmp_path / "p", settings, start=pretrained, task="presence", validate=True)
    assert result.kind == "presence"
    assert list(result.record["scores"]["f1"]) == ["no echo", "sound", "defect"]
    assert load_checkpoint(tmp_path / "p" / "last", "presence").model()(torch.zeros(2, 2048)).shape == (2, 3)


# A frozen encoder


@pytest.mark.parametrize("backbone", ["transformer", "cnn"])
@pytest.mark.parametrize("head", ["pointer", "pooled"])
def test_a_probe_moves_the_head_alone(tmp_path: Path, backbone: str, head: str) -> None:
    config = replace(TINY, backbone=backbone)
    start = tuned(tmp_path / "a", config=config)
    result = tuned(tmp_path / "b", replace(SETTINGS, probe=True), start=tmp_path / "a" / "last",
                   config=replace(config, head=head), task="tof", validate=True)
    assert same_encoder(start, result)
    assert result.optimizer is not None
    heads = {"pooled": {"classes"}, "pointer": {"pointer", "no_echo"}}[head]
    assert {name.split(".")[0] for name in result.optimizer} == heads
    for name in result.optimizer if head == "pointer" else ():
        weight = name.partition("|")[0]
        assert not torch.equal(result.weights[weight], start.weights[weight]), weight


def test_a_finetuning_moves_the_encoder_too(tmp_path: Path, pretrained: Path) -> None:
    result, start = tuned(tmp_path / "tof", start=pretrained), load_checkpoint(pretrained)
    moved = [name for name in result.weights if name.startswith("encoder.")
             and not torch.equal(result.weights[name], start.weights[name])]
    assert moved == [name for name in result.weights if name.startswith("encoder.")]


# Blur


def test_deblurring_reads_blurred_a_scans_and_is_judged_by_clean_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Tensor, Tensor]] = []

    class Watched(MaskedAutoencoder):
        def forward(self, x: Tensor, generator: torch.Generator | None = None,
                    clean: Tensor | None = None) -> Tensor:
            assert clean is not None
            given.append((x, clean))
            return super().forward(x, generator, clean)

    monkeypatch.setattr(tasks, "MaskedAutoencoder", Watched)
    pretrain(SETTINGS, DEBLUR, tmp_path, BLURRED)
    assert len(given) == 3
    for index, (x, clean) in enumerate(given):
        plain = SynthStream("field", SETTINGS.seed, 4, SPEC)[index]
        assert torch.equal(clean, plain.x)
        np.testing.assert_array_equal(x.numpy(), BLURRED.blurring(plain.x.numpy()))
        assert not torch.equal(x, clean)


@pytest.mark.parametrize("blur", ["gaussian:2", "median:5", "srad"])
def test_the_device_blurs_as_training_did(tmp_path: Path, drawn: list[Batch], blur: str) -> None:
    """From deblurring through fine-tuning to the spec that a bundle is made of, to the bit."""
    spec = SignalSpec(blur=blur)
    paper = replace(SETTINGS, preset="paper")
    pretrain(paper, DEBLUR, tmp_path / "mae", spec)
    del drawn[:]
    tuned(tmp_path / "tof", paper, start=tmp_path / "mae" / "last")
    stored = load_checkpoint(tmp_path / "tof" / "last", "tof")
    assert stored.spec == spec
    assert len(drawn) == 3
    device = Preprocessor(stored.spec)
    for index, batch in enumerate(drawn):
        counts = generate("paper", 4, (paper.seed + tasks.LABELS_SEED, index, 0), 2048).x
        np.testing.assert_array_equal(batch.x.numpy(), device.batch(counts).x)
        assert not torch.equal(batch.x, batch.clean)


def test_validation_and_labelled_a_scans_are_blurred_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: list[Batch], labelled: LabelledSet
) -> None:
    pretrain(SETTINGS, DEBLUR, tmp_path / "mae", BLURRED)
    del drawn[:]
    seen: list[Batch] = []
    monkeypatch.setitem(tasks.LOSSES, "tof", _watching(seen, tasks.LOSSES["tof"]))
    tuned(tmp_path / "tof", start=tmp_path / "mae" / "last", data=labelled, validate=True)
    assert (len(drawn), len(seen)) == (1, 3)
    for batch in (*drawn, *seen):
        np.testing.assert_array_equal(batch.x.numpy(), BLURRED.blurring(batch.clean.numpy()))


def _watching(seen: list[Batch], loss: Any) -> Any:
    def watched(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        seen.append(batch)
        result: Tensor = loss(model, batch, generator)
        return result

    return watched


@pytest.mark.parametrize(("recipe", "spec", "said"), [
    ("deblur", SPEC, r"'deblur' does not go with blur 'none'.*--blur gaussian"),
    ("mae", BLURRED, "'mae' does not go with blur 'gaussian:2'"),
    ("denoise", BLURRED, "'denoise' does not go with blur 'gaussian:2'")])
def test_a_blur_and_deblurring_belong_together(
    tmp_path: Path, recipe: str, spec: SignalSpec, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        pretrain(SETTINGS, replace(TINY, recipe=recipe), tmp_path, spec)
    assert not any(tmp_path.iterdir())


# Refusals, before any work


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is a pool made nor a step taken."""
    def never(*_: object) -> None:
        raise AssertionError("work was begun before the refusal")

    monkeypatch.setattr(tasks, "_stream", never)
    monkeypatch.setattr(Run, "fit", never)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(("config", "said"), [
    (replace(TINY, mask_ratio=0.999), r"mask ratio 0\.999 leaves 0 of 64"),
    (replace(TINY, envelope_bins=5), "5 envelope bins"), (CNN, "'cnn' cannot be pretrained by masking")])
def test_a_model_that_cannot_be_pretrained_is_refused_at_once(
    tmp_path: Path, config: MAEConfig, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        pretrain(SETTINGS, config, tmp_path)


@pytest.mark.usefixtures("no_work")
def test_a_file_with_a_sample_that_is_not_finite_is_refused_at_once(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    x = np.ones((64, 100), np.float32)
    x[33, 7] = np.nan
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["x"] = x
    with pytest.raises(InputError, match=r"odd\.h5 has NaN or infinite samples in row 33"):
        pretrain(replace(SETTINGS, pool=48_000), TINY, tmp_path / "mae", data=tmp_path / "odd.h5")


@pytest.mark.parametrize(("config", "spec", "said"), [
    (replace(TINY, d_model=32), SPEC, "d_model 16, not 32"),
    (replace(TINY, encoder_layers=2), SPEC, "encoder_layers 1, not 2"),
    (CNN, SPEC, "backbone transformer, not cnn"), (TINY, SignalSpec(patch=64), "patch 32, not 64"),
    (None, SignalSpec(patch=64), "patch 32, not 64"),
    (TINY, SignalSpec(n_samples=1024), "n_samples 2048, not 1024"),
    (TINY, BLURRED, "blur none, not gaussian:2")])
def test_a_checkpoint_of_another_architecture_is_refused(
    tmp_path: Path, pretrained: Path, config: MAEConfig | None, spec: SignalSpec, said: str
) -> None:
    with pytest.raises(InputError, match=f"the checkpoint has {said}"):
        tuned(tmp_path / "tof", start=pretrained, config=config, spec=spec)
    assert not (tmp_path / "tof").exists()


def test_a_recipe_without_a_blur_asks_for_none_and_gets_the_checkpoints(tmp_path: Path) -> None:
    pretrain(SETTINGS, DEBLUR, tmp_path / "mae", BLURRED)
    result = tuned(tmp_path / "tof", start=tmp_path / "mae" / "last", config=TINY, spec=SPEC)
    assert result.spec == BLURRED


@pytest.mark.parametrize("pool", [0, 8])
@pytest.mark.parametrize("seed", [tasks.VALIDATION_SEED, tasks.TEST_SEED])
def test_what_models_are_scored_on_is_never_trained_on(tmp_path: Path, pool: int, seed: int) -> None:
    with pytest.raises(InputError, match=rf"seed {seed} would train on .* scored on\. .*--seed"):
        pretrain(replace(SETTINGS, seed=seed, pool=pool), TINY, tmp_path / "mae")


def test_no_fine_tuning_sees_the_ascans_of_a_pretraining(tmp_path: Path, drawn: list[Batch]) -> None:
    for seed in (0, 1, 2**31 - 1):
        pretrain(replace(SETTINGS, seed=seed), TINY, tmp_path / f"mae{seed}")
        tuned(tmp_path / f"tof{seed}", replace(SETTINGS, seed=seed), config=TINY)
    first = [batch.x[0].numpy().tobytes() for batch in drawn]
    assert len(first) == len(set(first)) == 18


def test_what_makes_no_sense_together_is_refused(tmp_path: Path, labelled: LabelledSet) -> None:
    with pytest.raises(InputError, match=r"probe trains a head alone.*pretrain\.probe"):
        pretrain(replace(SETTINGS, probe=True), TINY, tmp_path / "mae")
    with pytest.raises(InputError, match=r"layer_decay 0\.75 is for transformers"):
        tuned(tmp_path / "a", replace(SETTINGS, layer_decay=0.75), config=CNN)
    with pytest.raises(InputError, match="labelled files hold no defects"):
        Downstream("presence", data=labelled)
    with pytest.raises(InputError, match=r"task 'sizing' is unknown\. Known: tof, presence"):
        Downstream("sizing")
    with pytest.raises(InputError, match="is no usedge checkpoint"):
        tuned(tmp_path / "b", start=tmp_path / "nowhere")


def test_augmentation_is_for_ascans_that_are_seen_again(tmp_path: Path, labelled: LabelledSet) -> None:
    noisy = replace(SETTINGS, augment=0.1)
    with pytest.raises(InputError, match=r"augment 0\.1.*--labels"):
        finetune(noisy, Downstream(config=TINY), tmp_path / "endless")
    what = Downstream(config=TINY, data=labelled, validate=False)
    plain, changed = (finetune(settings, what, tmp_path / name)
                      for name, settings in (("plain", SETTINGS), ("noisy", noisy)))
    assert not torch.equal(plain.weights["pointer.weight"], changed.weights["pointer.weight"])
