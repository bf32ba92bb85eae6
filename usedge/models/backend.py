"""A network of torch where a runtime is asked for: on the workstation, before anything is exported."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from usedge.sparse import Places


class TorchBackend:
    """``model`` as a backend, in fp32."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model.eval()

    @torch.inference_mode()
    def infer(self, x: NDArray[np.float32], places: Places | None = None) -> NDArray[np.float32]:
        """Answers (b, 3l + 1) to ``x (b, n_samples)``, or (b, 3k + 1) on ``places (b, k)``."""
        given = () if places is None else (torch.from_numpy(places),)
        return np.asarray(self._model(torch.from_numpy(x), *given).numpy(), np.float32)

    def close(self) -> None:
        """Nothing to free."""
