"""What stands on an encoder: the heads for time of flight and presence, their loss, and the CNN baseline."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from usedge.errors import InputError  # noqa: E402
from usedge.models.cnn import ConvEncoder  # noqa: E402
from usedge.models.config import MAEConfig  # noqa: E402
from usedge.models.mae import MaskedAutoencoder  # noqa: E402
from usedge.models.nets import PRESENCES, PresenceNet, ToFNet, build, tof_loss  # noqa: E402
from usedge.pointer import decode  # noqa: E402
from usedge.spec import SignalSpec  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = SignalSpec()
SMALL = SignalSpec(n_samples=256, patch=16)
TINY = MAEConfig(d_model=32, heads=2, d_head=24, mlp_hidden=48, encoder_layers=1, decoder_layers=1)
CNN = MAEConfig(backbone="cnn")


def ascans(b: int, n: int = 2048, seed: int = 1) -> Tensor:
    return torch.randn(b, n, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# Heads


def test_the_tof_network_has_the_papers_size() -> None:
    assert parameters(ToFNet(SPEC, MAEConfig())) == pytest.approx(1.2e6, rel=0.03)


@pytest.mark.parametrize("patch", [8, 32, 64])
@pytest.mark.parametrize("head", ["pointer", "pooled"])
@pytest.mark.parametrize("backbone", ["transformer", "cnn"])
@torch.no_grad()
def test_every_tof_network_answers_in_the_one_form(backbone: str, head: str, patch: int) -> None:
    spec = SignalSpec(patch=patch)
    out = ToFNet(spec, replace(TINY, backbone=backbone, head=head)).eval()(ascans(3))
    assert out.shape == (3, 3 * spec.n_patches + 1)
    assert len(decode(out.numpy()).place) == 3


@torch.no_grad()
def test_the_pooled_head_points_at_the_middle_of_a_patch() -> None:
    out = ToFNet(SPEC, replace(TINY, head="pooled")).eval()(ascans(3))
    assert torch.equal(out[:, 65:], torch.full((3, 128), 0.5))
    pointed = decode(out.numpy())
    assert (pointed.place - pointed.label).tolist() == [0.5, 0.5, 0.5]


@torch.no_grad()
def test_presence_has_one_logit_for_each_class() -> None:
    assert PRESENCES == ("no echo", "sound", "defect")
    for config in (TINY, replace(TINY, backbone="cnn")):
        assert PresenceNet(SPEC, config).eval()(ascans(3)).shape == (3, 3)


@torch.no_grad()
def test_an_answer_does_not_depend_on_the_other_a_scans() -> None:
    for config in (TINY, replace(TINY, backbone="cnn")):
        net, x = ToFNet(SPEC, config).eval(), ascans(4)
        torch.testing.assert_close(net(x)[2:3], net(x[2:3]), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("kind", "made"), [
    ("mae", MaskedAutoencoder), ("tof", ToFNet), ("presence", PresenceNet)])
def test_a_kind_is_built_by_its_name(kind: str, made: type[nn.Module]) -> None:
    assert isinstance(build(kind, SMALL, TINY), made)


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'gan'.*mae, tof, presence"):
        build("gan", SMALL, TINY)


# The CNN


@pytest.mark.parametrize("patch", [4, 8, 16, 32, 64])
@torch.no_grad()
def test_the_cnn_gives_a_token_for_each_patch(patch: int) -> None:
    tokens = ConvEncoder(SignalSpec(patch=patch), replace(CNN, d_model=48)).eval().tokens(ascans(2))
    assert tokens.shape == (2, 2048 // patch, 48)


@torch.no_grad()
def test_a_token_of_the_cnn_is_about_its_own_patch() -> None:
    torch.manual_seed(1)
    encoder = ConvEncoder(SPEC, CNN).eval()
    x = torch.zeros(1, 2048)
    x[0, 20 * 32 + 16] = 1.0
    moved = (encoder.tokens(x) - encoder.tokens(torch.zeros(1, 2048))).square().sum(dim=2)[0]
    assert abs(int(moved.argmax()) - 20) <= 1
    assert max(moved[0], moved[63]) < 1e-6 * moved.max()


@torch.no_grad()
def test_tokens_of_the_cnn_tell_their_places_also_where_nothing_is() -> None:
    tokens = ConvEncoder(SPEC, CNN).eval().tokens(torch.zeros(1, 2048))[0]
    assert torch.cdist(tokens, tokens)[~torch.eye(64, dtype=torch.bool)].min() > 0.1


def test_the_cnn_is_about_as_large_as_the_transformer_that_it_is_compared_with() -> None:
    assert parameters(ToFNet(SPEC, CNN)) == pytest.approx(parameters(ToFNet(SPEC, MAEConfig())), rel=0.2)


@pytest.mark.parametrize("patch", [2, 24])
def test_the_cnn_needs_a_power_of_two(patch: int) -> None:
    with pytest.raises(InputError, match=f"the CNN cannot make patches of {patch}. Give a power of two"):
        ConvEncoder(SignalSpec(n_samples=24 * 64, patch=patch), CNN)


# Losses and learning


def fit(model: nn.Module, steps: int, loss_of: Callable[[], Tensor]) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("backbone", ["transformer", "cnn"])
def test_the_tof_network_learns_where_echoes_begin(backbone: str) -> None:
    torch.manual_seed(2)
    net = ToFNet(SMALL, replace(TINY, backbone=backbone))
    onset = torch.tensor([0.5, 2.25, 5.0, 7.75, 9.5, 12.3, 15.1, math.nan])
    place = torch.arange(256) / 16
    x = torch.stack([torch.where(place >= o, torch.exp(-(place - o)) * torch.cos(9 * (place - o)), 0.0)
                     if not math.isnan(o) else torch.zeros(256) for o in onset.tolist()])
    x = x + 0.02 * ascans(8, 256)
    losses = fit(net, 150, lambda: tof_loss(net(x), onset, onset + 0.4))
    with torch.no_grad():
        out = net(x)
    assert losses[-1] < 0.1 * losses[0]
    assert out.shape == (8, 3 * 16 + 1)
    assert out[:, :17].argmax(dim=1).tolist() == [0, 2, 5, 7, 9, 12, 15, 16]
    at = onset[:7].long()
    offsets, later = (part.gather(1, at[:, None])[:, 0] for part in out[:7, 17:].chunk(2, dim=1))
    assert torch.allclose(at + offsets, onset[:7], atol=0.15)
    assert torch.allclose(at + later.sinh(), onset[:7] + 0.4, atol=0.15)


def test_the_tof_loss_by_hand() -> None:
    out, onset, unknown = torch.zeros(1, 3 * 3 + 1), torch.tensor([1.25]), torch.tensor([math.nan])
    # Errors 1.25, 0.25 and -0.75 patches at weights ½, 1, ½; Huber above 0.05 is |e| - 0.025.
    offsets = (0.5 * 1.225 + 1.0 * 0.225 + 0.5 * 0.725) / 2.0
    assert tof_loss(out, onset, unknown).item() == pytest.approx(math.log(4) + 4.0 * offsets, rel=1e-5)
    # It arrives at 2.5: 2.5, 1.5 and 0.5 patches from the three, told as asinh.
    later = (0.5 * math.asinh(2.5) + math.asinh(1.5) + 0.5 * math.asinh(0.5)) / 2.0 - 0.025
    both = tof_loss(out, onset, torch.tensor([2.5])).item()
    assert both == pytest.approx(math.log(4) + 4.0 * offsets + later, rel=1e-5)


def test_an_empty_gate_asks_for_no_offset() -> None:
    out = torch.zeros(2, 3 * 3 + 1)
    out[:, 3], out[:, 4:] = math.log(3), 99.0
    out.requires_grad_()
    none = torch.tensor([math.nan, math.nan])
    loss = tof_loss(out, none, none)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert torch.all(out.grad[:, 4:] == 0)


def test_a_right_answer_costs_next_to_nothing_up_to_the_last_patch() -> None:
    onset = torch.tensor([0.0, 0.4, 2.999, 3.0])
    out = torch.full((4, 3 * 3 + 1), -50.0)
    for row, at in enumerate((0, 0, 2, 2)):
        out[row, at] = 50.0
        out[row, 4:7] = onset[row] - torch.arange(3.0)
        out[row, 7:] = torch.asinh(out[row, 4:7])
    assert tof_loss(out, onset, onset).item() < 1e-4
