"""The runtimes: which are installed, and whether each answers the bundle's golden vectors."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from usedge.backends import BACKENDS
from usedge.bundle import Bundle, read_bundle
from usedge.errors import InputError, MissingExtraError
from usedge.health.machine import FINE, NOTE, WRONG, Finding
from usedge.resources import shipped_bundle

PATIENCE_S = 120
PROBE = """
import sys
from usedge.bundle import read_bundle
from usedge.errors import UsedgeError
from usedge.runtime.picker import open_model_picker
try:
    open_model_picker(read_bundle(sys.argv[2]), sys.argv[1]).close()
except UsedgeError as error:
    sys.stdout.write(f"{type(error).__name__}\\n{error.what}\\n{error.next_step}")
else:
    sys.stdout.write("fine")
"""
"""In a process of its own: a runtime that was built for another processor ends it without a word."""


def runtimes(path: Path | None = None) -> Iterator[Finding]:
    """Every runtime on the bundle at ``path`` (None: the shipped one); wrong where none of them answers."""
    try:
        bundle = read_bundle(path or shipped_bundle())
    except InputError as error:
        yield Finding("runtimes", WRONG, error.what, error.next_step)
        return
    found = [_tried(name, bundle) for name in BACKENDS
             if any(each.runtime == name for each in bundle.variants.values())]
    yield from found
    if not any(each.state == FINE for each in found):
        yield Finding("runtimes", WRONG, f"no runtime answers the golden vectors of {bundle.name}.",
                      "Until one does: usedge run --runtime classical --method envelope")


def _tried(name: str, bundle: Bundle) -> Finding:
    try:
        done = subprocess.run([sys.executable, "-c", PROBE, name, str(bundle.path)], capture_output=True,
                              text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return Finding("runtimes", WRONG, f"{name} did not answer in {PATIENCE_S} s.",
                       f"Run with --runtime {_other(name)}")
    if done.returncode < 0:
        ended = signal.Signals(-done.returncode).name
        return Finding("runtimes", WRONG, f"{name} ended with {ended}; it was built for another processor.",
                       f"Install it from source, or run with another: --runtime {_other(name)}")
    if done.stdout == "fine":
        return Finding("runtimes", FINE, f"{name} answers the golden vectors of {bundle.name}"
                                         f" ({bundle.default_for(name).name}).")
    kind, what, mend = [*done.stdout.split("\n"), "", "", ""][:3]
    if kind == MissingExtraError.__name__:
        return Finding("runtimes", NOTE, f"{name} is not installed.", mend)
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return Finding("runtimes", WRONG, f"{name}: {what or last}", mend or f"Run with --runtime {_other(name)}")


def _other(name: str) -> str:
    return next(each for each in (*BACKENDS, "classical") if each != name)
