"""This room stands on the standard library and numpy alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SHOW_FOREIGN = """
import pkgutil, sys, importlib
import numpy
before = set(sys.modules)
import usedge_firmware
for each in pkgutil.iter_modules(usedge_firmware.__path__):
    importlib.import_module(f"usedge_firmware.{each.name}")
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(sorted(new - set(sys.stdlib_module_names) - {"numpy"}))
"""


def test_nothing_but_the_standard_library_and_numpy_is_imported(room: Path) -> None:
    command = [sys.executable, "-c", SHOW_FOREIGN]
    done = subprocess.run(command, cwd=room, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "['usedge_firmware']", done.stderr
