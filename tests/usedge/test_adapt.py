"""Few-shot adaptation: cuts that keep their labels, the mix, what is left out, the table, and refusals."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

from torch import Tensor, nn  # noqa: E402

from usedge import cli  # noqa: E402
from usedge.cli import adaptation  # noqa: E402
from usedge.errors import InputError  # noqa: E402
from usedge.labelled import LabelledSet, load_labelled  # noqa: E402
from usedge.models.checkpoint import load_checkpoint  # noqa: E402
from usedge.models.config import MAEConfig  # noqa: E402
from usedge.spec import SignalSpec  # noqa: E402
from usedge.synth import generate  # noqa: E402
from usedge.training import adapt, tasks  # noqa: E402
from usedge.training.adapt import Adapter, left_out  # noqa: E402
from usedge.training.cuts import LEAST_CYCLES, OwnGate, OwnStream, cut, drawn, own_gates, rows_of  # noqa: E402
from usedge.training.loop import TrainSettings  # noqa: E402
from usedge.training.stream import Batch  # noqa: E402
from usedge.training.tasks import Downstream, finetune  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

FS_HZ, F0_HZ = 25e6, 2.5e6
CYCLE = FS_HZ / F0_HZ
SPEC = SignalSpec(zoom=51.2)
TINY = MAEConfig(d_model=16, heads=2, d_head=8, mlp_hidden=16, encoder_layers=1, decoder_layers=1)
SETTINGS = TrainSettings(ascans=24, batch=8, base_rate=0.02, warmup_ascans=8, rehearsal=0.5, workers=0,
                         precision="32-true")
"""Three steps."""
FIGURES = {"hit_half_period", "hit_one_period", "raw_hit_half_period", "bias_ns", "median_abs_ns",
           "p95_abs_ns", "abstain_rate", "miss_rate", "false_alarm_rate", "no_echo_errors"}


def burst(onset: NDArray[np.float64], samples: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """A-scans (n, samples) with noise and, from ``onset (n,)`` on, four cycles; NaN = none."""
    t = (np.arange(samples) - np.nan_to_num(onset, nan=2.0 * samples)[:, None]) / CYCLE
    echo = np.where((t >= 0) & (t < 4), np.sin(np.pi * t / 4) ** 2 * np.sin(2 * np.pi * t), 0.0)
    return np.round(1000 * echo + 10 * rng.standard_normal(t.shape)).astype(np.int16)


def board(echoes: int = 12, empties: int = 4, samples: int = 1200, **arrays: Any) -> LabelledSet:
    """A board's file: bursts at random places, then gates without one."""
    rng = np.random.default_rng(5)
    onset = np.concatenate([rng.uniform(300, 900, echoes), np.full(empties, np.nan)])
    gate_s = np.tile([0.0, samples / FS_HZ], (len(onset), 1))
    return replace(LabelledSet(burst(onset, samples, rng), FS_HZ, 0.0, onset / FS_HZ, gate_s,
                               np.full(len(onset), F0_HZ), path=Path("mine.npz")), **arrays)


def write(path: str, **changed: Any) -> None:
    """The board's file on disk, with arrays ``changed``."""
    mine = board()
    arrays = {"x": mine.x, "fs_hz": FS_HZ, "t0_s": 0.0, "tof_s": mine.tof_s, "f0_hz": F0_HZ,
              "gate_s": mine.gate_s} | changed
    np.savez(path, **arrays)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tasks, "VALIDATION_ASCANS", 256)


@pytest.fixture(autouse=True)
def ctrl_c_interrupts() -> Iterator[None]:
    """Also where the tests were started with SIGINT ignored, as shells start background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def start() -> Path:
    """A finished, tiny ToF checkpoint."""
    finetune(replace(SETTINGS, rehearsal=0.0), Downstream(config=TINY, spec=SPEC), Path("tof"))
    return Path("tof/last")


def adapter(start: Path, out: str, labelled: LabelledSet | None = None, **changed: Any) -> Adapter:
    checkpoint = load_checkpoint(start)
    find = changed.pop("find", adaptation.finder(checkpoint, 0.5))
    return Adapter(replace(SETTINGS, **changed), start, labelled or board(), Path(out), find)


# Cuts


@st.composite
def gates(draw: st.DrawFn) -> OwnGate:
    """A gate of nothing but one sample, where its onset is; or of none."""
    n = draw(st.integers(64, 4000))
    cycle = draw(st.floats(2.7, 80.0))
    onset = draw(st.integers(0, n - 1) | st.none())
    samples = np.zeros(n, np.float32)
    if onset is not None:
        samples[onset] = -1000.0
    return OwnGate(samples, math.nan if onset is None else float(onset), math.nan, cycle, 1000.0)


@settings(max_examples=300, deadline=None)
@given(gates(), st.integers(0, 2**31))
def test_labels_move_with_the_cut_and_polarity_stays(gate: OwnGate, seed: int) -> None:
    n = len(gate.samples)
    first, stop = cut(gate, np.random.default_rng(seed))
    assert 0 <= first < stop <= n
    assert stop - first >= min(n, max(64, LEAST_CYCLES * gate.cycle))
    x, truth = drawn(gate, np.random.default_rng(seed))
    assert x.shape == (1, stop - first)
    if math.isnan(gate.onset):
        assert np.isnan(truth.onset[0])
        assert truth.presence[0] == 0
    else:
        assert truth.onset[0] == gate.onset - first
        assert int(np.argmin(x[0])) == truth.onset[0]
        assert x[0].min() < -100


def test_the_onset_of_a_gate_stands_in_many_places() -> None:
    """Of one gate: in whole gates and in those of the second pass, where the label says."""
    gate = own_gates(board(echoes=1, empties=0))
    batch = OwnStream(gate, 1, 200, SPEC)[0]
    onset = batch.onset.numpy()
    assert len({int(place) for place in onset}) > 15
    # Four cycles under a Hann window: the largest lobe is 1.75 cycles behind the onset, or 2.25.
    behind = batch.x.abs().argmax(dim=1).numpy() / SPEC.patch - onset
    # Under the most noise another lobe may be the largest.
    assert np.mean(np.abs(behind / batch.period.numpy() - 2.0) < 0.4) > 0.97
    zoomed = np.isclose(batch.period.numpy() * SPEC.patch, 40, rtol=0.35)
    assert 30 < zoomed.sum() < 170
    assert len({row.numpy().tobytes() for row in batch.x}) > 150


def test_own_batches_depend_on_seed_and_index_alone_and_show_every_row() -> None:
    mine = own_gates(board(echoes=6, empties=2))
    stream = OwnStream(mine, 3, 8, SPEC)
    assert torch.equal(stream[4].x, OwnStream(mine, 3, 8, SPEC)[4].x)
    assert not torch.equal(stream[4].x, stream[5].x)
    assert not torch.equal(stream[4].x, OwnStream(mine, 4, 8, SPEC)[4].x)
    for i in range(3):
        assert int(stream[i].presence.sum()) == 6
        assert int(stream[i].onset.isnan().sum()) == 2


def test_arrivals_are_measured_where_the_synthesis_put_them() -> None:
    synth = generate("field", 300, 3, 2048)
    clear = synth.snr_db > 30
    x, fs_hz = synth.x[clear], 40e6
    gate_s = np.tile([0.0, 2048 / fs_hz], (len(x), 1))
    mine = LabelledSet(x, fs_hz, 0.0, synth.onset[clear] / fs_hz, gate_s, fs_hz / synth.cycle[clear])
    found = np.array([gate.arrival for gate in own_gates(mine)])
    off = np.abs(found - synth.arrival[clear]) / synth.cycle[clear]
    known = np.isfinite(off)
    assert known.mean() > 0.5
    assert np.median(off[known]) < 0.5
    assert all(math.isnan(gate.arrival) for gate in own_gates(replace(mine, label_point="peak")))


# What is left out


def test_blocks_of_neighbours_are_left_out_and_copies_are_never_learnt() -> None:
    mine = board(echoes=9, empties=6)
    x = mine.x.copy()
    x[8] = x[0]
    pairs = left_out(replace(mine, x=x))
    assert [held.tolist() for _, held in pairs] == [[0, 1, 2, 9, 10], [3, 4, 5, 11, 12], [6, 7, 8, 13, 14]]
    assert [8 in learnt for learnt, _ in pairs] == [False, True, False]
    for learnt, held in pairs:
        assert not set(learnt) & set(held)
    assert sum(len(learnt) for learnt, _ in pairs) == 3 * 10 - 2


def test_a_file_of_copies_has_nothing_to_leave_out(start: Path) -> None:
    mine = board(echoes=6, empties=0)
    copies = replace(mine, x=np.repeat(mine.x[:1], 6, axis=0), tof_s=np.repeat(mine.tof_s[:1], 6))
    assert left_out(copies) == []
    done = adapter(start, "out", copies).run()
    assert done.report["left_out"] == {"folds": 0, "n_echo": 0, "n_empty": 0, "poor": True, "before": None,
                                       "after": None}
    assert "copies of one another" in adaptation.notes(done.report)[0]


def test_no_answer_of_the_table_is_by_a_network_that_learnt_its_row(start: Path) -> None:
    """Rows are told apart by their labels: what a network learnt, and what it is asked."""
    learnt: dict[int, set[float]] = {}
    asked: list[tuple[set[float], set[float]]] = []
    mine = board()
    trained = Adapter._trained

    def watched(self: Adapter, begin: Any, rows: NDArray[np.int64], *rest: Any) -> Any:
        result = trained(self, begin, rows, *rest)
        learnt[hash(result.weights["pointer.weight"].numpy().tobytes())] = set(mine.tof_s[rows])
        return result

    def find(model: nn.Module, labelled: LabelledSet) -> NDArray[np.float64]:
        known = learnt.get(hash(model.state_dict()["pointer.weight"].numpy().tobytes()), set())
        asked.append((known, set(labelled.tof_s)))
        return labelled.tof_s

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Adapter, "_trained", watched)
        adapter(start, "out", mine, find=find).run()
    assert len(asked) == 4
    echoes = set(mine.tof_s[mine.has_echo])
    assert all(known and not known & told & echoes for known, told in asked[1:])
    assert set().union(*(told for _, told in asked[1:])) >= echoes


# The mix, and the run


def test_batches_hold_their_share_of_fresh_ascans(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Batch] = []
    real = tasks.tof_loss

    def loss(model: nn.Module, batch: Batch, _generator: torch.Generator) -> Tensor:
        seen.append(batch)
        return real(model(batch.x), batch.onset, batch.arrival)

    monkeypatch.setitem(tasks.LOSSES, "tof", loss)
    report = adapter(start, "out", rehearsal=0.25).run().report
    assert len(seen) == 4 * 3
    assert {len(batch) for batch in seen} == {8}
    fresh = [row.numpy().tobytes() for batch in seen[-3:] for row in batch.x[6:]]
    assert len(set(fresh)) == 6
    assert report["ascans"] == {"own": 18, "fresh": 6}


def test_the_report_is_stored_beside_the_checkpoint_and_the_start_stays(start: Path) -> None:
    before = load_checkpoint(start).weights
    done = adapter(start, "out", board(empties=5)).run()
    report = json.loads(Path("out/adaptation.json").read_text())
    assert report == json.loads(json.dumps(done.report))
    assert set(report) == {
        "format_version", "start", "file", "sha256", "n", "n_echo", "n_empty", "label_point", "seed",
        "settings", "ascans", "label_shift_ns", "left_out", "synthetic", "margins", "worse", "checkpoint",
        "wall_s", "cpu_s"}
    own, synthetic = report["left_out"], report["synthetic"]
    assert (own["folds"], own["n_echo"], own["n_empty"], own["poor"]) == (3, 12, 5, True)
    assert set(own["before"]) == set(own["after"]) == FIGURES
    assert synthetic["ascans"] == 256
    for when in ("before", "after"):
        for key in ("hit_half_period", "missed", "false_alarms", "no_echo_errors"):
            assert 0 <= synthetic[when][key] <= 1
    stored = load_checkpoint(done.folder, "tof")
    assert isinstance(stored.record["scores"]["no_echo_threshold"], float)
    assert stored.record["scores"]["adaptation"] == report
    assert stored.record["origin"]["data"]["ascans"] == 17
    assert stored.record["settings"]["seed"] == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["adaptation.json", done.folder.name]
    assert all(torch.equal(load_checkpoint(start).weights[name], before[name]) for name in before)


def weights(folder: Path) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in load_checkpoint(folder).weights.items()}


def test_a_seed_says_all_and_an_interrupted_adaptation_resumes_to_the_bit(
    start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = adapter(start, "a").run()
    assert weights(adapter(start, "b").run().folder) == weights(first.folder)
    assert weights(adapter(start, "c", seed=1).run().folder) != weights(first.folder)
    real, taken = tasks.LOSSES["tof"], []

    def interrupted(*given: Any) -> Tensor:
        taken.append(1)
        if len(taken) == 8:
            signal.raise_signal(signal.SIGINT)
        return real(*given)

    monkeypatch.setitem(tasks.LOSSES, "tof", interrupted)
    with pytest.raises(KeyboardInterrupt):
        adapter(start, "d").run()
    assert sorted(path.name for path in Path("d").iterdir()) == ["adapting"]
    resumed = adapter(start, "d").run()
    assert len(taken) == 4 * 3  # nothing twice
    assert weights(resumed.folder) == weights(first.folder)
    assert resumed.report["left_out"] == first.report["left_out"]


@pytest.mark.parametrize("failing", ["write_whole", "save_checkpoint"])
def test_an_ending_between_two_files_is_mended_by_the_same_call(
    start: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(*_given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(adapt, failing, full)
        with pytest.raises(KeyboardInterrupt):
            adapter(start, "out").run()
    done = adapter(start, "out").run()
    assert sorted(path.name for path in Path("out").iterdir()) == ["adaptation.json", done.folder.name]
    with pytest.raises(InputError, match="out holds a run already"):
        adapter(start, "out")


def test_labels_of_peaks_are_moved_to_where_the_network_sees_the_echoes_begin(start: Path) -> None:
    mine = board(empties=0)
    late = replace(mine, tof_s=mine.tof_s + 1.5 / F0_HZ, label_point="peak")
    right = dict(zip((late.tof_s * 1e12).round(), mine.tof_s, strict=True))

    def find(_model: nn.Module, labelled: LabelledSet) -> NDArray[np.float64]:
        return np.array([right[round(tof * 1e12)] for tof in labelled.tof_s])

    done = adapter(start, "out", late, find=find).run()
    assert done.report["label_shift_ns"] == pytest.approx(-1.5e9 / F0_HZ)
    moved = own_gates(late, done.report["label_shift_ns"] * 1e-9)
    np.testing.assert_allclose([gate.onset for gate in moved], mine.tof_s * FS_HZ, atol=1e-6)
    assert "moved by -600 ns" in "".join(adaptation.notes(done.report))
    early = adapter(start, "b", mine, find=lambda _model, given: given.tof_s - 1e-6)
    assert early.run().report["label_shift_ns"] == 0


# Worse


def spoilt(_start: Any = None, _limit: Any = None) -> adapt.Find:
    """Right at first; what was adapted then answers nothing."""
    asked: list[int] = []

    def find(_model: nn.Module, labelled: LabelledSet) -> NDArray[np.float64]:
        asked.append(1)
        return labelled.tof_s if len(asked) == 1 else np.full(len(labelled), np.nan)

    return find


def test_what_became_worse_is_refused(start: Path) -> None:
    done = adapter(start, "out", find=spoilt()).run()
    assert "hits within half a period: 1.000 before, 0.000 after, on the left-out A-scans" in done.worse
    assert "no-echo errors: 0.000 before, 0.750 after, on the left-out A-scans" in done.worse
    assert done.folder == Path("out/refused")
    assert not Path("out/last").exists()
    assert json.loads(Path("out/adaptation.json").read_text())["checkpoint"] == "out/refused"


def test_one_ascan_more_or_less_is_not_worse_and_forgetting_is() -> None:
    def scores(hits: float, errors: float) -> dict[str, float]:
        return {"hit_half_period": hits, "no_echo_errors": errors}

    own = {"n_echo": 8, "n_empty": 2, "before": scores(1.0, 0.0), "after": scores(7 / 8, 0.1)}
    same = {"before": scores(0.65, 0.07), "after": scores(0.64, 0.08)}
    assert adapt._worse(own, same) == []
    assert len(adapt._worse(own | {"after": scores(6 / 8, 0.2)}, same)) == 2
    many = {"n_echo": 100, "n_empty": 0, "before": scores(0.9, 0.0), "after": scores(0.84, 0.0)}
    assert len(adapt._worse(many, same)) == 1
    forgotten = adapt._worse(own, same | {"after": scores(0.60, 0.10)})
    assert [line.partition(" ")[0] for line in forgotten] == ["hits", "no-echo"]
    assert all("synthetic" in line for line in forgotten)


# The command


@pytest.fixture
def usedge(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs ``usedge`` as from a shell and gives its exit status."""
    def run(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["usedge", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return int(caught.value.code or 0)

    return run


FEW = ("--ascans", 16, "--batch", 8, "--set", "finetune.warmup_ascans=8", "--precision", "32-true")


def test_the_command_adapts_a_finished_checkpoint_and_tells_before_and_after(
    start: Path, usedge: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    write("mine.npz")
    capsys.readouterr()
    assert usedge("finetune", start, "--data", "mine.npz", "--seed", 7, "-o", "out", *FEW) == 0
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert report == json.loads(Path("out/adaptation.json").read_text())
    assert (report["checkpoint"], report["seed"], report["settings"]["layer_decay"]) == ("out/last", 7, 0.75)
    assert "left out, 3 of 3: adapting to 11, judging 5" in told.err
    assert "Only 12 echoes could be left out: the figures on them are poor." in told.err
    adaptation.show(report)
    shown = capsys.readouterr().out
    assert shown.count("before") == shown.count("after") == 2
    assert "left out, 12 + 4 empty" in shown
    assert "synthetic, 256" in shown
    assert f"{100 * report['synthetic']['after']['hit_half_period']:.1f}" in shown


def test_the_command_ends_with_status_one_where_it_became_worse(
    start: Path, usedge: Callable[..., int], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch
) -> None:
    write("mine.npz")
    monkeypatch.setattr(adaptation, "finder", spoilt)
    assert usedge("finetune", start, "--data", "mine.npz", "-o", "out", *FEW) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["worse"]
    assert "The checkpoint you had is kept; the new one is in out/refused." in told.err.splitlines()[-1]


def test_without_rehearsal_the_file_alone_is_trained_on(
    start: Path, usedge: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    write("mine.npz")
    capsys.readouterr()
    assert usedge("finetune", start, "--data", "mine.npz", "-o", "out", *FEW,
                  "--set", "finetune.rehearsal=0.0") == 0
    assert set(json.loads(capsys.readouterr().out)) == {"checkpoint", "ascans", "scores"}


def few_rows(n: int) -> dict[str, Any]:
    mine = rows_of(board(), np.arange(n))
    return {"x": mine.x, "tof_s": mine.tof_s, "gate_s": mine.gate_s}


@pytest.mark.parametrize(("arrays", "words", "said"), [
    ({"tof_s": np.full(16, np.nan)}, (), "mine.npz has no A-scans with an echo; at least 5 are needed."),
    (few_rows(4), (), "mine.npz has only 4 A-scans with an echo; at least 5 are needed. Label more: usedge"),
    ({"x": np.where(np.arange(1200) == 7, np.nan, board().x)}, (), "mine.npz: x has NaN or infinity in row"),
    ({"tof_s": np.full(16, 1.0)}, (), "mine.npz: the label of row 0 (1e+06 µs) is outside its gate"),
    ({"f0_hz": np.nan}, (), "mine.npz: a centre frequency of nan Hz is not between 0 and fs/2"),
    ({"gate_s": board().tof_s[:, None] * [1, 0] + [0, 2e-6], "tof_s": board().tof_s}, (),
     "mine.npz: the gate of row 12"),
    ({}, ("--labels", 9), "adaptation runs in one process, with synthetic A-scans that are always new."),
    ({}, ("--devices", 2), "adaptation runs in one process, with synthetic A-scans that are always new."),
    ({}, ("--set", "finetune.rehearsal=0.99"), "a rehearsal of 0.99 leaves 0 of 8 A-scans to the board."),
    ({}, ("--set", "finetune.rehearsal=1.0"), "rehearsal 1.0 is not a share under 1."),
    ({}, ("--head", "pooled"), "the checkpoint has head pointer, not pooled."),
    ({}, ("--set", "signal.zoom=0.0"), "the checkpoint has zoom 51.2, not 0.0."),
    ({}, ("--set", "signal.patch=64"), "the checkpoint has patch 32, not 64."),
    ({}, ("-o", "tof"), "tof holds a run already (last). Give another --out.")])
def test_what_cannot_be_adapted_to_is_one_line_and_status_two(
    start: Path, usedge: Callable[..., int], capsys: pytest.CaptureFixture[str], arrays: dict[str, Any],
    words: tuple[object, ...], said: str
) -> None:
    write("mine.npz", **arrays)
    capsys.readouterr()
    assert usedge("finetune", start, "--data", "mine.npz", "-o", "out", *FEW, *words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[-1].startswith(f"usedge: {said}")
    assert not Path("out").exists()


def test_a_gate_too_short_for_the_network_is_named(start: Path) -> None:
    mine = board()
    gate_s = mine.gate_s.copy()
    gate_s[3] = [mine.tof_s[3] - 1e-6, 2e-6]
    with pytest.raises(InputError, match=r"the gate of row 3 holds \d\d samples; at least 64 are needed"):
        own_gates(replace(mine, gate_s=gate_s))


def test_a_file_without_a_frequency_gets_that_of_its_spectrum(capsys: pytest.CaptureFixture[str]) -> None:
    write("mine.npz", f0_hz=F0_HZ)
    mine = replace(load_labelled("mine.npz"), f0_hz=None)
    found = adaptation.with_f0(mine).f0_hz
    assert found is not None
    np.testing.assert_allclose(found, F0_HZ, rtol=0.1)
    assert "mine.npz has no f0_hz: taken as 2." in capsys.readouterr().err
