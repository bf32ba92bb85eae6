"""Draws docs/curve.svg from benchmarks/results/variants.json: the decision's time against its hits.

``python docs/curve.py`` after ``usedge bench variants --data FILE… --json benchmarks/results/variants.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "usedge"
from matplotlib import pyplot as plt  # noqa: E402

ROOT = Path(__file__).parents[1]
SHOWN = {"native-int8": "o", "litert-int8": "s", "onnxruntime-int8": "^"}
SPAN = 0.1
"""Of either panel, so that both show a point of hits alike."""
PANELS = (("recorded", "recorded A-scans"), ("field", "synthetic A-scans"))


def draw(report: dict[str, Any]) -> None:
    """Write the picture."""
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.6), layout="constrained")
    for panel, (key, title) in zip(axes, PANELS, strict=True):
        for variant, marker in SHOWN.items():
            rows = [row for row in report["rows"] if row["name"].partition(",")[0] == variant]
            fixed = sorted((row for row in rows if not row["sure"]), key=lambda row: row["patches"])
            hits = [row[key]["hit_half_period"] for row in fixed]
            line = panel.plot([row["p50_us"] for row in fixed], hits, marker=marker, lw=1.0,
                              label=f"{variant}: {', '.join(_of(fixed))} patches")
            for row in (row for row in rows if row["sure"]):
                panel.plot(row["p50_us"], row[key]["hit_half_period"], marker=marker, ms=11, ls="none",
                           mfc="none", color=line[0].get_color())
        panel.plot([], [], marker="o", ms=11, ls="none", mfc="none", color="0.4",
                   label="few first, all where not sure")
        panel.set(title=title, xlabel="p50 of the whole decision (µs)", xlim=(0, None))
        low, high = panel.get_ylim()
        panel.set_ylim((low + high) / 2 - SPAN / 2, (low + high) / 2 + SPAN / 2)
        panel.grid(lw=0.3)
    axes[0].set_ylabel("hits within half a period")
    axes[0].legend(fontsize=8, loc="lower left")
    figure.savefig(ROOT / "docs" / "curve.svg", metadata={"Date": None})


def _of(rows: list[dict[str, Any]]) -> list[str]:
    return [str(row["patches"]) for row in rows]


if __name__ == "__main__":
    draw(json.loads((ROOT / "benchmarks" / "results" / "variants.json").read_text()))
