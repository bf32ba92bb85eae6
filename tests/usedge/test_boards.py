"""Board files, what is refused in one, which board a machine is, and `usedge boards`."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from usedge.boards import detect, every_board, load_board, read_board
from usedge.cli import app
from usedge.errors import InputError
from usedge_firmware.frontends import FRONT_ENDS

GOOD = """
format_version = 1
name = "My board"
kind = "host"
[detect]
compatible = ["mine,board"]
usb = []
[processor]
arch = "aarch64"
core = "Cortex-A55"
clock_ghz = 1.8
[run]
runtimes = ["litert"]
threads = 1
[budget]
p99_ms = 10
rss_mb = 60
install_mb = 200
[sources]
detect = "its device tree"
processor = "data sheet, page 1"
run = "ours"
budget = "ours"
""".replace("usb = []\n", "")

PI4_CPUINFO = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd08
"""
X86_CPUINFO = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu lm sse2 avx2 avx512_vnni\n"


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def device_tree(root: Path, model: str, *compatible: str) -> None:
    write(root, "proc/device-tree/model", model + "\0")
    write(root, "proc/device-tree/compatible", "".join(name + "\0" for name in compatible))


def usb(root: Path, place: str, vid: str, pid: str, product: str = "") -> None:
    write(root, f"sys/bus/usb/devices/{place}/idVendor", vid + "\n")
    write(root, f"sys/bus/usb/devices/{place}/idProduct", pid + "\n")
    write(root, f"sys/bus/usb/devices/{place}/product", product + "\n")


def board_file(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


# Files


def test_every_shipped_board_reads_and_every_fact_has_a_source() -> None:
    boards = every_board()
    wanted = {"rpi-zero-2w", "rpi-3b-plus", "rpi-4b", "rpi-5", "jetson-nano", "jetson-orin-nano",
              "generic-x86-64", "generic-aarch64", "pic0rick-rp2040", "pic0rick-rp2350", "wulpus",
              "stm32f405"}
    assert wanted <= {each.id for each in boards}
    for each in boards:
        facts = each.to_dict()
        for section in ("detect", "processor", "memory", "run", "adc", "links", "sensors", "budget", "rates"):
            for key in facts.get(section, {}):
                assert {section, f"{section}.{key}"} & set(each.sources), (each.id, section, key)


def test_front_ends_speak_protocols_that_there_are() -> None:
    spoken = set(FRONT_ENDS) - {"auto"}
    assert {each.links.protocol for each in every_board() if not each.is_host} == spoken


def test_no_two_boards_claim_one_device_tree() -> None:
    names = [name for each in every_board() for name in (*each.detect.compatible, *each.detect.model)]
    assert len(names) == len(set(names))


def test_a_board_of_the_users_own_reads(tmp_path: Path) -> None:
    board = load_board(str(board_file(tmp_path, GOOD)))
    assert (board.id, board.name, board.is_host) == ("mine", "My board", True)
    assert board.processor.clock_ghz == 1.8
    assert board.memory.ram_mb == ()


@pytest.mark.parametrize(("change", "words"), [
    (("clock_ghz", "clok_ghz"), r"key processor.clok_ghz is unknown. The nearest .* is processor.clock_ghz"),
    (("[processor]", "[procesor]"), r"key procesor is unknown. The nearest known one is processor"),
    (("clock_ghz = 1.8", "clock_ghz = 1800"), r"processor.clock_ghz = 1800 is not within 0.001 and 10"),
    (("clock_ghz = 1.8", "clock_ghz = true"), r"clock_ghz = True is no number"),
    (("clock_ghz = 1.8", "clock_ghz = nan"), r"clock_ghz = nan is not within"),
    (("threads = 1", "threads = 1.5"), r"run.threads = 1.5 is no whole number"),
    (('arch = "aarch64"', 'arch = "arm"'), r"processor.arch = 'arm' is none of x86_64, aarch64"),
    (('["litert"]', '["litrt"]'), r"run.runtimes .* holds 'litrt', which is none of litert"),
    (('["litert"]', "[]"), r"run.runtimes = \[\] is no list of 1 or more"),
    (("p99_ms = 10\n", ""), r"budget.p99_ms is missing"),
    (("p99_ms = 10", "p99_ms = 0"), r"budget.p99_ms = 0 is not within"),
    (("format_version = 1", "format_version = 2"), r"format_version is 2, not 1"),
    (('kind = "host"', 'kind = "hots"'), r"kind = 'hots' is none of host, front-end"),
    (('kind = "host"', 'kind = "front-end"'), r"\[run\] does not belong to a front-end"),
    (('processor = "data sheet, page 1"', ""), r"processor.arch has no source"),
    (('processor = "data', 'procesor = "data'), r"source of procesor is unknown"),
    (('processor = "data sheet, page 1"', 'processor = ""'), r"the source of processor is no text"),
    (("[processor]", '[sensors]\npower = ["/etc/passwd"]\n[processor]'), r"is no path below /sys or /proc"),
    (('compatible = ["mine,board"]', 'usb = ["2E8A:000A"]'), r"is not VID:PID"),
    (("[processor]", "[processor"), r"is no TOML"),
])
def test_a_bad_board_file_is_refused_in_one_line(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(InputError, match=words) as caught:
        read_board(board_file(tmp_path, GOOD.replace(*change)))
    assert "\n" not in str(caught.value)
    assert "mine.toml" in str(caught.value)


def test_a_board_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no board file"):
        load_board(str(tmp_path / "none.toml"))
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is no TOML"):
        read_board(tmp_path / "mine.toml")


# Detection


@pytest.mark.parametrize(("model", "compatible", "expected"), [
    ("Raspberry Pi 4 Model B Rev 1.5", ("raspberrypi,4-model-b", "brcm,bcm2711"), "rpi-4b"),
    ("Raspberry Pi 5 Model B Rev 1.0", ("raspberrypi,5-model-b", "brcm,bcm2712"), "rpi-5"),
    ("Raspberry Pi Zero 2 W Rev 1.0", ("raspberrypi,model-zero-2-w", "brcm,bcm2837"), "rpi-zero-2w"),
    ("Raspberry Pi 3 Model B Plus Rev 1.3", ("raspberrypi,3-model-b-plus", "brcm,bcm2837"), "rpi-3b-plus"),
    ("NVIDIA Jetson Nano Developer Kit", ("nvidia,p3450-0000", "nvidia,tegra210"), "jetson-nano"),
    ("NVIDIA Jetson Orin Nano Developer Kit", ("nvidia,p3768-0000+p3767-0005", "nvidia,p3767-0005",
                                               "nvidia,tegra234"), "jetson-orin-nano"),
    ("Raspberry Pi 3 Model B Rev 1.2", ("raspberrypi,3-model-b", "brcm,bcm2837"), "generic-aarch64"),
    ("Radxa ROCK 5B", ("radxa,rock-5b", "rockchip,rk3588"), "generic-aarch64"),
    ("Raspberry Pi 4 Model B Rev 1.1", ("somebody,else",), "rpi-4b"),
])
def test_a_board_is_known_by_its_device_tree(tmp_path: Path, model: str, compatible: tuple[str, ...],
                                             expected: str) -> None:
    device_tree(tmp_path, model, *compatible)
    write(tmp_path, "proc/cpuinfo", PI4_CPUINFO)
    found = detect(tmp_path)
    assert (found.board, found.model, found.machine) == (expected, model, "aarch64")


def test_a_pc_is_known_by_its_processor(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", X86_CPUINFO)
    found = detect(tmp_path)
    assert (found.board, found.features) == ("generic-x86-64", ("avx2", "avx512-vnni"))
    assert "x86_64" in found.why


def test_a_machine_that_tells_nothing_is_no_board(tmp_path: Path) -> None:
    found = detect(tmp_path)
    assert (found.board, found.machine, found.front_ends) == (None, None, ())


def test_a_32_bit_pi_is_not_taken_for_a_64_bit_computer(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", PI4_CPUINFO.replace("asimd ", "neon "))
    found = detect(tmp_path)
    assert (found.board, found.machine, found.features) == (None, "armv7l", ("neon",))


def test_front_ends_are_known_by_their_usb_numbers(tmp_path: Path) -> None:
    usb(tmp_path, "1-1", "1915", "521a", "nRF52 USB CDC BLE Demo")
    usb(tmp_path, "1-2", "CAFE", "4011", "pic\x1b[2Jorick")
    usb(tmp_path, "usb1", "1d6b", "0002", "a hub")
    found = {each.vid_pid: each for each in detect(tmp_path).front_ends}
    assert found["1915:521a"].boards == ("wulpus",)
    assert found["cafe:4011"].boards == ("pic0rick-rp2350",)
    assert "\x1b" not in found["cafe:4011"].product
    assert len(found) == 2


def test_one_number_of_several_boards_names_all_of_them(tmp_path: Path) -> None:
    usb(tmp_path, "1-1", "2e8a", "000a")
    assert detect(tmp_path).front_ends[0].boards == ("pic0rick-rp2040", "usfp-rp2350")


# The command


def run(*words: str) -> Any:
    result = CliRunner().invoke(app, ["boards", *words])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_list_and_show_give_json_where_nobody_looks(tmp_path: Path) -> None:
    assert "rpi-5" in {each["id"] for each in run("list")["boards"]}
    assert run() == run("list")
    shown = run("show", "rpi-5")
    assert shown["processor"]["core"] == "Cortex-A76"
    assert shown["sources"]["rates"]
    assert "flash_mb" not in shown["memory"]  # not known, so not there
    assert run("show", str(board_file(tmp_path, GOOD)))["name"] == "My board"


def test_detect_looks_below_another_root(tmp_path: Path) -> None:
    device_tree(tmp_path, "Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b")
    assert run("detect", "--root", str(tmp_path))["board"] == "rpi-5"


def on_a_terminal(*words: str) -> str:
    main, side = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "usedge", "boards", *words], stdout=side, stdin=side,
                               stderr=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "80", "TERM": "dumb"})
    os.close(side)
    text = b""
    while True:
        try:
            piece = os.read(main, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        text += piece
    assert process.wait(timeout=60) == 0
    os.close(main)
    return text.decode()


def test_a_terminal_gets_tables_in_which_names_are_whole() -> None:
    table = on_a_terminal("list")
    assert all(each.id in table for each in every_board())
    shown = on_a_terminal("show", "wulpus")
    assert "sdk_config.h" in shown
    assert "links.prf_hz" in shown


@pytest.mark.parametrize(("words", "told"), [
    (("show", "rpi-4"), "there is no board 'rpi-4'"),
    (("show", "wulpus.toml"), "there is no board file wulpus.toml"),
    (("detect", "--root", "/nowhere"), "there is no folder /nowhere"),
    (("predict", "generic-aarch64"), "lacks a clock or rates"),
    (("predict", "wulpus"), "lacks a clock or rates"),
    (("lst",), "Did you mean 'list'?"),
])
def test_wrong_words_end_with_one_line_and_2(words: tuple[str, ...], told: str) -> None:
    done = subprocess.run([sys.executable, "-m", "usedge", "boards", *words], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
