"""What a checkpoint answers on labelled A-scans, for ``usedge bench accuracy``, which must not import torch.

``python -m usedge.training.picks CHECKPOINT FILE OUT.npz`` writes ``tof_s (n,)`` after the main bang, NaN
where it gives none, and ``confidence (n,)``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from usedge.errors import InputError, UsedgeError
from usedge.labelled import LabelledSet, load_labelled
from usedge.models.backend import TorchBackend
from usedge.models.checkpoint import Checkpoint, load_checkpoint
from usedge.runtime.evaluate import LOW_CONFIDENCE, Predictions, gates_of, place_all
from usedge.runtime.passes import Passes
from usedge.training.adapt import no_echo_limit


def predict(checkpoint: Checkpoint, labelled: LabelledSet) -> Predictions:
    """The picks of a ToF checkpoint, a transformer or a CNN, by both passes; raises InputError for another
    kind.
    """
    if checkpoint.kind != "tof":
        raise InputError(f"this is a {checkpoint.kind} checkpoint, which gives no ToF.",
                         "Give one of `usedge finetune --task tof`.")
    limit, passes = no_echo_limit(checkpoint), Passes(checkpoint.spec, TorchBackend(checkpoint.model()))
    return place_all(passes, gates_of(labelled), limit, LOW_CONFIDENCE)


def main() -> int:
    """Write the picks; 2 and a line on stderr where there can be none."""
    checkpoint, file, out = map(Path, sys.argv[1:4])
    torch.set_num_threads(1)  # one gate at a time gives several threads nothing to share
    try:
        found = predict(load_checkpoint(checkpoint), load_labelled(file))
    except UsedgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    np.savez(out, tof_s=found.tof_s, confidence=found.confidence)
    return 0


if __name__ == "__main__":
    sys.exit(main())
