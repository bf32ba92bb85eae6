"""What the C library takes of a microcontroller: bytes of flash and RAM, by function and in all.

``python3 size.py`` prints the tables; ``--update`` writes them into the README of firmware_bridge/. Standard
library only. Exit status 0; 1 when something fails, with its words; 2 where the cross compiler is missing.
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
README = HERE.parent / "README.md"
MARKS = ("<!-- size: begin -->", "<!-- size: end -->")
CORES = {"Cortex-M0+": "cortex-m0plus", "Cortex-M4": "cortex-m4"}
FLAGS = ("-mthumb", "-std=c99", "-Os", "-ffreestanding", "-ffunction-sections", "-fdata-sections")
# What a device links is what it calls, so each of these names its calls and no more.
DEVICES = {
    "sends int16 with a copy, obeys commands": "encode_ascan encode_info encode_ack",
    "sends int16 by DMA, obeys commands": "gather_ascan encode_info encode_ack",
    "sends packed-12, obeys commands": "pack12 gather_payload encode_info encode_ack",
    "sends delta-Rice, obeys commands": "rice_encode gather_payload encode_info encode_ack",
    "only sends int16 with a copy": "encode_ascan encode_info",
}
COMMANDS = "decoder_init decoder_put decoder_next read_command"
STRUCTURES = ("usfp_decoder", "usfp_gather", "usfp_frame")
# Freestanding gcc may ask for these; a firmware has its own, so they are not the library's bytes.
MEMORY = "".join(f"void *{name}(void) {{ return 0; }}\n" for name in ("memcpy", "memset", "memmove"))


def run(*command: str) -> str:
    """Return what ``command`` prints; raises ``CalledProcessError`` when it fails."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def symbols(nm: str, file: Path) -> dict[str, int]:
    """Return the bytes of every symbol of ``file``; inlined functions count for their callers."""
    rows = re.findall(r"^\w+ (\w+) \w (\w+)", run(nm, "-S", "--size-sort", str(file)), re.M)
    sizes: dict[str, int] = {}
    for size, name in rows:
        whole = name.split(".")[0]  # gcc's own parts of a function bear its name and a suffix
        sizes[whole] = sizes.get(whole, 0) + int(size, 16)
    return sizes


def nm_of(compiler: str) -> str:
    """Return the ``nm`` that belongs to ``compiler``, by the compiler's own word."""
    return run(compiler, "-print-prog-name=nm").strip()


def library(compiler: str, core: str, folder: Path) -> list[Path]:
    """Compile both sources for ``core``; return their objects."""
    objects = []
    for source in ("usfp", "usfp_payload"):
        objects.append(folder / f"{source}.o")
        flags = (f"-mcpu={core}", *FLAGS, f"-I{HERE / 'include'}")
        run(compiler, *flags, "-c", str(HERE / "src" / f"{source}.c"), "-o", str(objects[-1]))
    return objects


def linked(compiler: str, core: str, folder: Path, calls: list[str]) -> tuple[int, int]:
    """Return the bytes of flash and of static RAM that a device with these ``calls`` takes of the library."""
    source, program = folder / "device.c", folder / "device.elf"
    table = ", ".join(f"(call)usfp_{each}" for each in calls)
    source.write_text(
        f'#include "usfp.h"\ntypedef void (*call)(void);\n{MEMORY}call const entry[] = {{{table}}};\n'
    )
    flags = (f"-mcpu={core}", *FLAGS, "-fno-builtin", "-w", f"-I{HERE / 'include'}")
    objects = map(str, library(compiler, core, folder))
    link = ("-nostdlib", "-Wl,--gc-sections,-e,entry,-u,entry", "-lgcc")
    run(compiler, *flags, str(source), *objects, *link, "-o", str(program))
    rows = run(nm_of(compiler), "-S", str(program))
    own = re.findall(r"^\w+ (\w+) (\w) (\w+)", rows, re.M)
    foreign = ("entry", "memcpy", "memset", "memmove")
    ours = [(int(size, 16), kind) for size, kind, name in own if name not in foreign]
    flash = sum(size for size, kind in ours if kind in "tTrR")
    return flash, sum(size for size, kind in ours if kind in "bBdD")


def structures(compiler: str, core: str, folder: Path) -> dict[str, int]:
    """Return sizeof of what a caller keeps."""
    source, made = folder / "structures.c", folder / "structures.o"
    lines = [f"char {each}_here[sizeof({each})];\n" for each in STRUCTURES]
    buffer = "char command_buffer_here[USFP_COMMAND_BUFFER];\n"
    source.write_text('#include "usfp.h"\n' + "".join(lines) + buffer)
    run(compiler, f"-mcpu={core}", *FLAGS, f"-I{HERE / 'include'}", "-c", str(source), "-o", str(made))
    sizes = symbols(nm_of(compiler), made)
    return {name.removesuffix("_here"): size for name, size in sizes.items()}


def table(head: str, rows: dict[str, list[str]]) -> list[str]:
    """Return a Markdown table of a name and a column for each core."""
    lines = [f"| {head} | " + " | ".join(CORES) + " |", "|---|" + "---|" * len(CORES)]
    return lines + [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()]


def side_by_side(columns: list[dict[str, int]]) -> dict[str, list[str]]:
    """Return a row of cells for every name; a core whose code was inlined away has a dash."""
    names = dict.fromkeys(name for column in columns for name in column)
    rows = {name: [column.get(name) for column in columns] for name in names}
    return {f"`{name}`": ["–" if each is None else f"{each:,}" for each in row] for name, row in rows.items()}


def report(compiler: str) -> str:
    """Return the tables as Markdown."""
    version = run(compiler, "--version").splitlines()[0]
    devices: dict[str, list[str]] = {name: [] for name in DEVICES}
    caller: dict[str, list[str]] = {}
    functions: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for core in CORES.values():
            for name, calls in DEVICES.items():
                obeys = COMMANDS.split() if "commands" in name else []
                flash, ram = linked(compiler, core, folder, calls.split() + obeys)
                devices[name].append(f"{flash:,} + {ram}")
            for name, size in structures(compiler, core, folder).items():
                caller.setdefault(f"`{name}`", []).append(f"{size}")
            sizes: dict[str, int] = {}
            for each in library(compiler, core, folder):
                sizes.update(symbols(nm_of(compiler), each))
            functions[core] = dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0])))
    return "\n".join(
        [
            f"`{version}`, `-Os -ffunction-sections`, linked with `--gc-sections`; tables of 16 entries.",
            "",
            *table("a device that …: flash + static RAM, bytes", devices),
            "",
            *table("what a caller keeps, bytes", caller),
            "",
            *table("function or table, bytes", side_by_side(list(functions.values()))),
        ]
    )


def updated(readme: str, text: str) -> str:
    """Return ``readme`` with ``text`` between its marks; raises ``ValueError`` when it lacks one."""
    before, begun, rest = readme.partition(MARKS[0])
    _, ended, after = rest.partition(MARKS[1])
    if not (begun and ended):
        raise ValueError(f"{README} lacks the marks {MARKS[0]} and {MARKS[1]}: nothing was written")
    return f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}"


def main() -> int:
    """Print the tables, or write them into the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiler", default="arm-none-eabi-gcc")
    parser.add_argument("--update", action="store_true", help="write them into firmware_bridge/README.md")
    options = parser.parse_args()
    if shutil.which(options.compiler) is None:
        sys.stderr.write(f"{options.compiler} is not installed: apt-get install gcc-arm-none-eabi\n")
        return 2
    try:
        text = report(options.compiler)
        if options.update:
            README.write_text(updated(README.read_text(encoding="utf-8"), text), encoding="utf-8")
        else:
            sys.stdout.write(text + "\n")
    except subprocess.CalledProcessError as fault:
        sys.stderr.write(f"{' '.join(fault.cmd)} failed:\n{fault.stderr}")
        return 1
    except ValueError as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
