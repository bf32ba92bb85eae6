"""What a host needs of a front end, whatever its protocol: bytes in, events out, and what to say to it.

A front end here does no input or output: a source feeds it what it read and writes what it is handed. So one
reader serves every protocol, and a captured byte stream is decoded by the code that reads the live port.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Int16Array = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Request:
    """How the host would like the A-scans, and what it knows that the wire does not say.

    ``prf_hz`` A-scans a second (0: the device's own); ``count`` A-scans (0: until stopped);
    ``payload_format`` of USFP; ``fs_hz`` samples a second and ``t0_us`` µs from main bang to the first
    sample, for wires that do not tell (None: the front end's default).
    """

    prf_hz: float = 0.0
    count: int = 0
    payload_format: int = 0
    fs_hz: float | None = None
    t0_us: float | None = None


class Record(NamedTuple):
    """One A-scan off the wire. A tuple, because it is made for each of them and costs a quarter as much.

    ``samples`` ``(n,)`` int16 counts about zero; ``seq`` its number, unwrapped to 32 bits; ``fs_hz`` samples
    a second; ``t0_us`` µs from main bang to the first sample; ``gain_db`` dB; ``t_us`` device clock, None
    where the wire has none; ``rf`` False when these are an envelope, which has lost its phase.
    """

    samples: Int16Array
    seq: int
    fs_hz: float
    t0_us: float = 0.0
    gain_db: float = 0.0
    channel: int = 0
    t_us: int | None = None
    rf: bool = True


@dataclass(frozen=True, slots=True)
class Hello:
    """The device said who it is. ``prf_hz`` its own PRF, None when it did not say; ``session_id`` changes
    when it boots, None on a wire without one.
    """

    name: str
    prf_hz: float | None = None
    session_id: int | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """Our start was obeyed; ``next_seq`` numbers the A-scan that comes next, None where that is not told."""

    next_seq: int | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The stream that we started is over; ``sent`` is the device's own count of it, None when untold."""

    sent: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The device will not do what was asked; ``reason`` in its words or ours."""

    reason: str


@dataclass(frozen=True, slots=True)
class Said:
    """Text from the device that is meant for a person."""

    text: str


Event = Record | Hello | Started | Ended | Refused | Said


@dataclass(slots=True)
class LinkStats:
    """What a front end has met since it was made.

    ``records`` A-scans returned; ``corrupted`` records found damaged and not returned; ``resyncs`` times sync
    was lost after a sound record; ``skipped_bytes`` bytes that belong to nothing that was understood;
    ``doubtful`` records returned that later bytes cast doubt on, on wires too weak to tell at once.
    """

    records: int = 0
    corrupted: int = 0
    resyncs: int = 0
    skipped_bytes: int = 0
    doubtful: int = 0


class FrontEnd(Protocol):
    """One protocol's host side. One thread only.

    ``name`` as ``--protocol`` has it; ``blind_to`` what its wire cannot detect, one sentence, empty when
    nothing; ``evidence`` valid records after which a guess that this is the protocol is believed;
    ``seen`` valid records or messages so far; ``acknowledges`` whether ``start`` and ``stop`` are answered by
    ``Started`` and ``Ended``; ``max_prf_hz`` the most A-scans a second this device takes, None = no limit;
    ``prf_hz`` the A-scans a second that ``start`` asks for, None = the device's own.
    """

    # Properties, so that a class constant will do and a front end that has yet to choose can answer later.
    @property
    def name(self) -> str: ...  # noqa: D102 - the class docstring says what these are

    @property
    def blind_to(self) -> str: ...  # noqa: D102

    @property
    def evidence(self) -> int: ...  # noqa: D102

    @property
    def acknowledges(self) -> bool: ...  # noqa: D102

    @property
    def max_prf_hz(self) -> float | None: ...  # noqa: D102

    @property
    def prf_hz(self) -> float | None: ...  # noqa: D102

    @property
    def seen(self) -> int: ...  # noqa: D102

    @property
    def stats(self) -> LinkStats:
        """What was met so far."""
        ...

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes, in pieces of any length; return what they complete, in the wire's order."""
        ...

    def finish(self) -> list[Event]:
        """End the stream: return what is sound in the bytes held back, and count the rest."""
        ...

    def reset(self) -> None:
        """Forget the bytes held back, as after a reconnect."""
        ...

    def probe(self) -> bytes:
        """Return the bytes that make such a device show itself; may be sent again until it does."""
        ...

    def start(self) -> bytes:
        """Return the bytes that begin the stream as the ``Request`` asks; empty when ``probe`` did so."""
        ...

    def stop(self) -> bytes:
        """Return the bytes that end the stream."""
        ...

    def wants(self, now_s: float) -> bytes:
        """Return bytes to send now, mostly none; ``now_s`` is a monotonic clock.

        A device that is polled for every A-scan asks here, and asks again when an answer does not come.
        """
        ...
