"""What the local web pages share: a socket that listens, whose requests are answered, the server itself."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from importlib.resources import files
from urllib.parse import urlsplit

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from usedge.errors import InputError

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
                               " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
OPEN_ADDRESSES = ("0.0.0.0", "::", "")
SHARED = {"canvas.js": "usedge.webpage"}
"""Files that every page may use, and the package that holds them."""


class OurNames:
    """The names that a page on ``host``, ``port`` is asked for by.

    A page from elsewhere that a browser has open could otherwise read from this server after its own name was
    rebound to this machine; that shows in the header Host.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port, self.open = port, host in OPEN_ADDRESSES
        self.names = {host.lower(), "localhost", "127.0.0.1", "::1"}
        if self.open:
            self.names.add(socket.gethostname().lower())

    def hold(self, host: str) -> bool:
        """Whether ``host``, a header Host, is one of them."""
        try:
            parts = urlsplit(f"//{host}")
            name, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        return port == self.port and (name in self.names or (self.open and _is_address(name)))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def page_routes(package: str, page: Mapping[str, str]) -> list[Route]:
    """A route for every address of ``page`` (address → file), from the folder "page" of ``package``."""
    def route(path: str, name: str) -> Route:
        async def answer(request: Request) -> Response:  # noqa: ARG001 - starlette's signature
            folder = files(SHARED[name]) if name in SHARED else files(package).joinpath("page")
            return Response(folder.joinpath(name).read_bytes(), headers=HEADERS,
                            media_type=MEDIA_TYPES[name.rpartition(".")[2]])

        return Route(f"/{path}", answer, name=name)

    return [route(path, name) for path, name in page.items()]


def listen(host: str, port: int, next_step: str) -> socket.socket:
    """A socket that listens on ``host``, ``port`` 0 a free one.

    Raises InputError with ``next_step`` where that is refused.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM,
                                                         flags=socket.AI_PASSIVE)[0]
        sock = socket.socket(family, kind)
    except (OSError, UnicodeError) as error:
        raise InputError(f"host {host!r} is no address ({error}).", next_step) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen()
    except OSError as error:
        sock.close()
        raise InputError(f"port {port} of {host} cannot be opened ({error.strerror or error}).",
                         next_step) from error
    return sock


def make_server(app: ASGIApp) -> uvicorn.Server:
    """A server of ``app`` for ``run(sockets=[sock])``, which returns once its ``should_exit`` is set."""
    return uvicorn.Server(uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", loop="asyncio", http="h11", ws="none",
        server_header=False, timeout_graceful_shutdown=2))
