"""InfluxDB's line protocol to a listener that answers, is busy, hangs up, refuses and comes back."""

from __future__ import annotations

import base64
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from usedge.ascan import AScan
from usedge.reading import Reading
from usedge.sinks import Station, open_sinks
from usedge.sinks.queued import Queued

DEADLINE_S = 60
GATED = AScan(np.zeros(8, np.int16), 1e6)
LINE = re.compile(r"(?P<series>(?:[^ \\]|\\.)+) (?P<fields>(?:[^ \"\\]|\"[^\"]*\")+) (?P<ns>\d{19})")


def reading(seq: int, tof_us: float | None = 20.5) -> Reading:
    return Reading(seq, time.monotonic_ns(), tof_us, 3 if tof_us else None, 0.9, 21.0, None, 1500.0,
                   None if tof_us else "no_echo")


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def parsed(line: str) -> dict[str, Any]:
    match = LINE.fullmatch(line)
    assert match is not None, line
    fields = dict(each.split("=", 1) for each in match["fields"].split(","))
    return {"series": match["series"], "ns": int(match["ns"]), **fields}


class Server(ThreadingHTTPServer):
    """Takes what is posted; ``answer`` is the status of the next answers, None hangs up in the middle."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        self.taken: list[str] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.tries = 0
        self.answer: int | None = 204
        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.tries += 1
        status = self.server.answer
        if status is None:
            self.close_connection = True
            return
        if status == 204:
            self.server.taken += body.splitlines()
            self.server.requests.append((self.path, dict(self.headers)))
        self.send_response(status)
        content = b"" if status == 204 else b'{"error":"not\\nnow"}'
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.stop()


def opened(url: str, said: list[str] | None = None) -> Queued:
    return open_sinks([url], Station(say=(said if said is not None else []).append))[0]


def test_a_server_that_is_busy_and_hangs_up_gets_every_reading_once(server: Server) -> None:
    said: list[str] = []
    sink = opened(f"influx+http://127.0.0.1:{server.server_port}?db=tank", said)
    for seq in range(0, 300):
        sink.write(reading(seq), GATED)
    until(lambda: sink.state()["written"] == 300, "nothing arrives")
    for answer in (503, None):
        server.answer, before = answer, server.tries
        first = sink.state()["written"]
        for seq in range(first, first + 400):
            sink.write(reading(seq), GATED)
        until(lambda before=before: server.tries >= before + 2, "it does not try again")  # type: ignore[misc]
        server.answer = 204
        until(lambda first=first: sink.state()["written"] == first + 400, "the rest does not arrive")  # type: ignore[misc]
    sink.close()
    points = [parsed(line) for line in server.taken]
    assert [point["seq"] for point in points] == [f"{seq}i" for seq in range(1100)]
    assert sink.state()["written"] == 1100
    assert sink.dropped == 0
    assert "HTTP 503" in said[0]
    assert "not now" in said[0].replace("\\n", " ")
    assert "works again; no readings were lost" in said[1]
    assert len(said) == 2


def test_a_server_that_is_gone_and_back_gets_what_was_kept(server: Server) -> None:
    sink = opened(f"influx+http://127.0.0.1:{server.server_port}?db=tank")
    sink.write(reading(0), GATED)
    until(lambda: len(server.taken) == 1, "nothing arrives")
    server.stop()
    server.answer = None  # whoever is still connected is hung up on
    for seq in range(1, 50):
        sink.write(reading(seq), GATED)
    until(lambda: sink.state()["state"] == "failing", "it is not noticed")
    again = Server(server.server_port)
    until(lambda: len(again.taken) >= 49, "what was kept does not arrive")
    sink.close()
    again.stop()
    assert {parsed(line)["seq"] for line in again.taken} == {f"{seq}i" for seq in range(1, 50)}


def test_what_the_server_will_never_take_is_dropped_and_counted(server: Server) -> None:
    said: list[str] = []
    sink = opened(f"influx+http://127.0.0.1:{server.server_port}?db=tank", said)
    server.answer = 400
    sink.write(reading(0), GATED)
    until(lambda: sink.dropped == 1, "it is not given up")
    server.answer = 204
    sink.write(reading(1), GATED)
    sink.close()
    assert [parsed(line)["seq"] for line in server.taken] == ["1i"]
    assert (sink.state()["written"], sink.state()["dropped"]) == (1, 1)
    assert "refused 1 readings: HTTP 400" in said[0]


def test_lines_are_line_protocol(server: Server) -> None:
    sink = opened(f"influx+http://127.0.0.1:{server.server_port}?bucket=b&org=my%20lab"
                  "&station=tank%201,a=b&measurement=echo%20times")
    begin_ns = time.time_ns()
    sink.write(reading(7), GATED)
    sink.write(reading(8, None), GATED)
    sink.close()
    one, other = (parsed(line) for line in server.taken)
    assert one["series"] == r"echo\ times,station=tank\ 1\,a\=b"
    assert (one["tof_us"], one["label"], one["seq"], one["confidence"]) == ("20.5", "3i", "7i", "0.9")
    assert "abstain" not in one
    assert abs(one["ns"] - begin_ns) < DEADLINE_S * 1e9
    assert other["abstain"] == '"no_echo"'
    assert "tof_us" not in other
    assert "t_ns" not in one


@pytest.mark.parametrize(("asked", "path"), [
    ("?db=tank&rp=week", "/write?db=tank&rp=week&precision=ns"),
    ("?bucket=b&org=lab", "/api/v2/write?bucket=b&org=lab&precision=ns"),
    ("/api/v3/write_lp?db=tank", "/api/v3/write_lp?db=tank&precision=nanosecond"),
    ("/telegraf", "/telegraf?precision=ns"),
])
def test_the_versions_of_influxdb_are_asked_as_they_want(server: Server, monkeypatch: pytest.MonkeyPatch,
                                                         asked: str, path: str) -> None:
    monkeypatch.setenv("USEDGE_INFLUX_TOKEN", "t0ken")
    for login in ("", "me:se%40same@"):
        sink = opened(f"influx+http://{login}127.0.0.1:{server.server_port}{asked}")
        sink.write(reading(0), GATED)
        sink.close()
    (one, by_token), (_, by_login) = server.requests
    assert one == path
    assert by_token["Authorization"] == ("Bearer t0ken" if "v3" in path else "Token t0ken")
    assert by_login["Authorization"] == "Basic " + base64.b64encode(b"me:se@same").decode()


def test_udp_sends_whole_lines_and_goes_on_when_the_listener_is_back() -> None:
    said: list[str] = []
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    listener.settimeout(DEADLINE_S)
    port = listener.getsockname()[1]
    sink = opened(f"influx+udp://127.0.0.1:{port}", said)
    for seq in range(50):
        sink.write(reading(seq), GATED)
    got: list[str] = []
    while len(got) < 50:
        datagram = listener.recv(65_536)
        assert len(datagram) <= 1400
        assert datagram.endswith(b"\n")
        got += datagram.decode().splitlines()
    assert [parsed(line)["seq"] for line in got] == [f"{seq}i" for seq in range(50)]
    listener.close()
    seq = 50

    def failing() -> bool:
        nonlocal seq
        sink.write(reading(seq), GATED)
        seq += 1
        return sink.state()["state"] == "failing"

    until(failing, "nobody notices that no one listens")
    assert "Connection refused" in said[0]
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", port))
    listener.settimeout(DEADLINE_S)
    sink.write(reading(1_000_000), GATED)
    while "seq=1000000i" not in listener.recv(65_536).decode():
        pass
    listener.close()
    sink.close()
