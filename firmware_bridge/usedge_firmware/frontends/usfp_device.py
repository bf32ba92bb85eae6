"""USFP, device side: commands in, INFO, ACK and A-scan frames out."""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy.typing as npt

from usedge_firmware.decoder import Decoder
from usedge_firmware.dialect import DeviceDescription, DeviceState, Order
from usedge_firmware.frame import PayloadFormat, UsfpError, encode_ascan
from usedge_firmware.messages import (
    COMMAND_MAX,
    Ack,
    AckStatus,
    Command,
    Info,
    Opcode,
    encode_ack,
    encode_info,
    parse_command,
)

FIRMWARE_VERSION: Final = (0, 1, 0)
_PACKED12_PEAK: Final = 2048


class AscanEncoder(Protocol):
    """``usfp.encode_ascan``, or another that answers as it does."""

    def __call__(  # noqa: D102
        self, samples: npt.NDArray[Any], *, seq: int, fs_hz: int, t_us: int, t0_ns: int, gain_cdb: int,
        payload_format: PayloadFormat,
    ) -> bytes: ...


class UsfpDialect:
    """USFP, device side.

    ``encode`` makes the A-scan frames (the C encoder's method will do). A START is refused with BAD_ARGUMENT
    when it asks for a payload format that this device has not, or for a PRF whose period is shorter than an
    A-scan. An A-scan that the chosen format cannot hold, or that delta-Rice would not shorten, goes as int16;
    every frame says its own format. Raises ``UsfpError`` for a description that fits no INFO frame.
    """

    name = "usfp"

    def __init__(self, description: DeviceDescription, *, encode: AscanEncoder = encode_ascan) -> None:
        self.description = description
        self.info = Info(
            session_id=description.session_id, adc_bits=description.adc_bits, firmware=FIRMWARE_VERSION,
            fs_hz=description.fs_hz, n_samples=description.n_samples,
            prf_mhz=round(description.prf_hz * 1000.0), t0_ns=round(description.t0_us * 1000.0),
            name=description.name, payload_formats=sum(1 << each for each in _formats(description)),
        )
        encode_info(self.info)
        self._encode = encode
        self._gain_cdb = round(description.gain_db * 100.0)
        self._payload_format = PayloadFormat.INT16
        self._decoder = Decoder(max_payload=COMMAND_MAX)

    def boot(self, state: DeviceState) -> bytes:
        """Return INFO."""
        return self._tell(state)

    def orders(self, data: bytes) -> list[Order]:
        """Take the host's next bytes; what is no command is not meant for a device and passed over."""
        orders = []
        for frame in self._decoder.feed(data):
            try:
                command = parse_command(frame)
            except UsfpError:
                continue
            orders.append(self._order(frame.seq, command))
        return orders

    def reply(self, order: Order, state: DeviceState) -> bytes:
        """Return INFO or the ACK; a START takes its payload format from here on."""
        if order.kind == "start":
            self._payload_format = PayloadFormat(order.content[2])
            return self._acknowledge(Ack(Opcode.START, detail=state.next_seq), order, state)
        if order.kind == "stop":
            return self._acknowledge(Ack(Opcode.STOP, detail=state.sent), order, state)
        opcode, status, _ = order.content
        if status == AckStatus.OK:
            return self._tell(state)
        return self._acknowledge(Ack(opcode, status), order, state)

    def ascan(self, samples: npt.NDArray[Any], *, seq: int, t_us: int) -> bytes:
        """Return the frame of ``(n,)`` int16 counts; raises ``UsfpError`` when a value fits no field."""
        try:
            return self._encoded(samples, seq, t_us, self._payload_format)
        except UsfpError:
            if self._payload_format == PayloadFormat.INT16:
                raise
        return self._encoded(samples, seq, t_us, PayloadFormat.INT16)

    def _encoded(
        self, samples: npt.NDArray[Any], seq: int, t_us: int, payload_format: PayloadFormat
    ) -> bytes:
        return self._encode(
            samples, seq=seq, fs_hz=self.info.fs_hz, t_us=t_us, t0_ns=self.info.t0_ns,
            gain_cdb=self._gain_cdb, payload_format=payload_format,
        )

    def _order(self, number: int, command: Command) -> Order:
        status = self._judge(command)
        content = bytes((command.opcode, status, command.payload_format))
        if status != AckStatus.OK or command.opcode == Opcode.INFO:
            return Order("say", tag=number, content=content)
        if command.opcode == Opcode.STOP:
            return Order("stop", tag=number, content=content)
        return Order("start", command.prf_mhz, command.count, number, content)

    def _judge(self, command: Command) -> AckStatus:
        if command.opcode not in tuple(Opcode):
            return AckStatus.UNKNOWN_OPCODE
        if command.opcode != Opcode.START:
            return AckStatus.OK
        offered = self.info.payload_formats >> command.payload_format & 1
        fits = command.prf_mhz * self.info.n_samples <= 1000 * self.info.fs_hz
        return AckStatus.OK if offered and fits else AckStatus.BAD_ARGUMENT

    def _tell(self, state: DeviceState) -> bytes:
        return encode_info(self.info, seq=state.next_seq, t_us=state.t_us)

    def _acknowledge(self, ack: Ack, order: Order, state: DeviceState) -> bytes:
        return encode_ack(ack, seq=order.tag, t_us=state.t_us)


def _formats(description: DeviceDescription) -> list[PayloadFormat]:
    """The formats that every A-scan of the device, or all but a few, can go in."""
    known = description.peak > 0
    twelve_bits = description.peak <= _PACKED12_PEAK if known else description.adc_bits <= 12
    formats = [PayloadFormat.INT16, PayloadFormat.DELTA_RICE]
    return [*formats, PayloadFormat.PACKED12] if twelve_bits else formats
