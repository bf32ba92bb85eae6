"""Every echo in a gate, one after another, by a picker of the first."""

from __future__ import annotations

from dataclasses import replace

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.preprocess import MIN_GATE_SAMPLES
from usedge.tof import Pick, Picker
from usedge.zoom import passed

MOST_ECHOES = 16


class EchoTrain:
    """Asks ``picker`` for the first echo, then in a gate that begins where that echo is over, and so on,
    until it finds none or ``most`` are found. The answer is the first echo's, with all onsets in
    ``echoes_us``.

    ``laps_ns`` says what the last A-scan took by stage, all its gates together. Raises InputError for a
    ``most`` that is not within 1 and MOST_ECHOES.
    """

    def __init__(self, picker: Picker, most: int) -> None:
        if not 1 <= most <= MOST_ECHOES:
            raise InputError(f"{most} echoes cannot be sought.", f"Give --echoes 1 to {MOST_ECHOES}.")
        self.picker = picker
        self.most = most
        self.laps_ns: dict[str, int] = {}

    def pick(self, gated: AScan) -> Pick:
        """The first echo and all onsets, or why there is none; raises what the picker raises."""
        self.laps_ns = {}
        first = found = self._pick(gated)
        onsets, rest = [], gated
        while found.tof_us is not None:
            onsets.append(found.tof_us)
            rest = _behind(rest, found.tof_us)
            if len(onsets) == self.most or len(rest.samples) < MIN_GATE_SAMPLES:
                break
            found = self._pick(rest)
        return replace(first, echoes_us=tuple(onsets))

    def _pick(self, gated: AScan) -> Pick:
        pick = self.picker.pick(gated)
        for stage, ns in getattr(self.picker, "laps_ns", {}).items():
            self.laps_ns[stage] = self.laps_ns.get(stage, 0) + ns
        return pick


def _behind(gated: AScan, tof_us: float) -> AScan:
    """What of ``gated`` comes after the echo at ``tof_us``."""
    start = passed(gated.samples, (tof_us - gated.t0_us) / gated.sample_us)
    return replace(gated, samples=gated.samples[start:], t0_us=gated.t0_us + start * gated.sample_us)


def seeker(picker: Picker, echoes: int) -> Picker:
    """``picker`` for 1 echo, an EchoTrain for more; raises InputError for a number that cannot be."""
    return picker if echoes == 1 else EchoTrain(picker, echoes)
