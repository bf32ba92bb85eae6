"""WULPUS records: a marker, a length, no CRC. What such a wire shows is counted; what it hides is stated."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.firmware_bridge.foreign_streams import (
    SHARED,
    assert_same,
    decode,
    device,
    events_of,
    fed_is_bounded,
    pieces,
    records_of,
    seqs,
    vector,
)
from usedge_firmware.dialect import DeviceState
from usedge_firmware.frame import UsfpError
from usedge_firmware.frontend import LinkStats, Request, Started
from usedge_firmware.frontends.wulpus import (
    FS_HZ,
    MARKER,
    RECORD_SIZE,
    RESTART,
    WulpusConfig,
    WulpusFrontEnd,
)

ROWS = np.random.default_rng(5).integers(-2048, 2048, (8, 400)).astype(np.int16)
SENT = [device("wulpus").ascan(row, seq=seq, t_us=0) for seq, row in enumerate(ROWS)]
STREAM = b"".join(SENT)
RECORDS, _ = decode("wulpus", STREAM)
IDLE = DeviceState(next_seq=0, sent=0, t_us=0, streaming=False)

positions = st.integers(0, len(STREAM) - 1)
cuts = st.lists(st.integers(0, len(STREAM)), max_size=12)


def received(stream: bytes, cuts_at: list[int]) -> tuple[list[int], LinkStats]:
    """The numbers that arrive, each with its own samples unless doubt was cast, and a balanced account."""
    records, front = decode("wulpus", stream, cuts_at)
    assert RECORD_SIZE * len(records) + front.stats.skipped_bytes == len(stream)
    return seqs(records), front.stats


def record(seq: int, payload: bytes) -> bytes:
    return MARKER + struct.pack("<BH", 0, seq) + payload


def test_the_record_is_laid_out_as_documented() -> None:
    assert [len(each) for each in SENT] == [813] * 8
    assert SENT[3][:13].hex(" ") == "53 54 41 52 54 0a 00 00 00 ff 00 03 00"
    assert SENT[3][13:] == ROWS[3].astype("<i2").tobytes()
    np.testing.assert_array_equal([each.samples for each in RECORDS], ROWS)
    assert {(each.fs_hz, each.t0_us, each.t_us, each.rf) for each in RECORDS} == {(8e6, 3.0, None, True)}


@given(cuts)
def test_any_division_gives_the_same_records(cuts_at: list[int]) -> None:
    records, front = decode("wulpus", STREAM, cuts_at)
    assert_same(records, RECORDS)
    assert front.stats == LinkStats(records=8)


def test_one_byte_at_a_time_gives_the_same_records() -> None:
    assert_same(decode("wulpus", STREAM, range(len(STREAM)))[0], RECORDS)


@given(positions, cuts)
def test_a_lost_byte_costs_its_record(position: int, cuts_at: list[int]) -> None:
    arrived, stats = received(STREAM[:position] + STREAM[position + 1 :], cuts_at)
    hit = position // RECORD_SIZE
    assert arrived == [each for each in range(8) if each != hit]
    if 0 < hit < 7:
        assert stats.corrupted == 1


@given(positions, st.binary(min_size=1, max_size=1), cuts)
def test_an_inserted_byte_costs_its_record_at_most(position: int, extra: bytes, cuts_at: list[int]) -> None:
    records, front = decode("wulpus", STREAM[:position] + extra + STREAM[position:], cuts_at)
    hit = position // RECORD_SIZE
    if len(records) == 8:
        del records[hit]  # its number may be damaged; if it is the first, all others count on from there
    assert [each.seq % 2**16 for each in records] == [each for each in range(8) if each != hit]
    spared = [RECORDS[each % 2**16].samples for each in seqs(records)]
    np.testing.assert_array_equal([each.samples for each in records], spared)
    if position % RECORD_SIZE >= 13:
        assert front.stats == LinkStats(8, resyncs=1, skipped_bytes=1, doubtful=1)


@given(st.integers(1, 7), st.integers(0, 9), st.integers(0, 7), cuts)
def test_a_flipped_bit_in_a_marker_costs_its_record(hit: int, at: int, bit: int, cuts_at: list[int]) -> None:
    damaged = bytearray(STREAM)
    damaged[hit * RECORD_SIZE + at] ^= 1 << bit
    arrived, stats = received(bytes(damaged), cuts_at)
    assert arrived == [each for each in range(8) if each != hit]
    assert (stats.corrupted, stats.doubtful) == (1, 0)


@given(st.integers(0, 7), st.integers(13, 812), st.integers(0, 7))
def test_a_flipped_bit_in_the_samples_is_not_seen_as_stated(hit: int, at: int, bit: int) -> None:
    damaged = bytearray(STREAM)
    damaged[hit * RECORD_SIZE + at] ^= 1 << bit
    arrived, stats = received(bytes(damaged), [])
    assert (arrived, stats) == (list(range(8)), LinkStats(records=8))


@given(st.integers(0, 7))
def test_a_record_that_comes_twice_costs_nothing(twice: int) -> None:
    stream = STREAM[: (twice + 1) * RECORD_SIZE] + STREAM[twice * RECORD_SIZE :]
    arrived, stats = received(stream, [])
    assert arrived == [*range(twice + 1), *range(twice, 8)]
    assert stats == LinkStats(records=9)


@given(st.integers(0, len(STREAM)), st.integers(0, len(STREAM)))
def test_every_whole_record_of_a_cut_comes_and_nothing_counts_as_damaged(start: int, end: int) -> None:
    first, last = -(-start // RECORD_SIZE), end // RECORD_SIZE
    arrived, stats = received(STREAM[start : max(start, end)], [])
    assert arrived == list(range(first, last))
    assert (stats.corrupted, stats.doubtful, stats.resyncs) == (0, 0, 0)


@given(st.binary(max_size=2000).filter(lambda noise: MARKER not in noise), cuts)
def test_noise_before_the_stream_costs_nothing(noise: bytes, cuts_at: list[int]) -> None:
    arrived, stats = received(noise + STREAM, cuts_at)
    assert arrived == list(range(8))
    assert (stats.corrupted, stats.skipped_bytes) == (0, len(noise))


@pytest.mark.parametrize("length", range(1, len(MARKER)))
def test_a_tail_that_could_begin_a_marker_is_held_until_the_next_bytes_decide(length: int) -> None:
    looks_so = record(1, bytes(800 - length) + MARKER[:length])
    front = WulpusFrontEnd(Request())
    assert seqs(records_of(front.feed(SENT[0] + looks_so))) == [0]
    assert seqs(records_of(front.feed(SENT[2]))) == [1, 2]
    assert front.stats == LinkStats(records=3)

    lost_so_many = SENT[1][:-length]
    front = WulpusFrontEnd(Request())
    assert seqs(records_of(front.feed(SENT[0] + lost_so_many + MARKER[:length]))) == [0]
    assert seqs(records_of(front.feed(SENT[2][length:]))) == [2]
    assert (front.stats.corrupted, front.stats.doubtful) == (1, 0)

    records, front = decode("wulpus", SENT[0] + looks_so)
    assert (seqs(records), front.stats.doubtful) == ([0, 1], 1)


def numbers(*wire: int, may_restart: bool = False) -> list[int]:
    front = WulpusFrontEnd(Request())
    if may_restart:
        front.probe()
    return seqs(records_of(front.feed(b"".join(record(each, bytes(800)) for each in wire))))


def test_numbers_go_on_over_the_wrap() -> None:
    assert numbers(65534, 65535, 0, 1) == [65534, 65535, 65536, 65537]
    assert numbers(65530, 3, 1, 2) == [65530, 65539, 65537, 65538]


@pytest.mark.parametrize("bit", range(16))
@pytest.mark.parametrize("first", [100, 65500, 32767])
def test_one_damaged_number_moves_no_other(first: int, bit: int) -> None:
    wire = [first, first + 1, (first + 2) ^ 1 << bit, first + 3, first + 4]
    arrived = numbers(*wire)
    assert [*arrived[:2], *arrived[3:]] == [first, first + 1, first + 3, first + 4]


def test_a_jump_that_goes_on_is_believed() -> None:
    assert numbers(10, 30_000, 30_001, 60_000, 60_001, 24_464) == [10, 30_000, 30_001, 60_000, 60_001, 90_000]


def test_a_board_that_starts_anew_after_our_config_says_so() -> None:
    front = WulpusFrontEnd(Request())
    front.feed(record(500, bytes(800)))
    assert front.start() != b""
    events = front.feed(record(0, bytes(800)) + record(1, bytes(800)))
    assert isinstance(events[0], Started)
    assert seqs(records_of(events)) == [0, 1]
    assert numbers(7, 7, 6, 7) == [7, 7, 6, 7]


def test_a_late_record_after_our_config_is_no_new_start() -> None:
    front = WulpusFrontEnd(Request())
    front.probe()
    wire = [1, 0, *range(2, 300), 7, 300]
    events = front.feed(b"".join(record(each, bytes(800)) for each in wire))
    assert seqs(records_of(events)) == wire
    assert not [each for each in events if isinstance(each, Started)]


def test_what_the_host_knows_of_the_wire_is_taken() -> None:
    (first, *_), front = decode("wulpus", STREAM, fs_hz=4e6, t0_us=11.5, prf_hz=10.0)
    assert (first.fs_hz, first.t0_us) == (4e6, 11.5)
    assert FS_HZ[front.config.osr_index] == 4_000_000
    assert front.config.prf_hz == pytest.approx(10.0, rel=1e-3)


def test_memory_stays_bounded_under_the_worst_streams() -> None:
    for stream in (random.Random(1).randbytes(1 << 18), MARKER * 20_000, b"START\n" * 30_000, bytes(1 << 18)):
        fed_is_bounded("wulpus", stream, RECORD_SIZE + 4096)


configs = st.builds(
    WulpusConfig, period_ticks=st.integers(655, 65535), dcdc_ticks=st.integers(0, 65535),
    osr_index=st.integers(0, 4), gain_register=st.integers(17, 63), n_samples=st.integers(0, 400),
    tx_rx=st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 65535)), max_size=8).map(tuple),
)


@given(configs)
def test_a_config_packet_survives_the_wire(config: WulpusConfig) -> None:
    packet = config.pack()
    assert len(packet) == 68
    assert WulpusConfig.unpack(packet) == config


def test_the_config_packet_is_laid_out_as_documented() -> None:
    packet = WulpusConfig().pack()
    assert packet[:24].hex(" ") == (
        "fa 64 00 8f 02 10 55 22 00 10 55 22 00 02 00 00 20 03 20 01 02 00 01 00"
    )
    assert struct.unpack_from("<7H", packet, 24) == (4000, 2500, 25, 25, 2515, 937, 3750)
    assert not any(packet[38:])
    assert WulpusConfig().t0_us == 3.0


@pytest.mark.parametrize(
    ("prf_hz", "ticks"), [(0.0, 655), (1000.0, 655), (40.0, 819), (1.0, 32768), (0.1, 65535)]
)
def test_a_prf_becomes_the_nearest_period(prf_hz: float, ticks: int) -> None:
    assert WulpusConfig.asked_by(Request(prf_hz=prf_hz)).period_ticks == ticks


@pytest.mark.parametrize("config", [WulpusConfig(dcdc_ticks=65536), WulpusConfig(tx_rx=((1, 1),) * 9),
                                    WulpusConfig(tx_rx=((65536, 0),)), WulpusConfig(gain_register=-1)])
def test_a_setting_that_does_not_fit_is_refused(config: WulpusConfig) -> None:
    with pytest.raises(UsfpError):
        config.pack()


@given(st.binary(max_size=60), st.lists(st.integers(0, 300)))
def test_a_device_finds_its_orders_in_any_division(noise: bytes, cuts_at: list[int]) -> None:
    host = WulpusFrontEnd(Request(prf_hz=40.0))
    said = noise + host.start() + b"\xfa\xfb" + noise + host.stop()
    board = device("wulpus")
    orders = [order for piece in pieces(said, cuts_at) for order in board.orders(piece)]
    assert [each.kind for each in orders] == ["start", "stop"]
    assert orders[0].prf_mhz == round(32_768_000 / 819)
    assert [board.reply(each, IDLE) for each in orders] == [b"", b""]


def test_start_says_nothing_twice_and_a_seen_board_is_not_probed() -> None:
    front = WulpusFrontEnd(Request())
    assert front.probe() == front.config.pack()
    assert front.start() == b""
    front.feed(STREAM)
    assert [front.probe() for _ in range(9)] == [b""] * 9
    assert front.stop() == RESTART
    assert front.start() == front.config.pack()


def test_probes_grow_rare_so_that_a_slow_board_can_answer() -> None:
    front = WulpusFrontEnd(Request())
    assert [bool(front.probe()) for _ in range(11)] == [each in (0, 1, 3, 6, 10) for each in range(11)]


@pytest.mark.parametrize("n_samples", [0, 1, 399, 400, 401, 2048])
def test_ascans_of_other_lengths_are_cut_or_filled_up(n_samples: int) -> None:
    samples = np.arange(1, n_samples + 1, dtype=np.int16)
    (got,), _ = decode("wulpus", device("wulpus", n_samples).ascan(samples, seq=65537, t_us=0))
    np.testing.assert_array_equal(got.samples, np.pad(samples[:400], (0, max(0, 400 - n_samples))))
    assert got.seq == 1


def test_channels_cycle_as_configured() -> None:
    board = device("wulpus")
    for order in board.orders(WulpusConfig(tx_rx=((2, 1), (8, 4), (32, 16))).pack()):
        board.reply(order, IDLE)
    records, _ = decode("wulpus", b"".join(board.ascan(ROWS[0], seq=seq, t_us=0) for seq in range(5)))
    assert [each.channel for each in records] == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("cut_at", [0, 1, 7, 4096])
def test_the_recorded_stream_decodes_completely(cut_at: int) -> None:
    stream = vector("wulpus/wulpus_usb_200frames.bin")
    records, front = decode("wulpus", stream, range(0, len(stream), cut_at) if cut_at else ())
    assert seqs(records) == list(range(65436, 65636))
    assert [each.channel for each in records] == [each % 8 for each in range(200)]
    assert front.stats == LinkStats(records=200)
    with np.load(SHARED / "data" / "wulpus_carotid" / "carotid_8.npz") as file:  # lies beside the vectors
        np.testing.assert_array_equal([each.samples for each in records], file["x"][:200])


def test_reset_forgets_the_bytes_held_and_the_numbering() -> None:
    front = WulpusFrontEnd(Request())
    front.feed(record(60_000, bytes(800)) + SENT[0][:500])
    front.reset()
    assert seqs(records_of(events_of(front, SENT[3]))) == [3]
    assert front.stats == LinkStats(records=2, skipped_bytes=500)
