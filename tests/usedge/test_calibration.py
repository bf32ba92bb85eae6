from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from usedge.calibration import (
    Calibration,
    Target,
    by_targets,
    offset_by_target,
    read_calibration,
    speed_by_target,
    speed_by_thickness,
    target,
    write_calibration,
)
from usedge.cli import app
from usedge.errors import InputError
from usedge.ranging import Ranging
from usedge.sound import Speed, Stated

FS_HZ = 20e6
WATER = 1.49263
"""mm/µs"""
OFFSET_US = 1.85
CLASSICAL = ["--runtime", "classical", "--method", "xcorr", "--f0-mhz", "2"]


def ideal(distance_mm: float, tof_us: float, sd_mm: float | None = 0.02, spread_us: float = 0.02) -> Target:
    return Target(distance_mm, sd_mm, tof_us, spread_us, 0.001, 100, 0, 0)


def tof_of(distance_mm: float, share: float = 0.5) -> float:
    return distance_mm / (share * WATER) + OFFSET_US


@pytest.mark.parametrize(("mode", "share"), [("pulse-echo", 0.5), ("pitch-catch", 1.0)])
def test_two_targets_give_speed_and_offset(mode: str, share: float) -> None:
    found = by_targets([ideal(d, tof_of(d, share)) for d in (60.0, 30.0)], mode)
    assert found.speed_m_s == pytest.approx(WATER * 1e3)
    assert found.offset_us == pytest.approx(OFFSET_US)
    assert found.distance_mm(tof_of(45.0, share)) == pytest.approx(45.0)


@pytest.mark.parametrize("distances", [(30.0, 60.0), (20.0, 30.0, 45.0, 60.0)])
@pytest.mark.parametrize("at_mm", [10.0, 45.0, 120.0])
def test_the_stated_uncertainty_is_the_scatter_of_repeated_calibrations(distances: tuple[float, ...],
                                                                        at_mm: float) -> None:
    rng, found, stated = np.random.default_rng(5), [], []
    tof_sd_us = 0.02 / math.sqrt(100)
    for _ in range(600):
        targets = [ideal(d + 0.02 * rng.standard_normal(), tof_of(d) + tof_sd_us * rng.standard_normal())
                   for d in distances]
        ranging = by_targets(targets, "pulse-echo")
        found.append(ranging.distance_mm(tof_of(at_mm) + 0.02 * rng.standard_normal()))
        stated.append(ranging.distance_sd_mm(tof_of(at_mm), 0.001))
    # Four targets that fit badly widen their uncertainty; the median has no part in that.
    assert np.std(found) == pytest.approx(np.median(stated), rel=0.12)


def test_one_target_gives_the_offset_or_the_speed_and_both_carry_what_was_given() -> None:
    one = ideal(30.0, tof_of(30.0))
    by_speed = offset_by_target(one, Speed(WATER * 1e3, 1.0, ""), "pulse-echo")
    assert by_speed.offset_us == pytest.approx(OFFSET_US)
    # At the target itself its own uncertainty is left, whatever that of the speed; far away it is not.
    near, far = by_speed.distance_sd_mm(one.tof_us, 0.001), by_speed.distance_sd_mm(4 * one.tof_us, 0.001)
    assert near == pytest.approx(math.hypot(0.02, 0.746 * 0.02), rel=0.02)
    assert far is not None
    assert far > 2 * (near or 0)
    by_offset = speed_by_target(one, Stated(OFFSET_US, 0.0), "pulse-echo")
    assert by_offset.speed_m_s == pytest.approx(WATER * 1e3)
    share = math.hypot(0.02 / 30, 0.002 / 40.2)
    assert by_offset.speed_sd_m_s == pytest.approx(WATER * 1e3 * share, rel=1e-3)


def test_an_uncertainty_that_nobody_gave_leaves_null() -> None:
    unsure = [ideal(30.0, tof_of(30.0), None), ideal(60.0, tof_of(60.0))]
    assert by_targets(unsure, "pulse-echo").distance_sd_mm(50.0, 0.001) is None
    assert offset_by_target(unsure[0], Speed(1490.0, 1.0, ""), "pulse-echo").offset_sd_us is None
    assert offset_by_target(unsure[1], Speed(1490.0, None, ""), "pulse-echo").distance_sd_mm(9, 0.01) is None
    assert speed_by_target(unsure[1], Stated(0.0, None), "pulse-echo").speed_sd_m_s is None


def test_a_thickness_gives_the_speed_in_the_plate_and_depths_begin_at_its_front() -> None:
    between = ideal(10.0, 2 * 10 / 5.89)
    found = speed_by_thickness(ideal(0.0, 20.0), between)
    assert found.speed_m_s == pytest.approx(5890.0)
    assert found.distance_mm(20.0 + 2 * 4 / 5.89) == pytest.approx(4.0)


def test_answers_become_a_mean_without_the_few_that_are_another_echo() -> None:
    found = target(Stated(30.0, 0.1), [40.0, 40.02, 39.98, 40.0, 40.01, 39.99, None, 52.0], 0.05)
    assert found.tof_us == pytest.approx(40.0)
    assert (found.n, found.abstained, found.outliers) == (6, 1, 1)


@pytest.mark.parametrize(("tof_us", "words"), [
    ([40.0] * 4, "only 4 of 4"), ([40.0] * 6 + [None] * 7, "only 6 of 13"),
    ([40.0] * 6 + [60.0] * 3, "3 of 9 answers lie apart"),
])
def test_a_target_that_was_hardly_seen_is_refused(tof_us: list[float | None], words: str) -> None:
    with pytest.raises(InputError, match=words):
        target(Stated(30.0), tof_us, 0.05)


@pytest.mark.parametrize(("pairs", "words"), [
    ([(30.0, 40.0), (30.0, 80.0)], "two targets are at 30 mm"),
    ([(30.0, 80.0), (60.0, 40.0)], "does not grow"),
    ([(30.0, 40.0), (31.0, 8040.0)], "came out as 0 m/s"),
])
def test_targets_that_make_no_line_are_refused(pairs: list[tuple[float, float]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        by_targets([ideal(d, t) for d, t in pairs], "pulse-echo")


def test_an_echo_before_the_offset_is_refused() -> None:
    with pytest.raises(InputError, match="before the offset 50"):
        speed_by_target(ideal(30.0, 40.0), Stated(50.0), "pulse-echo")


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "tank.json"
    targets = (ideal(30.0, tof_of(30.0)), ideal(60.0, tof_of(60.0)))
    write_calibration(path, Calibration(by_targets(targets, "pulse-echo"), targets, ("20:80",),
                                        {"method": "xcorr"}, "2026-01-02T03:04:05+00:00", "1"))
    return path


def test_a_file_reads_back_as_it_was(stored: Path) -> None:
    found = read_calibration(stored)
    assert found.ranging.distance_mm(tof_of(45.0)) == pytest.approx(45.0)
    assert [each.distance_mm for each in found.targets] == [30.0, 60.0]
    assert found.picker == {"method": "xcorr"}


def test_a_changed_file_is_refused_whatever_was_changed(stored: Path) -> None:
    text = stored.read_text()
    for old, new in (("1492.6", "1402.6"), ('"n": 100', '"n": 101'), ("pulse-echo", "pitch-catch")):
        assert old in text
        stored.write_text(text.replace(old, new, 1))
        with pytest.raises(InputError, match="damaged"):
            read_calibration(stored)
    for cut in (0, 1, len(text) // 2):
        stored.write_text(text[:cut])
        with pytest.raises(InputError, match="no calibration, or is damaged"):
            read_calibration(stored)


@pytest.mark.parametrize(("change", "words"), [
    ({"version": 2}, "version 2; this usedge reads 1. Update usedge"), ({"version": None}, "version None"),
    ({"format": "other"}, "no calibration"), ({"sha256": "0"}, "damaged"),
])
def test_another_version_or_format_is_refused(stored: Path, change: dict[str, Any], words: str) -> None:
    stored.write_text(json.dumps(json.loads(stored.read_text()) | change))
    with pytest.raises(InputError, match=words):
        read_calibration(stored)


def test_a_file_that_is_not_there_or_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_calibration(path)


def record(path: Path, *tof_us: float, rows: int = 12) -> str:
    """A-scans with a two-cycle echo of 2 MHz at each of ``tof_us``, as a port."""
    rng, t = np.random.default_rng(len(str(path))), np.arange(2400) / FS_HZ * 1e6
    x = rng.normal(0, 4, (rows, t.size))
    for each in tof_us:
        u = t - each - rng.normal(0, 0.01, (rows, 1))
        x += 900 * np.where((u > 0) & (u < 2.5), np.sin(np.pi * u / 2.5) ** 2, 0) * np.sin(4 * np.pi * u)
    np.savez(path, x=x.round().astype(np.int16), fs_hz=FS_HZ, t0_s=0.0)
    return f"replay:{path}"


def usedge(*arguments: str, stdin: str = "") -> Any:
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        return CliRunner().invoke(app, list(arguments), input=stdin)
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)


def readings(result: Any) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.exception
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_calibrated_on_two_targets_a_third_is_measured_to_its_uncertainty(tmp_path: Path) -> None:
    near, far = record(tmp_path / "a.npz", tof_of(30.0)), record(tmp_path / "b.npz", tof_of(60.0))
    out = str(tmp_path / "tank.json")
    result = usedge("calibrate", "--port", near, "--port", far, "--target", "30+-0.01", "--target",
                    "60+-0.01", "-o", out, *CLASSICAL)
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout)["ranging"]["speed_m_s"] == pytest.approx(WATER * 1e3, rel=1e-3)
    third = record(tmp_path / "c.npz", tof_of(45.0))
    for reading in readings(usedge("run", "--port", third, "--calibration", out, *CLASSICAL)):
        assert 0.005 < reading["distance_sd_mm"] < 0.05
        assert abs(reading["distance_mm"] - 45.0) < 4 * reading["distance_sd_mm"]
    other = usedge("run", "--port", third, "--calibration", out, "--runtime", "classical")
    assert "made with the picker xcorr, not the picker threshold" in other.stderr


def test_a_target_is_moved_when_the_user_says_so(tmp_path: Path) -> None:
    port = record(tmp_path / "a.npz", tof_of(30.0))
    arguments = ["calibrate", "--port", port, "--target", "30", "--target", "60", *CLASSICAL,
                 "-o", str(tmp_path / "x.json")]
    moved = usedge(*arguments, stdin="\n\n")
    assert "does not grow" in str(moved.exception)  # a recording does not move
    assert "put the target at 60 mm" in moved.stderr
    assert "nobody pressed Enter for target 2" in str(usedge(*arguments, stdin="\n").exception)
    assert not (tmp_path / "x.json").exists()


def test_a_plate_of_known_thickness_gives_its_speed(tmp_path: Path) -> None:
    port = record(tmp_path / "plate.npz", 20.0, 20.0 + 2 * 12 / 5.89)
    result = usedge("calibrate", "--port", port, "--thickness", "12+-0.005", "--gate", "front=14:9",
                    "--gate", "back=23:10", "-o", str(tmp_path / "p.json"), *CLASSICAL)
    assert result.exit_code == 0, result.exception
    found = json.loads(result.stdout)["ranging"]
    assert found["speed_m_s"] == pytest.approx(5890, rel=5e-3)
    assert abs(found["speed_m_s"] - 5890) < 3 * found["speed_sd_m_s"]


@pytest.mark.parametrize(("arguments", "words"), [
    ([], "nothing is known"), (["--target", "0"], "0 mm is no distance"),
    (["--target", "30", "--target", "30"], "two targets are at 30 mm"),
    (["--target", "30", "--target", "60", "--speed-of-sound", "1482"], "two targets give speed"),
    (["--target", "30", "--speed-of-sound", "stel"], "nearest known one is steel"),
    (["--target", "30", "--speed-of-sound", "-1"], "not positive"),
    (["--target", "30", "--speed-of-sound", "1482", "--offset-us", "1"], "both given"),
    (["--target", "x"], "target 'x'"), (["--thickness", "5", "--target", "30"], "--thickness seeks"),
    (["--target", "30", "--gate", "1:2", "--gate", "3:4"], "2 gates for 1 target"),
    (["--target", "30", "--port", "sim://", "--port", "sim://"], "3 ports for 1 target"),
    (["--target", "30", "--mode", "both"], "mode both is unknown"),
    (["--target", "30", "-o", "/nowhere/x.json"], "cannot be written"),
    (["--target", "30", "--gate", "100:50"], "not inside the A-scan"),
])
def test_what_cannot_be_calibrated_is_refused(tmp_path: Path, arguments: list[str], words: str) -> None:
    port = record(tmp_path / "a.npz", tof_of(30.0), rows=5)
    out = [] if "-o" in arguments else ["-o", str(tmp_path / "x.json")]
    result = usedge("calibrate", "--port", port, *arguments, *out, *CLASSICAL)
    assert isinstance(result.exception, InputError)
    assert words in str(result.exception)
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(("arguments", "words"), [
    (["--speed-of-sound", "water@99C"], "0 … 95"), (["--offset-us", "1"], "without a speed of sound"),
    (["--speed-of-sound", "1482", "--tof-sd-ns", "-1"], "--tof-sd-ns -1"),
    (["--calibration", "none.json"], "none.json cannot be read"),
    (["--calibration", "none.json", "--speed-of-sound", "1482"], "holds speed, offset and mode"),
    (["--gate", "20:30", "--gate", "late=100:50"], "gate late: the gate 100–150 µs is not inside"),
    (["--smooth", "median:2"], "odd number"),
])
def test_what_a_run_cannot_use_is_refused(tmp_path: Path, arguments: list[str], words: str) -> None:
    port = record(tmp_path / "a.npz", 40.0, rows=2)
    result = usedge("run", "--port", port, *arguments, *CLASSICAL)
    assert isinstance(result.exception, InputError)
    assert words in str(result.exception)


def test_several_gates_each_have_their_reading_and_the_counts_balance(tmp_path: Path) -> None:
    port, summary = record(tmp_path / "plate.npz", 20.0, 60.0), tmp_path / "summary.json"
    said = readings(usedge("run", "--port", port, "--gate", "front=14:20", "--gate", "55:20", "--gate",
                           "empty=80:30", "--summary", str(summary), "--smooth", "median:3",
                           "--speed-of-sound", "water@20C", *CLASSICAL))
    assert [each["gate"] for each in said] == ["front", "55:20", "empty"] * 12
    counts = json.loads(summary.read_text())
    assert counts["received"] == counts["classified"] == 12
    assert counts["abstained"] == counts["dropped"] == counts["unread"] == 0
    assert counts["gates"] == {"front": {"classified": 12, "abstained": 0},
                               "55:20": {"classified": 12, "abstained": 0},
                               "empty": {"classified": 0, "abstained": 12}}
    for each in said:
        near = {"front": 20.5, "55:20": 60.5, "empty": None}[each["gate"]]
        assert each["smooth"] == "median:3"
        assert each["smoothed_us"] == (None if near is None else pytest.approx(near, abs=0.3))
        assert (each["smoothed_mm"] is None) == (near is None)


def test_one_gate_keeps_the_contract_even_when_it_has_a_name(tmp_path: Path) -> None:
    port = record(tmp_path / "a.npz", 40.0, rows=3)
    plain = readings(usedge("run", "--port", port, *CLASSICAL))
    named = readings(usedge("run", "--port", port, "--gate", "wall=20:60", *CLASSICAL))
    assert [list(each) for each in named] == [list(each) for each in plain]
    assert "gate" not in named[0]
    assert Ranging(1482.0).distance_mm(named[0]["tof_us"]) > 0
