"""How trials and numbers are written in the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any

from usedge.tof import CLASSICAL
from usedge.training.grid import Trial
from usedge.training.report.select import Spread

METHODS = {"mae": "MAE", "deblur": "deblurring MAE", "denoise": "denoising MAE", "scratch": "from scratch",
           "cnn": "CNN from scratch", **{name: f"{name} picker" for name in CLASSICAL}}
NAMES = {"pretrain_preset": "pretrained on", "mask_ratio": "mask ratio", "preset": "trained and tested on",
         "probe": "encoder", "base_rate": "base rate", "layer_decay": "layer decay",
         "loss": "loss over patches", "length": "length of pretraining"}
FIELDS = {each.name: NAMES.get(each.name, each.name) for each in fields(Trial) if each.name != "seed"}
"""Field of a trial → its heading: all of them, so that none that is new stays untold."""
USUAL = "the method's"
PRETRAINING = ("pretrain_preset", "mask_ratio", "target", "loss", "length")
"""Fields that say nothing of a trial without pretraining."""
SCORES = {
    "top1": ("exact class", 3), "within_patch": ("within one patch", 3),
    "hit_half_period": ("within ½ period", 3), "hit_one_period": ("within 1 period", 3),
    "median_error_samples": ("median error (grid samples)", 2),
    "accuracy": ("accuracy", 3), "f1_mean": ("mean F1", 3),
    "mean_abs": ("mean abs. error", 4), "mean_abs_nothing": ("of predicting zeros", 4),
    "explained": ("explained", 3), "echo_explained": ("explained, in echoes", 3),
    "parameters": ("parameters", 0),
}
"""Score → its heading and decimals."""


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _rate(value: float) -> str:
    return f"{value:g}" if value else USUAL


WRITTEN: dict[str, Callable[[Any], str]] = {
    "method": METHODS.__getitem__, "labels": _percent, "mask_ratio": _percent,
    "probe": lambda probe: "frozen" if probe else "fine-tuned", "base_rate": _rate, "layer_decay": _rate,
    "length": lambda length: f"× {length:g}"}


def varying(trials: Sequence[Trial]) -> list[str]:
    """The fields in which ``trials`` differ, seeds apart."""
    return [name for name in FIELDS if len({getattr(trial, name) for trial in trials}) > 1]


def field_text(trial: Trial, name: str) -> str:
    """A field of a trial as a reader would say it."""
    value: Any = getattr(trial, name)
    if name in PRETRAINING and not trial.pretrained:
        return "–"
    return WRITTEN[name](value) if name in WRITTEN else str(value)


def trial_text(trial: Trial, names: Sequence[str]) -> str:
    """A trial told from the others by its fields ``names``."""
    return ", ".join(f"{FIELDS[name]} {field_text(trial, name)}" if name not in ("method", "probe")
                     else field_text(trial, name) for name in names) or METHODS[trial.method]


def alike(trials: Sequence[Trial]) -> str:
    """What all ``trials`` have in common, but for rates that are the recipe's."""
    pretrained = [trial for trial in trials if trial.pretrained]
    apart = varying(trials)
    common = []
    for name, title in FIELDS.items():
        if name in apart:
            continue
        trial = (pretrained or list(trials))[0]
        if (text := field_text(trial, name)) not in ("–", USUAL):
            common.append(f"{title} {text}")
    return ", ".join(common)


def spread_text(spread: Spread | None, decimals: int) -> str:
    """Mean ± standard deviation, never the mean alone."""
    if spread is None:
        return "–"
    around = "no spread" if spread.deviation is None else f"± {spread.deviation:.{decimals}f}"
    return f"{spread.mean:.{decimals}f} {around}" if spread.deviation is not None else \
        f"{spread.mean:.{decimals}f} ({around})"


def count_text(n: int) -> str:
    """The number of seeds, flagged where it is one."""
    return "n = 1, no spread" if n == 1 else f"n = {n}"


def listed(items: Iterable[Any]) -> str:
    """Items with commas; a dash for none."""
    return ", ".join(str(item) for item in items) or "–"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column to the left."""
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)
