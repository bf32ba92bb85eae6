"""The plots of the studies: error bars are standard deviations over seeds, hollow marks have one seed."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from usedge.errors import MissingExtraError
from usedge.training.grid import LABELS, Trial
from usedge.training.report.select import Cell, Spread, Study
from usedge.training.report.words import METHODS, SCORES, field_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, told apart by colour-blind readers; marks and dashes differ as well."""
MARKS, DASHES = ("o", "s", "^", "D", "v", "P"), ("-", "--", "-.", ":", "-", "--")
WIDTH_IN, DPI = 8.2, 100
"""820 dots: the width of a README page, so nothing is scaled there."""
STYLE = {"font.size": 10.0, "axes.titlesize": 10.5, "axes.grid": True, "grid.alpha": 0.3,
         "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False,
         "legend.fontsize": 9.0, "axes.axisbelow": True}


def need_matplotlib() -> None:
    """Raise MissingExtraError where matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingExtraError("matplotlib", "train") from None


def styled() -> AbstractContextManager[None]:
    """Our style over matplotlib's own, whatever the user's matplotlibrc says."""
    from matplotlib import style

    context: AbstractContextManager[None] = style.context(["default", STYLE])
    return context


def canvas(height_in: float, **grid: Any) -> tuple[Figure, Any]:
    """A figure of our width and its axes, without any window behind it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(**grid)


def png(figure: Figure, colours: int = 64) -> bytes:
    """The figure as a PNG of few colours; the same figure gives the same bytes."""
    from PIL import Image

    raw, small = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="png", dpi=DPI, metadata={"Software": None})
    image = Image.open(raw).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    image.save(small, format="png", optimize=True)
    return small.getvalue()


def errors(axes: Axes, x: Sequence[float], spreads: Sequence[Spread | None], number: int, label: str) -> None:
    """One line of means with their deviations; what was not run is left out."""
    shown = [(place, spread) for place, spread in zip(x, spreads, strict=True) if spread is not None]
    if not shown:
        return
    colour, mark = COLOURS[number % 6], MARKS[number % 6]
    axes.plot([place for place, _ in shown], [spread.mean for _, spread in shown], DASHES[number % 6],
              color=colour, lw=1.5, label=label, marker=mark, ms=5, mec=colour)
    for place, spread in shown:
        _deviation(axes, place, spread, colour, mark)


def _deviation(axes: Axes, place: float, spread: Spread, colour: str, mark: str) -> None:
    if spread.deviation is None:
        axes.plot([place], [spread.mean], mark, color="white", mec=colour, ms=5, zorder=3)
    else:
        axes.errorbar([place], [spread.mean], [spread.deviation], color=colour, fmt="none", capsize=4, lw=1.2)


def figures(studies: dict[str, Study]) -> dict[str, bytes]:
    """File name → PNG, of every study that has a plot and rows."""
    found: dict[str, bytes] = {}
    with styled():
        for name, draw in DRAWN.items():
            study = studies[name]
            if any(cell.runs for cell in study.own):
                found |= {file: png(figure) for file, figure in draw(study).items()}
    return found


def _tradeoff(field: str, label: str, log: bool) -> Callable[[Study], dict[str, Figure]]:
    """Three panels over a number: error and share explained of the reconstruction, then downstream."""

    def draw(study: Study) -> dict[str, Figure]:
        cells = sorted(study.own, key=lambda cell: getattr(cell.trial, field))
        x = [float(getattr(cell.trial, field)) for cell in cells]
        figure, panels = canvas(3.5, nrows=1, ncols=3)
        _panel(panels[0], cells, x, ("mean_abs",), "full scale 1")
        _panel(panels[1], cells, x, ("explained", "echo_explained"), "share of the energy")
        _panel(panels[2], cells, x, ("top1", "within_patch", "hit_one_period"), "share of test A-scans")
        for axes, title in zip(panels, ("reconstruction: mean abs. error", "reconstruction: explained",
                                        "downstream: time of flight"), strict=True):
            axes.set(title=title, xlabel=label)
            _numbered(axes, x, [field_text(cell.trial, field).removesuffix(" %") for cell in cells], log)
        return {f"{study.name}.png": figure}

    return draw


def _panel(axes: Axes, cells: Sequence[Cell], x: Sequence[float], scores: Sequence[str], label: str) -> None:
    for number, score in enumerate(scores):
        errors(axes, x, [cell.spread(score) for cell in cells], number, SCORES[score][0])
    axes.set_ylabel(label)
    if len(scores) > 1:
        legend_below(axes)


def legend_below(axes: Axes, columns: int = 1) -> None:
    """A legend under the axes and their label, where it covers nothing; none without lines."""
    from matplotlib.transforms import ScaledTranslation

    figure = axes.get_figure(root=True)
    if figure is not None and axes.get_legend_handles_labels()[0]:
        below = axes.transAxes + ScaledTranslation(0.0, -0.48, figure.dpi_scale_trans)
        axes.legend(loc="upper left", bbox_to_anchor=(0.0, 0.0), bbox_transform=below, borderaxespad=0.0,
                    ncols=columns)


def _numbered(axes: Axes, x: Sequence[float], names: Sequence[str], log: bool) -> None:
    if log:
        axes.set_xscale("log", base=2)
    axes.set_xticks(x, names)
    axes.minorticks_off()


def _sigma(study: Study) -> dict[str, Figure]:
    cells = sorted(study.own, key=lambda cell: float(cell.trial.blur.partition(":")[2]))
    x = [float(cell.trial.blur.partition(":")[2]) for cell in cells]
    figure, axes = canvas(3.0, nrows=1, ncols=1)
    _panel(axes, cells, x, ("top1", "within_patch", "hit_one_period"), "share of test A-scans")
    for cell in study.cells:
        if cell.reference:
            _band(axes, cell.spread("top1"), "exact class, no blur (MAE)")
    axes.set(title="width of the Gaussian blur in pretraining", xlabel="σ (grid samples)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    _numbered(axes, x, [f"{value:g}" for value in x], log=True)
    return {"sigma.png": figure}


def _label_curves(study: Study) -> dict[str, Figure]:
    found = {}
    for preset in dict.fromkeys(cell.trial.preset for cell in study.own):
        cells = [cell for cell in study.own if cell.trial.preset == preset]
        figure, panels = canvas(3.4, nrows=1, ncols=2)
        for axes, score in zip(panels, ("top1", "hit_one_period"), strict=True):
            _method_lines(axes, cells, score)
        panels[0].legend(loc="lower right")
        figure.suptitle(f"Time of flight by labels, preset {preset}", fontsize=11)
        found[f"labels-{preset}.png"] = figure
    return found


def _lengths(study: Study) -> dict[str, Figure]:
    """One panel a preset: downstream over the A-scans of pretraining, from scratch as a band beside."""
    presets = list(dict.fromkeys(cell.trial.preset for cell in study.own))
    figure, panels = canvas(3.5, nrows=1, ncols=len(presets), squeeze=False)
    for axes, preset in zip(panels[0], presets, strict=True):
        mine = [cell for cell in study.own if cell.trial.preset == preset]
        cells = sorted((cell for cell in mine if cell.trial.pretrained), key=lambda cell: cell.trial.length)
        x = [cell.trial.length for cell in cells]
        _panel(axes, cells, x, ("top1", "within_patch", "hit_one_period"), "share of test A-scans")
        for cell in mine:
            if not cell.trial.pretrained:
                _band(axes, cell.spread("top1"), "exact class, from scratch")
        seen = [cell.spread("pretrain_ascans") for cell in cells]
        axes.set(title=f"preset {preset}", xlabel="A-scans of pretraining (thousands)")
        _numbered(axes, x, [f"{each.mean / 1000:,.0f}" if each else "–" for each in seen], log=True)
        legend_below(axes)
    return {"length.png": figure}


def _band(axes: Axes, spread: Spread | None, label: str) -> None:
    """A mean and its deviation all across: what the lines are to be compared with."""
    if spread is None:
        return
    around = spread.deviation or 0.0
    axes.axhline(spread.mean, color="black", lw=1, ls=":", label=label)
    axes.axhspan(spread.mean - around, spread.mean + around, color="black", alpha=0.12, lw=0)


def _method_lines(axes: Axes, cells: Sequence[Cell], score: str) -> None:
    for number, method in enumerate(dict.fromkeys(cell.trial.method for cell in cells)):
        mine = sorted((cell for cell in cells if cell.trial.method == method), key=lambda c: c.trial.labels)
        label = "MAE, pretrained" if method == "mae" else METHODS[method]
        errors(axes, [100 * cell.trial.labels for cell in mine], [cell.spread(score) for cell in mine],
               number, label)
    axes.set(xlabel=f"labelled A-scans (% of {LABELS:,}; 0: untrained)", ylabel="share of test A-scans",
             title=SCORES[score][0])
    axes.set_xticks(sorted({100 * cell.trial.labels for cell in cells}))


def _dots(name: str, title: str, group: str | None, naming: Callable[[Trial], str]
          ) -> Callable[[Study], dict[str, Figure]]:
    """One line a trial, the score along it; trials that share a line differ in ``group``."""

    def draw(study: Study) -> dict[str, Figure]:
        names = list(dict.fromkeys(naming(cell.trial) for cell in study.cells))
        figure, panels = canvas((1.5 if group else 1.2) + 0.36 * len(names), nrows=1, ncols=2, sharey=True)
        groups = list(dict.fromkeys(getattr(c.trial, group) for c in study.cells)) if group else [None]
        for axes, score in zip(panels, ("top1", "hit_one_period"), strict=True):
            for number, value in enumerate(groups):
                chosen = [c for c in study.cells if group is None or getattr(c.trial, group) == value]
                shift = 0.26 * (number - (len(groups) - 1) / 2)
                label = field_text(chosen[0].trial, group) if group else ""
                for cell in chosen:
                    if spread := cell.spread(score):
                        _dot(axes, names.index(naming(cell.trial)) + shift, spread, number, label)
                        label = ""
            axes.set(title=SCORES[score][0], xlabel="share of test A-scans",
                     ylim=(len(names) - 0.5, -0.5))
        panels[0].set_yticks(range(len(names)), names)
        if group:
            legend_below(panels[0], columns=2)
        figure.suptitle(title, fontsize=11)
        return {name: figure}

    return draw


def _dot(axes: Axes, y: float, spread: Spread, number: int, label: str) -> None:
    colour, hollow = COLOURS[number], spread.deviation is None
    axes.errorbar([spread.mean], [y], xerr=None if hollow else [[spread.deviation or 0.0]] * 2, color=colour,
                  fmt=MARKS[number], ms=5, mfc="white" if hollow else colour, capsize=4,
                  label=label or None)


def _blur_name(trial: Trial) -> str:
    return "no blur (MAE)" if trial.blur == "none" else trial.blur


DRAWN: dict[str, Callable[[Study], dict[str, Figure]]] = {
    "labels": _label_curves,
    "variants": _dots("variants.png", "Pretraining variants", "probe", lambda trial: METHODS[trial.method]),
    "mask": _tradeoff("mask_ratio", "mask ratio (%)", log=False),
    "patch": _tradeoff("patch", "patch (grid samples)", log=True),
    "blur": _dots("blur.png", "Kinds of blur in pretraining", None, _blur_name),
    "sigma": _sigma,
    "length": _lengths,
}
"""Study → what draws it."""
