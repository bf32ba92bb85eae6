"""The incremental USFP decoder: bytes in, whole frames out, every fault counted."""

from __future__ import annotations

import zlib
from binascii import crc_hqx
from dataclasses import dataclass
from typing import Final

from usedge_firmware.frame import (
    CRC16_SEED,
    HEADER,
    HEADER_SIZE,
    MAX_PAYLOAD,
    SYNC,
    TRAILER_SIZE,
    U32,
    VERSION,
    Frame,
    FrameType,
    PayloadFormat,
    length_agrees,
)

HeaderFields = tuple[bytes, int, int, int, int, int, int, int, int, int, int, int, int, int]


@dataclass(slots=True)
class DecoderStats:
    """What a ``Decoder`` has met since it was made; ``reset`` and ``finish`` leave the counts standing.

    ``frames`` accepted and returned; ``crc_errors`` frames whose header was sound and whose CRC-32 was not;
    ``header_errors`` sync words followed by a bad header CRC, an unknown version or an impossible length;
    ``unsupported`` sound frames of an unknown type or payload format; ``resyncs`` times sync was lost after
    a sound frame; ``truncated`` frames cut off by the end of the stream; ``skipped_bytes`` bytes that are
    part of no returned frame. Bytes fed = bytes of returned frames + ``skipped_bytes`` + ``Decoder.pending``.
    """

    frames: int = 0
    crc_errors: int = 0
    header_errors: int = 0
    unsupported: int = 0
    resyncs: int = 0
    truncated: int = 0
    skipped_bytes: int = 0


class Decoder:
    """Turns any division of a byte stream back into frames, and finds its way after a fault.

    A frame is returned only when both CRCs hold. After a fault the search goes on 4 bytes past the false
    sync word (the word cannot overlap itself), so a sound frame behind the fault is never lost with it.
    Between calls it holds less than one frame of at most ``max_payload`` payload bytes. One thread only.
    """

    def __init__(self, *, max_payload: int = MAX_PAYLOAD) -> None:
        self.stats = DecoderStats()
        self._max_payload = max_payload
        self._buffer = bytearray()
        self._at = 0
        self._end = 0  # where the frame at _at ends; 0 while no header has been accepted there
        self._header: HeaderFields | None = None
        self._in_sync = False

    @property
    def pending(self) -> int:
        """Bytes held back until more arrive."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """Take the next bytes of the stream, in pieces of any length; return the frames they complete."""
        self._buffer += data
        frames: list[Frame] = []
        self._drain(frames)
        return frames

    def finish(self) -> list[Frame]:
        """End the stream: count what is cut off as truncated, and return sound frames found inside it.

        A damaged length can make the decoder wait for bytes that never come, with sound frames among those
        that it already has. Afterwards the decoder is empty and can take a new stream.
        """
        frames: list[Frame] = []
        while self._buffer:
            self.stats.truncated += self._buffer.startswith(SYNC)
            self._in_sync = False
            self._skip_to(min(len(SYNC), len(self._buffer)))
            self._drain(frames)
        self._in_sync = False
        return frames

    def reset(self) -> None:
        """Forget the bytes held back, as after a reconnect; they count as skipped, not as a resync."""
        self.stats.skipped_bytes += len(self._buffer)
        self._buffer.clear()
        self._at = self._end = 0
        self._header = None
        self._in_sync = False

    def _drain(self, frames: list[Frame]) -> None:
        while self._find_header() and self._end <= len(self._buffer):
            self._take_frame(frames)
        if self._at:
            del self._buffer[: self._at]
            self._end -= self._at if self._end else 0
            self._at = 0

    def _find_header(self) -> bool:
        """Stand on a sound header, and remember it: at small reads it must not be checked at every read."""
        buffer = self._buffer
        while not self._end:
            start = buffer.find(SYNC, self._at)
            if start != self._at:
                self._skip_to(start if start >= 0 else self._sync_tail())
            if start < 0 or len(buffer) - start < HEADER_SIZE:
                return False
            header: HeaderFields = HEADER.unpack_from(buffer, start)
            if self._header_sound(header, start):
                self._header = header
                self._end = start + HEADER_SIZE + header[7] + TRAILER_SIZE
            else:
                self.stats.header_errors += 1
                self._skip_to(start + len(SYNC))
        return True

    def _header_sound(self, header: HeaderFields, start: int) -> bool:
        _, version, frame_type, payload_format, _, _, n_samples, n_bytes, *_, crc = header
        return (
            crc_hqx(self._buffer[start : start + HEADER_SIZE - 2], CRC16_SEED) == crc
            and version == VERSION
            and n_bytes <= self._max_payload
            and length_agrees(frame_type, payload_format, n_samples, n_bytes)
        )

    def _take_frame(self, frames: list[Frame]) -> None:
        start, end, header = self._at, self._end, self._header
        assert header is not None
        trailer = end - TRAILER_SIZE
        view = memoryview(self._buffer)
        sound = zlib.crc32(view[start:trailer]) == U32.unpack_from(view, trailer)[0]
        payload = bytes(view[start + HEADER_SIZE : trailer]) if sound else b""
        # A bytearray cannot shrink while a view of it lives.
        view.release()
        self._end = 0
        if not sound:
            self.stats.crc_errors += 1
            self._skip_to(start + len(SYNC))
            return
        self._in_sync = True
        self._at = end
        frame_type = _FRAME_TYPES.get(header[2])
        payload_format = _PAYLOAD_FORMATS.get(header[3])
        if frame_type is None or payload_format is None:
            self.stats.unsupported += 1
            self.stats.skipped_bytes += end - start
            return
        self.stats.frames += 1
        frames.append(
            Frame(
                frame_type, payload_format, header[4], header[5], header[6], header[8], header[9], header[10],
                header[11], header[12], payload,
            )
        )

    def _skip_to(self, position: int) -> None:
        """Pass over bytes that are no frame; the first of them after a sound frame means sync is lost."""
        if position == self._at:
            return
        self.stats.skipped_bytes += position - self._at
        self.stats.resyncs += self._in_sync
        self._in_sync = False
        self._at = position
        self._end = 0

    def _sync_tail(self) -> int:
        """Where the buffer's last bytes could be the start of a sync word; its end when they could not."""
        for length in range(len(SYNC) - 1, 0, -1):
            if self._buffer.endswith(SYNC[:length]) and len(self._buffer) - length >= self._at:
                return len(self._buffer) - length
        return len(self._buffer)


_FRAME_TYPES: Final = {int(each): each for each in FrameType}
_PAYLOAD_FORMATS: Final = {int(each): each for each in PayloadFormat}
