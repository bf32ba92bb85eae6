"""Files written whole or not at all, and runs that cannot begin: one line, and nothing left behind."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from usedge.errors import InputError
from usedge.files import write_whole


def test_a_file_system_that_takes_nothing_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path
                                                      ) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(InputError, match=r"a\.json cannot be written \(Read-only file system\)"):
        write_whole(tmp_path / "a.json", b"{}")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "a.npz"
    x = np.random.default_rng(0).normal(0, 20, (3, 400)).astype(np.int16)
    np.savez(path, x=x, fs_hz=20e6, t0_s=0.0, tof_s=np.full(3, np.nan))
    return path


@pytest.mark.parametrize(("arguments", "says"), [
    (("--record", "{here}/a.npz"), "exists already, and is not overwritten"),
    (("--record", "{here}/none/a.usrec"), "cannot be used"),
    (("--summary", "{here}/none/s.json"), "cannot be written. Name a file in a folder that exists"),
])
def test_a_run_that_cannot_begin_says_so_in_one_line(arguments: tuple[str, ...], says: str, stored: Path
                                                     ) -> None:
    asked = [each.format(here=stored.parent) for each in arguments]
    words = ["run", "--port", f"replay:{stored}", "--runtime", "classical", *asked]
    run = subprocess.run([sys.executable, "-m", "usedge", *words], capture_output=True, text=True,
                         timeout=120, check=False)
    assert (run.returncode, run.stdout, len(run.stderr.splitlines())) == (2, "", 1), run.stderr
    assert says in run.stderr
    assert sorted(each.name for each in stored.parent.iterdir()) == ["a.npz"]
