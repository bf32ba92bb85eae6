"""What C++ libraries write to stderr past Python, kept from the terminal and from services' logs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def native_talk_caught() -> Iterator[list[str]]:
    """Keep stderr silent inside the block; the list that it gives holds what was said, once it has ended."""
    sys.stderr.flush()
    said: list[str] = []
    kept, caught = os.dup(2), os.memfd_create("said")  # in memory: a device's disk may be read-only
    try:
        os.dup2(caught, 2)
        yield said
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        with open(caught, "rb") as stream:
            stream.seek(0)
            said.append(stream.read().decode(errors="replace"))
