"""The files of one recording: their names, the next number, and the oldest that makes room."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from usedge.errors import InputError
from usedge.recording.layout import SUFFIX

DIGITS = 6
File = TypeVar("File")


@dataclass(frozen=True, slots=True)
class Part:
    """A finished file of a series, and its size."""

    path: Path
    n_bytes: int


class Series:
    """The files of one recording: ``path`` itself at first, or if ``numbered`` NAME-000001.usrec and so on.

    ``older`` are those that are finished, the oldest first; numbers go on from the greatest that is there.
    Raises InputError where the folder of ``path`` cannot be listed.
    """

    def __init__(self, path: Path, numbered: bool) -> None:
        self.path = path if path.suffix else path.with_suffix(SUFFIX)
        self.older: deque[Part] = deque()
        self._plain = not numbered
        self._next = 1
        for number, part in sorted(self._present()):
            self._next = number + 1
            if numbered:
                self.older.append(part)

    @property
    def older_bytes(self) -> int:
        """Size of all finished files."""
        return sum(part.n_bytes for part in self.older)

    def begin(self, make: Callable[[Path], File]) -> File:
        """What ``make`` makes of the next path that is free; FileExistsError for ``path`` itself."""
        if self._plain:
            made = make(self.path)
            self._plain, self._next = False, max(self._next, 2)
            return made
        while True:
            try:
                made = make(self.path.with_stem(f"{self.path.stem}-{self._next:0{DIGITS}d}"))
            except FileExistsError:
                self._next += 1
                continue
            self._next += 1
            return made

    def _present(self) -> list[tuple[int, Part]]:
        pattern = re.compile(re.escape(self.path.stem) + rf"-(\d{{{DIGITS},}})" + re.escape(self.path.suffix))
        try:
            named = [(pattern.fullmatch(each.name), each) for each in self.path.parent.iterdir()]
            return [(int(match[1]), Part(each, each.stat().st_size)) for match, each in named if match]
        except OSError as error:
            raise InputError(f"folder {self.path.parent} cannot be used ({error.strerror}).",
                             "Name a recording in a folder that exists.") from None


def by_number(path: Path) -> list[int | str]:
    """Sorting key of ``path`` by which part 10 comes after part 9."""
    return [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", path.name)]
