"""Files of readings: whole lines, rotation, and what may have happened to the file meanwhile."""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.reading import Reading
from usedge.sinks import Station, open_sinks
from usedge.sinks.queued import Queued
from usedge.tof import Difference

DEADLINE_S = 60
GATED = AScan(np.zeros(8, np.int16), 1e6)


def reading(seq: int, tof_us: float | None = 20.5, difference: Difference | None = None) -> Reading:
    return Reading(seq, time.monotonic_ns(), tof_us, 3, 0.9, 21.0, None, 1500.0,
                   None if tof_us else "no_echo", difference)


def opened(url: str, said: list[str] | None = None) -> Queued:
    return open_sinks([url], Station(say=(said if said is not None else []).append))[0]


def written(url: str, *readings: Reading, said: list[str] | None = None) -> Queued:
    sink = opened(url, said)
    for each in readings:
        sink.write(each, GATED)
    sink.close()
    return sink


def seqs(path: Path) -> list[int]:
    return [json.loads(line)["seq"] for line in path.read_text().splitlines()]


def test_json_lines_hold_the_reading_and_the_time_of_day(tmp_path: Path) -> None:
    path, one = tmp_path / "a.jsonl", reading(7, None)
    written(f"jsonl:{path}", one)
    line = json.loads(path.read_text())
    moment = datetime.fromisoformat(line.pop("time").replace("Z", "+00:00"))
    assert line == one.to_dict()
    assert abs((datetime.now(timezone.utc) - moment).total_seconds()) < DEADLINE_S


def test_csv_is_read_by_a_csv_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    written(f"csv:{path}", reading(1), reading(2, None))
    written(f"csv:{path}", reading(3))
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["seq"] for row in rows] == ["1", "2", "3"]
    assert [row["tof_us"] for row in rows] == ["20.5", "", "20.5"]
    assert [row["abstain"] for row in rows] == ["", "no_echo", ""]
    assert list(rows[0]) == [*reading(0).to_dict(), "time"]


def test_a_csv_with_other_columns_gives_way_and_is_kept(tmp_path: Path) -> None:
    path, said = tmp_path / "a.csv", list[str]()
    written(f"csv:{path}", reading(1))
    written(f"csv:{path}", reading(2, difference=Difference(1.5, 0.9, 20.0)), said=said)
    assert [row["seq"] for row in csv.DictReader((tmp_path / "a.csv.1").read_text().splitlines())] == ["1"]
    assert [row["dtof_ns"] for row in csv.DictReader(path.read_text().splitlines())] == ["1.5"]
    assert "had other columns" in said[0]


def test_rotation_keeps_the_newest_files_and_loses_no_line_of_them(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    written(f"jsonl:{path}?rotate_mb=0.002&keep=3", *[reading(seq) for seq in range(100)])
    files = [tmp_path / f"a.jsonl.{i}" for i in (3, 2, 1)]
    assert sorted(tmp_path.iterdir()) == sorted([path, *files])
    together = [seq for file in [*files, path] for seq in seqs(file)]
    assert together == list(range(together[0], 100))
    for file in [*files, path]:
        assert 0 < file.stat().st_size <= 2000


def test_rotation_by_time_goes_by_the_file_and_not_by_the_run(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    written(f"jsonl:{path}?rotate_hours=1", reading(1))
    written(f"jsonl:{path}?rotate_hours=48", reading(2))
    old = time.time() - 5 * 86_400
    os.utime(path, (old, old))
    written(f"jsonl:{path}?rotate_hours=48", reading(3))
    assert (seqs(tmp_path / "a.jsonl.1")[-1], seqs(path)) == (2, [3])


def test_a_line_cut_short_by_a_power_cut_goes_and_is_told(tmp_path: Path) -> None:
    path, said = tmp_path / "a.jsonl", list[str]()
    written(f"jsonl:{path}", reading(1))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    written(f"jsonl:{path}", reading(2), said=said)
    assert seqs(path) == [1, 2]
    assert "unfinished line of 40 bytes" in said[0]


@pytest.mark.parametrize("content", ['{\n "name": "mine"\n}', "dear diary", "\x00\xff"])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(content)
    for scheme in ("jsonl", "csv"):
        with pytest.raises(InputError, match="holds something else than readings"):
            opened(f"{scheme}:{path}")
    assert path.read_text() == content


def test_two_sinks_do_not_write_one_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="being written by another sink"):
        open_sinks([f"jsonl:{tmp_path}/a", f"jsonl:{tmp_path}/../{tmp_path.name}/a"], Station())


@pytest.mark.parametrize("removed", [True, False])
def test_a_file_that_was_moved_or_removed_is_begun_anew(tmp_path: Path, removed: bool) -> None:
    path = tmp_path / "a.jsonl"
    sink = opened(f"jsonl:{path}")
    sink.write(reading(1), GATED)
    deadline = time.monotonic() + DEADLINE_S
    while sink.state()["written"] < 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if removed:
        path.unlink()
    else:
        path.rename(tmp_path / "moved")
    sink.write(reading(2), GATED)
    sink.close()
    assert seqs(path) == [2]
    assert removed or seqs(tmp_path / "moved") == [1]


def test_a_full_disk_costs_no_half_line_and_is_got_over(tmp_path: Path) -> None:
    """The limit of a file's size stands for the disk: the kernel cuts a write short at either."""
    path, summary = tmp_path / "a.jsonl", tmp_path / "s.json"
    limit = 3000
    process = subprocess.Popen(
        [sys.executable, "-m", "usedge", "run", "--port", "sim://?prf=100", "--runtime", "classical",
         "--sink", f"jsonl:{path}", "--summary", str(summary)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, hard))
    fails = process.stderr.readline()
    assert "sink jsonl:" in fails
    assert "fails: File too large" in fails
    assert path.read_bytes().endswith(b"\n")
    before = seqs(path)
    for _ in range(10):
        assert process.stdout.readline()  # the readings go on
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert "works again; no readings were lost" in process.stderr.readline()
    process.terminate()
    process.communicate(timeout=DEADLINE_S)
    told = json.loads(summary.read_text())
    got = seqs(path)
    assert got[: len(before)] == before
    assert got == sorted(set(got))
    assert len(got) == told["classified"] + told["abstained"]
    assert told["sinks"][f"jsonl:{path}"] == {"written": len(got), "dropped": 0, "state": "ok",
                                               "error": "File too large"}
