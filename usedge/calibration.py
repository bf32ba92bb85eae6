"""Calibration: speed of sound and offset from echoes of known targets, and the file that keeps them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usedge.errors import InputError
from usedge.files import write_whole
from usedge.ranging import MM_PER_US, Ranging, share_of_way
from usedge.sound import Speed, Stated

FORMAT = "usedge-calibration"
VERSION = 1
MAX_FILE_BYTES = 1 << 20
SPEEDS_M_S = (50.0, 20_000.0)
"""Beyond rubber foam and diamond the wrong echo was timed."""
LEAST_ANSWERS = 5
OUTLIER = 5.0
"""Answers more robust standard deviations than this off the median are another echo or cycle."""
MOST_OUTLIERS = 0.2
MAD_TO_STD = 1.4826
_AGAIN = "Copy it again, or make it again with `usedge calibrate`."
_WRONG_ECHO = "Is the target's echo the first in the gate? See docs/distance.md."

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Target:
    """What a known target gave: its distance in mm, the mean of ``n`` ToF and their standard deviation in µs;
    ``abstained`` gave none, ``outliers`` were left out. ``residual_mm`` is the fit's distance minus its own.
    """

    distance_mm: float
    distance_sd_mm: float | None
    tof_us: float
    spread_us: float
    sample_us: float
    n: int
    abstained: int
    outliers: int
    residual_mm: float = 0.0

    @property
    def tof_sd_us(self) -> float:
        """Standard uncertainty of the mean ToF: averaging helps where the spread covers a sample's grid."""
        grid_us = self.sample_us / math.sqrt(12.0)
        return self.spread_us / math.sqrt(self.n) if self.spread_us > grid_us else grid_us


def target(distance: Stated, tof_us: Sequence[float | None], sample_us: float) -> Target:
    """The target at ``distance`` (mm) from the answers to its A-scans, None = abstained.

    Raises InputError for a distance that is not positive, fewer than ``LEAST_ANSWERS`` answers, fewer answers
    than abstentions, and answers of which more than ``MOST_OUTLIERS`` lie apart.
    """
    if not distance.value > 0:
        raise InputError(f"target {distance.value:g} mm is not positive.", "Example: --target 30+-0.02.")
    known = np.array([each for each in tof_us if each is not None], np.float64)
    name = f"target {distance.value:g} mm"
    if known.size < max(LEAST_ANSWERS, 0.5 * len(tof_us)):
        raise InputError(f"{name}: only {known.size} of {len(tof_us)} A-scans had an answer.", _WRONG_ECHO)
    kept = _kept(known, sample_us)
    if kept.size < (1.0 - MOST_OUTLIERS) * known.size:
        raise InputError(f"{name}: {known.size - kept.size} of {known.size} answers lie apart from the rest.",
                         "Hold it still, and narrow --gate to its echo.")
    return Target(distance.value, distance.sd, float(kept.mean()), float(kept.std(ddof=1)), sample_us,
                  int(kept.size), len(tof_us) - int(known.size), int(known.size - kept.size))


def _kept(tof_us: FloatArray, sample_us: float) -> FloatArray:
    off = np.abs(tof_us - np.median(tof_us))
    kept: FloatArray = tof_us[off <= OUTLIER * max(MAD_TO_STD * float(np.median(off)), 0.5 * sample_us)]
    return kept


def by_targets(targets: Sequence[Target], mode: str) -> Ranging:
    """Speed and offset from two targets or more, by least squares in distance.

    Raises InputError for two at one distance, and where the ToF does not grow with the distance.
    """
    d, t = np.array([each.distance_mm for each in targets]), np.array([each.tof_us for each in targets])
    for i, each in enumerate(targets):
        if each.distance_mm in d[:i]:
            raise InputError(f"two targets are at {each.distance_mm:g} mm.", "Give two that differ.")
    order = np.argsort(d)
    if not (np.diff(t[order]) > 0).all():
        told = ", ".join(f"{d[i]:g} mm at {t[i]:.3f} µs" for i in order)
        raise InputError(f"the ToF does not grow with the distance: {told}.", _WRONG_ECHO)
    share = share_of_way(mode) * MM_PER_US
    variances = _variances(targets, float(np.polyfit(t, d, 1)[0]))
    weights = np.ones(len(d)) if variances is None else 1.0 / variances
    t_mean, d_mean = float(np.average(t, weights=weights)), float(np.average(d, weights=weights))
    stretch = float(np.sum(weights * (t - t_mean) ** 2))
    slope = float(np.sum(weights * (t - t_mean) * d)) / stretch
    ranging = Ranging(slope / share, None, mode, t_mean - d_mean / slope, None, 0.0, _tof_sd(targets))
    _check_speed(ranging.speed_m_s)
    if variances is None:
        return ranging
    misfit = float(np.sum(weights * (d_mean + slope * (t - t_mean) - d) ** 2))
    # Targets that fit worse than their uncertainties allow widen what follows from them (Birge's ratio).
    scale = max(1.0, misfit / (len(d) - 2)) if len(d) > 2 else 1.0
    var_slope, var_mean = scale / stretch, scale / float(weights.sum())
    offset_sd = math.sqrt(var_mean + (d_mean / slope) ** 2 * var_slope) / slope
    return replace(ranging, speed_sd_m_s=math.sqrt(var_slope) / share, offset_sd_us=offset_sd,
                   covariance=d_mean * var_slope / slope**2 / share)


def _variances(targets: Sequence[Target], slope: float) -> FloatArray | None:
    """Variance of each target's distance, mm², that of its ToF included; None where one is unknown."""
    values = [(each.distance_sd_mm, slope * each.tof_sd_us) for each in targets]
    if any(sd is None for sd, _ in values):
        return None
    return np.array([(sd or 0.0) ** 2 + by_tof**2 for sd, by_tof in values])


def offset_by_target(one: Target, speed: Speed, mode: str) -> Ranging:
    """The offset from one target, where the speed of sound is known."""
    slope = share_of_way(mode) * MM_PER_US * speed.m_s
    way_us = one.distance_mm / slope
    offset_sd, covariance = None, 0.0
    if speed.sd_m_s is not None and one.distance_sd_mm is not None:
        offset_sd = math.sqrt(one.tof_sd_us**2 + (one.distance_sd_mm / slope) ** 2
                              + (way_us / speed.m_s * speed.sd_m_s) ** 2)
        covariance = way_us / speed.m_s * speed.sd_m_s**2
    return Ranging(speed.m_s, speed.sd_m_s, mode, one.tof_us - way_us, offset_sd, covariance, _tof_sd([one]))


def speed_by_target(one: Target, offset: Stated, mode: str) -> Ranging:
    """The speed of sound from one target, where the offset is known; raises InputError before the offset."""
    way_us = one.tof_us - offset.value
    if not way_us > 0:
        raise InputError(f"the echo at {one.tof_us:.3f} µs comes before the offset {offset.value:g} µs.",
                         _WRONG_ECHO)
    speed = one.distance_mm / (share_of_way(mode) * MM_PER_US * way_us)
    _check_speed(speed)
    speed_sd, covariance = None, 0.0
    if offset.sd is not None and one.distance_sd_mm is not None:
        speed_sd = speed * math.hypot(one.distance_sd_mm / one.distance_mm,
                                      math.hypot(one.tof_sd_us, offset.sd) / way_us)
        covariance = speed / way_us * offset.sd**2
    return Ranging(speed, speed_sd, mode, offset.value, offset.sd, covariance, _tof_sd([one]))


def speed_by_thickness(front: Target, between: Target) -> Ranging:
    """The speed from a plate's thickness and the time ``between`` its front and back echo, taken A-scan by
    A-scan, so that jitter common to both is not in it. The offset is the front echo: depths begin there.
    """
    inside = speed_by_target(between, Stated(0.0, 0.0), "pulse-echo")
    covariance = inside.speed_m_s / between.tof_us * front.tof_sd_us**2
    return replace(inside, offset_us=front.tof_us, offset_sd_us=front.tof_sd_us, covariance=covariance,
                   tof_sd_us=_tof_sd([front, between]))


def _tof_sd(targets: Sequence[Target]) -> float:
    """The standard deviation of a single ToF, pooled over the targets, µs."""
    return math.sqrt(sum(each.spread_us**2 for each in targets) / len(targets))


def _check_speed(speed_m_s: float) -> None:
    low, high = SPEEDS_M_S
    if not low <= speed_m_s <= high:
        raise InputError(f"the speed of sound came out as {speed_m_s:.0f} m/s.", _WRONG_ECHO)


@dataclass(frozen=True, slots=True)
class Calibration:
    """``ranging`` and how it came about: its targets, ``gates`` (their names), ``picker`` (the bundle, or the
    classical method), ``made`` (UTC, ISO 8601) and the ``usedge`` version that made it.
    """

    ranging: Ranging
    targets: tuple[Target, ...]
    gates: tuple[str, ...]
    picker: dict[str, Any]
    made: str
    usedge: str

    def fitted(self) -> Calibration:
        """The same with each target's residual."""
        return replace(self, targets=tuple(
            replace(each, residual_mm=round(self.ranging.distance_mm(each.tof_us) - each.distance_mm, 6))
            for each in self.targets))

    def to_dict(self) -> dict[str, Any]:
        """The file's content, its checksum last."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        content = json.loads(json.dumps(content, allow_nan=False))
        return {**content, "sha256": _digest(content)}


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write the file, whole or not at all; raises InputError where it cannot be written."""
    write_whole(path, (json.dumps(calibration.to_dict(), indent=1) + "\n").encode())


def read_calibration(path: Path) -> Calibration:
    """Read the file; raises InputError, one line, for one that is missing, none, damaged or of a newer
    version.
    """
    content = _content(path)
    version = content.get("version")
    if version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        raise InputError(f"{path} is a calibration of version {version}; this usedge reads {VERSION}.",
                         "Update usedge." if newer else _AGAIN)
    if content.pop("sha256", None) != _digest(content):
        raise InputError(f"{path} is damaged: its content differs from its SHA-256.", _AGAIN)
    try:
        del content["format"], content["version"]
        ranging, targets = Ranging(**content.pop("ranging")), content.pop("targets")
        return Calibration(ranging, tuple(Target(**each) for each in targets), tuple(content.pop("gates")),
                           **content)
    except (TypeError, KeyError, InputError) as error:
        raise InputError(f"{path} has unknown or missing fields ({error}).", _AGAIN) from None


def _content(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"calibration {path} cannot be read ({error.strerror or error}).",
                         "Make one with `usedge calibrate`.") from None
    try:
        content = json.loads(text) if len(text) <= MAX_FILE_BYTES else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is no calibration, or is damaged.",
                         "Give the file that `usedge calibrate` wrote.")
    return content


def _digest(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
