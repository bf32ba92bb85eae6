"""The decisions on a file's A-scans: taken, undone, kept in the journal, written as a labelled file."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from usedge.errors import InputError
from usedge.files import whole_file
from usedge.labelling.journal import Journal
from usedge.labelling.proposals import DOUBTFUL, Proposal
from usedge.labelling.task import Task

LABELS = ("consensus", "accepted", "moved", "no_echo", "skipped")
WRITTEN = ("kept", "consensus", "accepted", "moved", "no_echo")
"""Labels whose rows are written; "kept" are those that the input had."""
DECIDED_BY = ("consensus", "person", "moved", "input")
"""Names of the codes in the written array ``decided_by``."""
_CODES = {"consensus": 0, "accepted": 1, "no_echo": 1, "moved": 2, "kept": 3}


class Decision(NamedTuple):
    """A label (one of LABELS, or "kept") and the onset in µs after the main bang, None where it has none."""

    label: str
    tof_us: float | None = None


class Session:
    """The decisions on ``task``, resumed from the journal beside ``out``.

    ``proposals`` stand in the order to look at them, ``method`` names the classical one. Raises InputError
    where ``out`` exists and is not what this journal's session wrote, and what ``Journal`` raises.
    """

    def __init__(self, task: Task, proposals: Sequence[Proposal], out: Path, method: str) -> None:
        self.task, self.proposals, self.out, self.method = task, proposals, out, method
        self.finished = False
        self.decisions = {row: Decision("kept", float(tof_s) * 1e6)
                          for row, tof_s in enumerate(task.ascans.tof_s) if math.isfinite(tof_s)}
        self._by_row = {each.row: each for each in proposals}
        self._undo: list[dict[int, Decision | None]] = []
        self.journal = Journal(journal_path(out), {"file": task.file, "fingerprint": task.fingerprint})
        try:
            self._replay()
            self._check_out()
        except BaseException:
            self.close()
            raise

    @property
    def resumed(self) -> bool:
        """Whether the journal held decisions of an earlier session."""
        return bool(self.journal.events)

    @property
    def can_undo(self) -> bool:
        """Whether there is a decision to take back."""
        return bool(self._undo)

    def decide(self, row: int, label: str, tof_us: float | None = None) -> None:
        """Decide one row: "onset" at ``tof_us``, "no_echo" or "skipped"; kept on disk when this returns.

        An onset at either pick is "accepted", one anywhere else "moved". Raises InputError for a row or a
        label that there is not, an onset outside the gate, and a journal that cannot be written.
        """
        if row not in self._by_row:
            raise InputError(f"there is no A-scan {row}.", f"There are {len(self.task)}, from 0.")
        if label == "onset":
            self._keep({row: Decision(*self._onset(row, tof_us))})
        elif label in {"no_echo", "skipped"}:
            self._keep({row: Decision(label)})
        else:
            raise InputError(f"there is no label {label!r}.", "Known: onset, no_echo, skipped.")

    def accept_consensus(self) -> list[int]:
        """Accept every undecided onset that both pickers agree on; gives their rows, one undo for all."""
        changes = {each.row: Decision("consensus", each.tof_us) for each in self.proposals
                   if each.kind == "agree" and each.row not in self.decisions}
        if changes:
            self._keep(changes)
        return list(changes)

    def undo(self) -> list[int]:
        """Take the last decision back; gives its rows, none where there is nothing to undo."""
        if not self._undo:
            return []
        self.journal.append({"undo": True})
        return self._take_back()

    def counts(self) -> dict[str, int]:
        """How many rows there are and what became of them: ``rows`` are those of each label and ``left``."""
        labels = [decision.label for decision in self.decisions.values()]
        left = [each for each in self.proposals if each.row not in self.decisions]
        return ({"rows": len(self.task)} | {label: labels.count(label) for label in ("kept", *LABELS)}
                | {"left": len(left), "doubtful_left": sum(each.kind in DOUBTFUL for each in left),
                   "consensus_left": sum(each.kind == "agree" for each in left),
                   "written": sum(label in WRITTEN for label in labels)})

    def write(self) -> None:
        """Write the decided rows, whole or not at all; raises InputError where there are none."""
        rows = sorted(row for row, decision in self.decisions.items() if decision.label in WRITTEN)
        if not rows:
            raise InputError(f"none of the {len(self.task)} A-scans has a label, so nothing was written.",
                             f"Label some: usedge label {self.task.file}")
        with whole_file(self.out) as fresh:
            with fresh.open("wb") as file:
                np.savez(file, allow_pickle=False, **self._arrays(rows))
            # Before the rename: a session killed between both knows either file for its own.
            self.journal.append({"written": _sha256(fresh), "rows": len(rows)})

    def close(self) -> None:
        """Give the journal free; one without a decision is deleted."""
        if not self.journal.events:
            self.journal.remove()
        self.journal.close()

    def _arrays(self, rows: list[int]) -> dict[str, Any]:
        seen, decided = self.task.ascans, [self.decisions[row] for row in rows]
        tof_s = [seen.tof_s[row] if each.label == "kept" else _seconds(each.tof_us)
                 for row, each in zip(rows, decided, strict=True)]
        arrays = {"x": seen.x[rows], "fs_hz": seen.fs_hz, "t0_s": seen.t0_s, "tof_s": np.array(tof_s),
                  "gate_s": seen.gate_s[rows], "label_point": "onset", "source": seen.source,
                  "row": np.array(rows), "decided_by_names": np.array(DECIDED_BY),
                  "decided_by": np.array([_CODES[each.label] for each in decided], np.uint8)}
        if seen.f0_hz is not None:
            arrays["f0_hz"] = seen.f0_hz[rows]
        return arrays

    def _onset(self, row: int, tof_us: float | None) -> Decision:
        proposal, gate = self._by_row[row], self.task.ascans.gate(row)
        if tof_us is None or not self._inside(row, tof_us):
            raise InputError(f"an onset at {tof_us} µs is outside the gate of A-scan {row}"
                             f" ({gate.start_us:g}–{gate.end_us:g} µs).", "Move it inside.")
        shown = {proposal.model.tof_us, proposal.classical.tof_us, float(self.task.ascans.tof_s[row]) * 1e6}
        return Decision("accepted" if tof_us in shown else "moved", tof_us)

    def _inside(self, row: int, tof_us: float) -> bool:
        gate, rounding = self.task.ascans.gate(row), 1e3 / self.task.ascans.fs_hz
        return gate.start_us - rounding <= tof_us <= gate.end_us + rounding

    def _keep(self, changes: dict[int, Decision]) -> None:
        self.journal.append({"set": [[row, *decision] for row, decision in changes.items()]})
        self._apply(changes)

    def _apply(self, changes: dict[int, Decision]) -> None:
        self._undo.append({row: self.decisions.get(row) for row in changes})
        self.decisions.update(changes)

    def _take_back(self) -> list[int]:
        before = self._undo.pop()
        for row, decision in before.items():
            if decision is None:
                del self.decisions[row]
            else:
                self.decisions[row] = decision
        return list(before)

    def _replay(self) -> None:
        for i, event in enumerate(self.journal.events):
            try:
                if "set" in event:
                    self._apply({row: self._recorded(row, *decision) for row, *decision in event["set"]})
                elif "undo" in event:
                    self._take_back()
                elif "written" not in event:
                    raise ValueError
            except (KeyError, ValueError, TypeError, IndexError):
                raise InputError(f"{self.journal.path} holds what no session writes, in line {i + 2}.",
                                 "Move it away, or give another -o.") from None

    def _recorded(self, row: int, label: str, tof_us: float | None) -> Decision:
        if label not in LABELS or (tof_us is None) is not (label in {"no_echo", "skipped"}):
            raise ValueError
        if row not in self._by_row or (tof_us is not None and not self._inside(row, tof_us)):
            raise ValueError
        return Decision(label, tof_us)

    def _check_out(self) -> None:
        written = {event["written"] for event in self.journal.events if "written" in event}
        if self.out.exists() and _sha256(self.out) not in written:
            raise InputError(f"{self.out} exists, and this session did not write it.",
                             "Move it away, or give another -o.")


def journal_path(out: Path) -> Path:
    """Where the decisions behind ``out`` are kept."""
    return out.with_name(f"{out.stem}.journal.jsonl")


def check_out(out: Path, source: Path) -> None:
    """Raise InputError where a session on ``source`` cannot write to ``out``, before work is lost to it."""
    if out.suffix != ".npz":
        raise InputError(f"labelled A-scans are written as .npz, not to {out}.",
                         "Give a name that ends in .npz.")
    if not out.parent.is_dir():
        raise InputError(f"there is no folder {out.parent} to write to.", "Create it first.")
    if out.resolve() == source.resolve():
        raise InputError(f"{out} is the input itself.", "Give another -o.")
    if out.exists() and not journal_path(out).exists():
        raise InputError(f"{out} exists.", "Move it away, or give another -o.")


def _seconds(tof_us: float | None) -> float:
    return math.nan if tof_us is None else tof_us * 1e-6


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).", "Give another -o.") from error
