"""What training reads: batches made on the fly from a seed, or taken from a labelled file.

Batch i depends on the seed and on i alone, so a resumed run sees exactly the batches it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from usedge.ascan import cut_gate
from usedge.preprocess import Preprocessor
from usedge.spec import SignalSpec
from usedge.synth import generate

if TYPE_CHECKING:
    from usedge.labelled import LabelledSet

Batch = tuple[Tensor, Tensor]
"""``x (b, n_samples) float32`` normalised, ``onset (b,)`` in patches with NaN = no echo."""

NATIVE_LENGTHS = {
    "field": (300, 400, 512, 564, 640, 800, 1000, 1064, 1250, 1280, 1600, 2000, 2048, 2560, 3200, 4096),
    "paper": (2048,),
}
"""Gate lengths, in native samples, that the presets are drawn at before they are resampled to the grid."""
CHUNK = 64


@dataclass(frozen=True, slots=True)
class SynthStream:
    """Batches of ``batch`` synthetic A-scans; each run of CHUNK of them has one native length."""

    preset: str
    seed: int
    batch: int
    spec: SignalSpec

    def __getitem__(self, index: int) -> Batch:
        parts = [self._chunk(index, part, min(CHUNK, self.batch - part * CHUNK))
                 for part in range(-(-self.batch // CHUNK))]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def _chunk(self, index: int, part: int, n: int) -> Batch:
        lengths = NATIVE_LENGTHS[self.preset]
        length = lengths[np.random.default_rng((self.seed, index, part, 1)).integers(len(lengths))]
        synth = generate(self.preset, n, (self.seed, index, part), length)
        prepared = Preprocessor(self.spec).batch(synth.x)
        onset = synth.onset / (prepared.step * self.spec.patch)
        return torch.from_numpy(prepared.x), torch.from_numpy(onset.astype(np.float32))


@dataclass(frozen=True, slots=True)
class LabelledStream:
    """Batches drawn with replacement, by seed, from a labelled file's gates."""

    x: Tensor
    onset: Tensor
    seed: int
    batch: int

    @classmethod
    def of(cls, labelled: LabelledSet, spec: SignalSpec, seed: int, batch: int) -> LabelledStream:
        """Prepare every gate of ``labelled`` once."""
        preprocess, rows, onsets = Preprocessor(spec), [], []
        for i in range(len(labelled.x)):
            gated = cut_gate(labelled.ascan(i), labelled.gate(i))
            prepared = preprocess(gated)
            rows.append(prepared.x)
            native = (labelled.tof_s[i] * 1e6 - gated.t0_us) / gated.sample_us
            onsets.append(native / (prepared.step * spec.patch))
        onset = torch.from_numpy(np.array(onsets, np.float32))
        return cls(torch.from_numpy(np.concatenate(rows)), onset, seed, batch)

    def __getitem__(self, index: int) -> Batch:
        chosen = np.random.default_rng((self.seed, index)).integers(0, len(self.x), self.batch)
        return self.x[chosen], self.onset[chosen]


Stream = SynthStream | LabelledStream


class _Batches(Dataset[Batch]):
    """The map-style view that a DataLoader wants: item i is batch ``order[i]``."""

    def __init__(self, stream: Stream, order: Sequence[int]) -> None:
        self.stream, self.order = stream, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Batch:
        return self.stream[self.order[index]]


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)


def batches(stream: Stream, order: Sequence[int], workers: int) -> Iterator[Batch]:
    """The batches of ``order``, made ahead by ``workers`` processes (0: in this one)."""
    # Not forked: torch and whatever else runs threads here would be copied in the middle of their work.
    context = "spawn" if workers else None
    loader = DataLoader(_Batches(stream, order), batch_size=None, num_workers=workers,
                        multiprocessing_context=context, prefetch_factor=4 if workers else None,
                        worker_init_fn=_one_thread)
    return iter(loader)
