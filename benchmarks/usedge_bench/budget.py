"""``usedge bench latency --board``: the report held against the board's budget, where it is of that board."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from usedge.boards import BoardProfile, Detected, detect, every_board, load_board
from usedge.boards.judge import Line, Verdict, judge
from usedge.errors import GateFailedError, InputError
from usedge_bench.install import install_size
from usedge_bench.suite import LatencySuite, Suite


def board_asked(name: str | None, numbers: Suite) -> BoardProfile | None:
    """The board that --board names, None where it is not given; raises InputError for a front end, or a suite
    other than the latency suite, before anything is measured.
    """
    if name is None:
        return None
    board = load_board(name)
    if board.budget is None:
        raise InputError(f"{board.id} is a front end, and has no budget.",
                         "Name the board that usedge runs on: usedge boards list")
    if not isinstance(numbers, LatencySuite):
        raise InputError("--board is of the latency suite.", f"Run: usedge bench latency --board {name}")
    return board


def at_its_prf(numbers: Suite, board: BoardProfile | None, say: Callable[[str], None], root: Path = Path("/")
               ) -> Suite:
    """``numbers`` at the PRF at which a reading may take its whole budget, where this machine is ``board``: a
    faster one would measure the queue.
    """
    if board is None or board.budget is None or not isinstance(numbers, LatencySuite):
        return numbers
    prf_hz = 1e3 / board.budget.p99_ms
    if prf_hz >= numbers.prf_hz or _found(board, root).board != board.id:
        return numbers
    say(f"streaming at {prf_hz:g} Hz, at which a reading may take the {board.budget.p99_ms:g} ms of"
        f" {board.id}'s budget.")
    return replace(numbers, prf_hz=prf_hz, idle_prf_hz=min(numbers.idle_prf_hz, prf_hz))


def _found(board: BoardProfile, root: Path) -> Detected:
    return detect(root, [board, *(each for each in every_board() if each.id != board.id)])


def held_against(report: dict[str, Any], board: BoardProfile, root: Path = Path("/")) -> Verdict:
    """``report`` against the budget of ``board``, what is installed included; nothing is judged elsewhere."""
    found = _found(board, root)
    verdict = judge(report, board, found.board, found.why)
    if not verdict.counts or board.budget is None:
        return verdict
    install = Line("install_mb", install_size("usedge")["total_mb"], board.budget.install_mb)
    return replace(verdict, lines=(*verdict.lines, install))


def tell(verdict: Verdict, say: Callable[[str], None]) -> None:
    """Say how ``verdict`` ended; raises GateFailedError where a figure is over budget."""
    if not verdict.counts:
        say(f"this does not count for {verdict.board}: {verdict.why}. Nothing was judged.")
        return
    if verdict.over:
        raise GateFailedError(f"over the budget of {verdict.board}: {', '.join(verdict.over)}.",
                              f"The budget: usedge boards show {verdict.board}")
    say(f"within the budget of {verdict.board}: {', '.join(map(str, verdict.lines))}")
