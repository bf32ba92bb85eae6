"""Plots as SVG to lie within a page: its colours are the page's, light or dark, its text is text.

matplotlib is imported only when a plot is drawn. Colours are drawn as stand-ins, each of which becomes a
variable of the page's style sheet.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from usedge.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, DIM, GRID = "#010101", "#020202", "#030303"
SERIES = tuple(f"#0{n}0a0{n}" for n in range(1, 9))
VARIABLES = {INK: "--ink", DIM: "--dim", GRID: "--grid",
             **{colour: f"--s{number}" for number, colour in enumerate(SERIES)}}
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
WIDTH_IN = 4.4
"""317 of the SVG's own units: on a phone, where it takes the whole width, a unit is about a pixel."""
ACROSS, LINE_IN = 64, 0.19
"""Characters that go across a plot, and the height of a line of text."""
STYLE = {
    "font.size": 9.0, "font.family": "sans-serif", "svg.fonttype": "none", "text.parse_math": False,
    "text.color": INK, "axes.labelcolor": DIM, "axes.edgecolor": GRID, "xtick.color": DIM,
    "ytick.color": DIM, "grid.color": GRID, "axes.grid": True, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "legend.fontsize": 9.0,
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "lines.linewidth": 1.5,
}


def need_matplotlib() -> None:
    """Raise MissingExtraError where matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingExtraError("matplotlib", "bench") from None


def drawn(draw: Callable[[Axes], None], height_in: float, name: str) -> str:
    """The SVG element of what ``draw`` puts on axes; ``name`` keeps its parts apart from other plots'."""
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with style.context(["default", {**STYLE, "svg.hashsalt": name}]):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        draw(axes)
        _legend(figure, axes)
        raw = io.StringIO()
        figure.savefig(raw, format="svg", metadata={"Date": None})
    return _inlined(raw.getvalue(), name)


def short(name: str, most: int) -> str:
    """``name`` for a plot, at most so many characters: a report's own may be of any length."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _legend(figure: Figure, axes: Axes) -> None:
    """A legend under the axes, for which the figure becomes higher."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        shown = [short(label, ACROSS - 10) for label in labels]
        longest = max(map(len, shown))
        columns = 4 if longest < 10 else 3 if longest < 18 else 1
        figure.set_figheight(figure.get_figheight() + LINE_IN * -(-len(shown) // columns))
        figure.legend(handles, shown, loc="outside lower center", ncols=columns, handlelength=1.4,
                      columnspacing=1.2, handletextpad=0.5)


def _inlined(svg: str, name: str) -> str:
    """The element alone, with the page's colours and fonts, and ids that no other plot of the page has."""
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", r'<svg \1 aria-hidden="true">', svg, count=1)
    svg = re.sub(r' id="([^"]*)"', rf' id="{name}-\1"', svg)
    svg = re.sub(r'xlink:href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r"\s*\n\s*", "\n", svg).strip()
