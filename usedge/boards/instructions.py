"""A second opinion on the network in C: its instructions on a core, counted once, over what the core issues.

``benchmarks/results/instructions.json`` holds the counts (``make instructions``). The fast end lets issue,
vector units and loads work at once without a stall, the slow end one after another; caches, latencies and the
clock's governor are in neither.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from usedge.boards.profile import BoardProfile
from usedge.boards.work import Sizes
from usedge.errors import InputError
from usedge.resources import folder

RESULTS, FILE = "benchmarks/results", "instructions.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Opinion:
    """Time of a pass by its instructions: both ends in µs, instructions a cycle (IPC) at either end."""

    core: str
    kernel: str
    instructions: int
    fast_us: float
    slow_us: float
    ipc: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """The fields, rounded, as JSON values."""
        return asdict(self) | {"fast_us": round(self.fast_us, 1), "slow_us": round(self.slow_us, 1),
                               "ipc": [round(each, 2) for each in self.ipc]}


def read_counts(path: Path | None = None) -> list[dict[str, Any]]:
    """The stored counts; raises InputError where this installation has none or they cannot be read."""
    path = path or folder(RESULTS) / FILE
    try:
        content = json.loads(path.read_text())
        if content["format_version"] != FORMAT_VERSION:
            raise InputError(f"{path} is of format {content['format_version']}, not {FORMAT_VERSION}.",
                             "Count anew: make instructions")
        rows: list[dict[str, Any]] = content["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} holds no counted instructions ({error}).",
                         "Count them: make instructions") from None
    return rows


def longest_us(board: BoardProfile, sizes: Sizes, few: int, rows: list[dict[str, Any]]
               ) -> tuple[float, float] | None:
    """The network's part of the longest decision, both ends in µs: two passes, each on ``few`` patches and
    then, being unsure, on all of ``sizes``. None where ``opinion`` has none. It is what a p99 is made of.
    """
    asked = {sizes.tokens, few} if few < sizes.tokens else {sizes.tokens}
    found = [opinion(board, replace(sizes, tokens=tokens), rows) for tokens in asked]
    told = [each for each in found if each is not None]
    if len(told) < len(asked):
        return None
    return 2 * sum(each.fast_us for each in told), 2 * sum(each.slow_us for each in told)


def opinion(board: BoardProfile, sizes: Sizes, rows: list[dict[str, Any]]) -> Opinion | None:
    """What ``rows`` say of a pass of ``sizes`` on ``board``; None where they or the profile do not."""
    asked = (board.processor.core, asdict(sizes))
    found = next((row for row in rows if (row["core"], row["sizes"]) == asked), None)
    rates, clock = board.rates, board.processor.clock_ghz
    if found is None or not (clock and rates.issue_width and rates.vector_ops and rates.loads):
        return None
    kinds = found["instructions"]
    total, vector, loads = kinds["total"], kinds["vector"], kinds["loads"]
    fast = max(total / rates.issue_width, vector / rates.vector_ops[1], loads / rates.loads[1])
    rest = max(total - vector - loads, 0)
    slow = vector / rates.vector_ops[0] + loads / rates.loads[0] + rest / rates.issue_width
    per_us = clock * 1e3
    return Opinion(found["core"], found["kernel"], total, fast / per_us, slow / per_us,
                   (total / slow, total / fast))
