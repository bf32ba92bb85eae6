"""From a time of flight to a distance or a thickness, and how far that may be off."""

from __future__ import annotations

import math
from dataclasses import dataclass

from usedge.errors import known_name

MODES = {"pulse-echo": 0.5, "pitch-catch": 1.0}
"""Mode → the share of the sound's way that is the distance: there and back, or there alone."""
MM_PER_US = 1e-3
"""mm/µs in a m/s."""


def share_of_way(mode: str) -> float:
    """The share of the sound's way that is the distance; raises InputError for an unknown mode."""
    known_name(mode, MODES, "mode")
    return MODES[mode]


@dataclass(frozen=True, slots=True)
class Ranging:
    """distance = share · speed · (ToF − offset): ``speed_m_s``, ``offset_us`` (delay line, electronics).

    Standard uncertainties: ``speed_sd_m_s``, ``offset_sd_us``, ``covariance`` of both in m/s · µs, and
    ``tof_sd_us`` of a single ToF; None where nobody knows them.
    """

    speed_m_s: float
    speed_sd_m_s: float | None = None
    mode: str = "pulse-echo"
    offset_us: float = 0.0
    offset_sd_us: float | None = 0.0
    covariance: float = 0.0
    tof_sd_us: float | None = None

    def __post_init__(self) -> None:
        share_of_way(self.mode)

    @property
    def mm_per_us(self) -> float:
        """Distance in mm for each µs of ToF."""
        return MODES[self.mode] * self.speed_m_s * MM_PER_US

    def distance_mm(self, tof_us: float) -> float:
        """The distance in mm at ``tof_us``; negative for an echo before the offset."""
        return (tof_us - self.offset_us) * self.mm_per_us

    def distance_sd_mm(self, tof_us: float, sample_us: float) -> float | None:
        """Standard uncertainty of ``distance_mm(tof_us)``, mm; None where one of its parts is unknown.

        Linear propagation (JCGM 100:2008, eq. 13). A ToF is taken to be no better than a rectangle of one
        sample, ``sample_us`` / √12: a scene that stands still in step with the ADC's clock shows no spread.
        """
        if self.speed_sd_m_s is None or self.offset_sd_us is None or self.tof_sd_us is None:
            return None
        slope = self.mm_per_us
        by_speed = self.distance_mm(tof_us) / self.speed_m_s
        tof_sd_us = max(self.tof_sd_us, sample_us / math.sqrt(12.0))
        variance = ((slope * tof_sd_us) ** 2 + (by_speed * self.speed_sd_m_s) ** 2
                    + (slope * self.offset_sd_us) ** 2 - 2.0 * by_speed * slope * self.covariance)
        return math.sqrt(max(variance, 0.0))
