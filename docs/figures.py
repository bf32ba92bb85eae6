"""Writes the measured tables of the README and of docs/ from stored reports.

``python docs/figures.py`` rewrites them, ``--check`` exits 1 where the README differs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from usedge_bench.report import as_table
from usedge_bench.reports.guard import baselines
from usedge_bench.reports.hosts import hosts_table
from usedge_bench.reports.read import read_report

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


TABLES = {"latency": ("latency.json", as_table), "link": ("link.json", as_table),
          **{name: (f"{name}.json", as_table) for name in ("openloop", "throughput", "memory", "startup")},
          "training": ("training.json", as_table), "variants": ("variants.json", as_table),
          "accuracy": ("evaluate.json", accuracy_table),
          "hosts": (".", hosts_table)}
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
