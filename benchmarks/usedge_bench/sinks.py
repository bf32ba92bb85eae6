"""The sinks suite: `usedge run` on one core with every sink on, whether it keeps up, and what each adds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from socket import SOCK_DGRAM, SOCK_STREAM
from typing import Any

from usedge import __version__
from usedge.errors import InputError, LinkError
from usedge.meter import host_facts
from usedge_bench.partners import BROKER, Broker, Browser, Lines, Partner, Scraper, free_port
from usedge_bench.suite import SinksSuite, settings

FORMAT_VERSION = 1
USEDGE = (sys.executable, "-m", "usedge")
SINKS = ("jsonl", "csv", "record", "influx", "mqtt", "prometheus", "web")
NEEDS = {"mqtt": ("paho", "usedge[mqtt]"), "prometheus": ("prometheus_client", "usedge[prometheus]"),
         "web": ("uvicorn", "usedge[web]")}
TICKS = os.sysconf("SC_CLK_TCK")
LOOK_S = 0.25
PATIENCE_S = 120.0
RESERVE = 1.5
"""A stretch may take so many times as long as it should, PATIENCE_S besides, before it is given up."""

Say = Callable[[str], None]


def run_sinks(suite: SinksSuite, say: Say) -> dict[str, Any]:
    """Run the suite and return the report (keys: docs/sinks.md).

    Raises InputError for PRFs and lengths that do not pair, LinkError where a run does not end.
    """
    if len(suite.prfs_hz) != len(suite.samples):
        raise InputError("the suite's prfs_hz and samples differ in number.", "Give a length for each PRF.")
    here, there = cores()
    names, missing = usable(say)
    pairs = [(prf_hz, int(samples)) for prf_hz, samples in zip(suite.prfs_hz, suite.samples, strict=True)]
    with _moved(there):
        together = []
        for prf_hz, samples in pairs:
            say(f"all sinks, {prf_hz:g} A-scans/s of {samples} samples, {suite.stretch_s:g} s …")
            together.append(_stretch(suite, names, prf_hz, samples, suite.stretch_s, here))
        alone = {}
        for name in ("none", *names):
            say(f"{name} alone, {suite.single_s:g} s …")
            alone[name] = _stretch(suite, [] if name == "none" else [name], *pairs[-1], suite.single_s, here)
    added = {name: added_cores(alone[name], alone["none"]) for name in names}
    report = {"together": together, "alone": alone, "added_cores": added, "missing": missing}
    return {"format_version": FORMAT_VERSION, "suite": "sinks", "version": __version__, **report,
            "failed": failures(report, suite.web_cores), "settings": settings(suite), "host": host_facts(),
            "cores": {"run": sorted(here), "others": sorted(there)}}


def cores() -> tuple[set[int], set[int]]:
    """The core of the run, and those of all others; the same where there is only one."""
    known = sorted(os.sched_getaffinity(0))
    return {known[-1]}, set(known[:-1]) or {known[-1]}


def usable(say: Say) -> tuple[list[str], dict[str, str]]:
    """The sinks that this machine can run, and why it cannot run the others."""
    missing = {name: f"pip install '{extra}'" for name, (package, extra) in NEEDS.items()
               if find_spec(package) is None}
    if BROKER is None:
        missing.setdefault("mqtt", "mosquitto is not installed")
    for name, why in missing.items():
        say(f"sink {name} is left out: {why}.")
    return [name for name in SINKS if name not in missing], missing


@contextmanager
def _moved(to: set[int]) -> Iterator[None]:
    """This process, with all that it starts, on the cores ``to`` until the block ends."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def added_cores(with_it: dict[str, Any], without: dict[str, Any]) -> float | None:
    """CPU time that a sink adds, in cores; None where it was not measured."""
    if with_it["cores"] is None or without["cores"] is None:
        return None
    return round(float(with_it["cores"]) - float(without["cores"]), 4)


def failures(report: dict[str, Any], web_cores: float) -> list[str]:
    """What does not hold, in words: A-scans or readings lost or not accounted for, a page too dear."""
    failed = [f"{prf} Hz: {why}" for stretch in report["together"]
              for prf, why in ((f"{stretch['prf_hz']:g}", each) for each in stretch["lost"])]
    web = report["added_cores"].get("web")
    if web is not None and web > web_cores:
        failed.append(f"the live page adds {web:.1%} of a core, limit {web_cores:.0%}")
    return failed


def losses(summary: dict[str, Any], n: int, n_readings: int) -> list[str]:
    """What of ``n`` A-scans is missing in ``summary``; and of its readings, of which stdout had
    ``n_readings``, what a sink did not write.
    """
    read = summary["classified"] + summary["abstained"]
    counted = read + summary["dropped"] + summary["unread"]
    wrong = {
        f"{summary['received']} of {n} received": summary["received"] != n,
        f"the device says it sent {summary['sent']}": summary["sent"] != n,
        f"{summary['dropped']} dropped": summary["dropped"],
        f"{summary['unread']} unread": summary["unread"],
        f"{summary['received'] - counted} unaccounted": summary["received"] != counted,
        f"{n_readings} of {read} readings on stdout": n_readings != read,
        f"{summary.get('recorded')} recorded of {n}": summary.get("recorded", n) != n,
    }
    told = [what for what, is_so in wrong.items() if is_so]
    for name, state in summary["sinks"].items():
        if state["written"] != read or state["dropped"]:
            told.append(f"{name} wrote {state['written']} of {read}, {state['dropped']} dropped")
    return told


def _stretch(suite: SinksSuite, names: Sequence[str], prf_hz: float, samples: int, seconds: float,
             core: set[int]) -> dict[str, Any]:
    """One run with the sinks ``names`` on, until as many A-scans have come as ``seconds`` hold."""
    n = int(prf_hz * seconds)
    with tempfile.TemporaryDirectory(prefix="usedge-sinks-") as name, ExitStack() as stack:
        folder = Path(name)
        options, partners = _options(names, folder, stack)
        port = stack.enter_context(_board(prf_hz, samples, suite.seed))
        summary = folder / "summary.json"
        words = ["run", "--port", port, "--count", str(n), "--json", "--summary", str(summary), *options]
        with subprocess.Popen([*USEDGE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
            os.sched_setaffinity(run.pid, core)
            watch = _Watch(run, suite.settle_s, n / prf_hz * RESERVE + PATIENCE_S)
            watch.wait()
        # What the folder is called is nobody's business but this run's.
        told = json.loads(summary.read_text().replace(f"{folder}{os.sep}", ""))
    return {"prf_hz": prf_hz, "samples": samples, "ascans": n, "cores": watch.cores, "seconds": watch.seconds,
            "lost": losses(told, n, watch.lines), "deadline_misses": told["deadline_misses"],
            "latency_us": told["latency_us"], "peak_rss_mb": told["peak_rss_mb"], "sinks": told["sinks"],
            "recorded": told.get("recorded"), "got": {each: who.got for each, who in partners.items()}}


class _Watch:
    """Reads a run's stdout to its end and counts its CPU time behind ``settle_s``, in ``cores``."""

    def __init__(self, run: subprocess.Popen[bytes], settle_s: float, most_s: float) -> None:
        self.lines = 0
        self.seconds = 0.0
        self.cores: float | None = None
        self._run, self._settle_s, self._most_s = run, settle_s, most_s
        self._talk = b""
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._read, self._listen)]

    def wait(self) -> None:
        """Until the run ends; raises LinkError, with what it said, where it fails or does not end."""
        for thread in self._threads:
            thread.start()
        begun, first, last = time.monotonic(), None, None
        while self._run.poll() is None:
            time.sleep(LOOK_S)
            now = time.monotonic()
            if now - begun > self._most_s:
                self._run.kill()
                raise LinkError(f"a run did not end within {self._most_s:.0f} s.", "Is the machine busy?")
            spent = _cpu_s(self._run.pid)
            if self.lines and spent is not None and now - begun > self._settle_s:
                first, last = first or (now, spent), (now, spent)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        if self._run.returncode:
            raise LinkError(f"a run failed: {self._talk.decode(errors='replace').strip()}")
        self.seconds, self.cores = _between(first, last)

    def _read(self) -> None:
        assert self._run.stdout is not None
        for _ in self._run.stdout:
            self.lines += 1

    def _listen(self) -> None:
        assert self._run.stderr is not None
        self._talk = self._run.stderr.read()


def _between(first: tuple[float, float] | None, last: tuple[float, float] | None
             ) -> tuple[float, float | None]:
    """Seconds between two looks, and cores taken in them."""
    if first is None or last is None or last[0] <= first[0]:
        return 0.0, None
    return round(last[0] - first[0], 2), round((last[1] - first[1]) / (last[0] - first[0]), 4)


def _cpu_s(pid: int) -> float | None:
    """CPU time of a process and all its threads, s; None where it has gone."""
    try:
        after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(after[11]) + int(after[12])) / TICKS


@contextmanager
def _board(prf_hz: float, samples: int, seed: int) -> Iterator[str]:
    """The port of a virtual transducer in a process of its own."""
    board = subprocess.Popen([*USEDGE, "emulate", "--until-eof", "--prf", f"{prf_hz:g}", "--samples",
                              str(samples), "--seed", str(seed)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert board.stdout is not None
    try:
        port = board.stdout.readline().strip()
        if not port:
            raise LinkError("the virtual transducer did not start.", "Try: usedge emulate")
        yield port
    finally:
        board.terminate()
        board.communicate(timeout=PATIENCE_S)


def _options(names: Sequence[str], folder: Path, stack: ExitStack) -> tuple[list[str], dict[str, Partner]]:
    """The options of the sinks ``names``, and those of their partners who count what comes."""
    options: list[str] = []
    partners: dict[str, Partner] = {}
    for name in names:
        port = free_port(SOCK_DGRAM if name == "influx" else SOCK_STREAM)
        if name == "record":
            options += ["--record", str(folder / "all.usrec")]
            continue
        if name == "mqtt":
            stack.enter_context(Broker(port, folder))
        kinds: dict[str, type[Partner]] = {"influx": Lines, "prometheus": Scraper, "web": Browser}
        if name in kinds:
            partners[name] = stack.enter_context(kinds[name](port))
        options += ["--sink", _address(name, port, folder)]
    return options, partners


def _address(name: str, port: int, folder: Path) -> str:
    if name in {"jsonl", "csv"}:
        return f"{name}:{folder / f'all.{name}'}"
    scheme = "influx+udp" if name == "influx" else name
    return f"{scheme}://127.0.0.1:{port}" + ("/bench" if name == "mqtt" else "")


def as_table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = ["| all sinks | A-scans | lost | cores | p50 µs | p99 µs | deadline misses | peak RSS |",
             "|---|---|---|---|---|---|---|---|"]
    for each in report["together"]:
        latency, lost = each["latency_us"], "; ".join(each["lost"]) or "none"
        lines.append(f"| {each['prf_hz']:g} Hz × {each['samples']} | {each['ascans']} | {lost} |"
                     f" {_share(each['cores'])} | {latency['p50']:.0f} | {latency['p99']:.0f} |"
                     f" {each['deadline_misses']} | {each['peak_rss_mb']} MB |")
    last = report["together"][-1]
    lines += ["", f"| sink, at {last['prf_hz']:g} Hz × {last['samples']} | adds, of a core |", "|---|---|",
              f"| none (the run itself) | {_share(report['alone']['none']['cores'])} |"]
    lines += [f"| {name} | {_share(added)} |" for name, added in report["added_cores"].items()]
    return "\n".join(lines)


def _share(cores_taken: float | None) -> str:
    return "–" if cores_taken is None else f"{cores_taken:.1%}"
