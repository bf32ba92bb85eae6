"""What is to be labelled: A-scans with their gates, and the labels that the file already has."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usedge.ascan import AScan, cut_gate
from usedge.errors import InputError
from usedge.labelled import LabelledSet, load_unlabelled
from usedge.spec import Gate
from usedge.tof import estimate_f0

SPECTRUM_ROWS = 256
"""As many A-scans, evenly spread over a file, are enough for its median spectrum."""


@dataclass(frozen=True)
class Task:
    """A-scans to label.

    ``ascans`` as read, with the gates that hold and ``f0_hz`` None where nobody knows it; its ``tof_s (n,)``
    are the onsets that are known already, NaN where there is something to decide. ``gated`` are the A-scans
    cut to their gates; ``period_us (n,)`` is that of the centre frequency, known or estimated.
    """

    ascans: LabelledSet
    gated: Sequence[AScan]
    period_us: NDArray[np.float64]
    file: str

    def __len__(self) -> int:
        return len(self.gated)

    @property
    def f0_hz(self) -> float:
        """The middle one of the centre frequencies, known or estimated, Hz."""
        return float(1e6 / np.median(self.period_us))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything that gives a decision its meaning: A-scans, times, gates, known onsets."""
        seen = self.ascans
        digest = hashlib.sha256(f"{seen.x.dtype.str} {seen.x.shape} {seen.fs_hz!r} {seen.t0_s!r}".encode())
        for array in (seen.x, seen.gate_s, seen.tof_s):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def read_task(path: Path, gate: Gate | None = None, f0_hz: float | None = None) -> Task:
    """Read ``path``; ``gate`` and ``f0_hz`` go before what the file says.

    Labels of another point than the onset, and onsets outside ``gate``, are left to be decided anew. Raises
    InputError for a file that cannot be read or used, a gate outside the A-scan, and an ``f0_hz`` that is not
    between 0 and fs/2.
    """
    ascans = load_unlabelled(path)
    if f0_hz is not None:
        _check_f0(f0_hz, ascans.fs_hz)
        ascans = replace(ascans, f0_hz=np.full(len(ascans), f0_hz))
    if gate is not None:
        cut_gate(ascans.ascan(0), gate)
        gate_s = np.array([gate.start_us, gate.width_us]) * 1e-6
        ascans = replace(ascans, gate_s=np.tile(gate_s, (len(ascans), 1)))
    ascans = replace(ascans, tof_s=_known(ascans), source=ascans.source or path.name)
    gated = [cut_gate(ascans.ascan(i), ascans.gate(i)) for i in range(len(ascans))]
    return Task(ascans, gated, _periods_us(ascans, gated), str(path))


def _check_f0(f0_hz: float, fs_hz: float) -> None:
    if not 0 < f0_hz < fs_hz / 2:
        raise InputError(f"a centre frequency of {f0_hz / 1e6:g} MHz is not between 0 and fs/2"
                         f" ({fs_hz / 2e6:g} MHz).", "Give --f0-mhz in MHz, as 2.25.")


def _known(ascans: LabelledSet) -> NDArray[np.float64]:
    """The onsets (n,) that the file has inside its gates, s after the main bang; NaN for the rest."""
    start, width = ascans.gate_s.T
    inside = (ascans.tof_s >= start) & (ascans.tof_s <= start + width)
    return np.where(inside & (ascans.label_point == "onset"), ascans.tof_s, np.nan)


def _periods_us(ascans: LabelledSet, gated: Sequence[AScan]) -> NDArray[np.float64]:
    if ascans.f0_hz is not None:
        return 1e6 / ascans.f0_hz
    chosen = gated[:: -(-len(gated) // SPECTRUM_ROWS)]
    shortest = min(len(each.samples) for each in chosen)
    f0_hz = estimate_f0(np.stack([each.samples[:shortest] for each in chosen]), ascans.fs_hz)
    return np.full(len(gated), 1e6 / f0_hz)
