"""What a virtual transducer needs to speak a protocol as the device: orders in, replies and A-scans out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class DeviceDescription:
    """Which device a dialect speaks for.

    ``fs_hz`` samples a second; ``n_samples`` of an A-scan; ``t0_us`` µs from main bang to the first sample;
    ``prf_hz`` the device's own PRF, 0 = as fast as the link takes; ``gain_db`` dB; ``name`` as it gives
    itself; ``adc_bits`` ADC resolution; ``session_id`` random at every boot; ``peak`` the greatest magnitude
    among the counts that will be sent, by which a dialect of fewer bits scales them (0: by ``adc_bits``).
    A wire that has no field for one of these does not tell it.
    """

    fs_hz: int
    n_samples: int
    t0_us: float = 0.0
    prf_hz: float = 0.0
    gain_db: float = 0.0
    name: str = "virtual"
    adc_bits: int = 12
    session_id: int = 0
    peak: int = 0


@dataclass(frozen=True, slots=True)
class Order:
    """What the host wants, in no protocol's words.

    ``kind``: "start" a stream, "stop" it, "once" send a single A-scan, "say" only reply.
    ``prf_mhz`` millihertz, 0 = the device's own; ``count`` A-scans, 0 = until stopped; ``tag`` and
    ``content`` are the dialect's own and come back to it in ``reply``.
    """

    kind: Literal["start", "stop", "once", "say"]
    prf_mhz: int = 0
    count: int = 0
    tag: int = 0
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """The device at the moment of a reply: ``next_seq`` of the A-scan that comes next, ``sent`` A-scans since
    the last start, ``t_us`` of its clock, ``streaming`` or not.
    """

    next_seq: int
    sent: int
    t_us: int
    streaming: bool


class Dialect(Protocol):
    """One protocol's device side. It does no input or output, and holds no schedule."""

    name: str

    def boot(self, state: DeviceState) -> bytes:
        """Return what the device says when it is switched on, often nothing."""
        ...

    def orders(self, data: bytes) -> list[Order]:
        """Take the host's next bytes, in pieces of any length; return the orders that they complete."""
        ...

    def reply(self, order: Order, state: DeviceState) -> bytes:
        """Return the answer to an order, called at a frame boundary when it has been obeyed.

        A stream that ends by its count is told as ``Order("stop", tag=…)`` with the tag of its start.
        """
        ...

    def ascan(self, samples: npt.NDArray[Any], *, seq: int, t_us: int) -> bytes:
        """Return one A-scan, ``(n,)`` int16 counts, as it stands on the wire.

        Raises ``UsfpError`` when the wire cannot carry it.
        """
        ...
