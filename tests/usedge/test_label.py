"""`usedge label`: what is proposed and in which order, what is kept through any ending, what is written."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import pytest

from usedge import cli
from usedge.ascan import AScan
from usedge.cli import label as command
from usedge.errors import InputError
from usedge.labelled import load_labelled, load_unlabelled
from usedge.labelling.proposals import propose
from usedge.labelling.session import Session, journal_path
from usedge.labelling.task import Task, read_task
from usedge.spec import Gate
from usedge.tof import Pick, classical_picker

FS_HZ, F0_HZ, T0_S, SAMPLES, N = 20e6, 2e6, 4e-6, 1000, 8
ONSETS = np.array([300, 350, 400, 450, 500, 550, np.nan, np.nan])
PERIOD_US = 1e6 / F0_HZ
EVAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "eval"


def arrays() -> dict[str, Any]:
    """A-scans with one 3-cycle echo each, the last two with noise alone; no labels."""
    rng = np.random.default_rng(5)
    t = (np.arange(SAMPLES) - np.nan_to_num(ONSETS, nan=9e9)[:, None]) * F0_HZ / FS_HZ
    x = np.where((t > 0) & (t < 3), np.sin(np.pi * np.clip(t / 3, 0, 1)) * np.sin(2 * np.pi * t), 0.0)
    x = np.round(3000 * x + rng.normal(0, 20, x.shape)).astype(np.int16)
    return {"x": x, "fs_hz": FS_HZ, "t0_s": T0_S, "f0_hz": F0_HZ}


def write(path: Path, **changes: Any) -> Path:
    np.savez(path, **{name: value for name, value in (arrays() | changes).items() if value is not None})
    return path


class Model:
    """Stands for the network: what AIC says, but row 1 two periods late, row 2 without an echo, row 3 unsure,
    row 6 with an echo where there is none.
    """

    def pick(self, gated: AScan) -> Pick:
        pick = classical_picker("aic", F0_HZ).pick(gated)
        if gated.seq == 1:
            return replace(pick, tof_us=(pick.tof_us or 0) + 2 * PERIOD_US, confidence=0.97)
        if gated.seq == 2:
            return Pick(None, 0.8, 30.0, abstain="no_echo")
        if gated.seq == 6:
            return Pick(20.0, 0.6, 12.0)
        return replace(pick, confidence=0.5 if gated.seq == 3 else 0.99)

    def close(self) -> None:
        pass


@pytest.fixture
def tank(tmp_path: Path) -> Path:
    return write(tmp_path / "tank.npz")


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usedge.runtime.picker.load_model_picker", lambda *_: Model())


def session_on(path: Path, out: Path | None = None, **options: Any) -> Session:
    task = read_task(path, **options)
    return Session(task, propose(task, Model(), "aic"), out or path.with_name("out.npz"), "aic")


def label(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run ``usedge label`` as from a shell and give its exit status."""
    monkeypatch.setattr(sys, "argv", ["usedge", "label", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def proposals(task: Task) -> list[Any]:
    return propose(task, Model(), "aic")


def test_doubtful_ones_come_first_and_the_least_confident_first_among_them(tank: Path) -> None:
    made = proposals(read_task(tank))
    assert [each.row for each in made[:5]] == [6, 2, 1, 3, 7]
    assert [each.kind for each in made] == ["one", "one", "apart", "unsure", "none", *["agree"] * 3]


def test_every_proposal_says_why(tank: Path) -> None:
    why = {each.row: each.why("aic") for each in proposals(read_task(tank))}
    assert why[1] == "The model and aic are 2.0 periods apart."
    assert why[2] == "aic finds an echo, the model does not."
    assert why[3] == "The model and aic agree to 0.00 periods; the model is not sure (0.50)."
    assert why[6] == "The model finds an echo, aic does not."
    assert why[7] == "Neither the model nor aic finds an echo."


def test_the_onset_proposed_is_near_the_echo_and_none_where_there_is_none(tank: Path) -> None:
    by_row = {each.row: each.tof_us for each in proposals(read_task(tank))}
    for row in (0, 3, 4, 5):
        assert by_row[row] == pytest.approx((T0_S + ONSETS[row] / FS_HZ) * 1e6, abs=PERIOD_US / 2)
    assert by_row[7] is None


def test_consensus_asks_for_the_confidence_given(tank: Path) -> None:
    kinds = {each.row: each.kind for each in propose(read_task(tank), Model(), "aic", confidence=0.4)}
    assert kinds[3] == "agree"


def test_a_missing_centre_frequency_is_estimated_but_not_written(tmp_path: Path) -> None:
    session = session_on(write(tmp_path / "a.npz", f0_hz=None))
    assert session.task.f0_hz == pytest.approx(F0_HZ, rel=0.1)
    session.accept_consensus()
    session.write()
    session.close()
    assert load_labelled(session.out).f0_hz is None


def test_the_written_file_keeps_rows_labels_gates_and_who_decided(tank: Path) -> None:
    session = session_on(tank, gate=Gate(10.0, 30.0))
    picks = {each.row: each for each in session.proposals}
    session.accept_consensus()
    session.decide(1, "onset", picks[1].model.tof_us)
    session.decide(2, "onset", 23.4)
    session.decide(7, "no_echo")
    session.decide(3, "skipped")
    session.write()
    session.close()
    written = load_labelled(session.out)
    with np.load(session.out) as file:
        rows, names = file["row"].tolist(), file["decided_by_names"]
        by = dict(zip(rows, names[file["decided_by"]].tolist(), strict=True))
    assert by == {0: "consensus", 1: "person", 2: "moved", 4: "consensus", 5: "consensus", 7: "person"}
    np.testing.assert_array_equal(written.x, arrays()["x"][rows])
    assert written.x.dtype == np.int16
    np.testing.assert_allclose(written.gate_s, np.tile([10e-6, 30e-6], (6, 1)))
    expected = [picks[0].tof_us, picks[1].model.tof_us, 23.4, picks[4].tof_us, picks[5].tof_us, np.nan]
    np.testing.assert_allclose(written.tof_s * 1e6, expected, rtol=1e-12)
    assert (written.label_point, written.source, written.t0_s) == ("onset", "tank.npz", T0_S)
    np.testing.assert_array_equal(written.f0_hz, np.full(6, F0_HZ))


def test_onsets_of_the_file_are_kept_and_may_be_changed(tmp_path: Path) -> None:
    tof_s = np.full(N, np.nan)
    tof_s[[0, 1]] = T0_S + 301 / FS_HZ, T0_S + 352 / FS_HZ
    session = session_on(write(tmp_path / "partly.npz", tof_s=tof_s, label_point="onset"))
    assert session.counts()["kept"] == 2
    session.decide(1, "no_echo")
    session.undo()
    session.decide(0, "onset", 20.0)
    session.write()
    session.close()
    with np.load(session.out) as file:
        np.testing.assert_array_equal(file["decided_by_names"][file["decided_by"]], ["moved", "input"])
        assert file["tof_s"][0] == pytest.approx(20e-6, rel=1e-12)
        assert file["tof_s"][1] == tof_s[1]


def test_labels_of_peaks_and_labels_outside_the_gate_asked_for_are_left_to_decide(tmp_path: Path) -> None:
    tof_s = T0_S + np.full(N, 301.0) / FS_HZ
    assert read_task(write(tmp_path / "a.npz", tof_s=tof_s, label_point="peak")).ascans.has_echo.sum() == 0
    late = read_task(write(tmp_path / "b.npz", tof_s=tof_s), gate=Gate(25.0, 20.0))
    assert late.ascans.has_echo.sum() == 0


def test_undo_takes_one_decision_back_at_a_time(tank: Path) -> None:
    session = session_on(tank)
    session.decide(1, "skipped")
    session.decide(1, "no_echo")
    assert len(session.accept_consensus()) == 3
    assert sorted(session.undo()) == [0, 4, 5]
    assert session.undo() == [1]
    assert session.decisions[1].label == "skipped"
    assert session.undo() == [1]
    assert session.undo() == []
    assert session.decisions == {}
    session.close()


def decided(session: Session) -> Session:
    session.decide(1, "onset", 21.500000000000004)
    session.decide(2, "no_echo")
    session.decide(3, "skipped")
    session.undo()
    session.accept_consensus()
    return session


def test_a_killed_session_goes_on_exactly_where_it_was(tank: Path) -> None:
    first = decided(session_on(tank))
    before, counts = dict(first.decisions), first.counts()
    first.journal.close()  # and nothing more: as if killed
    again = session_on(tank)
    assert again.resumed
    assert (again.decisions, again.counts()) == (before, counts)
    assert sorted(again.undo()) == [0, 4, 5]
    assert again.undo() == [2]
    again.close()


@pytest.mark.parametrize("cut", [1, 9, 30])
def test_a_line_that_a_crash_cut_short_is_left_out_and_all_before_it_kept(tank: Path, cut: int) -> None:
    first = session_on(tank)
    first.decide(1, "no_echo")
    first.decide(2, "onset", 23.456789)
    first.close()
    journal = journal_path(first.out)
    journal.write_bytes(journal.read_bytes()[:-cut])
    again = session_on(tank)
    assert again.journal.cut_short
    assert set(again.decisions) == {1}
    again.decide(2, "skipped")
    again.close()
    once_more = session_on(tank)
    assert {row: each.label for row, each in once_more.decisions.items()} == {1: "no_echo", 2: "skipped"}
    once_more.close()


@pytest.mark.parametrize(("line", "says"), [
    (b"{half\n", "damaged in line 3"), (b"[1]\n", "damaged in line 3"), (b"{}\n", "line 3"),
    (b'{"set": [[99, "no_echo", null]]}\n', "line 3"), (b'{"set": [[1, "moved", 9000]]}\n', "line 3"),
    (b'{"set": [[1, "moved", null]]}\n', "line 3"), (b'{"set": [[1, "guessed", 20]]}\n', "line 3"),
    (b'{"undo": 1}\n{"undo": 1}\n', "line 4"),
])
def test_a_damaged_journal_is_refused_and_left_as_it_is(tank: Path, line: bytes, says: str) -> None:
    first = session_on(tank)
    first.decide(1, "no_echo")
    first.close()
    journal = journal_path(first.out)
    journal.write_bytes(content := journal.read_bytes() + line)
    with pytest.raises(InputError, match=says):
        session_on(tank)
    assert journal.read_bytes() == content


def test_a_journal_belongs_to_its_a_scans_and_its_gate(tank: Path) -> None:
    first = session_on(tank)
    first.decide(1, "no_echo")
    first.close()
    with pytest.raises(InputError, match="another gate"):
        session_on(tank, gate=Gate(10.0, 20.0))
    write(tank, x=arrays()["x"][::-1])
    with pytest.raises(InputError, match="other A-scans"):
        session_on(tank)


def test_two_sessions_cannot_share_a_journal(tank: Path) -> None:
    first = session_on(tank)
    with pytest.raises(InputError, match="at work"):
        session_on(tank)
    first.close()


def test_a_session_without_a_decision_leaves_nothing_behind(tank: Path) -> None:
    session_on(tank).close()
    assert [item.name for item in tank.parent.iterdir()] == ["tank.npz"]


def test_only_what_this_session_wrote_is_written_over(tank: Path) -> None:
    first = session_on(tank)
    first.decide(7, "no_echo")
    first.write()
    first.close()
    second = session_on(tank)
    second.decide(0, "onset", 19.0)
    second.write()
    second.close()
    assert len(load_labelled(second.out)) == 2
    np.savez(second.out, x=1)
    with pytest.raises(InputError, match="this session did not write it"):
        session_on(tank)


def test_a_decision_that_the_disk_does_not_take_is_not_taken(tank: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_on(tank)
    session.decide(1, "no_echo")

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(InputError, match="No space left"):
            session.decide(2, "no_echo")
    assert set(session.decisions) == {1}
    session.decide(3, "skipped")
    session.close()
    assert set(session_on(tank).decisions) == {1, 3}


def test_consensus_alone_is_written_by_a_script_and_every_a_scan_accounted_for(
        tank: Path, model: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert label(monkeypatch, tank, "--accept-consensus") == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result == {"file": str(tank.parent / "tank-labelled.npz"), "written": 3, "rows": 8, "kept": 0,
                      "consensus": 3, "accepted": 0, "moved": 0, "no_echo": 0, "skipped": 0, "left": 5}
    assert "5 are left undecided" in err
    written = load_labelled(result["file"])
    np.testing.assert_allclose(written.tof_s, T0_S + ONSETS[[0, 4, 5]] / FS_HZ, atol=0.5 / F0_HZ)
    assert label(monkeypatch, tank, "--accept-consensus") == 0
    assert "resumed" in capsys.readouterr().err


def test_no_consensus_writes_nothing_and_fails(tank: Path, model: None, monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    assert label(monkeypatch, tank, "--accept-consensus", "--confidence", "1") == 2
    out, err = capsys.readouterr()
    assert (json.loads(out)["file"], json.loads(out)["left"]) == (None, 8)
    assert "none has an onset by consensus" in err
    assert [item.name for item in tank.parent.iterdir()] == ["tank.npz"]


def in_browser(monkeypatch: pytest.MonkeyPatch, act: Callable[[str], None]) -> None:
    """Let ``act`` play the person, from a thread of its own, once the page is there."""
    pytest.importorskip("uvicorn", reason="the extra web is not installed")
    monkeypatch.setattr(command, "_open_browser",
                        lambda url: threading.Thread(target=act, args=(url,), daemon=True).start())


def post(url: str, **body: Any) -> dict[str, Any]:
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=60) as response:
        return dict(json.loads(response.read()))


def test_finish_writes_the_file_and_ends_with_0(tank: Path, model: None, monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    def person(url: str) -> None:
        post(f"{url}api/decide", row=1, label="onset", tof_us=21.25)
        post(f"{url}api/decide", row=7, label="no_echo")
        post(f"{url}api/finish")

    in_browser(monkeypatch, person)
    assert label(monkeypatch, tank) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["written"], result["moved"], result["no_echo"], result["left"]) == (2, 1, 1, 6)
    assert load_labelled(result["file"]).tof_s[0] == pytest.approx(21.25e-6, rel=1e-12)


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_session_writes_what_is_decided_and_says_what_is_kept(
        tank: Path, model: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
        name: signal.Signals) -> None:
    def person(url: str) -> None:
        post(f"{url}api/decide", row=7, label="no_echo")
        os.kill(os.getpid(), name)

    in_browser(monkeypatch, person)
    assert label(monkeypatch, tank) == 130
    out, err = capsys.readouterr()
    assert json.loads(out)["no_echo"] == 1
    assert "interrupted. Every decision is kept in" in err
    assert len(load_labelled(tank.parent / "tank-labelled.npz")) == 1
    again = session_on(tank, tank.parent / "tank-labelled.npz")
    assert set(again.decisions) == {7}
    again.close()


NAN_ROW = np.where(np.arange(N)[:, None] == 3, np.nan, arrays()["x"].astype(float))


@pytest.mark.parametrize(("words", "changes", "says"), [
    (["lost.npz"], {}, "there is no file lost.npz"),
    (["tank.npz", "-o", "tank.npz"], {}, "tank.npz is the input itself"),
    (["tank.npz", "-o", "x.h5"], {}, "written as .npz, not to x.h5"),
    (["tank.npz", "-o", "no/such/x.npz"], {}, "there is no folder no/such"),
    (["tank.npz", "-o", "there.npz"], {}, "there.npz exists"),
    (["tank.npz", "--gate", "50:40"], {}, "the gate 50–90 µs is not inside the A-scan"),
    (["tank.npz", "--gate", "50"], {}, "gate '50' is not START:WIDTH"),
    (["tank.npz", "--gate", "10:0.2"], {}, "row 0: the gate holds 4 samples"),
    (["tank.npz", "--f0", "2250000"], {}, "is not between 0 and fs/2 (10 MHz)"),
    (["tank.npz", "--f0-mhz", "nan"], {}, "--f0-mhz nan"),
    (["tank.npz", "--method", "magic"], {}, "no method 'magic'"),
    (["tank.npz"], {"x": NAN_ROW}, "NaN or infinity in row 3"),
    (["tank.npz"], {"fs_hz": None}, "has no array 'fs_hz'"),
    (["tank.npz"], {"f0_hz": 40e6}, "is not between 0 and fs/2"),
])
def test_bad_input_is_one_line_and_status_2(
        tmp_path: Path, model: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
        words: list[str], changes: dict[str, Any], says: str) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "tank.npz", **changes)
    (tmp_path / "there.npz").write_bytes(b"someone's")
    assert label(monkeypatch, *words, "--accept-consensus") == 2
    out, err = capsys.readouterr()
    assert says in err
    assert (err.count("\n"), out) == (1, "")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["tank.npz", "there.npz"]


def test_hdf5_and_a_file_without_t0_are_read(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "tank.h5", "w") as file:
        for name, value in arrays().items():
            file[name] = value
    assert load_unlabelled(tmp_path / "tank.h5").t0_s == T0_S
    assert np.isnan(load_unlabelled(tmp_path / "tank.h5").tof_s).all()
    assert load_unlabelled(write(tmp_path / "bare.npz", t0_s=None, f0_hz=None)).t0_s == 0


@pytest.mark.skipif(not EVAL.is_dir(), reason="the recorded A-scans (../shared/data/eval) are not here")
def test_consensus_on_recorded_a_scans_is_right_within_a_period(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    truth = load_labelled(EVAL / "line_if2.npz")
    path = tmp_path / "line.npz"
    np.savez(path, x=truth.x, fs_hz=truth.fs_hz, t0_s=truth.t0_s, f0_hz=truth.f0_hz, gate_s=truth.gate_s)
    assert label(monkeypatch, path, "--accept-consensus") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["consensus"] > 0.5 * len(truth)
    written = load_labelled(result["file"])
    with np.load(result["file"]) as file:
        error_s = np.abs(written.tof_s - truth.tof_s[file["row"]])
    assert truth.f0_hz is not None
    assert (error_s * truth.f0_hz[0] < 1).mean() > 0.9
