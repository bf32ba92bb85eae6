"""``web://127.0.0.1:8080``: the live page. Each browser gets the newest state by server-sent events."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import secrets
import socket
import threading
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, quote

from usedge.ascan import AScan
from usedge.errors import InputError, MissingExtraError
from usedge.reading import Reading
from usedge.sinks import Station
from usedge.sinks.address import Address, parse_address, secret
from usedge.sinks.live import BINS_IN_A_FRAME, FRAME_S, HISTORY_S, Live
from usedge.sinks.queued import Queued

try:
    from starlette.applications import Starlette
    from starlette.datastructures import Headers
    from starlette.middleware import Middleware
    from starlette.responses import PlainTextResponse, RedirectResponse, Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send

    from usedge.webpage import HEADERS, OPEN_ADDRESSES, OurNames, listen, make_server, page_routes
except ImportError as missing:
    raise MissingExtraError(missing.name or "starlette", "web") from None

PORT = 8080
OPTIONS = ("token", "history_s")
LEAST_TOKEN = 8
PAGE = {"": "index.html", "style.css": "style.css", "app.js": "app.js", "draw.js": "draw.js",
        "canvas.js": "canvas.js"}
MOST_BROWSERS = 16
SEND_BYTES = 65_536
"""Of the kernel's send buffer, which bounds how far behind a slow browser is."""
STUCK_S = 20.0
IDLE_FRAMES = 10
"""Frames between two of an unchanged state, which tell the browser that we are there."""
STOP_S = 3.0
COOKIE_DAYS = 30


class Guard:
    """Lets those through who know the token, or without one those who ask this machine by its own name."""

    def __init__(self, app: ASGIApp, token: str | None, names: OurNames) -> None:
        self.app, self.token, self.names = app, token, names
        self.cookie = f"usedge_{names.port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] == "http":
            answer = self._answer(scope, Headers(scope=scope)) or self.app
            await answer(scope, receive, send)

    def _answer(self, scope: Scope, headers: Headers) -> Response | None:
        if self.token is None:
            if self.names.hold(headers.get("host", "")):
                return None
            return PlainTextResponse("This address is not that of usedge run.", 403, HEADERS)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if self._is_right(given):
            return self._settled() if scope["path"] == "/" else None
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if self._is_right(bearer) or self._is_right(self._cookie(headers)):
            return None
        return PlainTextResponse("This page needs the token that usedge run has printed: open the whole"
                                 " address, ?token=… included.", 403, HEADERS)

    def _is_right(self, given: str) -> bool:
        assert self.token is not None
        return hmac.compare_digest(given.encode(errors="replace"), self.token.encode())

    def _cookie(self, headers: Headers) -> str:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return ""
        return found.value if found else ""

    def _settled(self) -> Response:
        """The token goes into a cookie and out of the address bar, where a screenshot would show it."""
        answer = RedirectResponse("/", 303, HEADERS)
        assert self.token is not None
        answer.set_cookie(self.cookie, self.token, COOKIE_DAYS * 86_400, httponly=True, samesite="lax")
        return answer


class Events:
    """``/events``: frames as server-sent events, each browser at the rate at which it takes them."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._browsers = 0
        self.ending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send frames until the browser leaves, is stuck for STUCK_S, or the run ends."""
        if self._browsers >= MOST_BROWSERS:
            busy = PlainTextResponse(f"{MOST_BROWSERS} browsers are watching already.", 503, HEADERS)
            return await busy(scope, receive, send)
        self._browsers += 1
        gone = asyncio.create_task(_left(receive))
        try:
            await self._stream(send, gone)
        except (asyncio.TimeoutError, OSError):
            return None  # the server closes what was not finished
        finally:
            self._browsers -= 1
            gone.cancel()
        return None

    async def _stream(self, send: Send, gone: asyncio.Task[None]) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        headers += [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        seen, sent, idle = -1, b"", 0
        while not (self.ending or gone.done()):
            _, frame = self._live.frame()
            idle += 1
            if frame != sent or idle >= IDLE_FRAMES:
                events, seen = self._events(frame, seen)
                # This waits while the browser does not take it; whatever happens meanwhile is left out.
                await asyncio.wait_for(send(_body(events)), STUCK_S)
                sent, idle = frame, 0
            await asyncio.sleep(FRAME_S)
        await asyncio.wait_for(send(_body(b"event: end\ndata: {}\n\n", more=False)), STUCK_S)

    def _events(self, frame: bytes, seen: int) -> tuple[bytes, int]:
        """The frame, after the whole history where a frame's own few bins would leave a gap."""
        now = self._live.now()
        state = b"event: state\ndata: " + frame + b"\n\n"
        if seen < 0 or now - seen >= BINS_IN_A_FRAME - 1:
            return b"event: history\ndata: " + self._live.history() + b"\n\n" + state, now
        return state, now


def _body(content: bytes, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Web:
    """An outlet that serves the page; raises InputError where the address cannot be opened.

    ``url`` is the address to open, with the token where there is one.
    """

    def __init__(self, address: Address, live: Live) -> None:
        self._live = live
        self.token = _token(address)
        self._sock = listen(address.host, address.port, f"Give another port: web://{address.host}:{PORT + 1}")
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        port = self._sock.getsockname()[1]
        self.url = _url(address.host, port, self.token)
        self._events = Events(live)
        guard = Middleware(Guard, token=self.token, names=OurNames(address.host, port))
        routes = [*page_routes("usedge.sinks", PAGE), Route("/events", self._events)]
        # It would tell every browser that left in the middle of a frame.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._server = make_server(Starlette(routes=routes, middleware=[guard]))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._sock]},
                                        name="usedge-web", daemon=True)
        self._thread.start()

    def send(self, readings: Sequence[Reading]) -> int:
        """Count ``readings`` for the page."""
        self._live.add(readings)
        return len(readings)

    def tick(self) -> None:
        """Nothing is due: the browsers ask."""

    def close(self) -> None:
        """Tell the browsers, and stop."""
        self._events.ending = True
        self._server.should_exit = True
        self._thread.join(STOP_S)
        self._sock.close()


class WebSink(Queued):
    """The queue in front of the page, which also remembers the newest A-scan."""

    def __init__(self, name: str, web: Web, live: Live, station: Station, backlog: int) -> None:
        self.watch = live.see
        self._show = live.show
        super().__init__(name, web, station.say, backlog)

    def write(self, reading: Reading, gated: AScan) -> None:
        """Queue one reading and remember its A-scan; never waits."""
        self._show(reading, gated)
        super().write(reading, gated)


def is_loopback(host: str) -> bool:
    """Whether ``host`` is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _token(address: Address) -> str | None:
    """The token given, one of our own where others can reach the page, or None."""
    token = address.options.text("token") or secret("USEDGE_WEB_TOKEN")
    if token is None:
        return None if is_loopback(address.host) else secrets.token_urlsafe(16)
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable():
        raise InputError(f"the token of {address.name} has fewer than {LEAST_TOKEN} printable letters.",
                         "Leave it out, and one is made.")
    return token


def _url(host: str, port: int, token: str | None) -> str:
    name = _own_address() if host in OPEN_ADDRESSES else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"?token={quote(token, safe='')}" if token else "")


def _own_address() -> str:
    """This machine's address on its network, which a phone finds where it does not know the name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))  # sends nothing: it only asks for the way to an address of no one
            return str(asked.getsockname()[0])
        except OSError:
            return socket.gethostname()


def open_web(url: str, station: Station) -> Queued:
    """``web://[host][:port][?token=…&history_s=300]``, default 127.0.0.1:8080.

    Elsewhere than on this machine alone the page asks for a token: the one given, in the address or by
    USEDGE_WEB_TOKEN, or one that is made and printed.
    """
    address = parse_address(url, PORT, OPTIONS)
    live = Live(station, address.options.number("history_s", HISTORY_S, 10.0, 7 * 86_400.0))
    backlog = address.options.backlog
    web = Web(address, live)
    station.say(f"live page at {web.url}")
    return WebSink(address.name, web, live, station, backlog)
