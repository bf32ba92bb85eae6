"""The recorder: a thread of its own writes A-scans in batches, and never keeps a reading waiting."""

from __future__ import annotations

import errno
import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.recording.chunk_file import ChunkFile
from usedge.recording.layout import MAX_ASCANS, ascan_bytes, pack_ascan, recordable
from usedge.recording.series import Part, Series

TALK = "usedge.recording"
"""Name of the log in which the recorder speaks."""
CHUNK_BYTES = 1 << 16
"""A chunk is what a damaged byte costs; its checksums are 0.05 % of this."""
QUEUE_BYTES = 8 << 20
"""What waits while the card is busy: 10 s at 200 A-scans of 2048 samples a second."""
POLL_S, LEAST_POLL_S = 0.1, 0.01
RETRY_S = 1.0
CLOSE_S = 10.0
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
MB = 1e6


@dataclass(frozen=True, slots=True)
class RecordPolicy:
    """When a recording is synced (every ``sync_s``), a new file begun (0: never) and the oldest removed.

    Sizes in MB of 10⁶ bytes; ``quota_mb`` holds for all files of the series, 0 for no limit, and alone begins
    a new file at an eighth of it. ``compress``: zlib on each chunk.
    """

    sync_s: float = 1.0
    rotate_mb: float = 0.0
    rotate_s: float = 0.0
    quota_mb: float = 0.0
    compress: bool = False

    def __post_init__(self) -> None:
        for name in ("sync_s", "rotate_mb", "rotate_s", "quota_mb"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"--{name.replace('_', '-')} {value:g} is no time or size.",
                                 "Give 0 or more.")
        if 0 < self.rotate_mb < 0.1 or 0 < self.quota_mb < 0.8:
            raise InputError(f"--rotate-mb {self.rotate_mb:g} and --quota-mb {self.quota_mb:g} leave no room"
                             " for A-scans.", "At least 0.1 and 0.8 MB.")
        if self.quota_mb and self.rotate_mb > self.quota_mb / 2:
            raise InputError(f"--rotate-mb {self.rotate_mb:g} is more than half of --quota-mb"
                             f" {self.quota_mb:g}.", "The newest file stays, so two must fit.")

    @property
    def rotates(self) -> bool:
        """Whether there will be more than one file."""
        return bool(self.rotate_mb or self.rotate_s or self.quota_mb)

    @property
    def file_bytes(self) -> float:
        """Most bytes of one file."""
        return (self.rotate_mb or self.quota_mb / 8) * MB or math.inf


class Recorder:
    """Records what ``offer`` is given; a context manager that opens the first file and closes the last.

    ``facts`` stand at the beginning of every file, ``late_facts()`` before its first A-scan. ``waits``: offer
    waits for room, as for a file that is read without loss, instead of dropping. Entering raises InputError
    where nothing can be written; later faults are told once, counted, and tried again.
    """

    def __init__(self, path: Path, policy: RecordPolicy, facts: dict[str, Any],
                 late_facts: Callable[[], dict[str, Any]] = dict, waits: bool = False) -> None:
        self.policy = policy
        self.recorded = 0
        self.faults = 0
        self.files = 0
        self.removed = 0
        self._series = Series(path, policy.rotates)
        self._facts = {**facts, "session": os.urandom(8).hex(), "sync_s": policy.sync_s}
        self._late_facts = late_facts
        self._waits = waits
        self.path = self._series.path
        self._file: ChunkFile | None = None
        self._offered = self._bytes_in = self._bytes_out = 0
        self._queue: queue.SimpleQueue[AScan] = queue.SimpleQueue()
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._shape: dict[str, Any] = {}
        self._unsynced = 0
        self._poll_s = min(max(policy.sync_s, LEAST_POLL_S), POLL_S)
        self._sync_at = self._retry_at = 0.0
        self._faulty = self._leaving = False
        self._bug: Exception | None = None
        self._told: set[str] = set()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="usedge-recorder", daemon=True)

    @property
    def record_dropped(self) -> int:
        """A-scans offered that are in no file; until the end, those on their way to one as well."""
        return self._offered - self.recorded

    def __enter__(self) -> Recorder:
        try:
            self._file = self._next_file()
            self._file.sync()
        except OSError as error:
            if self._file is not None:
                self._file.abandon()
            raise _cannot(self.path, error) from None
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._leaving = True
        self._wake.set()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            self._say_once("busy", f"{self.path} is still busy after {CLOSE_S:g} s; its end is not written")
        if self._bug is not None:
            raise self._bug

    def offer(self, ascan: AScan) -> None:
        """Take ``ascan``, or drop and count it when the queue has no room; ``waits`` until it has."""
        self._offered += 1
        n_bytes = ascan_bytes(ascan)
        while self._bytes_in - self._bytes_out + n_bytes > QUEUE_BYTES:
            if not self._waits or self._faulty or self._leaving or n_bytes > QUEUE_BYTES:
                return
            self._wake.set()
            time.sleep(0.001)
        self._bytes_in += n_bytes
        self._queue.put(ascan)

    def summary(self) -> dict[str, int]:
        """What became of the A-scans offered, and of the files; complete after the end."""
        return {"recorded": self.recorded, "record_dropped": self.record_dropped,
                "record_faults": self.faults, "record_files": self.files, "record_removed": self.removed}

    def _work(self) -> None:
        try:
            while not self._leaving:
                self._wake.wait(self._poll_s)
                self._wake.clear()
                if time.monotonic() >= self._retry_at:
                    self._round(last=False)
            self._round(last=True)
            if self._file is not None:
                self._close_file(self._file)
        except OSError as error:
            self._fail(error)
        except Exception as error:
            self._bug, self._waits = error, False

    def _round(self, last: bool) -> None:
        """Write what has come; a fault leaves it waiting for the next round."""
        try:
            while self._fill():
                self._write_batch()
            if last or time.monotonic() + self._poll_s >= self._sync_at:
                self._write_batch()
                self._sync()
        except OSError as error:
            self._fail(error)

    def _fill(self) -> bool:
        """Take A-scans into the batch; True when it is a chunk's worth."""
        while self._batch_bytes < CHUNK_BYTES and len(self._batch) < MAX_ASCANS:
            try:
                ascan = self._queue.get_nowait()
            except queue.Empty:
                return False
            if not recordable(ascan):
                self._bytes_out += ascan_bytes(ascan)
                continue
            self._batch.append(pack_ascan(ascan))
            self._batch_bytes += len(self._batch[-1])
            self._shape = {"fs_hz": ascan.fs_hz, "t0_us": ascan.t0_us, "samples": len(ascan.samples)}
        return True

    def _write_batch(self) -> None:
        if not self._batch:
            return
        file = self._file_for(self._batch_bytes)
        if file.n_chunks == 1:
            file.write_facts({**self._late_facts(), **self._shape})
        file.write_ascans(self._batch, self.policy.compress)
        if file.n_ascans == len(self._batch):
            self.files += 1
        self.recorded += len(self._batch)
        self._unsynced += len(self._batch)
        self._bytes_out += self._batch_bytes
        self._batch, self._batch_bytes = [], 0
        if self._faulty:
            self._faulty = False
            self._say_once("goes on", f"the recording goes on in {file.path}")

    def _file_for(self, n_bytes: int) -> ChunkFile:
        """The file that the next ``n_bytes`` go to, with room made for them."""
        file = self._file
        if file is not None and self._is_full(file, n_bytes):
            self._close_file(file)
            file = None
        if file is None:
            file = self._file = self._next_file()
        if self.policy.quota_mb:
            self._make_room(file.n_bytes + n_bytes)
        return file

    def _is_full(self, file: ChunkFile, n_bytes: int) -> bool:
        """Whether ``file`` has something in it, and the next ``n_bytes`` belong to another."""
        old = 0 < self.policy.rotate_s <= time.monotonic() - file.opened
        return file.n_ascans > 0 and (old or file.n_bytes + n_bytes > self.policy.file_bytes)

    def _next_file(self) -> ChunkFile:
        facts = {**self._facts, "part": self.files + 1, "start_unix_ns": time.time_ns(),
                 "start_monotonic_ns": time.monotonic_ns(),
                 "start": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        return self._series.begin(lambda path: ChunkFile(path, facts))

    def _close_file(self, file: ChunkFile) -> None:
        self._file = None
        try:
            file.close({"ascans": file.n_ascans} | (self.summary() if self._leaving else {}))
        except OSError:
            self._doubt()
            raise
        finally:
            self._retire(file)
        self._unsynced = 0

    def _retire(self, file: ChunkFile) -> None:
        if file.n_ascans and self.policy.rotates:
            self._series.older.append(Part(file.path, file.n_bytes))

    def _make_room(self, n_bytes: int) -> None:
        """Remove the oldest files until those that stay leave ``n_bytes`` of the quota."""
        while self._series.older and self._series.older_bytes + n_bytes > self.policy.quota_mb * MB:
            oldest = self._series.older.popleft()
            try:
                oldest.path.unlink(missing_ok=True)
            except OSError as error:
                self.faults += 1
                self._say_once("stays", f"{oldest.path} could not be removed ({error.strerror});"
                                        " --quota-mb is not kept")
                continue
            self.removed += 1
            self._say_once("removed", f"{oldest.path}, the oldest, was removed to keep within"
                                      f" {self.policy.quota_mb:g} MB; those after it are counted")

    def _sync(self) -> None:
        if self._file is not None and self._unsynced:
            try:
                self._file.sync()
            except OSError:
                # Nobody knows which pages reached the card, and a second sync would not tell.
                self._file.abandon()
                self._retire(self._file)
                self._file = None
                self._doubt()
                raise
        self._unsynced = 0
        self._sync_at = time.monotonic() + self.policy.sync_s

    def _doubt(self) -> None:
        """Count what is not known to be on the card as lost, although it may be found there."""
        self.recorded -= self._unsynced
        self._unsynced = 0

    def _fail(self, error: OSError) -> None:
        self.faults += not self._faulty
        self._faulty = True
        self._retry_at = time.monotonic() + RETRY_S
        self._say_once("fault", f"{error.filename or self.path} could not be written ({error.strerror});"
                                " the recording goes on when it can")
        if error.errno not in NO_ROOM and self._file is not None:
            # Such as a file too large for its file system: the next one may do.
            with suppress(OSError):
                self._close_file(self._file)

    def _say_once(self, topic: str, what: str) -> None:
        """Say ``what``, unless something of the same ``topic`` was said before."""
        if topic not in self._told:
            self._told.add(topic)
            logging.getLogger(TALK).warning("%s", what)


def _cannot(path: Path, error: OSError) -> InputError:
    path = Path(error.filename) if error.filename else path
    if error.errno == errno.EEXIST:
        return InputError(f"recording {path} exists already, and is not overwritten.",
                          "Name another, or let files be numbered: --rotate-mb 100.")
    next_step = "Make room, or record elsewhere." if error.errno in NO_ROOM else \
        "Name a file in a folder that exists and can be written."
    return InputError(f"recording {path} cannot be written ({error.strerror}).", next_step)
