"""The live view on a terminal: the A-scan as a braille line with gate and ToF, the reading, the counters."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from usedge.ascan import AScan
from usedge.reading import Reading

if TYPE_CHECKING:
    from usedge.runtime.runner import Run

ROWS = 8
REFRESH_HZ = 8
HISTORY = 4
BLANK = chr(0x2800)
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


def braille(samples: NDArray[np.int16], columns: int, rows: int = ROWS) -> list[str]:
    """``samples (n,)`` as ``rows`` lines of ``columns`` braille characters, each dot column from its least to
    its largest value, full scale at the A-scan's own peak.
    """
    dots_x, dots_y = columns * 2, rows * 4
    edges = np.linspace(0, len(samples), dots_x + 1).astype(int)
    y = samples.astype(np.float64) - float(np.median(samples))
    scale = max(float(np.abs(y).max()), 1.0)
    place = np.clip(np.rint((1 - y / scale) * 0.5 * (dots_y - 1)), 0, dots_y - 1).astype(int)
    cells = np.zeros((rows, columns), int)
    for i in range(dots_x):
        part = place[edges[i] : max(edges[i + 1], edges[i] + 1)]
        for dot in range(int(part.min()), int(part.max()) + 1):
            cells[dot // 4, i // 2] |= _DOTS[dot % 4, i % 2]
    return ["".join(chr(0x2800 + cell) for cell in line) for line in cells]


def _marked(line: str, column: int) -> str:
    """``line`` with a bar at ``column`` where it would be empty: a space cannot carry a colour."""
    return line[:column] + ("│" if line[column] == BLANK else line[column]) + line[column + 1 :]


class LiveView:
    """A sink that shows the newest reading REFRESH_HZ times a second, drawn by rich's own thread."""

    def __init__(self, run: Run, port: str) -> None:
        self._run, self._port = run, port
        self._newest: tuple[Reading, AScan] | None = None
        self._history: deque[Reading] = deque(maxlen=HISTORY)
        self._live = Live(get_renderable=self.render, refresh_per_second=REFRESH_HZ, console=Console())
        self._live.start()

    def write(self, reading: Reading, gated: AScan) -> None:
        """Remember the newest reading."""
        self._newest = (reading, gated)
        self._history.append(reading)

    def close(self) -> None:
        """Draw the last state and give the terminal back."""
        self._live.stop()

    def render(self) -> Panel:
        """The newest A-scan, the last readings and the counters."""
        title = f"usedge · {self._port}"
        if self._newest is None:
            return Panel("waiting for the first A-scan …", title=title)
        reading, gated = self._newest
        width = max(20, min(self._live.console.width - 4, 120))
        return Panel(Group(self._trace(reading, gated, width), self._axis(gated, width), self._figures(),
                           self._counters()), title=title, width=width + 4)

    def _trace(self, reading: Reading, gated: AScan, width: int) -> Text:
        lines = braille(gated.samples, width)
        if reading.tof_us is None:
            return Text("\n".join(lines), style="cyan")
        share = (reading.tof_us - gated.t0_us) / max(gated.end_us - gated.t0_us, 1e-9)
        column = min(int(share * width), width - 1)
        text = Text("\n".join(_marked(line, column) for line in lines), style="cyan")
        for row in range(ROWS):
            text.stylize("bold red", row * (width + 1) + column, row * (width + 1) + column + 1)
        return text

    def _axis(self, gated: AScan, width: int) -> Text:
        left, right = f"{gated.t0_us:.1f} µs", f"{gated.end_us:.1f} µs"
        return Text(left + " " * (width - len(left) - len(right)) + right, style="dim")

    def _figures(self) -> Table:
        table = Table.grid(padding=(0, 2))
        compared = any(lane.differential for lane in self._run.lanes)
        headings = ["A-scan", "ToF", "dToF" if compared else "distance", "confidence", "SNR", "latency"]
        for name, style in zip(headings, ("dim", "bold", "bold", "", "", ""), strict=True):
            table.add_column(name, style=style, justify="right", min_width=10)
        table.add_row(*headings, style="dim")
        for each in reversed(self._history):
            tof = each.abstain if each.tof_us is None else f"{each.tof_us:.3f} µs"
            moved = _difference(each) if compared else _distance(each)
            table.add_row(f"#{each.seq}{_in_gate(each)}", tof, moved, f"{each.confidence:.2f}",
                          f"{each.snr_db:.0f} dB", f"{each.latency_us:.0f} µs")
        return table

    def _counters(self) -> Text:
        run, counts = self._run, self._run.source.counts
        rate = f"{run.source.prf_hz:.4g} Hz" if run.source.prf_hz else "free-running"
        return Text(f"{counts.received} received ({rate}) · {run.classified} classified · "
                    f"{run.abstained} abstained · {counts.seq_gaps} lost on the wire", style="dim")


def _in_gate(reading: Reading) -> str:
    return "" if reading.gate is None else f" {reading.gate}"


def _distance(reading: Reading) -> str:
    return "–" if reading.distance_mm is None else f"{reading.distance_mm:.3f} mm"


def _difference(reading: Reading) -> str:
    if reading.difference is None:
        return "–"
    dtof_ns = reading.difference.dtof_ns
    return f"{reading.difference.abstain}" if dtof_ns is None else f"{dtof_ns:+.2f} ns"
