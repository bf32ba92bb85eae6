"""What the page on adapting says was measured is what is stored, and its script does without recordings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")

ROOT = Path(__file__).resolve().parents[2]


def script(*words: str) -> str:
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "adapting.py"), *words], capture_output=True,
                          text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_pages_table_is_that_of_the_stored_report() -> None:
    assert script("--table") in (ROOT / "docs" / "adapting.md").read_text()


def test_the_trial_says_so_where_no_ascans_are_recorded(tmp_path: Path) -> None:
    assert "no recorded A-scans" in script("tof/last", str(tmp_path))
