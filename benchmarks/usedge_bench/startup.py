"""From the start of a process to its first reading, with its files in the page cache and without."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from usedge.bundle import Bundle
from usedge.errors import LinkError
from usedge.runtime.choice import choose
from usedge_bench.conditions import Watch, cores_apart, on_cores
from usedge_bench.contender import PLAIN, USEDGE
from usedge_bench.openloop import missing_readers
from usedge_bench.page_cache import drop, files_read
from usedge_bench.report import StartupReport, common
from usedge_bench.suite import StartupSuite
from usedge_bench.wire import Child, child, end_of

COLD, WARM = "cold", "warm"
Command = tuple[str, list[str]]
"""A module and its arguments, the port being "PORT"."""


def run_startup(bundle: Bundle, suite: StartupSuite, say: Callable[[str], None]) -> StartupReport:
    """Start every contender cold and warm, in turn, and return the report."""
    watch, missing = Watch(say), missing_readers(bundle, suite.samples)
    ours, theirs = cores_apart()
    watch.pinned = {"readers": sorted(ours), "transducer": sorted(theirs)}
    seconds: dict[str, dict[str, list[float]]] = {}
    cache: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, child(
            "the transducer", "usedge_bench.wire", str(suite.samples), str(suite.seed),
            cores=theirs) as transducer:
        commands = _commands(bundle, choose(bundle, say), Path(folder), missing)
        with watch.part("files", "looking which files are read …"):
            files = {name: _files(command, transducer, suite) for name, command in commands.items()}
        for turn in range(suite.rounds):
            with watch.part(f"round {turn + 1}", f"round {turn + 1} of {suite.rounds} …"):
                for name, command in commands.items():
                    took = seconds.setdefault(name, {COLD: [], WARM: []})
                    dropped = drop(files[name])
                    if name == USEDGE and dropped["kept_mb"] >= cache.get("kept_mb", 0.0):
                        cache = {**dropped, "files": len(files[name])}
                    for start in (COLD, WARM):
                        took[start].append(_first_reading_s(command, transducer, suite, ours))
    return StartupReport(
        **common("startup", suite, watch), bundle={"name": bundle.name, "sha256": bundle.sha256},
        missing=missing, cache=cache, values_s=seconds,
        rows=[_row(name, start, values) for name, each in seconds.items() for start, values in each.items()],
    )


def _commands(bundle: Bundle, runtime: str, folder: Path, missing: dict[str, str]) -> dict[str, Command]:
    commands: dict[str, Command] = {
        USEDGE: ("usedge", ["run", "--port", "PORT", "--bundle", str(bundle.path), "--runtime", runtime,
                            "--count", "1", "--json"])}
    if PLAIN not in missing:
        variant = next(each for each in bundle.variants.values()
                       if (each.runtime, each.precision) == ("onnx", "fp32"))
        model = folder / "plain.onnx"
        model.write_bytes(bundle.variant_bytes(variant.name))
        commands[PLAIN] = ("usedge_bench.plain", ["PORT", str(model), "1"])
    return commands


def _with_port(command: Command, port: str) -> Command:
    return command[0], [port if each == "PORT" else each for each in command[1]]


def _files(command: Command, transducer: Child, suite: StartupSuite) -> list[Path]:
    port = transducer.ask(prf_hz=suite.prf_hz)["port"]
    try:
        return files_read(*_with_port(command, port))
    except subprocess.SubprocessError as error:
        raise LinkError(f"{command[0]} made no reading of the virtual transducer: {error}.") from None
    finally:
        transducer.ask()


def _first_reading_s(command: Command, transducer: Child, suite: StartupSuite, cores: set[int]) -> float:
    port = transducer.ask(prf_hz=suite.prf_hz)["port"]
    module, arguments = _with_port(command, port)
    with on_cores(cores):
        begun = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True)
    with process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - begun
        end_of(process, module)
    transducer.ask()
    if not line:
        raise LinkError(f"{module} ended without a reading, with status {process.returncode}.")
    return round(took, 4)


def _row(name: str, start: str, values: list[float]) -> dict[str, Any]:
    return {"contender": name, "start": start, "median_s": round(median(values), 3),
            "min_s": round(min(values), 3), "max_s": round(max(values), 3)}
