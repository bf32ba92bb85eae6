"""The payload formats: both languages give the same bytes, and refuse the same payloads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from usedge_firmware import payload, usfp
from usedge_firmware.native import NativeEncoder
from usedge_firmware.payload import (
    decode_samples,
    encode_samples,
    pack12,
    packed12_size,
    rice_decode,
    rice_encode,
    unpack12,
)
from usedge_firmware.usfp import Frame, FrameType, PayloadFormat, UsfpError

Samples = npt.NDArray[np.int16]
shared_native = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


@st.composite
def ascans(draw: st.DrawFn, limit: int = 32768) -> Samples:
    """Stretches of noise, each with its own spread, so that the parameters differ from block to block."""
    spreads = draw(st.lists(st.sampled_from([0, 1, 2, 30, 500, limit - 1]), min_size=0, max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts = [rng.integers(-each, each + 1, draw(st.integers(1, 100))) for each in spreads]
    return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int16)


def attempt(function: object, *arguments: object) -> object:
    """What a function returns, or that it refuses; arrays as lists."""
    try:
        value = function(*arguments)  # type: ignore[operator]
    except UsfpError:
        return "refused"
    return value.tolist() if isinstance(value, np.ndarray) else value


@shared_native
@given(ascans(limit=2048))
def test_packed12_comes_back_and_is_the_same_in_c(native: NativeEncoder, samples: Samples) -> None:
    packed = pack12(samples)
    assert len(packed) == packed12_size(len(samples))
    np.testing.assert_array_equal(unpack12(packed, len(samples)), samples)
    assert native.pack12(samples) == packed
    np.testing.assert_array_equal(native.unpack12(packed, len(samples)), samples)


@shared_native
@given(ascans())
def test_rice_comes_back_and_is_the_same_in_c(native: NativeEncoder, samples: Samples) -> None:
    coded = attempt(rice_encode, samples)
    assert attempt(native.rice_encode, samples) == coded
    if isinstance(coded, bytes):
        assert len(coded) < 2 * len(samples) or len(samples) == 0
        np.testing.assert_array_equal(rice_decode(coded, len(samples)), samples)
        np.testing.assert_array_equal(native.rice_decode(coded, len(samples)), samples)


def reference_rice(samples: list[int]) -> bytes:
    """The definition in PROTOCOL.md, bit by bit; '0' and '1' in the order they stand in the plane."""
    k_plane = r_plane = u_plane = ""
    before, codes = 0, []
    for each in samples:
        difference = (each - before + 2**15) % 2**16 - 2**15
        codes.append(2 * difference if difference >= 0 else -2 * difference - 1)
        before = each
    for start in range(0, len(codes), 64):
        block = codes[start : start + 64]
        k = next((k for k in range(15) if len(block) << k >= sum(block)), 15)
        k_plane += f"{k:04b}"[::-1]
        for code in block:
            r_plane += f"{code % 2**k:0{k}b}"[::-1] if k else ""
            u_plane += "0" * (code >> k) + "1"

    def as_bytes(bits: str) -> bytes:
        bits += "0" * (-len(bits) % 8)
        return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))

    return as_bytes(k_plane) + as_bytes(r_plane) + as_bytes(u_plane)


@given(ascans())
@example(np.array([0, -32768] * 40 + [0] * 100, np.int16))
def test_rice_is_what_its_definition_says(samples: Samples) -> None:
    expected = reference_rice(samples.tolist())
    coded = attempt(rice_encode, samples)
    assert coded == (expected if len(expected) < 2 * len(samples) or not len(samples) else "refused")


def damaged(coded: bytes, changes: list[tuple[int, int]], cut: int) -> bytes:
    raw = bytearray(coded[: len(coded) - cut] if cut >= 0 else coded + bytes(-cut))
    for position, value in changes:
        if raw:
            raw[position % len(raw)] ^= value
    return bytes(raw)


changes = st.lists(st.tuples(st.integers(0, 2**16), st.integers(1, 255)), max_size=3)


@shared_native
@given(ascans(limit=900), changes, st.integers(-2, 2), st.integers(-1, 1))
def test_damage_is_refused_by_both_languages_or_by_none(
    native: NativeEncoder, samples: Samples, where: list[tuple[int, int]], cut: int, more: int
) -> None:
    n_samples = max(0, len(samples) + more)
    coded = attempt(rice_encode, samples)
    if isinstance(coded, bytes):
        raw = damaged(coded, where, cut)
        assert attempt(rice_decode, raw, n_samples) == attempt(native.rice_decode, raw, n_samples)
    raw = damaged(pack12(samples), where, cut)
    assert attempt(unpack12, raw, n_samples) == attempt(native.unpack12, raw, n_samples)


@shared_native
@given(st.binary(max_size=40), st.integers(0, 200))
@example(b"\x0f" + bytes(120) + b"\xfc" + b"\xff" * 15 + b"\x03", 128)
@example(b"\x0f" + bytes(120) + b"\xfe" + b"\xff" * 15 + b"\x01", 128)
@example(bytes(40) + bytes(8192) + b"\xff" * 625, 5000)
def test_any_bytes_are_judged_alike(native: NativeEncoder, raw: bytes, n_samples: int) -> None:
    assert attempt(rice_decode, raw, n_samples) == attempt(native.rice_decode, raw, n_samples)
    assert attempt(unpack12, raw, n_samples) == attempt(native.unpack12, raw, n_samples)


@pytest.mark.parametrize(
    ("raw", "n_samples", "why"),
    [
        (b"\0", 0, "more than 0 samples"),
        (b"", 1, "too short for the parameters"),
        (b"\x0f\xff", 2, "too short for the low bits"),
        (b"\x10\x01", 1, "spare half"),
        (b"\x01\x05\x03", 2, "padding"),
        (b"\x00\x03", 1, "2 codes"),
        (b"\x00\x00", 1, "0 codes"),
        (b"\x00\x03\x00", 2, "codes in 2 bytes"),
        (b"\x0f" + bytes(120) + b"\xfc" + b"\xff" * 15 + b"\x03", 128, "exceeds 65535"),
    ],
)
def test_a_refusal_of_rice_says_why(raw: bytes, n_samples: int, why: str) -> None:
    with pytest.raises(UsfpError, match=why):
        rice_decode(raw, n_samples)


def test_a_refusal_of_packed12_says_why() -> None:
    with pytest.raises(UsfpError, match="3 packed-12 samples are 5 bytes, not 4"):
        unpack12(bytes(4), 3)
    with pytest.raises(UsfpError, match="0x10 is not zero"):
        unpack12(b"\0\x10", 1)
    with pytest.raises(UsfpError, match="a sample of -2049"):
        pack12(np.array([2047, -2049], np.int16))
    with pytest.raises(UsfpError, match="not 65536"):
        unpack12(bytes(98304), 65536)
    with pytest.raises(UsfpError, match="format 3 is none of"):
        encode_samples(np.zeros(1, np.int16), 3)
    with pytest.raises(UsfpError, match="format 3 is none of"):
        decode_samples(b"", 0, 3)


@pytest.mark.parametrize("payload_format", PayloadFormat)
@pytest.mark.parametrize("n_samples", [0, 2, 63, 64, 2047, usfp.MAX_SAMPLES])
def test_a_frame_of_any_format_gives_its_samples(
    native: NativeEncoder, payload_format: PayloadFormat, n_samples: int
) -> None:
    samples = (np.arange(n_samples) // 7 % 50).astype(np.int16)
    fields = {"seq": 3, "fs_hz": 4, "payload_format": payload_format}
    raw = usfp.encode_ascan(samples, **fields)
    assert native.encode_ascan(samples, **fields) == raw
    (frame,) = usfp.Decoder().feed(raw)
    assert frame.payload_format == payload_format
    assert frame.samples().dtype == np.int16
    assert not frame.samples().flags.writeable
    np.testing.assert_array_equal(frame.samples(), samples)
    gathered = native.gather_ascan(
        samples, payload=frame.payload, payload_format=payload_format, seq=3, fs_hz=4
    )
    assert gathered == raw


@pytest.mark.parametrize("kind", [pack12, rice_encode, lambda each: encode_samples(each, 0)])
def test_what_is_no_ascan_is_not_coded(kind: object) -> None:
    for wrong in (np.zeros(4, np.int32), np.zeros((2, 2), np.int16), np.zeros(65536, np.int16)):
        assert attempt(kind, wrong) == "refused"


def test_a_strided_ascan_is_coded_in_its_own_order() -> None:
    every_second = np.arange(300, dtype=np.int16)[::-2]
    assert rice_encode(every_second) == rice_encode(every_second.copy())
    assert pack12(every_second) == pack12(every_second.copy())


def test_a_sound_frame_with_a_malformed_payload_is_refused_when_it_is_read() -> None:
    raw = usfp.encode(Frame(FrameType.ASCAN, PayloadFormat.DELTA_RICE, n_samples=9, payload=bytes(18)))
    (frame,) = usfp.Decoder().feed(raw)
    with pytest.raises(UsfpError, match="codes"):
        frame.samples()


@pytest.mark.parametrize(
    ("payload_format", "n_samples", "n_bytes", "agrees"),
    [(0, 4, 8, True), (0, 4, 7, False), (1, 4, 6, True), (1, 3, 5, True), (1, 3, 6, False), (2, 4, 8, True),
     (2, 4, 9, False), (2, 0, 1, False), (2, 0, 0, True), (3, 4, 99, True)],
)
def test_which_lengths_a_header_may_state(
    payload_format: int, n_samples: int, n_bytes: int, agrees: bool
) -> None:
    assert payload.length_agrees(payload_format, n_samples, n_bytes) == agrees
