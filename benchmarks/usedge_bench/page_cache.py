"""The page cache of the files that a program reads: which they are, dropping them, and what stayed."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HOW = "posix_fadvise(DONTNEED)"
PATIENCE_S = 120.0
LISTEN = """
import atexit, json, os, runpy, sys
out, module = sys.argv[1:3]
opened = set()
def hear(event, told):
    if event == "open" and isinstance(told[0], (str, bytes)):
        opened.add(os.path.abspath(os.fsdecode(told[0])))
def tell():
    with open("/proc/self/maps") as maps:
        mapped = {line.split(None, 5)[5].strip() for line in maps if "/" in line}
    with open(out, "w") as file:
        json.dump(sorted(opened | mapped), file)
sys.addaudithook(hear)
atexit.register(tell)
sys.argv = [module, *sys.argv[3:]]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
"""Runs a module and writes down what it opened, by Python's audit events, and what it has mapped."""


def files_read(module: str, arguments: list[str]) -> list[Path]:
    """The files that ``python -m MODULE ARGUMENTS`` opens or maps, as far as they are on a disk."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "files"
        subprocess.run([sys.executable, "-c", LISTEN, str(told), module, *arguments], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=PATIENCE_S)
        names = json.loads(told.read_text())
    known = (Path(name) for name in names if not name.startswith(("/proc/", "/sys/", "/dev/")))
    return sorted({path for path in known if path.is_file()})


def drop(files: Iterable[Path]) -> dict[str, Any]:
    """Drop ``files`` from the page cache and say what stayed, MB: pages that running programs have mapped.

    ``unknown_mb`` are files of other users, of which the kernel does not tell.
    """
    size = kept = unknown = 0
    for path in files:
        try:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                size += (own := os.fstat(file.fileno()).st_size)
                if _told(path):
                    kept += resident(file.fileno(), own)
                else:
                    unknown += own
        except OSError:
            continue  # it went meanwhile
    return {"how": HOW, "mb": round(size / 1e6, 1), "kept_mb": round(kept / 1e6, 1),
            "unknown_mb": round(unknown / 1e6, 1)}


def _told(path: Path) -> bool:
    """Whether the kernel tells us of this file's pages: where it does not, it says that all are there."""
    return path.stat().st_uid == os.geteuid() or os.access(path, os.W_OK)


def resident(fd: int, size: int) -> int:
    """Bytes of the open file ``fd`` of ``size`` bytes that are in memory, in whole pages (mincore(2))."""
    if not size:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                          ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    where = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if where in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "a file cannot be mapped")
    try:
        pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
        if libc.mincore(where, size, pages):
            raise OSError(ctypes.get_errno(), "the kernel does not tell what is in memory")
        return sum(page & 1 for page in pages.raw) * mmap.PAGESIZE
    finally:
        libc.munmap(where, size)
