"""One gate's part of a run: cut, pick, difference, smoothing, and the gate's own counts."""

from __future__ import annotations

from dataclasses import dataclass

from usedge.ascan import AScan, cut_gate
from usedge.errors import InputError
from usedge.ranging import Ranging
from usedge.reading import Reading, Smoothed, make_reading
from usedge.smooth import Smoother
from usedge.spec import Gate
from usedge.tof import Difference, Differential, Pick, Picker

NO_RF = Pick(None, 0.0, 0.0, abstain="out_of_distribution", reason="envelope")
"""The answer to an envelope: the pickers time RF, whose phase an envelope has lost."""
NO_RF_DIFFERENCE = Difference(None, 0.0, 0.0, abstain="out_of_distribution")


@dataclass
class Lane:
    """One gate of a run; ``name`` is None where it is the only one. ``ranging`` makes distances of its ToF.

    ``classified`` and ``abstained`` count its readings.
    """

    name: str | None = None
    gate: Gate | None = None
    ranging: Ranging | None = None
    differential: Differential | None = None
    smoother: Smoother | None = None
    classified: int = 0
    abstained: int = 0

    def cut(self, ascan: AScan) -> AScan:
        """``ascan`` cut to the gate; raises InputError, naming the gate, where it does not cover it."""
        try:
            return cut_gate(ascan, self.gate)
        except InputError as error:
            if self.name is None:
                raise
            raise InputError(f"gate {self.name}: {error.what}", error.next_step) from error

    def pick(self, gated: AScan, picker: Picker) -> tuple[Pick, Difference | None]:
        """What ``picker`` and the differential mode, where there is one, answer to a gated A-scan."""
        if not gated.rf:
            return NO_RF, None if self.differential is None else NO_RF_DIFFERENCE
        pick = picker.pick(gated)
        return pick, None if self.differential is None else self.differential.difference(gated)

    def reading(self, ascan: AScan, pick: Pick, difference: Difference | None, picked_ns: int) -> Reading:
        """The reading of ``ascan`` in this gate, counted."""
        if pick.abstain is None:
            self.classified += 1
        else:
            self.abstained += 1
        return make_reading(ascan, pick, picked_ns, self.ranging, difference, self.name,
                            self._smoothed(ascan, pick))

    def _smoothed(self, ascan: AScan, pick: Pick) -> Smoothed | None:
        if self.smoother is None:
            return None
        tof_us = self.smoother.update(pick.tof_us, ascan.seq)
        distance_mm = None if tof_us is None or self.ranging is None else self.ranging.distance_mm(tof_us)
        return Smoothed(str(self.smoother.smooth), tof_us, distance_mm)
