"""`usedge run --sink …` as its user meets it: in a process of its own, with sinks dead, twice or missing."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

USEDGE = [sys.executable, "-m", "usedge"]
CLASSICAL = ["run", "--port", "sim://?prf=200", "--runtime", "classical"]
DEADLINE_S = 120


def usedge(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*USEDGE, *arguments], capture_output=True, text=True, timeout=DEADLINE_S,
                          check=False)


def test_dead_sinks_cost_no_reading_and_the_summary_tells_of_each(tmp_path: Path) -> None:
    summary = tmp_path / "s.json"
    with socket.socket() as silent:  # takes connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hung = f"influx+http://127.0.0.1:{silent.getsockname()[1]}"
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            dead = f"influx+http://127.0.0.1:{closed.getsockname()[1]}"
        process = usedge(*CLASSICAL, "--count", "200", "--summary", str(summary), "--sink", f"{hung}?db=x",
                         "--sink", f"{dead}?db=x", "--sink", f"jsonl:{tmp_path / 'a.jsonl'}")
    assert process.returncode == 0, process.stderr
    told, lines = json.loads(summary.read_text()), process.stdout.splitlines()
    assert told["received"] == 200
    assert len(lines) == told["classified"] + told["abstained"] == 200 - told["dropped"]
    assert set(told["sinks"]) == {hung, dead, f"jsonl:{tmp_path / 'a.jsonl'}"}
    for name in (hung, dead):
        assert (told["sinks"][name]["written"], told["sinks"][name]["dropped"]) == (0, len(lines))
    assert told["sinks"][dead]["state"] == "failing"
    assert told["sinks"][dead]["error"] == "Connection refused"
    assert told["sinks"][hung]["state"] in {"failing", "stuck"}
    kept = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["seq"] for line in kept] == [json.loads(line)["seq"] for line in lines]
    assert process.stderr.count(f"sink {dead} fails") == 1
    assert f"sink {dead}: {len(lines)} readings were left unwritten" in process.stderr


def test_a_reader_of_stdout_that_leaves_does_not_cost_the_sinks_their_end(tmp_path: Path) -> None:
    process = subprocess.Popen([*USEDGE, *CLASSICAL, "--sink", f"jsonl:{tmp_path / 'a.jsonl'}"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    first = json.loads(process.stdout.readline())
    process.stdout.close()
    assert process.wait(DEADLINE_S) == 0
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    kept = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert kept[0]["seq"] == first["seq"]


@pytest.mark.parametrize(("arguments", "says"), [
    (("--sink", "jsnl:a.jsonl"), "sink jsnl is unknown. The nearest known one is jsonl."),
    (("--sink", "influx+udp://127.0.0.1:9", "--sink", "influx+udp://127.0.0.1:9"), "is given twice"),
    (("--sink", "csv:/no/such/a.csv"), "/no/such/a.csv cannot be written"),
])
def test_what_cannot_be_opened_is_one_line(arguments: tuple[str, ...], says: str) -> None:
    process = usedge(*CLASSICAL, *arguments)
    assert (process.returncode, process.stdout) == (2, "")
    assert len(process.stderr.splitlines()) == 1
    assert says in process.stderr


@pytest.mark.parametrize(("package", "sink", "extra"), [
    ("paho", "mqtt://127.0.0.1", "mqtt"), ("prometheus_client", "prometheus://", "prometheus"),
    ("starlette", "web://", "web"), ("uvicorn", "web://", "web"),
])
def test_a_missing_extra_is_one_line_that_says_how_to_get_it(package: str, sink: str, extra: str) -> None:
    code = (f"import sys\nsys.modules[{package!r}] = None\n"
            f"sys.argv = ['usedge', *{CLASSICAL!r}, '--sink', {sink!r}]\n"
            "from usedge.cli import main\nmain()\n")
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                             timeout=DEADLINE_S, check=False)
    assert (process.returncode, process.stdout) == (2, "")
    assert len(process.stderr.splitlines()) == 1
    assert f"pip install 'usedge[{extra}]'" in process.stderr


def test_without_a_sink_none_of_their_packages_is_imported() -> None:
    code = ("import atexit, sys\n"
            "unwanted = {'paho', 'prometheus_client', 'starlette', 'uvicorn', 'http.client',"
            " 'usedge.sinks.queued'}\n"
            "atexit.register(lambda: sys.stderr.write('FOUND ' + ','.join(unwanted & set(sys.modules))))\n"
            f"sys.argv = ['usedge', *{CLASSICAL!r}, '--count', '5']\n"
            "from usedge.cli import main\nmain()\n")
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                             timeout=DEADLINE_S, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stderr.endswith("FOUND "), process.stderr
