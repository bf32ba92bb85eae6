"""The address of a sink, taken apart: scheme, place, options."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from usedge.errors import InputError, known_name
from usedge.sinks.queued import BACKLOG

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Options:
    """The part of an address after "?", every name of it known."""

    scheme: str
    values: Mapping[str, str]

    @classmethod
    def parse(cls, scheme: str, query: str, known: Sequence[str]) -> Options:
        """Raises InputError, naming the nearest known one, for an option not in ``known`` or "backlog", and
        for a backlog that cannot be: every sink has one, and none may open anything before it is known.
        """
        values = dict(parse_qsl(query, keep_blank_values=True))
        for name in values:
            known_name(name, [*known, "backlog"], f"option of sink {scheme}", "")
        options = cls(scheme, values)
        options.backlog  # noqa: B018 - for what it raises
        return options

    def number(self, name: str, default: float, least: float, most: float = math.inf) -> float:
        """The option as a number in ``least`` … ``most``; raises InputError for anything else."""
        text = self.values.get(name)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and least <= value <= most):
            limits = f"{least:g} or more" if most == math.inf else f"{least:g} … {most:g}"
            raise InputError(f"{name}={text} of sink {self.scheme} is no number that fits.",
                             f"It must be {limits}.")
        return value

    def text(self, name: str, default: str = "") -> str:
        """The option as it stands."""
        return self.values.get(name, default)

    @property
    def backlog(self) -> int:
        """Readings that may wait."""
        return int(self.number("backlog", BACKLOG, 1, 1e7))


@dataclass(frozen=True)
class Address:
    """``scheme://[user:password@]host:port/path?options``; ``name`` is the same without what is secret."""

    scheme: str
    host: str
    port: int
    path: str
    user: str | None
    password: str | None
    options: Options
    name: str


def parse_address(url: str, default_port: int, known: Sequence[str], host: str = LOOPBACK) -> Address:
    """``url`` taken apart, ``host`` and ``default_port`` where it names none.

    Raises InputError for what is no such address or has options that are not ``known``.
    """
    scheme, _, rest = url.partition(":")
    try:
        parts = urlsplit(f"sink:{rest}")
        port = default_port if parts.port is None else parts.port
    except ValueError as error:
        raise _no_address(url, scheme, default_port, str(error)) from None
    if "#" in rest:
        raise _no_address(url, scheme, default_port, "# is written %23")
    if not rest.startswith("//"):
        raise _no_address(url, scheme, default_port, "there is no //")
    named = parts.hostname or host
    shown = f"[{named}]" if ":" in named else named
    return Address(scheme, named, port, unquote(parts.path),
                   None if parts.username is None else unquote(parts.username),
                   None if parts.password is None else unquote(parts.password),
                   Options.parse(scheme, parts.query, known), f"{scheme}://{shown}:{port}{parts.path}")


def _no_address(url: str, scheme: str, port: int, why: str) -> InputError:
    # The address may hold a password: what stands before the @ is not repeated.
    shown = f"{scheme}://…@{url.rpartition('@')[2]}" if "@" in url else url
    return InputError(f"sink {shown} is no address ({why}).", f"Example: {scheme}://{LOOPBACK}:{port}")


def secret(variable: str) -> str | None:
    """What the environment holds for ``variable``, where a command line would show it to everyone."""
    return os.environ.get(variable) or None
