"""``influx+http://…`` and ``influx+udp://…``: InfluxDB's line protocol, in batches."""

from __future__ import annotations

import base64
import socket
from collections import deque
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import quote, urlsplit

from usedge.errors import InputError
from usedge.reading import Reading
from usedge.sinks import Station
from usedge.sinks.address import Address, Options, parse_address, secret
from usedge.sinks.queued import BATCH, Queued, SinkDownError, SinkRefusedError
from usedge.sinks.told import wall_ns

PORT_HTTP, PORT_HTTPS, PORT_UDP = 8086, 443, 8089
HTTP_OPTIONS = ("db", "rp", "bucket", "org", "measurement", "station")
UDP_OPTIONS = ("measurement", "station")
MEASUREMENT = "usedge"
ANSWER_S = 4.0
ANSWER_BYTES = 4096
DATAGRAM_BYTES = 1400
REFUSALS = (400, 413, 422)
"""Answers to what will never be taken; all others may change (a missing bucket, a full server)."""
TAGS = ("gate",)


class Lines:
    """Readings as line protocol, each made once: a second try has the same time and is no second point."""

    def __init__(self, options: Options) -> None:
        self._measurement = _escaped(options.text("measurement", MEASUREMENT), ", ")
        station = options.text("station")
        self._station = f",station={_escaped(station, ',= ')}" if station else ""
        self._lines: deque[bytes] = deque(maxlen=BATCH)

    def of(self, readings: Sequence[Reading]) -> list[bytes]:
        """The lines of ``readings``, whose first are those left of the last call."""
        for reading in readings[len(self._lines) :]:
            self._lines.append(self._line(reading).encode())
        return list(self._lines)

    def forget(self, n: int) -> None:
        """The first ``n`` were written, or never will be."""
        for _ in range(n):
            self._lines.popleft()

    def _line(self, reading: Reading) -> str:
        values = reading.to_dict()
        tags = "".join(f",{key}={_escaped(str(values[key]), ',= ')}" for key in TAGS if values.get(key))
        fields = ",".join(f"{key}={_field(key, value)}" for key, value in values.items()
                          if value is not None and key not in TAGS and key != "t_ns")
        return f"{self._measurement}{self._station}{tags} {fields} {wall_ns(reading.t_ns)}\n"


def _escaped(text: str, special: str) -> str:
    text = text.replace("\n", " ").replace("\\", "\\\\")
    return "".join(f"\\{letter}" if letter in special else letter for letter in text)


def _field(key: str, value: object) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{value}i" if key in {"seq", "label"} else repr(float(str(value)))


class InfluxHttp:
    """An outlet that posts batches to InfluxDB 1, 2 or 3, or whatever else takes line protocol (Telegraf)."""

    def __init__(self, address: Address, target: str, headers: dict[str, str], lines: Lines) -> None:
        self._target, self._headers, self._lines = target, headers, lines
        kind = HTTPSConnection if address.scheme.endswith("https") else HTTPConnection
        self._connection = kind(address.host, address.port, timeout=ANSWER_S)

    def send(self, readings: Sequence[Reading]) -> int:
        """Post all of ``readings`` as one batch."""
        lines = self._lines.of(readings)
        kept_open = self._connection.sock is not None
        try:
            answer, text = self._post(b"".join(lines))
        except (OSError, HTTPException):
            if not kept_open:
                raise
            # The server had closed an idle connection, as it may.
            answer, text = self._post(b"".join(lines))
        self._judge(answer, text, len(lines))
        self._lines.forget(len(lines))
        return len(lines)

    def _post(self, body: bytes) -> tuple[HTTPResponse, str]:
        try:
            self._connection.request("POST", self._target, body, self._headers)
            answer = self._connection.getresponse()
            text = answer.read(ANSWER_BYTES).decode(errors="replace")
        except (OSError, HTTPException):
            self._connection.close()
            raise
        if answer.will_close or not answer.isclosed():
            self._connection.close()
        return answer, text

    def _judge(self, answer: HTTPResponse, text: str, n: int) -> None:
        if answer.status // 100 == 2:
            return
        why = f"HTTP {answer.status} {answer.reason} {' '.join(text.split())[:200]}".strip()
        if answer.status in REFUSALS:
            self._lines.forget(n)
            raise SinkRefusedError(why)
        raise SinkDownError(why)

    def tick(self) -> None:
        """Nothing is due."""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class InfluxUdp:
    """An outlet that sends datagrams of whole lines; a reading counts as written when it was sent."""

    def __init__(self, address: Address, lines: Lines) -> None:
        self._lines = lines
        try:
            family, kind, _, _, place = socket.getaddrinfo(address.host, address.port,
                                                           type=socket.SOCK_DGRAM)[0]
        except OSError as error:
            raise InputError(f"host {address.host!r} of {address.name} is not known ({error.strerror}).",
                             "Give an address or a name that this machine can look up.") from error
        self._socket = socket.socket(family, kind)
        self._socket.settimeout(ANSWER_S)
        # A connected socket is told when nobody listens there.
        self._socket.connect(place)

    def send(self, readings: Sequence[Reading]) -> int:
        """Send as many lines as one datagram holds."""
        datagram, n = b"", 0
        for line in self._lines.of(readings):
            if n and len(datagram) + len(line) > DATAGRAM_BYTES:
                break
            datagram += line
            n += 1
        self._socket.send(datagram)
        self._lines.forget(n)
        return n

    def tick(self) -> None:
        """Nothing is due."""

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def open_http(url: str, station: Station) -> Queued:
    """``influx+http://host:port?bucket=B&org=O`` (v2), ``?db=D`` (v1), or any path that takes line protocol.

    The token of v2 and v3 is in the environment, USEDGE_INFLUX_TOKEN; v1 takes ``user:password@``.
    """
    address = parse_address(url, PORT_HTTPS if url.startswith("influx+https:") else PORT_HTTP, HTTP_OPTIONS)
    target = _target(address, urlsplit(url).path)
    outlet = InfluxHttp(address, target, _headers(address, target), Lines(address.options))
    return Queued(address.name, outlet, station.say, address.options.backlog)


def open_udp(url: str, station: Station) -> Queued:
    """``influx+udp://host:port[?measurement=usedge&station=tank]``."""
    address = parse_address(url, PORT_UDP, UDP_OPTIONS)
    return Queued(address.name, InfluxUdp(address, Lines(address.options)), station.say,
                  address.options.backlog)


def _target(address: Address, path: str) -> str:
    values = address.options.values
    if not path.strip("/"):
        if "bucket" not in values and "db" not in values:
            raise InputError(f"sink {address.name} names neither bucket nor db.",
                             f"Example: {address.name}?bucket=tank&org=lab (v2) or ?db=tank (v1).")
        path = "/api/v2/write" if "bucket" in values else "/write"
    asked = [f"{key}={quote(values[key], safe='')}" for key in ("db", "rp", "bucket", "org") if key in values]
    precision = "nanosecond" if "/v3/" in path else "ns"
    return f"{path}?{'&'.join([*asked, f'precision={precision}'])}"


def _headers(address: Address, target: str) -> dict[str, str]:
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    token = secret("USEDGE_INFLUX_TOKEN")
    if address.user is not None:
        login = base64.b64encode(f"{address.user}:{address.password or ''}".encode()).decode()
        headers["Authorization"] = f"Basic {login}"
    elif token is not None:
        headers["Authorization"] = f"{'Bearer' if '/v3/' in target else 'Token'} {token}"
    return headers
