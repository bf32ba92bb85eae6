"""Recording, replaying, recovering and converting as their user does it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.usedge.recording_kills import check, kill_one
from tests.usedge.recordings import FILE_ID, chunks_of, make_ascans, read
from usedge.ascan import AScan
from usedge.cli import app
from usedge.errors import InputError
from usedge.labelled import load_rows, load_unlabelled
from usedge.recording.layout import pack_ascan, pack_ascans
from usedge.sources import SourceOptions, open_source, replay
from usedge.synth import generate

USEDGE = [sys.executable, "-m", "usedge"]
DEADLINE_S = 120
SAME = ("seq", "tof_us", "label", "confidence", "snr_db", "distance_mm", "abstain")


def usedge(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*USEDGE, *map(str, arguments)], capture_output=True, text=True, timeout=DEADLINE_S,
                          check=False)


def answer(*arguments: object) -> dict[str, Any]:
    """What a command says, run inside this process: ten times as quick as in one of its own."""
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    said: dict[str, Any] = json.loads(result.stdout)
    return said


def recorded(*arguments: object) -> dict[str, Any]:
    """What `usedge record` says, in a process of its own, since it takes over the signals."""
    process = usedge("record", *arguments)
    assert process.returncode == 0, process.stderr
    said: dict[str, Any] = json.loads(process.stdout)
    return said


def refusal(*arguments: object) -> str:
    """The line that a command refuses with, run inside this process."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert isinstance(result.exception, InputError), result.output
    return str(result.exception)


def readings(process: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert process.returncode == 0, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines()]


def alike(n: int = 60, samples: int = 300) -> list[AScan]:
    rows = np.random.default_rng(2).integers(-2000, 2000, (n, samples)).astype(np.int16)
    return [AScan(row, 20e6, 2.5, 1000 + i, 10**9 + i * 10**7, 6.0, i % 2) for i, row in enumerate(rows)]


def write(path: Path, ascans: list[AScan], in_each: int = 10) -> Path:
    path.write_bytes(b"".join(chunks_of(ascans, in_each)))
    return path


def replayed(port: str, count: int = 0) -> list[AScan]:
    with open_source(port, SourceOptions(count=count)) as source:
        return list(source)


def test_replay_gives_the_readings_of_the_live_run(tmp_path: Path) -> None:
    path, summary = tmp_path / "scan.usrec", tmp_path / "summary.json"
    live = readings(usedge("run", "--port", "sim://?prf=100", "--count", 150, "--speed-of-sound", 1482,
                           "--record", path, "--summary", summary))
    counts = json.loads(summary.read_text())
    assert counts["recorded"] + counts["record_dropped"] + counts["unread"] == counts["received"]
    assert counts["recorded"] >= len(live) > 0
    assert counts["record_faults"] == 0
    again = readings(usedge("run", "--port", f"replay:{path}", "--speed-of-sound", 1482))
    by_seq = {reading["seq"]: [reading[key] for key in SAME] for reading in again}
    assert len(by_seq) == counts["recorded"]
    assert all(by_seq[reading["seq"]] == [reading[key] for key in SAME] for reading in live)


def test_record_makes_no_readings_and_says_what_it_did(tmp_path: Path) -> None:
    path = tmp_path / "scan.usrec"
    said = recorded("--port", "sim://?prf=200", "--count", 40, "--rotate-mb", 0.1, "--compress", path)
    assert said["received"] == said["recorded"] + said["record_dropped"] + said["unread"] == 40
    assert said["protocol"] == "usfp"
    ascans = replayed(f"replay:{tmp_path}")
    sent = generate("field", 128, 0).x
    assert [ascan.seq for ascan in ascans] == list(range(said["recorded"]))
    assert all((ascan.samples == sent[ascan.seq]).all() for ascan in ascans)


@pytest.mark.parametrize("arguments", [
    ("record", "--port", "sim://", "--sync-s", "-1"), ("record", "--port", "sim://", "--rotate-mb", "nan"),
    ("record", "--port", "sim://", "--quota-mb", "0.5"), ("record", "--port", "sim://", "--seconds", "inf"),
    ("record", "--port", "ftp://x"), ("record", "--port", "sim://", "--fs-mhz", "0"),
])
def test_record_refuses_in_refusal(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert refusal(*arguments, tmp_path / "scan.usrec")
    assert not list(tmp_path.iterdir())


def test_options_of_a_recording_need_one() -> None:
    assert "--record FILE" in refusal("run", "--port", "sim://", "--quota-mb", "5")


def test_a_missing_port_leaves_no_file(tmp_path: Path) -> None:
    process = usedge("record", "--port", "/dev/ttyNOPE", tmp_path / "scan.usrec")
    assert process.returncode == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_recording_is_read_up_to_its_end(tmp_path: Path, seed: int) -> None:
    check(kill_one(tmp_path / "scan.usrec", seed))


def test_a_damaged_recording_is_read_told_and_repaired(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.usrec", alike())
    content = bytearray(path.read_bytes()[:-300])
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    process = usedge("run", "--port", f"replay:{path}", "--runtime", "classical")
    assert len(readings(process)) == 40
    told = process.stderr.splitlines()[0]
    assert told.startswith(f"usedge: {path} has ")
    assert "cut short" in told
    assert "all else was read (40 A-scans)" in told
    (entry,) = answer("recover", path)["files"]
    assert entry["ascans"] == 40
    assert entry["damaged_spots"] == 2
    assert entry["seq_gaps"] == 10
    assert (entry["written"], entry["kept"]) == (str(path), f"{path}.damaged")
    assert Path(entry["kept"]).read_bytes() == content
    ascans, recording = read(path)
    assert len(ascans) == 40
    assert recording.found.bytes_skipped == 0
    assert recording.found.closed
    assert answer("recover", tmp_path)["files"][0]["written"] is None


def test_recover_can_leave_the_damaged_file_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.usrec", alike())
    path.write_bytes(path.read_bytes()[:-500])
    before = path.read_bytes()
    (tmp_path / "whole").mkdir()
    (entry,) = answer("recover", path, "--out", tmp_path / "whole")["files"]
    assert entry["written"] == str(tmp_path / "whole" / "scan.usrec")
    assert path.read_bytes() == before
    assert read(Path(entry["written"]))[1].found.whole
    assert "exists already" in refusal("recover", path, "--out", tmp_path / "whole")


def test_recover_goes_on_behind_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.usrec").write_bytes(b"remember the milk")
    write(tmp_path / "b.usrec", alike())
    process = usedge("recover", tmp_path / "a.usrec", tmp_path / "b.usrec")
    assert process.returncode == 2
    assert "a.usrec holds no whole chunk of a recording (17 bytes)" in process.stderr
    assert [Path(entry["file"]).name for entry in json.loads(process.stdout)["files"]] == ["b.usrec"]


def test_recover_does_not_touch_what_is_being_recorded(tmp_path: Path) -> None:
    path = tmp_path / "scan.usrec"
    process = subprocess.Popen([*USEDGE, "record", "--port", "sim://?prf=50", str(path)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + DEADLINE_S
    while not (path.exists() and path.stat().st_size > 10_000):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "is being recorded" in refusal("recover", path)
    assert replayed(f"replay:{path}", count=1)[0].seq == 0
    process.terminate()
    said, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert len(read(path)[0]) == json.loads(said)["recorded"]


def test_a_folder_or_a_pattern_is_replayed_in_order(tmp_path: Path) -> None:
    ascans = alike()
    for name, part in (("s-9", ascans[:20]), ("s-10", ascans[20:40]), ("s-11", ascans[40:])):
        write(tmp_path / f"{name}.usrec", part)
    (tmp_path / "s-10.usrec.damaged").write_bytes(b"")
    for port in (f"replay:{tmp_path}", f"replay:{tmp_path}/s-*.usrec", f"replay:{tmp_path}/s-*?pace=0"):
        assert [ascan.seq for ascan in replayed(port)] == list(range(1000, 1060))
    assert [ascan.seq for ascan in replayed(f"replay:{tmp_path}", count=25)] == list(range(1000, 1025))
    (tmp_path / "s-10.usrec").write_bytes(b"gone")
    source = open_source(f"replay:{tmp_path}", SourceOptions())
    with source:
        assert len(list(source)) == 40
    assert source.counts.crc_errors == 1
    assert source.counts.seq_gaps == 20


def test_replay_reads_a_file_larger_than_its_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.usrec"
    ascan = make_ascans(1, 8_000)[0]
    with path.open("wb") as file:
        for number in range(2000):
            file.write(pack_ascans([pack_ascan(ascan)] * 4, False, FILE_ID, number))
    assert path.stat().st_size > 120e6
    code = ("import sys\nfrom usedge.meter import peak_rss_mb\n"
            "from usedge.sources import SourceOptions, open_source\n"
            "source = open_source(f'replay:{sys.argv[1]}', SourceOptions())\n"
            "with source:\n    n = sum(1 for _ in source)\n"
            "print(n, peak_rss_mb())\n")
    process = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True,
                             timeout=DEADLINE_S, check=True)
    n, peak_mb = process.stdout.split()
    assert int(n) == 8000
    assert float(peak_mb) < 80


def test_pace_waits_as_long_as_the_recording_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "scan.usrec", alike())
    now_ns, waits = [5], []
    monkeypatch.setattr(replay.time, "monotonic_ns", lambda: now_ns[0])
    source = open_source(f"replay:{path}?pace=2", SourceOptions())

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        now_ns[0] += round(seconds * 1e9)
        return False

    monkeypatch.setattr(source._stopping, "wait", wait)
    with source:
        assert len(list(source)) == 60
    assert waits == pytest.approx([0.0] + [0.005] * 59, abs=1e-8)


@pytest.mark.parametrize(("query", "words"), [
    ("pace=fast", "pace 'fast'"), ("pace=-1", "pace '-1'"), ("speed=2", "no option 'speed'")])
def test_odd_queries_are_refused(tmp_path: Path, query: str, words: str) -> None:
    path = write(tmp_path / "scan.usrec", alike())
    assert words in refusal("run", "--port", f"replay:{path}?{query}")


def test_a_pace_needs_times(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.zeros((3, 900), np.int16), fs_hz=10e6)
    assert "does not tell when" in refusal("run", "--port", f"replay:{tmp_path}/rows.npz?pace=1")


def test_the_pace_ends_when_the_run_is_stopped(tmp_path: Path) -> None:
    ascans = [AScan(ascan.samples, 20e6, 0.0, i, 10**9 + i * 10**12) for i, ascan in enumerate(alike(3))]
    path = write(tmp_path / "scan.usrec", ascans)
    process = usedge("run", "--port", f"replay:{path}?pace=1", "--runtime", "classical", "--seconds", 0.5)
    assert len(readings(process)) == 1


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_convert_writes_what_other_commands_read(tmp_path: Path, suffix: str) -> None:
    ascans = alike(150)
    path, out = write(tmp_path / "scan.usrec", ascans), tmp_path / f"scan{suffix}"
    assert answer("convert", path, "-o", out)["ascans"] == 150
    rows = load_rows(out)
    assert (rows.x == np.stack([ascan.samples for ascan in ascans])).all()
    assert rows.x.dtype == np.int16
    assert (rows.fs_hz, rows.t0_s) == (20e6, 2.5e-6)
    assert len(load_unlabelled(out)) == 150
    for name in ("seq", "t_ns", "gain_db", "channel"):
        stored = _array(out, name)
        assert list(stored) == [getattr(ascan, name) for ascan in ascans]
    again = replayed(f"replay:{out}")
    assert all((one.samples == other.samples).all() for one, other in zip(again, ascans, strict=True))


def _array(path: Path, name: str) -> np.ndarray[Any, Any]:
    if path.suffix == ".npz":
        with np.load(path) as file:
            return np.asarray(file[name])
    h5py = pytest.importorskip("h5py")
    with h5py.File(path) as file:
        return np.asarray(file[name])


def test_convert_tells_the_time_of_day(tmp_path: Path) -> None:
    before_s = time.time()
    recorded("--port", "sim://?prf=100", "--count", 10, tmp_path / "scan.usrec")
    answer("convert", tmp_path / "scan.usrec", "-o", tmp_path / "scan.npz")
    unix_s = _array(tmp_path / "scan.npz", "unix_s")
    assert before_s < unix_s[0] < unix_s[-1] < time.time()


@pytest.mark.parametrize(("change", "words"), [
    ({"samples": np.zeros(299, np.int16)}, "has 299 samples, A-scan 1000 (channel 0) 300"),
    ({"fs_hz": 10e6}, "1e+07 Hz"), ({"t0_us": 0.0}, "0 µs"), ({"rf": False}, "envelope"),
])
def test_convert_pads_nothing_and_says_which_differs(tmp_path: Path, change: dict[str, Any],
                                                     words: str) -> None:
    ascans = alike()
    ascans[7] = replace(ascans[7], **change)
    path, out = write(tmp_path / "scan.usrec", ascans), tmp_path / "scan.h5"
    line = refusal("convert", path, "-o", out)
    assert "A-scan 1007" in line
    assert words in line
    assert "--channel" in line
    assert not out.exists()
    said = answer("convert", path, "-o", out, "--channel", 0)
    assert (said["ascans"], said["left_out"]) == (30, 30)
    assert answer("convert", path, "-o", out, "--seq", "1008:")["ascans"] == 52


@pytest.mark.parametrize("arguments", [("-o", "scan.csv"), ("-o", "scan.h5", "--seq", "7"),
                                       ("-o", "scan.h5", "--channel", "9")])
def test_convert_refuses_in_refusal(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = write(tmp_path / "scan.usrec", alike())
    assert refusal("convert", path, arguments[0], tmp_path / arguments[1], *arguments[2:])


def test_a_recording_goes_wherever_ascans_are_read(tmp_path: Path) -> None:
    from usedge.sources.files import read_ascans

    path = write(tmp_path / "renamed.dat", alike())
    assert [ascan.seq for ascan in read_ascans(path)[0]] == list(range(1000, 1060))
    with pytest.raises(InputError, match="no recording"):
        replayed(f"replay:{tmp_path}")


def test_a_terminal_shows_a_bar_and_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "scan.usrec", alike())
    path.write_bytes(path.read_bytes()[:-400])
    master, slave = pty.openpty()
    process = subprocess.Popen([*USEDGE, "recover", str(path)], stdout=slave, stderr=slave,
                               env={**os.environ, "TERM": "xterm", "COLUMNS": "300"})
    os.close(slave)
    shown = b""
    while chunk := _read(master):
        shown += chunk
    assert process.wait(timeout=DEADLINE_S) == 0
    os.close(master)
    assert "50 A-scans in 6 chunks" in shown.decode()
    assert f"Whole file written to {path}, the damaged one is {path}.damaged." in shown.decode()


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:
        return b""
