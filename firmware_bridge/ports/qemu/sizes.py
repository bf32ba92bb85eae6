"""Print flash and RAM of firmware: ``sizes.py NM ELF…``; ``NM`` is the tool chain's nm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def sizes(nm: str, elf: Path) -> tuple[int, int, int]:
    """Return bytes of flash without the A-scans it plays, of those A-scans, and of RAM without the stack."""
    done = subprocess.run([nm, "--print-size", str(elf)], capture_output=True, text=True, check=True)
    fields = [line.split() for line in done.stdout.splitlines()]
    address = {each[-1]: int(each[0], 16) for each in fields}
    size = {each[-1]: int(each[1], 16) for each in fields if len(each) == 4}
    initialised = address["initialised_end"] - address["initialised_start"]
    flash = address["initial_start"] + initialised - address["vectors"]
    ram = initialised + address["zeroed_end"] - address["zeroed_start"]
    return flash - size["table"], size["table"], ram


def main(nm: str, *elves: str) -> None:
    """Print a row for every firmware, in the form that README.md has them."""
    sys.stdout.write("| board | flash, bytes | its A-scans | RAM, bytes, without the stack |\n")
    sys.stdout.write("|---|---|---|---|\n")
    for each in elves:
        flash, table, ram = sizes(nm, Path(each))
        sys.stdout.write(f"| `{Path(each).stem}` | {flash:,} | {table:,} | {ram:,} |\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
