"""A machine as its files and a few commands tell of it; all below a root, so that it may be another."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

BIN_FOLDERS = ("usr/local/bin", "usr/bin", "bin", "opt/vc/bin", "usr/sbin", "sbin")
COMMAND_PATIENCE_S = 10.0
FINE, NOTE, WRONG = "fine", "note", "wrong"
"""States of a finding; a note is worth knowing and stops nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What ``check`` found; ``mend`` says what to do about it, and is empty where nothing is to be done."""

    check: str
    state: str
    what: str
    mend: str = ""


def _space(path: Path) -> tuple[int, int]:
    """Bytes in all, and bytes free to an ordinary user, of the file system that holds ``path``."""
    facts = os.statvfs(path)
    return facts.f_blocks * facts.f_frsize, facts.f_bavail * facts.f_frsize


@dataclass(frozen=True)
class Machine:
    """The files below ``root``, and who looks: user ``uid`` in ``groups``. ``here`` is where recordings would
    go, ``space`` tells a folder's bytes in all and free, ``now_s`` the time since 1970.
    """

    root: Path = Path("/")
    uid: int = field(default_factory=os.geteuid)
    groups: frozenset[int] = field(default_factory=lambda: frozenset({os.getegid(), *os.getgroups()}))
    here: Path = field(default_factory=Path.cwd)
    space: Callable[[Path], tuple[int, int]] = _space
    now_s: Callable[[], float] = time.time

    def path(self, name: str) -> Path:
        """``name``, an absolute path of the machine, below its root."""
        return self.root / name.lstrip("/")

    def read(self, name: str | Path) -> str | None:
        """The text of a file without blanks at its ends; None where it cannot be read."""
        path = name if isinstance(name, Path) else self.path(name)
        try:
            text = path.read_text(errors="replace")
        except OSError:
            return None
        # A USB device's own strings are among these, and may hold what moves a terminal's cursor.
        return "".join(each if each.isprintable() or each == "\n" else " " for each in text).strip()

    def number(self, name: str | Path) -> int | None:
        """The whole number in a file; None where there is none."""
        text = self.read(name)
        try:
            return None if text is None else int(text)
        except ValueError:
            return None

    def match(self, pattern: str) -> Iterable[Path]:
        """The paths that fit a pattern of the machine's absolute paths, sorted."""
        return sorted(self.root.glob(pattern.lstrip("/")))

    def run(self, *words: str) -> str | None:
        """What a command of the machine prints; None where it is missing, fails or hangs."""
        found = (self.root / folder / words[0] for folder in BIN_FOLDERS)
        program = next((each for each in found if os.access(each, os.X_OK)), None)
        if program is None:
            return None
        try:
            done = subprocess.run([str(program), *words[1:]], capture_output=True, text=True, check=False,
                                  timeout=COMMAND_PATIENCE_S, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None
