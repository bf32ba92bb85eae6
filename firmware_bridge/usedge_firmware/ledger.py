"""The ledger of faults: what was done to which frame and what became of every A-scan, as JSON Lines.

It is written as it happens. The first line tells seed and plan; the last one has the totals and the SHA-256
of all lines before it, so that a ledger that was cut short or changed is known for it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any, Final, Literal

FORMAT: Final = "usedge-fault-ledger"
VERSION: Final = 1

Fate = Literal["intact", "damaged", "dropped"]


class LedgerError(ValueError):
    """A file that is no whole ledger; the message says what is wrong with it."""


class Ledger:
    """Counts in memory, and writes to ``path`` when there is one.

    Of A-scans: ``sent`` = ``intact`` (whole on the wire at least once) + ``damaged`` + ``dropped``;
    ``copies`` whole copies on the wire beyond each first. ``messages`` and ``messages_damaged`` count the
    other frames that faults could hit. ``faults`` events by name. A ledger whose last line is not written
    yet, by ``close``, does not read back.

    Raises ``OSError`` when the file cannot be made or written.
    """

    def __init__(self, *, seed: int, plan: str, path: str | Path | None = None) -> None:
        self.sent = self.intact = self.damaged = self.dropped = self.copies = 0
        self.messages = self.messages_damaged = 0
        self.faults: Counter[str] = Counter()
        self._hash = hashlib.sha256()
        self._file = None if path is None else open(path, "w", encoding="ascii", buffering=1)  # noqa: SIM115
        self._write({"format": FORMAT, "version": VERSION, "seed": seed, "plan": plan})

    def fault(self, frame: int, seq: int | None, name: str, **details: float) -> None:
        """Note one fault: ``frame`` counts the frames that faults could hit, from 0; ``seq`` of an A-scan.

        ``details``: ``at`` the byte of the frame where it begins; ``size`` how much, in the kind's unit.
        """
        self.faults[name] += 1
        if self._file is not None:
            self._write({"frame": frame, "seq": seq, "fault": name, **details})

    def fate(self, frame: int, seq: int | None, fate: Fate, copies: int = 0) -> None:
        """Note what became of a frame, once it is known; only what is not plainly intact gets a line."""
        if seq is None:
            self.messages += 1
            self.messages_damaged += fate == "damaged"
        else:
            self.sent += 1
            self.intact += fate == "intact"
            self.damaged += fate == "damaged"
            self.dropped += fate == "dropped"
            self.copies += copies
        if self._file is not None and (copies or fate != "intact"):
            self._write({"frame": frame, "seq": seq, "fate": fate, "copies": copies})

    def note(self, text: str, **details: float) -> None:
        """Write what is no fault and yet bears on the account, such as a host that does not read."""
        if self._file is not None:
            self._write({"note": text, **details})

    def totals(self) -> dict[str, Any]:
        """Return the counts as the last line has them."""
        names = ("sent", "intact", "damaged", "dropped", "copies", "messages", "messages_damaged")
        return {**{name: getattr(self, name) for name in names}, "faults": dict(self.faults)}

    def close(self) -> None:
        """Write the last line and close the file; may be called twice.

        Raises ``OSError`` when that cannot be written; the file is closed then too.
        """
        if self._file is None:
            return
        file = self._file
        try:
            self._write({"totals": self.totals(), "sha256": self._hash.hexdigest()})
        finally:
            self._file = None
            file.close()

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            text = json.dumps(line) + "\n"
            self._hash.update(text.encode("ascii"))
            self._file.write(text)


def read_ledger(path: str | Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """Return the header, the lines and the totals of a ledger.

    Raises ``LedgerError`` when it is none, of another version, cut short or changed; ``OSError`` when it
    cannot be read.
    """
    content = Path(path).read_bytes()
    body, last = _split_last_line(content)
    try:
        header, *lines = [json.loads(each) for each in body.splitlines()]
        ending = json.loads(last)
        known = (header["format"], header["version"]) == (FORMAT, VERSION)
        whole = ending.get("sha256") == hashlib.sha256(body).hexdigest()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LedgerError(f"{path} is no fault ledger, or was cut short") from error
    if not known:
        raise LedgerError(f"{path} is no fault ledger of version {VERSION}: {header}")
    if not whole:
        raise LedgerError(f"{path} was cut short or changed: its last line does not fit the others")
    return header, lines, ending["totals"]


def _split_last_line(content: bytes) -> tuple[bytes, bytes]:
    end = content.rstrip(b"\n").rfind(b"\n") + 1
    return content[:end], content[end:]
