"""Checkpoints: they come back as they were, and nothing damaged or foreign passes for one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from usedge.errors import InputError  # noqa: E402
from usedge.models import checkpoint as module  # noqa: E402
from usedge.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint  # noqa: E402
from usedge.models.config import MAEConfig  # noqa: E402
from usedge.models.nets import build  # noqa: E402
from usedge.spec import SignalSpec  # noqa: E402

SPEC = SignalSpec(n_samples=256, patch=16)
TINY = MAEConfig(d_model=16, heads=1, d_head=16, mlp_hidden=16, encoder_layers=1, decoder_layers=1)


def made(kind: str = "tof", step: int = 5) -> Checkpoint:
    torch.manual_seed(step)
    weights = build(kind, SPEC, TINY).state_dict()
    moments = {f"{name}|exp_avg": torch.full_like(value, 0.5) for name, value in weights.items()}
    return Checkpoint(kind, SPEC, TINY, {"step": step, "settings": {"seed": 3}}, dict(weights), moments)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "last", made())
    return tmp_path / "last"


def edit(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / "checkpoint.json").read_text()) | changes
    kept = {key: value for key, value in record.items() if value is not None}
    (folder / "checkpoint.json").write_text(json.dumps(kept))


@pytest.mark.parametrize("kind", ["mae", "tof", "presence"])
def test_a_checkpoint_comes_back_whole(tmp_path: Path, kind: str) -> None:
    written = made(kind)
    save_checkpoint(tmp_path / "a" / "last", written)
    read = load_checkpoint(tmp_path / "a" / "last", kind)
    assert (read.kind, read.spec, read.config, read.record) == (kind, SPEC, TINY, written.record)
    for mine, theirs in ((written.weights, read.weights), (written.optimizer, read.optimizer)):
        assert mine is not None
        assert theirs is not None
        assert set(mine) == set(theirs)
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert not read.model().training


def test_a_loaded_model_answers_as_the_saved_one(stored: Path) -> None:
    x = torch.randn(3, 256, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(load_checkpoint(stored).model()(x), made().model()(x))


def test_a_checkpoint_may_lack_an_optimizer(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", replace(made(), optimizer=None))
    assert load_checkpoint(tmp_path / "c").optimizer is None
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"checkpoint.json", "weights.safetensors"}


def test_saving_again_replaces_and_leaves_nothing_beside(stored: Path) -> None:
    save_checkpoint(stored, replace(made(step=9), optimizer=None))
    assert load_checkpoint(stored).record["step"] == 9
    assert load_checkpoint(stored).optimizer is None
    assert [path.name for path in stored.parent.iterdir()] == ["last"]


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_part_is_named(stored: Path, name: str, damage: str) -> None:
    path = stored / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(bytes(content) if damage == "flip" else path.read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"{name} is missing or damaged"):
        load_checkpoint(stored)


@pytest.mark.parametrize("content", [None, "", "{", "[]", "3", '{"magic": "other"}', "{}"])
def test_what_is_no_checkpoint_says_so(stored: Path, content: str | None) -> None:
    path = stored / "checkpoint.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=r"is no usedge checkpoint.*checkpoint\.json"):
        load_checkpoint(stored)


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere is no usedge checkpoint"):
        load_checkpoint(tmp_path / "nowhere")


def test_another_version_is_refused(stored: Path) -> None:
    edit(stored, format_version=2)
    with pytest.raises(InputError, match=r"version 2.*reads 1.*Update"):
        load_checkpoint(stored)


@pytest.mark.parametrize(("kind", "command"), [
    ("mae", "usedge pretrain"), ("tof", "usedge finetune --task tof"),
    ("presence", "usedge finetune --task presence")])
def test_the_wrong_kind_names_the_command_that_makes_the_right_one(
    tmp_path: Path, kind: str, command: str
) -> None:
    save_checkpoint(tmp_path / "c", made("presence" if kind == "tof" else "tof"))
    with pytest.raises(InputError, match=f"not '{kind}'.*`{command}`"):
        load_checkpoint(tmp_path / "c", kind)


@pytest.mark.parametrize("key", ["kind", "spec", "config", "record", "sha256"])
def test_an_incomplete_record_names_what_is_missing(stored: Path, key: str) -> None:
    edit(stored, **{key: None})
    with pytest.raises(InputError, match=rf"lacks {key}"):
        load_checkpoint(stored)


def test_weights_without_a_checksum_are_not_trusted(stored: Path) -> None:
    edit(stored, sha256={})
    with pytest.raises(InputError, match=r"weights\.safetensors is missing or damaged"):
        load_checkpoint(stored)


@pytest.mark.parametrize("changes", [{"config": {"layers": 3}}, {"spec": {"n_samples": 256}}])
def test_fields_of_another_usedge_are_refused(stored: Path, changes: dict[str, Any]) -> None:
    edit(stored, **changes)
    with pytest.raises(InputError, match="newer usedge"):
        load_checkpoint(stored)


def test_sizes_that_an_older_usedge_did_not_know_have_their_defaults(stored: Path) -> None:
    known = ("d_model", "heads", "d_head", "mlp_hidden", "encoder_layers", "decoder_layers", "mask_ratio",
             "norm_patches")
    edit(stored, config={key: TINY.to_dict()[key] for key in known})
    assert load_checkpoint(stored).config == TINY


def spoilt() -> Checkpoint:
    checkpoint = made(step=6)
    checkpoint.weights["encoder.norm.weight"][3] = float("nan")
    return checkpoint


def test_weights_that_are_not_finite_never_replace_good_ones(stored: Path) -> None:
    with pytest.raises(InputError, match=r"not finite \(encoder\.norm\.weight\)"):
        save_checkpoint(stored, spoilt())
    assert load_checkpoint(stored).record["step"] == 5


def test_weights_that_are_not_finite_are_not_loaded(stored: Path) -> None:
    path = stored / "weights.safetensors"
    save_file(spoilt().weights, path)
    edit(stored, sha256={path.name: hashlib.sha256(path.read_bytes()).hexdigest()})
    with pytest.raises(InputError, match=r"not finite \(encoder\.norm\.weight\)"):
        load_checkpoint(stored)


def test_a_save_cut_short_while_writing_leaves_the_old_one(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(stored, made(step=6))
    monkeypatch.undo()
    assert load_checkpoint(stored).record["step"] == 5
    save_checkpoint(stored, made(step=7))
    assert load_checkpoint(stored).record["step"] == 7
    assert [path.name for path in stored.parent.iterdir()] == ["last"]


def test_a_save_cut_short_between_its_renames_leaves_the_old_one(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def dies(path: Path, target: Path) -> Path:
        if path.name == "last.writing":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", dies)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(stored, made(step=6))
    monkeypatch.undo()
    assert not stored.exists()
    assert load_checkpoint(stored).record["step"] == 5
    save_checkpoint(stored, made(step=7))
    assert load_checkpoint(stored).record["step"] == 7
