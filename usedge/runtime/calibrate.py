"""The answers to A-scans of known targets, gate by gate, for a calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.reading import Reading
from usedge.runtime.lane import Lane
from usedge.runtime.runner import Run, RunOptions
from usedge.sources import Source
from usedge.spec import Gate
from usedge.tof import Picker


@dataclass
class Answers:
    """ToF in µs of A-scan after A-scan, None = abstained, in each of several gates.

    ``sample_us`` is the time between samples.
    """

    tof_us: list[list[float | None]]
    sample_us: float = 0.0
    _next: int = field(default=0)

    def write(self, reading: Reading, gated: AScan) -> None:
        """Take one gate's reading; they come gate after gate, A-scan after A-scan."""
        self.tof_us[self._next].append(reading.tof_us)
        self._next = (self._next + 1) % len(self.tof_us)
        self.sample_us = gated.sample_us

    def close(self) -> None:
        """Nothing is left to do."""

    def between(self, front: int, back: int) -> list[float | None]:
        """How much later the echo in gate ``back`` comes than in ``front``, µs; None where one has none."""
        pairs = zip(self.tof_us[front], self.tof_us[back], strict=True)
        return [None if first is None or last is None else last - first for first, last in pairs]


def answers_of(source: Source, picker: Picker, gates: Sequence[Gate | None], count: int) -> Answers:
    """Stream ``count`` A-scans (0: all) and keep what ``picker`` answers in each of ``gates``.

    Raises LinkError when the port fails, InputError where no A-scan came or one does not cover a gate.
    """
    answers = Answers([[] for _ in gates])
    Run(source, picker, [answers], RunOptions(count), lanes=[Lane(None, gate) for gate in gates]).go()
    if not answers.tof_us[0]:
        raise InputError("no A-scan came.", "Does the file hold any, is the board's trigger on?")
    return answers
