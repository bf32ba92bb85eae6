"""The soak suite on small numbers: every A-scan accounted for, and what it would say if one were not."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from usedge.resources import suite
from usedge_bench import soak
from usedge_bench.suite import SoakSuite, load_suite

SMALL = """
kind = "soak"
ascans = 1200
disconnects = 0
prf_hz = 600.0
samples = 256
runtime = "classical"
method = "threshold"
outage_s = 0.05
patience_s = 2.0
faults = "flip=0.01,truncate=0.01,drop=0.01,duplicate=0.01,reorder=0.01"
rss_limit_mb = 50.0
seed = 3
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("soak")
    (folder / "small.toml").write_text(SMALL)
    process = subprocess.run(
        [sys.executable, "-m", "usedge", "bench", str(folder / "small.toml"), "--disconnects", "3", "--json",
         str(folder / "report.json")], capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("is back after") == 3
    assert process.stderr.count("left, RSS") >= 5
    whole: dict[str, object] = json.loads((folder / "report.json").read_text())
    return whole


def test_every_ascan_is_accounted_for(report: dict[str, int]) -> None:
    assert report["sent"] >= 1200
    assert report["sent"] == report["received"] + report["dropped"] + report["corrupted"]
    assert (report["unaccounted"], report["reconnects"]) == (0, 3)
    assert report["corrupted"] > 3 < report["dropped"]
    assert report["failed"] == []


def test_nothing_is_left_behind(report: dict[str, float]) -> None:
    assert (report["threads_left"], report["files_left"]) == (0, 0)
    assert isinstance(report["rss_growth_mb"], float)
    assert report["p99_first_us"] > 0 < report["p99_last_us"]


def test_an_ascan_without_account_and_a_leak_fail() -> None:
    numbers = load_suite(suite("soak"))
    assert isinstance(numbers, SoakSuite)
    good = {"unaccounted": 0, "threads_left": 0, "files_left": 0, "reconnects": numbers.disconnects,
            "rss_growth_mb": 0.1}
    assert soak._failed(good, numbers) == []
    for key, value in (("unaccounted", 1), ("threads_left", 1), ("files_left", 2), ("reconnects", 1),
                       ("rss_growth_mb", numbers.rss_limit_mb + 0.1)):
        assert len(soak._failed(good | {key: value}, numbers)) == 1, key


def test_the_account_notices_a_count_that_is_off() -> None:
    class Told:
        def counters(self) -> dict[str, int]:
            return {"received": 95, "sent": 100, "seq_gaps": 5, "duplicated": 2, "classified": 90,
                    "abstained": 3, "dropped": 1, "unread": 1, "reconnects": 0, "deadline_misses": 0}

    fates = {"sent": 100, "intact": 95, "damaged": 2, "dropped": 3, "copies": 2}
    assert soak._account(Told(), fates)["unaccounted"] == 0  # type: ignore[arg-type]
    for key in ("sent", "damaged", "copies"):
        assert soak._account(Told(), fates | {key: fates[key] + 1})["unaccounted"] > 0  # type: ignore[arg-type]


def test_options_of_the_soak_are_refused_elsewhere(tmp_path: Path) -> None:
    process = subprocess.run([sys.executable, "-m", "usedge", "bench", "link", "--ascans", "5"],
                             capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 2
    assert "--ascans is of the soak suite" in process.stderr


def test_the_shipped_suite_is_two_million() -> None:
    numbers = load_suite(suite("soak"))
    assert isinstance(numbers, SoakSuite)
    assert replace(numbers, ascans=1).ascans == 1
    assert numbers.ascans == 2_000_000
