"""A reading: what the device says about one A-scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from usedge.ascan import AScan
from usedge.ranging import Ranging
from usedge.tof import Difference, Pick

ABSTENTIONS = ("no_echo", "low_confidence", "saturated", "out_of_distribution", "disagreement")
REASONS = ("constant", "not_finite", "envelope", "short", "flat", "tone", "later", "earlier")


@dataclass(frozen=True, slots=True)
class Smoothed:
    """The ToF smoothed over successive readings by ``smooth``, such as "median:9"; None at an abstention."""

    smooth: str
    tof_us: float | None
    distance_mm: float | None


@dataclass(frozen=True, slots=True)
class Reading:
    """One classified A-scan. Times: ``t_ns`` host clock at its last byte, ``tof_us`` µs after the main bang,
    ``latency_us`` from its last byte to this reading. ``abstain`` says why ``tof_us`` is None,
    ``reason`` which rule it was where an abstention has several.
    ``distance_sd_mm`` is the distance's standard uncertainty, None where a part of it is unknown.

    Some runs add keys: ``gate`` is the gate's name, where there are several; ``difference`` is that to a
    reference A-scan (``dtof_ns``, ``dtof_abstain``); ``echoes_us`` are all onsets in the gate, and
    ``echo_to_echo_mm`` is the distance between the first two, of which no offset is part; ``smoothed`` stands
    beside the ToF (``smooth``, ``smoothed_us``, ``smoothed_mm``).
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
    difference: Difference | None = None
    distance_sd_mm: float | None = None
    gate: str | None = None
    smoothed: Smoothed | None = None
    echoes_us: tuple[float, ...] | None = None
    echo_to_echo_mm: float | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The contract's keys, floats rounded to what they can mean (ToF to a picosecond)."""
        values: dict[str, Any] = {
            "seq": self.seq, "t_ns": self.t_ns, "tof_us": _rounded(self.tof_us, 6), "label": self.label,
            "confidence": round(self.confidence, 4), "snr_db": round(self.snr_db, 2),
            "distance_mm": _rounded(self.distance_mm, 5),
            "distance_sd_mm": _rounded(self.distance_sd_mm, 5), "latency_us": round(self.latency_us, 1),
            "abstain": self.abstain, "reason": self.reason,
        }
        if self.gate is not None:
            values["gate"] = self.gate
        if self.difference is not None:
            values["dtof_ns"] = _rounded(self.difference.dtof_ns, 3)
            values["dtof_abstain"] = self.difference.abstain
        if self.echoes_us is not None:
            values["echoes_us"] = [round(each, 6) for each in self.echoes_us]
            values["echo_to_echo_mm"] = _rounded(self.echo_to_echo_mm, 5)
        if self.smoothed is not None:
            values["smooth"] = self.smoothed.smooth
            values["smoothed_us"] = _rounded(self.smoothed.tof_us, 6)
            values["smoothed_mm"] = _rounded(self.smoothed.distance_mm, 5)
        return values

    def to_json(self) -> str:
        """``to_dict()`` as one line; spelled out, since the device does it within every A-scan's latency."""
        label = "null" if self.label is None else self.label
        return (f'{{"seq": {self.seq}, "t_ns": {self.t_ns},'
                f' "tof_us": {_fixed(self.tof_us, 6)}, "label": {label},'
                f' "confidence": {self.confidence:.4f}, "snr_db": {self.snr_db:.2f},'
                f' "distance_mm": {_fixed(self.distance_mm, 5)},'
                f' "distance_sd_mm": {_fixed(self.distance_sd_mm, 5)}, "latency_us": {self.latency_us:.1f},'
                f' "abstain": {_quoted(self.abstain)}, "reason": {_quoted(self.reason)}'
                f'{self._gate_json()}{self._dtof_json()}{self._echoes_json()}{self._smoothed_json()}}}')

    def _gate_json(self) -> str:
        return "" if self.gate is None else f', "gate": "{self.gate}"'

    def _dtof_json(self) -> str:
        if self.difference is None:
            return ""
        return (f', "dtof_ns": {_fixed(self.difference.dtof_ns, 3)},'
                f' "dtof_abstain": {_quoted(self.difference.abstain)}')

    def _echoes_json(self) -> str:
        if self.echoes_us is None:
            return ""
        return (f', "echoes_us": [{", ".join(f"{each:.6f}" for each in self.echoes_us)}],'
                f' "echo_to_echo_mm": {_fixed(self.echo_to_echo_mm, 5)}')

    def _smoothed_json(self) -> str:
        if self.smoothed is None:
            return ""
        return (f', "smooth": "{self.smoothed.smooth}", "smoothed_us": {_fixed(self.smoothed.tof_us, 6)},'
                f' "smoothed_mm": {_fixed(self.smoothed.distance_mm, 5)}')


def _quoted(text: str | None) -> str:
    return "null" if text is None else f'"{text}"'


def _fixed(value: float | None, digits: int) -> str:
    return "null" if value is None else f"{value:.{digits}f}"


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def make_reading(ascan: AScan, pick: Pick, now_ns: int, ranging: Ranging | None = None,
                 difference: Difference | None = None, gate: str | None = None,
                 smoothed: Smoothed | None = None) -> Reading:
    """The reading of ``ascan`` from its pick; ``ranging`` makes a distance of the ToF."""
    distance_mm = distance_sd_mm = None
    if pick.tof_us is not None and ranging is not None:
        distance_mm = ranging.distance_mm(pick.tof_us)
        distance_sd_mm = ranging.distance_sd_mm(pick.tof_us, ascan.sample_us)
    return Reading(ascan.seq, ascan.t_ns, pick.tof_us, pick.label, pick.confidence, pick.snr_db, distance_mm,
                   (now_ns - ascan.t_ns) * 1e-3, pick.abstain, difference, distance_sd_mm, gate, smoothed,
                   pick.echoes_us, _echo_to_echo_mm(pick, ranging), pick.reason)


def _echo_to_echo_mm(pick: Pick, ranging: Ranging | None) -> float | None:
    if ranging is None or pick.echoes_us is None or len(pick.echoes_us) < 2:
        return None
    return (pick.echoes_us[1] - pick.echoes_us[0]) * ranging.mm_per_us
