"""Converters talk on stdout, from Python and from C++ alike; here they are kept quiet."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from usedge.errors import InputError


@contextmanager
def quiet(tool: str) -> Iterator[None]:
    """Send all that the process writes to a file that is thrown away, and silence warnings.

    Whatever ``tool`` raises becomes an InputError of one line, with the tool's own error as its cause.
    """
    try:
        with tempfile.TemporaryFile() as sink, _descriptors_to(sink.fileno()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # To sys.stderr, not to a file of our own: logging handlers made meanwhile outlive this block.
            with redirect_stdout(sys.stderr):
                yield
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{tool} could not convert the model: {reason:.200}.",
                         "Run with --traceback for the whole of it.") from error


@contextmanager
def _descriptors_to(target: int) -> Iterator[None]:
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(descriptor, os.dup(descriptor)) for descriptor in (1, 2)]
    try:
        for descriptor, _ in kept:
            os.dup2(target, descriptor)
        yield
    finally:
        sys.stderr.flush()
        for descriptor, copy in kept:
            os.dup2(copy, descriptor)
            os.close(copy)
