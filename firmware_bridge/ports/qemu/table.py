"""The A-scans that the emulated boards play: ``table.py FILE`` writes them as C; a host computes them too.

Standard library only, so that the firmware builds on a machine that has nothing else.
"""

from __future__ import annotations

import math
import struct
import sys
from pathlib import Path

N_ASCANS = 16
N_SAMPLES = 2048
FS_HZ = 10_000_000
F0_HZ = 1_000_000
ADC_MAX = 2047
ECHO_COUNTS = 1500.0
NOISE_COUNTS = 12
DECAY_US = 4.0
_SEED = 20_011


def rows() -> list[list[int]]:
    """Return the table, ``N_ASCANS`` rows of ``N_SAMPLES`` RF counts of a 12-bit ADC."""
    return [_ascan(index) for index in range(N_ASCANS)]


def payloads() -> list[bytes]:
    """Return every row as the bytes of an int16 payload."""
    return [struct.pack(f"<{N_SAMPLES}h", *row) for row in rows()]


def tof_us(index: int) -> float:
    """Return the echo's ToF in A-scan ``index``, µs from the main bang; it moves to and fro."""
    return 90.0 + 35.0 * math.sin(2.0 * math.pi * index / N_ASCANS)


def _ascan(index: int) -> list[int]:
    state = _SEED + index
    counts = []
    for sample in range(N_SAMPLES):
        state = (1_103_515_245 * state + 12_345) % 2**31
        noise = (state >> 16) % (2 * NOISE_COUNTS + 1) - NOISE_COUNTS
        echo = _echo(sample * 1e6 / FS_HZ - tof_us(index))
        counts.append(max(-ADC_MAX, min(ADC_MAX, round(echo) + noise)))
    return counts


def _echo(after_us: float) -> float:
    """Return an echo's counts ``after_us`` its onset: a burst that rises within a period, then decays."""
    if after_us <= 0.0:
        return 0.0
    envelope = (1.0 - math.exp(-after_us)) * math.exp(-after_us / DECAY_US)
    return ECHO_COUNTS * envelope * math.sin(2.0 * math.pi * F0_HZ * 1e-6 * after_us)


def _as_c(table: list[list[int]]) -> str:
    lines = ["/* Written by table.py. */", '#include "table.h"', "",
             "const int16_t table[TABLE_ASCANS][TABLE_SAMPLES] = {"]
    for row in table:
        lines.append("    {")
        lines += ["     " + "".join(f" {each}," for each in row[at : at + 16])
                  for at in range(0, len(row), 16)]
        lines.append("    },")
    return "\n".join([*lines, "};", ""])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(_as_c(rows()), encoding="utf-8")
