"""USFP as a front end and as a dialect: events, answers, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.firmware_bridge.foreign_streams import decode, pieces
from usedge_firmware import usfp
from usedge_firmware.dialect import DeviceDescription, DeviceState, Order
from usedge_firmware.frontend import Ended, Hello, LinkStats, Record, Refused, Request, Said, Started
from usedge_firmware.frontends.usfp_device import UsfpDialect
from usedge_firmware.frontends.usfp_link import START_SEQ, STOP_SEQ, UsfpFrontEnd
from usedge_firmware.usfp import Ack, AckStatus, Command, Frame, FrameType, Opcode, PayloadFormat, UsfpError

SAMPLES = np.random.default_rng(2).integers(-2048, 2048, 64).astype(np.int16)
DEVICE = DeviceDescription(
    fs_hz=10_000_000, n_samples=64, t0_us=1.5, prf_hz=12.5, gain_db=20.5, name="bench", session_id=77,
    peak=2048,
)
STATE = DeviceState(next_seq=42, sent=9, t_us=5000, streaming=False)


def told(*frames: bytes) -> list[Any]:
    return UsfpFrontEnd(Request()).feed(b"".join(frames))


def test_every_message_becomes_its_event() -> None:
    ack = {"start": usfp.encode_ack(Ack(Opcode.START, detail=42), seq=START_SEQ),
           "stop": usfp.encode_ack(Ack(Opcode.STOP, detail=9), seq=STOP_SEQ),
           "by count": usfp.encode_ack(Ack(Opcode.STOP, detail=3), seq=START_SEQ)}
    boot = UsfpDialect(DEVICE).boot(STATE)
    assert told(boot, usfp.encode_log("warm")) == [Hello("bench", 12.5, 77), Said("warm")]
    assert told(*ack.values()) == [Started(42), Ended(9), Ended(3)]


def test_an_ascan_becomes_a_record() -> None:
    (record,) = told(UsfpDialect(DEVICE).ascan(SAMPLES, seq=2**32 - 1, t_us=2**40))
    np.testing.assert_array_equal(record.samples, SAMPLES)
    assert (record.seq, record.fs_hz, record.t0_us, record.gain_db, record.t_us, record.rf) == (
        2**32 - 1, 1e7, 1.5, 20.5, 2**40, True)


def test_a_device_of_no_prf_of_its_own_does_not_say_one() -> None:
    (hello,) = told(UsfpDialect(DeviceDescription(fs_hz=1, n_samples=1)).boot(STATE))
    assert hello.prf_hz is None


@pytest.mark.parametrize("status", [1, 2, 77])
def test_a_refusal_says_which_and_why(status: int) -> None:
    (refused,) = told(usfp.encode_ack(Ack(Opcode.START, status), seq=START_SEQ))
    assert isinstance(refused, Refused)
    assert f"status {status}" in refused.reason


def test_answers_to_another_host_are_not_heeded() -> None:
    strange = [usfp.encode_ack(Ack(opcode, status), seq=seq)
               for opcode in (1, 2) for status in (0, 2) for seq in (0, 1, START_SEQ + 5)]
    assert told(*strange, usfp.encode(Frame(FrameType.ACK, seq=START_SEQ, payload=b"\1"))) == []


def test_an_echo_of_our_own_command_is_no_evidence() -> None:
    front = UsfpFrontEnd(Request())
    assert front.feed(front.probe() + front.start() + front.stop()) == []
    assert front.seen == 0
    front.feed(UsfpDialect(DEVICE).boot(STATE))
    assert front.seen == front.evidence == 1


def test_damage_is_corrupted_and_so_is_a_payload_that_cannot_be() -> None:
    good = UsfpDialect(DEVICE).ascan(SAMPLES, seq=0, t_us=0)
    bad_crc = good[:60] + bytes([good[60] ^ 1]) + good[61:]
    no_rice = usfp.encode(Frame(FrameType.ASCAN, payload_format=PayloadFormat.DELTA_RICE, n_samples=64,
                                payload=b"\xff" * 100))
    records, front = decode("usfp", good + bad_crc + no_rice + good)
    assert len(records) == 2
    assert front.stats == LinkStats(2, corrupted=2, resyncs=1, skipped_bytes=len(good) + len(no_rice))


def test_start_carries_the_request() -> None:
    (frame,) = usfp.Decoder().feed(UsfpFrontEnd(Request(2.5, 7, PayloadFormat.DELTA_RICE)).start())
    assert frame.seq == START_SEQ
    assert usfp.parse_command(frame) == Command(Opcode.START, 2500, 7, PayloadFormat.DELTA_RICE)


commands = st.sampled_from([
    (usfp.command_start(100.0, 5, seq=3), "start"), (usfp.command_stop(seq=4), "stop"),
    (usfp.command_info(seq=5), "say"), (usfp.encode_command(Command(99), seq=6), "say"),
])


@given(st.lists(commands, max_size=6), st.lists(st.integers(0, 400), max_size=10))
def test_commands_become_orders_in_any_division(said: list[tuple[bytes, str]], cuts_at: list[int]) -> None:
    stream = b"noise" + b"".join(each for each, _ in said)
    dialect = UsfpDialect(DEVICE)
    orders = [order for piece in pieces(stream, cuts_at) for order in dialect.orders(piece)]
    assert [each.kind for each in orders] == [kind for _, kind in said]


def answered(command: bytes, **device: Any) -> Frame:
    dialect = UsfpDialect(DeviceDescription(**{"fs_hz": 10_000_000, "n_samples": 64, "peak": 2048, **device}))
    (order,) = dialect.orders(command)
    (frame,) = usfp.Decoder().feed(dialect.reply(order, STATE))
    return frame


def test_every_command_is_answered_with_its_number() -> None:
    for command, ack in [
        (usfp.command_start(seq=3), Ack(Opcode.START, detail=42)),
        (usfp.command_stop(seq=3), Ack(Opcode.STOP, detail=9)),
        (usfp.encode_command(Command(99), seq=3), Ack(99, AckStatus.UNKNOWN_OPCODE)),
    ]:
        frame = answered(command)
        assert (frame.seq, usfp.parse_ack(frame)) == (3, ack)
    frame = answered(usfp.command_info(seq=3))
    assert (frame.seq, frame.t_us, usfp.parse_info(frame).n_samples) == (42, 5000, 64)


@pytest.mark.parametrize(("start", "device", "status"), [
    ({"payload_format": 1}, {}, AckStatus.OK), ({"payload_format": 2}, {}, AckStatus.OK),
    ({"payload_format": 3}, {}, AckStatus.BAD_ARGUMENT),
    ({"payload_format": 1}, {"peak": 2049}, AckStatus.BAD_ARGUMENT),
    ({"payload_format": 1}, {"peak": 0, "adc_bits": 14}, AckStatus.BAD_ARGUMENT),
    ({"prf_hz": 156_250.0}, {}, AckStatus.OK), ({"prf_hz": 156_251.0}, {}, AckStatus.BAD_ARGUMENT),
])
def test_what_the_device_cannot_do_is_refused(
    start: dict[str, Any], device: dict[str, Any], status: int
) -> None:
    assert usfp.parse_ack(answered(usfp.command_start(**start), **device)).status == status


def test_the_end_of_a_counted_stream_is_told_with_the_number_of_its_start() -> None:
    (frame,) = usfp.Decoder().feed(UsfpDialect(DEVICE).reply(Order("stop", tag=8), STATE))
    assert (frame.seq, usfp.parse_ack(frame)) == (8, Ack(Opcode.STOP, detail=9))


@pytest.mark.parametrize("payload_format", list(PayloadFormat))
def test_host_and_device_agree_on_every_format(payload_format: PayloadFormat) -> None:
    host, dialect = UsfpFrontEnd(Request(payload_format=payload_format)), UsfpDialect(DEVICE)
    for order in dialect.orders(host.start()):
        assert host.feed(dialect.reply(order, STATE)) == [Started(42)]
    smooth = (1000 * np.sin(np.arange(64) / 9)).astype(np.int16)
    frame = dialect.ascan(smooth, seq=1, t_us=0)
    assert frame[6] == payload_format
    for sent in (smooth, SAMPLES * 16):  # the second fits neither packed-12 nor a shorter delta-Rice
        (record,) = host.feed(dialect.ascan(sent, seq=1, t_us=0))
        assert isinstance(record, Record)
        np.testing.assert_array_equal(record.samples, sent)


def test_an_encoder_of_ones_own_is_used() -> None:
    asked: dict[str, Any] = {}

    def encode(samples: Any, **fields: Any) -> bytes:
        asked.update(fields)
        return b"frame"

    assert UsfpDialect(DEVICE, encode=encode).ascan(SAMPLES, seq=4, t_us=6) == b"frame"
    assert asked == {"seq": 4, "t_us": 6, "fs_hz": 10_000_000, "t0_ns": 1500, "gain_cdb": 2050,
                     "payload_format": PayloadFormat.INT16}


@pytest.mark.parametrize("change", [{"name": "n" * 25}, {"t0_us": 3e6}, {"fs_hz": -1}, {"n_samples": 65536}])
def test_a_description_that_fits_no_field_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsfpError):
        UsfpDialect(DeviceDescription(**{"fs_hz": 1, "n_samples": 1, **change}))
