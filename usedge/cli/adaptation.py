"""Few-shot adaptation as ``usedge finetune`` runs it: the device's own passes judge, a table tells."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from usedge.errors import GateFailedError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from usedge.labelled import LabelledSet
    from usedge.models.checkpoint import Checkpoint
    from usedge.training.adapt import Adaptation, Find
    from usedge.training.loop import TrainSettings
    from usedge.training.tasks import Downstream

FIGURES = {"hit_half_period": "hit ½T", "hit_one_period": "hit 1T", "raw_hit_half_period": "raw ½T",
           "missed": "missed", "miss_rate": "missed", "false_alarms": "false", "false_alarm_rate": "false",
           "no_echo_errors": "errors"}
"""Headings by key; both parts of a report name their misses differently."""


CAPTION = "in %; hits with the median error removed; errors: missed or false, of all"

def finder(start: Checkpoint, no_echo: float, no_echo_again: float = 0.0) -> Find:
    """Answers files by both passes over the networks that it is given, of the spec of ``start``, at limits as
    in a bundle's ``Thresholds``.
    """

    from usedge.models.backend import TorchBackend
    from usedge.runtime.evaluate import LOW_CONFIDENCE, gates_of, place_all
    from usedge.runtime.passes import Passes

    def find(model: nn.Module, labelled: LabelledSet) -> NDArray[np.float64]:
        passes = Passes(start.spec, TorchBackend(model))
        return place_all(passes, gates_of(labelled), no_echo, LOW_CONFIDENCE, no_echo_again).tof_s

    return find


def with_f0(labelled: LabelledSet) -> LabelledSet:
    """``labelled`` with a centre frequency for each row, where it has none that of its median spectrum."""
    import numpy as np

    from usedge.runtime.evaluate import gates_of, median_f0

    if labelled.f0_hz is not None:
        return labelled
    f0_hz = median_f0(gates_of(labelled), labelled.has_echo)
    typer.echo(f"{labelled.path} has no f0_hz: taken as {f0_hz / 1e6:.3g} MHz, from its median spectrum.",
               err=True)
    return replace(labelled, f0_hz=np.full(len(labelled), f0_hz))


def adapted(settings: TrainSettings, what: Downstream, out: Path) -> Adaptation:
    """Adapt ``what.start`` to ``what.data``, both given, into ``out``, saying how it goes."""
    from usedge.bundle import read_bundle
    from usedge.models.checkpoint import load_checkpoint
    from usedge.training.adapt import Adapter, no_echo_limit
    from usedge.training.tasks import same_architecture

    assert what.start is not None
    assert what.data is not None
    start = load_checkpoint(what.start, "tof")
    same_architecture(what, start)
    limits = read_bundle(what.start).thresholds if what.start.is_file() else None
    find = (finder(start, limits.no_echo, limits.no_echo_again) if limits
            else finder(start, no_echo_limit(start)))
    return Adapter(settings, what.start, with_f0(what.data), out, find,
                   lambda text: typer.echo(text, err=True)).run()


def tell(done: Adaptation) -> None:
    """The table on a terminal, elsewhere the report as JSON; raises GateFailedError where it became worse."""
    if sys.stdout.isatty():
        show(done.report)
    else:
        typer.echo(json.dumps(done.report, allow_nan=False))
    for text in notes(done.report):
        typer.echo(text, err=True)
    if done.worse:
        raise GateFailedError(f"{'; '.join(done.worse)}. The checkpoint you had is kept; the new one is in"
                              f" {done.folder}.", "Check the labels, or lower --base-rate or --ascans.")


def notes(report: dict[str, Any]) -> list[str]:
    """What a reader of the figures must know."""
    own, told = report["left_out"], []
    if own["before"] is None:
        told.append("No A-scan could be left out: they are copies of one another. What was learnt of the"
                    " board is not known.")
    elif own["poor"]:
        told.append(f"Only {own['n_echo']} echoes could be left out: the figures on them are poor.")
    if own["before"] is not None and not own["n_empty"]:
        told.append("The file has no gates without an echo: false alarms on this board are not known.")
    if report["label_shift_ns"]:
        told.append(f"The labels are peaks: moved by {report['label_shift_ns']:+.0f} ns, to where the network"
                    " sees those echoes begin.")
    return told


def show(report: dict[str, Any]) -> None:
    """Before and after, in %: the board's left-out A-scans, and the synthetic ones."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=CAPTION)
    table.add_column("A-scans", no_wrap=True)
    table.add_column("", no_wrap=True)
    for heading in dict.fromkeys(FIGURES.values()):
        table.add_column(heading, justify="right", no_wrap=True)
    own, synthetic = report["left_out"], report["synthetic"]
    for name, scores in ((f"left out, {own['n_echo']} + {own['n_empty']} empty", own),
                         (f"synthetic, {synthetic['ascans']}", synthetic)):
        for when in ("before", "after") if scores["before"] else ():
            table.add_row(name if when == "before" else "", when, *_cells(scores[when]))
    Console().print(table)


def _cells(scores: dict[str, float | None]) -> list[str]:
    cells = dict.fromkeys(FIGURES.values(), "–")
    for key, heading in FIGURES.items():
        value = scores.get(key)
        if value is not None:
            cells[heading] = f"{100 * value:.1f}"
    return list(cells.values())
