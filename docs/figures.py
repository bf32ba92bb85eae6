"""Writes the tables of figures in the README and in docs/ from stored reports.

``python docs/figures.py`` rewrites them, ``--check`` exits 1 where a page differs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from usedge.boards import BoardProfile, every_board
from usedge.boards.instructions import longest_us, opinion
from usedge.boards.predict import core_of, floor_us
from usedge.boards.work import Sizes, count
from usedge.bundle import read_bundle
from usedge.resources import shipped_bundle
from usedge_bench.report import as_table
from usedge_bench.reports.guard import baselines
from usedge_bench.reports.hosts import hosts_table
from usedge_bench.reports.read import read_report
from usedge_bench.sinks import as_table as sinks_table

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"


def accuracy_table(report: dict[str, Any]) -> str:
    """Hit rates and false alarms of every method, one row a file, means at the end."""
    methods = list(report["files"][0]["methods"])
    lines = ["| file | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]
    for file in report["files"]:
        cells = [_cell(file["methods"][method]) for method in methods]
        lines.append(f"| {Path(file['file']).stem} | " + " | ".join(cells) + " |")
    for name, key in (("hit ½ T", "hit_half_period"), ("hit 1 T", "hit_one_period"),
                      ("raw hit ½ T", "raw_hit_half_period"), ("false alarms", "false_alarm_rate")):
        values = [[file["methods"][method][key] for file in report["files"]] for method in methods]
        means = [mean(value for value in column if value is not None) for column in values]
        lines.append(f"| **mean {name}** | " + " | ".join(f"**{value:.3f}**" for value in means) + " |")
    return "\n".join(lines)


def _cell(figures: dict[str, Any]) -> str:
    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    return f"{shown(figures['hit_half_period'])} / {shown(figures['false_alarm_rate'])}"


def instructions_table(report: dict[str, Any]) -> str:
    """Million instructions of a pass by core and tokens, vector operations among them."""
    rows = report["rows"]
    tokens = sorted({row["sizes"]["tokens"] for row in rows}, reverse=True)
    lines = ["| core, kernel | " + " | ".join(f"{each} tokens" for each in tokens) + " |",
             "|---" * (len(tokens) + 1) + "|"]
    cells = {(row["core"], row["kernel"], row["sizes"]["tokens"]): _millions(row["instructions"])
             for row in rows}
    for core, kernel in dict.fromkeys((row["core"], row["kernel"]) for row in rows):
        own = [cells.get((core, kernel, each), "–") for each in tokens]
        lines.append(f"| {core}, {kernel} | {' | '.join(own)} |")
    return "\n".join(lines)


def _millions(kinds: dict[str, int]) -> str:
    vector = f" ({kinds['vector'] / 1e6:.1f})" if "vector" in kinds else ""
    return f"{kinds['total'] / 1e6:.1f}{vector}"


def opinion_table(report: dict[str, Any]) -> str:
    """Floor and both ends of the second opinion by board and tokens, the longest decision, and the budget."""
    rows, bundle = report["rows"], read_bundle(shipped_bundle())
    glance = bundle.thresholds.glance
    few = glance.patches if glance else bundle.spec.n_patches
    tokens = sorted({row["sizes"]["tokens"] for row in rows}, reverse=True)
    lines = ["| board | " + " | ".join(f"{each} tokens" for each in tokens)
             + " | longest decision | budget, p99 |", "|---" * (len(tokens) + 3) + "|"]
    sizes = Sizes(**next(row["sizes"] for row in rows if row["sizes"]["tokens"] == bundle.spec.n_patches))
    lines += [_opinions(board, sizes, tokens, few, rows) for board in every_board() if core_of(board)]
    return "\n".join(lines)


def _opinions(board: BoardProfile, sizes: Sizes, tokens: list[int], few: int, rows: list[dict[str, Any]]
              ) -> str:
    core, cells = core_of(board), [board.id]
    assert core is not None
    assert board.budget is not None
    for each in (replace(sizes, tokens=number) for number in tokens):
        told = opinion(board, each, rows)
        floor = f"{floor_us(count(each), 'int8', core) / 1e3:.2g}"
        cells.append(f"{floor}; {_span(told.fast_us, told.slow_us)}" if told else floor)
    longest = longest_us(board, sizes, few, rows)
    return f"| {' | '.join([*cells, _span(*longest) if longest else '–', f'{board.budget.p99_ms:g}'])} |"


def _span(fast_us: float, slow_us: float) -> str:
    return " … ".join(f"{us / 1e3:.0f}" if us >= 1e5 else f"{us / 1e3:.2g}" for us in (fast_us, slow_us))


def with_figures(text: str) -> str:
    """``text`` with everything between the figure marks replaced by what the stored reports say."""
    for mark, (file, as_figures) in TABLES.items():
        begin, end, report = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->", RESULTS / file
        if begin in text:
            table = as_figures(_stored(report)) if report.exists() else NO_REPORT
            head, _, rest = text.partition(begin)
            text = f"{head}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    return text


def _stored(path: Path) -> Any:
    """The report in ``path``, checked where it is a suite's; those of the latency suite in a folder."""
    if path.is_dir():
        return [report for _, report in baselines(path)]
    report = json.loads(path.read_text())
    return read_report(path) if "suite" in report else report


TABLES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "latency": ("latency.json", as_table), "link": ("link.json", as_table),
    **{name: (f"{name}.json", as_table) for name in ("openloop", "throughput", "memory", "startup", "soak")},
    "training": ("training.json", as_table), "variants": ("variants.json", as_table),
    "sinks": ("sinks.json", sinks_table), "accuracy": ("evaluate.json", accuracy_table),
    "hosts": (".", hosts_table),
    "instructions": ("instructions.json", instructions_table),
    "opinion": ("instructions.json", opinion_table),
}
"""By the mark in a page: its stored report, and what writes that as a table."""
NO_REPORT = "*No report is stored yet.*"


def main() -> int:
    """Rewrite, or check, the pages that show measured figures."""
    differing = []
    for page in (README, *sorted((ROOT / "docs").glob("*.md")), RESULTS / "boards" / "README.md"):
        text = page.read_text()
        fresh = with_figures(text)
        if fresh != text:
            differing.append(page.name)
            if "--check" not in sys.argv:
                page.write_text(fresh)
    if differing:
        sys.stderr.write(f"figures differ from the stored reports in: {', '.join(differing)}\n")
    return int(bool(differing) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
