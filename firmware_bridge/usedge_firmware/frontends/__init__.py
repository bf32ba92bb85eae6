"""The protocols that are spoken here, by name; each is imported when it is asked for.

``open_front_end`` gives the host's side of one, ``open_dialect`` the device's.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final, cast

from usedge_firmware.dialect import DeviceDescription, Dialect
from usedge_firmware.frame import UsfpError
from usedge_firmware.frontend import FrontEnd, Request

__all__ = ["DIALECTS", "FRONT_ENDS", "UnknownFrontEndError", "open_dialect", "open_front_end"]

_HERE: Final = "usedge_firmware.frontends"
FRONT_ENDS: Final = {
    "usfp": (f"{_HERE}.usfp_link", "UsfpFrontEnd"),
    "p0rk": (f"{_HERE}.p0rk", "P0rkFrontEnd"),
    "wulpus": (f"{_HERE}.wulpus", "WulpusFrontEnd"),
    "pic0rick": (f"{_HERE}.pic0rick", "Pic0rickFrontEnd"),
    "auto": (f"{_HERE}.auto", "AutoFrontEnd"),
}
DIALECTS: Final = {
    "usfp": (f"{_HERE}.usfp_device", "UsfpDialect"),
    "p0rk": (f"{_HERE}.p0rk_device", "P0rkDialect"),
    "wulpus": (f"{_HERE}.wulpus", "WulpusDialect"),
    "pic0rick": (f"{_HERE}.pic0rick", "Pic0rickDialect"),
}


class UnknownFrontEndError(UsfpError):
    """A protocol that is not spoken here; the message names those that are."""


def open_front_end(name: str, request: Request) -> FrontEnd:
    """Return the host's side of protocol ``name``; raises ``UnknownFrontEndError`` for another name."""
    return cast(FrontEnd, _class_of(name, FRONT_ENDS)(request))


def open_dialect(name: str, description: DeviceDescription, **options: Any) -> Dialect:
    """Return the device's side of protocol ``name``; ``options`` are its own, such as ``encode`` of USFP.

    Raises ``UnknownFrontEndError`` for another name.
    """
    return cast(Dialect, _class_of(name, DIALECTS)(description, **options))


def _class_of(name: str, table: dict[str, tuple[str, str]]) -> Any:
    if name not in table:
        raise UnknownFrontEndError(f"protocol {name!r} is unknown; known: {', '.join(table)}")
    module, class_name = table[name]
    return getattr(import_module(module), class_name)
