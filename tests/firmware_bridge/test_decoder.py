"""The decoder against faulty streams: it never raises, never invents, and loses at most the frame hit.

Samples stay within ±2048 here, as a 12-bit ADC's do, so no payload can contain a sync word by itself.
"""

from __future__ import annotations

import itertools
import random
import zlib
from binascii import crc_hqx

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usedge_firmware import usfp
from usedge_firmware.usfp import Decoder, Frame, FrameType

N_SAMPLES = 24


def ascan(seq: int, n_samples: int = N_SAMPLES) -> bytes:
    rng = np.random.default_rng(seq)
    samples = rng.integers(-2048, 2048, n_samples).astype(np.int16)
    return usfp.encode_ascan(samples, seq=seq, fs_hz=10_000_000, t_us=1000 * seq, t0_ns=-5, gain_cdb=600)


SENT = [ascan(seq) for seq in range(8)]
FRAMES = [Decoder().feed(each)[0] for each in SENT]
SIZE = len(SENT[0])
STREAM = b"".join(SENT)

positions = st.integers(0, len(STREAM) - 1)
garbage = st.binary(min_size=1, max_size=64)
cuts = st.lists(st.integers(0, len(STREAM) + 64), max_size=20)


def feed_in_pieces(decoder: Decoder, data: bytes, cuts_at: list[int]) -> list[Frame]:
    edges = [0, *sorted(min(each, len(data)) for each in cuts_at), len(data)]
    frames: list[Frame] = []
    for start, end in itertools.pairwise(edges):
        frames += decoder.feed(data[start:end])
    return frames


def received(data: bytes, cuts_at: list[int]) -> tuple[list[Frame], Decoder]:
    """Decode a whole stream, check the books, and return the frames."""
    decoder = Decoder()
    frames = feed_in_pieces(decoder, data, cuts_at)
    accepted = sum(len(usfp.encode(each)) for each in frames)
    assert accepted + decoder.stats.skipped_bytes + decoder.pending == len(data)
    frames += decoder.finish()
    accepted = sum(len(usfp.encode(each)) for each in frames)
    assert accepted + decoder.stats.skipped_bytes == len(data)
    assert decoder.pending == 0
    assert decoder.stats.frames == len(frames)
    return frames, decoder


def assert_sent_in_order(frames: list[Frame]) -> None:
    assert all(each in FRAMES for each in frames), "a frame that was never sent was accepted"
    seqs = [each.seq for each in frames]
    assert seqs == sorted(set(seqs))


@given(cuts)
def test_any_division_of_the_stream_gives_the_same_frames(cuts_at: list[int]) -> None:
    frames, decoder = received(STREAM, cuts_at)
    assert frames == FRAMES
    assert decoder.stats == usfp.DecoderStats(frames=len(FRAMES))


def test_one_byte_at_a_time_gives_the_same_frames() -> None:
    assert received(STREAM, list(range(len(STREAM))))[0] == FRAMES


@given(positions, st.integers(0, 7), cuts)
def test_a_flipped_bit_costs_the_frame_it_hits(position: int, bit: int, cuts_at: list[int]) -> None:
    damaged = bytearray(STREAM)
    damaged[position] ^= 1 << bit
    frames, decoder = received(bytes(damaged), cuts_at)
    assert frames == [each for index, each in enumerate(FRAMES) if index != position // SIZE]
    assert decoder.stats.skipped_bytes == SIZE


@given(positions, st.integers(1, 40), cuts)
def test_lost_bytes_cost_the_frames_they_came_from(position: int, length: int, cuts_at: list[int]) -> None:
    damaged = STREAM[:position] + STREAM[position + length :]
    last = min(position + length, len(STREAM)) - 1
    hit = range(position // SIZE, last // SIZE + 1)
    frames, _ = received(damaged, cuts_at)
    assert frames == [each for index, each in enumerate(FRAMES) if index not in hit]


@given(positions, garbage, cuts)
def test_inserted_bytes_cost_the_frame_they_fall_into(
    position: int, noise: bytes, cuts_at: list[int]
) -> None:
    frames, _ = received(STREAM[:position] + noise + STREAM[position:], cuts_at)
    assert_sent_in_order(frames)
    expected = [each for index, each in enumerate(FRAMES) if index != position // SIZE]
    assert [each for each in frames if each.seq != position // SIZE] == expected


@given(positions, garbage, cuts)
def test_overwritten_bytes_cost_the_frames_they_hit(position: int, noise: bytes, cuts_at: list[int]) -> None:
    damaged = (STREAM[:position] + noise + STREAM[position + len(noise) :])[: len(STREAM)]
    last = min(position + len(noise), len(STREAM)) - 1
    frames, _ = received(damaged, cuts_at)
    assert_sent_in_order(frames)
    spared = [each for index, each in enumerate(FRAMES) if not position // SIZE <= index <= last // SIZE]
    assert [each for each in frames if each in spared] == spared


@given(st.lists(st.one_of(garbage, st.integers(0, len(SENT) - 1)), max_size=12), cuts)
def test_whole_frames_between_garbage_all_arrive(parts: list[bytes | int], cuts_at: list[int]) -> None:
    stream = b"".join(SENT[each] if isinstance(each, int) else each for each in parts)
    frames, _ = received(stream, cuts_at)
    assert frames == [FRAMES[each] for each in parts if isinstance(each, int)]


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=90) | st.sampled_from([usfp.SYNC, STREAM[:40]]), max_size=12), cuts)
def test_noise_alone_is_never_a_frame(parts: list[bytes], cuts_at: list[int]) -> None:
    frames, _ = received(b"".join(parts), cuts_at)
    assert frames == []


@given(st.integers(1, len(STREAM) - 1), cuts)
def test_a_stream_cut_off_keeps_its_whole_frames(length: int, cuts_at: list[int]) -> None:
    frames, decoder = received(STREAM[:length], cuts_at)
    assert frames == FRAMES[: length // SIZE]
    # Fewer than 4 bytes are no sync word yet, and count as skipped only.
    assert decoder.stats.truncated == (length % SIZE >= len(usfp.SYNC))
    assert decoder.stats.resyncs == 0


def test_joining_in_the_middle_of_a_frame_is_no_resync() -> None:
    frames, decoder = received(STREAM[SIZE // 2 :], [])
    assert frames == FRAMES[1:]
    assert decoder.stats.resyncs == 0
    assert decoder.stats.skipped_bytes == SIZE - SIZE // 2


def test_a_damaged_payload_is_a_crc_error_and_one_resync() -> None:
    damaged = bytearray(STREAM)
    damaged[SIZE + 50] ^= 1
    _, decoder = received(bytes(damaged), [])
    assert decoder.stats == usfp.DecoderStats(frames=7, crc_errors=1, resyncs=1, skipped_bytes=SIZE)


def test_a_damaged_header_is_a_header_error_and_one_resync() -> None:
    damaged = bytearray(STREAM)
    damaged[SIZE + 20] ^= 1
    _, decoder = received(bytes(damaged), [])
    assert decoder.stats == usfp.DecoderStats(frames=7, header_errors=1, resyncs=1, skipped_bytes=SIZE)


def test_garbage_between_frames_is_one_resync_whatever_its_length() -> None:
    _, decoder = received(SENT[0] + bytes(1000) + SENT[1] + b"\x55\x53" + SENT[2], list(range(0, 1300, 7)))
    assert decoder.stats == usfp.DecoderStats(frames=3, resyncs=2, skipped_bytes=1002)


def reheaded(raw: bytes, **changes: int) -> bytes:
    """The frame with header bytes changed and both CRCs made right again: damage that no CRC can see."""
    offsets = {"version": 4, "type": 5, "payload_format": 6, "n_samples": 10, "payload_len": 12}
    body = bytearray(raw[:38])
    for field, value in changes.items():
        size = {"n_samples": 2, "payload_len": 4}.get(field, 1)
        body[offsets[field] : offsets[field] + size] = value.to_bytes(size, "little")
    header = bytes(body) + crc_hqx(bytes(body), 0xFFFF).to_bytes(2, "little")
    return header + raw[40:-4] + zlib.crc32(header + raw[40:-4]).to_bytes(4, "little")


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"version": 0}, {"n_samples": N_SAMPLES + 1}, {"payload_len": 2 * N_SAMPLES - 2},
     {"payload_len": usfp.MAX_PAYLOAD + 1}, {"payload_len": 2**32 - 1}, {"payload_format": 1},
     {"payload_format": 2, "n_samples": N_SAMPLES - 1}],
)
def test_a_header_that_cannot_be_is_refused_at_once(change: dict[str, int]) -> None:
    decoder = Decoder()
    frames = decoder.feed(SENT[0] + reheaded(SENT[1], **change) + SENT[2])
    assert frames == [FRAMES[0], FRAMES[2]]
    assert decoder.stats.header_errors == 1


@pytest.mark.parametrize("change", [{"type": 6}, {"type": 0}, {"payload_format": 3}, {"payload_format": 255}])
def test_a_frame_of_a_later_revision_is_passed_over_in_step(change: dict[str, int]) -> None:
    decoder = Decoder()
    frames = decoder.feed(SENT[0] + reheaded(SENT[1], **change) + SENT[2])
    assert frames == [FRAMES[0], FRAMES[2]]
    assert decoder.stats == usfp.DecoderStats(frames=2, unsupported=1, skipped_bytes=SIZE)


def test_sound_frames_behind_a_false_length_are_found_at_the_end() -> None:
    claims_too_much = usfp.encode_log("x" * 5000)[:60]
    decoder = Decoder()
    assert decoder.feed(claims_too_much + STREAM) == []
    assert decoder.finish() == FRAMES
    assert decoder.stats.truncated == 1


def test_reset_forgets_half_a_frame_and_no_counts() -> None:
    decoder = Decoder()
    decoder.feed(SENT[0] + SENT[1][:30])
    decoder.reset()
    assert decoder.pending == 0
    assert decoder.feed(SENT[2]) == [FRAMES[2]]
    assert decoder.stats == usfp.DecoderStats(frames=2, skipped_bytes=30)


def test_a_receiver_may_set_a_smaller_limit() -> None:
    decoder = Decoder(max_payload=2 * N_SAMPLES - 1)
    assert decoder.feed(STREAM) == []
    assert decoder.stats.header_errors == len(SENT)


def test_memory_stays_bounded_under_the_worst_streams() -> None:
    largest = usfp.encode(Frame(FrameType.LOG, payload=bytes(usfp.MAX_PAYLOAD)))
    noise = random.Random(1).randbytes(1 << 20)
    endless_sync = usfp.SYNC * (1 << 17)
    half_of_the_largest = largest[:-1]
    for stream in (noise, endless_sync, half_of_the_largest, largest * 3):
        decoder = Decoder()
        for start in range(0, len(stream), 4096):
            decoder.feed(stream[start : start + 4096])
            assert decoder.pending < usfp.MAX_FRAME


def test_a_header_is_checked_once_however_small_the_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = []
    original = Decoder._header_sound
    monkeypatch.setattr(Decoder, "_header_sound", lambda *a: checks.append(1) or original(*a))
    decoder = Decoder()
    for byte in STREAM:
        decoder.feed(bytes([byte]))
    assert decoder.stats.frames == len(SENT)
    assert len(checks) == len(SENT)
