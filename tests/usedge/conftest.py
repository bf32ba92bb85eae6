"""What the tests of the commands share: an emulated board in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

DEADLINE_S = 120


@pytest.fixture
def emulator() -> Iterator[Callable[..., str]]:
    """Starts `usedge emulate` with the given arguments and gives its port."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> str:
        process = subprocess.Popen(
            [sys.executable, "-m", "usedge", "emulate", *arguments], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        started.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip()

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=DEADLINE_S)
