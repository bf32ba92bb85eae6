"""Which runtime to take: the fastest on this machine of those that answer the bundle's golden vectors.

Each is tried in a process of its own, since one that was built for another processor ends it without a word.
That is done once for a bundle on a machine, and kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from usedge.backends import BACKENDS
from usedge.bundle import BORROWED, Bundle
from usedge.errors import InputError, MissingExtraError
from usedge.files import write_whole
from usedge.meter import processor

RUNTIME_VARIABLE = "USEDGE_RUNTIME"
"""Names the runtime that "auto" takes, and spares the trial."""
PATIENCE_S = 120
WARM_UP, RUNS = 10, 100
KEPT = 32
"""Choices that the cache holds; the oldest goes first."""
PACKAGES = {"litert": "ai_edge_litert", "tflite": "tflite_runtime", "onnx": "onnxruntime",
            "cuda": "onnxruntime"}
BY_NAME_ALONE = ("tensorrt",)
"""Not tried for "auto": it compiles the network for minutes."""
PROBE = """
import json, sys, time
from usedge.bundle import read_bundle
from usedge.errors import UsedgeError
from usedge.runtime.choice import seconds
from usedge.runtime.picker import open_runtime
try:
    took = seconds(*open_runtime(read_bundle(sys.argv[2]), sys.argv[1]))
except UsedgeError as error:
    print(json.dumps({"kind": type(error).__name__, "missing": hasattr(error, "extra"), "what": error.what,
                      "next_step": error.next_step}))
else:
    print(json.dumps({"p50_us": 1e6 * took}))
"""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of trying a runtime: ``p50_us`` of one inference, or ``what`` is wrong and the ``next_step``;
    ``missing``: it is not installed.
    """

    runtime: str
    p50_us: float | None
    what: str = ""
    next_step: str = ""
    missing: bool = False


def seconds(infer: Callable[[Any], Any], x: Any) -> float:
    """Median time of ``infer`` over the rows of ``x (n, n_samples)``, in turn, in s."""
    from statistics import median
    from time import perf_counter

    took = []
    for i in range(WARM_UP + RUNS):
        begun = perf_counter()
        infer(x[i % len(x) : i % len(x) + 1])
        took.append(perf_counter() - begun)
    return median(took[WARM_UP:])


def try_runtime(name: str, bundle: Bundle) -> Tried:
    """Open ``bundle`` on the runtime ``name`` in another process, let it answer, and time it."""
    try:
        done = subprocess.run([sys.executable, "-c", PROBE, name, str(bundle.path)], capture_output=True,
                              text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return Tried(name, None, f"{name} did not answer in {PATIENCE_S} s.", _instead(name))
    if done.returncode < 0:
        ended = signal.Signals(-done.returncode).name
        return Tried(name, None, f"{name} ended with {ended}; it was built for another processor.",
                     f"Install it from source, or r{_instead(name)[1:]}")
    try:
        told = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return Tried(name, None, f"{name}: {last}", _instead(name))
    if "p50_us" in told:
        return Tried(name, round(float(told["p50_us"]), 1))
    if told["missing"]:
        return Tried(name, None, f"{name} is not installed.", told["next_step"], missing=True)
    return Tried(name, None, f"{name}: {told['what']}", told["next_step"] or _instead(name))


def _instead(name: str) -> str:
    other = next(each for each in (*BACKENDS, "classical") if each != name)
    return f"Run with another: --runtime {other}"


def in_bundle(bundle: Bundle) -> list[str]:
    """The known runtimes that ``bundle`` has a variant for, in the order that they are tried in: those that
    run another's variant where their package is installed.
    """
    return [name for name in BACKENDS if bundle.variant_for(name) and name not in BY_NAME_ALONE
            and (name not in BORROWED or importlib.util.find_spec(PACKAGES[name]))]


def choose(bundle: Bundle, say: Say = lambda _: None, *, anew: bool = False) -> str:
    """The runtime to take for ``bundle`` here: measured on the first call, and where ``anew`` is asked for.

    Raises InputError where none answers the golden vectors, MissingExtraError where none is installed.
    """
    if named := os.environ.get(RUNTIME_VARIABLE):
        return named
    names = in_bundle(bundle)
    if len(names) == 1:
        return names[0]
    key = _key(bundle, names)
    kept = {} if anew else _read().get(key, {})
    if kept.get("runtime") in names:
        return str(kept["runtime"])
    say(f"trying the runtimes {', '.join(names)} on this machine, once")
    tried = [try_runtime(name, bundle) for name in names]
    chosen = _fastest(bundle, tried, say)
    _keep(key, {"runtime": chosen, "tried": [asdict(each) for each in tried]})
    return chosen


def _fastest(bundle: Bundle, tried: list[Tried], say: Say) -> str:
    good = sorted((each.p50_us, each.runtime) for each in tried if each.p50_us is not None)
    for each in tried:
        if each.p50_us is None and not each.missing:
            say(f"{each.what} It is not used. {each.next_step}")
    if not good:
        first = tried[0] if tried else None
        if first is not None and all(each.missing for each in tried):
            raise MissingExtraError(first.runtime, first.runtime, first.next_step)
        raise InputError(f"no runtime answers the golden vectors of {bundle.path}.",
                         "Run: usedge doctor. Until one does: usedge run --runtime classical")
    say("runtime " + ", ".join(f"{name} {p50_us:.0f} µs" for p50_us, name in good) + " an inference:"
        f" {good[0][1]} is taken")
    return good[0][1]


def _key(bundle: Bundle, names: list[str]) -> str:
    """Changes with the bundle, the processor, Python, and what is installed."""
    facts = [bundle.sha256, platform.machine(), processor(), sys.version, sys.prefix, *names,
             np.__version__, *_installed(), str(shutil.which("cc"))]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:32]


def _installed() -> list[str]:
    """The runtimes' packages and when each was installed: onnxruntime-gpu bears the name of onnxruntime."""
    found = {package: importlib.util.find_spec(package) for package in PACKAGES.values()}
    return [f"{package} {_written_ns(spec.origin)}" for package, spec in found.items() if spec]


def _written_ns(file: str | None) -> int:
    try:
        return os.stat(file).st_mtime_ns if file else 0
    except OSError:  # it lies in an archive
        return 0


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "usedge" / "runtimes.json"


def _read() -> dict[str, dict[str, Any]]:
    """What the cache holds; a damaged one holds nothing, since all of it can be measured again."""
    try:
        kept = json.loads(_cache().read_text())
    except (OSError, ValueError, RuntimeError):
        return {}
    whole = kept if isinstance(kept, dict) else {}
    return {key: each for key, each in whole.items() if isinstance(each, dict)}


def _keep(key: str, choice: dict[str, Any]) -> None:
    kept = _read()
    kept.pop(key, None)
    kept[key] = choice
    last = dict(list(kept.items())[-KEPT:])
    try:
        _cache().parent.mkdir(parents=True, exist_ok=True)
        write_whole(_cache(), (json.dumps(last, indent=1) + "\n").encode())
    except (OSError, RuntimeError, InputError):
        pass  # a read-only home, or none: it is measured at each start
