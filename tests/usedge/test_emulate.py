"""Recorded A-scans from every kind of file, and `usedge emulate` on them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from usedge.errors import InputError
from usedge.sources import SourceOptions, open_source
from usedge.sources.files import read_ascans
from usedge_firmware import usfp

ROWS = (np.random.default_rng(4).standard_normal((6, 200)) * 500).astype(np.int16)
DEADLINE_S = 60


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    frames = [usfp.encode_ascan(row, seq=seq, fs_hz=5_000_000, t0_ns=2500) for seq, row in enumerate(ROWS)]
    path = tmp_path / "capture.usfp"
    path.write_bytes(b"noise" + b"".join(frames))
    return path


def test_a_captured_stream_reads_back(capture: Path) -> None:
    ascans, crc_errors, _ = read_ascans(capture)
    assert crc_errors == 0
    np.testing.assert_array_equal([ascan.samples for ascan in ascans], ROWS)
    assert {(ascan.fs_hz, ascan.t0_us) for ascan in ascans} == {(5e6, 2.5)}


def test_damage_in_a_captured_stream_is_counted(capture: Path) -> None:
    content = bytearray(capture.read_bytes())
    content[700] ^= 4
    capture.write_bytes(content)
    with open_source(f"replay:{capture}", SourceOptions()) as source:
        assert [ascan.seq for ascan in source] == [0, 2, 3, 4, 5]
    assert source.counts.crc_errors == 1


def test_a_file_without_a_frame_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.usfp").write_bytes(bytes(500))
    with pytest.raises(InputError, match="no A-scan of a known protocol"):
        read_ascans(tmp_path / "x.usfp")


def emulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "usedge", "emulate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)


def test_an_array_is_taken_by_its_name_and_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "scan.npz"
    np.savez(path, bscan=ROWS, fs_hz=5e6)
    command = [
        sys.executable,
        "-m",
        "usedge",
        "emulate",
        "--data",
        str(path),
        "--x",
        "bscan",
        "--rows",
        "2:5",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        with open_source(process.stdout.readline().strip(), SourceOptions(count=4)) as source:
            sent = [ascan.samples for ascan in source]
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE_S)
    np.testing.assert_array_equal(sent, ROWS[[2, 3, 4, 2]])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "/no/such.npz"], "such.npz"),
        (["--preset", "moon"], "moon"),
        (["--rows", "a:b", "--data", "{npz}"], "a:b"),
        (["--rows", "50:60", "--data", "{npz}"], "50:60"),
        (["--x", "volts", "--data", "{npz}"], "volts"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, arguments: list[str], words: str) -> None:
    path = tmp_path / "scan.npz"
    np.savez(path, x=ROWS, fs_hz=5e6)
    process = emulate(*(argument.format(npz=path) for argument in arguments))
    assert process.returncode == 2
    assert words in process.stderr
    assert len(process.stderr.splitlines()) == 1


def test_a_port_that_cannot_be_opened() -> None:
    process = emulate("--port", "/dev/ttyNOPE")
    assert process.returncode == 3
    assert "/dev/ttyNOPE" in process.stderr
    assert len(process.stderr.splitlines()) == 1
