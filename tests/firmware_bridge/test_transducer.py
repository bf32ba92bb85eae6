"""The virtual transducer on a real pseudo-terminal. Only generous deadlines; never the host's timing."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usedge_firmware import usfp
from usedge_firmware.continuity import Continuity
from usedge_firmware.faults import FaultPlan, FaultPlanError
from usedge_firmware.frontend import Record, Request
from usedge_firmware.frontends import open_front_end
from usedge_firmware.injector import Injector
from usedge_firmware.ledger import Ledger
from usedge_firmware.native import NativeEncoder, NativeUnavailableError
from usedge_firmware.schedule import DeviceClock, Stream
from usedge_firmware.transducer import VirtualTransducer
from usedge_firmware.usfp import Ack, AckStatus, Command, Frame, FrameType, Opcode, UsfpError

ASCANS = np.random.default_rng(3).integers(-2048, 2048, (7, 2048)).astype(np.int16)
DEADLINE_S = 60.0
Serving = Callable[[VirtualTransducer], Any]


def transducer(**options: Any) -> VirtualTransducer:
    settings = {"fs_hz": 10_000_000, "t0_us": 1.5, "gain_db": 20.5, "name": "bench", "use_native": False}
    return VirtualTransducer(ASCANS, **{**settings, **options})


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the transducer never got there"
        time.sleep(0.01)


def enough(count: int) -> Callable[[list[Frame]], bool]:
    return lambda frames: sum(each.type == FrameType.ASCAN for each in frames) >= count


def assert_contiguous(ascans: Iterable[Frame], first_seq: int) -> None:
    """Every A-scan follows the one before, and carries the recording that its seq stands for."""
    for expected, frame in enumerate(ascans, first_seq):
        assert frame.seq == expected
        np.testing.assert_array_equal(frame.samples(), ASCANS[expected % len(ASCANS)])
        assert (frame.fs_hz, frame.t0_ns, frame.gain_cdb) == (10_000_000, 1500, 2050)


def assert_unharmed(host: Any) -> None:
    stats = host.decoder.stats
    assert (stats.crc_errors, stats.header_errors, stats.skipped_bytes) == (0, 0, 0)


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


def faulty(spec: str, seed: int = 1, ledger: Ledger | None = None) -> Injector:
    return Injector(FaultPlan.parse(spec), seed=seed, ledger=ledger, adc_bits=12)


def test_what_a_host_counts_is_what_the_ledger_says(serving: Serving) -> None:
    injector = faulty(
        "flip=0.05,loss=0.05,burst=0.03,drop=0.05,duplicate=0.05,reorder=0.05,text=0.05,truncate=0.02"
    )
    device = transducer(injector=injector)
    host = serving(device)
    host.send(usfp.command_start(count=1000, seq=1))
    assert host.await_ack(Opcode.STOP, 1).detail == 1000 == device.sent
    account = Continuity()
    account.restart(0)
    for each in host.ascans():
        account.take(each.seq)
        np.testing.assert_array_equal(each.samples(), ASCANS[each.seq % len(ASCANS)])
    account.resume(1000)
    fates = injector.ledger.totals()
    assert fates["sent"] == 1000
    assert (account.received, account.duplicated) == (fates["intact"], fates["copies"])
    assert account.missing == fates["damaged"] + fates["dropped"] > 50
    assert account.late > 20
    assert host.decoder.stats.crc_errors > 0


def test_answers_are_spared(serving: Serving) -> None:
    host = serving(transducer(injector=faulty("burst=1:65536")))
    host.send(usfp.command_start(count=20, seq=1))
    host.await_ack(Opcode.STOP, 1)
    assert not host.ascans()


def test_a_dropped_stream_still_obeys(serving: Serving) -> None:
    device = transducer(injector=faulty("drop=1"))
    host = serving(device)
    host.send(usfp.command_start(prf_hz=500.0, seq=1))
    wait_for(lambda: device.sent > 10)
    host.send(usfp.command_stop(seq=2))
    assert host.await_ack(Opcode.STOP, 2).detail == device.sent


def test_a_stall_is_waited_out_and_is_no_reader_that_went_away(serving: Serving) -> None:
    device = transducer(injector=faulty("stall=0.3:0.1"), stall_s=0.05)
    host = serving(device)
    host.send(usfp.command_start(count=20, seq=1))
    host.read_until(lambda frames: any(each.type == FrameType.ACK and each.seq == 1 for each in frames[-1:])
                    and len(frames) > 20)
    assert_contiguous(host.ascans(), 0)
    assert_unharmed(host)


def test_saturation_reaches_the_wire_as_sound_frames(serving: Serving) -> None:
    host = serving(transducer(injector=faulty("saturate=1:4")))
    host.send(usfp.command_start(count=7, seq=1))
    host.await_ack(Opcode.STOP, 1)
    for each in host.ascans():
        expected = np.clip(ASCANS[each.seq].astype(int) * 4, -2048, 2047)
        np.testing.assert_array_equal(each.samples(), expected)


def test_jitter_moves_the_main_bang_and_its_time_with_it(serving: Serving) -> None:
    device = transducer(prf_hz=400.0, injector=faulty("jitter=500us"))
    host = serving(device)
    host.send(usfp.command_start(count=80, seq=1))
    host.await_ack(Opcode.STOP, 1)
    off = np.array([each.t_us for each in host.ascans()], dtype=float)
    off = (off - off[0] + 1250) % 2500 - 1250
    assert np.abs(off).max() <= 502
    assert off.max() - off.min() > 500


def test_a_drifting_clock_runs_fast_by_so_much() -> None:
    now = 5 * 10**9
    clock = DeviceClock(50.0, lambda: now)
    now += 10**12
    assert clock.ns() == 10**12 + 50 * 10**6
    assert DeviceClock(0.0, lambda: now).ns() == 0


def read_to_the_hang_up(host: Any) -> None:
    """Take all that comes until the cable is pulled, which a read tells by an error or by nothing."""
    while True:
        assert select.select([host.fd], [], [], DEADLINE_S)[0], "it never hung up"
        try:
            chunk = os.read(host.fd, 65536)
        except OSError:
            chunk = b""
        host.frames += host.decoder.feed(chunk)
        if not chunk:
            host.frames += host.decoder.finish()
            return


def reopened(make_host: Callable[[str], Any], link: Path) -> Any:
    """Open the port behind ``link`` anew when it is back."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return make_host(str(link))
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_pulled_cable_comes_back_under_the_same_link_and_seq_goes_on(
    serving: Serving, make_host: Callable[[str], Any], tmp_path: Path
) -> None:
    link = tmp_path / "port"
    injector = faulty("disconnect=0.02:0.05", seed=3)
    device = transducer(injector=injector, link=str(link), stall_s=DEADLINE_S)
    assert device.port == str(link)
    session, first = device.description.session_id, link.readlink()
    host = serving(device)
    account, next_seq = Continuity(), 0
    for number in range(1, 4):
        host.send(usfp.command_info() + usfp.command_start(seq=number))
        next_seq = host.await_ack(Opcode.START, number).detail
        account.resume(next_seq)
        info = next(usfp.parse_info(each) for each in host.frames if each.type == FrameType.INFO)
        assert info.session_id == session
        read_to_the_hang_up(host)
        for each in host.ascans():
            account.take(each.seq)
        host = reopened(make_host, link)
    assert device.unplugged == 3
    assert link.is_symlink()
    assert str(first).startswith("/dev/pts/")
    fates = injector.ledger.totals()
    assert (fates["sent"], fates["damaged"], fates["faults"]) == (device.sent, 3, {"disconnect": 3})
    account.resume(device.sent)
    assert (account.received, account.missing) == (fates["intact"], 3)
    assert device.stalls == 0


def test_a_reset_is_another_session_that_counts_from_0(serving: Serving) -> None:
    device = transducer(injector=faulty("reset=0.05:0.02", seed=2))
    host = serving(device)
    session = device.description.session_id
    host.send(usfp.command_start(seq=1))
    while device.resets == 0:
        host.read_for(0.05)
    # The decoder holds the frame that was cut off, and the INFO behind it, until it is told to wait no more.
    deadline = time.monotonic() + DEADLINE_S
    while host.frames[-1].type != FrameType.INFO:
        assert time.monotonic() < deadline
        host.read_for(0.05)
        host.frames += host.decoder.finish()
    assert_contiguous(host.ascans(), 0)
    again = usfp.parse_info(host.frames[-1])
    assert again.session_id == device.description.session_id != session
    assert host.frames[-1].seq == 0
    before = len(host.ascans())
    host.send(usfp.command_start(count=2, seq=2))
    assert host.await_ack(Opcode.START, 2).detail == 0
    host.read_until(enough(before + 1))
    assert host.ascans()[before].seq == 0
    other = faulty("reset=0.05:0.02", seed=2)
    assert [other.session_id(), other.session_id()] == [session, again.session_id]


def test_a_host_that_does_not_read_is_named_in_the_ledger(serving: Serving, tmp_path: Path) -> None:
    ledger = Ledger(seed=1, plan="", path=tmp_path / "ledger")
    device = transducer(injector=faulty("", ledger=ledger), stall_s=0.1)
    serving(device).send(usfp.command_start(seq=1))
    wait_for(lambda: device.stalls == 1)
    wait_for(lambda: "does not read" in (tmp_path / "ledger").read_text())
    ledger.close()


def test_a_link_is_never_put_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError):
        transducer(link=str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "link").symlink_to("/nowhere")
    with transducer(link=str(tmp_path / "link")) as device:
        assert os.path.samefile(tmp_path / "link", device._port.path)
    assert not (tmp_path / "link").is_symlink()
    with transducer(link=str(tmp_path / "link")):
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to("/elsewhere")
    assert (tmp_path / "link").readlink() == Path("/elsewhere")


def test_disconnects_need_a_link_to_follow() -> None:
    with pytest.raises(FaultPlanError, match="link"):
        transducer(injector=faulty("disconnect=0.1"))


@pytest.mark.parametrize("name", ["p0rk", "wulpus", "pic0rick"])
def test_every_dialect_streams_through_its_front_end(serving: Serving, name: str) -> None:
    injector = faulty("drop=0.1")
    device = transducer(dialect=name, prf_hz=50.0, injector=injector)
    host = serving(device)
    front = open_front_end(name, Request(prf_hz=50.0))
    records: list[Record] = []
    deadline = time.monotonic() + DEADLINE_S
    host.send(front.probe())
    begun = False
    while len(records) < 10:
        assert time.monotonic() < deadline
        if not begun and (front.seen or name != "p0rk"):
            begun = True
            host.send(front.start())
        host.send(front.wants(time.monotonic()))
        if select.select([host.fd], [], [], 0.02)[0]:
            records += [each for each in front.feed(os.read(host.fd, 65536)) if isinstance(each, Record)]
    assert len({each.seq for each in records}) == len(records)
    assert device.sent >= 10
    for each in records[:10]:
        matched = [row for row in ASCANS if np.corrcoef(row[: len(each.samples)], each.samples)[0, 1] > 0.99]
        assert len(matched) == 1
