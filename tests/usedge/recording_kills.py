"""Recordings killed at random moments; ``python -m tests.usedge.recording_kills 100`` tells the losses."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.usedge.recordings import read
from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.recording.reader import Findings
from usedge.recording.repair import recover
from usedge.synth import generate

DEADLINE_S = 120
ARGUMENTS = ["run", "--port", "sim://?prf=200&ascans=16", "--runtime", "classical", "--record"]
SENT = generate("field", 16, 0).x


@dataclass(frozen=True)
class Killed:
    """What was left: A-scans a reader had seen in the file before the kill, those found after it, the file as
    it was found and as it is after recovery, the newest reading's time, the recording's last.
    """

    seen: int
    ascans: list[AScan]
    found: Findings
    after: Findings
    lost_s: float


def kill_one(path: Path, seed: int) -> Killed:
    """Run `usedge run --record`, kill -9 it at a random moment once it has begun, recover the file."""
    spoken = path.with_suffix(".jsonl")
    with spoken.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "usedge", *ARGUMENTS, str(path)], stdout=file,
                                   stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + DEADLINE_S
    while not (_count(path) and spoken.stat().st_size):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(random.Random(seed).uniform(0.0, 1.5))
    seen = _count(path)
    process.kill()
    process.wait()
    last_ns = json.loads(spoken.read_text().rpartition("\n")[0].splitlines()[-1])["t_ns"]
    recovered = recover(path)
    ascans, recording = read(path)
    return Killed(seen, ascans, recovered.found, recording.found, (last_ns - ascans[-1].t_ns) * 1e-9)


def _count(path: Path) -> int:
    try:
        return len(read(path)[0])
    except InputError:
        return 0


def check(killed: Killed) -> None:
    """What was in the file is there still, and is what was sent; the recovered file is whole."""
    seqs = [ascan.seq for ascan in killed.ascans]
    assert len(seqs) >= killed.seen > 0
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert all((ascan.samples == SENT[ascan.seq % len(SENT)]).all() for ascan in killed.ascans)
    assert killed.after.whole
    assert killed.after.ascans == killed.found.ascans


def main(n: int) -> None:
    """Kill ``n`` recordings and say what they lost."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(n):
            results.append(kill_one(Path(folder) / f"scan-{seed}.usrec", seed))
            check(results[-1])
    lost = sorted(each.lost_s for each in results)
    sys.stdout.write(
        f"{n} killed, {sum(len(each.ascans) for each in results)} A-scans read back,"
        f" {sum(each.found.torn_bytes > 0 for each in results)} torn files; the newest reading came after the"
        f" last recorded A-scan by {lost[n // 2]:.3f} s (median), {lost[-1]:.3f} s (most)\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
