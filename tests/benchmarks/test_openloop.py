"""The open loop and the throughput search: every A-scan due is accounted for, and none is held back."""

from __future__ import annotations

import importlib.util
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usedge.ascan import AScan
from usedge.bundle import read_bundle
from usedge.errors import LinkError
from usedge.pointer import decode_one
from usedge.preprocess import Preprocessor
from usedge.resources import shipped_bundle, suite
from usedge.synth import FS_HZ, generate
from usedge_bench import openloop, throughput, wire
from usedge_bench.contender import ONE_PASS, PLAIN, USEDGE
from usedge_bench.openloop import Stretch, fates
from usedge_bench.plain import decode, normalise
from usedge_bench.report import as_table
from usedge_bench.suite import OpenLoopSuite, ThroughputSuite, load_suite
from usedge_bench.wire import child

HERE = {USEDGE, ONE_PASS} | ({PLAIN} if importlib.util.find_spec("onnxruntime") else set())
MS = 1_000_000


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    small = OpenLoopSuite(prfs_hz=(20.0, 100.0), rounds=2, stretch_s=0.3, warmup=2, grace_s=20.0,
                          samples=2048, seed=8)
    return dict(openloop.run_openloop(read_bundle(shipped_bundle()), small, lambda _: None))


def test_rounds_of_usedge_that_disagree_make_a_run_unstable() -> None:
    rng, suite_of_4 = np.random.default_rng(3), OpenLoopSuite((20.0, 50.0), 4, 1.0, 1, 1.0, 2048, 8)

    def stretch(paces: tuple[float, ...]) -> Stretch:
        return Stretch([pace * us for pace in paces for us in rng.gamma(400.0, 5.0, 60)], [100.0] * 240)

    calm, wild = (1.0, 1.0, 1.01, 1.0), (1.0, 1.5, 0.7, 1.2)
    for paces, words in ((calm, []), (wild, ["usedge at 20 Hz p50 from", "at 1 more of its PRFs"])):
        found = {(USEDGE, 20.0): stretch(paces), (USEDGE, 50.0): stretch(paces), (PLAIN, 20.0): stretch(wild)}
        rows = [openloop._row(name, prf_hz, each, suite_of_4) for (name, prf_hz), each in found.items()]
        why = openloop._apart(rows, found, 4)
        assert len(why) == bool(words)
        assert all(word in why[0] for word in words)


def test_a_process_that_does_not_end_is_ended_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PATIENCE_S", 0.2)
    asleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(asleep, text=True) as process, \
            pytest.raises(LinkError, match=r"usedge run did not end within 0\.2 s\. Is the machine busy"):
        wire.end_of(process, "usedge run")
    assert process.returncode == -signal.SIGKILL


def test_every_ascan_that_was_due_is_in_the_figures(report: dict[str, Any]) -> None:
    assert {(row["contender"], row["prf_hz"], row["due"]) for row in report["rows"]} == {
        (name, prf, due) for name in HERE for prf, due in ((20.0, 12), (100.0, 60))}
    for row in report["rows"]:
        values = report["values_us"][row["contender"]][f"{row['prf_hz']:g}"]
        assert len(values) == row["due"]
        assert values.count(None) == row["lost"]
        late = [each for each in values if each is None or each > 1e6 / row["prf_hz"]]
        assert len(late) == row["deadline_misses"] >= row["lost"]
        assert row["miss_share"] == pytest.approx(len(late) / row["due"], abs=1e-5)


def test_a_reading_comes_after_its_last_byte(report: dict[str, Any]) -> None:
    for row in report["rows"]:
        assert row["latency"]["max_us"] > row["wire_us"]["p50"] > 0


def test_each_reader_says_what_it_is(report: dict[str, Any]) -> None:
    about = {each["name"]: each for each in report["contenders"]}
    assert set(about) == HERE
    assert set(report["missing"]) == {USEDGE, ONE_PASS, PLAIN} - HERE
    assert about.get(PLAIN, {"variant": "onnx-fp32"})["variant"] == "onnx-fp32"
    table = as_table(report)
    assert table.count("\n| 20 Hz |") == len(HERE)
    assert all(each["what"] in table for each in about.values())


def test_an_ascan_that_was_never_sent_was_due_at_its_slot() -> None:
    times = [[0, 10 * MS, 11 * MS], [1, 12 * MS, 13 * MS]]
    found = fates(times, [[0, 14 * MS]], count=4, period_ns=2.0 * MS, dropped=1)
    assert found.latency_us == [4000.0, math.inf, math.inf, math.inf]
    assert found.wire_us == [1000.0, 1000.0, math.inf, math.inf]
    assert list(found.misses(5000.0)) == [False, True, True, True]


def test_a_reader_that_falls_behind_shows_its_queue() -> None:
    """A reader of 3 ms at a PRF of 500 Hz: each A-scan waits a millisecond longer than the one before."""
    times = [[seq, seq * 2 * MS, seq * 2 * MS] for seq in range(100)]
    done = [[seq, (seq + 1) * 3 * MS] for seq in range(100)]
    whole = Stretch()
    whole.add(fates(times, done, 100, 2.0 * MS, 0), warmup=10)
    assert whole.latency_us[0] == 13_000.0
    assert whole.latency_us[-1] == 102_000.0
    assert whole.misses(2000.0).all()
    assert throughput.most_waiting(fates(times, done, 100, 2.0 * MS, 0), 2000.0) == 34


def test_a_process_that_ends_is_named() -> None:
    with child("nobody", "usedge_bench.no_such_module", cores={0}) as gone, pytest.raises(
            LinkError, match="the process of nobody ended with status 1"):
        gone.ask(port="x")


def test_without_onnxruntime_the_plain_script_is_missing_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = read_bundle(shipped_bundle())
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "pip install" in openloop.missing_readers(bundle, 2048)[PLAIN]
    monkeypatch.undo()
    if PLAIN in HERE:
        assert "2048 samples alone" in openloop.missing_readers(bundle, 1000)[PLAIN]
        assert openloop.missing_readers(bundle, 2048) == {}


def test_the_plain_script_prepares_and_reads_as_usedge_does() -> None:
    spec = read_bundle(shipped_bundle()).spec
    for samples in generate("field", 8, 3).x:
        ours = Preprocessor(spec)(AScan(samples, FS_HZ)).x
        # Half a rank apart: of two middle values one takes their mean.
        np.testing.assert_allclose(normalise(samples, spec.noise_floor), ours, atol=0.02)
    out = np.random.default_rng(1).normal(0, 2, 3 * spec.n_patches + 1).astype(np.float32)
    out[spec.n_patches] = -9
    tof_us, likely = decode(out, patch_us=0.8)
    assert tof_us is not None
    assert tof_us / 0.8 == pytest.approx(decode_one(out).place, abs=1e-4)
    assert 0 < likely < 1
    out[spec.n_patches] = 20
    assert decode(out, patch_us=0.8)[0] is None


class Pretended:
    """Readers that keep up with ``limit_hz``; the first ``disturbed`` trials fail all the same."""

    def __init__(self, limit_hz: float, disturbed: int = 0) -> None:
        self.limit_hz, self.disturbed = limit_hz, disturbed

    def stretch(self, _name: str, prf_hz: float, count: int, _grace_s: float) -> Stretch:
        late = prf_hz > self.limit_hz
        if not late and self.disturbed:
            self.disturbed, late = self.disturbed - 1, True
        return Stretch([math.inf if late else 100.0] * count, [50.0] * count)


SEARCH = ThroughputSuite(first_prf_hz=50.0, most_prf_hz=800.0, resolution=0.03, trial_s=1.0, tries=2,
                         grace_s=1.0, samples=2048, seed=1)


def search(readers: Pretended) -> dict[str, Any]:
    return throughput.verdict(list(throughput._search(readers, USEDGE, SEARCH, lambda _: None)))  # type: ignore[arg-type]


@pytest.mark.parametrize("limit_hz", [333.0, 51.0, 20.0])
def test_the_search_ends_beside_the_limit(limit_hz: float) -> None:
    found = search(Pretended(limit_hz))
    assert limit_hz / 1.04 < found["sustained_hz"] <= limit_hz < found["first_loss_hz"]
    assert found["limited_by"] == "reader"


def test_one_disturbance_does_not_decide_a_search() -> None:
    assert search(Pretended(333.0, disturbed=1))["sustained_hz"] > 320


def test_a_search_without_a_loss_says_so_and_one_without_a_hold_ends() -> None:
    assert search(Pretended(1e9)) == {"sustained_hz": 800.0, "first_loss_hz": None, "limited_by": None}
    assert search(Pretended(0.0))["sustained_hz"] is None


def test_what_waits_on_the_wire_of_a_reader_that_empties_it_was_sent_late() -> None:
    trial = {"contender": USEDGE, "prf_hz": 900.0, "due": 100, "lost": 0, "waiting": 80, "held": False}
    assert throughput.verdict([trial])["limited_by"] == "transducer"
    assert throughput.verdict([{**trial, "contender": PLAIN}])["limited_by"] == "reader"
    assert throughput.verdict([{**trial, "lost": 3}])["limited_by"] == "reader"


def test_the_shipped_suites_ask_for_the_five_prfs() -> None:
    numbers = load_suite(suite("openloop"))
    assert isinstance(numbers, OpenLoopSuite)
    assert numbers.prfs_hz == (20.0, 50.0, 100.0, 200.0, 500.0)
    assert isinstance(load_suite(suite("throughput")), ThroughputSuite)


def test_a_list_of_prfs_is_checked(tmp_path: Path) -> None:
    text = suite("openloop").read_text()
    for bad in ("[20.0, 0.0]", "[]", "20.0", '["fast"]'):
        (tmp_path / "bad.toml").write_text(text.replace("[20.0, 50.0, 100.0, 200.0, 500.0]", bad))
        with pytest.raises(Exception, match="prfs_hz"):
            load_suite(tmp_path / "bad.toml")
