"""The virtual transducer on a real pseudo-terminal. Only generous deadlines; never the host's timing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.firmware_bridge.bench_device import (
    DEADLINE_S,
    Serving,
    assert_contiguous,
    assert_unharmed,
    enough,
    transducer,
    wait_for,
)
from usedge_firmware import usfp
from usedge_firmware.native import NativeEncoder, NativeUnavailableError
from usedge_firmware.schedule import Stream
from usedge_firmware.transducer import VirtualTransducer
from usedge_firmware.usfp import Ack, AckStatus, Command, Frame, FrameType, Opcode, UsfpError


def test_nothing_but_info_before_start(serving: Serving) -> None:
    device = transducer(prf_hz=2000.0)
    host = serving(device)
    assert {each.type for each in host.read_for(0.3)} <= {FrameType.INFO}
    assert device.sent == 0


def test_info_is_answered_and_tells_the_device(serving: Serving) -> None:
    device = transducer(prf_hz=12.5, adc_bits=10, session_id=0xCAFE)
    host = serving(device)
    host.send(usfp.command_info())
    # One at boot, if the host was there in time, and one in answer.
    wait_for(lambda: device.commands == 1)
    frames = host.read_until(lambda frames: len(frames) >= 1)
    info = usfp.parse_info(frames[-1])
    assert info.session_id == device.description.session_id
    assert (info.session_id, info.adc_bits, info.n_samples) == (0xCAFE, 10, 2048)
    assert (info.fs_hz, info.prf_hz, info.t0_ns, info.name) == (10_000_000, 12.5, 1500, "bench")


def test_every_boot_is_another_session() -> None:
    with transducer() as first, transducer() as second:
        assert first.description.session_id != second.description.session_id


def test_500_ascans_are_accounted_for(serving: Serving) -> None:
    device = transducer()
    host = serving(device)
    host.send(usfp.command_start(seq=1))
    assert host.await_ack(Opcode.START, 1) == Ack(Opcode.START, AckStatus.OK, 0)
    host.read_until(enough(500))
    host.send(usfp.command_stop(seq=2))
    ack = host.await_ack(Opcode.STOP, 2)
    assert ack.detail == len(host.ascans()) == device.sent >= 500
    assert_contiguous(host.ascans(), 0)
    assert_unharmed(host)
    assert host.frames[-1].type == FrameType.ACK
    assert host.read_for(0.2)[-1].type == FrameType.ACK, "something was sent after STOP's answer"


def test_a_count_ends_the_stream_by_itself(serving: Serving) -> None:
    host = serving(transducer())
    host.send(usfp.command_start(count=20, seq=5))
    assert host.await_ack(Opcode.STOP, 5).detail == 20
    assert_contiguous(host.ascans(), 0)
    host.send(usfp.command_stop(seq=6))
    assert host.await_ack(Opcode.STOP, 6).detail == 20
    assert len(host.ascans()) == 20


def test_seq_goes_on_from_stream_to_stream(serving: Serving) -> None:
    host = serving(transducer())
    host.send(usfp.command_start(count=9, seq=1))
    host.await_ack(Opcode.STOP, 1)
    host.send(usfp.command_start(count=3, seq=2))
    assert host.await_ack(Opcode.START, 2).detail == 9
    assert host.await_ack(Opcode.STOP, 2).detail == 3
    assert_contiguous(host.ascans(), 0)


def test_start_during_a_stream_begins_another_at_a_frame_boundary(serving: Serving) -> None:
    host = serving(transducer())
    host.send(usfp.command_start(seq=1))
    host.read_until(enough(10))
    host.send(usfp.command_start(count=5, seq=2))
    first = host.await_ack(Opcode.STOP, 1).detail
    assert host.await_ack(Opcode.START, 2).detail == first
    assert host.await_ack(Opcode.STOP, 2).detail == 5
    assert len(host.ascans()) == first + 5
    assert_contiguous(host.ascans(), 0)
    assert_unharmed(host)


@pytest.mark.parametrize(("own_prf_hz", "asked_prf_hz"), [(10.0, 400.0), (400.0, 0.0)])
def test_the_schedule_is_absolute_and_every_missed_slot_is_counted(
    serving: Serving, own_prf_hz: float, asked_prf_hz: float
) -> None:
    device = transducer(prf_hz=own_prf_hz)
    host = serving(device)
    host.send(usfp.command_start(prf_hz=asked_prf_hz, count=60, seq=1))
    host.await_ack(Opcode.STOP, 1)
    t_us = np.array([each.t_us for each in host.ascans()])
    slots = np.round((t_us - t_us[0]) / 2500.0).astype(int)
    assert np.abs(t_us - t_us[0] - 2500 * slots).max() <= 1
    assert (np.diff(slots) >= 1).all()
    assert device.overruns >= slots[-1] + 1 - 60
    assert_contiguous(host.ascans(), 0)


def test_a_schedule_neither_drifts_nor_bursts() -> None:
    stream = Stream(tag=0, prf_mhz=3_000, count=0, started_ns=100)
    for slot in (0, 1, 3_000_001, 2**40):
        stream.slot = slot
        assert stream.due_ns() == 100 + slot * 10**9 // 3
    third = 10**9 / 3
    stream.slot = 5
    assert stream.miss_slots(100 + int(5.9 * third)) == 0
    assert stream.miss_slots(100 + int(9.1 * third)) == 4
    assert stream.slot == 9
    assert stream.miss_slots(100) == 0


def test_a_host_that_pauses_loses_nothing_and_costs_slots(serving: Serving) -> None:
    device = transducer(stall_s=DEADLINE_S)
    host = serving(device)
    host.send(usfp.command_start(prf_hz=2000.0, seq=1))
    host.read_until(enough(5))
    time.sleep(0.5)
    host.read_until(enough(100))
    host.send(usfp.command_stop(seq=2))
    assert host.await_ack(Opcode.STOP, 2).detail == len(host.ascans())
    assert device.overruns > 0
    assert device.stalls == 0
    assert_contiguous(host.ascans(), 0)
    assert_unharmed(host)


def test_an_open_loop_sends_late_what_fell_due_and_tells_when_it_was_due(serving: Serving) -> None:
    device = transducer(stall_s=DEADLINE_S, open_loop=True)
    host = serving(device)
    host.send(usfp.command_start(prf_hz=1000.0, count=400, seq=1))
    host.read_until(enough(5))
    time.sleep(0.3)
    host.await_ack(Opcode.STOP, 1)
    assert_contiguous(host.ascans(), 0)
    assert device.overruns == 0
    seq, due_ns, written_ns = np.array(device.times).T
    assert list(seq) == list(range(400))
    assert np.abs(due_ns - due_ns[0] - seq * 1_000_000).max() <= 1
    assert (written_ns > due_ns).all()
    assert (written_ns - due_ns).max() > 200e6  # what the pipe could not take meanwhile
    t_us = np.array([each.t_us for each in host.ascans()])
    assert np.abs(np.diff(t_us) - 1000).max() <= 1


def test_a_host_that_stops_reading_is_given_up_and_may_come_back(serving: Serving) -> None:
    device = transducer(stall_s=0.2)
    host = serving(device)
    host.send(usfp.command_start(seq=1))
    host.read_until(enough(3))
    wait_for(lambda: device.stalls == 1)
    host.read_for(0.2)
    before = len(host.ascans())
    host.send(usfp.command_start(count=50, seq=2))
    first_seq = host.await_ack(Opcode.START, 2).detail
    assert host.await_ack(Opcode.STOP, 2).detail == 50
    assert_contiguous(host.ascans()[before:], first_seq)
    assert len(host.ascans()) == before + 50
    assert host.decoder.stats.crc_errors + host.decoder.stats.header_errors <= 1


def test_a_host_may_close_the_port_and_open_it_again(
    serving: Serving, make_host: Callable[[str], Any]
) -> None:
    device = transducer(stall_s=0.2)
    first = serving(device)
    first.send(usfp.command_start(seq=1))
    first.read_until(enough(3))
    first.close()
    wait_for(lambda: device.stalls == 1)
    second = make_host(device.port)
    second.send(usfp.command_start(count=30, seq=2))
    first_seq = second.await_ack(Opcode.START, 2).detail
    assert second.await_ack(Opcode.STOP, 2).detail == 30
    assert_contiguous(second.ascans(), first_seq)
    assert_unharmed(second)


def test_an_unknown_opcode_is_refused_and_garbage_ignored(serving: Serving) -> None:
    device = transducer()
    host = serving(device)
    half_a_command = usfp.command_start()[:30]
    short_payload = usfp.encode(Frame(FrameType.COMMAND, payload=b"\1"))
    host.send(os.urandom(300) + half_a_command + short_payload + usfp.encode_log("not for a device"))
    host.send(usfp.encode_command(Command(77), seq=8))
    assert host.await_ack(77, 8) == Ack(77, AckStatus.UNKNOWN_OPCODE, 0)
    assert device.commands == 1
    assert device.sent == 0


def test_a_flood_of_commands_is_answered_in_bounded_memory(serving: Serving) -> None:
    device = transducer(stall_s=DEADLINE_S)
    host = serving(device)
    os.set_blocking(host.fd, False)
    question = usfp.command_info()
    flood, taken = question * 4000, 0
    quiet_since = time.monotonic()
    while taken < len(flood) and time.monotonic() - quiet_since < 0.5:
        try:
            taken += os.write(host.fd, flood[taken : taken + 4096])
            quiet_since = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
    assert taken < len(flood), "nothing held the flood back"
    rest = -taken % len(question)
    host.send_all(question[len(question) - rest :] + usfp.command_stop(seq=9))
    host.await_ack(Opcode.STOP, 9)
    asked = (taken + rest) // len(question)
    infos = sum(each.type == FrameType.INFO for each in host.frames)
    assert infos in (asked, asked + 1), "one more when the host was there at boot"
    assert device.commands == asked + 1


def test_serve_returns_once_the_host_has_everything(make_host: Callable[[str], Any]) -> None:
    with transducer() as device:
        thread = threading.Thread(target=device.serve, kwargs={"exit_after": 40}, daemon=True)
        thread.start()
        host = make_host(device.port)
        host.send(usfp.command_start(seq=1))
        assert host.await_ack(Opcode.STOP, 1).detail == 40
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
        assert len(host.ascans()) == device.sent == 40


def test_serve_waits_for_a_slow_host(make_host: Callable[[str], Any]) -> None:
    with transducer(stall_s=DEADLINE_S) as device:
        thread = threading.Thread(target=device.serve, kwargs={"exit_after": 2}, daemon=True)
        thread.start()
        host = make_host(device.port)
        host.send(usfp.command_start(count=2, seq=1))
        wait_for(lambda: device.sent == 2)
        thread.join(0.3)
        assert thread.is_alive(), "it left before the host had read anything"
        host.await_ack(Opcode.STOP, 1)
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


def test_serve_returns_though_the_host_reads_no_more(make_host: Callable[[str], Any]) -> None:
    with transducer(stall_s=0.2) as device:
        thread = threading.Thread(target=device.serve, kwargs={"exit_after": 1}, daemon=True)
        thread.start()
        make_host(device.port).send(usfp.command_start())
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
        assert device.sent == 1


def test_c_and_python_devices_send_the_same(serving: Serving, native: NativeEncoder) -> None:
    payloads = []
    for use_native in (True, False):
        host = serving(transducer(use_native=use_native))
        host.send(usfp.command_start(count=10, seq=1))
        host.await_ack(Opcode.STOP, 1)
        assert_unharmed(host)
        payloads.append([(each.seq, each.payload) for each in host.ascans()])
    assert payloads[0] == payloads[1]


def test_a_port_that_exists_is_served_and_its_hang_up_reported() -> None:
    line, end = os.openpty()
    with transducer(path=os.ttyname(end), baud=115_200) as device:
        assert device.port == os.ttyname(end)
        os.close(end)
        os.write(line, usfp.command_start(count=3, seq=1))
        faults: list[OSError] = []

        def serve() -> None:
            try:
                device.serve()
            except OSError as fault:
                faults.append(fault)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        decoder, frames = usfp.Decoder(), []
        while not enough(3)(frames):
            frames += decoder.feed(os.read(line, 65536))
        os.close(line)
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
        assert len(faults) == 1


def test_a_port_that_cannot_be_opened_is_an_oserror(tmp_path: Any) -> None:
    with pytest.raises(FileNotFoundError):
        transducer(path=str(tmp_path / "ttyNone"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        transducer(path=str(tmp_path / "file"))
    with pytest.raises(UsfpError, match="12345 baud"):
        transducer(path=str(tmp_path / "file"), baud=12_345)


@pytest.mark.parametrize(
    "ascans",
    [[], [np.zeros(4, np.int16), np.zeros(5, np.int16)], [np.zeros(4, np.float32)], np.zeros(4, np.int16)],
)
def test_what_is_no_recording_is_refused(ascans: Any) -> None:
    with pytest.raises((UsfpError, TypeError)):
        VirtualTransducer(ascans, fs_hz=1)


@pytest.mark.parametrize("option", [{"name": "n" * 25}, {"gain_db": 400.0}, {"t0_us": 3e6}, {"fs_hz": -1}])
def test_a_property_that_fits_no_field_is_refused(option: dict[str, Any]) -> None:
    with pytest.raises(UsfpError):
        transducer(**option)


def test_use_native_insists(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(NativeUnavailableError):
        transducer(use_native=True)
    transducer(use_native=None).close()
