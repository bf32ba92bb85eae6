"""``jsonl:FILE`` and ``csv:FILE``: whole lines appended to a file, rotated by size and by time if asked."""

from __future__ import annotations

import csv
import fcntl
import io
import math
import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from usedge.errors import InputError
from usedge.reading import Reading
from usedge.sinks import Station
from usedge.sinks.address import Options
from usedge.sinks.queued import Queued
from usedge.sinks.told import iso_time, stamped_json

OPTIONS = ("rotate_mb", "rotate_hours", "keep")
KEEP = 5
TAIL_BYTES = 65_536
CSV_BEGINS = "seq,t_ns,"
JSONL_BEGINS = '{"seq": '


@dataclass(frozen=True)
class Rotation:
    """When a file gives way to a fresh one (inf: never), and how many old ones are kept (0: all)."""

    n_bytes: float = math.inf
    hours: float = math.inf
    keep: int = 0

    @classmethod
    def parse(cls, options: Options) -> Rotation:
        """``rotate_mb`` (10^6 bytes), ``rotate_hours``, ``keep``; raises InputError for bad values."""
        n_bytes = options.number("rotate_mb", math.inf, 0.001) * 1e6
        hours = options.number("rotate_hours", math.inf, 0.001)
        rotates = math.isfinite(n_bytes) or math.isfinite(hours)
        if "keep" in options.values and not rotates:
            raise InputError(f"keep={options.values['keep']} keeps nothing, as nothing is rotated.",
                             "Add rotate_mb=10 or rotate_hours=24.")
        return cls(n_bytes, hours, int(options.number("keep", KEEP, 1, 10_000)) if rotates else 0)

    def period(self, seconds: float) -> int:
        """Which period of ``hours`` since 1970 ``seconds`` falls into: the same after a restart."""
        return int(seconds // (self.hours * 3600)) if math.isfinite(self.hours) else 0


class LinesFile:
    """An outlet that appends one line a reading, each of them whole whatever happens.

    Raises InputError where ``path`` cannot be written, is no regular file, is written by another usedge, or
    does not begin with ``begins``.
    """

    def __init__(self, path: Path, begins: str, rotation: Rotation, say: Callable[[str], None]) -> None:
        self.path, self.rotation, self._say = path, rotation, say
        self._fd, self._size = -1, 0
        try:
            if path.exists() and not stat.S_ISREG(path.stat().st_mode):
                raise InputError(f"{path} is no regular file.", "Name a file to append to.")
            self._open()
            self._check(begins)
            self._cut_tail()
        except InputError:
            self._give_up()
            raise
        except OSError as error:
            self._give_up()
            raise InputError(f"{path} cannot be written ({error.strerror or error}).",
                             "Check the folder and its permissions.") from error

    def line(self, reading: Reading) -> str:
        """One reading as a line without its end."""
        raise NotImplementedError

    def header(self) -> str:
        """What a fresh file begins with."""
        return ""

    def send(self, readings: Sequence[Reading]) -> int:
        """Append as many lines as this file may still take."""
        if self._moved():
            self._open()
        lines = [f"{self.line(reading)}\n".encode() for reading in readings]
        if self._size and (self._is_old() or self._size + len(lines[0]) > self.rotation.n_bytes):
            self.rotate()
        chunk, n = b"" if self._size else self.header().encode(), 0
        for line in lines:
            if n and self._size + len(chunk) + len(line) > self.rotation.n_bytes:
                break
            chunk += line
            n += 1
        self._append(chunk)
        return n

    def tick(self) -> None:
        """Nothing is due."""

    def close(self) -> None:
        """Close the file, its lines on the disk."""
        os.fsync(self._fd)
        os.close(self._fd)

    def rotate(self) -> None:
        """FILE becomes FILE.1, FILE.1 becomes FILE.2 and so on; more than ``keep`` are removed."""
        old = [self.path]
        while (after := self.path.with_name(f"{self.path.name}.{len(old)}")).exists():
            old.append(after)
        for i in range(len(old), 0, -1):
            old[i - 1].replace(self.path.with_name(f"{self.path.name}.{i}"))
        if self.rotation.keep:
            for i in range(self.rotation.keep + 1, len(old) + 1):
                self.path.with_name(f"{self.path.name}.{i}").unlink()
        self._open()

    def _open(self) -> None:
        """Open ``path`` in place of what was open: only once that worked is the old one given up."""
        fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise InputError(f"{self.path} is being written by another sink.", "Name another file.") from None
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        facts = os.fstat(fd)
        self._size, self._period = facts.st_size, self.rotation.period(facts.st_mtime)

    def _give_up(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def _check(self, begins: str) -> None:
        found = os.pread(self._fd, len(begins), 0).decode(errors="replace")
        if not begins.startswith(found):
            raise InputError(f"{self.path} holds something else than readings (it begins with {found!r}).",
                             "Name another file.")

    def _cut_tail(self) -> None:
        """A line that a power cut left unfinished goes, so that the next one stays whole."""
        tail = os.pread(self._fd, TAIL_BYTES, max(0, self._size - TAIL_BYTES))
        loose = len(tail) - (tail.rfind(b"\n") + 1)
        if loose:
            self._size -= loose
            os.ftruncate(self._fd, self._size)
            self._say(f"{self.path} ended in an unfinished line of {loose} bytes, which was cut off.")

    def _moved(self) -> bool:
        """Whether someone moved or removed the file, as logrotate does."""
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return True
        ours = os.fstat(self._fd)
        return (there.st_ino, there.st_dev) != (ours.st_ino, ours.st_dev)

    def _is_old(self) -> bool:
        return self.rotation.period(time.time()) != self._period

    def _append(self, chunk: bytes) -> None:
        try:
            left = chunk
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(chunk)
        self._period = self.rotation.period(time.time())


class JsonlFile(LinesFile):
    """JSON Lines: the contract's keys and ``time``."""

    def line(self, reading: Reading) -> str:
        """One JSON object."""
        return stamped_json(reading)


class CsvFile(LinesFile):
    """Comma-separated values under a header: the contract's keys and ``time``; empty where there is none."""

    _columns: list[str] | None = None

    def line(self, reading: Reading) -> str:
        """One row."""
        row = io.StringIO()
        csv.writer(row, lineterminator="").writerow([*reading.to_dict().values(), iso_time(reading.t_ns)])
        return row.getvalue()

    def header(self) -> str:
        """The columns of the readings of this run."""
        return ",".join([*(self._columns or []), "time"]) + "\n"

    def send(self, readings: Sequence[Reading]) -> int:
        """Append rows; a file whose columns are others gives way to a fresh one first."""
        if self._columns is None:
            self._columns = list(readings[0].to_dict())
            header = self.header().encode()
            if self._size and os.pread(self._fd, len(header), 0) != header:
                self.rotate()
                self._say(f"{self.path} had other columns: it is now {self.path}.1.")
        return super().send(readings)


def open_jsonl(url: str, station: Station) -> Queued:
    """``jsonl:FILE[?rotate_mb=10&rotate_hours=24&keep=5]``."""
    return _open(url, station, JsonlFile, JSONL_BEGINS)


def open_csv(url: str, station: Station) -> Queued:
    """``csv:FILE[?rotate_mb=10&rotate_hours=24&keep=5]``."""
    return _open(url, station, CsvFile, CSV_BEGINS)


def _open(url: str, station: Station, kind: type[LinesFile], begins: str) -> Queued:
    scheme, _, rest = url.partition(":")
    file, _, query = rest.partition("?")
    options = Options.parse(scheme, query, OPTIONS)
    if not file:
        raise InputError(f"sink {url} names no file.", f"Example: --sink {scheme}:readings.{scheme}")
    outlet = kind(Path(file), begins, Rotation.parse(options), station.say)
    return Queued(f"{scheme}:{file}", outlet, station.say, options.backlog)
