"""Front ends that are not ours, as their users meet them: captured streams and live ports."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usedge.errors import InputError
from usedge.sources import SourceOptions, open_source
from usedge_firmware import usfp
from usedge_firmware.dialect import DeviceDescription
from usedge_firmware.frontends import open_dialect

USEDGE = [sys.executable, "-m", "usedge"]
DEADLINE_S = 120
VECTORS = Path(__file__).parents[3] / "shared" / "vectors"
needs_vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"foreign byte streams are not at {VECTORS}")
ROWS = (np.random.default_rng(3).standard_normal((12, 400)) * 90).astype(np.int16)
CAPTURES = {
    "p0rk": ("p0rk/p0rk_selftest_stream.bin", 21),
    "wulpus": ("wulpus/wulpus_usb_200frames.bin", 200),
    "pic0rick": ("pic0rick_text/read_8000.txt", 1),
}


def stream_of(protocol: str) -> bytes:
    """What a board of that kind sends of ``ROWS``."""
    if protocol == "usfp":
        return b"".join(usfp.encode_ascan(row, seq=seq, fs_hz=8_000_000) for seq, row in enumerate(ROWS))
    device = open_dialect(protocol, DeviceDescription(fs_hz=8_000_000, n_samples=400))
    return b"".join(device.ascan(row, seq=seq, t_us=seq * 1000) for seq, row in enumerate(ROWS))


def run_raw(path: Path, tmp_path: Path, *arguments: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    summary = tmp_path / "summary.json"
    process = subprocess.run([*USEDGE, "run", "--port", f"raw:{path}", "--summary", str(summary), *arguments],
                             capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(summary.read_text()), [json.loads(line) for line in process.stdout.splitlines()]


@needs_vectors
@pytest.mark.parametrize("protocol", CAPTURES)
def test_a_captured_stream_is_read_as_a_port_and_its_protocol_found(protocol: str, tmp_path: Path) -> None:
    name, n = CAPTURES[protocol]
    summary, readings = run_raw(VECTORS / name, tmp_path, "--protocol", "auto")
    assert summary["protocol"] == protocol
    assert (summary["received"], summary["seq_gaps"], summary["crc_errors"], len(readings)) == (n, 0, 0, n)
    seqs = [reading["seq"] for reading in readings]
    assert seqs == list(range(seqs[0], seqs[0] + n))


@needs_vectors
@pytest.mark.parametrize("protocol", CAPTURES)
def test_garbage_before_a_captured_stream_costs_nothing(protocol: str, tmp_path: Path) -> None:
    name, n = CAPTURES[protocol]
    garbage = random.Random(protocol).randbytes(5000)
    (tmp_path / "noisy.bin").write_bytes(garbage + (VECTORS / name).read_bytes())
    summary, _ = run_raw(tmp_path / "noisy.bin", tmp_path)
    assert (summary["protocol"], summary["received"]) == (protocol, n)


@needs_vectors
@pytest.mark.parametrize(("protocol", "size"), [("wulpus", 813), ("p0rk", None)])
def test_a_cut_costs_the_records_it_cuts(protocol: str, size: int | None, tmp_path: Path) -> None:
    name, n = CAPTURES[protocol]
    stream = (VECTORS / name).read_bytes()
    rng = random.Random(7)
    bounds = [i * size for i in range(n + 1)] if size else p0rk_bounds(stream)
    for _ in range(20):
        start, stop = sorted(rng.randrange(len(stream)) for _ in range(2))
        whole = sum(start <= begin and end <= stop for begin, end in pairwise(bounds))
        (tmp_path / "cut.bin").write_bytes(stream[start:stop])
        source = open_source(f"raw:{tmp_path / 'cut.bin'}", SourceOptions())
        if whole == 0:
            with pytest.raises(InputError, match="no whole A-scan"), source:
                list(source)
            continue
        with source:
            assert len(list(source)) == whole, (start, stop)


def p0rk_bounds(stream: bytes) -> list[int]:
    bounds = [0]
    while bounds[-1] < len(stream):
        bounds.append(bounds[-1] + 64 + int.from_bytes(stream[bounds[-1] + 20 : bounds[-1] + 24], "little"))
    return bounds


@needs_vectors
def test_envelopes_are_received_and_not_timed(tmp_path: Path) -> None:
    _, readings = run_raw(VECTORS / CAPTURES["p0rk"][0], tmp_path)
    headers = json.loads((VECTORS / "p0rk" / "headers.json").read_text())
    envelope = [header["payload_type"] != 1 for header in headers]
    told = [reading["abstain"] == "out_of_distribution" for reading in readings]
    with open_source(f"raw:{VECTORS / CAPTURES['p0rk'][0]}", SourceOptions()) as source:
        constant = [bool(np.ptp(ascan.samples) == 0) for ascan in source]
    assert told == [one or other for one, other in zip(envelope, constant, strict=True)]
    assert not all(told)


@pytest.mark.parametrize("protocol", ["usfp", "wulpus", "p0rk", "pic0rick"])
def test_every_protocol_is_found_in_a_capture(protocol: str, tmp_path: Path) -> None:
    (tmp_path / "capture.bin").write_bytes(b"\x00boot v1\r\n" + stream_of(protocol))
    with open_source(f"raw:{tmp_path / 'capture.bin'}", SourceOptions()) as source:
        ascans = list(source)
    assert source.protocol == protocol
    assert [ascan.seq - ascans[0].seq for ascan in ascans] == list(range(len(ROWS)))
    if protocol in ("usfp", "wulpus"):
        np.testing.assert_array_equal([ascan.samples for ascan in ascans], ROWS)


def test_a_capture_of_nothing_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "noise.bin").write_bytes(random.Random(1).randbytes(20_000))
    for name, words in (("noise.bin", "no whole A-scan"), ("none.bin", "cannot be read")):
        process = subprocess.run([*USEDGE, "run", "--port", f"raw:{tmp_path / name}"], capture_output=True,
                                 text=True, timeout=DEADLINE_S, check=False)
        assert process.returncode == 2
        assert words in process.stderr.splitlines()[-1] + process.stderr.splitlines()[0]
        assert "Traceback" not in process.stderr


@pytest.mark.parametrize(("options", "words"), [
    (SourceOptions(protocol="modbus"), "usfp"), (SourceOptions(payload="int7"), "packed12"),
])
def test_an_unknown_name_prints_the_known_ones(options: SourceOptions, words: str) -> None:
    with pytest.raises(InputError, match=words):
        open_source("raw:x", options)


@pytest.mark.parametrize("protocol", ["wulpus", "p0rk", "pic0rick"])
@pytest.mark.parametrize("asked", ["auto", "own"])
def test_a_live_board_is_found_started_read_and_stopped(
    emulator: Callable[..., str], tmp_path: Path, protocol: str, asked: str
) -> None:
    np.savez(tmp_path / "scan.npz", x=ROWS, fs_hz=8e6)
    port = emulator("--as", protocol, "--data", str(tmp_path / "scan.npz"), "--prf", "50")
    chosen = protocol if asked == "own" else "auto"
    options = SourceOptions(protocol=chosen, count=30, prf_hz=40, patience_s=30)
    with open_source(port, options) as source:
        ascans = list(source)
    assert source.protocol == protocol
    assert (len(ascans), source.counts.received, source.counts.seq_gaps) == (30, 30, 0)
    if protocol == "wulpus":
        np.testing.assert_array_equal(ascans[0].samples, ROWS[ascans[0].seq % len(ROWS)])


@pytest.mark.parametrize("payload", ["packed12", "rice"])
def test_a_payload_format_is_asked_for_and_gives_the_same_counts(emulator: Callable[..., str], tmp_path: Path,
                                                                 payload: str) -> None:
    np.savez(tmp_path / "scan.npz", x=ROWS, fs_hz=8e6)
    port = emulator("--data", str(tmp_path / "scan.npz"), "--prf", "0")
    with open_source(port, SourceOptions(count=20, payload=payload, patience_s=30)) as source:
        ascans = list(source)
    np.testing.assert_array_equal([ascan.samples for ascan in ascans], ROWS[np.arange(20) % len(ROWS)])
