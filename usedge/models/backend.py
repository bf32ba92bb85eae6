"""A network of torch where a runtime is asked for: on the workstation, before anything is exported."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


class TorchBackend:
    """``model`` as a backend, in fp32."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model.eval()

    @torch.inference_mode()
    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Answers (b, 3l + 1) to ``x (b, n_samples)``."""
        return np.asarray(self._model(torch.from_numpy(x)).numpy(), np.float32)

    def close(self) -> None:
        """Nothing to free."""
