"""The device of the ports, in C under sanitizers: its clock, link and interrupts are in the test's hand."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest

from usedge_firmware import usfp
from usedge_firmware.usfp import AckStatus, Command, FrameType, Opcode, PayloadFormat

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic"]
SANITIZE = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
N_SAMPLES = 256
FRAME_BYTES = 44 + 2 * N_SAMPLES
MAX_PRF_MHZ = 1_000_000
COUNTS = ("sent", "commands", "overruns", "stalls", "int16_instead", "faults", "lost_bytes")
START, STOP, INFO = Opcode.START, Opcode.STOP, Opcode.INFO
Build = Callable[[int], Path]


@pytest.fixture(scope="module")
def build(compiler: str, room: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Compile the fake board, without or with the coded payload formats."""
    folder = tmp_path_factory.mktemp("device")

    def compiled(coded: int) -> Path:
        program = folder / f"fake_board_{coded}"
        if program.exists():
            return program
        ports, c = room / "ports", room / "c"
        own = [ports / "tests/fake_board.c", ports / "common/usfp_device.c"]
        sources = [*own, *sorted((c / "src").glob("*.c"))]
        command = [compiler, *STRICT, *SANITIZE, f"-DUSFP_DEVICE_CODED={coded}", f"-I{ports / 'common'}",
                   f"-I{c / 'include'}", *map(str, sources), "-o", str(program)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if re.search(r"cannot find .*(asan|ubsan)", done.stderr):
            pytest.skip("this compiler has no sanitizer runtime installed")
        assert done.returncode == 0, done.stderr
        return program

    return compiled


class FakeBoard:
    """A script for the fake board, and what it answered."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self.lines = ["run"]  # the INFO frame of the boot goes out before anything else

    def __call__(self, *lines: str) -> FakeBoard:
        self.lines += lines
        return self

    def receive(self, sent: bytes) -> FakeBoard:
        return self(f"rx {sent.hex()}")

    def command(self, opcode: int, seq: int = 0, payload_format: int = 0, **fields: int) -> FakeBoard:
        return self.receive(bytes_of(opcode, seq, payload_format, **fields))("run")

    def play(self) -> Played:
        script = "\n".join([*self.lines, "counts", ""])
        done = subprocess.run([str(self.program)], input=script, capture_output=True, text=True, check=False,
                              timeout=60)
        assert done.returncode == 0, done.stdout[-300:] + done.stderr
        return Played(done.stdout.splitlines())


class Played:
    """What came of a script: every run's bytes apart, and the frames of all of them together."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.runs = [bytes.fromhex(each[3:]) for each in lines if each.startswith("tx ")]
        self.words = [each for each in lines if not each.startswith(("tx", "counts"))]
        self.counts = dict(zip(COUNTS, map(int, lines[-1].split()[1:]), strict=True))
        decoder = usfp.Decoder()
        frames = decoder.feed(b"".join(self.runs))
        assert decoder.stats.skipped_bytes == 0, decoder.stats
        assert frames[0].type == FrameType.INFO
        self.boot, self.frames = frames[0], frames[1:]

    @property
    def ascans(self) -> list[usfp.Frame]:
        return [each for each in self.frames if each.type == FrameType.ASCAN]

    def told(self) -> list[tuple[int, ...] | str]:
        """Every frame in short: an ACK as (opcode, status, detail, seq), another by its name."""
        return [_told(each) for each in self.frames]


def _told(frame: usfp.Frame) -> tuple[int, ...] | str:
    if frame.type != FrameType.ACK:
        return frame.type.name
    ack = usfp.parse_ack(frame)
    return (ack.opcode, ack.status, ack.detail, frame.seq)


def bytes_of(opcode: int, seq: int = 0, payload_format: int = 0, **fields: int) -> bytes:
    payload = bytearray(Command(opcode, **fields).pack())
    payload[1] = payload_format
    return usfp.encode(usfp.Frame(FrameType.COMMAND, seq=seq, payload=bytes(payload)))


def expected_samples(seq: int, peak: int = 1000) -> list[int]:
    return [(seq * 7 + i * 3) % 41 * peak // 40 for i in range(N_SAMPLES)]


def clock(us: int) -> tuple[str, str]:
    return (f"clock {us}", "run")


@pytest.fixture
def board(build: Build) -> FakeBoard:
    return FakeBoard(build(1))


def test_it_announces_itself_at_boot_and_when_asked_and_sends_nothing_else(board: FakeBoard) -> None:
    played = board.command(INFO, seq=5)(*clock(1_000_000)).play()
    assert played.told() == ["INFO"]
    info = usfp.parse_info(played.frames[0])
    assert (info.session_id, info.name, info.firmware, info.n_samples) == (77, "fake", (1, 2, 3), N_SAMPLES)
    assert info.payload_formats == 0b111
    assert usfp.parse_info(played.boot) == info


def test_without_the_coded_formats_it_announces_and_accepts_int16_only(build: Build) -> None:
    played = FakeBoard(build(0)).command(START, payload_format=1).command(START, payload_format=0).play()
    assert usfp.parse_info(played.boot).payload_formats == 0b001
    assert played.told() == [(START, AckStatus.BAD_ARGUMENT, 0, 0), (START, AckStatus.OK, 0, 0), "ASCAN"]


def test_a_stream_ends_by_its_count_and_says_so_and_a_stop_repeats_it(board: FakeBoard) -> None:
    board.command(START, seq=3, prf_mhz=10_000, count=3)
    for _ in range(5):
        board(*clock(100_000))
    played = board.command(STOP, seq=4).play()
    assert played.told() == [(START, 0, 0, 3), "ASCAN", "ASCAN", "ASCAN", (STOP, 0, 3, 3), (STOP, 0, 3, 4)]
    assert [each.t_us for each in played.ascans] == [0, 100_000, 200_000]
    first = played.ascans[0]
    assert (first.fs_hz, first.t0_ns, first.gain_cdb, first.channel) == (10_000_000, 1500, 2050, 3)
    for each in played.ascans:
        assert each.samples().tolist() == expected_samples(each.seq)


def test_seq_goes_on_from_stream_to_stream(board: FakeBoard) -> None:
    played = board.command(START, seq=1, count=1).command(START, seq=2, count=1).play()
    assert [each.seq for each in played.ascans] == [0, 1]
    assert (START, 0, 1, 2) in played.told()


def test_a_start_during_a_stream_ends_the_old_one_first(board: FakeBoard) -> None:
    played = board.command(START, seq=1)(*clock(20_000)).command(START, seq=2).play()
    assert played.told() == [(START, 0, 0, 1), "ASCAN", "ASCAN", (STOP, 0, 2, 1), (START, 0, 2, 2), "ASCAN"]


def test_a_start_again_before_the_first_ascan_accounts_for_none(board: FakeBoard) -> None:
    twice = bytes_of(START, 1) + bytes_of(START, 2)
    played = board("ready 0").receive(twice)("run").play()
    assert played.told() == [(START, 0, 0, 1), (STOP, 0, 0, 1), (START, 0, 0, 2)]


@pytest.mark.parametrize("room_on_link", [1, 39, 40, 41, 300, FRAME_BYTES - 1])
def test_a_stop_inside_a_frame_waits_for_its_end(board: FakeBoard, room_on_link: int) -> None:
    board.command(START, seq=1, count=0)(f"link {room_on_link}", *clock(20_000))
    played = board.command(STOP, seq=2)("link -1", "run", *clock(1_000_000)).play()
    assert played.told() == [(START, 0, 0, 1), "ASCAN", "ASCAN", (STOP, 0, 2, 2)]
    assert played.runs[-3] == b""  # what it thinks of a STOP, it keeps to itself while a frame is under way


def test_a_stop_without_a_stream_is_answered(board: FakeBoard) -> None:
    assert board.command(STOP, seq=9).play().told() == [(STOP, 0, 0, 9)]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"opcode": 200}, AckStatus.UNKNOWN_OPCODE),
        ({"opcode": 0}, AckStatus.UNKNOWN_OPCODE),
        ({"opcode": START, "payload_format": 3}, AckStatus.BAD_ARGUMENT),
        ({"opcode": START, "payload_format": 16}, AckStatus.BAD_ARGUMENT),
        ({"opcode": START, "payload_format": 255}, AckStatus.BAD_ARGUMENT),
        ({"opcode": START, "prf_mhz": MAX_PRF_MHZ + 1}, AckStatus.BAD_ARGUMENT),
    ],
)
def test_what_it_cannot_do_is_refused_and_the_stream_goes_on(
    board: FakeBoard, fields: dict[str, int], status: AckStatus
) -> None:
    refused = board.command(START, seq=1, count=3)(*clock(20_000)).command(seq=2, **fields)
    played = refused(*clock(20_000)).play()
    answer = (fields["opcode"], status, 0, 2)
    assert played.told() == [(START, 0, 0, 1), "ASCAN", "ASCAN", answer, "ASCAN", (STOP, 0, 3, 1)]


def test_the_fastest_prf_is_still_accepted(board: FakeBoard) -> None:
    assert board.command(START, prf_mhz=MAX_PRF_MHZ).play().told()[0] == (START, AckStatus.OK, 0, 0)


def test_without_a_prf_it_takes_its_own(board: FakeBoard) -> None:
    played = board.command(START)(*clock(19_999), *clock(1), *clock(20_000)).play()
    assert [each.t_us for each in played.ascans] == [0, 20_000, 40_000]


def test_commands_are_obeyed_in_their_order_and_however_they_are_cut(board: FakeBoard) -> None:
    line = bytes_of(INFO, 1) + bytes_of(START, 2, count=1) + bytes_of(99, 3)
    for at in range(0, len(line), 5):
        board.receive(line[at : at + 5])("step")
    played = board("run").play()
    assert played.told() == ["INFO", (START, 0, 0, 2), (99, 1, 0, 3), "ASCAN", (STOP, 0, 1, 2)]


def test_it_finds_commands_among_garbage(board: FakeBoard) -> None:
    chance = Random(20)
    for seq in range(40):
        board.receive(chance.randbytes(60) + usfp.SYNC[: seq % 4])("run").command(STOP, seq=seq)
    answered = {each[3] for each in board.play().told()}
    assert answered == set(range(40))


def test_frames_that_are_no_commands_are_passed_over(board: FakeBoard) -> None:
    echoed = usfp.encode_ack(usfp.Ack(STOP), seq=1) + usfp.encode_log("hello")
    short = usfp.encode(usfp.Frame(FrameType.COMMAND, payload=b"\x01\x00\x00\x00"))
    played = board.receive(echoed + short)("run").command(STOP, seq=7).play()
    assert played.told() == [(STOP, 0, 0, 7)]


def test_a_later_revision_may_append_to_its_commands(board: FakeBoard) -> None:
    longer = usfp.encode(usfp.Frame(FrameType.COMMAND, seq=8, payload=Command(STOP).pack() + bytes(20)))
    assert board.receive(longer)("run").play().told() == [(STOP, 0, 0, 8)]


def test_a_flood_costs_bytes_that_are_counted_and_no_more(board: FakeBoard) -> None:
    flood = Random(7).randbytes(10_000)
    played = board.receive(flood)("run").command(STOP, seq=1).command(STOP, seq=2).play()
    assert played.counts["lost_bytes"] == len(flood) - 256
    assert (STOP, 0, 0, 2) in played.told()


def test_a_flood_does_not_keep_ascans_from_their_time(board: FakeBoard) -> None:
    board.command(START, seq=1, count=10)
    for _ in range(20):
        board.receive(usfp.SYNC * 200)(*clock(20_000))
    played = board.play()
    assert [each.t_us for each in played.ascans] == [20_000 * slot for slot in range(10)]
    assert played.told()[-1] == (STOP, 0, 10, 1)


def test_slots_that_pass_while_the_link_is_busy_are_overruns_and_spend_no_seq(board: FakeBoard) -> None:
    board.command(START, seq=1)("link 10", *clock(20_000))
    played = board(*clock(70_000))("link -1", "run", *clock(10_000)).play()
    assert [each.seq for each in played.ascans] == [0, 1, 2, 3]
    assert [each.t_us for each in played.ascans] == [0, 20_000, 90_000, 100_000]
    assert played.counts["overruns"] == 2
    assert played.counts["sent"] == 4


def test_an_acquisition_that_is_not_ready_is_asked_for_again(board: FakeBoard) -> None:
    played = board("ready 0").command(START, seq=1)("ready 1", "run", "ready 0", *clock(45_000), "ready -1",
                                                    "run").play()
    assert [(each.seq, each.t_us) for each in played.ascans] == [(0, 0), (1, 45_000)]
    assert played.counts["overruns"] == 1


def test_the_schedule_does_not_drift(board: FakeBoard) -> None:
    third_mhz, period_us = 3_000, 10**9 / 3_000
    board.command(START, prf_mhz=third_mhz)
    at = 0
    for slot in range(1, 3200):
        due = -(-(slot * 10**9) // third_mhz)
        board(*clock(due - 1 - at), *clock(1))
        at = due
    times = [each.t_us for each in board.play().ascans]
    # A slot is due at the whole microsecond in which it lies.
    assert all(abs(t - slot * period_us) < 1.0 for slot, t in enumerate(times))
    assert len(times) == 3200


@pytest.mark.parametrize("prf_mhz", [1, 7, 50_000, MAX_PRF_MHZ])
def test_a_clock_that_leaps_far_costs_the_slots_that_went_by(board: FakeBoard, prf_mhz: int) -> None:
    leap_us = 2_500_000_000 + 1
    played = board.command(START, prf_mhz=prf_mhz)(*clock(leap_us)).play()
    slots = leap_us * prf_mhz // 10**9
    assert [each.t_us for each in played.ascans] == [0, leap_us]
    assert played.counts["overruns"] == slots - 1


def test_nobody_reads_so_the_stream_is_dropped_and_another_can_be_started(board: FakeBoard) -> None:
    board.command(START, seq=1, count=2)("link 0", *clock(20_000), *clock(2_000_001), "link -1", "run")
    played = board.command(STOP, seq=2).command(START, seq=3, count=1).play()
    assert played.told() == [(START, 0, 0, 1), "ASCAN", (STOP, 0, 1, 2), (START, 0, 2, 3), "ASCAN",
                             (STOP, 0, 1, 3)]
    assert played.counts["stalls"] == 1
    assert [each.seq for each in played.ascans] == [0, 2]  # 1 was under way when it was given up


def test_a_link_that_takes_a_byte_now_and_then_is_no_stall(board: FakeBoard) -> None:
    board.command(START, seq=1, count=2)("link 0", *clock(20_000))
    for _ in range(20):
        board("link 1", *clock(1_500_000))
    played = board("link -1", "run").play()
    assert played.told() == [(START, 0, 0, 1), "ASCAN", "ASCAN", (STOP, 0, 2, 1)]
    assert played.counts["stalls"] == 0


def test_an_interrupt_between_the_look_and_the_sleep_keeps_it_awake(board: FakeBoard) -> None:
    played = board("step", "wait", "rx 00", "wait", "wait", "step", "wait").play()
    assert played.words == ["step 0", "slept", "awake", "awake", "step 0", "slept"]


@pytest.mark.parametrize("at", range(0, 48, 3))
def test_nothing_lies_in_the_ring_while_it_sleeps(board: FakeBoard, at: int) -> None:
    """A step takes a bounded part of what has come; the rest must keep the main loop awake."""
    logs = usfp.encode_log("x" * 32) * 2
    played = board.receive(b"x" * at + logs + bytes_of(STOP, 5))("run").play()
    assert played.counts["lost_bytes"] == 0
    assert played.told() == [(STOP, 0, 0, 5)]


@pytest.mark.parametrize("payload_format", [PayloadFormat.PACKED12, PayloadFormat.DELTA_RICE])
def test_coded_payloads_decode_to_the_same_samples(board: FakeBoard, payload_format: PayloadFormat) -> None:
    played = board.command(START, payload_format=payload_format, count=2)(*clock(20_000)).play()
    assert [each.payload_format for each in played.ascans] == [payload_format] * 2
    for each in played.ascans:
        np.testing.assert_array_equal(each.samples(), expected_samples(each.seq))
        assert len(each.payload) < 2 * N_SAMPLES


def test_an_ascan_beyond_12_bits_goes_as_int16(board: FakeBoard) -> None:
    board.command(START, payload_format=PayloadFormat.PACKED12)("peak 4000", *clock(20_000))
    played = board("peak 1000", *clock(20_000)).play()
    formats = [PayloadFormat.PACKED12, PayloadFormat.INT16, PayloadFormat.PACKED12]
    assert [each.payload_format for each in played.ascans] == formats
    np.testing.assert_array_equal(played.ascans[1].samples(), expected_samples(1, peak=4000))
    assert played.counts["int16_instead"] == 1
    assert played.counts["faults"] == 0
