"""The convolutional stem: sizes, its form for the device, masking, and learning beside what is there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

from torch import nn  # noqa: E402

from usedge.errors import InputError  # noqa: E402
from usedge.models.checkpoint import load_checkpoint  # noqa: E402
from usedge.models.config import MAEConfig  # noqa: E402
from usedge.models.mae import MaskedAutoencoder  # noqa: E402
from usedge.models.nets import ToFNet, spread, tof_loss  # noqa: E402
from usedge.models.stem import framed  # noqa: E402
from usedge.spec import SignalSpec  # noqa: E402
from usedge.training import tasks  # noqa: E402
from usedge.training.loop import TrainSettings  # noqa: E402
from usedge.training.tasks import Downstream, finetune, pretrain  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = SignalSpec()
TINY = MAEConfig(d_model=16, heads=2, d_head=8, mlp_hidden=16, encoder_layers=1, decoder_layers=1)
STEM = replace(TINY, stem="conv")
SETTINGS = TrainSettings(ascans=12, batch=4, base_rate=0.1, warmup_ascans=4, workers=0, precision="32-true")
STILL = replace(SETTINGS, base_rate=0.0)


@pytest.fixture(autouse=True)
def few_validation_ascans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "VALIDATION_ASCANS", 256)


@pytest.fixture
def net() -> ToFNet:
    """A network whose batch norms have seen something."""
    torch.manual_seed(0)
    net = ToFNet(SPEC, STEM)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net.eval()


@torch.no_grad()
def test_the_form_for_the_device_answers_alike(net: ToFNet) -> None:
    x = torch.randn(3, 2048)
    device = framed(net)
    assert not any(isinstance(module, (nn.Conv1d, nn.BatchNorm1d)) for module in device.modules())
    assert torch.allclose(device(x), net(x), atol=1e-5)
    assert any(isinstance(module, nn.Conv1d) for module in net.modules())


@torch.no_grad()
def test_all_patches_by_number_are_all_patches(net: ToFNet) -> None:
    x = torch.randn(2, 2048)
    assert torch.allclose(net(x, torch.arange(64).expand(2, 64)), net(x), atol=1e-6)
    assert net(x, torch.tensor([[3, 9], [1, 60]])).shape == (2, 7)


@torch.no_grad()
def test_in_pretraining_it_sees_nothing_of_removed_patches() -> None:
    torch.manual_seed(0)
    mae = MaskedAutoencoder(SPEC, STEM).eval()
    x, masking = torch.randn(2, 2048), mae.random_masking(2, torch.Generator().manual_seed(1))
    removed = masking.removed[..., None].expand(-1, -1, 32)
    changed = x.view(2, 64, 32).clone().scatter_(1, removed, 9.0).view(2, 2048)
    seen = mae.forward_encoder(x, masking.visible)
    assert torch.equal(mae.forward_encoder(changed, masking.visible), seen)


def test_a_stem_can_be_learnt_beside_a_checkpoint_without_one(tmp_path: Path) -> None:
    pretrain(SETTINGS, TINY, tmp_path / "mae")
    asked = Downstream(start=tmp_path / "mae" / "last", config=STEM, asked=frozenset({"stem"}))
    begun = finetune(STILL, asked, tmp_path / "tof")
    kept = load_checkpoint(tmp_path / "mae" / "last").weights
    assert begun.config.stem == "conv"
    assert torch.equal(begun.weights["encoder.embed.weight"], kept["encoder.embed.weight"])
    again = finetune(STILL, Downstream(start=tmp_path / "tof" / "last"), tmp_path / "again")
    assert torch.equal(again.weights["encoder.stem.out.weight"], begun.weights["encoder.stem.out.weight"])


def test_it_is_pretrained_like_all_else(tmp_path: Path) -> None:
    still = pretrain(STILL, STEM, tmp_path / "still").weights
    moved = pretrain(SETTINGS, STEM, tmp_path / "moved").weights
    assert not torch.equal(moved["encoder.stem.out.weight"], still["encoder.stem.out.weight"])


@pytest.mark.parametrize(("patch", "fits"), [(32, True), (16, True), (8, False)])
def test_patches_are_made_of_whole_positions(patch: int, fits: bool) -> None:
    spec = SignalSpec(patch=patch)
    if fits:
        assert ToFNet(spec, STEM)(torch.zeros(2, 2048)).shape == (2, 3 * spec.n_patches + 1)
    else:
        with pytest.raises(InputError, match="stem cannot make patches of 8"):
            ToFNet(spec, STEM)
    with pytest.raises(InputError, match="stem 'deep' is unknown"):
        replace(TINY, stem="deep")


# Few patches in training


def test_training_on_few_patches_repeats_by_seed_and_moves_the_network(tmp_path: Path) -> None:
    sparse = replace(SETTINGS, sparse=0.9)
    first, again = (finetune(sparse, Downstream(config=TINY), tmp_path / name) for name in ("a", "b"))
    whole = finetune(SETTINGS, Downstream(config=TINY), tmp_path / "c")
    assert torch.equal(first.weights["pointer.weight"], again.weights["pointer.weight"])
    assert not torch.equal(first.weights["pointer.weight"], whole.weights["pointer.weight"])


@pytest.mark.parametrize("config", [replace(TINY, backbone="cnn"), replace(TINY, head="pooled")])
def test_a_network_that_has_no_patches_to_choose_is_refused(config: MAEConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sparse 0\.5 is for time of flight"):
        finetune(replace(SETTINGS, sparse=0.5), Downstream(config=config), tmp_path)


def answers(places: torch.Tensor, sure_of: int) -> torch.Tensor:
    """What a network says on ``places (1, k)`` that is sure of the middle of the patch ``sure_of``."""
    k = places.shape[1]
    out = torch.zeros(1, 3 * k + 1)
    out[0, :k] = torch.where(places[0] == sure_of, 9.0, -9.0)
    out[0, k] = -9.0
    out[0, k + 1 :] = 0.5
    return spread(out, places, 64)


def test_an_onset_between_the_patches_is_told_by_a_neighbour_or_by_none() -> None:
    places, none = torch.tensor([[2, 5, 6, 40]]), torch.tensor([float("nan")])

    def loss(onset: float, sure_of: int) -> float:
        return float(tof_loss(answers(places, sure_of), torch.tensor([onset]), none, places))

    assert loss(5.5, 5) + 10.0 < loss(5.5, 40)
    assert loss(4.9, 5) < loss(4.9, 2)  # patch 4 is not looked at; patch 5 is beside it
    assert loss(20.5, 40) > 3.0  # nothing is near: being sure is wrong wherever
    assert loss(20.5, 2) == pytest.approx(loss(20.5, 40))
