"""The reference A-scan of a differential run, from a file of one or several of one scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from usedge.ascan import cut_gate
from usedge.errors import InputError
from usedge.sources.files import read_ascans
from usedge.spec import Gate
from usedge.tof import Differential, mean_ascan


def load_reference(path: Path, gate: Gate | None = None, f0_hz: float | None = None) -> Differential:
    """The differential mode against the mean of the A-scans in ``path``, each cut to ``gate``.

    ``f0_hz`` is the centre frequency, None to estimate it. Raises InputError for a file that cannot be read,
    has no echo in its gate, or whose A-scans differ by more than half a period: their mean would be no echo.
    """
    gated = [cut_gate(ascan, gate) for ascan in read_ascans(path)[0]]
    if not all(ascan.rf for ascan in gated):
        raise InputError(f"{path} holds envelopes; a difference needs RF.", "Record RF.")
    try:
        differential = Differential(mean_ascan(gated), f0_hz)
    except InputError as error:
        raise InputError(f"{path}: {error.what}", error.next_step) from error
    moved_ns = np.array([differential.difference(ascan).dtof_ns for ascan in gated], np.float64)
    astray = ~(np.abs(moved_ns) < 0.5 * differential.period_ns)
    if astray.any():
        row = int(np.argmax(astray))
        raise InputError(f"{path}: A-scan {row} does not fit the mean of all {len(gated)}.",
                         "Give repeats of one scene, or a single A-scan.")
    return differential
