"""Bundles that are cut, flipped, forged or of another version, put to `usedge run` as its user would."""

from __future__ import annotations

import bz2
import hashlib
import io
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.usedge.test_bundle import golden, parts, repacked, reseal, with_manifest
from usedge.archive import MAX_ENTRIES
from usedge.bundle import FORMAT_VERSION, Bundle, read_bundle, write_bundle
from usedge.cli import main
from usedge.errors import InputError
from usedge.golden import pack, unpack

ROOT = Path(__file__).parents[2]
MEMORY_MB = 150
"""Most that reading any bundle may take; Python with numpy alone takes 30."""


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "b.usedge", parts())


def run_refuses(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line with which `usedge run` ends; nothing may be left beside ``path``."""
    words = ["--port", "sim://", "--bundle", str(path), "--count", "1"]
    outputs = ["--record", str(path.with_name("r.usrec")), "--summary", str(path.with_name("s.json"))]
    monkeypatch.setattr(sys, "argv", ["usedge", "run", *words, *outputs])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    assert end.value.code == 2
    assert said.out == ""
    assert said.err.startswith(f"usedge: {path}")
    assert said.err.count("\n") == 1
    assert list(path.parent.iterdir()) == [path]
    return said.err


def test_cut_bundles_end_the_run_with_one_line(bundle: Bundle, monkeypatch: pytest.MonkeyPatch,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    whole = bundle.path.read_bytes()
    for size in np.random.default_rng(11).integers(0, len(whole), 200):
        bundle.path.write_bytes(whole[:size])
        assert "truncated" in run_refuses(bundle.path, monkeypatch, capsys) or size < 4


def test_flipped_bits_end_the_run_with_one_line(bundle: Bundle, monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    whole = bundle.path.read_bytes()
    for bit in np.random.default_rng(12).integers(0, 8 * len(whole), 200):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << (bit % 8)
        bundle.path.write_bytes(changed)
        run_refuses(bundle.path, monkeypatch, capsys)


@pytest.mark.parametrize("version", ["0", "1"])
def test_older_versions_are_refused_by_name(bundle: Bundle, version: str, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    reseal(bundle.path, repacked(bundle.path, dict.copy), version=version)
    told = f"is a bundle of format {version}; this usedge reads {FORMAT_VERSION}. Export its checkpoint again"
    assert told in run_refuses(bundle.path, monkeypatch, capsys)


def test_an_older_manifest_is_refused_by_name(bundle: Bundle, monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    with_manifest(bundle.path, lambda manifest: manifest.update(format_version=1))
    assert "is a bundle of format 1" in run_refuses(bundle.path, monkeypatch, capsys)


def refused_within_memory(path: Path) -> str:
    """The refusal of a process that reads ``path`` and says what it took at most."""
    program = (
        "import sys\n"
        "from usedge.bundle import read_bundle\n"
        "from usedge.errors import InputError\n"
        "from usedge.meter import peak_rss_mb\n"
        "try:\n"
        "    bundle = read_bundle(sys.argv[1])\n"
        "    bundle.golden()\n"
        "    [bundle.variant_bytes(name) for name in bundle.variants]\n"
        "except InputError as error:\n"
        "    print(peak_rss_mb(), error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(path)], check=True, cwd=ROOT,
                         capture_output=True, text=True)
    peak_mb, _, said = ran.stdout.partition(" ")
    assert float(peak_mb) < MEMORY_MB
    assert said.count("\n") == 1
    return said


def directory_bomb(entries: int) -> bytes:
    """An archive that is all directory: ``entries`` of one empty file, fewer than that by its last record."""
    header = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
    directory = (header + b"a") * entries
    return directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), 0, 0)


def test_a_directory_of_a_million_entries_is_never_read(bundle: Bundle) -> None:
    reseal(bundle.path, directory_bomb(1_000_000))
    said = refused_within_memory(bundle.path)
    assert f"at most {MAX_ENTRIES} in" in said
    assert "Do not use this file." in said


def test_a_zip64_directory_is_never_read(bundle: Bundle) -> None:
    plain, directory = directory_bomb(1_000_000), 47 * 1_000_000
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 10**6, 10**6, directory, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, directory, 1)
    reseal(bundle.path, plain[:-22] + end64 + locator + directory_bomb(1)[-22:])
    assert "zip64" in refused_within_memory(bundle.path)


def test_a_second_end_record_behind_the_first_is_refused(bundle: Bundle) -> None:
    plain = repacked(bundle.path, dict.copy)
    reseal(bundle.path, plain[:-10] + b"PK\x05\x06" + plain[-6:])
    with pytest.raises(InputError, match="does not end as a zip archive"):
        read_bundle(bundle.path)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_entries_are_stored_or_deflated(bundle: Bundle, method: int) -> None:
    """zipfile unpacks the others a chunk at a time, however large it gets."""
    with zipfile.ZipFile(bundle.path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["manifest.json"] = b" " * (1 << 20)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    reseal(bundle.path, stream.getvalue())
    assert f"packed by method {method}, neither stored nor deflated" in refused_within_memory(bundle.path)


def test_a_bomb_within_the_golden_vectors_is_never_unpacked(bundle: Bundle) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("x.npy"), bz2.compress(bytes(100 << 20)))
    with_golden(bundle.path, _as_bzip2(stream.getvalue()))
    assert "method 12" in refused_within_memory(bundle.path)
    with_golden(bundle.path, directory_bomb(600_000))
    assert "its directory has" in refused_within_memory(bundle.path)


def _as_bzip2(archive: bytes) -> bytes:
    """``archive`` of one stored entry that says it is packed by bzip2."""
    changed = bytearray(archive)
    changed[8:10] = struct.pack("<H", zipfile.ZIP_BZIP2)
    directory = archive.rindex(b"PK\x01\x02")
    changed[directory + 10 : directory + 12] = struct.pack("<H", zipfile.ZIP_BZIP2)
    return bytes(changed)


def with_golden(path: Path, content: bytes) -> None:
    """Put ``content`` in place of the golden vectors, with a manifest and a seal that fit it."""
    with_manifest(path, lambda manifest: manifest["golden"].update(
        sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)))
    reseal(path, repacked(path, lambda entries: entries.update({"golden.npz": content})))


def test_golden_vectors_hold_no_pickles(bundle: Bundle) -> None:
    stream = io.BytesIO()
    known = golden()
    np.savez(stream, x=np.array([print], object), out=known.out, label=known.label, place=known.place)
    with_golden(bundle.path, stream.getvalue())
    with pytest.raises(InputError, match="golden vectors cannot be read"):
        read_bundle(bundle.path).golden()


def test_golden_vectors_that_claim_more_than_there_is_are_refused(bundle: Bundle) -> None:
    """A header may claim any shape: nothing is taken into memory but what the file holds."""
    content = pack(golden())
    shape = b"(8, 2048)"
    assert content.count(shape) == 1
    # The same length, so that the archive stays whole; its CRC is not reached.
    larger = content.replace(shape + b", }" + b" " * 12, b"(2048, 999999999999)" + b", }" + b" ")
    assert larger != content
    assert len(larger) == len(content)
    with pytest.raises((ValueError, MemoryError, zipfile.BadZipFile)):
        unpack(larger, read_bundle(bundle.path).spec, 0.2)
    with_golden(bundle.path, larger)
    assert "golden vectors cannot be read" in refused_within_memory(bundle.path)
