"""The serial reader against a virtual transducer on a real pty."""

from __future__ import annotations

import errno
import os
import threading
import tty
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from usedge.errors import InputError, LinkError
from usedge.sources import SourceOptions, open_source
from usedge.sources.link import why_not
from usedge.sources.serial_port import SerialSource
from usedge_firmware import usfp
from usedge_firmware.frontends.usfp_link import START_SEQ
from usedge_firmware.transducer import VirtualTransducer

ROWS = np.arange(12, dtype=np.int16).repeat(300).reshape(12, 300)


@pytest.fixture
def device() -> Iterator[VirtualTransducer]:
    stop = threading.Event()
    with VirtualTransducer(
        ROWS, fs_hz=8_000_000, t0_us=-1.5, prf_hz=0, gain_db=12.5, use_native=False
    ) as transducer:
        thread = threading.Thread(target=transducer.serve, args=(stop,))
        thread.start()
        yield transducer
        stop.set()
        thread.join()


def test_an_ascan_arrives_with_all_its_fields(device: VirtualTransducer) -> None:
    with open_source(device.port, SourceOptions(count=30)) as source:
        ascans = list(source)
    assert [ascan.seq for ascan in ascans] == list(range(30))
    for ascan in ascans:
        np.testing.assert_array_equal(ascan.samples, ROWS[ascan.seq % 12])
        assert (ascan.fs_hz, ascan.t0_us, ascan.gain_db) == (8e6, -1.5, 12.5)
    assert all(earlier.t_ns <= later.t_ns for earlier, later in pairwise(ascans))
    counts = source.counts
    assert (counts.received, counts.sent, counts.seq_gaps, counts.crc_errors) == (30, 30, 0, 0)


def test_a_second_run_on_the_same_port_starts_clean(device: VirtualTransducer) -> None:
    for _ in range(3):
        with open_source(device.port, SourceOptions()) as source:
            for taken, _ascan in enumerate(source, 1):
                if taken == 25:
                    source.stop()
        counts = source.counts
        assert counts.sent == counts.received + counts.seq_gaps
        assert counts.received >= 25
        assert counts.crc_errors == 0


class ScriptedDevice:
    """A pty whose other end answers the handshake, then writes ``stream`` and how much it ``sent``."""

    def __init__(
        self,
        stream: bytes,
        sent: int | None = None,
        *,
        before: bytes = b"",
        next_seq: int = 0,
        status: int = usfp.AckStatus.OK,
    ) -> None:
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.port = os.ttyname(self.slave)
        self._thread = threading.Thread(target=self._serve, args=(before, stream, next_seq, sent, status))
        self._thread.start()

    def _serve(self, before: bytes, stream: bytes, next_seq: int, sent: int | None, status: int) -> None:
        commands = usfp.Decoder()
        while True:
            for frame in commands.feed(os.read(self.master, 4096)):
                opcode = usfp.parse_command(frame).opcode
                if opcode == usfp.Opcode.INFO:
                    os.write(
                        self.master,
                        usfp.encode_info(usfp.Info(7, 12, (1, 0, 0), 1_000_000, 64, 0, 0, "scripted")),
                    )
                elif opcode == usfp.Opcode.START:
                    begun = usfp.encode_ack(usfp.Ack(usfp.Opcode.START, status, next_seq), seq=frame.seq)
                    ended = usfp.encode_ack(usfp.Ack(usfp.Opcode.STOP, detail=sent or 0), seq=frame.seq)
                    os.write(self.master, before + begun + stream + (ended if sent is not None else b""))
                    return

    def close(self) -> None:
        self._thread.join()
        os.close(self.master)
        os.close(self.slave)


def frames(*numbers: int) -> list[bytes]:
    rng = np.random.default_rng(0)
    return [
        usfp.encode_ascan(rng.integers(-99, 99, 64, dtype=np.int16), seq=seq, fs_hz=1_000_000)
        for seq in numbers
    ]


def counts_of(
    stream: bytes, sent: int, *, before: bytes = b"", next_seq: int = 0
) -> tuple[list[int], SerialSource]:
    device = ScriptedDevice(stream, sent, before=before, next_seq=next_seq)
    try:
        source = SerialSource(device.port, SourceOptions(patience_s=10))
        with source:
            return [ascan.seq for ascan in source], source
    finally:
        device.close()


def test_a_missing_number_is_a_gap() -> None:
    seqs, source = counts_of(b"".join(frames(0, 1, 4, 5)), 6)
    assert seqs == [0, 1, 4, 5]
    assert source.counts.seq_gaps == 2
    assert source.counts.received + source.counts.seq_gaps == source.counts.sent


def test_a_corrupted_frame_is_counted_and_costs_only_itself() -> None:
    parts = frames(0, 1, 2)
    bent = bytearray(parts[1])
    bent[60] ^= 0x10
    seqs, source = counts_of(parts[0] + bytes(bent) + parts[2], 3)
    assert seqs == [0, 2]
    assert (source.counts.crc_errors, source.counts.resyncs, source.counts.seq_gaps) == (1, 1, 1)


def test_what_stands_behind_a_cut_frame_is_not_lost_with_it() -> None:
    """The end of the stream lies within the length that the cut frame announced."""
    cut = usfp.encode_ascan(np.zeros(4000, np.int16), seq=1, fs_hz=1_000_000)[:50]
    device = ScriptedDevice(frames(0)[0] + cut + frames(2)[0], 3)
    try:
        source = SerialSource(device.port, SourceOptions(patience_s=0.5))
        with source:
            assert [ascan.seq for ascan in source] == [0, 2]
    finally:
        device.close()
    counts = source.counts
    assert (counts.sent, counts.received, counts.seq_gaps) == (3, 2, 1)


def test_ascans_lost_at_the_end_are_known_from_the_devices_own_count() -> None:
    seqs, source = counts_of(b"".join(frames(0, 1)), 5)
    assert seqs == [0, 1]
    assert source.counts.seq_gaps == 3


def test_the_sequence_number_wraps() -> None:
    seqs, source = counts_of(b"".join(frames(0xFFFFFFFF, 0, 1)), 3, next_seq=0xFFFFFFFF)
    assert seqs == [0xFFFFFFFF, 0, 1]
    assert source.counts.seq_gaps == 0


@pytest.mark.parametrize("number", [12, START_SEQ])
def test_what_another_host_left_running_is_not_ours(number: int) -> None:
    """Nor is it when the other host was a run of ours that was killed, and numbered its START as we do."""
    stale = b"".join(frames(90, 91)) + usfp.encode_ack(usfp.Ack(usfp.Opcode.STOP, detail=92), seq=number)
    seqs, source = counts_of(b"".join(frames(92, 93)), 2, before=stale, next_seq=92)
    assert seqs == [92, 93]
    assert (source.counts.received, source.counts.sent, source.counts.seq_gaps) == (2, 2, 0)


class HardOfHearing:
    """A pty whose other end misses the first START and the first STOP, and streams between the second."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.port = os.ttyname(self.slave)
        self.heard: list[tuple[int, int]] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        commands = usfp.Decoder()
        while sum(opcode == usfp.Opcode.STOP for opcode, _ in self.heard) < 2:
            for frame in commands.feed(os.read(self.master, 4096)):
                self.heard.append((usfp.parse_command(frame).opcode, frame.seq))
                os.write(self.master, self._answer(*self.heard[-1]))

    def _answer(self, opcode: int, number: int) -> bytes:
        times = sum(each == opcode for each, _ in self.heard)
        if opcode == usfp.Opcode.INFO:
            return usfp.encode_info(usfp.Info(7, 12, (1, 0, 0), 1_000_000, 64, 0, 0, "scripted"))
        if times < 2:
            return b""
        detail = 5 if opcode == usfp.Opcode.STOP else 0
        ack = usfp.encode_ack(usfp.Ack(opcode, detail=detail), seq=number)
        return ack + (b"".join(frames(0, 1, 2, 3, 4)) if opcode == usfp.Opcode.START else b"")

    def close(self) -> None:
        self._thread.join()
        os.close(self.master)
        os.close(self.slave)


def test_a_start_and_a_stop_that_were_lost_are_sent_again() -> None:
    device = HardOfHearing()
    try:
        with SerialSource(device.port, SourceOptions(patience_s=20)) as source:
            for ascan in source:
                if ascan.seq == 4:
                    source.stop()
    finally:
        device.close()
    counts = source.counts
    assert (counts.received, counts.sent, counts.seq_gaps) == (5, 5, 0)
    starts = [number for opcode, number in device.heard if opcode == usfp.Opcode.START]
    assert len(set(starts)) == 2, "a repeated START needs a number of its own"


def test_a_device_that_falls_silent_is_told() -> None:
    device = ScriptedDevice(frames(0)[0])
    try:
        source = SerialSource(device.port, SourceOptions(patience_s=0.5))
        with pytest.raises(LinkError, match="fell silent"), source:
            for _ in source:
                pass
    finally:
        device.close()


def test_a_refused_command_is_told() -> None:
    device = ScriptedDevice(b"", status=usfp.AckStatus.BAD_ARGUMENT)
    try:
        with pytest.raises(LinkError, match="refused"), SerialSource(device.port, SourceOptions()) as source:
            list(source)
    finally:
        device.close()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOENT, "does not exist"),
        (errno.EACCES, "no permission"),
        (errno.EBUSY, "in use"),
        (errno.EIO, "cannot be"),
    ],
)
def test_why_a_port_does_not_open(code: int, words: str) -> None:
    what, next_step = why_not("/dev/ttyX", OSError(code, os.strerror(code)))
    assert words in what
    assert "/dev/ttyX" in what
    assert next_step


@pytest.mark.parametrize(("port", "words"), [
    ("socket://127.0.0.1:1", "refused"), ("socket://x", "HOST:PORT"), ("socket://[::1]:99999", "HOST:PORT"),
])
def test_why_a_socket_does_not_open(port: str, words: str) -> None:
    with pytest.raises(LinkError, match=words):
        open_source(port, SourceOptions()).__enter__()


def test_an_unknown_scheme_prints_the_known_ones() -> None:
    with pytest.raises(InputError, match="sim:, replay:"):
        open_source("gopher:x", SourceOptions())
