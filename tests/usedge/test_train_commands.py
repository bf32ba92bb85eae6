"""`usedge pretrain` and `usedge finetune` from the shell: what they print, and one line for bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

from torch import Tensor  # noqa: E402

from usedge import cli  # noqa: E402
from usedge.models.checkpoint import load_checkpoint  # noqa: E402
from usedge.models.config import MAEConfig  # noqa: E402
from usedge.spec import SignalSpec  # noqa: E402
from usedge.synth.files import write_synth  # noqa: E402
from usedge.training import tasks  # noqa: E402
from usedge.training.loop import TrainSettings  # noqa: E402
from usedge.training.tasks import pretrain  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = MAEConfig(d_model=16, heads=2, d_head=8, mlp_hidden=16, encoder_layers=1, decoder_layers=1)
SETTINGS = TrainSettings(ascans=8, batch=4, workers=0, precision="32-true")
RECIPE = """
[model]
d_model = 16
heads = 2
d_head = 8
mlp_hidden = 16
encoder_layers = 1
decoder_layers = 1
"""
PLAIN = ("--workers", 0, "--precision", "32-true")

Usedge = Callable[..., int]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the recipe of a tiny model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tasks, "VALIDATION_ASCANS", 256)
    Path("tiny.toml").write_text(RECIPE)
    return tmp_path


@pytest.fixture(autouse=True)
def ctrl_c_interrupts() -> Iterator[None]:
    """Also where the tests were started with SIGINT ignored, as shells start background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def usedge(monkeypatch: pytest.MonkeyPatch) -> Usedge:
    """Runs ``usedge`` as from a shell and gives its exit status."""
    def run(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["usedge", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return int(caught.value.code or 0)

    return run


def pretrained() -> None:
    pretrain(SETTINGS, TINY, Path("mae"))


# What they make


def test_both_commands_train_and_say_what_they_made(
    usedge: Usedge, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("pretrain", "--ascans", 4, "--batch", 2, "--mask-ratio", 0.5, "--out", "mae", *PLAIN)
    assert usedge(*words) == 0
    assert json.loads(capsys.readouterr().out) == {"checkpoint": "mae/last", "ascans": 4}
    assert load_checkpoint(Path("mae/last"), "mae").config == MAEConfig(mask_ratio=0.5)

    assert usedge("finetune", "mae/last", "--ascans", 2, "--batch", 2, "--out", "tof", *PLAIN) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ascans"] == 2
    assert said["scores"] == load_checkpoint(Path("tof/last"), "tof").record["scores"]


def test_a_recipe_its_options_and_assignments_reach_the_training(
    usedge: Usedge, capsys: pytest.CaptureFixture[str]
) -> None:
    assert usedge("pretrain", "--recipe", "tiny.toml", "--recipe", "deblur", "--blur", "median:3", "--patch",
                  64, "--ascans", 8, "--batch", 4, "--preset", "paper", "--set", "model.decoded_share=0.5",
                  "--set", "pretrain.clip_norm=2", "--seed", 3, "-o", "mae", *PLAIN) == 0
    stored = load_checkpoint(Path("mae/last"))
    assert stored.spec == SignalSpec(patch=64, blur="median:3", zoom=51.2)
    c, settings = stored.config, stored.record["settings"]
    assert (c.d_model, c.recipe, c.norm_patches, c.decoded_share) == (16, "deblur", False, 0.5)
    expected = {"preset": "paper", "ascans": 8, "batch": 4, "clip_norm": 2.0, "seed": 3, "base_rate": 1.5e-3}
    assert settings == settings | expected

    capsys.readouterr()
    assert usedge("finetune", "mae/last", "--ascans", 8, "--batch", 4, "--labels", 6, "--probe", "-o", "tof",
                  *PLAIN) == 0
    stored = load_checkpoint(Path("tof/last"), "tof")
    assert (stored.spec.blur, stored.record["settings"]["pool"]) == ("median:3", 6)
    assert stored.record["settings"]["probe"] is True


def test_pretraining_reads_a_file_and_resumes(usedge: Usedge, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("h5py")
    write_synth(Path("set.h5"), "paper", 10, 300, 1)
    words = ("--recipe", "tiny.toml", "--data", "set.h5", "--ascans", 8, "--batch", 4, "-o", "mae", *PLAIN)
    for _ in range(2):
        assert usedge("pretrain", *words) == 0
        assert json.loads(capsys.readouterr().out)["ascans"] == 8
    stored = load_checkpoint(Path("mae/last"))
    assert stored.record["origin"] == {"data": {"file": "set.h5", "ascans": 10}}


def test_presence_is_trained_on_plates(usedge: Usedge, capsys: pytest.CaptureFixture[str]) -> None:
    assert usedge("finetune", "--task", "presence", "--recipe", "tiny.toml", "--backbone", "cnn", "--ascans",
                  4, "--batch", 4, "-o", "p", *PLAIN) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["scores"]["f1"]) == {"no echo", "sound", "defect"}
    stored = load_checkpoint(Path("p/last"), "presence")
    assert (stored.config.backbone, stored.record["settings"]["preset"]) == ("cnn", "plate")


# Bad input: one line, status 2


@pytest.mark.parametrize(("words", "said"), [
    (("pretrain", "--preset", "sea"), "preset 'sea' is unknown. Known: field, paper, plate."),
    (("pretrain", "--ascans", 3), "3 A-scans do not fill one batch of 256. Raise --ascans."),
    (("pretrain", "--patch", 33), "2048 grid samples cannot be cut into patches of 33."),
    (("pretrain", "--mask-ratio", 1.0), "mask ratio 1.0 is not between 0 and 1."),
    (("pretrain", "--mask-ratio", 0), "mask ratio 0.0 is not between 0 and 1."),
    (("pretrain", "--mask-ratio", 0.999), "mask ratio 0.999 leaves 0 of 64."),
    (("pretrain", "--blur", "fog"), "blur 'fog' is unknown."),
    (("pretrain", "--blur", "gaussian"), "recipe 'mae' does not go with blur 'gaussian:2'."),
    (("pretrain", "--recipe", "deblur", "--blur", "none"), "recipe 'deblur' does not go with blur 'none'."),
    (("pretrain", "--recipe", "nowhere"), "there is no recipe 'nowhere'. Known: ablation, adapt, deblur,"),
    (("pretrain", "--set", "pretrain.bach=3"), "--set: key pretrain.bach is unknown. The nearest"),
    (("pretrain", "--set", "pretrain"), "--set 'pretrain' is not SECTION.KEY=VALUE."),
    (("pretrain", "--set", "model.backbone=cnn"), "a 'cnn' cannot be pretrained by masking."),
    (("pretrain", "--set", "model.decoded_share=2"), "decoded_share 2.0 is not in 0 … 1."),
    (("pretrain", "--data", "nowhere.h5"), "nowhere.h5 cannot be read as HDF5"),
    (("pretrain", "--data", "nan.h5", "--batch", 8), "nan.h5 has NaN or infinite samples in row 5."),
    (("pretrain", "--recipe", "paper", "--data", "nan.h5", "--batch", 8), "nan.h5 has NaN or infinite"),
    (("pretrain", "--data", "short.h5", "--batch", 8), "the gate holds 9 samples; at least 64 are needed."),
    (("pretrain", "--data", "short.h5"), "short.h5 has too few A-scans for a batch of 256."),
    (("finetune", "nowhere"), "nowhere is no usedge checkpoint."),
    (("finetune", "--data", "nowhere.h5"), "there is no file nowhere.h5."),
    (("finetune", "--precision", "half"), "precision 'half' is unknown."),
    (("finetune", "--task", "sizing"), "task 'sizing' is unknown. Known: tof, presence."),
    (("finetune", "--head", "tail"), "head 'tail' is unknown. Known: pointer, pooled."),
    (("finetune", "--backbone", "rnn"), "backbone 'rnn' is unknown. Known: transformer, cnn."),
    (("finetune", "--backbone", "cnn", "--layer-decay", 0.5), "layer_decay 0.5 is for transformers."),
    (("finetune", "--task", "presence", "--data", "set.npz"), "labelled files hold no defects."),
    (("finetune", "mae/last", "--recipe", "paper"), "the checkpoint has d_model 16, not 128."),
    (("finetune", "mae/last", "--backbone", "cnn"), "the checkpoint has backbone transformer, not cnn."),
    (("finetune", "mae/last", "--recipe", "tiny.toml", "--set", "signal.patch=64"),
     "the checkpoint has patch 32, not 64."),
    (("finetune", "mae/last", "--recipe", "tiny.toml", "--recipe", "deblur"),
     "the checkpoint has blur none, not gaussian:2."),
    (("pretrain", "--recipe", "tiny.toml", "--ascans", 8, "--batch", 2, "-o", "mae", *PLAIN),
     "mae holds a run with other settings (batch")])
def test_bad_input_is_one_line_and_status_two(
    usedge: Usedge, capsys: pytest.CaptureFixture[str], words: tuple[object, ...], said: str
) -> None:
    if "nan.h5" in words or "short.h5" in words:
        h5py = pytest.importorskip("h5py")
        x = np.ones((8, 64), np.float32)
        x[5, 3] = np.nan
        with h5py.File("nan.h5", "w") as odd, h5py.File("short.h5", "w") as short:
            odd["x"], short["x"] = x, np.ones((8, 9), np.int16)
    if "set.npz" in words:
        np.savez("set.npz", x=np.ones((4, 100), np.int16), fs_hz=1e7, t0_s=0.0, tof_s=np.full(4, 2e-6))
    if "mae/last" in words or "mae" in words:
        pretrained()
    capsys.readouterr()
    assert usedge(*words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"usedge: {said}")
    assert len(told.err.splitlines()) == 1


# Interrupted, and together


def test_an_interrupted_command_exits_130_and_can_be_repeated(
    usedge: Usedge, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrained()
    words = ("finetune", "mae/last", "--ascans", 8, "--batch", 2, "--out", "tof", *PLAIN)
    real = tasks.tof_loss

    def interrupted(out: Tensor, onset: Tensor, arrival: Tensor) -> Tensor:
        signal.raise_signal(signal.SIGINT)
        return real(out, onset, arrival)

    monkeypatch.setattr(tasks, "tof_loss", interrupted)
    assert usedge(*words) == 130
    assert load_checkpoint(Path("tof/last")).record["step"] == 1
    monkeypatch.setattr(tasks, "tof_loss", real)
    capsys.readouterr()
    assert usedge(*words) == 0
    assert json.loads(capsys.readouterr().out)["ascans"] == 8


def test_two_processes_train_together_and_one_speaks() -> None:
    command = [sys.executable, "-m", "usedge", "pretrain", "--ascans", "8", "--batch", "2", "--devices", "2",
               "--recipe", "tiny.toml", "--out", "mae", *map(str, PLAIN)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ascans"] == 8
    stored = load_checkpoint(Path("mae/last"), "mae")
    assert (stored.record["step"], stored.record["settings"]["devices"]) == (2, 2)
    assert 0 < json.loads(Path("mae/log.jsonl").read_text())["loss"] < 10
