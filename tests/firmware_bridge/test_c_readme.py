"""What the README says of the C library is so: its example compiles, its sizes are those of the sources."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

AROUND = """
#include "usfp.h"
extern uint64_t clock_us(void);
extern void uart_write(const uint8_t *bytes, size_t length);
extern void obey(const usfp_command *command);
extern const int16_t adc_counts[2048];
extern void device(uint8_t byte, uint32_t seq);
void device(uint8_t byte, uint32_t seq)
{
%s
}
"""


def test_the_example_compiles_without_a_warning(compiler: str, room: Path, tmp_path: Path) -> None:
    example = re.search(r"## In firmware.*?```c\n(.*?)```", (room / "README.md").read_text(), re.S)
    assert example
    source = tmp_path / "device.c"
    source.write_text(AROUND % example[1])
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fsyntax-only"]
    command = [compiler, *strict, f"-I{room / 'c/include'}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_sizes_are_those_of_the_sources(room: Path) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("no arm-none-eabi-gcc on this machine: the sizes are not measured")
    done = subprocess.run(
        [sys.executable, str(room / "c/size.py")], capture_output=True, text=True, check=True, timeout=120
    )
    text = (room / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- size: begin -->\n(.*)<!-- size: end -->", text, re.S)
    assert shown
    if shown[1].splitlines()[0] != done.stdout.splitlines()[0]:
        pytest.skip("another version of arm-none-eabi-gcc than the README's: its bytes differ")
    assert shown[1] == done.stdout


def test_a_missing_cross_compiler_is_named(room: Path) -> None:
    command = [sys.executable, str(room / "c/size.py"), "--compiler", "no-such-gcc"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "no-such-gcc is not installed" in done.stderr
