"""``sim://``: a virtual transducer in a process of its own, read through the same serial code as a board."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from types import TracebackType
from urllib.parse import parse_qsl

from usedge.errors import InputError, LinkError
from usedge.sources import SourceOptions
from usedge.sources.serial_port import SerialSource

OPTIONS = ("prf", "preset", "samples", "seed", "data", "ascans", "as", "faults", "faults-seed", "ledger",
           "link")
START_S = 20.0


class SimSource(SerialSource):
    """``sim://[?prf=50&preset=field&samples=2048&seed=0&data=FILE]``: ``usedge emulate``, by its pty.

    ``as=wulpus`` speaks another protocol; ``faults=flip=0.01,drop=0.01``, ``faults-seed=7`` and
    ``ledger=FILE`` are those of ``usedge emulate``, as are the others.
    """

    def __init__(self, port: str, options: SourceOptions) -> None:
        super().__init__(port, options)
        query = dict(parse_qsl(port.partition("?")[2], keep_blank_values=True))
        unknown = set(query) - set(OPTIONS)
        if unknown:
            raise InputError(f"sim:// has no option {sorted(unknown)[0]!r}.", f"Known: {', '.join(OPTIONS)}.")
        self.cores: set[int] | None = None
        """Cores for the transducer's process; None leaves them to the scheduler."""
        self._arguments = [f"--{name}={value}" for name, value in query.items()]

    def __enter__(self) -> SimSource:
        # A session of its own: Ctrl-C at the terminal must stop the reader first.
        # It leaves when our end of its standard input is closed, by us or by our death.
        self._process = subprocess.Popen([sys.executable, "-m", "usedge", "emulate", "--until-eof",
                                          *self._arguments], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                         start_new_session=True)
        try:
            if self.cores is not None:
                os.sched_setaffinity(self._process.pid, self.cores)
            self.port = self._emulated_port()
            super().__enter__()
        except BaseException:
            self._end_process()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._end_process()

    @property
    def pid(self) -> int:
        """The transducer's process; SIGUSR1 pulls its cable."""
        return self._process.pid

    def may_return(self) -> bool:
        """Whether the transducer's process lives."""
        return self._process.poll() is None

    def _emulated_port(self) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_S)
        port = self._process.stdout.readline().strip() if ready else ""
        if not port:
            _, talk = self._stopped()
            said = talk.strip().splitlines()[-1] if talk.strip() else "it said nothing"
            if self._process.returncode == InputError.exit_code:
                raise InputError(said.removeprefix("usedge: "))
            raise LinkError(f"the virtual transducer did not start: {said}")
        return port

    def _stopped(self) -> tuple[str, str]:
        self._process.terminate()
        try:
            return self._process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.communicate()

    def _end_process(self) -> None:
        if self._process.returncode is None:
            self._stopped()
