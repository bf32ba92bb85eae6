"""How much of a disk the device install takes: the distribution, and all that it requires."""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from usedge.resources import CHECKOUT

DISK_BLOCK = 4096
PACKAGES = ("usedge", "export/usedge_export", "benchmarks/usedge_bench", "firmware_bridge/usedge_firmware")
MATERIAL = ("export/recipes", "benchmarks/suites", "boards", "export/c/include", "export/c/src",
            "firmware_bridge/c/include", "firmware_bridge/c/src")
"""What a wheel holds, for the checkout, whose files an editable install does not list."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PYTHON = re.compile(r"""python_version\s*<\s*["']3\.(\d+)["']""")
_SYSTEM = re.compile(r"""(?:platform_system|sys_platform|os_name)\s*==\s*["'](\w+)["']""")
_HERE = ("Linux", "linux", "posix")


def install_size(name: str) -> dict[str, Any]:
    """MB on disk of distribution ``name`` and of what it requires without extras, in whole blocks of 4 KiB.

    ``missing`` are required distributions that are not installed. Python itself is not counted.
    """
    packages: list[dict[str, Any]] = []
    missing, asked = [], set()
    waiting = [name]
    while waiting:
        wanted = waiting.pop(0)
        if (key := _key(wanted)) in asked:
            continue
        asked.add(key)
        try:
            found = distribution(wanted)
        except PackageNotFoundError:
            missing.append(wanted)
            continue
        packages.append({"name": key, "version": found.version, "mb": round(_bytes(found) / 1e6, 3)})
        waiting += required(found.requires or [])
    packages.sort(key=lambda each: float(each["mb"]), reverse=True)
    return {"total_mb": round(sum(each["mb"] for each in packages), 1), "packages": packages,
            "missing": sorted(missing)}


def required(requirements: list[str]) -> list[str]:
    """Names of those requirements that an install without extras on this Python takes."""
    names = []
    for each in requirements:
        name, _, marker = each.partition(";")
        if "extra" not in marker and _holds(marker) and (found := _NAME.match(name.strip())):
            names.append(found[0])
    return names


def _holds(marker: str) -> bool:
    """Whether a marker holds here, as far as device dependencies use them: older Pythons, other systems."""
    until, system = _PYTHON.search(marker), _SYSTEM.search(marker)
    return (until is None or sys.version_info < (3, int(until[1]))) and (system is None or system[1] in _HERE)


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _bytes(found: Distribution) -> int:
    files = [Path(str(found.locate_file(each))) for each in found.files or []]
    ours = _key(found.metadata["Name"]) == "usedge"
    if ours and not any(each.parts[-2:] == ("usedge", "__init__.py") for each in files):
        files = [each for folder in (*PACKAGES, *MATERIAL) for each in (CHECKOUT / folder).rglob("*")
                 if "__pycache__" not in each.parts]
    return sum(-(-each.stat().st_size // DISK_BLOCK) * DISK_BLOCK for each in set(files) if each.is_file())
