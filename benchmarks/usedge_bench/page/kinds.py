"""The kinds of plot that reports are shown by: shares, times, bars, curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from usedge_bench.page.canvas import ACROSS, DIM, INK, MARKS, SERIES, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = Sequence[float | None]
Draw = Callable[["Axes"], None]
SHARES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)
BINS = 150
"""Of a timeline: each keeps its least, middle and greatest value."""


def _array(values: Values) -> NDArray[np.float64]:
    return np.array([np.inf if each is None else each for each in values], np.float64)


def _stretched(share: Any) -> Any:
    """A percentile's place: the step from 90 to 99 % is as long as that from 99 to 99.9 %."""
    return -np.log10(np.maximum(1.0 - np.asarray(share), 1e-9))


def distribution(series: Mapping[str, Values], unit: str, strong: str = "") -> Draw:
    """For each of ``series`` the share of values that do not exceed x, the tail stretched.

    Values that never came are counted and lie beyond the right end.
    """

    def draw(axes: Axes) -> None:
        most = max(map(len, series.values()))
        for number, (name, values) in enumerate(series.items()):
            x = np.sort(_array(values))
            share = (np.arange(1, len(x) + 1) - 0.5) / len(x)
            came = np.isfinite(x) & (x > 0)
            kept = _thinned(came)
            axes.plot(x[kept], _stretched(share[kept]), color=SERIES[number % 8], label=name,
                      lw=2.4 if name == strong else 1.3)
        ticks = [each for each in SHARES if each == 0 or (1 - each) * most >= 0.5]
        axes.set_yticks(_stretched(ticks), [f"{100 * each:g} %" for each in ticks])
        axes.set(xscale="log", xlabel=unit, ylim=(0, None))
        _plain_log(axes)

    return draw


def _thinned(came: NDArray[np.bool_], most: int = 600) -> NDArray[np.intp]:
    """Places of at most about ``most`` values, all of the last tenth of a hundred among them."""
    places = np.flatnonzero(came)
    if len(places) <= most:
        return places
    tail = places[-most // 3:]
    return np.unique(np.concatenate([places[:: max(1, len(places) * 3 // (2 * most))], tail]))


def _plain_log(axes: Axes, which: str = "x") -> None:
    """Numbers such as 500 and 2000 on a logarithmic axis, rather than powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if _decades(axis) < 2.0 else (1.0, 3.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _decades(axis: Any) -> float:
    low, high = axis.get_view_interval()
    return float(np.log10(high / low)) if low > 0 else 0.0


def timeline(values: Values, unit: str, per_s: float, rounds: int = 1) -> Draw:
    """Values over the run: least to greatest of each stretch as a band, its middle as a line, a stroke where
    another of the ``rounds`` begins.
    """

    def draw(axes: Axes) -> None:
        x = _array(values)
        bins = np.array_split(np.where(np.isfinite(x), x, np.nan), min(BINS, len(x)))
        bins = [part[np.isfinite(part)] for part in bins]
        width_s = len(x) / per_s / len(bins)
        shown = [(width_s * (place + 0.5), part) for place, part in enumerate(bins) if len(part)]
        at = [t for t, _ in shown]
        axes.fill_between(at, [p.min() for _, p in shown], [p.max() for _, p in shown], color=SERIES[0],
                          alpha=0.3, lw=0, label="least to greatest")
        axes.plot(at, [float(np.median(p)) for _, p in shown], color=SERIES[0], lw=1.2, label="median")
        for begin in range(1, rounds):
            axes.axvline(begin * len(x) / rounds / per_s, color=DIM, lw=0.6)
        axes.set(xlabel="s of streaming" if rounds > 1 else "s since the first", ylabel=unit, ylim=(0, None),
                 xlim=(0, len(x) / per_s))

    return draw


def bars(items: Sequence[tuple[str, float, str]], label: str, log: bool = False,
         marks: Sequence[float | None] = ()) -> Draw:
    """A bar for each (name, value, text), the name above it and the text at its end.

    ``marks`` are drawn as strokes across, such as a p99 over a bar of the p50.
    """

    def draw(axes: Axes) -> None:
        values = [value for _, value, _ in items]
        most = max([*values, *(mark for mark in marks if mark is not None)])
        least = min((value for value in values if value > 0), default=1.0) * 0.5 if log else 0.0
        axes.set(xlabel=label, ylim=(len(items) - 0.35, -0.85), yticks=[])
        if log:
            axes.set_xscale("log")
        axes.set_xlim(least, most * 1.05 if most > least else least + 1)
        for place, (name, value, text) in enumerate(items):
            axes.barh(place, value - least, left=least, height=0.34, color=SERIES[0 if log else place % 8])
            _above(axes, place, short(name, ACROSS - len(text)), 6.5)
            _above(axes, place, text, 6.5, right=True)
            if place < len(marks) and marks[place] is not None:
                axes.vlines(marks[place] or 0.0, place - 0.17, place + 0.17, color=INK, lw=1.6)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
        if log:
            _plain_log(axes)

    return draw


def _above(axes: Axes, place: int, text: str, points: float, right: bool = False) -> None:
    """``text`` over the line ``place``, at the left of the axes in ink or at the right, dim."""
    note = axes.annotate(text, (float(right), place), (0, points), xycoords=("axes fraction", "data"),
                         textcoords="offset points", va="bottom", ha="right" if right else "left",
                         color=DIM if right else INK)
    note.set_in_layout(False)


def bars_height_in(count: int) -> float:
    """How high a plot of that many bars is."""
    return 0.55 + 0.4 * count


def curves(series: Mapping[str, tuple[Sequence[float], Values]], x_label: str, y_label: str,
           logs: str = "", marked: bool = False, percent: bool = False, guide: str = "") -> Draw:
    """A line for each of ``series``, (x, y) with gaps where y is None; ``logs`` names logarithmic axes.

    The one called ``guide`` is no measurement, and dashed.
    """

    def draw(axes: Axes) -> None:
        for number, (name, (x, y)) in enumerate(series.items()):
            heights = np.array([np.nan if each is None else each for each in y], np.float64)
            look = {"color": DIM, "ls": "--"} if name == guide else {
                "color": SERIES[number % 8], "marker": MARKS[number % 8] if marked else "", "ms": 4.5}
            axes.plot(x, heights, label=name, clip_on=not marked, **look)
        axes.set(xlabel=x_label, ylabel=y_label)
        for which in logs:
            (axes.set_xscale if which == "x" else axes.set_yscale)("log")
            _plain_log(axes, which)
        if percent:
            axes.set_ylim(0, 100)

    return draw


def points(groups: Mapping[str, Sequence[float]], label: str, around: float = 0.0) -> Draw:
    """Every value of each group as a point on a line of its own, its middle as a stroke.

    From nought, or where that is not 0 ``around`` a value and as far as any is from it.
    """

    def draw(axes: Axes) -> None:
        for place, (name, values) in enumerate(groups.items()):
            colour = SERIES[place % 8]
            axes.plot(values, [place] * len(values), "o", color=colour, ms=5, alpha=0.6, mew=0, clip_on=False)
            axes.plot([float(np.median(values))] * 2, [place - 0.22, place + 0.22], color=INK, lw=1.6)
            _above(axes, place, short(name, ACROSS), 8.0)
        apart = max(abs(value - around) for values in groups.values() for value in values)
        ends = (around - 1.1 * apart - 1.0, around + 1.1 * apart + 1.0) if around else (0.0, None)
        axes.set(xlabel=label, ylim=(len(groups) - 0.5, -0.85), yticks=[], xlim=ends)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")

    return draw
