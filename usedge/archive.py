"""Zip archives of unknown origin, judged by their last bytes before anything in them is listed or unpacked.

zipfile takes a whole directory into memory, and unpacks bzip2 and LZMA without a bound: a file of some MB, or
an entry of some KB, could take all of a device's memory.
"""

from __future__ import annotations

import os
import struct
import zipfile
from typing import BinaryIO

MAX_ENTRIES = 64
MAX_DIRECTORY_BYTES = 64 << 10
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Both unpack to no more than what is asked for."""

_END = struct.Struct("<4s4H2LH")
_END_MAGIC, _LOCATOR_MAGIC = b"PK\x05\x06", b"PK\x06\x07"
_LOCATOR_BYTES = 20


class UnsafeArchiveError(ValueError):
    """An archive that could take more memory than its entries are said to."""


def open_archive(file: BinaryIO, comment_bytes: int = 0) -> zipfile.ZipFile:
    """``file`` as an archive that ends in a comment of ``comment_bytes``.

    Raises UnsafeArchiveError for more or larger entries in its directory than are read, zip64, and entries
    that are neither stored nor deflated; what zipfile raises for damage.
    """
    _check_end(file, comment_bytes)
    archive = zipfile.ZipFile(file)
    for entry in archive.infolist():
        if entry.compress_type not in METHODS:
            raise UnsafeArchiveError(f"entry {entry.filename!r:.60} is packed by method"
                                     f" {entry.compress_type}, neither stored nor deflated")
    return archive


def _check_end(file: BinaryIO, comment_bytes: int) -> None:
    size = file.seek(0, os.SEEK_END)
    last = _END.size + comment_bytes
    file.seek(max(0, size - last - _LOCATOR_BYTES))
    tail = file.read()
    end = tail[-last:]
    # zipfile takes the last record that it finds: there must be no other behind this one's beginning.
    if len(end) < last or end.rfind(_END_MAGIC) != 0:
        raise zipfile.BadZipFile("it does not end as a zip archive of its size does")
    _, _, _, _, entries, directory_bytes, _, stated = _END.unpack(end[: _END.size])
    if stated != comment_bytes:
        raise zipfile.BadZipFile(f"its comment has {comment_bytes} bytes, not {stated}")
    if tail[:-last].startswith(_LOCATOR_MAGIC):
        raise UnsafeArchiveError("it is a zip64 archive, which no bundle needs to be")
    if entries > MAX_ENTRIES or directory_bytes > MAX_DIRECTORY_BYTES:
        raise UnsafeArchiveError(f"its directory has {entries} entries in {directory_bytes} bytes; at most"
                                 f" {MAX_ENTRIES} in {MAX_DIRECTORY_BYTES} are read")
