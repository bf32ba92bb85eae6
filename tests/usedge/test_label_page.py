"""The page of `usedge label`: what it serves, what it takes, and whom it refuses."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usedge.errors import InputError
from usedge.labelled import load_labelled
from usedge.labelling.proposals import propose
from usedge.labelling.session import Session
from usedge.labelling.task import read_task
from usedge.tof import classical_picker

pytest.importorskip("uvicorn", reason="the extra web is not installed")

from usedge.cli.label import PORT_IN_USE
from usedge.labelling.server import envelope, label_server
from usedge.webpage import OurNames, listen

FS_HZ, F0_HZ, ONSET = 20e6, 2e6, 300
DEADLINE_S = 60
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    t = (np.arange(800) - ONSET) * F0_HZ / FS_HZ
    echo = np.where((t > 0) & (t < 3), 3000 * np.sin(np.pi * np.clip(t / 3, 0, 1)) * np.sin(2 * np.pi * t), 0)
    x = np.round(echo + np.random.default_rng(3).normal(0, 20, (5, 800))).astype(np.int16)
    np.savez(tmp_path / "tank.npz", x=x, fs_hz=FS_HZ, t0_s=4e-6, f0_hz=F0_HZ)
    task = read_task(tmp_path / "tank.npz")
    proposals = propose(task, classical_picker("threshold", F0_HZ), "aic", 0.0)
    opened = Session(task, proposals, tmp_path / "out.npz", "aic")
    yield opened
    opened.close()


class Page:
    """A browser's requests, with any headers."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.origin = f"http://127.0.0.1:{port}"

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET" if body is None else "POST", path, content,
                           ({} if body is None else JSON) | sent)
        response = connection.getresponse()
        answer, got = response.read(), {name.lower(): value for name, value in response.getheaders()}
        connection.close()
        is_json = got.get("content-type", "").startswith("application/json")
        return response.status, json.loads(answer) if is_json else answer.decode(), got


@pytest.fixture
def page(session: Session) -> Iterator[Page]:
    sock = listen("127.0.0.1", 0, PORT_IN_USE)
    server = label_server(session, sock, "127.0.0.1")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    yield Page(sock.getsockname()[1])
    server.should_exit = True
    thread.join(DEADLINE_S)
    sock.close()
    assert not thread.is_alive()


def test_the_page_asks_nobody_else_for_anything(page: Page) -> None:
    for path in ("/", "/style.css", "/app.js", "/plot.js", "/canvas.js"):
        status, text, headers = page.ask(path)
        assert status == 200
        assert not re.search(r"(?:https?:)?//\w+\.\w|@import|url\(", text), path
        assert "default-src 'none'" in headers["content-security-policy"]
    assert page.ask("/../session.py")[0] == page.ask("/nothing")[0] == 404


def test_every_part_of_the_page_that_the_script_names_is_there() -> None:
    folder = files("usedge.labelling").joinpath("page")
    html, script = (folder.joinpath(name).read_text() for name in ("index.html", "app.js"))
    named = set(re.findall(r'\$\("([\w-]+)"\)', script))
    assert len(named) > 15
    assert named <= set(re.findall(r'id="([\w-]+)"', html))


def test_a_session_is_told_whole(page: Page, session: Session) -> None:
    told = page.ask("/api/session")[1]
    assert [each["row"] for each in told["proposals"]] == [each.row for each in session.proposals]
    assert set(told["proposals"][0]) == {"row", "kind", "why", "tof_us", "period_us", "model", "classical",
                                         "snr_db"}
    assert (told["counts"]["rows"], told["counts"]["left"], told["can_undo"]) == (5, 5, False)


def test_an_a_scan_is_shown_as_it_was_recorded(page: Page, session: Session) -> None:
    shown = page.ask("/api/ascan/2")[1]
    row = session.task.ascans.x[2]
    np.testing.assert_array_equal(shown["samples"], row - np.median(row))
    assert (shown["t0_us"], shown["sample_us"]) == (4.0, 0.05)
    assert page.ask("/api/ascan/5")[0] == page.ask("/api/ascan/x")[0] == 404


@pytest.mark.parametrize("n", [400, 401])
def test_the_envelope_of_a_tone_is_its_amplitude(n: int) -> None:
    np.testing.assert_allclose(envelope(7 * np.sin(2 * np.pi * 20 * np.arange(n) / n)), 7, rtol=1e-9)


def test_decisions_are_taken_undone_and_finished(page: Page, session: Session) -> None:
    assert page.ask("/api/decide", {"row": 0, "label": "onset", "tof_us": 19.5}, Origin=page.origin)[0] == 200
    status, told, _ = page.ask("/api/decide", {"row": 1, "label": "skipped"}, Origin=page.origin)
    assert (status, told["decisions"]) == (200, {"0": ["moved", 19.5], "1": ["skipped", None]})
    assert page.ask("/api/undo", {})[1]["rows"] == [1]
    assert sorted(page.ask("/api/consensus", {})[1]["rows"]) == [
        each.row for each in sorted(session.proposals, key=lambda each: each.row)
        if each.kind == "agree" and each.row != 0]
    status, told, _ = page.ask("/api/finish", {})
    assert (status, told["out"], session.finished) == (200, str(session.out), True)
    assert len(load_labelled(session.out)) == told["counts"]["written"] > 1


def test_nothing_decided_is_nothing_to_finish(page: Page, session: Session) -> None:
    status, told, _ = page.ask("/api/finish", {})
    assert (status, session.finished) == (400, False)
    assert "nothing was written" in told["error"]
    assert page.ask("/api/session")[0] == 200


@pytest.mark.parametrize(("body", "says"), [
    ({"row": 9, "label": "no_echo"}, "no A-scan 9"),
    ({"row": "0", "label": "no_echo"}, "a row and a label"),
    ({"row": True, "label": "no_echo"}, "a row and a label"),
    ({"row": 0, "label": "echo"}, "no label 'echo'"),
    ({"row": 0, "label": "onset"}, "outside the gate"),
    ({"row": 0, "label": "onset", "tof_us": 1e9}, "outside the gate"),
    ({"row": 0, "label": "onset", "tof_us": "12"}, "must be a number"),
    (b'{"row": 0, "label": "onset", "tof_us": NaN}', "outside the gate"),
    ([1], "a JSON object"), (b"{", "a JSON object"), (b"\xff", "a JSON object"),
    (b"[" * 4000, "a JSON object"), (b" " * 5000, "at most"),
])
def test_what_is_no_decision_is_refused_and_changes_nothing(page: Page, session: Session, body: Any,
                                                            says: str) -> None:
    status, told, _ = page.ask("/api/decide", body)
    assert status == 400
    assert says in told["error"]
    assert session.decisions == {}


DECISION = {"row": 0, "label": "no_echo"}


@pytest.mark.parametrize("headers", [
    {"Host": "evil.example"}, {"Host": "evil.example:{port}"}, {"Host": "127.0.0.1:1"}, {"Host": "127.0.0.1"},
    {"Host": "127.0.0.1:x"}, {"Host": ""}, {"Origin": "https://evil.example"}, {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"}, {"Origin": "http://localhost.evil.example:{port}"},
    {"Content_Type": "text/plain"}, {"Content_Type": "application/x-www-form-urlencoded"},
])
def test_other_pages_cannot_decide(page: Page, session: Session, headers: dict[str, str]) -> None:
    sent = {name: value.format(port=page.port) for name, value in headers.items()}
    status, told, _ = page.ask("/api/decide", DECISION, **sent)
    assert (status, session.decisions) == (403, {})
    assert "usedge label" in told["error"] or "application/json" in told["error"]


def test_a_name_rebound_to_this_machine_reads_nothing(page: Page) -> None:
    assert page.ask("/api/session", Host=f"evil.example:{page.port}")[0] == 403
    assert page.ask("/api/session", Host=f"localhost:{page.port}")[0] == 200


def test_decisions_are_posted(page: Page, session: Session) -> None:
    assert page.ask("/api/undo")[0] == page.ask("/", DECISION)[0] == 405


@pytest.mark.parametrize(("host", "asked", "ours"), [
    ("127.0.0.1", "[::1]:80", True), ("127.0.0.1", "10.0.0.7:80", False), ("0.0.0.0", "10.0.0.7:80", True),
    ("0.0.0.0", "10.0.0.7", True), ("0.0.0.0", "evil.example:80", False),
    ("bench.local", "BENCH.local:80", True),
])
def test_which_addresses_are_ours(host: str, asked: str, ours: bool) -> None:
    assert OurNames(host, 80).hold(asked) is ours


def test_a_port_in_use_is_named_with_the_next_step() -> None:
    with listen("127.0.0.1", 0, PORT_IN_USE) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of 127.0.0.1 cannot be opened .*--port 0"):
            listen("127.0.0.1", port, PORT_IN_USE)
    with pytest.raises(InputError, match="cannot be opened"):
        listen("192.0.2.1", 0, PORT_IN_USE)  # an address that no machine has
