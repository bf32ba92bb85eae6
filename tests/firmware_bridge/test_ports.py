"""The ports: the examples compile without a warning, their CRC hooks hold, the README tells the sizes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from random import Random

import pytest

CROSS = "arm-none-eabi-gcc"


def run(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, check=False, timeout=300, **options)  # type: ignore[call-overload]
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="module")
def make() -> str:
    found = shutil.which("make")
    if found is None:
        pytest.skip("no make on this machine: the ports cannot be built here")
    return found


@pytest.mark.parametrize("cross", [True, False], ids=["cross", "host"])
def test_the_examples_compile_without_a_warning(
    make: str, compiler: str, room: Path, tmp_path: Path, cross: bool
) -> None:
    if cross and shutil.which(CROSS) is None:
        pytest.skip(f"no {CROSS} on this machine (make qemu-tools): compiled by {compiler} only")
    choice = [] if cross else ["CROSS_CC="]
    done = run(make, "-C", str(room / "ports"), "check", f"BUILD={tmp_path}", f"HOST_CC={compiler}", *choice)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(list(tmp_path.glob("*/*.o"))) == 11


def test_the_crc_hook_compiles_for_a_unit_of_one_polynomial(compiler: str, room: Path) -> None:
    """The HAL of F03x to F05x lacks the field that names one."""
    ports = room / "ports"
    includes = [f"-I{ports / each}" for each in ("stm32_hal", "stubs/stm32")]
    strict = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fsyntax-only"]
    command = [compiler, *strict, "-DSTUB_WITHOUT_CRC_POL", *includes, str(ports / "stm32_hal/crc32.c")]
    done = run(*command)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def crc_units(compiler: str, room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both CRC hooks, over units modelled on their manuals."""
    program = tmp_path_factory.mktemp("crc") / "crc_units"
    ports = room / "ports"
    includes = [f"-I{ports / each}" for each in ("pico", "stm32_hal", "stubs/pico", "stubs/stm32")]
    sources = [str(ports / each) for each in ("tests/crc_units.c", "pico/crc32.c", "stm32_hal/crc32.c")]
    strict = ["-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    done = run(compiler, *strict, *includes, *sources, "-o", str(program))
    assert done.returncode == 0, done.stderr
    return program


@pytest.mark.parametrize("first", [0, 1, 40, 1000])
def test_both_crc_hooks_continue_a_crc_as_zlib_does(crc_units: Path, first: int) -> None:
    chance = Random(first)
    for length in (0, 1, 3, 44, 1000, 4140):
        line = chance.randbytes(length)
        done = run(str(crc_units), str(first), input=line)
        assert done.stdout.split() == [f"{zlib.crc32(line):08x}"] * 2, (length, first)


def test_the_readme_tells_the_sizes(make: str, room: Path, tmp_path: Path) -> None:
    if shutil.which(CROSS) is None:
        pytest.skip(f"no {CROSS} on this machine (make qemu-tools): firmware cannot be sized here")
    pattern = r"^\| `(\S+)` \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$"
    told = re.findall(pattern, (room / "ports/README.md").read_text(), re.MULTILINE)
    done = run(make, "-C", str(room / "ports/qemu"), "sizes", f"BUILD={tmp_path}", f"PYTHON={sys.executable}")
    built = re.findall(pattern, done.stdout, re.MULTILINE)
    assert done.returncode == 0, done.stderr
    assert [each[0] for each in told] == [each[0] for each in built]
    assert len(told) == 3
    for was, now in zip(told, built, strict=True):
        # Compilers differ in the last few percent.
        sizes = [[int(number.replace(",", "")) for number in row[1:]] for row in (was, now)]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.1)
