"""The live page: what it serves, whom it refuses, and how it treats browsers that are slow."""

from __future__ import annotations

import base64
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="the extra web is not installed")

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.reading import Reading
from usedge.sinks import Station, live, open_sinks, web
from usedge.sinks.queued import Queued

DEADLINE_S = 60
WHOLE = AScan(np.arange(-1000, 1000, dtype=np.int16), 20e6, t0_us=5.0)
GATED = AScan(WHOLE.samples[400:800], 20e6, t0_us=25.0)


def reading(seq: int, tof_us: float | None = 30.5, gate: str | None = None) -> Reading:
    return Reading(seq, time.monotonic_ns(), tof_us, 3, 0.9, 21.0, None, 1500.0,
                   None if tof_us else "saturated", gate=gate)


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Page:
    """A sink and a browser's requests to it."""

    def __init__(self, url: str) -> None:
        self.said: list[str] = []
        station = Station("sim://", self.said.append, lambda: {"received": 12, "dropped": 1}, lambda: 50.0)
        self.sink: Any = open_sinks([url], station)[0]
        self.url = self.said[0].rpartition(" ")[2]
        self.port = int(re.search(r":(\d+)/", self.url)[1])  # type: ignore[index]

    def write(self, *readings: Reading) -> None:
        for each in readings:
            self.sink.watch(WHOLE)
            self.sink.write(each, GATED)

    def ask(self, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        content = b"" if path.startswith("/events") and answer.status == 200 else answer.read()
        connection.close()
        return answer.status, content.decode(), {name.lower(): text for name, text in answer.getheaders()}


class Events:
    """A browser's end of /events; ``next`` gives (event, its JSON)."""

    def __init__(self, port: int, receive_bytes: int = 0) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
        sock = socket.socket()
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.settimeout(DEADLINE_S)
        sock.connect(("127.0.0.1", port))
        self._connection.sock = sock
        self._connection.request("GET", "/events")
        self._answer: HTTPResponse | None = None

    def next(self) -> tuple[str, Any]:
        if self._answer is None:
            self._answer = self._connection.getresponse()
        lines: list[str] = []
        while not (lines and not lines[-1]):
            line = self._answer.readline()
            assert line, "the stream has ended"
            lines.append(line.decode().rstrip("\n"))
        return lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))

    def state(self, condition: Callable[[Any], object] = lambda _: True) -> Any:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            name, content = self.next()
            if name == "state" and condition(content):
                return content
        raise AssertionError("no such state came")

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()
        self._connection.close()


@pytest.fixture
def page() -> Iterator[Page]:
    made = Page("web://127.0.0.1:0")
    yield made
    made.sink.close()


@pytest.fixture
def watch(page: Page) -> Iterator[Callable[..., Events]]:
    made: list[Events] = []

    def open_events(receive_bytes: int = 0) -> Events:
        made.append(Events(page.port, receive_bytes))
        return made[-1]

    yield open_events
    for each in made:
        each.close()


def newest(state: Any) -> int:
    return int(state["gates"][0]["reading"]["seq"]) if state["gates"] else -1


def test_the_page_asks_nobody_else_for_anything(page: Page) -> None:
    for path in ("/", "/style.css", "/app.js", "/draw.js", "/canvas.js"):
        status, text, headers = page.ask(path)
        assert status == 200
        assert not re.search(r"(?:https?:)?//\w+\.\w|@import|url\(", text), path
        assert "default-src 'none'" in headers["content-security-policy"]
    assert page.ask("/../live.py")[0] == page.ask("/nothing")[0] == 404


def test_every_part_of_the_page_that_the_script_names_is_there() -> None:
    folder = files("usedge.sinks").joinpath("page")
    html, script = (folder.joinpath(name).read_text() for name in ("index.html", "app.js"))
    named = set(re.findall(r'(?:\$|showList)\("([\w-]+)"', script))
    assert len(named) > 12
    assert named <= set(re.findall(r'id="([\w-]+)"', html))


def test_a_state_tells_the_a_scan_its_gate_and_the_reading(page: Page, watch: Callable[..., Events]) -> None:
    events = watch()
    assert events.next()[0] == "history"
    assert events.state()["link"] == "waiting"
    page.write(reading(1), reading(2, None), reading(3))
    until(lambda: page.sink.state()["written"] == 3, "they are not counted")
    state = events.state(lambda each: newest(each) == 3 and sum(each["latency"]["bars"]) == 3)
    assert (state["link"], state["counters"]) == ("up", {"received": 12, "dropped": 1})
    gate = state["gates"][0]
    assert (gate["start_us"], gate["end_us"], gate["reading"]["tof_us"]) == (25.0, 45.0, 30.5)
    assert gate["abstentions"] == {"saturated": 1}
    assert sum(bin_[5] for bin_ in gate["bins"]) == 1
    assert sum(state["latency"]["bars"]) == 3
    assert state["latency"]["p50_us"] == pytest.approx(1500, rel=0.01)
    whole = np.frombuffer(base64.b64decode(state["whole"]["data"]), "<i2")
    assert (state["whole"]["t0_us"], state["whole"]["end_us"], state["whole"]["pairs"]) == (5.0, 105.0, True)
    assert (whole.min(), whole.max()) == (-1000, 999)
    cut = np.frombuffer(base64.b64decode(gate["trace"]["data"]), "<i2")
    np.testing.assert_array_equal(cut, GATED.samples - int(np.median(GATED.samples)))


def test_several_gates_stand_side_by_side(page: Page, watch: Callable[..., Events]) -> None:
    page.write(reading(1, 30.5, "front"), reading(1, 41.0, "back"))
    state = watch().state(lambda each: len(each["gates"]) == 2)
    assert [(gate["name"], gate["reading"]["tof_us"]) for gate in state["gates"]] == [("front", 30.5),
                                                                                   ("back", 41.0)]


def test_who_comes_late_gets_the_history(page: Page, watch: Callable[..., Events]) -> None:
    page.write(*[reading(seq, 30.0 + seq) for seq in range(5)])
    until(lambda: page.sink.state()["written"] == 5, "they are not counted")
    name, told = watch().next()
    assert name == "history"
    bins = told["gates"][""]
    assert (min(each[1] for each in bins), max(each[3] for each in bins)) == (30.0, 34.0)
    assert sum(each[4] for each in bins) == 5


def test_a_spike_of_one_sample_is_seen_in_ten_thousand() -> None:
    samples = np.zeros(10_000, np.int16)
    samples[7003] = 5000
    shown = live.columns(samples)
    assert len(shown) == 2 * live.COLUMNS
    assert shown.max() == 5000
    assert np.argmax(shown) // 2 == 7003 * live.COLUMNS // 10_000
    np.testing.assert_array_equal(live.columns(samples[:5]), 0)
    assert len(live.columns(samples[:0])) == 0
    extremes = live.columns(np.array([-32768, -32768, 32767], np.int16))
    assert extremes.tolist() == [0, 0, 32767]  # around the median, and no further than int16 goes


def test_however_fast_a_scans_come_a_frame_is_made_ten_times_a_second() -> None:
    now = 0.0
    shown = live.Live(Station(), clock=lambda: now)
    numbers = set()
    for tick in range(2000):  # 2 s at 1000 A-scans a second, asked by two browsers
        now = tick / 1000
        shown.see(WHOLE)
        shown.show(reading(tick), GATED)
        shown.add([reading(tick)])
        numbers |= {shown.frame()[0], shown.frame()[0]}
    assert len(numbers) == 20


def test_a_browser_that_does_not_read_slows_no_other_and_jumps_to_the_newest(
        page: Page, watch: Callable[..., Events], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (live, web):
        monkeypatch.setattr(module, "FRAME_S", 0.002)
    sleeper, reader = watch(4096), watch()
    sleeper.next()
    got: list[int] = []
    for seq in range(250):  # 2 MB of states, far beyond what any buffer between the two may hold
        page.write(reading(seq))
        got.append(newest(reader.state(lambda each, seq=seq: newest(each) == seq)))
    assert got == list(range(250))
    page.write(reading(10_000))
    missed: list[int] = []
    sleeper.state(lambda each: missed.append(newest(each)) or newest(each) == 10_000)
    assert missed == sorted(missed)
    assert len(set(missed)) < 125  # most of the states between were never sent to it


def test_a_browser_that_leaves_makes_room_for_the_next(page: Page, watch: Callable[..., Events],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "MOST_BROWSERS", 1)
    first = watch()
    first.next()
    status, text, _ = page.ask("/events")
    assert status == 503
    assert "1 browsers are watching already" in text
    first.close()
    until(lambda: page.ask("/events")[0] == 200, "its place is not given free")


def test_the_end_of_the_run_is_told(page: Page, watch: Callable[..., Events]) -> None:
    events = watch()
    events.next()
    page.sink.close()
    while events.next()[0] != "end":
        pass


def test_a_name_rebound_to_this_machine_reads_nothing(page: Page) -> None:
    assert page.ask("/", Host=f"evil.example:{page.port}")[0] == 403
    assert page.ask("/events", Host=f"evil.example:{page.port}")[0] == 403
    assert page.ask("/", Host=f"localhost:{page.port}")[0] == 200


@pytest.fixture
def guarded() -> Iterator[Page]:
    made = Page("web://0.0.0.0:0")
    yield made
    made.sink.close()


def test_where_others_reach_the_page_it_wants_the_token_that_was_printed(guarded: Page) -> None:
    token = guarded.url.partition("?token=")[2]
    assert len(token) >= 20
    for path in ("/", "/app.js", "/events", "/nothing"):
        for wrong in ("", "?token=", f"?token={token}x", f"?token={token[:-1]}", "?token=%ff%fe"):
            assert guarded.ask(path + wrong)[0] == 403, path + wrong
    assert guarded.ask("/events", Authorization=f"Bearer {token}")[0] == 200
    assert guarded.ask("/events", Authorization=f"Bearer {token}x")[0] == 403
    assert guarded.ask(f"/events?token={token}")[0] == 200
    status, _, headers = guarded.ask(f"/?token={token}")
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    for path in ("/", "/app.js", "/events"):
        assert guarded.ask(path, Cookie=cookie.partition(";")[0])[0] == 200
    assert guarded.ask("/", Cookie=f"usedge_{guarded.port}=guess")[0] == 403


def test_the_token_may_be_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USEDGE_WEB_TOKEN", "open sesame")
    page = Page("web://127.0.0.1:0")
    assert page.ask("/")[0] == 403
    assert page.ask("/app.js", Authorization="Bearer open sesame")[0] == 200
    assert page.url.endswith("?token=open%20sesame")
    assert "sesame" not in page.sink.name
    page.sink.close()
    for url in ("web://127.0.0.1:0?token=short", "web://127.0.0.1:0?token=%C3%A4%C3%B6%C3%BC%C3%A4%C3%B6%C3%BC"):
        with pytest.raises(InputError, match="printable letters"):
            Page(url)


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of 127.0.0.1 cannot be opened .*another port: web://"):
            Page(f"web://127.0.0.1:{port}")


def test_hosts_of_this_machine_alone() -> None:
    assert [web.is_loopback(host) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost")] == [True] * 4
    assert [web.is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.7", "raspberrypi")] == [False] * 4


def test_readings_are_all_counted_at_the_end() -> None:
    page = Page("web://127.0.0.1:0")
    page.write(*[reading(seq) for seq in range(30)])
    sink: Queued = page.sink
    sink.close()
    assert sink.state() == {"written": 30, "dropped": 0, "state": "ok", "error": None}
