"""What is known about a board: its profile, which one this is, its budget, what a bundle should cost there.

``profile.py`` reads ``boards/*.toml`` by the rules of ``schema.py``, ``detect.py`` finds the board that a
machine is, ``judge.py`` holds a report against a budget. ``work.py`` counts the operations of a network,
``predict.py`` turns them into time, ``instructions.py`` gives a second opinion.
"""

from usedge.boards.detect import Detected, detect
from usedge.boards.profile import BoardProfile, every_board, load_board, read_board

__all__ = ["BoardProfile", "Detected", "detect", "every_board", "load_board", "read_board"]
