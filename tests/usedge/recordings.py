"""Recordings made in memory, chunk by chunk, so that a test knows which byte belongs to which A-scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from usedge.ascan import AScan
from usedge.recording import Recording
from usedge.recording.layout import Kind, pack_ascan, pack_ascans, pack_chunk, pack_facts

FILE_ID = 0x0123456789ABCDEF


def make_ascans(n: int, samples: int = 40, seed: int = 5) -> list[AScan]:
    rng = np.random.default_rng(seed)
    rows = [rng.integers(-32768, 32768, samples + i % 3, dtype=np.int16) for i in range(n)]
    return [AScan(row, 1e6 * (i + 1) / 3, -0.1 * i, i, 10**15 + i, 0.1 * i, i % 5, i % 4 != 3)
            for i, row in enumerate(rows)]


def chunks_of(ascans: list[AScan], in_each: int, compress: bool = False) -> list[bytes]:
    """A file's chunks: facts, A-scans, end."""
    chunks = [pack_chunk(Kind.FACTS, 0, pack_facts({"port": "test", "session": "s"}), FILE_ID, 0)]
    for at in range(0, len(ascans), in_each):
        packed = [pack_ascan(ascan) for ascan in ascans[at : at + in_each]]
        chunks.append(pack_ascans(packed, compress, FILE_ID, len(chunks)))
    return [*chunks, pack_chunk(Kind.END, 0, pack_facts({"ascans": len(ascans)}), FILE_ID, len(chunks))]


def read(path: Path) -> tuple[list[AScan], Recording]:
    with Recording(path) as recording:
        return list(recording), recording


def fields(ascan: AScan) -> tuple[object, ...]:
    """Everything in ``ascan``, to be compared bit for bit."""
    return (ascan.samples.tobytes(), ascan.samples.dtype, ascan.fs_hz, ascan.t0_us, ascan.seq, ascan.t_ns,
            ascan.gain_db, ascan.channel, ascan.rf)
