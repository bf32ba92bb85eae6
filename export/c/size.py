"""What the network takes of a microcontroller: bytes of flash and RAM.

``python3 size.py`` prints the table for the default network, ``--dims`` and ``--stem`` for another.
Standard library only. Exit status 0; 1 when something fails, with its words; 2 where a compiler is missing.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORES = {
    "Cortex-M4F": ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
    "Cortex-M7F": ("-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-d16"),
}
FLAGS = ("-mthumb", "-std=c99", "-O2", "-ffreestanding", "-ffunction-sections", "-fstack-usage")
DIMS = "32 64 128 4 64 256 6"
NAMES = "patch length d_model heads d_head hidden layers"
STEM = "16 8 5 4 48 64 2 1"
STEM_NAMES = "frame hop kernel joined narrow wide narrow_blocks wide_blocks"
ASK = """
#include <stdio.h>
#include "usnet_blob.h"
int main(void)
{{
    usnet_model model = {{0, {{{values}}}}};
    const size_t ends = usnet_inputs(&model) + usnet_outputs(&model);
    printf("%lu ", (unsigned long)usnet_blob_size(&model.dims));
    printf("%lu ", (unsigned long)usnet_scratch_size(&model));
    printf("%lu", (unsigned long)(ends * sizeof(float)));
    return usnet_dims_fit(&model.dims) ? 0 : 1;
}}
"""


def run(*command: str, cwd: Path | None = None) -> str:
    """Return what ``command`` prints; raises ``CalledProcessError`` when it fails."""
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd).stdout


def network(values: list[str], folder: Path) -> list[int]:
    """Return bytes of weights, of scratch, and of an A-scan with its answer."""
    (folder / "ask.c").write_text(ASK.format(values=", ".join(values)))
    sources = ("ask.c", str(HERE / "src" / "usnet.c"))
    run("cc", "-std=c99", f"-I{HERE / 'include'}", f"-I{HERE / 'src'}", *sources, "-o", "ask", cwd=folder)
    return [int(each) for each in run(str(folder / "ask")).split()]


def code(compiler: str, core: tuple[str, ...], folder: Path) -> tuple[int, int]:
    """Return bytes of code with its constants, and of stack: every frame of the file, one upon another."""
    source = HERE / "src" / "usnet.c"
    run(compiler, *core, *FLAGS, f"-I{HERE / 'include'}", "-c", str(source), "-o", "usnet.o", cwd=folder)
    tool = run(compiler, "-print-prog-name=size").strip()
    text, *rest = map(int, re.findall(r"\d+", run(tool, "usnet.o", cwd=folder).splitlines()[1])[:3])
    if any(rest):
        raise ValueError("the code has static RAM, which it must not have")
    frames = re.findall(r"\t(\d+)\t", (folder / "usnet.su").read_text())
    return text, sum(map(int, frames))


def report(compiler: str, values: list[str]) -> str:
    """Return the table as Markdown."""
    with tempfile.TemporaryDirectory() as scratch:
        weights, arena, ends = network(values, Path(scratch))
        codes = [code(compiler, core, Path(scratch)) for core in CORES.values()]
    rows = {
        "flash: code": [f"{text:,}" for text, _ in codes],
        "flash: weights": [f"{weights:,}"] * len(codes),
        "RAM: scratch": [f"{arena:,}"] * len(codes),
        "RAM: A-scan and answer": [f"{ends:,}"] * len(codes),
        "stack, at most": [f"{stack:,}" for _, stack in codes],
    }
    names = [*NAMES.split(), *STEM_NAMES.split()]
    sizes = ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=False))
    lines = [f"`{run(compiler, '--version').splitlines()[0]}`, -O2; {sizes}.", "",
             "| bytes | " + " | ".join(CORES) + " |", "|---|" + "---|" * len(CORES)]
    return "\n".join(lines + [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()])


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiler", default="arm-none-eabi-gcc")
    parser.add_argument("--dims", default=DIMS, help=f"{NAMES} (default: {DIMS})")
    parser.add_argument("--stem", default="", help=f"{STEM_NAMES}, as in {STEM!r} (default: no stem)")
    options = parser.parse_args()
    values = options.dims.split() + options.stem.split()
    for told, names, usual in ((options.dims, NAMES, DIMS), (options.stem or STEM, STEM_NAMES, STEM)):
        if len(told.split()) != len(names.split()) or not all(each.isdigit() for each in told.split()):
            sys.stderr.write(f"{told!r} is not {names}, as in {usual!r}\n")
            return 1
    for tool, package in ((options.compiler, "gcc-arm-none-eabi"), ("cc", "gcc")):
        if shutil.which(tool) is None:
            sys.stderr.write(f"{tool} is not installed: apt-get install {package}\n")
            return 2
    try:
        sys.stdout.write(report(options.compiler, values) + "\n")
    except subprocess.CalledProcessError as fault:
        sys.stderr.write(f"{' '.join(fault.cmd)} failed:\n{fault.stderr}\n")
        return 1
    except ValueError as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
