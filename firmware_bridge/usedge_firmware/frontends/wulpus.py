"""WULPUS, read from its USB dongle: 813-byte records of 400 samples, without a CRC.

Record: marker ``"START\\n" 00 00 00 FF`` (10 bytes), ``tx_rx_id`` u8, ``acq_nr`` u16, 400 × int16,
little-endian. The samples may contain any byte, so only the whole marker and the length find a record.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from usedge_firmware.dialect import DeviceDescription, DeviceState, Order
from usedge_firmware.frame import UsfpError, check_ascan_array
from usedge_firmware.frontend import Event, Record, Request, Started
from usedge_firmware.frontends.gathering import Gathering, Patience, marker_tail

MARKER: Final = b"START\n\x00\x00\x00\xff"
N_SAMPLES: Final = 400
RECORD_SIZE: Final = 813
PACKET_SIZE: Final = 68
RESTART: Final = b"\xfb" + bytes(PACKET_SIZE - 1)
FS_HZ: Final = (8_000_000, 4_000_000, 2_000_000, 1_000_000, 500_000)
"""Sampling rates by their OSR index."""

_HEADER = struct.Struct("<10sBH")
_CONFIG = struct.Struct("<BHHIIBHHBB")
_TIMINGS = struct.Struct("<7H")
_CONFIG_BYTE = 0xFA
_LFXT_HZ = 32_768
_PERIOD_TICKS = (655, 65_535)
_GAIN_REGISTERS = range(17, 64)
_TICKS_PER_US = 5
_BELIEVED_AHEAD = 4096
_REORDERED = 4
"""A number that falls back by no more than this came late; the device did not start anew."""
_SETTLED = 256
"""After so many numbers in their order, none of a former stream is on its way."""


@dataclass(frozen=True, slots=True)
class WulpusConfig:
    """What the dongle is sent before it streams; fields in the order and the units of the wire.

    ``dcdc_ticks`` DC-DC turn-on and ``period_ticks`` measuring period, both in cycles of 32,768 Hz (period
    655 to 65,535: 50 to 0.5 Hz); ``trans_freq_hz``, ``pulse_freq_hz`` and ``n_pulses`` of the transmit burst;
    ``osr_index`` into ``FS_HZ``; ``n_samples`` of an A-scan (the wire carries twice that);
    ``gain_register`` 17 to 63, −6.5 to 30.8 dB, 32 being 6.0 dB; ``tx_rx`` up to 8 pairs of u16 switch masks
    of the multiplexer (channel c transmits on switch 2c + 1 and receives on 2c). ``timings_ticks``: HV-MUX to
    receive (8 ticks a µs), pulse generator, ADC on, PGA bias, ADC sampling (5 ticks a µs each), capture
    restart (5/16), capture timeout (5/4). The defaults are the vendor's example for the carotid, on one
    channel: a burst at 500 µs and sampling from 503 µs, hence 3 µs from main bang to the first sample.
    """

    dcdc_ticks: int = 100
    period_ticks: int = 655
    trans_freq_hz: int = 2_250_000
    pulse_freq_hz: int = 2_250_000
    n_pulses: int = 2
    osr_index: int = 0
    n_samples: int = N_SAMPLES
    gain_register: int = 32
    tx_rx: tuple[tuple[int, int], ...] = ((0b10, 0b01),)
    timings_ticks: tuple[int, int, int, int, int, int, int] = (4000, 2500, 25, 25, 2515, 937, 3750)

    @classmethod
    def asked_by(cls, request: Request) -> WulpusConfig:
        """The default with the nearest possible period and, where WULPUS has it, the rate of ``request``."""
        prf_hz = request.prf_hz or _LFXT_HZ / _PERIOD_TICKS[0]
        ticks = min(max(round(_LFXT_HZ / prf_hz), _PERIOD_TICKS[0]), _PERIOD_TICKS[1])
        return cls(period_ticks=ticks, osr_index=FS_HZ.index(request.fs_hz) if request.fs_hz in FS_HZ else 0)

    @property
    def prf_hz(self) -> float:
        """A-scans a second."""
        return _LFXT_HZ / self.period_ticks

    @property
    def t0_us(self) -> float:
        """µs from main bang to the first sample."""
        return (self.timings_ticks[4] - self.timings_ticks[1]) / _TICKS_PER_US

    def pack(self) -> bytes:
        """Return the 68 bytes; raises ``UsfpError`` when a field does not fit or there are over 8 pairs."""
        try:
            head = _CONFIG.pack(
                _CONFIG_BYTE, self.dcdc_ticks, self.period_ticks, self.trans_freq_hz, self.pulse_freq_hz,
                self.n_pulses, self.osr_index, 2 * self.n_samples, self.gain_register, len(self.tx_rx),
            )
            pairs = b"".join(struct.pack("<HH", *pair) for pair in self.tx_rx)
            packet = head + pairs + _TIMINGS.pack(*self.timings_ticks)
        except struct.error as fault:
            raise UsfpError(f"a WULPUS setting is out of range: {fault}") from fault
        if len(packet) > PACKET_SIZE:
            raise UsfpError(f"a WULPUS packet has room for 8 transmit/receive pairs, not {len(self.tx_rx)}")
        return packet.ljust(PACKET_SIZE, b"\0")

    @classmethod
    def unpack(cls, packet: bytes) -> WulpusConfig:
        """Read 68 bytes; raises ``UsfpError`` when they are no config packet, or ask what cannot be."""
        if len(packet) != PACKET_SIZE or packet[0] != _CONFIG_BYTE:
            raise UsfpError(f"a WULPUS config packet is {PACKET_SIZE} bytes from FA on")
        _, dcdc, period, trans, pulse, n_pulses, osr, n_bytes, gain, n_pairs = _CONFIG.unpack_from(packet)
        end = _CONFIG.size + 4 * n_pairs
        if end + _TIMINGS.size > PACKET_SIZE or any(packet[end + _TIMINGS.size :]):
            raise UsfpError(f"a WULPUS packet with {n_pairs} transmit/receive pairs does not end so")
        possible = period >= _PERIOD_TICKS[0] and osr < len(FS_HZ) and gain in _GAIN_REGISTERS
        if not possible or n_bytes % 2 or n_bytes > 2 * N_SAMPLES:
            raise UsfpError(f"a WULPUS cannot do period {period}, rate {osr}, gain {gain}, {n_bytes} bytes")
        pairs = tuple(struct.iter_unpack("<HH", packet[_CONFIG.size : end]))
        timings = _TIMINGS.unpack_from(packet, end)
        return cls(dcdc, period, trans, pulse, n_pulses, osr, n_bytes // 2, gain, pairs, timings)


class WulpusFrontEnd(Gathering):
    """WULPUS, host side.

    ``corrupted``: records that lost bytes, and those between sound ones whose own marker was damaged.
    ``doubtful``: records after which no marker stood where the next one had to; and one at the end of the
    stream whose last bytes may be a marker's first. ``seq`` is ``acq_nr`` unwrapped; one that falls back
    after our config packet is a new start, told as ``Started``. Gain and clock are not on this wire.
    """

    name: ClassVar[str] = "wulpus"
    blind_to: ClassVar[str] = (
        "There is no CRC: flipped bits are not seen, nor lost bytes that take a marker with them;"
        " an inserted byte is seen only after its record was given."
    )
    evidence: ClassVar[int] = 3
    acknowledges: ClassVar[bool] = False
    max_prf_hz: ClassVar[float | None] = 50.0

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.config = WulpusConfig.asked_by(request)
        self._fs_hz = float(request.fs_hz or FS_HZ[0])
        self._t0_us = self.config.t0_us if request.t0_us is None else request.t0_us
        self._gap = 0
        self._gap_follows_record = False
        self._numbers = _Unwrapped()
        self._configured = False
        self._patience = Patience()

    @property
    def prf_hz(self) -> float:
        """A-scans a second that the config packet asks for."""
        return self.config.prf_hz

    def reset(self) -> None:
        """Forget the bytes held back and the numbering, as after a reconnect."""
        super().reset()
        self._gap, self._gap_follows_record = 0, False
        self._numbers = _Unwrapped()
        self._configured = False
        self._patience = Patience()

    def probe(self) -> bytes:
        """Return the config packet, which begins the stream; nothing once a record has come."""
        return self._configure() if not self.seen and self._patience.due() else b""

    def start(self) -> bytes:
        """Return the config packet unless ``probe`` did."""
        return b"" if self._configured else self._configure()

    def stop(self) -> bytes:
        """Return the packet that makes WULPUS wait for a config packet again."""
        self._configured = False
        return RESTART

    def _configure(self) -> bytes:
        self._configured = True
        self._numbers.expect_restart()
        return self.config.pack()

    def _step(self, events: list[Event]) -> bool:
        start = self._buffer.find(MARKER, self._at)
        if start < 0:
            self._pass_over(marker_tail(self._buffer, MARKER, self._at))
            if self._ended:
                self._settle_gap(self._gap // RECORD_SIZE)
            return False
        self._pass_over(start)
        self._settle_gap(round(self._gap / RECORD_SIZE))
        end = start + RECORD_SIZE
        if len(self._buffer) < end:
            self._need = end
            return False
        return self._take_or_drop(start, end, events)

    def _pass_over(self, position: int) -> None:
        self._gap += position - self._at
        self._skip_to(position)

    def _take_or_drop(self, start: int, end: int, events: list[Event]) -> bool:
        """A marker that begins within the record's 813 bytes means that some of them were lost."""
        later = self._buffer.find(MARKER, start + 1, end + len(MARKER) - 1)
        if later >= 0:
            self._stats.corrupted += 1
            self._skip_to(later)
            return True
        if len(self._buffer) < end + len(MARKER) - 1 and marker_tail(self._buffer, MARKER, start) < end:
            if not self._ended:
                return False
            self._stats.doubtful += 1
        self._give(start, end, events)
        return True

    def _give(self, start: int, end: int, events: list[Event]) -> None:
        _, channel, number = _HEADER.unpack_from(self._buffer, start)
        raw = np.frombuffer(bytes(self._buffer[start + _HEADER.size : end]), dtype="<i2")
        seq, restarted = self._numbers.take(number)
        if restarted:
            events.append(Started())
        samples = raw.astype(np.int16, copy=False)
        events.append(Record(samples, seq, self._fs_hz, self._t0_us, channel=channel))
        self._take(end)
        self._gap_follows_record = True
        self._stats.records += 1
        self.seen += 1

    def _settle_gap(self, records: int) -> None:
        """Tell by its length what stood behind a record: ``records`` without a marker, or foreign bytes."""
        if self._gap and self._gap_follows_record:
            self._stats.corrupted += records
            self._stats.doubtful += self._gap % RECORD_SIZE != 0
        self._gap, self._gap_follows_record = 0, False

    def _false_start(self) -> int:
        return len(MARKER)


class _Unwrapped:
    """16-bit record numbers made 32-bit: each is read as near to the last believed one as it can be.

    One number far off may be damage and moves nothing; a second that goes on from it is believed.
    """

    def __init__(self) -> None:
        self.may_restart = False
        self._believed: int | None = None
        self._last = 0
        self._in_order = 0

    def expect_restart(self) -> None:
        """The device was told to start: its numbers may soon fall back."""
        self.may_restart, self._in_order = True, 0

    def take(self, number: int) -> tuple[int, bool]:
        """Return the number, modulo 2³², and whether the device started anew with it."""
        if self._believed is None:
            self._believed = self._last = number
            return number, False
        ahead = _nearest(number - self._believed)
        restarted = self.may_restart and ahead < -_REORDERED
        self._in_order = self._in_order + 1 if abs(ahead) <= _REORDERED else 0
        if restarted or self._in_order >= _SETTLED:
            self.may_restart = False
        if restarted:
            self._believed, ahead = number, 0
        seq = self._believed + ahead
        if abs(ahead) <= _BELIEVED_AHEAD or abs(_nearest(number - self._last)) <= _BELIEVED_AHEAD:
            self._believed = seq
        self._last = number
        return seq & 0xFFFFFFFF, restarted


def _nearest(distance: int) -> int:
    return (distance + 0x8000) % 0x10000 - 0x8000


class WulpusDialect:
    """WULPUS, device side: a config packet starts the stream, a restart packet ends it, nothing is answered.

    Of A-scans longer than 400 samples the first 400 are sent, shorter ones are filled up with zeros.
    """

    name = "wulpus"

    def __init__(self, description: DeviceDescription) -> None:
        self.description = description
        self._heard = bytearray()
        self._n_pairs = 1

    def boot(self, state: DeviceState) -> bytes:  # noqa: ARG002
        """Return nothing: WULPUS is silent until it is configured."""
        return b""

    def orders(self, data: bytes) -> list[Order]:
        """Take the host's next bytes; what is neither a config nor a restart packet is passed over."""
        self._heard += data
        orders = []
        while self._await_packet():
            packet = bytes(self._heard[:PACKET_SIZE])
            order = _order_of(packet)
            if order is not None:
                orders.append(order)
            del self._heard[: PACKET_SIZE if order is not None else 1]
        return orders

    def reply(self, order: Order, state: DeviceState) -> bytes:  # noqa: ARG002
        """Take over the number of channels; there is nothing to answer."""
        if order.kind == "start":
            self._n_pairs = order.tag
        return b""

    def ascan(self, samples: npt.NDArray[Any], *, seq: int, t_us: int) -> bytes:  # noqa: ARG002
        """Return the record of ``(n,)`` int16 counts; raises ``UsfpError`` for another shape or dtype."""
        check_ascan_array(samples)
        payload = samples[:N_SAMPLES].astype("<i2").tobytes().ljust(2 * N_SAMPLES, b"\0")
        return _HEADER.pack(MARKER, seq % self._n_pairs, seq & 0xFFFF) + payload

    def _await_packet(self) -> bool:
        """Stand on what may begin a packet; whether a whole packet's length is there."""
        found = [at for at in (self._heard.find(_CONFIG_BYTE), self._heard.find(RESTART[0])) if at >= 0]
        del self._heard[: min(found, default=len(self._heard))]
        return len(self._heard) >= PACKET_SIZE


def _order_of(packet: bytes) -> Order | None:
    if packet == RESTART:
        return Order("stop")
    try:
        config = WulpusConfig.unpack(packet)
    except UsfpError:
        return None
    return Order("start", prf_mhz=round(config.prf_hz * 1000.0), tag=max(1, len(config.tx_rx)))
