"""The C decoder and the Python decoder are the same decoder: frames, counts and what they hold back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usedge_firmware import usfp
from usedge_firmware.native import NativeDecoder, NativeEncoder
from usedge_firmware.usfp import Decoder, Frame, FrameType, PayloadFormat

RAMP = np.arange(30, dtype=np.int16)
SOUND = [
    usfp.encode_ascan(RAMP, seq=1, fs_hz=5),
    usfp.encode_ascan(RAMP, seq=2, fs_hz=5, payload_format=PayloadFormat.PACKED12, t0_ns=-7),
    usfp.encode_ascan(np.tile(RAMP, 9), seq=3, fs_hz=5, payload_format=PayloadFormat.DELTA_RICE),
    usfp.encode_log("supply 3.21 V"),
    usfp.encode_info(usfp.Info(1, 12, (1, 2, 3), 4, 5, 6, -7, "µ")),
    usfp.command_start(100, seq=9, payload_format=1),
    usfp.encode_ack(usfp.Ack(1), seq=9),
    usfp.encode(Frame(FrameType.LOG, payload=b"a" + usfp.SYNC + b"b")),
]
pieces = st.one_of(
    st.sampled_from(SOUND),
    st.binary(max_size=50),
    st.just(usfp.SYNC),
    st.sampled_from(SOUND).flatmap(lambda raw: st.integers(0, len(raw)).map(lambda end: raw[:end])),
    st.sampled_from(SOUND).flatmap(lambda raw: st.integers(0, len(raw)).map(lambda start: raw[start:])),
    st.tuples(st.sampled_from(SOUND), st.integers(0, 10**6), st.integers(1, 255)).map(
        lambda drawn: altered(*drawn)
    ),
)
shared_native = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)


def altered(raw: bytes, position: int, change: int) -> bytes:
    changed = bytearray(raw)
    changed[position % len(raw)] ^= change
    return bytes(changed)


def feed_in_pieces(decoder: Decoder | NativeDecoder, line: bytes, cuts: list[int]) -> list[Frame]:
    edges = [0, *sorted(each % (len(line) + 1) for each in cuts), len(line)]
    return [each for start, end in itertools.pairwise(edges) for each in decoder.feed(line[start:end])]


@shared_native
@given(
    st.lists(pieces, max_size=12), st.lists(st.integers(0, 5000), max_size=12),
    st.lists(st.integers(0, 5000), max_size=12), st.sampled_from([0, 8, 32, 60, 131_070]), st.booleans(),
)
def test_any_stream_in_any_division_is_decoded_alike(
    native: NativeEncoder, parts: list[bytes], cuts: list[int], other_cuts: list[int], limit: int, reset: bool
) -> None:
    line = b"".join(parts)
    python, c = Decoder(max_payload=limit), native.decoder(max_payload=limit)
    for _ in range(2):  # the second time shows that nothing of the first is left behind
        assert feed_in_pieces(c, line, cuts) == feed_in_pieces(python, line, other_cuts)
        assert (c.stats, c.pending) == (python.stats, python.pending)
        if reset:
            python.reset()
            c.reset()
        else:
            assert c.finish() == python.finish()
        assert (c.stats, c.pending) == (python.stats, 0)


def test_the_c_decoder_takes_the_longest_frame_and_one_behind_it(native: NativeEncoder) -> None:
    longest = usfp.encode_ascan(np.full(usfp.MAX_SAMPLES, -1, np.int16), seq=0, fs_hz=1)
    decoder = native.decoder()
    assert len(decoder.feed(longest + SOUND[0] + longest[:100])) == 2
    assert decoder.pending == 100


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_the_c_decoder_takes_what_a_port_hands_over(native: NativeEncoder, kind: type) -> None:
    assert len(native.decoder().feed(kind(SOUND[0]))) == 1
