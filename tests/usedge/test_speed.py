"""What the training benchmark times: the plain form does the same work as ours, and every contender turns."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("h5py")

from torch import nn  # noqa: E402

from usedge.errors import InputError  # noqa: E402
from usedge.models.config import MAEConfig  # noqa: E402
from usedge.models.mae import MaskedAutoencoder  # noqa: E402
from usedge.spec import SignalSpec  # noqa: E402
from usedge.training.plain import PlainMAE  # noqa: E402
from usedge.training.recipe import read_recipes  # noqa: E402
from usedge.training.speed import GROUPS, Work, serve  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = SignalSpec()
TINY = MAEConfig(d_model=32, heads=2, d_head=24, mlp_hidden=48, encoder_layers=2, decoder_layers=1,
                 norm_patches=False)
RECIPE = """
[model]
d_model = 16
heads = 1
d_head = 8
mlp_hidden = 16
encoder_layers = 1
decoder_layers = 1
[pretrain]
batch = 8
[finetune]
batch = 4
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Work:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return Work(read_recipes(["paper", str(path)]), seed=3, data_ascans=16, file_ascans=32, folder=tmp_path)


def pair(config: MAEConfig) -> tuple[MaskedAutoencoder, PlainMAE]:
    torch.manual_seed(0)
    ours, plain = MaskedAutoencoder(SPEC, config), PlainMAE(SPEC, config)
    plain.load_state_dict(ours.state_dict())  # strict: the same parameters, by name and shape
    return ours, plain


def loss_of(model: nn.Module, seed: int) -> torch.Tensor:
    x = torch.randn(4, SPEC.n_samples, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    loss: torch.Tensor = model(x, torch.Generator().manual_seed(seed))
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("norm_patches", [False, True])
@pytest.mark.parametrize("ratio", [0.75, 0.5])
def test_the_plain_form_has_our_loss_and_our_gradients(norm_patches: bool, ratio: float) -> None:
    ours, plain = pair(replace(TINY, norm_patches=norm_patches, mask_ratio=ratio))
    torch.testing.assert_close(loss_of(plain, 5), loss_of(ours, 5), rtol=1e-5, atol=1e-7)
    theirs = dict(plain.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(theirs[name].grad, parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_another_mask_gives_another_loss() -> None:
    ours, plain = pair(TINY)
    assert abs(float(loss_of(plain, 6) - loss_of(ours, 5))) > 1e-5


@pytest.mark.parametrize("other", [{"envelope_weight": 1.0}, {"recipe": "denoise"}, {"decoded_share": 0.5}])
def test_the_plain_form_refuses_other_pretexts(other: dict[str, object]) -> None:
    with pytest.raises(InputError, match="paper"):
        PlainMAE(SPEC, replace(TINY, **other))  # type: ignore[arg-type]


@pytest.mark.parametrize(("group", "ascans"), [
    ("plain", {"plain-fp32": 8, "plain-bf16": 8}),
    ("usedge", {"usedge": 8, "usedge-half": 8, "finetune-fp32": 4, "finetune-bf16": 4}),
    ("data", {"generator-field": 16, "generator-paper": 16, "generator-plate": 16, "file": 16}),
])
def test_every_contender_answers_a_line_with_a_turn(
    tiny: Work, monkeypatch: pytest.MonkeyPatch, group: str, ascans: dict[str, int]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{key}\n" for key in ascans)))
    ready, *answers = serve(group, tiny, warmup=0)
    assert {each["key"] for each in ready["contenders"]} == set(ascans)
    assert [answer["ascans"] for answer in answers] == list(ascans.values())
    assert all(answer["elapsed_s"] > 0 for answer in answers)


def test_both_forms_train_as_many_parameters(tiny: Work) -> None:
    plain, ours = (next(iter(GROUPS[group](tiny))) for group in ("plain", "usedge"))
    assert plain.parameters == ours.parameters > 0


def test_a_file_is_read_on_and_on(tiny: Work) -> None:
    reader = {each.key: each for each in GROUPS["data"](tiny)}["file"]
    assert [reader.turn() for _ in range(5)] == [16] * 5  # 32 A-scans: the third turn begins again
