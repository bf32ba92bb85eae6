"""What several tests share: an emulated board in a process of its own, and one thread for tiny models."""

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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Models as small as those of the tests are slower on two threads of torch than on one."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
