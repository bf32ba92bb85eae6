"""The local web page: one person's browser on this machine, and what it may ask for."""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import uvicorn
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from usedge.errors import InputError
from usedge.labelling.session import Session
from usedge.webpage import HEADERS, OurNames, make_server, page_routes

PAGE = {"": "index.html", "style.css": "style.css", "app.js": "app.js", "plot.js": "plot.js",
        "canvas.js": "canvas.js"}
LARGEST_BODY = 4096


class OnlyOurPage:
    """Answers requests to our own address alone, and takes decisions from our own page alone.

    A page from elsewhere that a browser has open could otherwise post to this server, or read from it after
    its name was rebound to this machine; both show in the headers Host and Origin.
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        self.app, self.names = app, OurNames(host, port)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403."""
        if scope["type"] != "http":
            return
        reason = self._refused(scope["method"], Headers(scope=scope))
        answer = self.app if reason is None else JSONResponse({"error": reason}, 403, HEADERS)
        await answer(scope, receive, send)

    def _refused(self, method: str, headers: Headers) -> str | None:
        if not self.names.hold(headers.get("host", "")):
            return "This address is not that of usedge label."
        if method in {"GET", "HEAD"}:
            return None
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers["host"]:
            return "Decisions are taken from usedge label's own page alone."
        # No page can send this type elsewhere without being asked for leave first.
        is_json = headers.get("content-type", "").partition(";")[0].strip() == "application/json"
        return None if is_json else "Decisions must come as application/json."


Action = Callable[[dict[str, Any]], dict[str, Any]]


class Pages:
    """What the page may ask for; every answer to a decision holds the state of all rows."""

    def __init__(self, session: Session, stop: Callable[[], None]) -> None:
        self.session, self.stop = session, stop

    def routes(self) -> list[Route]:
        """The addresses and what answers them."""
        return [*page_routes("usedge.labelling", PAGE), Route("/api/session", self._session),
                Route("/api/ascan/{row:int}", self._ascan),
                *(Route(f"/api/{name}", self._answering(act), methods=["POST"]) for name, act in (
                    ("decide", self._decide), ("consensus", self._consensus), ("undo", self._undo),
                    ("finish", self._finish)))]

    def _answering(self, act: Action) -> Callable[[Request], Awaitable[Response]]:
        """``act`` as an endpoint: JSON in, the state out, 400 and the reason for what cannot be done."""
        async def answer(request: Request) -> Response:
            try:
                done = act(await _body(request))
            except InputError as error:
                return JSONResponse({"error": str(error)}, 400, HEADERS)
            stop = BackgroundTask(self.stop) if self.session.finished else None
            return JSONResponse(done | self._state(), headers=HEADERS, background=stop)

        return answer

    async def _session(self, request: Request) -> Response:  # noqa: ARG002 - starlette's signature
        session = self.session
        proposals = [{"row": each.row, "kind": each.kind, "why": each.why(session.method),
                      "tof_us": each.tof_us, "period_us": each.period_us,
                      "model": {"tof_us": each.model.tof_us, "confidence": each.model.confidence},
                      "classical": {"tof_us": each.classical.tof_us, "confidence": each.classical.confidence},
                      "snr_db": each.classical.snr_db} for each in session.proposals]
        return JSONResponse({"file": session.task.file, "out": str(session.out), "method": session.method,
                             "proposals": proposals} | self._state(), headers=HEADERS)

    async def _ascan(self, request: Request) -> Response:
        row = request.path_params["row"]
        if row >= len(self.session.task):
            return JSONResponse({"error": f"There is no A-scan {row}."}, 404, HEADERS)
        gated = self.session.task.gated[row]
        x = gated.samples - np.median(gated.samples)
        return JSONResponse({"t0_us": gated.t0_us, "sample_us": gated.sample_us, "samples": _short(x),
                             "envelope": _short(envelope(x))}, headers=HEADERS)

    def _decide(self, body: dict[str, Any]) -> dict[str, Any]:
        row, label, tof_us = body.get("row"), body.get("label"), body.get("tof_us")
        if isinstance(row, bool) or not isinstance(row, int) or not isinstance(label, str):
            raise InputError("a decision needs a row and a label.")
        if tof_us is not None and (isinstance(tof_us, bool) or not isinstance(tof_us, int | float)):
            raise InputError("tof_us must be a number.")
        self.session.decide(row, label, None if tof_us is None else float(tof_us))
        return {}

    def _consensus(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - as the others
        return {"rows": self.session.accept_consensus()}

    def _undo(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - as the others
        return {"rows": self.session.undo()}

    def _finish(self, body: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - as the others
        self.session.write()
        self.session.finished = True
        return {"out": str(self.session.out)}

    def _state(self) -> dict[str, Any]:
        return {"decisions": {row: list(decision) for row, decision in self.session.decisions.items()},
                "counts": self.session.counts(), "can_undo": self.session.can_undo}


async def _body(request: Request) -> dict[str, Any]:
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > LARGEST_BODY:
            raise InputError(f"a decision has at most {LARGEST_BODY} bytes.")
    try:
        body = json.loads(content) if content else {}
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise InputError("a decision must be a JSON object.")
    return body


def envelope(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Hilbert envelope (n,) of ``x (n,)`` as it is, without a band-pass."""
    n = len(x)
    gains = np.zeros(n)
    gains[0], gains[1 : (n + 1) // 2] = 1.0, 2.0
    if n % 2 == 0:
        gains[n // 2] = 1.0
    return np.abs(np.fft.ifft(np.fft.fft(x) * gains))


def _short(values: NDArray[np.float64]) -> list[float]:
    return [float(value) for value in np.round(values, 1)]


def label_server(session: Session, sock: socket.socket, host: str) -> uvicorn.Server:
    """What serves the page: its ``run(sockets=[sock])`` returns once the person has finished.

    On Ctrl-C it closes in order and raises KeyboardInterrupt again. ``host`` is what ``sock`` was made with.
    """
    server: uvicorn.Server

    def stop() -> None:
        server.should_exit = True

    port = sock.getsockname()[1]
    app = Starlette(routes=Pages(session, stop).routes(),
                    middleware=[Middleware(OnlyOurPage, host=host, port=port)])
    server = make_server(app)
    return server
