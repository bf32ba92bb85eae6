"""P0RK frames: a payload under a CRC, a header that must make sense, and text between them."""

from __future__ import annotations

import json
import math
import random
import zlib
from dataclasses import replace
from typing import Any

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
from usedge_firmware.frontend import Ended, LinkStats, Record, Refused, Request, Said, Started
from usedge_firmware.frontends.p0rk import ALAW_LEVELS, Header, P0rkFrontEnd

ROWS = np.random.default_rng(6).integers(-2048, 2048, (6, 96)).astype(np.int16)
SENT = [device("p0rk").ascan(row, seq=seq, t_us=1000 * seq) for seq, row in enumerate(ROWS)]
SIZE = 64 + 2 * 96
STREAM = b"".join(SENT)
RECORDS, _ = decode("p0rk", STREAM)
STREAMING = DeviceState(next_seq=9, sent=4, t_us=0, streaming=True)

positions = st.integers(0, len(STREAM) - 1)
cuts = st.lists(st.integers(0, len(STREAM)), max_size=12)


def noise_up_to(n_bytes: int) -> st.SearchStrategy[bytes]:
    """Bytes among which no line of text is an answer: those are understood, not noise."""
    noises = st.binary(min_size=1, max_size=n_bytes)
    return noises.filter(lambda noise: b"OK" not in noise and b"ERR" not in noise)


def received(stream: bytes, cuts_at: list[int]) -> tuple[list[int], LinkStats]:
    records, front = decode("p0rk", stream, cuts_at)
    assert SIZE * len(records) + front.stats.skipped_bytes == len(stream)
    assert all(np.array_equal(each.samples, RECORDS[each.seq].samples) for each in records if each.seq < 6)
    return seqs(records), front.stats


def spared(hit: int) -> list[int]:
    return [each for each in range(6) if each != hit]


def test_the_frame_is_laid_out_as_documented() -> None:
    header = Header.unpack_from(SENT[2])
    assert SENT[2][:8].hex(" ") == "50 30 52 4b 01 01 00 00"
    assert (header.seq, header.sample_count, header.rate, header.payload_bytes) == (2, 96, 8_000_000, 192)
    assert header.crc == zlib.crc32(SENT[2][64:])
    assert header.pack() == SENT[2][:64]
    assert header.timestamp_us == RECORDS[2].t_us == 2000


def test_ten_bits_are_taken_by_a_fixed_shift_and_come_back_about_zero() -> None:
    np.testing.assert_array_equal([each.samples for each in RECORDS], np.clip(ROWS >> 3, -511, 511))
    counts = np.array([-2048, -512, -1, 0, 511, 512], np.int16)
    (got,), _ = decode("p0rk", device("p0rk", shift=0).ascan(counts, seq=0, t_us=0))
    assert got.samples.tolist() == [-511, -511, -1, 0, 511, 511]


@given(cuts)
def test_any_division_gives_the_same_records(cuts_at: list[int]) -> None:
    records, front = decode("p0rk", STREAM, cuts_at)
    assert_same(records, RECORDS)
    assert front.stats == LinkStats(records=6)


def test_one_byte_at_a_time_gives_the_same_records() -> None:
    assert_same(decode("p0rk", STREAM, range(len(STREAM)))[0], RECORDS)


@given(positions, cuts)
def test_a_lost_byte_costs_one_frame(position: int, cuts_at: list[int]) -> None:
    arrived, stats = received(STREAM[:position] + STREAM[position + 1 :], cuts_at)
    assert arrived == spared(position // SIZE)
    assert stats.corrupted <= 1


@given(positions, noise_up_to(8), cuts)
def test_inserted_bytes_cost_one_frame_at_most(position: int, noise: bytes, cuts_at: list[int]) -> None:
    arrived, _ = received(STREAM[:position] + noise + STREAM[position:], cuts_at)
    hit = position // SIZE if position % SIZE else None
    assert [each for each in arrived if each != hit] == [each for each in range(6) if each != hit]


@given(st.integers(0, 5), st.integers(64, SIZE - 1), st.integers(0, 7), cuts)
def test_a_flipped_bit_in_the_payload_costs_its_frame(
    hit: int, at: int, bit: int, cuts_at: list[int]
) -> None:
    damaged = bytearray(STREAM)
    damaged[hit * SIZE + at] ^= 1 << bit
    arrived, stats = received(bytes(damaged), cuts_at)
    assert arrived == spared(hit)
    assert stats.corrupted == 1


@given(st.integers(0, 5), st.integers(0, 511), cuts)
def test_a_flipped_bit_in_the_header_costs_its_frame_at_most(hit: int, at: int, cuts_at: list[int]) -> None:
    damaged = bytearray(STREAM)
    damaged[hit * SIZE + at // 8] ^= 1 << at % 8
    records, _ = decode("p0rk", bytes(damaged), cuts_at)
    if at // 8 in {0, 1, 2, 3, 4, 5, *range(12, 16), *range(20, 24), *range(60, 64)}:
        assert len(records) == 5, "magic, version, type, lengths and CRC are checked"
    if len(records) == 6:
        del records[hit]
    assert_same(records, [RECORDS[each] for each in spared(hit)])


@given(st.integers(0, 5))
def test_a_frame_that_comes_twice_costs_nothing(twice: int) -> None:
    arrived, stats = received(STREAM[: (twice + 1) * SIZE] + STREAM[twice * SIZE :], [])
    assert arrived == [*range(twice + 1), *range(twice, 6)]
    assert stats == LinkStats(records=7)


@given(st.integers(0, len(STREAM)), st.integers(0, len(STREAM)))
def test_every_whole_frame_of_a_cut_comes(start: int, end: int) -> None:
    arrived, stats = received(STREAM[start : max(start, end)], [])
    assert arrived == list(range(-(-start // SIZE), end // SIZE))
    assert stats.resyncs == 0


@given(noise_up_to(600), cuts)
def test_noise_before_the_stream_costs_nothing(noise: bytes, cuts_at: list[int]) -> None:
    arrived, _ = received(noise + STREAM, cuts_at)
    assert arrived == list(range(6))


@pytest.mark.parametrize("change", [
    {"version": 2}, {"type": 0}, {"type": 4}, {"type": 2}, {"sample_count": 0}, {"sample_count": 65536},
    {"sample_count": 95}, {"payload_bytes": 191}, {"payload_bytes": 2**32 - 1}, {"rate": 0},
    {"rate": 2_000_000_000}, {"dc_mean": math.nan}, {"env_peak": math.inf}, {"alaw_ref": -math.inf},
])
def test_a_header_that_cannot_be_is_refused_at_once(change: dict[str, Any]) -> None:
    header = Header.unpack_from(SENT[1])
    front = P0rkFrontEnd(Request())
    records = records_of(front.feed(SENT[0] + replace(header, **change).pack() + SENT[1][64:] + SENT[2]))
    assert (seqs(records), front.stats.corrupted) == ([0, 2], 1)


def frame(kind: int, payload: bytes, n: int, **fields: Any) -> bytes:
    header = replace(Header.unpack_from(SENT[0]), type=kind, sample_count=n, payload_bytes=len(payload),
                     crc=zlib.crc32(payload), **fields)
    return header.pack() + payload


@pytest.mark.parametrize(("kind", "payload"), [
    (1, np.array([0, 1024], "<u2").tobytes()), (2, np.array([1, np.nan], "<f4").tobytes()),
    (2, np.array([np.inf, 1], "<f4").tobytes()),
])
def test_samples_that_no_such_board_gives_are_corrupted(kind: int, payload: bytes) -> None:
    records, front = decode("p0rk", frame(kind, payload, 2) + SENT[1])
    assert (seqs(records), front.stats.corrupted) == ([1], 1)


def test_envelopes_are_rounded_cut_and_marked() -> None:
    levels = np.array([0.4, 0.6, 511.5001, 1e9, -1e9], "<f4")
    codes = bytes([0, 1, 21, 65, 211, 255])
    (plain, alaw), _ = decode("p0rk", frame(2, levels.tobytes(), 5) + frame(3, codes, 6, alaw_ref=512.0))
    assert plain.samples.tolist() == [0, 1, 512, 32767, -32768]
    assert alaw.samples.tolist() == [0, 0, 3, 9, 199, 512]
    assert (plain.rf, alaw.rf) == (False, False)


@pytest.mark.parametrize(("level", "code"), [(199.52, 211), (8.59, 65), (2.64, 21)])
def test_alaw_inverts_the_codes_that_were_measured(level: float, code: int) -> None:
    below, above = 512.0 * ALAW_LEVELS[[code - 1, code + 1]]
    here = 512.0 * ALAW_LEVELS[code]
    assert (below + here) / 2 < level < (here + above) / 2


def test_a_scale_that_takes_the_level_out_of_range_is_cut() -> None:
    (got,), _ = decode("p0rk", frame(3, b"\xff", 1, alaw_ref=65_000.0))
    assert got.samples.tolist() == [32767]


def test_flags_and_drops_are_said_and_not_repeated() -> None:
    header = Header.unpack_from(SENT[0])
    drops = [5, 5, 6, 10, 12, 20, 21]
    stream = b"".join(replace(header, drops=each, flags=0b1111).pack() + SENT[0][64:] for each in drops)
    said = [each.text for each in events_of(P0rkFrontEnd(Request()), stream) if isinstance(each, Said)]
    assert len(said) == 4 + 2
    assert [each for each in said if "so far" in each] == [
        "the board has dropped 10 A-scans so far", "the board has dropped 20 A-scans so far"]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 6 * SIZE + 80), max_size=20))
def test_lines_between_frames_are_understood_in_any_division(cuts_at: list[int]) -> None:
    front = P0rkFrontEnd(Request())
    front.probe()
    lines = [b"OK stream stop\r\n", b"OK stream start raw 50\n", b"OK\n", b"ERR DMA\r\n"]
    stream = lines[0] + lines[1] + b"".join(SENT[:3]) + lines[2] + SENT[3] + lines[3] + SENT[4] + SENT[5]
    events = events_of(front, stream, cuts_at)
    words = [each for each in events if not isinstance(each, Record)]
    assert words == [Started(), Said("OK"), Said("ERR DMA")]
    assert (front.stats, front.seen) == (LinkStats(records=6), 6)


@given(st.lists(st.integers(0, 200), max_size=6))
def test_a_payload_that_ends_like_text_does_not_swallow_the_line_behind_it(cuts_at: list[int]) -> None:
    stream = frame(3, b"BROOK", 5) + b"OK\n" + frame(3, b"BROOK", 5)
    events = events_of(P0rkFrontEnd(Request()), stream, cuts_at)
    assert [type(each) for each in events] == [Record, Said, Record]


def asked(question: str) -> P0rkFrontEnd:
    front = P0rkFrontEnd(Request())
    front.start()
    assert front.feed(b"OK stream stop\r\nOK pulser=armed\n") == []
    if question == "stop":
        front.stop()
    return front


@pytest.mark.parametrize(("question", "line", "answer"), [
    ("start", b"OK\n", Started()), ("start", b"ERR RATE\r\n", Refused("ERR RATE")),
    ("start", b"ERR ARG\n", Refused("ERR ARG")), ("start", b"ERR BUSY\n", Said("ERR BUSY")),
    ("start", b"ERR COMMAND\n", Said("ERR COMMAND")), ("stop", b"OK stopped\n", Ended()),
    ("stop", b"ERR ARG\n", Said("ERR ARG")),
])
def test_an_answer_is_matched_with_its_question(question: str, line: bytes, answer: Any) -> None:
    front = asked(question)
    assert front.feed(line) == [answer]
    assert front.seen == 0


def test_an_answer_to_anothers_line_does_not_use_up_our_question() -> None:
    assert asked("start").feed(b"ERR LINE\r\nERR COMMAND\r\nOK\r\n")[2:] == [Started()]


@pytest.mark.parametrize(
    "text", [b"ROCK OK\n", b"BOOK\n", b"OKAY\n", b"OK\x00\n", b"OK " + b"x" * 300 + b"\n"]
)
def test_what_only_looks_like_an_answer_is_skipped(text: bytes) -> None:
    front = P0rkFrontEnd(Request())
    front.start()
    events = events_of(front, text, range(len(text)))
    assert [each for each in events if isinstance(each, Started | Ended | Refused)] == []


@pytest.mark.parametrize(
    ("prf_hz", "asked_hz"), [(0.0, 50), (12.4, 12), (0.2, 1), (100.0, 100), (300.0, 300)]
)
def test_a_host_asks_for_raw_ascans_at_its_prf(prf_hz: float, asked_hz: int) -> None:
    front = P0rkFrontEnd(Request(prf_hz=prf_hz))
    assert front.probe() == b"\nstream stop\nstream start raw %d\n" % min(asked_hz, 100)
    assert front.start() == b"\nstream stop\npulser arm\nstream start raw %d\n" % asked_hz
    assert front.stop() == b"stream stop\n"


@pytest.mark.parametrize(("line", "kind", "answer"), [
    (b"stream start raw 100", "start", b"OK stream start raw 100\r\n"),
    (b"stream start raw 101", "say", b"ERR RATE\r\n"), (b"stream start envelope 51", "say", b"ERR RATE\r\n"),
    (b"stream start alaw 70", "start", b"OK stream start alaw 70\r\n"),
    (b"stream start alaw 71", "say", b"ERR RATE\r\n"), (b"stream start raw 0", "say", b"ERR RATE\r\n"),
    (b"stream start best 5", "say", b"ERR ARG\r\n"),
    (b"stream start raw -5", "say", b"ERR ARG\r\n"), (b"stream", "say", b"ERR ARG\r\n"),
    (b"stream stop", "stop", b"OK stream stop\r\n"), (b"acq raw", "once", b""),
    (b"acq", "say", b"ERR ARG\r\n"),
    (b"status", "say", b"OK streaming sent=4\r\n"), (b"pulser arm", "say", b"OK pulser arm\r\n"),
    (b"nonsense", "say", b"ERR COMMAND\r\n"), (b"\xff\xfe", "say", b"ERR COMMAND\r\n"),
    (b"x" * 129, "say", b"ERR LINE\r\n"), (b"x" * 5000, "say", b"ERR LINE\r\n"),
])
def test_the_device_answers_every_line(line: bytes, kind: str, answer: bytes) -> None:
    board = device("p0rk")
    said = b"\r\n" + line + b"\r\n\n"
    (order,) = [order for piece in pieces(said, range(0, len(said), 7)) for order in board.orders(piece)]
    assert order.kind == kind
    assert board.reply(order, STREAMING) == answer


@pytest.mark.parametrize("kind", ["raw", "envelope", "alaw"])
def test_host_and_device_agree_on_every_type(kind: str) -> None:
    t = np.arange(512)
    tone = (400 * np.exp(-((t - 256) / 60) ** 2) * np.sin(0.5 * t)).astype(np.int16)
    board = device("p0rk", shift=0)
    for order in board.orders(f"stream start {kind} 20\n".encode()):
        board.reply(order, STREAMING)
    (got,), front = decode("p0rk", board.ascan(tone, seq=3, t_us=7))
    assert (got.seq, got.t_us, got.rf, front.stats) == (3, 7, kind == "raw", LinkStats(records=1))
    if kind == "raw":
        np.testing.assert_array_equal(got.samples, tone)
    else:
        envelope = 400 * np.exp(-((t - 256) / 60) ** 2)
        np.testing.assert_allclose(got.samples, envelope, rtol=0.04, atol=4)


def test_a_stop_disarms_the_pulser_and_the_host_arms_it_with_the_start() -> None:
    host, board = P0rkFrontEnd(Request()), device("p0rk")
    flags = []
    for said in (host.probe(), host.start(), host.stop()):
        board.orders(said)
        flags.append(Header.unpack_from(board.ascan(ROWS[0], seq=0, t_us=0)).flags)
    assert flags == [0, 1 << 4, 0]


@pytest.mark.parametrize(("flags", "said"), [(0, 1), (1 << 4, 0), (1 << 5, 1)])
def test_a_pulser_that_is_not_armed_after_our_start_is_said(flags: int, said: int) -> None:
    sent = replace(Header.unpack_from(SENT[0]), flags=flags).pack() + SENT[0][64:]
    front = P0rkFrontEnd(Request())
    assert len(front.feed(sent)) == 1
    front.start()
    words = [each for each in front.feed(sent + sent) if isinstance(each, Said)]
    assert words == [Said("the pulser is not armed: there will be no echoes")] * said


def test_a_pulser_that_refuses_to_be_armed_does_not_end_the_stream() -> None:
    front = P0rkFrontEnd(Request())
    front.start()
    events = front.feed(b"OK\nERR ARG no pulser\nOK stream\n")
    assert events == [Said("ERR ARG no pulser"), Started()]


def test_an_empty_ascan_cannot_be_sent() -> None:
    with pytest.raises(UsfpError):
        device("p0rk").ascan(np.array([], np.int16), seq=0, t_us=0)


def test_memory_stays_bounded_under_the_worst_streams() -> None:
    longest = frame(2, bytes(4 * 65535), 65535)
    for stream in (random.Random(1).randbytes(1 << 17), b"P0RK" * 20_000, b"OK " * 30_000, b"OK\n" * 20_000,
                   SENT[0][:64] * 1000, longest[:-1]):
        fed_is_bounded("p0rk", stream, len(longest))


@pytest.mark.parametrize("cut_at", [0, 1, 7, 4096])
def test_the_recorded_stream_decodes_completely(cut_at: int) -> None:
    stream = vector("p0rk/p0rk_selftest_stream.bin")
    headers = json.loads(vector("p0rk/headers.json"))
    records, front = decode("p0rk", stream, range(0, len(stream), cut_at) if cut_at else ())
    assert front.stats == LinkStats(records=21)
    for got, told in zip(records, headers, strict=True):
        assert (got.seq, len(got.samples), got.fs_hz, got.t_us, got.rf) == (
            told["sequence"], told["sample_count"], told["sample_rate_hz"], told["capture_timestamp_us"],
            told["payload_type"] == 1)


def test_the_recorded_envelopes_and_their_alaw_codes_tell_the_same() -> None:
    records, _ = decode("p0rk", vector("p0rk/p0rk_selftest_stream.bin"))
    told = zip(records, json.loads(vector("p0rk/headers.json")), strict=True)
    by_place = {(each["payload_name"], each["array_index"]): record.samples for record, each in told}
    for index in range(7):
        envelope, alaw = by_place["envelope", index], by_place["alaw", index]
        within = envelope < 512  # above that the code is saturated
        np.testing.assert_allclose(alaw[within], envelope[within], rtol=0.012, atol=1.01)
