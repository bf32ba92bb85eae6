"""``python -m usedge_firmware.torture``: a million frames through every fault, and each one accounted for.

One thread makes frames and spoils them by a plan of faults; what is left of them goes through a real
pseudo-terminal to the decoder in another. The two sides know nothing of each other but the bytes. Then the
ledger of what was done is held against what the host counted:

- ``sent``: A-scans made. INFO and LOG frames come between them; they count as ``messages``.
- ``received``: distinct A-scans accepted by the decoder that were sent so, compared byte by byte with the
  frame itself (a hash or the frame's own CRC would be the decoder's word against itself).
- ``lost``: by the ledger never put on the wire, and not accepted.
- ``corrupted``: by the ledger damaged (no whole copy stands in the bytes that were written), not accepted.
- ``duplicated``: arrivals of a number that had arrived, as the host's ``Continuity`` counts them.
- ``false_accepts``: accepted frames, messages too, that differ in any field or byte from what was sent.
- ``unaccounted``: the sum of all that does not add up. Frames whose arrivals are not what the ledger says,
  1 and the copies when intact, else none; numbers missing by ``Continuity`` against ``lost + corrupted``;
  its distinct and repeated numbers against the arrivals; bytes written against bytes read, and bytes read
  against accepted frames + skipped bytes; frames that a lone fault cost beyond what it may (one, or
  those that a burst or a wrong baud rate touched).
- ``healed``: damaged by the ledger and yet accepted whole, because what followed it made it good by chance.
- ``worst_cost``: by fault, the most frames that one alone, with three sound frames behind it, has cost.

The last line on stdout is one JSON object with these. Exit status 1 when there are false accepts or anything
is unaccounted, 2 when the command makes no sense. The same seed gives the same figures.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from usedge_firmware.books import Books
from usedge_firmware.continuity import Continuity
from usedge_firmware.decoder import Decoder, DecoderStats
from usedge_firmware.faults import FaultPlan, FaultPlanError
from usedge_firmware.frame import (
    HEADER_SIZE,
    TRAILER_SIZE,
    Frame,
    FrameType,
    Int16Array,
    PayloadFormat,
    UsfpError,
    encode,
    encode_ascan,
)
from usedge_firmware.injector import Deed, Injector, Pause, Unplug
from usedge_firmware.messages import Info, encode_info, encode_log
from usedge_firmware.native import NativeUnavailableError, build_native_encoder
from usedge_firmware.port import DevicePort, open_pty, point_link

DEFAULT_PLAN: Final = (
    "flip=0.005,loss=0.005,insert=0.005,burst=0.004:48,truncate=0.004,drop=0.005,duplicate=0.005,"
    "reorder=0.005,text=0.003,saturate=0.002:8,baud=0.0005:3,disconnect=0.00002:0.001"
)
_POOL: Final = 384
_MESSAGE_EVERY: Final = 64
_LONGEST_READ: Final = 65536
_PATIENCE_S: Final = 30.0
_READ_WAIT_S: Final = 0.05
_FS_HZ: Final = 10_000_000
_INFO: Final = Info(1, 12, (0, 1, 0), _FS_HZ, 4096, 0, 1500, "torture")


class AnyDecoder(Protocol):
    """What is tortured: a decoder in either language, or one that a test has broken."""

    @property
    def stats(self) -> DecoderStats: ...  # noqa: D102

    def feed(self, data: bytes) -> list[Frame]: ...  # noqa: D102

    def finish(self) -> list[Frame]: ...  # noqa: D102


def make_pool(seed: int) -> list[tuple[Int16Array, PayloadFormat, bytes]]:
    """Return A-scans of 16 to 4096 samples, log-uniform, with their payloads in all formats in turn."""
    rng = np.random.default_rng(seed)
    pool = []
    for i in range(_POOL):
        n = round(16 * 2 ** rng.uniform(0.0, 8.0))
        echo = 900.0 * np.exp(-(((np.arange(n) - n / 2) / 12.0) ** 2)) * np.sin(0.7 * np.arange(n))
        samples = np.rint(echo + rng.normal(0.0, 6.0, n)).astype(np.int16)
        pool.append((samples, *_coded(samples, list(PayloadFormat)[i % len(PayloadFormat)])))
    return pool


def _coded(samples: Int16Array, wanted: PayloadFormat) -> tuple[PayloadFormat, bytes]:
    """Return the payload, as int16 where the wanted format does not make these samples shorter."""
    for each in (wanted, PayloadFormat.INT16):
        try:
            frame = encode_ascan(samples, seq=0, fs_hz=_FS_HZ, payload_format=each)
        except UsfpError:
            continue
        return each, frame[HEADER_SIZE:-TRAILER_SIZE]
    raise AssertionError("int16 carries every A-scan")


class Sender:
    """Makes the frames, and writes what the injector leaves of them; ``run`` is a thread's body."""

    def __init__(self, n_frames: int, seed: int, injector: Injector, books: Books, link: str) -> None:
        self.first_seq = 2**32 - n_frames // 2  # the numbers wrap half way
        self.written = 0
        self.n_read: Callable[[], int] = lambda: self.written
        self.failure: BaseException | None = None
        self.done = threading.Event()
        self.abandoned = threading.Event()
        self._n_frames = n_frames
        self._random = random.Random(seed)
        self._pool = make_pool(seed)
        self._injector = injector
        self._books = books
        self._link = link
        self._port = self._plug_in()

    def run(self) -> None:
        """Send everything; what goes wrong is kept for the receiver to raise."""
        try:
            for number, (seq, frame) in enumerate(self._frames()):
                self._books.enter(number, seq, frame)
                self._perform(self._injector.send(frame, seq))
            self._perform(self._injector.flush())
        except BaseException as failure:
            self.failure = failure
        self.done.set()

    def close(self) -> None:
        """Hang up."""
        self._port.close()

    def _frames(self) -> Iterator[tuple[int | None, bytes]]:
        number = 0
        for i in range(self._n_frames):
            seq = (self.first_seq + i) % 2**32
            if self._random.randrange(_MESSAGE_EVERY) == 0:
                yield None, self._message(number, seq)
                number += 1
            yield seq, self._ascan(number, seq)
            number += 1

    def _message(self, number: int, seq: int) -> bytes:
        if self._random.randrange(2):
            return encode_info(_INFO, seq=seq, t_us=number)
        return encode_log(f"supply {self._random.uniform(3.0, 3.6):.2f} V", seq=seq, t_us=number)

    def _ascan(self, number: int, seq: int) -> bytes:
        samples, payload_format, payload = self._random.choice(self._pool)
        seen = self._injector.samples(samples, seq)
        if seen is not samples:
            payload_format, payload = _coded(seen, payload_format)
        return encode(
            Frame(
                FrameType.ASCAN, payload_format, n_samples=len(samples), t_us=number, seq=seq, fs_hz=_FS_HZ,
                t0_ns=1500, payload=payload,
            )
        )

    def _perform(self, deeds: list[Deed]) -> None:
        for deed in deeds:
            if isinstance(deed, bytes):
                self._write(deed)
            elif isinstance(deed, Pause):
                time.sleep(deed.seconds)
            elif isinstance(deed, Unplug):
                self._replug(deed.seconds)

    def _write(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            n = self._port.write(rest)
            rest = rest[n:]
            self.written += n
            if not n:
                select.select([], [self._port.fd], [], _READ_WAIT_S)
            if self.abandoned.is_set():
                raise ConnectionError("the receiver has gone")

    def _replug(self, seconds: float) -> None:
        # What was written before has left the device: only the frame under way is lost with the cable.
        deadline = time.monotonic() + _PATIENCE_S
        while self.n_read() < self.written and time.monotonic() < deadline:
            time.sleep(0.0002)
        os.unlink(self._link)  # before the name of the port is free for another program
        self._port.close()
        time.sleep(seconds)
        self._port = self._plug_in()

    def _plug_in(self) -> DevicePort:
        port = open_pty()
        point_link(self._link, port.path)
        return port


class Receiver:
    """The host: reads the port, opens it again when it hangs up, decodes and counts."""

    def __init__(self, decoder: AnyDecoder, books: Books, sender: Sender, link: str) -> None:
        self.continuity = Continuity()
        self.continuity.restart(sender.first_seq)
        self.n_read = 0
        self.n_accepted_bytes = 0
        self.reconnects = 0
        self._decoder = decoder
        self._books = books
        self._sender = sender
        self._link = link

    def run(self) -> None:
        """Read until all that was written has come, or nothing has for a long time."""
        fd = self._open()
        last = time.monotonic()
        while not (self._sender.done.is_set() and self.n_read >= self._sender.written):
            if not select.select([fd], [], [], _READ_WAIT_S)[0]:
                if time.monotonic() - last > _PATIENCE_S:
                    break
                continue
            last = time.monotonic()
            chunk = _read(fd)
            if chunk:
                self._take(self._decoder.feed(chunk))
                self.n_read += len(chunk)
            else:
                fd = self._open_again(fd)
        self._take(self._decoder.finish())
        os.close(fd)

    def _open_again(self, fd: int) -> int:
        os.close(fd)
        self._take(self._decoder.finish())
        self.reconnects += 1
        return self._open()

    def _open(self) -> int:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return os.open(self._link, os.O_RDWR | os.O_NOCTTY)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.0005)

    def _take(self, frames: list[Frame]) -> None:
        for frame in frames:
            self.n_accepted_bytes += HEADER_SIZE + len(frame.payload) + TRAILER_SIZE
            self._books.match(frame)
            if frame.type == FrameType.ASCAN:
                self.continuity.take(frame.seq)


def _read(fd: int) -> bytes:
    """Return what has come, empty when the other end has hung up."""
    try:
        return os.read(fd, _LONGEST_READ)
    except OSError:
        return b""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figures of one run, as the module's docstring defines them."""

    sent: int
    received: int
    lost: int
    corrupted: int
    duplicated: int
    false_accepts: int
    unaccounted: int
    resyncs: int
    seconds: float
    healed: int
    messages: int
    reconnects: int
    worst_cost: dict[str, int]
    faults: dict[str, int]
    seed: int
    plan: str

    @property
    def passed(self) -> bool:
        """Whether nothing false was accepted and everything is accounted for."""
        return not (self.false_accepts or self.unaccounted)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by their names."""
        return {name: getattr(self, name) for name in self.__slots__}


def torture(
    n_frames: int, seed: int, spec: str = DEFAULT_PLAN, *, decoder: AnyDecoder | None = None,
    ledger: str | Path | None = None,
) -> Verdict:
    """Send ``n_frames`` A-scans under the faults of ``spec`` through a pseudo-terminal and account for them.

    ``decoder``: the one to torture, by default the Python one; ``ledger``: a file for the ledger. Raises
    ``FaultPlanError`` for a plan that cannot be read or needs a clock, and what the sender met.
    """
    plan = FaultPlan.parse(spec)
    if plan.jitter_us or plan.drift_ppm or plan.rate("reset"):
        raise FaultPlanError("jitter, drift and reset need a device with a clock: usedge emulate --faults")
    begun = time.monotonic()
    books = Books(seed=seed, plan=str(plan), path=ledger)
    tortured = Decoder() if decoder is None else decoder
    with tempfile.TemporaryDirectory() as folder:
        link = str(Path(folder) / "port")
        injector = Injector(plan, seed=seed, ledger=books, adc_bits=12)
        sender = Sender(n_frames, seed, injector, books, link)
        receiver = Receiver(tortured, books, sender, link)
        _run_both(sender, receiver)
    books.settle_all()
    books.close()
    return _verdict(books, sender, receiver, tortured.stats, time.monotonic() - begun, seed, str(plan))


def _run_both(sender: Sender, receiver: Receiver) -> None:
    sender.n_read = lambda: receiver.n_read
    thread = threading.Thread(target=sender.run, daemon=True)
    thread.start()
    try:
        receiver.run()
    finally:
        sender.abandoned.set()
        thread.join(_PATIENCE_S)
        sender.close()
    if sender.failure is not None:
        raise sender.failure


def _verdict(
    books: Books, sender: Sender, receiver: Receiver, stats: DecoderStats, seconds: float, seed: int,
    plan: str,
) -> Verdict:
    host = receiver.continuity
    host.resume((sender.first_seq + books.sent) % 2**32)  # as the answer to STOP tells a host
    never_came = books.lost + books.corrupted
    unaccounted = books.miscounted + books.costs.excess
    unaccounted += abs(host.missing - never_came) + abs(host.received - books.received)
    unaccounted += abs(books.sent - books.received - never_came)
    unaccounted += abs(sender.written - receiver.n_read)
    unaccounted += abs(receiver.n_read - receiver.n_accepted_bytes - stats.skipped_bytes)
    return Verdict(
        books.sent, books.received, books.lost, books.corrupted, host.duplicated, books.false_accepts,
        unaccounted, stats.resyncs, round(seconds, 3), books.healed, books.messages, receiver.reconnects,
        books.costs.worst, dict(books.faults), seed, plan,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m usedge_firmware.torture", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000, help="A-scans to send (100000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of frames and faults (0)")
    parser.add_argument("--faults", default=DEFAULT_PLAN, metavar="SPEC", help=f"plan ({DEFAULT_PLAN})")
    parser.add_argument("--ledger", metavar="FILE", help="write the ledger of all faults there")
    parser.add_argument("--decoder", choices=("python", "c"), default="python", help="which one (python)")
    asked = parser.parse_args(arguments)
    if asked.frames < 1:
        parser.error(f"--frames must be 1 at least, not {asked.frames}")
    try:
        decoder = build_native_encoder().decoder() if asked.decoder == "c" else Decoder()
        verdict = torture(asked.frames, asked.seed, asked.faults, decoder=decoder, ledger=asked.ledger)
    except (FaultPlanError, NativeUnavailableError) as error:
        parser.error(str(error))
    except OSError as error:
        if asked.ledger is None or error.filename != asked.ledger:
            raise
        parser.error(str(error))
    sys.stdout.write(json.dumps(verdict.to_dict()) + "\n")
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
