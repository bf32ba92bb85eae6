"""The one type that travels the device path: an A-scan, and the cutting of its gate."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from usedge.errors import InputError
from usedge.spec import Gate


@dataclass(frozen=True, slots=True)
class AScan:
    """One RF trace as the front end delivered it.

    ``samples (n,) int16`` are raw counts, ``t0_us`` is the time from main bang to sample 0, ``t_ns`` the
    host's monotonic clock when the last byte of it had arrived, ``rf`` False for an envelope, which some
    front ends send instead of RF.
    """

    samples: NDArray[np.int16]
    fs_hz: float
    t0_us: float = 0.0
    seq: int = 0
    t_ns: int = 0
    gain_db: float = 0.0
    channel: int = 0
    rf: bool = True

    @property
    def sample_us(self) -> float:
        """Time between samples, µs."""
        return 1e6 / self.fs_hz

    @property
    def end_us(self) -> float:
        """Time from main bang to the end of the last sample, µs."""
        return self.t0_us + len(self.samples) * self.sample_us


def cut_gate(ascan: AScan, gate: Gate | None) -> AScan:
    """The part of ``ascan`` inside ``gate`` (all of it for None), from the first sample not before its start.

    Raises InputError where the A-scan does not cover the whole gate.
    """
    if gate is None:
        return ascan
    per_us = ascan.fs_hz * 1e-6
    first = math.ceil((gate.start_us - ascan.t0_us) * per_us - 1e-6)
    stop = math.floor((gate.end_us - ascan.t0_us) * per_us + 1e-6)
    if first < 0 or stop > len(ascan.samples):
        raise InputError(
            f"the gate {gate.start_us:g}–{gate.end_us:g} µs is not inside the A-scan"
            f" ({ascan.t0_us:g}–{ascan.end_us:g} µs, {len(ascan.samples)} samples).",
            "Give a --gate START:WIDTH that it covers.",
        )
    return replace(ascan, samples=ascan.samples[first:stop], t0_us=ascan.t0_us + first / per_us)
