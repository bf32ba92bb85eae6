"""What all tests, and every command that they start, have in common."""

from __future__ import annotations

import os
import signal

# The fastest runtime differs from host to host, and may from day to day; what is tested must not.
os.environ["USEDGE_RUNTIME"] = "litert"
# A shell's job in the background ignores Ctrl-C, and so would every command that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
