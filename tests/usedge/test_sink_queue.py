"""The queue in front of every sink: never waits, loses by count, speaks once, and leaves in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.reading import Reading
from usedge.sinks import SINKS, JsonLines, Station, close_sinks, open_sinks, sink_states
from usedge.sinks.queued import Queued, SinkDownError, SinkRefusedError
from usedge.sinks.told import link_state, wall_ns

DEADLINE_S = 60
GATED = AScan(np.zeros(8, np.int16), 1e6)


def reading(seq: int) -> Reading:
    return Reading(seq, time.monotonic_ns(), 20.0 + seq / 1000, 3, 0.9, 21.0, None, 1500.0)


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Outlet:
    """Keeps what it is given; ``trouble`` is raised instead while there is one."""

    def __init__(self, at_a_time: int = 1000) -> None:
        self.seqs: list[int] = []
        self.trouble: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.closed = False
        self._at_a_time = at_a_time

    def send(self, readings: Sequence[Reading]) -> int:
        self.open.wait()
        if self.trouble is not None:
            raise self.trouble
        taken = readings[: self._at_a_time]
        self.seqs += [each.seq for each in taken]
        return len(taken)

    def tick(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def said() -> list[str]:
    return []


def test_every_reading_arrives_once_and_in_order(said: list[str]) -> None:
    outlet = Outlet(at_a_time=7)
    sink = Queued("x", outlet, said.append)
    for seq in range(1200):
        sink.write(reading(seq), GATED)
    sink.close()
    assert outlet.seqs == list(range(1200))
    assert sink.state() == {"written": 1200, "dropped": 0, "state": "ok", "error": None}
    assert outlet.closed
    assert said == []


def test_a_sink_that_hangs_loses_the_oldest_by_count_and_holds_up_nobody(said: list[str]) -> None:
    outlet = Outlet()
    outlet.open.clear()
    sink = Queued("x", outlet, said.append, backlog=10)
    for seq in range(1000):
        sink.write(reading(seq), GATED)  # returns at once, or this test would never come to its next line
    until(lambda: sink.dropped, "nothing was dropped")
    outlet.open.set()
    sink.close()
    state = sink.state()
    assert state["written"] + state["dropped"] == 1000
    assert outlet.seqs[-10:] == list(range(990, 1000))
    assert state["written"] == len(outlet.seqs) == len(set(outlet.seqs))


def test_a_failure_is_told_once_and_so_is_its_end(said: list[str]) -> None:
    outlet = Outlet()
    outlet.trouble = SinkDownError("the broker is out for lunch")
    sink = Queued("x", outlet, said.append)
    for seq in range(50):
        sink.write(reading(seq), GATED)
    until(lambda: sink.state()["state"] == "failing", "it never failed")
    time.sleep(0.8)  # several attempts
    assert len(said) == 1
    assert "sink x fails: the broker is out for lunch" in said[0]
    outlet.trouble = None
    until(lambda: len(outlet.seqs) == 50, "what was kept did not arrive")
    until(lambda: len(said) == 2, "nobody said that it works again")
    assert "works again; no readings were lost" in said[1]
    outlet.trouble = OSError(28, "No space left on device")  # it comes and goes: that is not told each time
    sink.write(reading(50), GATED)
    until(lambda: sink.state()["state"] == "failing", "it never failed again")
    assert len(said) == 2
    outlet.trouble = None
    sink.close()
    assert sink.state() == {"written": 51, "dropped": 0, "state": "ok", "error": "No space left on device"}


def test_what_is_refused_for_good_is_dropped_and_the_rest_goes_on(said: list[str]) -> None:
    outlet = Outlet()
    outlet.trouble = SinkRefusedError("HTTP 400")
    sink = Queued("x", outlet, said.append)
    sink.write(reading(0), GATED)
    until(lambda: sink.dropped == 1, "it was not dropped")
    outlet.trouble = None
    sink.write(reading(1), GATED)
    sink.close()
    assert outlet.seqs == [1]
    assert sink.state() == {"written": 1, "dropped": 1, "state": "ok", "error": "HTTP 400"}
    assert said == ["sink x refused 1 readings: HTTP 400."]


def test_a_fault_of_our_own_in_a_sink_is_told_and_not_fatal(said: list[str]) -> None:
    outlet = Outlet()
    outlet.trouble = ZeroDivisionError("oh")
    sink = Queued("x", outlet, said.append)
    sink.write(reading(0), GATED)
    until(lambda: said, "nobody told of it")
    assert "ZeroDivisionError: oh" in said[0]
    outlet.trouble = None
    sink.close()
    assert outlet.seqs == [0]


def test_the_end_waits_a_few_seconds_for_all_sinks_together(monkeypatch: pytest.MonkeyPatch,
                                                            said: list[str]) -> None:
    monkeypatch.setattr("usedge.sinks.queued.FLUSH_S", 0.3)
    monkeypatch.setattr("usedge.sinks.queued.JOIN_S", 0.1)
    hanging, dead, well = Outlet(), Outlet(), Outlet()
    hanging.open.clear()
    dead.trouble = SinkDownError("gone")
    sinks = [Queued(name, outlet, said.append) for name, outlet in
             (("hanging", hanging), ("dead", dead), ("well", well))]
    for seq in range(5):
        for sink in sinks:
            sink.write(reading(seq), GATED)
    close_sinks(sinks)
    states = sink_states(sinks)
    hanging.open.set()
    assert states["hanging"] == {"written": 0, "dropped": 5, "state": "stuck", "error": None}
    assert states["dead"] == {"written": 0, "dropped": 5, "state": "failing", "error": "gone"}
    assert states["well"] == {"written": 5, "dropped": 0, "state": "ok", "error": None}
    assert [line for line in said if "left unwritten" in line] == [
        "sink hanging: 5 readings were left unwritten (it did not end in time).",
        "sink dead: 5 readings were left unwritten (gone)."]


def test_a_broken_stdout_does_not_keep_the_others_from_their_end(said: list[str]) -> None:
    class Broken(JsonLines):
        def close(self) -> None:
            raise BrokenPipeError

    outlet = Outlet()
    sink = Queued("x", outlet, said.append)
    sink.write(reading(0), GATED)
    with pytest.raises(BrokenPipeError):
        close_sinks([Broken(), sink])
    assert (outlet.seqs, outlet.closed) == ([0], True)


@pytest.mark.parametrize(("url", "says"), [
    ("jsnl:x.jsonl", "sink jsnl is unknown. The nearest known one is jsonl"),
    ("mqt://host/x", "nearest known one is mqtt"),
    ("readings.jsonl", "has no scheme. Example: --sink jsonl:readings.jsonl"),
    ("csv:", "names no file"), ("jsonl:/no/such/x.jsonl", "cannot be written"),
    ("csv:x.csv?kep=3", "option of sink csv kep is unknown. The nearest known one is keep"),
    ("csv:x.csv?rotate_mb=-1", "rotate_mb=-1 of sink csv is no number that fits"),
    ("csv:x.csv?rotate_mb=nan", "is no number that fits"), ("csv:x.csv?keep=3", "nothing is rotated"),
    ("jsonl:x.jsonl?backlog=0", "backlog=0"), ("jsonl:/dev/null", "no regular file"),
    ("influx+http://h", "neither bucket nor db"), ("influx+udp:h:1", "there is no //"),
    ("influx+udp://no.such.host.invalid:1", "is not known"),
])
def test_what_cannot_be_opened_is_named_with_the_next_step(url: str, says: str, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as error:
        open_sinks([url], Station())
    assert not list(tmp_path.iterdir())
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_password_is_in_no_message() -> None:
    with pytest.raises(InputError) as error:
        open_sinks(["influx+http://me:sesame@h:99999?db=x"], Station())
    assert "sesame" not in str(error.value)
    assert "h:99999" in str(error.value)


def test_every_scheme_leads_to_a_function() -> None:
    pytest.importorskip("paho", reason="the extra mqtt is not installed")
    pytest.importorskip("prometheus_client", reason="the extra prometheus is not installed")
    pytest.importorskip("uvicorn", reason="the extra web is not installed")
    import importlib

    for module, function in SINKS.values():
        assert callable(getattr(importlib.import_module(module), function))


def test_the_link_is_up_while_a_scans_come() -> None:
    now_ns = time.monotonic_ns()
    old = Reading(0, now_ns - 6_000_000_000, None, None, 0.0, 0.0, None, 1.0, "no_echo")
    assert link_state(None, 50.0) == "waiting"
    assert link_state(reading(0), 50.0) == "up"
    assert link_state(old, 50.0) == "silent"
    assert link_state(old, 0.5) == "up"  # one in two seconds: six are no more than three periods


def test_times_are_those_of_the_wall() -> None:
    assert abs(wall_ns(time.monotonic_ns()) - time.time_ns()) < 1_000_000_000
