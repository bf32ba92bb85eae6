"""The recorder: what it syncs, rotates and removes, and how it lives with disks that fail."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.usedge.recordings import fields, make_ascans, read
from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.recording import Recorder, RecordPolicy, chunk_file, writer
from usedge.sources.files import StoredAScans, stored_files

DEADLINE_S = 60
USEDGE = [sys.executable, "-m", "usedge"]
ASCANS = make_ascans(400, samples=2000)
"""About 1.6 MB."""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.01)


def recorder_of(path: Path, *, waits: bool = True, **policy: float) -> Recorder:
    return Recorder(path, RecordPolicy(**policy), {"port": "test"}, waits=waits)  # type: ignore[arg-type]


def offer_all(recorder: Recorder, ascans: list[AScan]) -> None:
    for ascan in ascans:
        recorder.offer(ascan)


def seqs(path: Path) -> list[int]:
    return [ascan.seq for ascan in read(path)[0]]


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_offered_is_read_again(tmp_path: Path, compress: bool) -> None:
    with recorder_of(tmp_path / "scan", compress=compress) as recorder:
        offer_all(recorder, ASCANS)
    assert recorder.summary() == {"recorded": 400, "record_dropped": 0, "record_faults": 0,
                                  "record_files": 1, "record_removed": 0}
    ascans, recording = read(tmp_path / "scan.usrec")
    assert [fields(ascan) for ascan in ascans] == [fields(ascan) for ascan in ASCANS]
    assert recording.found.closed


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "scan.usrec"
    path.write_bytes(b"precious")
    with pytest.raises(InputError, match="exists already"), recorder_of(path):
        pass
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_a_recording_without_an_ascan_leaves_no_file(tmp_path: Path) -> None:
    with recorder_of(tmp_path / "scan.usrec") as recorder:
        wait_for((tmp_path / "scan.usrec").exists)
    assert not list(tmp_path.iterdir())
    assert recorder.summary()["record_files"] == 0


def test_numbered_files_follow_one_another_and_go_on_after_a_restart(tmp_path: Path) -> None:
    for run in range(2):
        with recorder_of(tmp_path / "scan.usrec", rotate_mb=0.5) as recorder:
            offer_all(recorder, ASCANS)
        assert recorder.summary()["recorded"] == 400
        assert len(list(tmp_path.iterdir())) == 4 * (run + 1)
    names = [path.name for path in stored_files(str(tmp_path))]
    assert names == [f"scan-{number:06d}.usrec" for number in range(1, 9)]
    assert all(path.stat().st_size <= 500_000 for path in tmp_path.iterdir())
    assert [ascan.seq for ascan in StoredAScans(stored_files(str(tmp_path)))] == [*range(400), *range(400)]
    parts = [read(tmp_path / name)[1].facts["part"] for name in names]
    assert parts == [1, 2, 3, 4, 1, 2, 3, 4]


def test_files_are_changed_by_time(tmp_path: Path) -> None:
    with recorder_of(tmp_path / "scan.usrec", rotate_s=0.05, sync_s=0.01) as recorder:
        for i, ascan in enumerate(ASCANS[:3]):
            recorder.offer(ascan)
            wait_for(lambda n=i: recorder.recorded > n)  # type: ignore[misc]
            time.sleep(0.06)
    assert [seqs(path) for path in stored_files(str(tmp_path))] == [[0], [1], [2]]


def test_the_oldest_go_when_the_quota_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = tmp_path / "scan-notes.usrec"
    other.write_bytes(bytes(900_000))
    with recorder_of(tmp_path / "scan.usrec", quota_mb=0.8) as before:
        offer_all(before, ASCANS[:100])
    with recorder_of(tmp_path / "scan.usrec", quota_mb=0.8) as recorder:
        offer_all(recorder, ASCANS)
    files = [path for path in stored_files(str(tmp_path)) if path != other]
    assert sum(path.stat().st_size for path in files) <= 800_000
    left = [ascan.seq for ascan in StoredAScans(files)]
    assert left == list(range(left[0], 400))
    assert len(left) > 120
    n_files = before.files + recorder.files
    assert before.removed + recorder.removed == n_files - len(files) > 0
    assert other.exists()
    assert recorder.recorded == 400
    assert sum("was removed to keep within 0.8 MB" in line for line in caplog.messages) == 1


@pytest.mark.parametrize("policy", [{"sync_s": -1.0}, {"rotate_mb": float("nan")}, {"rotate_mb": 0.01},
                                    {"quota_mb": 0.1}, {"quota_mb": 2.0, "rotate_mb": 1.5}])
def test_policies_that_cannot_be_kept_are_refused(policy: dict[str, float]) -> None:
    with pytest.raises(InputError, match="--"):
        RecordPolicy(**policy)  # type: ignore[arg-type]


def test_what_was_synced_outlives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scan.usrec"
    synced: list[int] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        real(handle)
        if not os.path.isdir(f"/proc/self/fd/{handle}"):
            synced.append(os.fstat(handle).st_size)

    monkeypatch.setattr(chunk_file.os, "fsync", fsync)
    with recorder_of(path, sync_s=0.05) as recorder:
        for n in (50, 100, 150):
            offer_all(recorder, ASCANS[n - 50 : n])
            before = len(synced)
            wait_for(lambda n=n, before=before: recorder.recorded == n and len(synced) > before)  # type: ignore[misc]
            held = path.read_bytes()[: synced[-1]]
            (tmp_path / "after.usrec").write_bytes(held)  # the card as the cut leaves it
            assert seqs(tmp_path / "after.usrec") == list(range(n))


def test_a_sync_that_fails_is_told_and_its_ascans_are_not_promised(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(writer, "RETRY_S", 0.05)
    real, failing = os.fsync, [False]

    def fsync(handle: int) -> None:
        if failing[0] and not os.path.isdir(f"/proc/self/fd/{handle}"):
            failing[0] = False
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)

    monkeypatch.setattr(chunk_file.os, "fsync", fsync)
    with recorder_of(tmp_path / "scan.usrec", sync_s=0.02) as recorder:
        failing[0] = True
        offer_all(recorder, ASCANS[:10])
        wait_for(lambda: recorder.faults == 1)
        offer_all(recorder, ASCANS[10:20])
    summary = recorder.summary()
    assert summary["recorded"] + summary["record_dropped"] == 20
    assert 0 < summary["record_dropped"] <= 10
    assert summary["record_files"] == 2
    found = [ascan.seq for ascan in StoredAScans(stored_files(str(tmp_path)))]
    assert set(range(10, 20)) <= set(found)
    assert any("scan.usrec could not be written (Input/output error)" in line for line in caplog.messages)


def test_ascans_that_a_recording_cannot_hold_are_counted_as_dropped(tmp_path: Path) -> None:
    sound = ASCANS[0]
    odd = [AScan(sound.samples[:0], 1e6), AScan(sound.samples, 0.0), AScan(sound.samples, 1e6, seq=1 << 63),
           AScan(sound.samples, 1e6, channel=-1)]
    with recorder_of(tmp_path / "scan.usrec") as recorder:
        offer_all(recorder, [*odd, sound])
    assert recorder.summary()["recorded"] == 1
    assert recorder.summary()["record_dropped"] == len(odd)
    assert seqs(tmp_path / "scan.usrec") == [0]


def test_a_live_source_never_waits_for_a_disk_that_does_not_answer(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = [True]
    real = os.write

    def write(handle: int, content: memoryview) -> int:
        wait_for(lambda: not stuck[0])
        return real(handle, content)

    recorder = recorder_of(tmp_path / "scan.usrec", waits=False)
    monkeypatch.setattr(writer, "QUEUE_BYTES", 400_000)
    with recorder:
        monkeypatch.setattr(chunk_file.os, "write", write)
        offer_all(recorder, ASCANS)  # comes back, although nothing is written
        stuck[0] = False
    summary = recorder.summary()
    assert summary["recorded"] + summary["record_dropped"] == 400
    assert 0 < summary["recorded"] < 120
    assert seqs(tmp_path / "scan.usrec") == list(range(summary["recorded"]))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "card"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True,
                       capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small file system can be mounted here: {error}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_full_disk_stops_the_recording_until_there_is_room(
        small_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(writer, "RETRY_S", 0.05)
    (small_disk / "ballast").write_bytes(bytes(700_000))
    with recorder_of(small_disk / "scan.usrec", waits=False, sync_s=0.01) as recorder:
        offer_all(recorder, ASCANS[:200])
        wait_for(lambda: recorder.faults == 1)
        time.sleep(0.2)  # it is tried again and again
        assert recorder.recorded < 100
        assert recorder.faults == 1
        (small_disk / "ballast").unlink()
        wait_for(lambda: recorder.recorded > 100)
        offer_all(recorder, [ASCANS[399]])
        # What waited goes first; there is room for 1 MB in all.
        wait_for(lambda: recorder.recorded == 201)
    summary = recorder.summary()
    assert (summary["recorded"], summary["record_dropped"], summary["record_files"]) == (201, 0, 1)
    ascans, recording = read(small_disk / "scan.usrec")
    assert [ascan.seq for ascan in ascans] == [*range(200), 399]
    assert recording.found.bytes_skipped == 0
    told = [line for line in caplog.messages if "No space left" in line]
    assert len(told) == 1
    assert any("goes on in" in line for line in caplog.messages)


def test_a_disk_that_is_full_at_the_start_is_one_line(small_disk: Path) -> None:
    fill(small_disk / "ballast")
    process = subprocess.run([*USEDGE, "record", "--port", "sim://", "--count", "3",
                              str(small_disk / "s.usrec")], capture_output=True, text=True,
                             timeout=DEADLINE_S, check=False)
    assert process.returncode == 2
    assert process.stderr.splitlines()[-1] == (f"usedge: recording {small_disk}/s.usrec cannot be written"
                                               " (No space left on device). Make room, or record elsewhere.")
    assert not (small_disk / "s.usrec").exists()


def test_a_file_that_may_not_grow_is_followed_by_the_next(tmp_path: Path) -> None:
    """As on FAT, whose files end at 4 GB."""
    blocks = 586
    limit = 512 * blocks
    # By the shell: a fork that runs Python is refused where a library has started threads before.
    process = subprocess.run(
        ["sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh", *USEDGE, "record", "--port", "sim://?prf=200",
         "--count", "150", str(tmp_path / "scan.usrec")],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert process.returncode == 0, process.stderr
    summary = json.loads(process.stdout)
    assert summary["recorded"] + summary["record_dropped"] + summary["unread"] == summary["received"] == 150
    assert "File too large" in process.stderr
    assert "the recording goes on in" in process.stderr
    files = stored_files(str(tmp_path))
    assert len(files) == summary["record_files"] > 1
    assert all(path.stat().st_size <= limit for path in files)
    assert len([*StoredAScans(files)]) == summary["recorded"]


@pytest.mark.parametrize(("name", "words"), [
    ("no/such/scan.usrec", "No such file"), ("file/scan.usrec", "Not a dir"),
    ("folder.usrec", "exists already")])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.usrec").mkdir()
    with pytest.raises(InputError, match=words), recorder_of(tmp_path / name):
        pass


def test_a_read_only_folder_is_one_line(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"), recorder_of(tmp_path / "scan.usrec"):
        pass


def test_a_bug_in_the_recorder_does_not_hide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "pack_ascan", lambda _ascan: 1 / 0)
    with pytest.raises(ZeroDivisionError), recorder_of(tmp_path / "scan.usrec") as recorder:
        offer_all(recorder, ASCANS)
