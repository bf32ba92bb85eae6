from __future__ import annotations

import numpy as np

from usedge.cli.view import braille


def test_a_spike_stands_where_it_is() -> None:
    samples = np.zeros(1000, np.int16)
    samples[500] = 1000
    lines = braille(samples, 50, 4)
    assert [len(line) for line in lines] == [50] * 4
    assert [i for i, cell in enumerate(lines[0]) if cell != "\u2800"] == [25]
    samples[500] = -1000
    assert [i for i, cell in enumerate(braille(samples, 50, 4)[-1]) if cell != "\u2800"] == [25]


def test_fewer_samples_than_dots_still_fill_the_line() -> None:
    lines = braille(np.arange(10, dtype=np.int16), 40, 4)
    assert all(any(line[column] != "\u2800" for line in lines) for column in range(40))


def test_a_constant_ascan_is_a_line() -> None:
    lines = braille(np.full(100, 7, np.int16), 10, 4)
    assert sum(any(cell != "\u2800" for cell in line) for line in lines) <= 2
