"""The device's states, as PROTOCOL.md has them: every row of the table is played on the transducer."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.firmware_bridge.bench_device import Serving, wait_for
from usedge_firmware import usfp
from usedge_firmware.transducer import VirtualTransducer
from usedge_firmware.usfp import Ack, AckStatus, Command, FrameType, Opcode

ASCANS = np.arange(3 * 64, dtype=np.int16).reshape(3, 64)
OK, STOP, START = AckStatus.OK, Opcode.STOP, Opcode.START


def acks(host: Any) -> list[tuple[int, Ack]]:
    return [(each.seq, usfp.parse_ack(each)) for each in host.frames if each.type == FrameType.ACK]


def stream(host: Any, seq: int, *, count: int = 0, prf_hz: float = 0.0) -> None:
    host.send(usfp.command_start(prf_hz, count, seq=seq))
    host.await_ack(START, seq)


def ascans_come(host: Any) -> None:
    seen = len(host.ascans())
    host.read_until(lambda _: len(host.ascans()) > seen + 3)


def boot(host: Any) -> None:
    info(host)
    assert host.read_until(bool)[-1].seq == 0


def info(host: Any) -> None:
    seen = sum(each.type == FrameType.INFO for each in host.frames)
    host.send(usfp.command_info())
    host.read_until(lambda frames: sum(each.type == FrameType.INFO for each in frames) > seen)


def start(host: Any) -> None:
    stream(host, 1)
    assert acks(host) == [(1, Ack(START, OK, 0))]
    ascans_come(host)


def stop_idle(host: Any) -> None:
    stream(host, 1, count=7)
    assert host.await_ack(STOP, 1).detail == 7
    host.send(usfp.command_stop(seq=2))
    assert host.await_ack(STOP, 2).detail == 7


def main_bang(host: Any) -> None:
    stream(host, 1)
    ascans_come(host)
    assert [each.seq for each in host.ascans()] == list(range(len(host.ascans())))


def count_reached(host: Any) -> None:
    stream(host, 9, count=5)
    assert host.await_ack(STOP, 9).detail == 5 == len(host.ascans())


def stop_streaming(host: Any) -> None:
    stream(host, 1)
    ascans_come(host)
    host.send(usfp.command_stop(seq=2))
    assert host.await_ack(STOP, 2).detail == len(host.ascans())


def start_streaming(host: Any) -> None:
    stream(host, 1)
    ascans_come(host)
    stream(host, 2, count=4)
    assert [(seq, ack.opcode) for seq, ack in acks(host)][:3] == [(1, START), (1, STOP), (2, START)]
    assert host.await_ack(STOP, 2).detail == 4


def info_streaming(host: Any) -> None:
    stream(host, 1)
    info(host)
    ascans_come(host)
    assert host.decoder.stats.skipped_bytes == 0


def unread(host: Any) -> None:
    stream(host, 1)
    device = host.device
    host.wait_for(lambda: device.stalls == 1)
    host.read_for(0.3)
    held = len(host.ascans())
    host.read_for(0.3)
    assert len(host.ascans()) == held, "the stream went on after it was dropped"
    stream(host, 2, count=3)
    assert host.await_ack(STOP, 2).detail == 3


def impossible_start(host: Any) -> None:
    for streaming in (False, True):
        if streaming:
            stream(host, 1)
        host.send(usfp.encode_command(Command(START, payload_format=77), seq=5))
        assert host.await_ack(START, 5).status == AckStatus.BAD_ARGUMENT
        if streaming:
            ascans_come(host)
        else:
            assert host.ascans() == []


def unknown_opcode(host: Any) -> None:
    host.send(usfp.encode_command(Command(99), seq=3))
    assert host.await_ack(99, 3).status == AckStatus.UNKNOWN_OPCODE
    stream(host, 1)
    host.send(usfp.encode_command(Command(98), seq=4))
    assert host.await_ack(98, 4).status == AckStatus.UNKNOWN_OPCODE
    ascans_come(host)


ROWS: dict[tuple[str, str], Callable[[Any], None]] = {
    ("BOOT", "power, reset"): boot,
    ("IDLE", "INFO"): info,
    ("IDLE", "START"): start,
    ("IDLE", "STOP"): stop_idle,
    ("STREAMING", "the main bang"): main_bang,
    ("STREAMING", "`count` reached"): count_reached,
    ("STREAMING", "STOP"): stop_streaming,
    ("STREAMING", "START"): start_streaming,
    ("STREAMING", "INFO"): info_streaming,
    ("STREAMING", "the host takes no byte for 2 s, or hangs up"): unread,
    ("IDLE, STREAMING", "START it cannot satisfy"): impossible_start,
    ("IDLE, STREAMING", "unknown opcode"): unknown_opcode,
}


def test_every_row_is_played(room: Path) -> None:
    text = (room / "PROTOCOL.md").read_text(encoding="utf-8")
    table = re.search(r"^### The device's states\n(.*?)^###", text, re.M | re.S)
    assert table is not None
    rows = re.findall(r"^\| ([A-Z, ]+) \| (.+?) \| .+ \| .+ \|$", table[1], re.M)
    assert rows == list(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} on {row[1]}")
def test_the_device_does_what_its_row_says(serving: Serving, row: tuple[str, str]) -> None:
    device = VirtualTransducer(ASCANS, fs_hz=1_000_000, use_native=False, stall_s=0.2)
    host = serving(device)
    host.device, host.wait_for = device, wait_for
    ROWS[row](host)

