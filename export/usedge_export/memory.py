"""What a process that has loaded a variant and inferred once holds in memory."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from usedge.backends import open_backend
from usedge.meter import rss_mb
backend = open_backend(sys.argv[1], Path(sys.argv[2]).read_bytes())
backend.infer(np.zeros((1, int(sys.argv[3])), np.float32))
print(rss_mb())
"""
PATIENCE_S = 120.0


def rss_mb(name: str, content: bytes, n_samples: int) -> float | None:
    """Resident memory, MB (10^6 bytes), of a fresh process with the variant ``name``; None where there is no
    /proc, or the variant does not run alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model"
        file.write_bytes(content)
        words = [sys.executable, "-c", PROGRAM, name.partition("-")[0], str(file), str(n_samples)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
    told = float(done.stdout)
    return None if math.isnan(told) else round(told, 1)
