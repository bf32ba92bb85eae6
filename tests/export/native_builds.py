"""The native runtime's test program, built by each compiler that is at hand, and what it answers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
SOURCES = Path(__file__).parents[2] / "export" / "c"
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic")
DOTPROD = "-march=armv8.2-a+dotprod"

HOSTS: dict[str, tuple[str, ...]] = {
    "plain": ("cc", "-O2", "-DUSNET_PLAIN"),
    "this machine": ("cc", "-O3", "-march=native"),
    "clang": ("clang", "-O3", "-march=native"),
    "sanitizers": ("cc", "-O1", "-g", "-march=native", "-fsanitize=address,undefined",
                   "-fno-sanitize-recover=all"),
    "sanitizers, plain": ("cc", "-O1", "-g", "-DUSNET_PLAIN", "-fsanitize=address,undefined",
                          "-fno-sanitize-recover=all"),
}
CROSS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "arm": ("plain", ("arm-linux-gnueabihf-gcc", "-O2", "-static"), ("qemu-arm",)),
    "aarch64, plain": ("plain", ("aarch64-linux-gnu-gcc", "-O2", "-static", "-DUSNET_PLAIN"),
                       ("qemu-aarch64",)),
    "aarch64": ("neon", ("aarch64-linux-gnu-gcc", "-O2", "-static"), ("qemu-aarch64", "-cpu", "cortex-a72")),
    "aarch64, dot product": ("neon-dot", ("aarch64-linux-gnu-gcc", "-O2", "-static", DOTPROD),
                             ("qemu-aarch64", "-cpu", "max")),
}
"""Kernel, compiler with flags, emulator."""


def need(*tools: str) -> None:
    """Skip, saying so, where one of ``tools`` is not installed."""
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


def build(compiler: tuple[str, ...], folder: Path) -> Path:
    """The test program, compiled with all warnings as errors."""
    need(compiler[0])
    program = folder / "run"
    command = [*compiler, "-std=c99", "-ffp-contract=off", *WARNINGS, f"-I{SOURCES / 'include'}",
               str(SOURCES / "src" / "usnet.c"), str(SOURCES / "tests" / "run.c"), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "sanitize" in " ".join(compiler) and "cannot find" in done.stderr:
        pytest.skip(f"{compiler[0]} has no sanitizers here")
    assert done.returncode == 0, done.stderr
    return program


def answers(program: Path, weights: bytes, x: Float32, emulator: tuple[str, ...] = (), patches: int = 0
            ) -> bytes:
    """The bytes of all answers to ``x (n, n_samples)``; with ``patches``, on so many evenly spread ones."""
    need(*emulator[:1])
    files = (program.with_name("weights"), program.with_name("x"))
    files[0].write_bytes(weights)
    files[1].write_bytes(x.tobytes())
    command = [*emulator, str(program), *map(str, files), str(patches)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
