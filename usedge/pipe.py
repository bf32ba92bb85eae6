"""Writing to whoever reads us, who may have ceased to: a full pipe holds up nothing that has to end."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import IO

LOOK_S = 0.1


def descriptor(stream: IO[str]) -> int | None:
    """The file that ``stream`` writes to; None where it is none, as in tests and under a live view."""
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None


class Stream:
    """A ``stream`` that is no open file, written to as a ``Pipe`` is; nothing of it is given up."""

    unwritten = 0

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, content: bytes) -> bool:
        """Write ``content``, UTF-8, at once."""
        self._stream.write(content.decode())
        self._stream.flush()
        return True


class Pipe:
    """The open file ``fd``. ``write`` waits for its reader as long as ``over()`` is False, and looks ten
    times a second.

    ``unwritten`` counts what was given up. Raises OSError as ``os.write`` does.
    """

    def __init__(self, fd: int, over: Callable[[], bool]) -> None:
        self.unwritten = 0
        self._fd, self._over = fd, over
        # Asked first, and not made a descriptor that never waits: a shell or a parent may share it.
        self._ready = select.poll()
        self._ready.register(fd, select.POLLOUT)

    def write(self, content: bytes) -> bool:
        """Write ``content``; False where that was given up. Up to PIPE_BUF bytes go whole or not at all."""
        rest = memoryview(content)
        while rest:
            taken = self._take(rest)
            if not taken and self._over():
                self.unwritten += 1
                return False
            rest = rest[taken:]
        return True

    def _take(self, rest: memoryview) -> int:
        """How many bytes went, after LOOK_S without any 0."""
        if not self._ready.poll(LOOK_S * 1e3):
            return 0
        try:
            return os.write(self._fd, rest[: select.PIPE_BUF])
        except BlockingIOError:  # someone who shares the file made it one that never waits
            time.sleep(LOOK_S)
            return 0
