"""Torture passes for a sound decoder, the same for the same seed, and fails for every broken one."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from usedge_firmware import torture as bench
from usedge_firmware.decoder import Decoder
from usedge_firmware.faults import FaultPlanError
from usedge_firmware.frame import Frame
from usedge_firmware.ledger import read_ledger
from usedge_firmware.native import NativeEncoder
from usedge_firmware.torture import DEFAULT_PLAN, torture

FIGURES = ("sent", "received", "lost", "corrupted", "duplicated", "false_accepts", "unaccounted", "faults")


def test_20000_frames_under_all_faults_are_accounted_for() -> None:
    verdict = torture(20_000, seed=7)
    assert verdict.passed, verdict
    assert verdict.sent == 20_000 == verdict.received + verdict.lost + verdict.corrupted
    assert min(verdict.lost, verdict.corrupted, verdict.duplicated, verdict.resyncs, verdict.messages) > 50
    planned = {word.partition("=")[0] for word in DEFAULT_PLAN.split(",")} - {"disconnect"}
    assert planned <= verdict.faults.keys()
    assert max(verdict.worst_cost[name] for name in planned - {"burst", "baud"}) == 1


def test_the_same_seed_gives_the_same_figures() -> None:
    runs = [torture(2000, seed=seed) for seed in (3, 3, 4)]
    first, again, other = ({name: getattr(run, name) for name in FIGURES} for run in runs)
    assert first == again != other


@pytest.mark.parametrize(
    ("spec", "worst"),
    [
        ("flip=0.03", 1), ("loss=0.03:300", 1), ("insert=0.03:300", 1), ("burst=0.03:48", 2),
        ("truncate=0.03", 1), ("drop=0.03", 1), ("duplicate=0.03", 0), ("reorder=0.03", 0), ("text=0.03", 0),
        ("stall=0.01:0.001", 0), ("saturate=0.03", 0), ("disconnect=0.01:0.001", 1), ("baud=0.01:4", 4),
    ],
)
def test_one_fault_costs_one_frame_at_most(spec: str, worst: int) -> None:
    name = spec.partition("=")[0]
    verdict = torture(1500, seed=2, spec=spec)
    assert verdict.passed, verdict
    assert verdict.faults[name] > 3
    assert verdict.worst_cost == {name: worst}


def test_faults_that_run_over_many_frames_and_into_others_are_accounted_for() -> None:
    spec = "flip=0.1,loss=0.1:3000,insert=0.1:500,burst=0.05:9000,truncate=0.08,drop=0.1,duplicate=0.1,"
    verdict = torture(4000, seed=11, spec=spec + "reorder=0.2,text=0.1,baud=0.01:20,saturate=0.1:100")
    assert verdict.passed, verdict
    assert verdict.received < verdict.corrupted


def test_the_c_decoder_is_as_good(native: NativeEncoder) -> None:
    verdict = torture(5000, seed=7, decoder=native.decoder())
    assert verdict.passed, verdict
    python = torture(5000, seed=7)
    assert [getattr(verdict, name) for name in FIGURES] == [getattr(python, name) for name in FIGURES]


def test_a_decoder_that_skips_the_crc_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    class Believing:
        """zlib to a decoder that compares each CRC with itself."""

        @staticmethod
        def crc32(content: Any, start: int = 0) -> Any:
            return _Anything(zlib.crc32(content, start))

    monkeypatch.setattr("usedge_firmware.decoder.zlib", Believing)
    verdict = torture(2000, seed=1, spec="flip=0.1")
    assert verdict.false_accepts > 0
    assert not verdict.passed


class _Anything(int):
    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        return True


class Forgetful(Decoder):
    """Loses one frame in 500, and may hide it in its own count of bytes."""

    def __init__(self, *, honest: bool) -> None:
        super().__init__()
        self._honest = honest
        self._n = 0

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        kept = []
        for frame in super().feed(data):
            self._n += 1
            if self._n % 500:
                kept.append(frame)
            elif self._honest:
                self.stats.skipped_bytes += 44 + len(frame.payload)
        return kept


@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("spec", ["", DEFAULT_PLAN])
def test_a_decoder_that_loses_a_frame_is_caught(honest: bool, spec: str) -> None:
    verdict = torture(2000, seed=1, spec=spec, decoder=Forgetful(honest=honest))
    assert verdict.unaccounted > 0
    assert not verdict.passed


class Repeating(Decoder):
    """Returns one frame in 500 twice."""

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        frames = super().feed(data)
        return [each for frame in frames for each in [frame] * (2 if frame.t_us % 500 == 9 else 1)]


class Greedy(Decoder):
    """Goes on behind a damaged frame's announced end, as without a second look at its bytes."""

    def _take_frame(self, frames: list[Frame]) -> None:
        end, errors = self._end, self.stats.crc_errors
        super()._take_frame(frames)
        if self.stats.crc_errors > errors:
            self._skip_to(end)


@pytest.mark.parametrize("decoder", [Repeating(), Greedy()])
def test_other_broken_decoders_are_caught(decoder: Decoder) -> None:
    verdict = torture(4000, seed=1, decoder=decoder)
    assert verdict.unaccounted > 0


def test_the_ledger_of_a_run_bears_its_totals(tmp_path: Path) -> None:
    verdict = torture(1000, seed=6, ledger=tmp_path / "ledger")
    header, _, totals = read_ledger(tmp_path / "ledger")
    assert header["seed"] == 6
    assert (totals["sent"], totals["dropped"], totals["damaged"]) == (1000, verdict.lost, verdict.corrupted)


@pytest.mark.parametrize("spec", ["jitter=1us", "drift=1ppm", "reset=0.1"])
def test_what_needs_a_clock_is_refused(spec: str) -> None:
    with pytest.raises(FaultPlanError, match="emulate"):
        torture(1, seed=1, spec=spec)


def test_a_sender_that_fails_is_not_taken_for_a_silent_link(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError("no frame")

    monkeypatch.setattr(bench.Sender, "_ascan", fail)
    with pytest.raises(MemoryError, match="no frame"):
        torture(10, seed=1)


def test_the_last_line_is_one_object_and_the_status_says_whether_it_passed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, native: NativeEncoder
) -> None:
    assert bench.main(["--frames", "300", "--seed", "1", "--faults", "flip=0.05"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(figures)[:7] == [*FIGURES[:7]]
    assert list(figures)[7:9] == ["resyncs", "seconds"]
    assert bench.main(["--frames", "300", "--seed", "1", "--decoder", "c"]) == 0
    monkeypatch.setattr(bench, "Decoder", lambda: Forgetful(honest=True))
    assert bench.main(["--frames", "2000", "--seed", "1"]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--faults", "flop=1"], "nearest is 'flip'"), (["--frames", "0"], "not 0"), (["--seed", "x"], "'x'"),
        (["--ledger", "/no/such/ledger"], "/no/such/ledger"),
    ],
)
def test_a_command_that_makes_no_sense_ends_with_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as ending:
        bench.main(arguments)
    assert ending.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
