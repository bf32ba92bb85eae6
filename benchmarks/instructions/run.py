"""Counts the instructions of one pass of the network in C (export/c) for boards that are not at hand.

The test program is compiled for each core, run by QEMU's user mode on weights of each size and on 1 and then
3 A-scans, and the difference halved: start, reading of files and end cancel out. The count depends neither on
this host nor on its load. Weights are random: the network has no branch that a value would take.

    make instructions        # writes benchmarks/results/instructions.json
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from usedge.boards.work import NATIVE_MAGIC, Sizes
from usedge.errors import InputError, UsedgeError
from usedge.files import write_whole

ROOT = Path(__file__).parents[2]
C = ROOT / "export" / "c"
FORMAT_VERSION = 1
KINDS = ("total", "vector", "loads", "stores", "branch")
SIZES = tuple(Sizes(tokens, 128, 4, 64, 256, 6, 32) for tokens in (16, 32, 64))
AARCH64, ARM = "aarch64-linux-gnu-gcc", "arm-linux-gnueabihf-gcc"
CORES: dict[str, tuple[str, tuple[str, ...], str, str]] = {
    "Cortex-A53": (AARCH64, ("-mcpu=cortex-a53",), "qemu-aarch64", "neon"),
    "Cortex-A57": (AARCH64, ("-mcpu=cortex-a57",), "qemu-aarch64", "neon"),
    "Cortex-A72": (AARCH64, ("-mcpu=cortex-a72",), "qemu-aarch64", "neon"),
    "Cortex-A76": (AARCH64, ("-mcpu=cortex-a76",), "qemu-aarch64", "neon-dot"),
    "Cortex-A78AE": (AARCH64, ("-mcpu=cortex-a78ae",), "qemu-aarch64", "neon-dot"),
    "armv7": (ARM, ("-march=armv7-a", "-mfpu=neon", "-mfloat-abi=hard"), "qemu-arm", "plain"),
}
"""Core → compiler, its flags, emulator, and the kernel that then is compiled in."""
FLAGS = ("-std=c99", "-ffp-contract=off", "-O3", "-static")
PATIENCE_S = 600


def weights(s: Sizes, seed: int = 0) -> bytes:
    """Weights of the native runtime's format 1 (docs/native.md) of the sizes ``s``, with random numbers."""
    random, parts = np.random.default_rng(seed), []

    def floats(n: int, about: float = 0.0, by: float = 0.05) -> None:
        parts.append((about + by * random.standard_normal(n)).astype("<f4").tobytes())

    def matrix(pieces: int, k: int, columns: int, biases: int) -> None:
        values = random.integers(-127, 128, (pieces * columns, k), dtype=np.int8)
        parts.append(values.tobytes())
        floats(pieces * columns, 1e-3, 1e-4)
        parts.append(values.sum(axis=1, dtype="<i4").tobytes())
        floats(biases)

    d, inner, hidden = s.d_model, s.heads * s.d_head, s.mlp_hidden
    floats(s.patch * d)
    floats(s.tokens * d)
    for _ in range(s.layers):
        floats(2 * d, 1.0)
        matrix(1, d, 3 * inner, 3 * inner)
        matrix(s.heads, s.d_head, d, d)
        floats(2 * d, 1.0)
        matrix(1, d, hidden, hidden)
        matrix(1, hidden, d, d)
    floats(2 * d, 1.0)
    floats(4 * d)
    floats(5)
    body = b"".join(part + bytes(-len(part) % 64) for part in parts)
    header = struct.pack("<8sII7H", NATIVE_MAGIC, 1, 64 + len(body), s.patch, s.tokens, d, s.heads, s.d_head,
                         hidden, s.layers).ljust(64, b"\0")
    content = (header + body)[:-4]
    return content + struct.pack("<I", zlib.crc32(content))


def need(*tools: str) -> None:
    """Raise InputError where one of ``tools`` is not installed."""
    for tool in tools:
        if shutil.which(tool) is None:
            raise InputError(f"{tool} is not installed.", "Debian: apt-get install qemu-user"
                             " gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf and their libc6-dev-…-cross.")


def built(words: list[str]) -> None:
    """Run a compiler; raises InputError with its first words where it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"{words[0]} failed: {(done.stderr.splitlines() or ['?'])[0]}")


def counted(emulator: str, plugin: Path, program: Path, files: list[Path]) -> dict[str, int]:
    """Instructions of a run of ``program`` by kind; raises InputError where it or the plugin fails."""
    done = subprocess.run([emulator, "-cpu", "max", "-plugin", str(plugin), str(program), *map(str, files)],
                          capture_output=True, check=False, timeout=PATIENCE_S)
    told = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
    numbers = re.fullmatch(r"(\d+) (\d+) (\d+) (\d+) (\d+)", told[-1])
    if done.returncode or numbers is None:
        raise InputError(f"{emulator} said: {told[-1]}", "The plugin is for QEMU 6 to 8.")
    return dict(zip(KINDS, map(int, numbers.groups()), strict=True))


def one_pass(core: str, sizes: Sizes, folder: Path) -> dict[str, int]:
    """Instructions of one pass of a network of ``sizes`` on ``core``, by kind."""
    compiler, flags, emulator, kernel = CORES[core]
    need("cc", compiler, emulator)
    plugin, program = folder / "count.so", folder / f"run-{core}"
    if not plugin.exists():
        built(["cc", "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC",
               str(Path(__file__).with_name("count.c")), "-o", str(plugin)])
    if not program.exists():
        built([compiler, *FLAGS, *flags, f"-I{C / 'include'}", str(C / "src" / "usnet.c"),
               str(C / "tests" / "run.c"), "-o", str(program)])
        if kernel.encode() + b"\0" not in program.read_bytes():
            raise InputError(f"{compiler} {' '.join(flags)} compiled another kernel than {kernel}.")
    (folder / "weights").write_bytes(weights(sizes))
    x = np.random.default_rng(1).standard_normal((3, sizes.tokens * sizes.patch)).astype("<f4")
    found = []
    for n in (1, 3):
        (folder / "x").write_bytes(x[:n].tobytes())
        found.append(counted(emulator, plugin, program, [folder / "weights", folder / "x"]))
    return {kind: (found[1][kind] - found[0][kind]) // 2 for kind in KINDS}


def version(tool: str) -> str:
    """What ``tool`` says of its version, first line."""
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[0]


def source_sums() -> dict[str, str]:
    """The checksum of each source of the network in C, to tell whether the counts are still of it."""
    return {path.name: f"{zlib.crc32(path.read_bytes()):08x}" for path in sorted((C / "src").glob("*.[ch]"))}


def measure(cores: list[str], sizes: tuple[Sizes, ...]) -> dict[str, Any]:
    """The report: every core with every size."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for core in cores:
            for each in sizes:
                sys.stderr.write(f"{core}, {each.tokens} tokens …\n")
                kinds = one_pass(core, each, Path(folder))
                if CORES[core][2] == "qemu-arm":
                    kinds = {"total": kinds["total"]}  # the plugin tells kinds of A64 alone
                rows.append({"core": core, "kernel": CORES[core][3], "sizes": asdict(each),
                             "instructions": kinds})
    tools = sorted({tool for core in cores for tool in (CORES[core][0], CORES[core][2])})
    return {"format_version": FORMAT_VERSION, "command": "make instructions", "flags": list(FLAGS),
            "cores": {core: list(CORES[core][1]) for core in cores},
            "tools": {tool: version(tool) for tool in tools},
            "sources": source_sums(), "rows": rows}


def main() -> int:
    """Measure all cores, and write or print the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="write the report here, rather than to stdout")
    parser.add_argument("--core", action="append", choices=CORES, help="only this one; may be repeated")
    asked = parser.parse_args()
    try:
        text = json.dumps(measure(asked.core or list(CORES), SIZES), indent=1) + "\n"
        if asked.out:
            write_whole(asked.out, text.encode())
        else:
            sys.stdout.write(text)
    except UsedgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
