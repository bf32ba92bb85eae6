"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from usedge.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Write ``path`` under a temporary name, sync, rename it into place; InputError where that fails."""
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written ({error.strerror}).",
                         "Check the folder and its permissions.") from None
