"""The page itself. Every text that comes from a report is escaped; the page loads and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from usedge.files import write_whole
from usedge_bench.page.canvas import drawn, need_matplotlib
from usedge_bench.page.plots import PLOTS
from usedge_bench.report import as_table

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
AMOUNT = r"[-+]?[\d.,]+( ?(%|×|µs|ms|s|MB|kB|Hz|A-scans/s))?"
NUMBER = re.compile(rf"{AMOUNT}( [–-] {AMOUNT})?|–|never|none|")
UNBROKEN, PARTS = 10, 12
"""Characters of a first cell that are not broken; parts of a run that are shown without being asked for."""
STRONG = re.compile(r"\*\*([^*]+)\*\*")
CODE = re.compile(r"`([^`]*)`")


def write_page(path: Path, report: dict[str, Any]) -> None:
    """Write ``report`` as one HTML file, whole or not at all.

    Raises MissingExtraError without matplotlib, InputError where the file cannot be written.
    """
    need_matplotlib()
    write_whole(path, page(report).encode())


def page(report: dict[str, Any]) -> str:
    """The HTML of ``report``, a report as its suite makes it or as ``read_report`` gives it."""
    title = f"usedge bench {report['suite']}"
    style = (files("usedge_bench.page") / "style.css").read_text()
    body = "\n".join([*_head(report, title), *_plots(report), *_tables(shown(report)), *_board(report),
                      *_settings(report), *_conditions(report), _foot(report)])
    return (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<title>{escape(title)}</title>\n<meta name="viewport" content="width=device-width,'
            f' initial-scale=1">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<style>\n{style}</style>\n'
            f"</head>\n<body>\n{body}\n</body>\n</html>\n")


def shown(report: dict[str, Any]) -> str:
    """A report of any suite as Markdown tables."""
    if report["suite"] == "sinks":  # a command of its own, with its own table
        from usedge_bench.sinks import as_table as sinks_table

        return sinks_table(report)
    return as_table(report)


def _head(report: dict[str, Any], title: str) -> Iterator[str]:
    stable = report.get("stable")
    chips = [] if stable is None else [("good", "stable") if stable else ("bad", "unstable")]
    if report.get("failed") or report.get("below_floor"):
        chips.append(("bad", "failed"))
    shown = "".join(f'<span class="chip {look}">{said}</span>' for look, said in chips)
    yield f"<header><h1>{escape(title)}</h1>{shown}</header>"
    why = [*report.get("unstable_because", []), *report.get("failed", []),
           *(f"below its floor: {name}" for name in report.get("below_floor", []))]
    if why:
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in why)
        yield f'<div class="warn"><strong>Read with care</strong><ul>{reasons}</ul></div>'
    yield _listed(_facts(report))


def _listed(facts: Iterable[tuple[str, str]]) -> str:
    shown = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{shown}</dl>'


def _facts(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    host = report["host"]
    yield "host", f"{host['cpu']}, {host['cores']} cores, {host['machine']}"
    yield "system", str(host["system"])
    yield "Python, numpy", f"{host['python']}, {host['numpy']}"
    if host["governor"]:
        yield "governor", str(host["governor"])
    bundle = report.get("bundle")
    if bundle:
        yield "bundle", f"{bundle['name']} {bundle['sha256'][:8]}" + (
            f", {bundle['variant']}" if bundle.get("variant") else "")
    yield "usedge", str(report.get("version", "unknown"))
    if report.get("seconds") is not None:
        yield "took", f"{report['seconds']:,.0f} s"


def _plots(report: dict[str, Any]) -> Iterator[str]:
    plots = list(PLOTS[report["suite"]](report)) if report["suite"] in PLOTS else []
    if not plots:
        return
    two = " two" if len(plots) in (2, 4) else ""
    yield f'<h2>Plots</h2>\n<div class="plots{two}">'
    for number, plot in enumerate(plots):
        svg = drawn(plot.draw, plot.height_in, f"p{number}")
        title, about = escape(plot.title), escape(plot.about)
        yield (f"<figure><figcaption><h3>{title}</h3><p>{about}</p></figcaption>\n"
               f'<div role="img" aria-label="{title}">{svg}</div>\n</figure>')
    yield "</div>"


def _tables(markdown: str) -> Iterator[str]:
    """Every pipe table of ``markdown`` as HTML; what else it holds, as paragraphs."""
    yield '<h2>Figures</h2>\n<div class="tables">'
    for block in re.split(r"\n\s*\n", markdown.strip()):
        lines = block.splitlines()
        if len(lines) > 1 and lines[0].startswith("|"):
            rows = [_split(line) for line in lines if line.startswith("|")]
            yield table(rows[0], rows[2:])
        else:
            yield f"<p>{_inline(block)}</p>"
    yield "</div>"


def _split(line: str) -> list[str]:
    """The cells of a line of a pipe table; a pipe behind a backslash is text."""
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table; a column of numbers alone stands to the right."""
    columns = list(zip(*rows, strict=False)) if rows else []
    right = [place > 0 and any(column) and all(NUMBER.fullmatch(cell) for cell in column)
             for place, column in enumerate(columns)]
    right += [False] * (len(head) - len(right))

    looks = [' class="number"' if each else "" for each in right]
    if rows and all(len(row[0]) <= UNBROKEN for row in rows):
        looks[0] = ' class="whole"'

    def row(cells: Sequence[str], tag: str) -> str:
        shown = "".join(f"<{tag}{look}>{_inline(cell)}</{tag}>"
                        for cell, look in zip(cells, looks, strict=False))
        return f"<tr>{shown}</tr>"

    body = "\n".join(row(cells, "td") for cells in rows)
    return (f'<div class="table"><table>\n<thead>{row(head, "th")}</thead>\n<tbody>{body}</tbody>'
            "</table></div>")


def _inline(text: str) -> str:
    return STRONG.sub(r"<strong>\1</strong>", CODE.sub(r"<code>\1</code>", escape(text)))


def _board(report: dict[str, Any]) -> Iterator[str]:
    board = report.get("board")
    if board:
        rows = [[line["name"], f"{line['measured']:.4g}", f"{line['limit']:g}",
                 "over" if line["over"] else "within"] for line in board["lines"]]
        head = (f"budget of {board['board']}", "measured", "limit", "verdict")
        judged = f'<div class="tables">{table(head, rows)}</div>' if rows else (
            f"<p>This does not count for {escape(board['board'])}, and nothing was judged.</p>")
        yield f"<h2>Budget</h2>\n<p>{escape(board['why'])}</p>\n{judged}"


def _settings(report: dict[str, Any]) -> Iterator[str]:
    rows = [(name, ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))
            for name, value in report["settings"].items()]
    if rows:
        yield f"<h2>Settings</h2>\n{_listed(rows)}"


def _conditions(report: dict[str, Any]) -> Iterator[str]:
    parts = report.get("conditions", {}).get("parts", [])
    if parts:
        head = ("part", "s", "own cores", "others' cores", "stolen cores", "hottest, °C", "clock, MHz")
        keys = ("part", "seconds", "own_cores", "others_cores", "steal_cores", "hottest_c", "clock_mhz")
        rows = [["–" if part[key] is None else str(part[key]) for key in keys] for part in parts]
        shown = f'<div class="tables">{table(head, rows)}</div>'
        if len(parts) > PARTS:
            shown = f"<details><summary>{_worst(parts)}</summary>\n{shown}</details>"
        yield f"<h2>What else the machine did</h2>\n{shown}"


def _worst(parts: list[dict[str, Any]]) -> str:
    """The most of what disturbs, over all parts."""
    told = []
    for key, what in (("others_cores", "cores by others"), ("steal_cores", "cores stolen")):
        values = [part[key] for part in parts if part[key] is not None]
        told += [f"at most {max(values):.2f} {what}"] if values else []
    return f"{len(parts)} parts: {', '.join(told)}" if told else f"{len(parts)} parts"


def _foot(report: dict[str, Any]) -> str:
    return (f"<footer>Written by usedge from a report of format version {report['format_version']}. Figures"
            " of other machines are held against these by <code>usedge bench compare</code>.</footer>")
