"""What all tests, and every command that they start, have in common."""

from __future__ import annotations

import os

# The fastest runtime differs from host to host, and may from day to day; what is tested must not.
os.environ["USEDGE_RUNTIME"] = "litert"
