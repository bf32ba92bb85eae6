"""The masked autoencoder: sizes, masking, the three pretexts' losses, what it gives back, and learning."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from usedge.errors import InputError  # noqa: E402
from usedge.models.config import MAEConfig  # noqa: E402
from usedge.models.mae import Block, MaskedAutoencoder, Masking, attend, log_energy  # noqa: E402
from usedge.spec import SignalSpec  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = SignalSpec()
SMALL = SignalSpec(n_samples=256, patch=16)
TINY = MAEConfig(d_model=32, heads=2, d_head=24, mlp_hidden=48, encoder_layers=1, decoder_layers=1)
LEAST = MAEConfig(d_model=8, heads=1, d_head=8, mlp_hidden=8, encoder_layers=1, decoder_layers=1)


@pytest.fixture
def mae() -> MaskedAutoencoder:
    return made(SPEC, TINY)


def made(spec: SignalSpec, config: MAEConfig) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(spec, config).eval()


def ascans(b: int, n: int = 2048, seed: int = 1) -> Tensor:
    return torch.randn(b, n, generator=torch.Generator().manual_seed(seed)).clamp(-1, 1)


def masked(model: MaskedAutoencoder, b: int, seed: int) -> Masking:
    return model.random_masking(b, torch.Generator().manual_seed(seed))


def touched(x: Tensor, places: Tensor, value: float) -> Tensor:
    """``x (b, n)`` with the patches ``places (b, r)`` of SPEC set to ``value``."""
    patches = x.view(len(x), 64, 32).clone()
    return patches.scatter_(1, places[..., None].expand(-1, -1, 32), value).view(len(x), 2048)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("d_model", "millions"), [(64, 0.3), (128, 1.2), (256, 4.8)])
def test_the_encoder_has_the_size_that_its_width_promises(d_model: int, millions: float) -> None:
    config = MAEConfig(d_model=d_model, heads=d_model // 32, mlp_hidden=2 * d_model)
    encoder = parameters(MaskedAutoencoder(SPEC, config).encoder)
    assert encoder == pytest.approx(1e6 * millions, rel=0.03)


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


# Masks


@pytest.mark.parametrize(("ratio", "visible"), [(0.75, 16), (0.5, 32), (0.9, 6)])
def test_the_mask_parts_the_patches_by_its_ratio(ratio: float, visible: int) -> None:
    masking = made(SPEC, replace(LEAST, mask_ratio=ratio)).random_masking(50)
    assert masking.visible.shape == (50, visible)
    assert masking.removed.shape == (50, 64 - visible)
    assert torch.equal(torch.cat(masking, dim=1).sort(dim=1).values, torch.arange(64).expand(50, 64))


def test_masks_differ_by_ascan_and_repeat_by_seed(mae: MaskedAutoencoder) -> None:
    first, again, other = (masked(mae, 8, seed).visible for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({tuple(sorted(row.tolist())) for row in first}) == 8


def test_every_patch_is_removed_as_often(mae: MaskedAutoencoder) -> None:
    share = torch.bincount(masked(mae, 4000, 1).removed.flatten(), minlength=64) / 4000
    assert share.min() > 0.72
    assert share.max() < 0.78


def test_a_share_of_the_removed_patches_is_decoded_and_never_a_visible_one() -> None:
    model = made(SPEC, replace(LEAST, decoded_share=0.25))
    masking = masked(model, 200, 1)
    assert masking.visible.shape == (200, 16)
    assert masking.removed.shape == (200, 12)
    assert not (masking.removed[:, :, None] == masking.visible[:, None, :]).any()
    assert len(set(masking.removed.flatten().tolist())) == 64
    assert model.random_masking(2, all_of_them=True).removed.shape == (2, 48)
    assert made(SPEC, replace(LEAST, decoded_share=1e-6)).random_masking(2).removed.shape == (2, 1)


@torch.no_grad()
def test_the_encoder_sees_nothing_of_removed_patches(mae: MaskedAutoencoder) -> None:
    x, masking = ascans(3), masked(mae, 3, 2)
    latent = mae.forward_encoder(x, masking.visible)
    assert latent.shape == (3, 16, 32)
    changed = touched(x, masking.removed, 100.0)
    assert not torch.equal(changed, x)
    assert torch.equal(mae.forward_encoder(changed, masking.visible), latent)
    predicted = mae.forward_decoder(latent, masking)
    other = x * torch.linspace(0.5, 1, 2048)
    assert not torch.equal(mae.forward_loss(other, predicted, masking),
                           mae.forward_loss(x, predicted, masking))


@torch.no_grad()
def test_the_encoder_does_see_its_visible_patches_and_their_places(mae: MaskedAutoencoder) -> None:
    x, visible = ascans(1), torch.tensor([[3, 40]])
    latent = mae.forward_encoder(x, visible)
    nudged = x.clone()
    nudged[0, 3 * 32] += 0.5
    assert not torch.allclose(mae.forward_encoder(nudged, visible), latent)
    same = x.view(64, 32)[:1].expand(64, 32).reshape(1, 2048)
    here, there = (mae.forward_encoder(same, torch.tensor([[place]])) for place in (3, 9))
    assert not torch.allclose(here, there)


@torch.no_grad()
def test_predictions_go_with_their_patches_whatever_their_order(mae: MaskedAutoencoder) -> None:
    x, masking = ascans(2), masked(mae, 2, 6)
    shuffle = torch.Generator().manual_seed(1)
    first, rest = torch.randperm(16, generator=shuffle), torch.randperm(48, generator=shuffle)
    other = Masking(masking.visible[:, first], masking.removed[:, rest])
    plain, shuffled = (mae.forward_decoder(mae.forward_encoder(x, each.visible), each)
                       for each in (masking, other))
    torch.testing.assert_close(shuffled, plain[:, torch.cat([first, 16 + rest])], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mae.forward_loss(x, shuffled, other), mae.forward_loss(x, plain, masking))


@torch.no_grad()
def test_the_decoder_gives_each_token_the_position_of_its_patch(mae: MaskedAutoencoder) -> None:
    mae.decoder_embed, mae.decoder_norm, mae.decoder_out = nn.Identity(), nn.Identity(), nn.Identity()
    mae.decoder = nn.ModuleList()
    mae.decoder_position.copy_(torch.arange(64.0)[:, None].expand(64, 32))
    mae.mask_token.fill_(-1000.0)
    masking = masked(mae, 5, 8)
    decoded = mae.forward_decoder(torch.full((5, 16, 32), 2000.0), masking)[..., 0]
    assert torch.equal(decoded[:, :16], 2000.0 + masking.visible)
    assert torch.equal(decoded[:, 16:], masking.removed - 1000.0)


# Losses


def predictions(model: MaskedAutoencoder, masking: Masking) -> Tensor:
    b, tokens = len(masking.visible), masking.visible.shape[1] + masking.removed.shape[1]
    out = model.decoder_out.out_features
    return torch.randn(b, tokens, out, generator=torch.Generator().manual_seed(6)).requires_grad_()


@pytest.mark.parametrize("weights", [
    {}, {"envelope_weight": 1.0}, {"rf_weight": 0.0, "envelope_weight": 1.0}])
def test_masked_autoencoding_counts_removed_patches_alone(weights: dict[str, float]) -> None:
    model = made(SPEC, replace(LEAST, **weights))
    x, masking = ascans(2), masked(model, 2, 5)
    predicted = predictions(model, masking)
    loss = model.forward_loss(x, predicted, masking)
    loss.backward()
    gradient = predicted.grad.abs().amax(dim=2)
    assert torch.all(gradient[:, :16] == 0)
    assert torch.all(gradient[:, 16:] > 0)
    assert torch.equal(model.forward_loss(touched(x, masking.visible, 7.0), predicted, masking), loss)
    assert not torch.equal(model.forward_loss(x.flip(1), predicted, masking), loss)


@pytest.mark.parametrize("recipe", ["deblur", "denoise"])
def test_deblurring_and_denoising_count_every_patch_alike(recipe: str) -> None:
    model = made(SPEC, replace(LEAST, recipe=recipe, norm_patches=False))
    x, masking = ascans(2), masked(model, 2, 5)
    predicted = predictions(model, masking)
    loss = model.forward_loss(x, predicted, masking)
    truth = torch.stack([row[places] for row, places in zip(x.view(2, 64, 32), torch.cat(masking, dim=1),
                                                           strict=True)])
    assert loss.item() == pytest.approx((predicted - truth).square().mean().item(), rel=1e-5)
    loss.backward()
    assert torch.all(predicted.grad.abs().amax(dim=2) > 0)


@torch.no_grad()
def test_visible_patches_weigh_in_the_loss_what_they_are_given() -> None:
    config = replace(LEAST, norm_patches=False)
    x = ascans(2) * torch.linspace(0, 2, 2048)

    def loss(**changes: Any) -> float:
        model = made(SPEC, replace(config, **changes))
        masking = masked(model, 2, 5)
        return model.forward_loss(x, torch.zeros(2, 64, 32), masking).item()

    removed, whole = loss(), loss(recipe="deblur")
    assert loss(visible_weight=0.0) == removed == loss(recipe="denoise", visible_weight=0.0)
    assert loss(visible_weight=1.0) == pytest.approx(whole, rel=1e-6)
    assert whole == pytest.approx(x.square().mean().item(), rel=1e-5)
    # 16 visible patches at half weight beside 48 removed ones.
    visible = (64 * whole - 48 * removed) / 16
    assert loss(visible_weight=0.5) == pytest.approx((8 * visible + 48 * removed) / 56, rel=1e-5)


@pytest.mark.parametrize("recipe", ["mae", "deblur"])
@torch.no_grad()
def test_decoding_a_share_of_the_patches_estimates_the_whole_loss(recipe: str) -> None:
    """Given what is predicted for each patch, whichever of them are drawn: no bias, however few."""
    config = replace(LEAST, recipe=recipe, norm_patches=False)
    whole, sparse = made(SPEC, config), made(SPEC, replace(config, decoded_share=0.1))
    # Errors that differ greatly from patch to patch: a mean over the wrong patches would show.
    x = ascans(1) * torch.linspace(0, 2, 2048)
    visible = masked(whole, 1, 3).visible
    others = torch.tensor([[place for place in range(64) if place not in visible[0]]])
    full = whole.forward_loss(x, torch.zeros(1, 64, 32), Masking(visible, others)).item()
    losses = []
    for seed in range(400):
        order = torch.randperm(48, generator=torch.Generator().manual_seed(seed))
        few = Masking(visible, others[:, order[:5]])
        losses.append(sparse.forward_loss(x, torch.zeros(1, 21, 32), few).item())
    error = torch.tensor(losses).std().item() / math.sqrt(len(losses))
    assert abs(sum(losses) / len(losses) - full) < 3 * error < 0.1 * full


def test_the_loss_by_hand() -> None:
    model = made(SignalSpec(n_samples=4, patch=2), replace(LEAST, norm_patches=False, mask_ratio=0.5))
    x, masking = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), Masking(torch.tensor([[0]]), torch.tensor([[1]]))
    predicted = torch.tensor([[[9.0, 9.0], [2.0, 6.0]]])
    assert model.forward_loss(x, predicted, masking).item() == pytest.approx((1 + 4) / 2)


def test_standardised_targets_do_not_care_for_loudness(mae: MaskedAutoencoder) -> None:
    x, masking = ascans(2), masked(mae, 2, 5)
    predicted = torch.zeros(2, 64, 32)
    plain, loud = (mae.forward_loss(scale * x + 0.3, predicted, masking).item() for scale in (1.0, 50.0))
    assert plain == pytest.approx(loud, rel=1e-3)
    assert plain == pytest.approx(31 / 32, rel=1e-2)


def test_log_energy_is_nought_at_full_scale_and_falls_by_one_a_decade() -> None:
    sine = torch.sin(torch.arange(64) * 2 * math.pi / 8)
    patches = torch.stack([sine, 0.1 * sine, torch.zeros(64), torch.ones(64)])[None]
    energy = log_energy(patches, 2)
    assert energy.shape == (1, 4, 2)
    expected = torch.tensor([0.5 * math.log10(0.5), 0.5 * math.log10(0.005), -2.5, 0.0])
    torch.testing.assert_close(energy[0], expected[:, None].expand(4, 2), atol=1e-3, rtol=0)


def test_log_energy_tells_the_parts_of_a_patch_apart() -> None:
    patch = torch.cat([torch.zeros(8), torch.ones(8), torch.full((16,), 0.1)])
    torch.testing.assert_close(log_energy(patch[None, None], 4)[0, 0], torch.tensor([-2.5, 0.0, -1.0, -1.0]),
                               atol=1e-3, rtol=0)


def test_rf_and_envelope_are_weighed_as_asked() -> None:
    losses = []
    for weights in ((1.0, 0.0), (0.0, 1.0), (2.0, 3.0)):
        model = made(SMALL, replace(LEAST, rf_weight=weights[0], envelope_weight=weights[1]))
        masking, x = masked(model, 3, 1), ascans(3, 256)
        predicted = torch.zeros(3, 16, model.decoder_out.out_features)
        losses.append(model.forward_loss(x, predicted, masking).item())
    assert losses[2] == pytest.approx(2 * losses[0] + 3 * losses[1], rel=1e-5)


@torch.no_grad()
def test_denoising_adds_its_noise_to_what_is_read_and_not_to_the_target() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    class Watched(MaskedAutoencoder):
        def forward_encoder(self, x: Tensor, visible: Tensor) -> Tensor:
            seen.append((x, visible))
            return super().forward_encoder(x, visible)

        def forward_loss(self, x: Tensor, predicted: Tensor, masking: Masking) -> Tensor:
            assert torch.equal(x, clean)
            return super().forward_loss(x, predicted, masking)

    clean = ascans(4)
    Watched(SPEC, replace(LEAST, recipe="denoise", noise_sigma=0.2))(clean, torch.Generator().manual_seed(1))
    noise = seen[0][0] - clean
    assert noise.std().item() == pytest.approx(0.2, rel=0.05)
    assert abs(noise.mean().item()) < 0.01


@torch.no_grad()
def test_deblurring_is_judged_by_what_the_a_scan_was_before_its_blur() -> None:
    model = made(SPEC, replace(LEAST, recipe="deblur", norm_patches=False))
    model.decoder_out.weight.zero_()
    model.decoder_out.bias.zero_()
    blurred, clean = ascans(2), 3 * ascans(2, seed=2)
    assert model(blurred, None, clean).item() == pytest.approx(clean.square().mean().item(), rel=1e-4)


# Reconstruction and attention


@torch.no_grad()
def test_a_reconstruction_has_the_mask_of_the_ratio_and_every_patch_in_its_place() -> None:
    model = made(SPEC, replace(LEAST, decoded_share=0.1))
    model.decoder_out.weight.zero_()
    model.decoder_out.bias.zero_()
    x = ascans(3) + torch.linspace(-3, 3, 2048)
    rf, mask = model.reconstruct(x, torch.Generator().manual_seed(2))
    assert rf.shape == (3, 64, 32)
    assert torch.equal(mask.sum(dim=1), torch.full((3,), 48.0))
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    # Nothing predicted of a standardised patch is its mean.
    torch.testing.assert_close(rf, x.view(3, 64, 32).mean(dim=2, keepdim=True).expand(-1, -1, 32))


@pytest.mark.parametrize("norm_patches", [True, False])
@torch.no_grad()
def test_right_predictions_reconstruct_the_clean_a_scan(norm_patches: bool) -> None:
    clean = ascans(2) + 0.5

    class Oracle(MaskedAutoencoder):
        def forward_decoder(self, latent: Tensor, masking: Masking) -> Tensor:  # noqa: ARG002 - its form
            places = torch.cat(masking, dim=1)[..., None].expand(-1, -1, 32)
            return self.targets(self.encoder.patchify(clean).gather(1, places))[0]

    model = Oracle(SPEC, replace(LEAST, norm_patches=norm_patches, recipe="deblur"))
    rf, _ = model.reconstruct(ascans(2, seed=9), torch.Generator().manual_seed(2), clean)
    torch.testing.assert_close(rf.reshape(2, 2048), clean, rtol=1e-4, atol=1e-4)


def test_without_an_rf_target_there_is_nothing_to_reconstruct() -> None:
    with pytest.raises(InputError, match="rf_weight 0"):
        made(SPEC, replace(LEAST, rf_weight=0.0, envelope_weight=1.0)).reconstruct(ascans(1))


@torch.no_grad()
def test_attention_weights_of_a_token_sum_to_one(mae: MaskedAutoencoder) -> None:
    maps = made(SPEC, replace(TINY, encoder_layers=2)).encoder.attention(ascans(3))
    assert maps.shape == (2, 3, 2, 64, 64)
    assert maps.min() >= 0
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(2, 3, 2, 64))


@torch.no_grad()
def test_attention_weights_are_those_the_block_uses() -> None:
    block, z = Block(TINY).eval(), torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(1))
    values = block._heads(z)[2]
    attended = (block.attention(z) @ values).transpose(1, 2).reshape(2, 9, -1)
    residual = z + block.proj(attended)
    expected = residual + block.fc2(nn.functional.gelu(block.fc1(block.norm2(residual))))
    torch.testing.assert_close(block(z), expected, rtol=1e-4, atol=1e-5)


def test_attention_in_bf16_is_that_of_the_fused_kernel_gradients_too() -> None:
    generator = torch.Generator().manual_seed(1)
    exact = [torch.randn(2, 4, 16, 64, generator=generator) for _ in range(3)]

    def run(of: Any, dtype: torch.dtype) -> list[Tensor]:
        given = [each.to(dtype, copy=True).requires_grad_() for each in exact]
        out = of(*given)
        out.float().square().sum().backward()
        return [out.detach().float(), *(each.grad.float() for each in given)]

    fused = run(nn.functional.scaled_dot_product_attention, torch.float32)
    for ours, theirs in zip(run(attend, torch.bfloat16), fused, strict=True):
        # bf16 has 8 bits; a few roundings follow one another.
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.03 * theirs.abs().max().item())


# Refusals


@pytest.mark.parametrize(("changes", "named"), [
    ({"mask_ratio": 1.0}, r"mask ratio 1\.0 is not between 0 and 1.*0\.75"),
    ({"mask_ratio": 0.0}, r"mask ratio 0\.0 is not between 0 and 1"),
    ({"mask_ratio": math.nan}, "mask ratio nan"),
    ({"decoded_share": 0.0}, r"decoded_share 0\.0"), ({"decoded_share": 1.5}, r"decoded_share 1\.5"),
    ({"rf_weight": 0.0}, r"rf_weight 0\.0 and envelope_weight 0\.0 leave nothing to predict"),
    ({"rf_weight": -1.0, "envelope_weight": 1.0}, r"rf_weight -1\.0"),
    ({"envelope_weight": math.nan}, "envelope_weight nan"),
    ({"noise_sigma": -0.1}, r"noise_sigma -0\.1"), ({"noise_sigma": math.inf}, "noise_sigma inf"),
    ({"visible_weight": -1.0}, r"visible_weight -1\.0"),
    ({"d_model": 0}, "d_model 0"), ({"d_model": 33}, "d_model 33 must be even"), ({"heads": 0}, "heads 0"),
    ({"decoder_layers": -1}, "decoder_layers -1"), ({"envelope_bins": 0}, "envelope_bins 0"),
    ({"recipe": "gan"}, "recipe 'gan' is unknown.*mae, deblur, denoise"),
    ({"backbone": "rnn"}, "backbone 'rnn' is unknown.*transformer, cnn"),
    ({"head": "tail"}, "head 'tail' is unknown.*pointer, pooled")])
def test_numbers_and_names_that_no_model_can_have_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        MAEConfig(**changes)


@pytest.mark.parametrize(("ratio", "left"), [(0.999, 0), (0.001, 64)])
def test_a_ratio_that_leaves_no_patch_on_one_side_is_refused(ratio: float, left: int) -> None:
    with pytest.raises(InputError, match=rf"mask ratio {ratio} leaves {left} of 64"):
        MaskedAutoencoder(SPEC, MAEConfig(mask_ratio=ratio))


def test_a_single_sample_has_no_deviation() -> None:
    single, config = SignalSpec(n_samples=64, patch=1), replace(LEAST, envelope_bins=1)
    with pytest.raises(InputError, match=r"patch of 1 sample .*norm_patches=false"):
        MaskedAutoencoder(single, config)
    assert MaskedAutoencoder(single, replace(config, norm_patches=False))(ascans(2, 64)).isfinite()


def test_envelope_bins_must_divide_the_patch() -> None:
    with pytest.raises(InputError, match="5 envelope bins do not divide a patch of 32"):
        MaskedAutoencoder(SPEC, replace(LEAST, envelope_weight=1.0, envelope_bins=5))


# Learning


@pytest.mark.parametrize(("recipe", "most"), [("mae", 0.1), ("deblur", 0.1)])
def test_the_autoencoder_fits_one_batch(recipe: str, most: float) -> None:
    torch.manual_seed(1)
    model = MaskedAutoencoder(SMALL, replace(TINY, recipe=recipe))
    t = torch.arange(256) / 256
    clean = torch.stack([torch.sin(2 * math.pi * k * t) for k in (9.0, 13.0, 17.0, 21.0)])
    x = 0.5 * (clean + clean.roll(1, dims=1)) if recipe == "deblur" else clean
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=5e-3), []
    for _ in range(150):
        optimizer.zero_grad()
        loss = model(x, torch.Generator().manual_seed(4), clean)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.8
    assert losses[-1] < most
