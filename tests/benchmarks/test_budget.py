"""`usedge bench latency --board`: what is judged, what is not, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from usedge.boards import BoardProfile, load_board
from usedge.boards.judge import judge
from usedge.errors import GateFailedError, InputError
from usedge.resources import suite
from usedge_bench.budget import at_its_prf, board_asked, held_against, tell
from usedge_bench.suite import LatencySuite, load_suite

BOARD = """
format_version = 1
name = "Whatever this is"
kind = "host"
[detect]
machine = ["x86_64", "aarch64", "armv7l"]
[processor]
arch = "x86_64"
[run]
runtimes = ["litert"]
threads = 1
[budget]
p99_ms = {p99_ms}
rss_mb = 100000
install_mb = 100000
[sources]
detect = "a test"
processor = "a test"
run = "a test"
budget = "a test"
"""
SMALL = """
rounds = 1
ascans = 20
warmup = 2
prf_hz = 100.0
idle_prf_hz = 50.0
idle_ascans = 5
samples = 1000
burst = 20
peer_rounds = 1
peer_block = 1
cold_starts = 1
seed = 8
"""


def report(p99_us: float | None = 2500.0, rss_mb: float = 44.0) -> dict[str, Any]:
    return {"suite": "latency", "peak_rss_mb": rss_mb, "stages": {"wire_to_reading": {"p99_us": p99_us}}}


def pi(root: Path) -> None:
    folder = root / "proc" / "device-tree"
    folder.mkdir(parents=True)
    (folder / "compatible").write_bytes(b"raspberrypi,4-model-b\0brcm,bcm2711\0")
    (folder / "model").write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")


@pytest.fixture
def rpi4() -> BoardProfile:
    return load_board("rpi-4b")


def test_a_report_of_the_board_is_judged(tmp_path: Path, rpi4: BoardProfile) -> None:
    pi(tmp_path)
    verdict = held_against(report(), rpi4, tmp_path)
    assert verdict.counts
    assert {line.name: line.limit for line in verdict.lines} == {
        "p99_ms": rpi4.budget.p99_ms, "rss_mb": 60, "install_mb": 200}  # type: ignore[union-attr]
    assert [line.measured for line in verdict.lines[:2]] == [2.5, 44.0]
    assert verdict.lines[2].measured > 10  # numpy alone is more
    within = replace(verdict, lines=verdict.lines[:2])
    said: list[str] = []
    tell(within, said.append)
    assert said == ["within the budget of rpi-4b: p99_ms 2.5 of 50, rss_mb 44 of 60"]


@pytest.mark.parametrize(("measured", "over"), [
    (report(p99_us=50_001.0), "p99_ms 50 of 50"), (report(rss_mb=61.0), "rss_mb 61 of 60"),
    (report(p99_us=None), "p99_ms nan of 50"),
])
def test_over_budget_ends_with_1(rpi4: BoardProfile, measured: dict[str, Any], over: str) -> None:
    verdict = judge(measured, rpi4, "rpi-4b", "it says so")
    with pytest.raises(GateFailedError, match=f"over the budget of rpi-4b: {over}") as caught:
        tell(verdict, lambda _: None)
    assert caught.value.exit_code == 1


def test_on_another_machine_nothing_is_judged(tmp_path: Path, rpi4: BoardProfile) -> None:
    pi(tmp_path)
    verdict = held_against(report(p99_us=1e9), load_board("rpi-5"), tmp_path)
    said: list[str] = []
    tell(verdict, said.append)
    assert verdict.lines == ()
    assert said == ["this does not count for rpi-5: this machine is rpi-4b (its device tree is compatible"
                    " with raspberrypi,4-model-b), not rpi-5. Nothing was judged."]
    assert verdict.to_dict()["counts"] is False


def test_a_board_is_asked_no_faster_than_its_budget_and_no_other_machine(tmp_path: Path, rpi4: BoardProfile
                                                                         ) -> None:
    pi(tmp_path)
    latency, said = load_suite(suite("latency")), list[str]()
    asked = at_its_prf(latency, rpi4, said.append, tmp_path)
    assert isinstance(asked, LatencySuite)
    assert (asked.prf_hz, asked.idle_prf_hz) == (20.0, 20.0)
    assert said == ["streaming at 20 Hz, at which a reading may take the 50 ms of rpi-4b's budget."]
    for board in (load_board("rpi-5"), None):
        assert at_its_prf(latency, board, said.append, tmp_path) is latency
    assert len(said) == 1


def test_what_cannot_be_judged_is_refused_before_it_is_measured() -> None:
    latency, link = load_suite(suite("latency")), load_suite(suite("link"))
    assert board_asked(None, link) is None
    with pytest.raises(InputError, match="--board is of the latency suite"):
        board_asked("rpi-5", link)
    with pytest.raises(InputError, match="wulpus is a front end"):
        board_asked("wulpus", latency)
    with pytest.raises(InputError, match="there is no board 'rpi-6'"):
        board_asked("rpi-6", latency)
    with pytest.raises(InputError, match="budgets are for the latency suite"):
        judge({"suite": "link"}, load_board("rpi-5"), "rpi-5", "")


def test_the_command_ends_with_1_over_a_budget_that_nothing_keeps(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(BOARD.format(p99_ms=0.01))
    (tmp_path / "small.toml").write_text(SMALL)
    done = subprocess.run(
        [sys.executable, "-m", "usedge", "bench", str(tmp_path / "small.toml"), "--board",
         str(tmp_path / "mine.toml")], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("usedge: over the budget of mine: p99_ms ")
    assert '"counts": true' in done.stdout
