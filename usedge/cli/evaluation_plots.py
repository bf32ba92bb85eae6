"""The plots of `usedge evaluate --plots`: matplotlib is imported only when they are asked for."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usedge.errors import InputError, MissingExtraError
from usedge.files import write_whole
from usedge.metrics import Outcomes
from usedge.runtime.scorecard import report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from usedge.runtime.evaluate import FileResult

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, told apart by colour-blind readers; marks and dashes differ as well."""
MARKS, DASHES = ("o", "s", "^", "D", "v", "P", "X"), ("-", "--", "-.", ":", "-", "--", "-.")
GREY = "0.35"
WIDTH_IN, DPI = 8.2, 100
STYLE = {"font.size": 10.0, "axes.titlesize": 10.5, "axes.grid": True, "grid.alpha": 0.3,
         "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
         "legend.fontsize": 9.0, "axes.axisbelow": True}
MOST_FILES = 40
"""With more files than these, hits are drawn for each source."""
ERROR_SPAN = 3.0
"""Periods to either side in the histogram of errors."""


def check_plots_folder(out: Path) -> None:
    """Make the folder ``out``; raises InputError where that fails, MissingExtraError without matplotlib."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingExtraError("matplotlib", "train") from None
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} is no folder that can be written ({error.strerror}).",
                         "Give another --plots.") from None


def save_plots(out: Path, results: Sequence[FileResult]) -> list[Path]:
    """Draw hits.png, bands.png, snr.png, reliability.png and errors.png into ``out``; those drawn."""
    from matplotlib import style

    written = []
    with style.context(["default", STYLE]):
        for name, figure in _figures(results):
            raw = io.BytesIO()
            figure.savefig(raw, format="png", dpi=DPI, metadata={"Software": None})
            write_whole(out / name, raw.getvalue())
            written.append(out / name)
    return written


def _figures(results: Sequence[FileResult]) -> Iterator[tuple[str, Figure]]:
    scores = report(results)
    groups = scores["groups"]
    rows = [{"name": Path(file["file"]).stem, **file} for file in scores["files"]]
    yield "hits.png", _hits(rows if len(rows) <= MOST_FILES else groups["source"])
    yield "bands.png", _by_group(groups["samples_a_cycle"], "samples a cycle on the model's grid")
    yield "snr.png", _by_group(groups["snr_db"], "SNR of the gate (dB)")
    yield "reliability.png", _panels(scores["all"]["methods"], _reliability)
    joined = {name: Outcomes.join([result.outcomes[name] for result in results])
              for name in scores["all"]["methods"]}
    yield "errors.png", _panels(joined, _errors)


def _canvas(height_in: float, **grid: Any) -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI)
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", wspace=0.07, hspace=0.07)
    return figure, figure.subplots(**grid)


def _hits(rows: list[dict[str, Any]]) -> Figure:
    """One line a file, a mark a method: hits within half a period, and false alarms beside."""
    methods = list(rows[0]["methods"])
    height = max(0.3, 0.09 * len(methods))
    figure, panels = _canvas(1.3 + height * len(rows), ncols=2, sharey=True)
    for axes, key, title in ((panels[0], "hit_half_period", "within half a period, % of echo gates"),
                             (panels[1], "false_alarm_rate", "false alarms, % of empty gates")):
        for number, method in enumerate(methods):
            shift = 0.7 * ((number + 0.5) / len(methods) - 0.5)
            shown = [(100 * row["methods"][method][key], place + shift) for place, row in enumerate(rows)
                     if row["methods"][method][key] is not None]
            axes.plot([x for x, _ in shown], [y for _, y in shown], MARKS[number % 7], ms=5,
                      color=COLOURS[number % 7], label=method, clip_on=False)
        axes.set(title=title, xlim=(0, 100), ylim=(len(rows) - 0.5, -0.5))
        axes.grid(visible=False, axis="y")
        for place in range(0, len(rows), 2):
            axes.axhspan(place - 0.5, place + 0.5, color="black", alpha=0.04, lw=0)
    panels[0].set_yticks(range(len(rows)), [row["name"] or "–" for row in rows])
    _legend(figure, panels[0])
    return figure


def _by_group(groups: list[dict[str, Any]], label: str) -> Figure:
    """Hits and false alarms of every method over bands or rungs, with the gates of each under it."""
    figure, panels = _canvas(3.7, ncols=2)
    for axes, key, title, count in (
            (panels[0], "hit_half_period", "within half a period, % of echo gates", "n_echo"),
            (panels[1], "false_alarm_rate", "false alarms, % of empty gates", "n_empty")):
        names = list(groups[0]["methods"])
        for number, method in enumerate(names):
            shift = 0.3 * ((number + 0.5) / len(names) - 0.5)
            shown = [(place + shift, 100 * group["methods"][method][key])
                     for place, group in enumerate(groups) if group["methods"][method][key] is not None]
            axes.plot([x for x, _ in shown], [y for _, y in shown], DASHES[number % 7], lw=1.3, ms=5,
                      marker=MARKS[number % 7], color=COLOURS[number % 7], label=method, clip_on=False)
        axes.set(title=title, xlabel=label, ylim=(0, 100), xlim=(-0.5, len(groups) - 0.5))
        axes.set_xticks(range(len(groups)), [f"{group['name']}\nn = {group[count]}" for group in groups],
                        fontsize=8)
    _legend(figure, panels[0])
    return figure


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), handletextpad=0.4,
                  columnspacing=1.6)


def _panels(methods: dict[str, Any], draw: Callable[[Axes, Any, str], str]) -> Figure:
    """A panel for each method, three in a line, all of one scale; ``draw`` gives the panel's title."""
    lines = -(-len(methods) // 3)
    figure, panels = _canvas(3.1 * lines, nrows=lines, ncols=3, sharex=True, sharey=True, squeeze=False)
    for number, (axes, (name, figures)) in enumerate(zip(panels.flat, methods.items(), strict=False)):
        axes.set_title(f"{name}\n{draw(axes, figures, COLOURS[number % 7])}")
        axes.tick_params(labelbottom=True)
    for axes in list(panels.flat)[len(methods):]:
        axes.set_visible(False)
    return figure


def _reliability(axes: Axes, figures: dict[str, Any], colour: str) -> str:
    """Share of hits over confidence; the area of a mark is the share of the answers in its bin."""
    rows = [row for row in figures["reliability"] if row["n"]]
    total = sum(row["n"] for row in rows)
    x = [100 * row["confidence"] for row in rows]
    y = [100 * row["hit_half_period"] for row in rows]
    axes.plot([0, 100], [0, 100], ":", color=GREY, lw=1)
    axes.vlines(x, x, y, color=colour, alpha=0.35, lw=3)
    axes.scatter(x, y, [12 + 200 * row["n"] / total for row in rows], color=colour, edgecolors="white",
                 clip_on=False, zorder=3)
    axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="confidence, %", aspect="equal",
             ylabel="within half a period, %")
    return "no answers" if figures["ece"] is None else f"ECE {100 * figures['ece']:.1f} %, n = {total}"


def _errors(axes: Axes, outcomes: Outcomes, colour: str) -> str:
    """Errors after the bias, in periods; what lies outside and what has no answer stand in the title."""
    n_echo = max(int(outcomes.echo.sum()), 1)
    off = outcomes.off_periods[np.isfinite(outcomes.off_periods)]
    axes.axvspan(-0.5, 0.5, color="black", alpha=0.07, lw=0)
    edges = np.linspace(-ERROR_SPAN, ERROR_SPAN, 61).tolist()
    axes.hist(off, edges, weights=np.full(len(off), 100 / n_echo), color=colour)
    axes.set(xlim=(-ERROR_SPAN, ERROR_SPAN), xlabel="error − bias, periods", yscale="symlog",
             ylabel="% of echo gates")
    axes.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    beyond = 100 * float((np.abs(off) > ERROR_SPAN).sum()) / n_echo
    return f"{beyond:.1f} % beyond, {100 * (1 - len(off) / n_echo):.1f} % none"
