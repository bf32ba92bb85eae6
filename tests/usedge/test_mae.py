"""The masked autoencoder and the ToF network: sizes, masking, losses, and that they learn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from usedge.errors import InputError  # noqa: E402
from usedge.models.mae import Block, MAEConfig, MaskedAutoencoder, ToFNet, build, tof_loss  # noqa: E402
from usedge.spec import SignalSpec  # noqa: E402

SPEC = SignalSpec()
SMALL = SignalSpec(n_samples=256, patch=16)
TINY = MAEConfig(d_model=32, heads=2, d_head=24, mlp_hidden=48, encoder_layers=1, decoder_layers=1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower on two threads than on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def mae() -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(SPEC, TINY).eval()


def ascans(b: int, n: int = 2048, seed: int = 1) -> Tensor:
    return torch.randn(b, n, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_encoder_has_the_papers_size() -> None:
    assert 1.15e6 < parameters(MaskedAutoencoder(SPEC, MAEConfig()).encoder) < 1.25e6
    assert 1.15e6 < parameters(ToFNet(SPEC, MAEConfig())) < 1.25e6


def test_attention_is_not_square() -> None:
    block = Block(MAEConfig())
    assert block.qkv.weight.shape == (3 * 256, 128)
    assert block.proj.weight.shape == (128, 256)
    assert block(torch.zeros(2, 5, 128)).shape == (2, 5, 128)


def test_patches_are_consecutive_samples(mae: MaskedAutoencoder) -> None:
    x = torch.arange(2 * 2048.0).view(2, 2048)
    patches = mae.encoder.patchify(x)
    assert patches.shape == (2, 64, 32)
    assert torch.equal(patches[1, 3], torch.arange(2048.0 + 96, 2048 + 128))


@pytest.mark.parametrize(("ratio", "visible"), [(0.75, 16), (0.5, 32), (0.9, 6)])
def test_the_mask_removes_its_share_and_one_means_removed(ratio: float, visible: int) -> None:
    config = MAEConfig(d_model=8, heads=1, d_head=8, mlp_hidden=8, encoder_layers=1, mask_ratio=ratio)
    kept, restore, mask = MaskedAutoencoder(SPEC, config).random_masking(50)
    assert kept.shape == (50, visible)
    assert mask.shape == restore.shape == (50, 64)
    assert torch.equal(mask.sum(dim=1), torch.full((50,), 64.0 - visible))
    assert torch.equal(mask.gather(1, kept), torch.zeros(50, visible))
    assert torch.equal(restore.sort(dim=1).values, torch.arange(64).expand(50, 64))


def test_masks_differ_by_ascan_and_repeat_by_seed(mae: MaskedAutoencoder) -> None:
    first, again, other = (mae.random_masking(8, torch.Generator().manual_seed(s))[2] for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({tuple(row.tolist()) for row in first}) == 8


def test_every_patch_is_removed_as_often(mae: MaskedAutoencoder) -> None:
    mask = mae.random_masking(4000, torch.Generator().manual_seed(1))[2]
    assert mask.mean(dim=0).min() > 0.72
    assert mask.mean(dim=0).max() < 0.78


@torch.no_grad()
def test_the_encoder_sees_nothing_of_removed_patches(mae: MaskedAutoencoder) -> None:
    x = ascans(3)
    visible, restore, mask = mae.random_masking(3, torch.Generator().manual_seed(2))
    changed = torch.where(mask.bool()[..., None], 100.0, x.view(3, 64, 32)).view(3, 2048)
    latent = mae.forward_encoder(x, visible)
    assert latent.shape == (3, 16, 32)
    assert torch.equal(mae.forward_encoder(changed, visible), latent)
    predicted = mae.forward_decoder(latent, restore)
    other = x * (1 + mask.repeat_interleave(32, dim=1) * torch.linspace(0, 1, 2048))
    assert not torch.equal(mae.forward_loss(other, predicted, mask), mae.forward_loss(x, predicted, mask))


@torch.no_grad()
def test_the_encoder_does_see_its_visible_patches_and_their_places(mae: MaskedAutoencoder) -> None:
    x, visible = ascans(1), torch.tensor([[3, 40]])
    latent = mae.forward_encoder(x, visible)
    touched = x.clone()
    touched[0, 3 * 32] += 0.5
    assert not torch.allclose(mae.forward_encoder(touched, visible), latent)
    same = x.view(64, 32)[:1].expand(64, 32).reshape(1, 2048)
    here, there = (mae.forward_encoder(same, torch.tensor([[place]])) for place in (3, 9))
    assert not torch.allclose(here, there)


def test_the_loss_counts_removed_patches_alone(mae: MaskedAutoencoder) -> None:
    x, mask = ascans(2), mae.random_masking(2, torch.Generator().manual_seed(5))[2]
    predicted = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(6)).requires_grad_()
    loss = mae.forward_loss(x, predicted, mask)
    loss.backward()
    gradient = predicted.grad.abs().amax(dim=2)
    assert torch.all(gradient[mask == 0] == 0)
    assert torch.all(gradient[mask == 1] > 0)
    visible_changed = torch.where(mask.bool()[..., None], x.view(2, 64, 32), 7.0).view(2, 2048)
    assert torch.equal(mae.forward_loss(visible_changed, predicted, mask), loss)


def test_the_loss_by_hand() -> None:
    spec = SignalSpec(n_samples=4, patch=2)
    config = MAEConfig(d_model=8, heads=1, d_head=8, mlp_hidden=8, encoder_layers=1, norm_patches=False)
    model = MaskedAutoencoder(spec, config)
    x, predicted = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[[9.0, 9.0], [2.0, 6.0]]])
    assert model.forward_loss(x, predicted, torch.tensor([[0.0, 1.0]])).item() == pytest.approx((1 + 4) / 2)


def test_standardised_targets_do_not_care_for_loudness(mae: MaskedAutoencoder) -> None:
    x, mask = ascans(2), torch.ones(2, 64)
    predicted = torch.zeros(2, 64, 32)
    plain, loud = (mae.forward_loss(scale * x + 0.3, predicted, mask).item() for scale in (1.0, 50.0))
    assert plain == pytest.approx(loud, rel=1e-3)
    assert plain == pytest.approx(31 / 32, rel=1e-2)


@torch.no_grad()
def test_the_decoder_puts_tokens_back_in_their_places(mae: MaskedAutoencoder) -> None:
    mae.decoder_embed, mae.decoder_norm, mae.decoder_out = nn.Identity(), nn.Identity(), nn.Identity()
    mae.decoder = nn.ModuleList()
    mae.decoder_position.zero_()
    mae.mask_token.fill_(-1.0)
    visible, restore, mask = mae.random_masking(5, torch.Generator().manual_seed(8))
    numbered = visible[..., None].float().expand(-1, -1, 32)
    restored = mae.forward_decoder(numbered, restore)[..., 0]
    expected = torch.where(mask.bool(), -1.0, torch.arange(64.0).expand(5, 64))
    assert torch.equal(restored, expected)


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


def test_the_autoencoder_fits_one_batch() -> None:
    torch.manual_seed(1)
    model = MaskedAutoencoder(SMALL, TINY)
    t = torch.arange(256) / 256
    x = torch.stack([torch.sin(2 * math.pi * k * t) for k in (9.0, 13.0, 17.0, 21.0)])
    losses = fit(model, 150, lambda: model(x, torch.Generator().manual_seed(4)))
    assert losses[0] > 0.8
    assert losses[-1] < 0.1


def test_the_tof_network_learns_where_echoes_begin() -> None:
    torch.manual_seed(2)
    net = ToFNet(SMALL, TINY)
    onset = torch.tensor([0.5, 2.25, 5.0, 7.75, 9.5, 12.3, 15.1, math.nan])
    place = torch.arange(256) / 16
    x = torch.stack([torch.where(place >= o, torch.exp(-(place - o)) * torch.cos(9 * (place - o)), 0.0)
                     if not math.isnan(o) else torch.zeros(256) for o in onset.tolist()])
    x = x + 0.02 * ascans(8, 256)
    losses = fit(net, 150, lambda: tof_loss(net(x), onset))
    with torch.no_grad():
        out = net(x)
    assert losses[-1] < 0.1 * losses[0]
    assert out.shape == (8, 2 * 16 + 1)
    assert out[:, :17].argmax(dim=1).tolist() == [0, 2, 5, 7, 9, 12, 15, 16]
    at = onset[:7].long()
    offsets = out[:7, 17:].gather(1, at[:, None])[:, 0]
    assert torch.allclose(at + offsets, onset[:7], atol=0.15)


def test_the_tof_loss_by_hand() -> None:
    out, onset = torch.zeros(1, 2 * 3 + 1), torch.tensor([1.25])
    # Errors 1.25, 0.25 and -0.75 patches at weights ½, 1, ½; Huber below 0.05 leaves |e| - 0.025.
    offsets = (0.5 * 1.225 + 1.0 * 0.225 + 0.5 * 0.725) / 2.0
    assert tof_loss(out, onset, offset_weight=0.0).item() == pytest.approx(math.log(4))
    assert tof_loss(out, onset).item() == pytest.approx(math.log(4) + 4.0 * offsets, rel=1e-5)


def test_an_empty_gate_asks_for_no_offset() -> None:
    out = torch.zeros(2, 2 * 3 + 1)
    out[:, 3], out[:, 4:] = math.log(3), 99.0
    out.requires_grad_()
    loss = tof_loss(out, torch.tensor([math.nan, math.nan]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert torch.all(out.grad[:, 4:] == 0)


def test_a_right_answer_costs_next_to_nothing_up_to_the_last_patch() -> None:
    onset = torch.tensor([0.0, 0.4, 2.999, 3.0])
    out = torch.full((4, 2 * 3 + 1), -50.0)
    for row, at in enumerate((0, 0, 2, 2)):
        out[row, at] = 50.0
        out[row, 4:] = onset[row] - torch.arange(3.0)
    assert tof_loss(out, onset).item() < 1e-4


def test_a_kind_is_built_or_refused_by_name() -> None:
    assert isinstance(build("mae", SMALL, TINY), MaskedAutoencoder)
    assert isinstance(build("tof", SMALL, TINY), ToFNet)
    with pytest.raises(InputError, match=r"'gan'.*mae, tof"):
        build("gan", SMALL, TINY)
