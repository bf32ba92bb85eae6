"""`usedge doctor` on machines made of folders: a healthy Raspberry Pi, and one that lacks nearly all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from usedge.cli import app
from usedge.health import CHECKS, Finding, Machine
from usedge.health.ports import ports, udev_rules
from usedge.health.runtimes import runtimes
from usedge.resources import shipped_bundle

DIALOUT = 20
GB = 10**9


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def command(root: Path, name: str, prints: str, code: int = 0) -> None:
    put(root, {f"usr/bin/{name}": f"#!/bin/sh\necho '{prints}'\nexit {code}\n"})
    (root / "usr/bin" / name).chmod(0o755)


def adapter(root: Path, name: str, place: str, **facts: str) -> None:
    """A USB serial adapter as sysfs has it: the tty's device is a folder deep below the USB device's."""
    usb = root / "sys/devices/platform/soc/usb1" / place
    put(usb, {key: value + "\n" for key, value in facts.items()})
    deep = usb / f"{place}:1.0" / name
    deep.mkdir(parents=True)
    put(root, {f"dev/{name}": "", f"sys/class/tty/{name}/dev": "188:0\n"})
    (root / "sys/class/tty" / name / "device").symlink_to(deep)


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    root = tmp_path / "pi"
    put(root, {
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": "cpufreq-dt\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "48686\n",
        "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
        "sys/class/thermal/cooling_device0/cur_state": "2\n",
        "proc/meminfo": "MemTotal:        3884000 kB\nMemFree: 1000 kB\nMemAvailable:    3100000 kB\n",
        "etc/group": "root:x:0:\ndialout:x:20:anna\n", "etc/passwd": "anna:x:1000:1000::/home/anna:/bin/sh\n",
        "etc/udev/rules.d/60-usedge.rules":
            'ATTRS{idVendor}=="0403", ATTRS{idProduct}=="6001", SYMLINK+="usedge0"\n',
        "sys/class/tty/ttyS0/type": "0\n", "sys/class/tty/ttyS0/device/x": "", "dev/ttyS0": "",
        "sys/bus/usb-serial/devices/ttyUSB0/latency_timer": "1\n",
    })
    adapter(root, "ttyUSB0", "1-1", idVendor="0403", idProduct="6001", serial="A50285BI",
            product="FT232R USB UART")
    (root / "dev/ttyUSB0").chmod(0o660)
    command(root, "vcgencmd", "throttled=0x0")
    command(root, "timedatectl", "yes")
    return root


@pytest.fixture
def poor(tmp_path: Path) -> Path:
    root = tmp_path / "poor"
    put(root, {
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "82300\n",
        "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0\n",
        "sys/class/thermal/cooling_device0/cur_state": "3\n",
        "proc/meminfo": "MemTotal: 430000 kB\nMemAvailable: 61000 kB\n",
        "etc/group": "dialout:x:20:\n", "etc/passwd": "anna:x:1000:1000::/home/anna:/bin/sh\n",
        "sys/bus/usb-serial/devices/ttyUSB0/latency_timer": "16\n",
    })
    adapter(root, "ttyUSB0", "1-1", idVendor="0403", idProduct="6001", serial="A50285BI",
            product="FT\x1b[2J232R")
    (root / "dev/ttyUSB0").chmod(0o660)
    command(root, "vcgencmd", "throttled=0x50005")
    command(root, "timedatectl", "no")
    return root


def looked_at(root: Path, **changes: Any) -> dict[str, list[Finding]]:
    facts: dict[str, Any] = {"uid": 1000, "groups": frozenset({1000, DIALOUT}), "here": root,
                             "space": lambda _: (32 * GB, 20 * GB)}
    machine = Machine(root, **(facts | changes))
    found: dict[str, list[Finding]] = {}
    for check in CHECKS:
        for finding in check(machine):
            found.setdefault(finding.check, []).append(finding)
    return found


@pytest.fixture(autouse=True)
def dialout_owns_the_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root may give files to a group; the device files' owner and group are made up instead."""
    real = Path.stat

    def stat(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        facts = real(self, follow_symlinks=follow_symlinks)
        if self.parent.name != "dev":
            return facts
        return os.stat_result((*facts[:4], 0, DIALOUT, *facts[6:10]))

    monkeypatch.setattr(Path, "stat", stat)


def test_nothing_is_wrong_with_a_healthy_pi(healthy: Path) -> None:
    found = looked_at(healthy)
    assert {each.state for findings in found.values() for each in findings} == {"fine"}, found
    assert found.keys() == {"ports", "names", "latency timer", "governor", "throttling", "temperature",
                            "clock", "disk", "memory"}
    (port,) = found["ports"]
    assert port.what == "/dev/ttyUSB0 (0403:6001 FT232R USB UART) may be opened."


def test_each_trouble_of_a_poor_pi_is_told_with_how_to_mend_it(poor: Path) -> None:
    found = looked_at(poor, groups=frozenset({1000}), space=lambda _: (8 * GB, GB // 10))
    told = {check: "; ".join(each.what for each in findings) for check, findings in found.items()}
    assert "group dialout" in told["ports"]
    assert "pinned to its lowest" in told["governor"]
    assert "under-voltage now (get_throttled 0x50005)" in told["throttling"]
    assert "throttled now" in told["throttling"]
    assert "capped" not in told["throttling"]
    assert "slows down to cool (cpufreq-cpu0)" in told["temperature"]
    assert "82 °C" in told["temperature"]
    assert "not synchronised" in told["clock"]
    assert "100 of 8000 MB" in told["disk"]
    assert "62 of 440 MB" in told["memory"]
    assert "16 ms" in told["latency timer"]
    for findings in found.values():
        for each in findings:
            assert each.mend, each
            assert "\x1b" not in each.what + each.mend
    assert "sudo usermod -aG dialout $USER" in found["ports"][0].mend
    assert {check for check, each in found.items() if each[0].state == "wrong"} == {
        "ports", "governor", "throttling", "temperature", "clock", "disk", "memory"}


@pytest.mark.parametrize(("bits", "words", "state"), [
    (0x1, "under-voltage now", "wrong"), (0x2, "clock capped now", "wrong"), (0x4, "throttled now", "wrong"),
    (0x8, "soft temperature limit now", "wrong"), (0x10000, "under-voltage since the start", "wrong"),
    (0x20000, "clock capped since the start", "note"), (0x40000, "throttled since the start", "note"),
    (0x80000, "soft temperature limit since the start", "note"),
])
def test_every_bit_of_the_firmware_has_its_meaning(healthy: Path, bits: int, words: str, state: str) -> None:
    command(healthy, "vcgencmd", f"throttled={bits:#x}")
    (finding,) = looked_at(healthy)["throttling"]
    assert words in finding.what
    assert finding.state == state


def test_without_vcgencmd_the_kernel_is_asked(healthy: Path) -> None:
    (healthy / "usr/bin/vcgencmd").unlink()
    put(healthy, {"sys/devices/platform/soc/soc:firmware/get_throttled": "50000\n"})
    assert [each.what for each in looked_at(healthy)["throttling"]] == [
        "under-voltage since the start (get_throttled 0x50000).",
        "throttled since the start (get_throttled 0x50000)."]
    (healthy / "sys/devices/platform/soc/soc:firmware/get_throttled").unlink()
    put(healthy, {"sys/class/hwmon/hwmon1/name": "rpi_volt\n",
                  "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n"})
    (finding,) = looked_at(healthy)["throttling"]
    assert finding.what == "under-voltage now (rpi_volt)."
    command(healthy, "vcgencmd", "error=1", code=1)
    assert looked_at(healthy)["throttling"] == [finding]


def test_a_group_that_came_after_the_login(poor: Path) -> None:
    put(poor, {"etc/group": "dialout:x:20:anna\n"})
    assert "Log out and in" in looked_at(poor, groups=frozenset({1000}))["ports"][0].mend
    assert looked_at(poor)["ports"][0].state == "fine"
    (poor / "dev/ttyUSB0").chmod(0o600)
    assert "doctor --udev" in looked_at(poor)["ports"][0].mend
    assert looked_at(poor, uid=0)["ports"][0].state == "fine"
    (poor / "dev/ttyUSB0").unlink()
    assert "no device file" in looked_at(poor)["ports"][0].what


def test_no_port_is_no_fault(tmp_path: Path) -> None:
    (finding,) = ports(Machine(tmp_path))
    assert finding.state == "note"
    assert "sim://" in finding.mend


def test_names_that_stay_are_offered_and_recognised(poor: Path) -> None:
    (name,) = looked_at(poor)["names"]
    assert "usb:0403:6001:A50285BI" in name.mend
    link = poor / "dev/serial/by-id/usb-FTDI_A50285BI-if00"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../ttyUSB0")
    assert "/dev/serial/by-id/usb-FTDI_A50285BI-if00" in looked_at(poor)["names"][0].mend
    put(poor, {"etc/udev/rules.d/60-usedge.rules": udev_rules(Machine(poor))})
    assert looked_at(poor)["names"][0].state == "fine"


def test_rules_tell_boards_apart_and_quote_nothing_odd(poor: Path) -> None:
    adapter(poor, "ttyACM0", "1-2", idVendor="2e8a", idProduct="000a", serial='E66"1, RUN+="x')
    rules = udev_rules(Machine(poor)).splitlines()
    assert rules[1] == ('SUBSYSTEM=="tty", ATTRS{idVendor}=="2e8a", ATTRS{idProduct}=="000a",'
                        ' SYMLINK+="usedge0", GROUP="dialout", MODE="0660"')
    assert 'ATTRS{serial}=="A50285BI", SYMLINK+="usedge1"' in rules[2]
    assert 'ATTR{latency_timer}="1"' in rules[3]


@pytest.mark.parametrize(("governor", "driver", "state"), [
    ("ondemand", "cpufreq-dt", "note"), ("powersave", "intel_pstate", "note"),
    ("powersave", "cpufreq-dt", "wrong"), ("performance", "cpufreq-dt", "fine"),
])
def test_governors(healthy: Path, governor: str, driver: str, state: str) -> None:
    put(healthy, {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": governor,
                  "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": driver})
    assert looked_at(healthy)["governor"][0].state == state


def test_a_board_that_slows_down_earlier_is_warned_of_earlier(healthy: Path) -> None:
    zone = "sys/class/thermal/thermal_zone0"
    put(healthy, {f"{zone}/temp": "66000", f"{zone}/trip_point_0_type": "passive",
                  f"{zone}/trip_point_0_temp": "70000"})
    assert looked_at(healthy)["temperature"][0].state == "note"
    put(healthy, {f"{zone}/temp": "70000"})
    assert looked_at(healthy)["temperature"][0].state == "wrong"
    put(healthy, {f"{zone}/temp": "-274000"})
    assert "no thermometer" in looked_at(healthy)["temperature"][0].what


def test_a_clock_of_1970_is_wrong_whatever_else_is_said(healthy: Path) -> None:
    (finding,) = looked_at(healthy, now_s=lambda: 3600.0)["clock"]
    assert (finding.state, finding.what) == ("wrong", "the clock says 1970-01-01.")


def test_a_runtime_that_is_missing_is_a_note_and_a_damaged_bundle_is_wrong(
        tmp_path: Path, without_onnx: Callable[[], None]) -> None:
    without_onnx()
    found = list(runtimes())
    litert, onnx = tried(found, "litert"), tried(found, "onnx")
    assert (litert.state, onnx.state) == ("fine", "note")
    assert "golden vectors of field" in litert.what
    assert "onnx is not installed" in onnx.what
    assert "pip install" in onnx.mend
    damaged = tmp_path / "damaged.usedge"
    content = bytearray(shipped_bundle().read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    (finding,) = runtimes(damaged)
    assert finding.state == "wrong"
    assert "damaged" in finding.what


def tried(found: Iterable[Finding], name: str) -> Finding:
    (finding,) = [each for each in found if each.what.startswith(name)]
    return finding


@pytest.fixture
def without_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes importing onnxruntime fail, in every process that is started from here on."""
    def hide() -> None:
        put(tmp_path, {"hidden/onnxruntime.py": "raise ImportError('not here')\n"})
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hidden"))

    return hide


def test_a_runtime_that_dies_or_cannot_be_loaded_is_named(tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, {"hidden/onnxruntime.py": "import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n",
                   "hidden/ai_edge_litert/__init__.py": "raise RuntimeError('no such symbol')\n"})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hidden"))
    found = list(runtimes())
    litert, onnx = tried(found, "litert"), tried(found, "onnx")
    assert (litert.state, onnx.state) == ("wrong", "wrong")
    assert "no such symbol" in litert.what
    assert "SIGILL" in onnx.what
    if not any(each.state == "fine" for each in found):
        assert "--runtime classical" in tried(found, "no runtime").mend


def test_the_command_prints_json_and_its_status_follows(poor: Path, healthy: Path) -> None:
    (healthy / "dev/ttyUSB0").chmod(0o666)  # whoever runs this test
    for root, code, bundle in ((poor, 1, str(poor / "none.usedge")), (healthy, 0, str(shipped_bundle()))):
        result = CliRunner().invoke(app, ["doctor", "--root", str(root), "--bundle", bundle])
        content = json.loads(result.stdout)
        assert result.exit_code == code, content
        assert content["ok"] == (code == 0)
        assert all(each["mend"] or each["state"] == "fine" for each in content["findings"])
        assert 'SYMLINK+="usedge0"' in content["udev_rules"]
    rules = CliRunner().invoke(app, ["doctor", "--root", str(poor), "--udev"])
    assert rules.stdout == udev_rules(Machine(poor))


def test_this_machine_can_be_looked_at() -> None:
    process = subprocess.run([sys.executable, "-m", "usedge", "doctor"], capture_output=True, text=True,
                             timeout=120, check=False)
    content = json.loads(process.stdout)
    assert process.returncode == (0 if content["ok"] else 1)
    assert {"ports", "clock", "disk", "memory", "runtimes"} <= {each["check"] for each in content["findings"]}
    assert process.stderr == ""
