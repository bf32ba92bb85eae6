"""`usedge run` as its user meets it: in a process of its own, on a real pty."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usedge.resources import shipped_bundle
from usedge_firmware import usfp

USEDGE = [sys.executable, "-m", "usedge"]
DEADLINE_S = 120
DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"real A-scans are not at {DATA}")


def usedge(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*USEDGE, *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def one_line(process: subprocess.CompletedProcess[str], code: int) -> str:
    assert process.returncode == code, process.stderr
    assert "Traceback" not in process.stderr
    lines = [line for line in process.stderr.splitlines() if "received," not in line]
    assert len(lines) == 1, process.stderr
    return lines[0]


@pytest.fixture
def silent_pty() -> Iterator[tuple[int, str]]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


def readings_of(process: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.stdout.splitlines()]


def test_every_ascan_of_the_virtual_transducer_is_accounted_for(tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    process = usedge(
        "run",
        "--port",
        "sim://?prf=200",
        "--count",
        "300",
        "--speed-of-sound",
        "1482",
        "--summary",
        str(summary),
    )
    assert process.returncode == 0, process.stderr
    counts, readings = json.loads(summary.read_text()), readings_of(process)
    assert counts["sent"] == counts["received"] + counts["seq_gaps"] == 300
    assert counts["received"] == counts["classified"] + counts["abstained"] + counts["dropped"]
    assert len(readings) == counts["classified"] + counts["abstained"]
    assert counts["bundle"]["runtime"] == "litert"
    assert [reading["seq"] for reading in readings] == sorted({reading["seq"] for reading in readings})
    for reading in readings:
        assert (reading["tof_us"] is None) == (reading["abstain"] is not None)
        if reading["tof_us"] is not None:
            assert reading["distance_mm"] == pytest.approx(reading["tof_us"] * 0.741, abs=1e-3)
            assert reading["label"] == min(int(reading["tof_us"] / 51.2 * 64), 63)
            assert 0 <= reading["confidence"] <= 1


def test_the_model_and_the_classical_pickers_run_by_the_same_command(emulator: Callable[..., str]) -> None:
    port = emulator("--prf", "200")
    for runtime in ("litert", "classical"):
        process = usedge("run", "--port", port, "--count", "40", "--runtime", runtime)
        assert process.returncode == 0, process.stderr
        assert any(reading["tof_us"] is not None for reading in readings_of(process))


def test_replay_gives_every_row_in_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    x = (np.random.default_rng(1).standard_normal((70, 900)) * 100).astype(np.int16)
    np.savez(path, x=x, fs_hz=10e6, t0_s=5e-6)
    process = usedge("run", "--port", f"replay:{path}")
    assert process.returncode == 0, process.stderr
    assert [reading["seq"] for reading in readings_of(process)] == list(range(70))


def test_interrupt_closes_in_order_and_still_reports(tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    process = subprocess.Popen(
        [*USEDGE, "run", "--port", "sim://?prf=100", "--summary", str(summary)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(5):
        json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert "received" in talk
    assert "Traceback" not in talk
    counts = json.loads(summary.read_text())
    assert counts["sent"] == counts["received"] + counts["seq_gaps"]
    assert (
        counts["received"]
        == counts["classified"] + counts["abstained"] + counts["dropped"] + counts["unread"]
    )


def test_a_reader_that_leaves_ends_the_run_quietly() -> None:
    process = subprocess.Popen(
        [*USEDGE, "run", "--port", "sim://?prf=200"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    json.loads(process.stdout.readline())
    process.stdout.close()
    assert process.wait(timeout=DEADLINE_S) == 0
    talk = process.stderr.read()
    process.stderr.close()
    assert "received" in talk
    assert "Traceback" not in talk


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["run"], "--port"), (["fly"], "fly"), (["run", "--port", "sim://", "--prf", "x"], "--prf")],
)
def test_usage_errors_are_one_line(arguments: list[str], words: str) -> None:
    assert words in one_line(usedge(*arguments), 2)


def test_live_view_on_a_terminal_shows_the_reading_and_the_counters() -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*USEDGE, "run", "--port", "sim://?prf=50", "--count", "50"],
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
    )
    os.close(slave)
    shown = b""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        readable, _, _ = select.select([master], [], [], 1.0)
        try:
            chunk = os.read(master, 65536) if readable else b""
        except OSError:
            break
        shown += chunk
    assert process.wait(timeout=DEADLINE_S) == 0
    os.close(master)
    text = shown.decode()
    assert "50 received (50 Hz)" in text
    assert "confidence" in text
    assert any(0x2800 < ord(letter) < 0x2900 for letter in text)


def test_device_path_imports_no_training_library() -> None:
    code = (
        "import atexit, sys\n"
        "forbidden = {'torch', 'scipy', 'onnx', 'matplotlib', 'lightning', 'tensorflow', 'h5py', 'rich'}\n"
        "atexit.register(lambda: sys.stderr.write('FOUND ' + ','.join(forbidden & set(sys.modules))))\n"
        "sys.argv = ['usedge', 'run', '--port', 'sim://?prf=100', '--count', '5']\n"
        "from usedge.cli import main\nmain()\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert process.returncode == 0, process.stderr
    assert len(process.stdout.splitlines()) == 5
    assert process.stderr.endswith("FOUND "), process.stderr


def test_missing_port() -> None:
    line = one_line(usedge("run", "--port", "/dev/ttyNOPE"), 3)
    assert "/dev/ttyNOPE does not exist" in line
    assert "sim://" in line


def test_port_without_permission(silent_pty: tuple[int, str]) -> None:
    port = silent_pty[1]
    os.chmod(port, 0)
    # Root may open anything: give that up, after the imports that need the right to read this checkout.
    code = (
        "import os, sys\n"
        "import usedge.cli.run, usedge.runtime.runner, usedge.sources.serial_port, usedge.tof\n"
        "if os.getuid() == 0:\n    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"sys.argv = ['usedge', 'run', '--port', '{port}', '--runtime', 'classical']\n"
        "usedge.cli.main()\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    line = one_line(process, 3)
    assert "no permission" in line
    assert "dialout" in line


def test_silent_port_says_that_nothing_came(silent_pty: tuple[int, str]) -> None:
    line = one_line(usedge("run", "--port", silent_pty[1], "--patience", "0.5"), 3)
    assert "sent nothing in 0.5 s" in line


def test_wrong_baud_rate_names_the_likely_causes(silent_pty: tuple[int, str]) -> None:
    master, port = silent_pty
    rng, ended = np.random.default_rng(3), threading.Event()

    def babble() -> None:
        while not ended.is_set():
            if select.select([], [master], [], 0.05)[1]:
                os.write(master, rng.integers(0, 256, 200, dtype=np.uint8).tobytes())
            ended.wait(0.01)

    thread = threading.Thread(target=babble)
    thread.start()
    try:
        line = one_line(usedge("run", "--port", port, "--baud", "115200", "--patience", "1"), 3)
    finally:
        ended.set()
        thread.join()
    assert "no valid frame" in line
    assert "115200" in line


def test_gate_outside_the_ascan() -> None:
    line = one_line(usedge("run", "--port", "sim://?prf=50", "--gate", "40:40"), 2)
    assert "40–80 µs" in line
    assert "51.2 µs" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ("--gate", "banana"),
        ("--gate", "5:-1"),
        ("--speed-of-sound", "-3"),
        ("--runtime", "warp"),
        ("--protocol", "morse"),
        ("--runtime", "classical", "--method", "guess"),
        ("--prf", "5e+06"),
        ("--prf", "0.0001"),
        ("--prf", "nan"),
        ("--count", "5000000000"),
        ("--seconds", "nan"),
        ("--patience", "inf"),
        ("--summary", "/no/such/summary.json"),
    ],
)
def test_bad_option_values(arguments: tuple[str, ...]) -> None:
    line = one_line(usedge("run", "--port", "sim://", *arguments), 2)
    assert arguments[-1].rpartition(":")[2] in line


@pytest.mark.parametrize("port", ["ftp://x", "sim://?colour=red", "replay:/no/such/file.npz"])
def test_bad_ports(port: str) -> None:
    assert one_line(usedge("run", "--port", port), 2)


def test_a_file_that_is_no_bundle(tmp_path: Path) -> None:
    path = tmp_path / "notes.usedge"
    path.write_text("remember the milk")
    assert "notes.usedge" in one_line(usedge("run", "--port", "sim://", "--bundle", str(path)), 2)


def test_a_bundle_with_one_byte_changed(tmp_path: Path) -> None:
    content = bytearray(shipped_bundle().read_bytes())
    content[len(content) // 3] ^= 1
    path = tmp_path / "bent.usedge"
    path.write_bytes(content)
    assert "bent.usedge" in one_line(usedge("run", "--port", "sim://", "--bundle", str(path)), 2)


@needs_data
@pytest.mark.parametrize(
    ("folder", "file", "arguments", "gate", "column"),
    [
        ("synaptus_plane_plexi_alu", "plane_scan_plexi_alu.npz", ("--rows", "0:500"), "81.2:20", 0),
        ("un0rick_usb", "un0rick_ndt_2024.npz", (), "30:25", None),
    ],
)
def test_real_ascans_over_a_pty_give_right_tofs(
    emulator: Callable[..., str],
    tmp_path: Path,
    folder: str,
    file: str,
    arguments: tuple[str, ...],
    gate: str,
    column: int | None,
) -> None:
    path, summary = DATA / folder / file, tmp_path / "summary.json"
    recorded = np.load(path)
    onset_us = (
        np.atleast_1d(
            recorded["tof_onset_model_s"][:, column]
            if column is not None
            else recorded["tof_onset_s_per_trace"]
        )
        * 1e6
    )
    f0_hz = float(recorded["fc_hz"] if column is not None else recorded["fc_hz_est"])
    port = emulator("--data", str(path), "--prf", "60", *arguments)
    process = usedge("run", "--port", port, "--count", "500", "--gate", gate, "--summary", str(summary))
    assert process.returncode == 0, process.stderr
    counts, readings = json.loads(summary.read_text()), readings_of(process)
    assert counts["received"] == counts["sent"] == 500
    assert counts["classified"] + counts["abstained"] == 500 - counts["dropped"]
    error = np.array(
        [
            np.nan
            if reading["tof_us"] is None
            else reading["tof_us"] - onset_us[reading["seq"] % min(len(onset_us), 500)]
            for reading in readings
        ]
    )
    hit = np.abs(error - np.nanmedian(error)) < 1e6 / f0_hz
    assert np.sum(hit) / 500 >= 0.9


def test_what_the_board_says_stands_on_stderr(tmp_path: Path) -> None:
    samples = np.zeros(100, np.int16)
    stream = usfp.encode_ascan(samples, seq=0, fs_hz=10_000_000)
    stream += usfp.encode_log("supply 3.1 V\x1b[2J, too low")
    stream += usfp.encode_ascan(samples, seq=1, fs_hz=10_000_000)
    (tmp_path / "capture.bin").write_bytes(stream)
    process = usedge("run", "--port", f"raw:{tmp_path / 'capture.bin'}")
    assert process.returncode == 0
    assert process.stderr.splitlines()[0] == "device: supply 3.1 V [2J, too low"
    assert len(process.stdout.splitlines()) == 2
