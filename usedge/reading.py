"""A reading: what the device says about one A-scan."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from usedge.ascan import AScan
from usedge.tof import Pick

ABSTENTIONS = ("no_echo", "low_confidence", "saturated", "out_of_distribution")


@dataclass(frozen=True, slots=True)
class Reading:
    """One classified A-scan. Times: ``t_ns`` host clock at its last byte, ``tof_us`` µs after the main bang,
    ``latency_us`` from its last byte to this reading. ``abstain`` says why ``tof_us`` is None.
    """

    seq: int
    t_ns: int
    tof_us: float | None
    label: int | None
    confidence: float
    snr_db: float
    distance_mm: float | None
    latency_us: float
    abstain: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The contract's keys, floats rounded to what they can mean (ToF to a picosecond)."""
        values = asdict(self)
        for key, digits in (("tof_us", 6), ("confidence", 4), ("snr_db", 2), ("distance_mm", 5),
                            ("latency_us", 1)):
            if values[key] is not None:
                values[key] = round(float(values[key]), digits)
        return values


def make_reading(ascan: AScan, pick: Pick, now_ns: int, speed_of_sound: float | None) -> Reading:
    """The reading of ``ascan`` from its pick; distance is pulse-echo at ``speed_of_sound`` in m/s."""
    distance_mm = None
    if pick.tof_us is not None and speed_of_sound is not None:
        distance_mm = pick.tof_us * speed_of_sound * 0.5e-3
    return Reading(ascan.seq, ascan.t_ns, pick.tof_us, pick.label, pick.confidence, pick.snr_db, distance_mm,
                   (now_ns - ascan.t_ns) * 1e-3, pick.abstain)
