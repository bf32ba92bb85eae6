"""One frame at a time: what goes in comes out, and what does not fit is refused."""

from __future__ import annotations

import struct
import zlib
from binascii import crc_hqx

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usedge_firmware import usfp
from usedge_firmware.usfp import Ack, Command, Frame, FrameType, Info, PayloadFormat, UsfpError

U8, U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
I16, I32 = (st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (16, 32))


@st.composite
def any_frame(draw: st.DrawFn) -> Frame:
    kind = draw(st.sampled_from(FrameType))
    payload = draw(st.binary(max_size=60))
    n_samples = len(payload) // 2 if kind == FrameType.ASCAN else draw(U16)
    payload = payload[: 2 * n_samples] if kind == FrameType.ASCAN else payload
    return Frame(
        kind, PayloadFormat.INT16, draw(U8), draw(U16), n_samples, draw(U64), draw(U32), draw(U32), draw(I32),
        draw(I16), payload,
    )


@given(any_frame())
def test_a_frame_comes_back_as_it_was(frame: Frame) -> None:
    decoder = usfp.Decoder()
    assert decoder.feed(usfp.encode(frame)) == [frame]
    assert decoder.pending == 0


def test_the_bytes_lie_where_the_table_says() -> None:
    samples = np.array([1, -2], np.int16)
    raw = usfp.encode_ascan(
        samples, seq=5, fs_hz=6, t_us=7, t0_ns=-8, gain_cdb=-9, channel=10, flags=11
    )
    assert raw[:4] == bytes.fromhex("5553a55a")
    assert list(raw[4:8]) == [1, 1, 0, 10]
    assert struct.unpack_from("<HHIQIIih", raw, 8) == (11, 2, 4, 7, 5, 6, -8, -9)
    assert struct.unpack_from("<H", raw, 38)[0] == crc_hqx(raw[:38], 0xFFFF)
    assert struct.unpack_from("<hh", raw, 40) == (1, -2)
    assert struct.unpack_from("<I", raw, 44)[0] == zlib.crc32(raw[:44])
    assert len(raw) == 48


@given(st.lists(I16, max_size=50))
def test_samples_share_the_payload_and_cannot_be_written(values: list[int]) -> None:
    sent = np.array(values, np.int16)
    (frame,) = usfp.Decoder().feed(usfp.encode_ascan(sent, seq=0, fs_hz=1))
    samples = frame.samples()
    np.testing.assert_array_equal(samples, sent)
    assert samples.dtype == np.int16
    assert not samples.flags.writeable
    assert np.shares_memory(samples, np.frombuffer(frame.payload, np.uint8)) == bool(values)


def test_a_strided_ascan_is_sent_in_its_own_order() -> None:
    every_second = np.arange(10, dtype=np.int16)[::-2]
    (frame,) = usfp.Decoder().feed(usfp.encode_ascan(every_second, seq=0, fs_hz=1))
    np.testing.assert_array_equal(frame.samples(), every_second)


def test_the_longest_ascan_passes() -> None:
    longest = np.full(usfp.MAX_SAMPLES, -1, np.int16)
    raw = usfp.encode_ascan(longest, seq=0, fs_hz=1)
    assert len(raw) == usfp.MAX_FRAME
    assert usfp.Decoder().feed(raw)[0].n_samples == usfp.MAX_SAMPLES


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(4, np.int32), np.zeros(4, np.float32), np.zeros(4, np.uint16), np.zeros((2, 2), np.int16),
        np.zeros(usfp.MAX_SAMPLES + 1, np.int16),
    ],
)
def test_what_is_no_ascan_is_refused(samples: np.ndarray) -> None:
    with pytest.raises(UsfpError, match=r"\(n,\) int16"):
        usfp.encode_ascan(samples, seq=0, fs_hz=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seq", 2**32), ("seq", -1), ("fs_hz", 2**32), ("t_us", 2**64), ("t0_ns", 2**31), ("gain_cdb", 2**15),
        ("channel", 256), ("flags", 2**16), ("n_samples", 2**16),
    ],
)
def test_a_field_out_of_range_is_refused(field: str, value: int) -> None:
    with pytest.raises(UsfpError, match="out of range"):
        usfp.encode(Frame(FrameType.LOG, **{field: value}))


def test_a_payload_that_contradicts_the_header_is_refused() -> None:
    with pytest.raises(UsfpError, match="3 bytes cannot be 2 samples"):
        usfp.encode(Frame(FrameType.ASCAN, n_samples=2, payload=b"abc"))
    with pytest.raises(UsfpError, match="maximum of 131070"):
        usfp.encode(Frame(FrameType.LOG, payload=bytes(usfp.MAX_PAYLOAD + 1)))


def test_only_an_ascan_has_samples() -> None:
    with pytest.raises(UsfpError, match="holds no A-scan"):
        Frame(FrameType.LOG, payload=b"ab").samples()


NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=6)  # 4 bytes each at most


@given(st.builds(Info, U32, U8, st.tuples(U8, U8, U8), U32, U16, U32, I32, NAMES, U16))
def test_info_comes_back_as_it_was(info: Info) -> None:
    (frame,) = usfp.Decoder().feed(usfp.encode_info(info, seq=3, t_us=4))
    assert usfp.parse_info(frame) == info
    assert (frame.seq, frame.t_us) == (3, 4)


@given(U8, U32, U32, U32)
def test_commands_and_answers_come_back_as_they_were(opcode: int, first: int, second: int, seq: int) -> None:
    command, ack = Command(opcode, first, second), Ack(opcode, first & 255, second)
    stream = usfp.encode_command(command, seq=seq) + usfp.encode_ack(ack, seq=seq, t_us=1)
    asked, answered = usfp.Decoder().feed(stream)
    assert usfp.parse_command(asked) == command
    assert usfp.parse_ack(answered) == ack
    assert asked.seq == answered.seq == seq


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_log_comes_back_as_it_was(text: str) -> None:
    (frame,) = usfp.Decoder().feed(usfp.encode_log(text))
    assert usfp.parse_log(frame) == text


def test_payloads_that_a_later_revision_lengthened_are_still_read() -> None:
    info = Info(1, 12, (1, 0, 0), 10_000_000, 2048, 0, 0, "x")
    assert Info.unpack(info.pack() + b"later") == info
    assert Command.unpack(Command(1, 2, 3).pack() + b"later") == Command(1, 2, 3)
    assert Ack.unpack(Ack(1, 2, 3).pack() + b"later") == Ack(1, 2, 3)


@pytest.mark.parametrize("parse", [usfp.parse_info, usfp.parse_command, usfp.parse_ack, usfp.parse_log])
def test_a_frame_of_another_type_is_not_parsed(parse: object) -> None:
    with pytest.raises(UsfpError, match="expected a frame of type"):
        parse(Frame(FrameType.ASCAN))  # type: ignore[operator]


@pytest.mark.parametrize("message", [Info, Command, Ack])
def test_a_payload_cut_short_is_not_parsed(message: type[Info]) -> None:
    with pytest.raises(UsfpError, match="too short"):
        message.unpack(b"\1\2\3")


def test_a_name_that_does_not_fit_is_refused_and_a_bad_one_is_shown() -> None:
    info = Info(1, 12, (1, 0, 0), 1, 1, 0, 0, "µ" * 13)
    with pytest.raises(UsfpError, match="24 bytes"):
        info.pack()
    cut_in_a_letter = Info(1, 12, (1, 0, 0), 1, 1, 0, 0, "x" * 24).pack()[:-1] + b"\xc2"
    assert Info.unpack(cut_in_a_letter).name == "x" * 23 + "\ufffd"


@pytest.mark.parametrize(
    ("prf_hz", "prf_mhz"), [(0.0, 0), (0.001, 1), (250.0, 250_000), (4_294_967.0, 4_294_967_000)],
)
def test_start_states_the_prf_in_millihertz(prf_hz: float, prf_mhz: int) -> None:
    (frame,) = usfp.Decoder().feed(usfp.command_start(prf_hz, 7, seq=9))
    assert usfp.parse_command(frame) == Command(usfp.Opcode.START, prf_mhz, 7)
    assert frame.seq == 9


@pytest.mark.parametrize("prf_hz", [-1.0, 1e-9, 5e6, float("nan"), float("inf")])
def test_an_impossible_prf_is_refused(prf_hz: float) -> None:
    with pytest.raises(UsfpError, match="PRF"):
        usfp.command_start(prf_hz)
