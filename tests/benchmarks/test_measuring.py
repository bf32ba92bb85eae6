"""Memory, start-up, accuracy and energy: what the suites measure, on small numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from usedge.bundle import Bundle, read_bundle
from usedge.errors import InputError
from usedge.health.machine import Machine
from usedge.resources import shipped_bundle, suite
from usedge_bench import accuracy, energy, memory, page_cache, startup
from usedge_bench.install import install_size, required
from usedge_bench.meters import ENERGY, Meter, find_meters, joules
from usedge_bench.report import as_table
from usedge_bench.suite import AccuracySuite, EnergySuite, MemorySuite, StartupSuite, load_suite

ROOT = Path(__file__).parents[2]


def quiet(_line: str) -> None:
    pass


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(shipped_bundle())


def test_memory_follows_a_run_from_outside_and_every_allocation_within(bundle: Bundle) -> None:
    small = MemorySuite(ascans=60, prf_hz=200.0, points=6, traced_ascans=10, traced_warmup=5,
                        traced_prf_hz=50.0, samples=1000, seed=8)
    report = dict(memory.run_memory(bundle, small, quiet))
    for curve in report["curves"].values():  # type: ignore[attr-defined]
        assert [n for n, _ in curve["points"]][:3] == [1, 10, 20]
        assert 10 < curve["settled_mb"] <= curve["peak_mb"] + 0.1
        assert curve["growth_mb"] == pytest.approx(curve["end_mb"] - curve["settled_mb"], abs=0.01)
    for told in report["allocations"].values():  # type: ignore[attr-defined]
        assert told["transient_kb"]["n"] == 10
        assert told["transient_kb"]["p50_kb"] > 2  # an A-scan alone is 2 kB
    assert "| model |" in as_table(report)


def test_growth_is_counted_behind_the_first_tenth() -> None:
    told = memory.curve_figures([(1, 30.0), (10, 40.0), (50, 41.0), (100, 42.5)], 43.0)
    assert (told["settled_mb"], told["end_mb"], told["growth_mb"], told["peak_mb"]) == (40.0, 42.5, 2.5, 43.0)
    assert memory.curve_figures([], float("nan"))["growth_mb"] is None


def test_what_an_ascan_keeps_and_what_it_needs_for_a_while_are_told_apart() -> None:
    traced, kept = memory.Traced(warmup=3), []
    tracemalloc.start()
    try:
        for _ in range(13):
            kept.append(bytes(1000))
            bytearray(50_000)
            traced.write(None, None)  # type: ignore[arg-type]
        told = memory.allocation_figures(traced, tracemalloc.take_snapshot(), seed=1)
    finally:
        tracemalloc.stop()
    assert told["transient_kb"]["n"] == 10
    assert 50 < told["transient_kb"]["p50_kb"] < 60
    assert 1000 < told["kept_bytes"] < 1500
    assert told["kept_where"][0]["line"].startswith("benchmarks/test_measuring.py:")


def test_the_install_is_the_wheel_and_what_it_requires() -> None:
    told = install_size("usedge")
    names = {each["name"]: each["mb"] for each in told["packages"]}
    assert {"usedge", "numpy", "pyserial", "typer", "rich"} <= set(names)
    assert not {"torch", "onnxruntime", "pytest"} & set(names)
    assert told["total_mb"] == pytest.approx(sum(names.values()), abs=0.1)
    assert names["usedge"] > os.path.getsize(shipped_bundle()) / 1e6


def test_extras_other_systems_and_older_pythons_are_not_required() -> None:
    assert required(["a>=1", 'b; extra == "web"', "c; sys_platform == 'win32'", 'd; python_version < "3.0"',
                     "e[x]>=2; python_version < '3.99'", 'f ; platform_system == "Linux"']) == ["a", "e", "f"]


def test_dropped_files_are_read_from_the_disk_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    path.read_bytes()
    with path.open("rb") as file:
        if page_cache.resident(file.fileno(), 1 << 20) != 1 << 20:
            pytest.skip("the kernel does not keep what was just read")
        told = page_cache.drop([path, tmp_path / "gone"])
        if os.statvfs(path).f_fsid == 0:
            pytest.skip("a file system in memory has nothing to drop")
        assert page_cache.resident(file.fileno(), 1 << 20) == 0
    assert (told["mb"], told["kept_mb"]) == (1.0, 0.0)


def test_the_files_of_a_program_are_found() -> None:
    names = {path.name for path in page_cache.files_read("calendar", ["2024"])}
    assert any(name.startswith("calendar") for name in names)  # the module itself, which Python opened
    assert any(name.startswith("libc") for name in names)  # a library, which the loader mapped


def test_every_contender_starts_cold_and_warm(bundle: Bundle) -> None:
    small = StartupSuite(rounds=1, prf_hz=200.0, samples=2048, seed=8)
    report = dict(startup.run_startup(bundle, small, quiet))
    starts = {(row["contender"], row["start"]) for row in report["rows"]}  # type: ignore[attr-defined]
    assert {("usedge", "cold"), ("usedge", "warm")} <= starts
    assert report["cache"]["files"] > 50  # type: ignore[index]
    assert all(row["min_s"] == row["median_s"] > 0 for row in report["rows"])  # type: ignore[attr-defined]
    assert "| usedge | cold |" in as_table(report)


FEW = AccuracySuite(preset="field", ascans=40, samples=1000, seed=3)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = accuracy.synthetic_set(FEW)
    path = tmp_path_factory.mktemp("accuracy") / "water.npz"
    np.savez(path, x=made.x, fs_hz=made.fs_hz, t0_s=0.0, tof_s=made.tof_s, f0_hz=made.f0_hz,
             source="water: tank 1")
    return path


def test_accuracy_is_that_of_evaluate(bundle: Bundle, labelled: Path) -> None:
    report = dict(accuracy.run_accuracy(bundle, FEW, quiet, [labelled]))
    process = subprocess.run([sys.executable, "-m", "usedge", "evaluate", str(labelled), "--json"],
                             capture_output=True, text=True, check=True, timeout=120)
    theirs = json.loads(process.stdout)["all"]["methods"]
    ours = {row["method"]: row for row in report["rows"] if row["source"] == "all"}  # type: ignore[attr-defined]
    assert set(ours) == set(theirs) == {"model", "threshold", "envelope", "aic", "xcorr"}
    for name, row in ours.items():
        for key in ("hit_half_period", "hit_one_period", "miss_rate", "false_alarm_rate"):
            assert row[key] == pytest.approx(theirs[name][key])
        low, high = row["ci95_hit_half_period"]
        assert low <= row["hit_half_period"] <= high
    assert "| all | model |" in as_table(report)


def test_several_sources_have_rows_of_their_own(bundle: Bundle, labelled: Path, tmp_path: Path) -> None:
    other = tmp_path / "steel.npz"
    with np.load(labelled) as file:
        np.savez(other, **{**file, "source": "steel"})
    report = accuracy.run_accuracy(bundle, FEW, quiet, [labelled, other])
    assert list(dict.fromkeys(row["source"] for row in report["rows"])) == ["all", "water", "steel"]


def test_without_files_the_synthetic_set_is_that_of_synth() -> None:
    made = accuracy.synthetic_set(FEW)
    again = accuracy.synthetic_set(FEW)
    np.testing.assert_array_equal(made.x, again.x)
    assert len(made) == 40
    assert 0 < made.has_echo.sum() < 40
    assert (made.tof_s[made.has_echo] < 1000 / made.fs_hz).all()


def test_a_cnn_checkpoint_stands_beside(bundle: Bundle, labelled: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is the extra `train`")
    from usedge.models.checkpoint import Checkpoint, save_checkpoint
    from usedge.models.config import MAEConfig
    from usedge.models.nets import build

    torch.manual_seed(1)
    sizes = MAEConfig(d_model=16, heads=1, d_head=8, mlp_hidden=16, backbone="cnn")
    weights = dict(build("tof", bundle.spec, sizes).state_dict())
    save_checkpoint(tmp_path / "cnn", Checkpoint("tof", bundle.spec, sizes,
                                                 {"scores": {"no_echo_threshold": 0.99}}, weights))
    report = accuracy.run_accuracy(bundle, FEW, quiet, [labelled], tmp_path / "cnn")
    assert [row["method"] for row in report["rows"]][-1] == "checkpoint"
    with pytest.raises(InputError, match="made no picks"):
        accuracy.run_accuracy(bundle, FEW, quiet, [labelled], tmp_path / "nothing")


def put(root: Path, files: dict[str, str]) -> Machine:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Machine(root)


def test_meters_of_all_kinds_are_found(tmp_path: Path) -> None:
    rapl, hwmon = "sys/class/powercap/intel-rapl:0", "sys/class/hwmon"
    machine = put(tmp_path, {
        f"{rapl}/energy_uj": "5000000", f"{rapl}/max_energy_range_uj": "262143328850",
        f"{rapl}/name": "package-0",
        f"{rapl}:0/energy_uj": "100", f"{rapl}:0/name": "core",
        f"{hwmon}/hwmon0/name": "ina226", f"{hwmon}/hwmon0/power1_input": "3250000",
        f"{hwmon}/hwmon1/name": "ina3221", f"{hwmon}/hwmon1/in1_label": "VDD_IN",
        f"{hwmon}/hwmon1/in1_input": "5000", f"{hwmon}/hwmon1/curr1_input": "900",
        f"{hwmon}/hwmon2/name": "cpu_thermal", f"{hwmon}/hwmon2/power1_input": "1",
        "sys/bus/i2c/drivers/ina3221x/1-0040/iio:device0/in_power0_input": "2100",
        "sys/bus/i2c/drivers/ina3221x/1-0040/iio:device0/rail_name_0": "POM_5V_IN"})
    meters, why = find_meters(machine)
    assert {(each.name, each.kind): each.read() for each in meters} == {
        ("RAPL package-0", "energy"): 5.0, ("ina226", "power"): 3.25, ("VDD_IN", "power"): 4.5,
        ("POM_5V_IN", "power"): pytest.approx(2.1)}
    assert why == []


def test_a_counter_may_wrap_once() -> None:
    meter = Meter("RAPL", ENERGY, "", lambda: 0.0, wraps_j=1000.0)
    assert joules(meter, 10.0, 25.0) == 15.0
    assert joules(meter, 990.0, 5.0) == 15.0


def test_energy_is_the_power_over_that_at_rest(bundle: Bundle, tmp_path: Path) -> None:
    machine = put(tmp_path, {"sys/class/hwmon/hwmon0/name": "ina219",
                             "sys/class/hwmon/hwmon0/power1_input": "2500000"})
    small = EnergySuite(rounds=2, rest_s=0.1, stretch_s=0.2, settle_s=0.0, prf_hz=50.0, sampling_hz=50.0,
                        samples=1000, seed=8)
    report = dict(energy.run_energy(bundle, small, quiet, machine))
    (row,) = report["rows"]  # type: ignore[misc]
    assert (row["rest_w"], row["streaming_w"], row["mj_an_ascan"]) == (2.5, 2.5, 0.0)
    assert "| ina219 | 2.50 | 2.50 |" in as_table(report)
    watts = {"rest": [2.0, 2.2], "streaming": [3.0, 3.4]}
    assert energy.row("x", watts, small)["mj_an_ascan"] == pytest.approx(1.1 / 50 * 1e3)


def test_where_nothing_measures_that_is_the_report(bundle: Bundle, tmp_path: Path) -> None:
    report = dict(energy.run_energy(bundle, load_suite(suite("energy")), quiet, Machine(tmp_path)))  # type: ignore[arg-type]
    assert report["measurable"] is False
    assert "not measurable here: no RAPL" in as_table(report)


def test_options_of_the_accuracy_suite_are_refused_elsewhere() -> None:
    process = subprocess.run([sys.executable, "-m", "usedge", "bench", "link", "--data", "x.npz"],
                             capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 2
    assert "--data is of the suites accuracy and variants" in process.stderr


@pytest.mark.parametrize("name", ["openloop", "throughput", "memory", "startup", "accuracy", "energy"])
def test_every_suite_is_described(name: str) -> None:
    load_suite(suite(name))
    assert f"`usedge bench {name}`" in (ROOT / "docs" / "benchmarking.md").read_text()
