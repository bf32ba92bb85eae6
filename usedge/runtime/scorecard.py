"""What `usedge evaluate --json` says: every file, means over files, and groups of gates from all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usedge.metrics import Outcomes, Scores, calibration, pooled_scores
from usedge.runtime.evaluate import FileResult

FORMAT_VERSION = 1
CYCLE_EDGES = (4.0, 8.0, 16.0, 32.0, 64.0)
"""Bands of samples a cycle on the model's grid, each with its lower edge; what lies outside is "other"."""
SNR_EDGES_DB = (10.0, 15.0, 20.0, 25.0, 30.0, 40.0)
"""Rungs of the SNR, each with its lower edge; the first and the last are open."""

Groups = list[dict[str, Any]]
BoolArray = NDArray[np.bool_]


def report(results: Sequence[FileResult]) -> dict[str, Any]:
    """The whole output of `usedge evaluate --json`.

    ``mean``: of each figure over the files that have it, every file counting the same. ``all`` and
    ``groups``: over all gates, and over those of each source, band and rung, every gate counting the same,
    its error without the bias of its file and method.
    """
    files = [file_entry(result) for result in results]
    every = _joined(results)
    whole = _pooled(every)
    for name, found in every.items():
        whole["methods"][name] |= calibration(found)
    return {
        "format_version": FORMAT_VERSION,
        "files": files,
        "mean": {"n_files": len(files),
                 "methods": {name: _mean([file["methods"][name] for file in files]) for name in every}},
        "all": whole,
        "groups": {"source": _by_source(results, every), **_by_gate(results, every)},
    }


def file_entry(result: FileResult) -> dict[str, Any]:
    """The entry of one file; ``groups`` are the bands and rungs of its own gates."""
    return {"file": result.file, "source": result.source, "n": result.n_echo + result.n_empty,
            "n_echo": result.n_echo, "n_empty": result.n_empty, "methods": result.methods,
            "groups": _by_gate([result], result.outcomes)}


def source_name(source: str) -> str:
    """What a source is grouped by: its text up to the first colon; what follows is detail."""
    return source.partition(":")[0].strip()


def _joined(results: Sequence[FileResult]) -> dict[str, Outcomes]:
    names = list(results[0].outcomes) if results else []
    return {name: Outcomes.join([result.outcomes[name] for result in results]) for name in names}


def _mean(methods: Sequence[Mapping[str, Any]]) -> Scores:
    means: Scores = {}
    for key in methods[0]:
        if key != "reliability":
            values = [figures[key] for figures in methods if figures[key] is not None]
            means[key] = float(np.mean(values)) if values else None
    return means


def _pooled(outcomes: Mapping[str, Outcomes]) -> dict[str, Any]:
    """Gates with and without an echo, and every method's figures over them."""
    gates = next(iter(outcomes.values()))
    n_echo = int(gates.echo.sum())
    return {"n_echo": n_echo, "n_empty": len(gates) - n_echo,
            "methods": {name: dict(pooled_scores(found)) for name, found in outcomes.items()}}


def _group(facts: dict[str, Any], outcomes: Mapping[str, Outcomes], chosen: BoolArray) -> Groups:
    """One group of the gates where ``chosen (n,)`` is True; none where it is empty."""
    if not chosen.any():
        return []
    return [facts | _pooled({name: found.select(chosen) for name, found in outcomes.items()})]


def _by_source(results: Sequence[FileResult], outcomes: Mapping[str, Outcomes]) -> Groups:
    names = [source_name(result.source) for result in results]
    of_gate = np.repeat(names, [result.n_echo + result.n_empty for result in results])
    return [group for name in dict.fromkeys(names)
            for group in _group({"name": name, "n_files": names.count(name)}, outcomes, of_gate == name)]


def _by_gate(results: Sequence[FileResult], outcomes: Mapping[str, Outcomes]) -> dict[str, Groups]:
    cycles = np.concatenate([result.samples_a_cycle for result in results])
    snr_db = np.concatenate([result.snr_db for result in results])
    bands = [group for low, high in pairwise(CYCLE_EDGES)
             for group in _group({"name": f"{low:g}–{high:g}", "from": low, "to": high}, outcomes,
                                 (cycles >= low) & (cycles < high))]
    other = (cycles < CYCLE_EDGES[0]) | (cycles >= CYCLE_EDGES[-1])
    bands += _group({"name": "other", "from": None, "to": None}, outcomes, other)
    rungs = []
    for low, high in zip((None, *SNR_EDGES_DB), (*SNR_EDGES_DB, None), strict=True):
        inside = (snr_db >= (-np.inf if low is None else low)) & (snr_db < (np.inf if high is None else high))
        rungs += _group({"name": _rung(low, high), "from": low, "to": high}, outcomes, inside)
    return {"samples_a_cycle": bands, "snr_db": rungs}


def _rung(low: float | None, high: float | None) -> str:
    if low is None:
        return f"< {high:g}"
    return f"≥ {low:g}" if high is None else f"{low:g}–{high:g}"
