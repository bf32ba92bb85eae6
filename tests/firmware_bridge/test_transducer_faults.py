"""The virtual transducer under faults, by other protocols, and behind a link that is pulled and put back."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.firmware_bridge.bench_device import (
    ASCANS,
    DEADLINE_S,
    Serving,
    assert_contiguous,
    assert_unharmed,
    enough,
    transducer,
    wait_for,
)
from usedge_firmware import usfp
from usedge_firmware.continuity import Continuity
from usedge_firmware.faults import FaultPlan, FaultPlanError
from usedge_firmware.frontend import Record, Request
from usedge_firmware.frontends import open_front_end
from usedge_firmware.injector import Injector
from usedge_firmware.ledger import Ledger
from usedge_firmware.schedule import DeviceClock
from usedge_firmware.usfp import FrameType, Opcode


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
        except BlockingIOError:
            continue
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
    wait_for(lambda: device.sent == ledger.sent > 0)
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
            with suppress(BlockingIOError):
                records += [each for each in front.feed(os.read(host.fd, 65536)) if isinstance(each, Record)]
    assert len({each.seq for each in records}) == len(records)
    assert device.sent >= 10
    for each in records[:10]:
        matched = [row for row in ASCANS if np.corrcoef(row[: len(each.samples)], each.samples)[0, 1] > 0.99]
        assert len(matched) == 1
