"""`usedge harden`: hard gates whose labels are true, reproducible from their seed, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usedge import cli
from usedge.labelled import load_labelled
from usedge.synth.hard_kinds import KINDS, resized

PEAK, SAMPLES, N = 4000, 1600, 6
EVAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "eval"


def recorded(path: Path, f0_hz: float, fs_hz: float, seed: int, **changes: Any) -> Path:
    """A file with N clean 4-cycle echoes on noise of rms 2 and N gates of that noise alone."""
    rng = np.random.default_rng(seed)
    onset = np.append(rng.uniform(700, 900, N), np.full(N, np.nan))
    t = (np.arange(SAMPLES) - np.nan_to_num(onset, nan=9e9)[:, None]) * f0_hz / fs_hz
    x = np.where((t > 0) & (t < 4), np.sin(np.pi * np.clip(t / 4, 0, 1)) * np.sin(2 * np.pi * t), 0.0)
    x = np.round(PEAK * x + rng.normal(0, 2, x.shape)).astype(np.int16)
    arrays = {"x": x, "fs_hz": fs_hz, "t0_s": 3e-6, "f0_hz": f0_hz, "tof_s": 3e-6 + onset / fs_hz, **changes}
    np.savez(path, **arrays)
    return path


def ring_down(path: Path) -> Path:
    t = np.arange(400)
    x = 20000 * np.exp(-t / 30) * np.cos(2 * np.pi * t / 8) + np.random.default_rng(5).normal(0, 1, (4, 400))
    np.savez(path, x=np.round(x).astype(np.int16), fs_hz=16e6, t0_s=0.0, f0_hz=2e6, tof_s=np.full(4, np.nan))
    return path


@pytest.fixture
def parents(tmp_path: Path) -> list[Path]:
    return [recorded(tmp_path / "tank.npz", 2e6, 32e6, 1), recorded(tmp_path / "pipe.npz", 4e6, 50e6, 2),
            ring_down(tmp_path / "ring.npz")]


def harden(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run ``usedge harden`` as from a shell and give its exit status."""
    monkeypatch.setattr(sys, "argv", ["usedge", "harden", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def made(folder: Path, kind: str, parent: str = "tank") -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """A file made, and what was added to each of its A-scans: (n, SAMPLES) counts."""
    with np.load(folder / f"{kind}-{parent}.npz") as arrays:
        found = dict(arrays)
    with np.load(folder.parent / f"{parent}.npz") as arrays:
        return found, found["x"].astype(float) - arrays["x"][found["parent_row"]]


def places(found: dict[str, Any], key: str = "tof_s") -> np.ndarray[Any, Any]:
    """Labels (n,) in samples from the A-scan's start."""
    place: np.ndarray[Any, Any] = (found[key] - found["t0_s"]) * found["fs_hz"]
    return place


@pytest.fixture
def hard(tmp_path: Path, parents: list[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    assert harden(monkeypatch, *parents, "-o", tmp_path / "hard", "--count", 12) == 0
    return tmp_path / "hard"


def test_what_was_written_is_said(parents: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "hard"
    assert harden(monkeypatch, *parents, "-o", out, "--count", 3, "--kinds", "clip,empty", "--seed", 4) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["seed"] == 4
    assert {(each["file"], each["kind"], each["n"]) for each in said["files"]} == {
        (str(out / f"{kind}-{parent}.npz"), kind, 3) for kind in ("clip", "empty")
        for parent in ("tank", "pipe")}


def test_gates_that_suit_no_kind_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded(tmp_path / "tank.npz", 2e6, 32e6, 1, label_point="peak")
    assert harden(monkeypatch, path, "-o", tmp_path / "hard", "--kinds", "clip,overlap") == 2
    assert "no gate of these files suits clip, overlap." in capsys.readouterr().err


def test_every_kind_and_parent_is_a_labelled_file(hard: Path) -> None:
    assert {path.name for path in hard.iterdir()} == {
        f"{kind}-{parent}.npz" for kind in KINDS for parent in ("tank", "pipe")}
    for path in hard.iterdir():
        labelled = load_labelled(path)
        kind, _, parent = path.stem.partition("-")
        assert len(labelled) == 12
        assert labelled.has_echo.all() == (kind != "empty")
        assert labelled.has_echo.any() == (kind != "empty")
        assert labelled.source.startswith(f"hard {kind}: from {parent}")
        assert labelled.source.endswith("; seed 0")
        assert labelled.fs_hz == {"tank": 32e6, "pipe": 50e6}[parent]


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(
        hard: Path, parents: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    assert harden(monkeypatch, *parents, "-o", again, "--count", 12, "--kinds", "weak,noise") == 0
    assert harden(monkeypatch, *parents, "-o", other, "--count", 12, "--kinds", "weak", "--seed", 1) == 0
    for path in again.iterdir():
        assert path.read_bytes() == (hard / path.name).read_bytes()
    assert len(list(again.iterdir())) == 4
    with np.load(other / "weak-tank.npz") as fresh, np.load(hard / "weak-tank.npz") as old:
        assert int(fresh["seed"]) == 1
        assert not np.array_equal(fresh["tof_s"], old["tof_s"])


@pytest.mark.parametrize("kind", ["ring", "noise", "foreign", "overlap", "clip"])
def test_labels_are_the_parents_where_the_echo_stays(hard: Path, parents: list[Path], kind: str) -> None:
    found, added = made(hard, kind)
    with np.load(parents[0]) as parent:
        np.testing.assert_allclose(found["tof_s"], parent["tof_s"][found["parent_row"]])
    assert (np.abs(added).max(axis=1) > 20).all(), "something was done to every A-scan"


def test_ring_down_is_loud_at_the_start_and_gone_at_the_echo(hard: Path) -> None:
    found, added = made(hard, "ring")
    for place, extra, level_db in zip(places(found), added, found["level_db"], strict=True):
        assert np.abs(extra[: SAMPLES // 4]).max() == pytest.approx(PEAK * 10 ** (level_db / 20), rel=0.05)
        assert np.abs(extra[int(place) - 8 :]).max() <= 0.19 * PEAK


def test_noise_has_the_drawn_snr(hard: Path) -> None:
    found, added = made(hard, "noise")
    assert found["level_db"].min() >= 10
    assert found["level_db"].max() <= 20
    np.testing.assert_allclose(20 * np.log10(PEAK / added.std(axis=1)), found["level_db"], atol=0.5)


def test_a_foreign_packet_before_the_echo_is_under_20_db(hard: Path) -> None:
    early = 0
    for parent in ("tank", "pipe"):
        found, added = made(hard, "foreign", parent)
        for place, extra in zip(places(found), added, strict=True):
            assert np.abs(extra[: int(place)]).max() <= 0.102 * PEAK
            early += np.abs(extra[: int(place)]).max() > 20
    assert 0 < early < 24


def test_an_overlapping_echo_begins_half_a_period_later_or_more(hard: Path) -> None:
    found, added = made(hard, "overlap")
    period = 16
    for place, extra, level_db in zip(places(found), added, found["level_db"], strict=True):
        assert np.abs(extra[: int(place + 0.25 * period)]).max() <= 0.02 * PEAK
        assert np.abs(extra).max() == pytest.approx(PEAK * 10 ** (level_db / 20), rel=0.05)


def test_clipping_holds_the_echo_at_the_rails(hard: Path) -> None:
    found, _ = made(hard, "clip")
    for x, level_db in zip(found["x"].astype(float), found["level_db"], strict=True):
        centred = x - np.median(x)
        assert np.abs(centred).max() <= 1.02 * PEAK
        # A gain of g leaves |sin| above 1/g at the rail: more of the echo the higher it is.
        railed = (np.abs(centred) >= np.abs(centred).max() - 2).sum()
        assert railed > (8 if level_db < 10 else 16)


def test_a_weak_first_echo_is_the_labelled_one(hard: Path) -> None:
    found, added = made(hard, "weak")
    first, later = places(found), places(found, "later_tof_s")
    assert (later - first > 3 * 16 - 1).all()
    for place, extra, level_db in zip(first, added, found["level_db"], strict=True):
        assert -20 <= level_db <= -12
        assert np.abs(extra).max() == pytest.approx(PEAK * 10 ** (level_db / 20), rel=0.1)
        assert np.abs(extra[: int(place - 32)]).max(initial=0) <= 4
        begins = int(np.flatnonzero(np.abs(extra) > 0.3 * np.abs(extra).max())[0])
        assert 0 <= begins - place <= 1.5 * 16


def test_empty_gates_are_noise_and_ring_down(hard: Path) -> None:
    found, added = made(hard, "empty")
    assert np.isnan(found["tof_s"]).all()
    quarter = SAMPLES // 4
    loud = np.abs(added[:, :quarter]).max(axis=1) / np.abs(added[:, -quarter:]).max(axis=1).clip(1)
    assert np.median(loud) > 5


def test_resizing_keeps_a_tone_and_its_ends() -> None:
    t = np.arange(400) / 400
    x = np.cos(2 * np.pi * 7 * t)
    finer = resized(x, 1000)
    np.testing.assert_allclose(finer, np.cos(2 * np.pi * 7 * np.arange(1000) / 1000), atol=0.02)
    np.testing.assert_allclose(resized(finer, 400), x, atol=0.02)


@pytest.mark.parametrize(("chosen", "kinds", "says"), [
    ((0, 1), "ring", "none of the files has ring-down"),
    ((0, 1), "empty", "or leave empty out of --kinds."),
    ((2,), "noise", "none of the files has an empty gate that holds noise alone"),
    ((2,), "overlap", "none of the files has an echo of at least 26 dB"),
    ((0, 2), "foreign", "foreign packets are cut from another file"),
    ((0,), "ringing", "kind ringing is unknown. The nearest known one is ring."),
    ((0, 0), "clip", "two files are called tank"),
])
def test_what_the_files_lack_is_said_and_nothing_written(
        parents: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str], chosen: tuple[int, ...], kinds: str, says: str) -> None:
    files = [parents[i] for i in chosen]
    assert harden(monkeypatch, *files, "-o", tmp_path / "hard", "--kinds", kinds) == 2
    out, err = capsys.readouterr()
    assert says in err
    assert err.count("\n") == 1
    assert out == ""
    assert not list(tmp_path.glob("hard/*"))


def test_a_packet_in_an_empty_gate_is_not_taken_for_noise(tmp_path: Path, parents: list[Path],
                                                          monkeypatch: pytest.MonkeyPatch,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(parents[0]) as arrays:
        odd = dict(arrays)
    odd["x"][N:, 700:760] += np.round(60 * np.sin(2 * np.pi * np.arange(60) / 16)).astype(np.int16)
    np.savez(parents[0], **odd)
    assert harden(monkeypatch, parents[0], "-o", tmp_path / "hard", "--kinds", "noise") == 2
    assert "holds noise alone" in capsys.readouterr().err


@pytest.mark.skipif(not EVAL.is_dir(), reason="the recorded A-scans (../shared/data/eval) are not here")
def test_recorded_files_are_hardened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    names = ("lit3rick", "line_if2", "un0_ndt24", "wulpus_ring")
    files = [EVAL / f"{name}.npz" for name in names]
    assert harden(monkeypatch, *files, "-o", tmp_path / "hard", "--count", 6) == 0
    made_of = {(each["kind"], Path(each["file"]).stem.partition("-")[2])
               for each in json.loads(capsys.readouterr().out)["files"]}
    assert made_of >= {(kind, name) for kind in ("ring", "noise", "foreign", "clip") for name in names[:3]}
    assert {kind for kind, _ in made_of} == set(KINDS)
    assert all(len(load_labelled(path)) == 6 for path in (tmp_path / "hard").iterdir())
