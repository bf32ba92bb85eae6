"""A virtual transducer: recorded or synthetic A-scans behind a port that speaks as a device does.

One thread, one loop: take orders, write what is under way, begin the next frame. Orders are obeyed at frame
boundaries only, so what stands on the wire is always a whole frame or the start of one, unless a fault was
asked for. The words of the protocol are the dialect's, the times those of ``schedule.py``, the faults the
injector's.
"""

from __future__ import annotations

import secrets
import select
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from usedge_firmware.dialect import DeviceDescription, DeviceState, Dialect, Order
from usedge_firmware.faults import FaultPlan, FaultPlanError
from usedge_firmware.frame import UsfpError, check_ascan_array
from usedge_firmware.frontends import open_dialect
from usedge_firmware.injector import Deed, Injector, Pause, Unplug
from usedge_firmware.native import build_native_encoder, load_native_encoder
from usedge_firmware.port import DevicePort, open_device, open_pty, point_link, remove_link
from usedge_firmware.schedule import DeviceClock, Stream

_LONGEST_WAIT_S: Final = 0.05
_MOST_WAITING: Final = 64
_U32_MASK: Final = 0xFFFFFFFF


class VirtualTransducer:
    """A device on a pseudo-terminal, or on the port at ``path``, that streams A-scans when told to.

    ``ascans``: int16 arrays of one length, ``(n, n_samples)`` or a finite iterable of ``(n_samples,)``, sent
    in turn and again from the first. ``fs_hz`` samples a second; ``t0_us`` µs from main bang to the first
    sample; ``prf_hz`` the device's own PRF, 0 = as fast as the pipe takes; ``gain_db`` dB. ``dialect``: the
    protocol by its name, or one made already, which a reset does not renew. ``use_native``: encode in C
    (True: raise ``NativeUnavailableError`` where that is impossible; None: where possible). ``stall_s``:
    seconds without any progress after which an unread stream is given up. ``injector``: the faults to be
    met, which hit A-scans and never the answers to a host. ``link``: a symbolic link that leads to the
    pseudo-terminal, kept up to date when a pulled cable gives it another name. ``open_loop``: no slot goes
    by unused; what fell due while the pipe was busy is sent late, and ``times`` holds (seq, due, written) of
    every A-scan, the last two in ns of the host's monotonic clock.

    Counters, over the whole life: ``sent`` A-scans that the device has done with, those included that a
    fault kept from the wire; ``overruns`` PRF slots that went by while the pipe was busy (no A-scan is taken
    in them and no seq spent); ``commands`` orders obeyed or refused; ``stalls`` streams given up;
    ``unplugged`` and ``resets`` faults of that kind.

    Raises ``UsfpError`` for A-scans of another dtype, shape or unequal lengths, or a value that does not fit
    its field; ``FaultPlanError`` for disconnects without ``link``; ``OSError`` when the port or the link
    cannot be made.
    """

    def __init__(  # noqa: PLR0913 - each is one property of the device, given by name
        self, ascans: Iterable[npt.NDArray[Any]], *, fs_hz: int, t0_us: float = 0.0, prf_hz: float = 0.0,
        gain_db: float = 0.0, name: str = "virtual", adc_bits: int = 12, session_id: int | None = None,
        path: str | None = None, baud: int | None = None, use_native: bool | None = None,
        stall_s: float = 2.0, dialect: str | Dialect = "usfp", injector: Injector | None = None,
        link: str | None = None, open_loop: bool = False,
    ) -> None:
        self._ascans = _checked(ascans)
        self._stall_s = stall_s
        self._injector = injector or Injector(FaultPlan(), seed=0)
        self._link = link
        if self._injector.plan.rate("disconnect") and (link is None or path is not None):
            raise FaultPlanError("fault 'disconnect' needs a pseudo-terminal behind a link: its name changes")
        self._encoder = _native_encoder(use_native)
        if session_id is None:
            planned = self._injector.plan != FaultPlan()
            session_id = self._injector.session_id() if planned else secrets.randbits(32)
        self.description = DeviceDescription(
            fs_hz=fs_hz, n_samples=len(self._ascans[0]), t0_us=t0_us, prf_hz=prf_hz, gain_db=gain_db,
            name=name, adc_bits=adc_bits, session_id=session_id, peak=_peak(self._ascans),
        )
        self._own_prf_mhz = round(prf_hz * 1000.0)
        self._dialect_asked = dialect
        self._dialect = self._open_dialect()

        self.sent = self.overruns = self.commands = self.stalls = self.unplugged = self.resets = 0
        self.times: list[tuple[int, int, int]] = []
        self._open_loop = open_loop
        self._due_ns = 0
        self._next_seq = 0
        self._stream: Stream | None = None
        self._last_sent = 0
        self._waiting: deque[Order] = deque()
        self._answers: deque[bytes] = deque()
        self._wants_one = False
        self._out = memoryview(b"")
        self._deeds: deque[Deed] = deque()
        self._ascan_under_way = False
        self._clock = DeviceClock(self._injector.plan.drift_ppm)
        self._progress = self._quiet_until = time.monotonic()
        self._stop = threading.Event()
        # A value that fits no field is told now, not in the stream.
        self._dialect.boot(self._state())
        self._dialect.ascan(self._ascans[0], seq=0, t_us=0)
        self._port = self._open_port(path, baud)

    @property
    def port(self) -> str:
        """The path that the host opens."""
        return self._link or self._port.path

    def __enter__(self) -> VirtualTransducer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the port and remove the link; not while ``serve`` runs in another thread."""
        # The link goes first: once closed, the port's name is free for any other program.
        if self._link is not None:
            remove_link(self._link, self._port.path)
        self._port.close()

    def serve(self, stop_event: threading.Event | None = None, *, exit_after: int | None = None) -> None:
        """Announce the device, then obey orders until ``stop_event`` is set (seen within 50 ms).

        With ``exit_after``, return once that many A-scans were sent in all, the last answer behind them, and
        the host has read them or has stopped reading for ``stall_s``. Raises ``OSError`` when the port hangs
        up, which a pseudo-terminal of our own never does.
        """
        self._stop = stop_event or self._stop
        self._answer(self._dialect.boot(self._state()))
        while not self._stop.is_set():
            if exit_after is not None and self.sent >= exit_after and not self._ascan_under_way:
                self._end_stream()
                if not (self._out or self._deeds or self._answers):
                    self._await_reader()
                    return
            self._proceed()
            self._exchange()

    def _proceed(self) -> None:
        """Once the bytes under way are written: the next deed, else the A-scan's end, else another frame."""
        if self._out or time.monotonic() < self._quiet_until:
            return
        if self._deeds:
            self._perform(self._deeds.popleft())
        elif self._ascan_under_way:
            self._ascan_done()
        else:
            self._begin_frame()

    def _exchange(self) -> None:
        """Wait until the port can take or give bytes, or something is due; then do what can be done."""
        # A host that floods commands and reads no answer is not read either, so memory stays bounded.
        listen = [self._port.fd] if len(self._waiting) < _MOST_WAITING else []
        speak = [self._port.fd] if self._out else []
        readable, writable, _ = select.select(listen, speak, [], self._wait_s())
        if readable:
            self._waiting += self._dialect.orders(self._port.read())
        if writable:
            self._write()
        elif self._out and time.monotonic() - self._progress > self._stall_s:
            self._give_up()

    def _wait_s(self) -> float:
        if self._out:
            return _LONGEST_WAIT_S
        quiet_s = self._quiet_until - time.monotonic()
        if quiet_s > 0.0:
            return min(_LONGEST_WAIT_S, quiet_s)
        if self._deeds or self._ascan_under_way or self._answers or self._wants_one:
            return 0.0
        if self._stream is None:
            return 0.0 if self._waiting else _LONGEST_WAIT_S
        return min(_LONGEST_WAIT_S, max(0.0, (self._stream.due_ns() - self._clock.ns()) / 1e9))

    def _write(self) -> None:
        written = self._port.write(self._out)
        if written:
            self._progress = time.monotonic()
            self._out = self._out[written:]
        if not (self._out or self._deeds) and self._ascan_under_way:
            self._ascan_done()

    def _perform(self, deed: Deed) -> None:
        self._progress = time.monotonic()
        if isinstance(deed, bytes):
            self._out = memoryview(deed)
        elif isinstance(deed, Pause):
            self._quiet_until = self._progress + deed.seconds
        elif isinstance(deed, Unplug):
            self._replug(deed.seconds)
        else:
            self._reboot(deed.seconds)

    def _ascan_done(self) -> None:
        self._ascan_under_way = False
        self.sent += 1
        if self._open_loop:
            self.times.append((self._next_seq - 1, self._due_ns, time.monotonic_ns()))
        if self._stream is not None:
            self._stream.sent += 1
            if self._stream.count and self._stream.sent >= self._stream.count:
                self._end_stream()

    def _begin_frame(self) -> None:
        """At a frame boundary, choose what goes out next: answers, then what orders ask, then A-scans."""
        while self._waiting and not self._answers and not self._wants_one:
            self._obey(self._waiting.popleft())
        if self._answers:
            self._begin(self._injector.spare(self._answers.popleft()))
        elif self._wants_one:
            self._wants_one = False
            self._take_ascan(self._clock.ns())
        elif self._stream is not None:
            self._take_if_due(self._stream)

    def _begin(self, deeds: list[Deed]) -> None:
        self._deeds += deeds
        if self._deeds:
            self._perform(self._deeds.popleft())

    def _take_if_due(self, stream: Stream) -> None:
        now_ns = self._clock.ns()
        if now_ns < stream.due_ns():
            return
        if not self._open_loop:
            self.overruns += stream.miss_slots(now_ns)
        self._take_ascan(stream.due_ns() if stream.prf_mhz else now_ns)
        stream.slot += 1
        stream.shift_ns = round(self._injector.jitter_us() * 1000.0)

    def _take_ascan(self, main_bang_ns: int) -> None:
        seq, self._next_seq = self._next_seq, (self._next_seq + 1) & _U32_MASK
        self._due_ns = self._clock.host_ns(main_bang_ns)
        samples = self._injector.samples(self._ascans[seq % len(self._ascans)], seq)
        frame = self._dialect.ascan(samples, seq=seq, t_us=max(0, main_bang_ns) // 1000)
        self._ascan_under_way = True
        self._begin(self._injector.send(frame, seq))

    def _obey(self, order: Order) -> None:
        self.commands += 1
        if order.kind == "start":
            self._end_stream()
            prf_mhz = order.prf_mhz or self._own_prf_mhz
            self._stream = Stream(order.tag, prf_mhz, order.count, self._clock.ns())
            self._last_sent = 0
        elif order.kind == "stop":
            self._close_stream()
        elif order.kind == "once":
            self._wants_one = True
        self._answer(self._dialect.reply(order, self._state()))

    def _end_stream(self) -> None:
        """End a stream that the host did not stop itself, and tell it how much was sent."""
        ended = self._close_stream()
        if ended is not None:
            self._answer(self._dialect.reply(Order("stop", tag=ended.tag), self._state()))

    def _close_stream(self) -> Stream | None:
        ended, self._stream = self._stream, None
        if ended is not None:
            self._last_sent = ended.sent
        return ended

    def _answer(self, answer: bytes) -> None:
        if answer:
            self._answers.append(answer)

    def _give_up(self) -> None:
        """Nobody reads: drop the stream and what is in the pipe, and wait for another start."""
        self.stalls += 1
        self._injector.ledger.note("the host does not read: what is under way and in the pipe is lost")
        self._forget_stream()
        self._port.discard_unread()

    def _forget_stream(self) -> None:
        """Drop the stream and all that is under way, without a word to the host.

        The A-scan under way is done with, though not arrived.
        """
        self.sent += self._ascan_under_way
        self._close_stream()
        self._injector.flush()
        self._answers.clear()
        self._deeds.clear()
        self._wants_one = self._ascan_under_way = False
        self._out = memoryview(b"")

    def _replug(self, seconds: float) -> None:
        """Pull the cable: what was sent arrives, the port hangs up and comes back under the same link."""
        self.unplugged += 1
        self._await_reader()
        unread = self._port.unread()
        if unread:
            self._injector.ledger.note("the host had not read this when the cable went", size=unread)
        self.close()
        self._cut_off()
        self._stop.wait(seconds)
        self._port = self._open_port(None, None)

    def _reboot(self, seconds: float) -> None:
        """Reset: a new session on the port as it is; what the host said meanwhile is not heard."""
        self.resets += 1
        self.description = replace(self.description, session_id=self._injector.session_id())
        self._cut_off()
        self._next_seq = 0
        self._stop.wait(seconds)
        while self._port.read():
            pass
        self._clock.boot()
        self._answer(self._dialect.boot(self._state()))

    def _cut_off(self) -> None:
        """Forget everything, orders that wait and half a command too."""
        self._forget_stream()
        self._waiting.clear()
        self._dialect = self._open_dialect()

    def _await_reader(self) -> None:
        """Wait until the pipe is empty, or nobody has read from it for ``stall_s``."""
        # A pseudo-terminal holds bytes in two places and tells of one, so one reading of zero proves nothing.
        empty_readings, unread_before = 0, -1
        deadline = time.monotonic() + self._stall_s
        while empty_readings < 3 and time.monotonic() < deadline:
            unread = self._port.unread()
            empty_readings = 0 if unread else empty_readings + 1
            if unread != unread_before:
                unread_before, deadline = unread, time.monotonic() + self._stall_s
            time.sleep(0.01)

    def _open_port(self, path: str | None, baud: int | None) -> DevicePort:
        port = open_pty() if path is None else open_device(path, baud)
        if self._link is not None:
            try:
                point_link(self._link, port.path)
            except OSError:
                port.close()
                raise
        return port

    def _open_dialect(self) -> Dialect:
        if not isinstance(self._dialect_asked, str):
            return self._dialect_asked
        options = self._encoder if self._dialect_asked == "usfp" else {}
        return open_dialect(self._dialect_asked, self.description, **options)

    def _state(self) -> DeviceState:
        sent = self._last_sent if self._stream is None else self._stream.sent
        return DeviceState(self._next_seq, sent, self._clock.ns() // 1000, self._stream is not None)


def _checked(ascans: Iterable[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    checked = list(ascans)
    for each in checked:
        check_ascan_array(each)
    if len({len(each) for each in checked}) != 1:
        raise UsfpError(f"a transducer needs A-scans of one length, and at least one; got {len(checked)}")
    return checked


def _native_encoder(use_native: bool | None) -> dict[str, Any]:
    if use_native:
        return {"encode": build_native_encoder().encode_ascan}
    native = load_native_encoder() if use_native is None else None
    return {} if native is None else {"encode": native.encode_ascan}


def _peak(ascans: list[npt.NDArray[Any]]) -> int:
    return max((int(np.abs(each.astype(np.int32)).max()) for each in ascans if len(each)), default=0)
