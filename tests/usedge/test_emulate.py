"""Recorded A-scans from every kind of file, and `usedge emulate` on them."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from usedge.errors import InputError
from usedge.sources import SourceOptions, open_source
from usedge.sources.files import read_ascans
from usedge_firmware import usfp
from usedge_firmware.ledger import read_ledger

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
        (["--faults", "flop=0.1", "--data", "{npz}"], "nearest is 'flip'"),
        (["--faults", "flip=2", "--data", "{npz}"], "0 to 1, not '2'"),
        (["--as", "morse", "--data", "{npz}"], "protocol 'morse' is unknown"),
        (["--ledger", "/no/such/ledger", "--data", "{npz}"], "/no/such/ledger"),
        (["--link", "{npz}", "--data", "{npz}"], "no symbolic link"),
        (["--link", "/no/such/link", "--data", "{npz}"], "/no/such/link"),
        (["--prf", "nan", "--data", "{npz}"], "PRF nan Hz"),
        (["--prf", "0.0001", "--data", "{npz}"], "PRF 0.0001 Hz"),
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


FAULTS = "flip=0.04,loss=0.03,burst=0.02,drop=0.04,duplicate=0.04,reorder=0.04,text=0.04,saturate=0.02"


def test_the_ledger_balances_with_what_a_host_counted(tmp_path: Path) -> None:
    ledger, n = tmp_path / "ledger.jsonl", 600
    port = f"sim://?prf=0&samples=256&ascans=8&faults={FAULTS}&faults-seed=3&ledger={ledger}"
    with open_source(port, SourceOptions(count=n)) as source:
        taken = [ascan.seq for ascan in source]
    header, _, fates = read_ledger(ledger)
    assert (header["seed"], fates["sent"]) == (3, n)
    assert sorted(taken) == sorted(set(taken))
    assert (source.counts.received, source.counts.duplicated) == (fates["intact"], fates["copies"])
    assert source.counts.seq_gaps == fates["damaged"] + fates["dropped"] > 30
    assert fates["faults"].keys() == {word.partition("=")[0] for word in FAULTS.split(",")}


@pytest.mark.parametrize("protocol", ["p0rk", "wulpus", "pic0rick"])
def test_other_boards_are_emulated(protocol: str) -> None:
    port = f"sim://?as={protocol}&prf=40&ascans=4"
    with open_source(port, SourceOptions(count=5, protocol=protocol)) as source:
        assert len(list(source)) == 5


def test_a_pulled_cable_leaves_the_link_to_come_back(tmp_path: Path) -> None:
    link, ledger = tmp_path / "port", tmp_path / "ledger"
    command = [sys.executable, "-m", "usedge", "emulate", "--prf", "0", "--ascans", "4", "--link", str(link),
               "--faults", "disconnect=0.02:0.05", "--ledger", str(ledger)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == str(link)
        first_numbers = [stream_to_the_hang_up(link) for _ in range(3)]
    finally:
        process.terminate()
        talk = process.communicate(timeout=DEADLINE_S)[1]
    assert first_numbers[0] == 0 < first_numbers[1] < first_numbers[2]
    assert "0 dropped" in talk.splitlines()[-1]
    assert read_ledger(ledger)[2]["faults"] == {"disconnect": 3}
    assert not link.is_symlink()


def stream_to_the_hang_up(link: Path) -> int:
    """Start the device behind ``link``; the number of its first A-scan, once it has hung up again."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            fd = os.open(link, os.O_RDWR | os.O_NOCTTY)
            break
        except OSError:
            assert time.monotonic() < deadline, "it never came back"
            time.sleep(0.01)
    os.write(fd, usfp.command_start())
    decoder, frames, chunk = usfp.Decoder(), [], b"-"
    while chunk:
        assert select.select([fd], [], [], DEADLINE_S)[0], "it never hung up"
        try:
            chunk = os.read(fd, 65536)
        except OSError:
            chunk = b""
        frames += decoder.feed(chunk)
    os.close(fd)
    return next(usfp.parse_ack(each).detail for each in frames if each.type == usfp.FrameType.ACK)
