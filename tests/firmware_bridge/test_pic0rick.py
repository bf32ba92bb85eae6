"""Stock pic0rick: text, asked for an A-scan at a time."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.firmware_bridge.foreign_streams import (
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
from usedge_firmware.frontend import LinkStats, Request
from usedge_firmware.frontends.pic0rick import END, LONGEST_ANSWER, START, Pic0rickFrontEnd

ROWS = np.random.default_rng(8).integers(-2048, 2048, (5, 60)).astype(np.int16)
SENT = [device("pic0rick").ascan(row, seq=seq, t_us=0) for seq, row in enumerate(ROWS)]
STREAM = b"".join(SENT)
ENDS = np.cumsum([len(each) for each in SENT]).tolist()
RECORDS, _ = decode("pic0rick", STREAM)
IDLE = DeviceState(next_seq=0, sent=0, t_us=0, streaming=False)
POLL = b"start acq 100 100 5000\r\nread\r\n"

positions = st.integers(0, len(STREAM) - 1)
cuts = st.lists(st.integers(0, len(STREAM)), max_size=10)


def answer(body: bytes) -> bytes:
    return START + b"\n" + body + b"\n" + END + b"\n"


def hit_by(position: int) -> int:
    return next(each for each, end in enumerate(ENDS) if position < end)


def others_arrive(stream: bytes, cuts_at: list[int], hit: int) -> LinkStats:
    """All A-scans but ``hit`` arrive whole, after the first two have settled the length."""
    front = Pic0rickFrontEnd(Request())
    events_of(front, STREAM, ())
    records = records_of(events_of(front, stream, cuts_at))
    assert len(records) in (4, 5)
    if len(records) == 5:
        del records[hit]
    expected = [each for index, each in enumerate(RECORDS) if index != hit]
    for got, sent in zip(records, expected, strict=True):
        np.testing.assert_array_equal(got.samples, sent.samples)
    return front.stats


def test_the_answer_is_laid_out_as_documented() -> None:
    sent = device("pic0rick", shift=0).ascan(np.array([-511, -500, 0, 300], np.int16), seq=0, t_us=0)
    assert sent == (b"----------Start of ACQ----------\n1,C,200,32C,\n-----------End of ACQ-----------\n")
    np.testing.assert_array_equal([each.samples for each in RECORDS], np.clip(ROWS >> 3, -511, 511))
    assert {(each.fs_hz, each.t0_us, each.t_us) for each in RECORDS} == {(60e6, 0.0, None)}


@given(cuts)
def test_any_division_gives_the_same_records(cuts_at: list[int]) -> None:
    records, front = decode("pic0rick", STREAM, cuts_at)
    assert_same(records, RECORDS)
    assert front.stats == LinkStats(records=5)


def test_one_byte_at_a_time_gives_the_same_records() -> None:
    assert_same(decode("pic0rick", STREAM, range(len(STREAM)))[0], RECORDS)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 2000), max_size=12))
def test_a_terminal_says_the_same(cuts_at: list[int]) -> None:
    board = device("pic0rick", terminal=True)
    stream = board.boot(IDLE)
    for row in ROWS:
        for order in board.orders(POLL):
            stream += board.reply(order, IDLE)
        stream += board.ascan(row, seq=0, t_us=0)
    records, front = decode("pic0rick", stream, cuts_at)
    assert_same(records, RECORDS)
    assert front.stats == LinkStats(records=5)


@given(positions, cuts)
def test_a_lost_byte_costs_one_answer_at_most(position: int, cuts_at: list[int]) -> None:
    stats = others_arrive(STREAM[:position] + STREAM[position + 1 :], cuts_at, hit_by(position))
    assert stats.corrupted <= 1


@given(positions, st.sampled_from([b"\0", b"-", b",", b"x", b"1"]), cuts)
def test_an_inserted_byte_costs_one_answer_at_most(position: int, extra: bytes, cuts_at: list[int]) -> None:
    others_arrive(STREAM[:position] + extra + STREAM[position:], cuts_at, hit_by(position))


@given(positions, st.integers(0, 7), cuts)
def test_a_flipped_bit_costs_one_answer_at_most(position: int, bit: int, cuts_at: list[int]) -> None:
    damaged = bytearray(STREAM)
    damaged[position] ^= 1 << bit
    assert others_arrive(bytes(damaged), cuts_at, hit_by(position)).corrupted <= 1


@given(st.integers(0, len(STREAM)), st.integers(0, len(STREAM)))
def test_every_whole_answer_of_a_cut_comes(start: int, end: int) -> None:
    begins = [0, *ENDS[:-1]]
    whole = sum(start <= a and b - 1 <= end for a, b in zip(begins, ENDS, strict=True))
    records, front = decode("pic0rick", STREAM[start : max(start, end)])
    assert (len(records), front.stats.resyncs) == (whole, 0)


@given(st.binary(max_size=3000).filter(lambda noise: b"ACQ" not in noise), cuts)
def test_noise_before_the_stream_costs_nothing(noise: bytes, cuts_at: list[int]) -> None:
    records, front = decode("pic0rick", noise + STREAM, cuts_at)
    assert seqs(records) == [0, 1, 2, 3, 4]
    assert front.stats.corrupted == 0


@pytest.mark.parametrize("body", [
    b"1,2,3", b"1,,3,", b"1,2 ,3,", b"1,400,3,", b"1,0200,3,", b"1,2,g,", b"1,2f,3,", b"", b",",
])
def test_a_value_that_is_none_is_corrupted(body: bytes) -> None:
    good = answer(b"1,2,3,")
    records, front = decode("pic0rick", good + good + answer(body) + good)
    assert (seqs(records), front.stats.corrupted) == ([0, 1, 3], 1)


def test_an_answer_without_its_end_or_beginning_is_corrupted() -> None:
    good = answer(b"1,2,3,")
    no_end, no_start = START + b"\n1,2,3,\n", b"1,2,3,\n" + END + b"\n"
    records, front = decode("pic0rick", good + good + no_end + good + no_start + good)
    assert (seqs(records), front.stats.corrupted, front.stats.resyncs) == ([0, 1, 3, 5], 2, 2)
    assert decode("pic0rick", no_start + good)[1].stats.corrupted == 0


def test_a_length_is_believed_when_two_in_a_row_agree() -> None:
    stock, two, three = answer(b"1," * 8000), answer(b"1,2,"), answer(b"1,2,3,")
    front = Pic0rickFrontEnd(Request())
    assert front.feed(two) == []
    assert front.seen == 0
    assert seqs(records_of(front.feed(three + three))) == [1, 2]
    assert seqs(records_of(front.feed(stock + three + stock))) == [4]
    assert front.stats.corrupted == 2
    assert seqs(records_of(front.feed(stock))) == [5, 6]
    assert front.stats.skipped_bytes == len(two.strip()) + len(stock.strip())
    assert seqs(decode("pic0rick", stock + two)[0]) == [0, 1]
    assert seqs(decode("pic0rick", three + stock)[0]) == [1]


def polled(front: Pic0rickFrontEnd, until_s: float, answers_after_s: float = 0.0) -> list[float]:
    """When the front end asked, on a clock in steps of 10 ms, of a board that takes so long to answer."""
    asked, due = [], []
    for tick in range(round(until_s * 100)):
        now = tick / 100
        if due and now >= due[0]:
            front.feed(answer(b"1,2,3,"))
            due.pop(0)
        if front.wants(now):
            asked.append(now)
            due.append(now + answers_after_s)
    return asked


def test_the_host_asks_when_it_has_begun_and_not_after_its_end() -> None:
    front = Pic0rickFrontEnd(Request())
    assert front.probe() == b"\r\nread\r\n"
    assert front.wants(0.0) == b""
    assert front.start() == b""
    assert front.wants(0.0) == POLL
    assert front.stop() == b""
    assert front.wants(9.0) == b""


def test_the_host_asks_at_its_prf_at_most() -> None:
    front = Pic0rickFrontEnd(Request(prf_hz=10.0))
    front.start()
    np.testing.assert_allclose(polled(front, 1.0, 0.02), np.arange(10) / 10, atol=0.011)


def test_without_a_prf_the_next_question_follows_the_answer() -> None:
    front = Pic0rickFrontEnd(Request())
    front.start()
    np.testing.assert_allclose(np.diff(polled(front, 1.0, 0.05)), 0.05, atol=0.011)


def test_a_question_without_an_answer_is_asked_again() -> None:
    front = Pic0rickFrontEnd(Request(prf_hz=50.0))
    front.start()
    np.testing.assert_allclose(polled(front, 3.5, 1e9), [0.0, 1.0, 2.0, 3.0], atol=0.011)


def test_an_answer_that_is_still_coming_is_waited_for() -> None:
    front = Pic0rickFrontEnd(Request())
    front.start()
    front.wants(0.0)
    for second in range(8):
        front.feed(START if not second else b"1,")
        assert front.wants(second * 0.9 + 0.5) == b""
    assert front.wants(9.0) == POLL


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_the_device_finds_its_orders_in_any_division(end: bytes) -> None:
    said = end.join([b"", b"start acq 1 2 3", b"read", b"", b" read ", b"help", b""])
    board = device("pic0rick")
    orders = [order for piece in pieces(said, range(0, len(said), 3)) for order in board.orders(piece)]
    assert [each.kind for each in orders] == ["say", "once", "once", "say"]
    assert {board.reply(each, IDLE) for each in orders} == {b""}


def test_an_empty_ascan_cannot_be_sent() -> None:
    with pytest.raises(UsfpError):
        device("pic0rick").ascan(np.array([], np.int16), seq=0, t_us=0)


def test_memory_stays_bounded_under_the_worst_streams() -> None:
    for stream in (random.Random(1).randbytes(1 << 17), START * 5000, START + b"1,2," * 200_000,
                   b"run> " * 40_000, answer(b"1,2,") + b"-" * 200_000, b"start acq" + b" " * 200_000):
        fed_is_bounded("pic0rick", stream, LONGEST_ANSWER + 4096)


@pytest.mark.parametrize("cut_at", [0, 1, 7, 4096])
def test_the_recorded_answer_decodes_completely(cut_at: int) -> None:
    stream = vector("pic0rick_text/read_8000.txt")
    (got,), front = decode("pic0rick", stream, range(0, len(stream), cut_at) if cut_at else ())
    assert front.stats == LinkStats(records=1)
    codes = [int(each, 16) for each in stream.splitlines()[1].rstrip(b",").split(b",")]
    assert len(codes) == 8000
    np.testing.assert_array_equal(got.samples, np.array(codes) - 512)
