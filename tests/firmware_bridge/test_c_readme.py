"""What the README says of the C library is so: its example compiles, its sizes are those of the sources."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

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


@pytest.fixture
def cross_compiler(tmp_path: Path) -> Path:
    """The cross compiler in a folder of its maker's naming, which has "gcc" in it as well."""
    found = shutil.which("arm-none-eabi-gcc")
    if found is None:
        pytest.skip("no arm-none-eabi-gcc on this machine: the sizes are not measured")
    link = tmp_path / "gcc-arm-none-eabi-10.3" / "arm-none-eabi-gcc-12"
    link.parent.mkdir()
    link.write_text(f'#!/bin/sh\nexec {found} $EXTRA "$@"\n')
    link.chmod(0o755)
    return link


def size_py(room: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(room / "c/size.py"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=os.environ | settings
    )


def test_a_cross_compiler_may_lie_anywhere(room: Path, cross_compiler: Path) -> None:
    done = size_py(room, "--compiler", str(cross_compiler))
    assert done.returncode == 0, done.stderr
    assert "| `usfp_decoder_next` |" in done.stdout


def test_a_cross_compiler_that_fails_is_heard(room: Path, cross_compiler: Path) -> None:
    done = size_py(room, "--compiler", str(cross_compiler), EXTRA="-DUSFP_CRC_TABLE=17")
    assert done.returncode == 1
    assert "USFP_CRC_TABLE is 16 or 256" in done.stderr
    assert "Traceback" not in done.stderr


def test_sizes_stand_in_the_column_of_their_core(size: ModuleType) -> None:
    both = size.side_by_side([{"a": 1000, "inlined_in_the_other": 2}, {"a": 3, "only_here": 4}])
    assert both == {"`a`": ["1,000", "3"], "`inlined_in_the_other`": ["2", "–"], "`only_here`": ["–", "4"]}


def test_an_update_needs_both_marks(size: ModuleType) -> None:
    begin, end = size.MARKS
    assert size.updated(f"a {begin} old {end} z", "new") == f"a {begin}\nnew\n{end} z"
    for cut in (f"a {begin} z", f"a {end} z", f"a {end} {begin} z"):
        with pytest.raises(ValueError, match="nothing was written"):
            size.updated(cut, "new")


@pytest.fixture
def size(room: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Load size.py as it is."""
    monkeypatch.syspath_prepend(str(room / "c"))
    return importlib.import_module("size")


def test_a_missing_cross_compiler_is_named(room: Path) -> None:
    command = [sys.executable, str(room / "c/size.py"), "--compiler", "no-such-gcc"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "no-such-gcc is not installed" in done.stderr
