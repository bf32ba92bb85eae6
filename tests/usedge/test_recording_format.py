"""What a recording's reader makes of sound, cut, bent and invented bytes; and its page's byte tables."""

from __future__ import annotations

import itertools
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.usedge.recordings import FILE_ID, chunks_of, fields, make_ascans, read
from usedge.ascan import AScan
from usedge.errors import InputError, UsedgeError
from usedge.recording import Recorder, Recording, RecordPolicy, layout
from usedge.recording.layout import MAX_BODY, Kind, pack_ascan, pack_chunk

ASCANS = make_ascans(24)
IN_EACH = 3
PLAIN = chunks_of(ASCANS, IN_EACH)
ENDS = list(itertools.accumulate(len(chunk) for chunk in PLAIN))
WHOLE = b"".join(PLAIN)
anew = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PAGE = (Path(__file__).parents[2] / "docs" / "recordings.md").read_text(encoding="utf-8")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scan.usrec"


def all_fields(ascans: list[AScan]) -> list[tuple[object, ...]]:
    return [fields(ascan) for ascan in ascans]


def surviving(hit: set[int]) -> list[tuple[object, ...]]:
    """The A-scans of all chunks but those ``hit``; chunk 0 is the facts, the last the end."""
    return [fields(ascan) for i, ascan in enumerate(ASCANS) if 1 + i // IN_EACH not in hit]


def chunk_at(offset: int) -> int:
    return next(i for i, end in enumerate(ENDS) if offset < end)


@pytest.mark.parametrize("compress", [False, True])
def test_every_field_comes_back_bit_for_bit(path: Path, compress: bool) -> None:
    path.write_bytes(b"".join(chunks_of(ASCANS, IN_EACH, compress)))
    ascans, recording = read(path)
    assert all_fields(ascans) == all_fields(ASCANS)
    assert recording.facts["port"] == "test"
    assert recording.found.whole
    assert recording.found.closed
    assert recording.found.remark == ""


@anew
@given(cut=st.integers(0, len(WHOLE)))
def test_a_cut_loses_only_what_it_cut(path: Path, cut: int) -> None:
    path.write_bytes(WHOLE[:cut])
    n_whole = sum(end <= cut for end in ENDS)
    if not n_whole:
        with pytest.raises(InputError, match="no whole chunk"):
            read(path)
        return
    ascans, recording = read(path)
    assert all_fields(ascans) == all_fields(ASCANS[: max(0, n_whole - 1) * IN_EACH])
    torn = cut - ENDS[n_whole - 1]
    assert recording.found.torn_bytes == recording.found.bytes_skipped == torn
    assert recording.found.closed == (n_whole == len(ENDS))
    assert (f"ends in {torn} bytes" in recording.found.remark) == (torn > 0)


@anew
@given(offset=st.integers(0, len(WHOLE) - 1), mask=st.integers(1, 255))
def test_a_bent_byte_loses_its_chunk_alone(path: Path, offset: int, mask: int) -> None:
    bent = bytearray(WHOLE)
    bent[offset] ^= mask
    path.write_bytes(bent)
    ascans, recording = read(path)
    hit = chunk_at(offset)
    assert all_fields(ascans) == surviving({hit})
    assert recording.found.bytes_skipped == len(PLAIN[hit])
    assert recording.found.n_spots == 1


@anew
@given(at=st.integers(0, len(WHOLE)), gone=st.integers(0, 600), junk=st.binary(max_size=300))
def test_bytes_lost_or_put_in_cost_the_chunks_they_touch(path: Path, at: int, gone: int, junk: bytes) -> None:
    path.write_bytes(WHOLE[:at] + junk + WHOLE[at + gone :])
    hit = {i for i, (start, end) in enumerate(zip([0, *ENDS], ENDS, strict=False))
           if (start < at + gone and end > at) or start < at < end}
    if len(hit) == len(ENDS):
        return
    found = all_fields(read(path)[0])
    in_order = iter(all_fields(ASCANS))
    assert all(each in in_order for each in found), "a wrong A-scan, or one out of its place"
    assert set(surviving(hit)) <= set(found)


@anew
@given(content=st.binary(max_size=400), sync=st.integers(0, 3))
def test_invented_bytes_are_refused_in_one_line(path: Path, content: bytes, sync: int) -> None:
    path.write_bytes(layout.SYNC * sync + content)
    with pytest.raises(InputError):
        read(path)


@anew
@given(kind=st.sampled_from(list(Kind)), n=st.integers(0, 4), body=st.one_of(
    st.binary(max_size=200), st.binary(max_size=200).map(zlib.compress),
    st.text(max_size=50).map(str.encode), st.integers(0, 4).map(
        lambda n: b"".join(pack_ascan(ascan) for ascan in ASCANS[:n]))))
def test_bodies_that_do_not_fit_their_kind_cost_themselves(path: Path, kind: Kind, n: int,
                                                           body: bytes) -> None:
    odd = pack_chunk(kind, n, body, FILE_ID, 2)
    path.write_bytes(PLAIN[0] + PLAIN[1] + odd + b"".join(PLAIN[3:]))
    try:
        ascans, _ = read(path)
    except UsedgeError:
        pytest.fail("one odd chunk among sound ones must not keep them from being read")
    rest = surviving({2})
    assert all_fields(ascans)[:IN_EACH] == rest[:IN_EACH]
    assert all_fields(ascans)[-len(rest) + IN_EACH :] == rest[IN_EACH:]


def test_an_ascan_no_run_could_use_is_no_ascan(path: Path) -> None:
    sound = pack_ascan(ASCANS[0])
    for fs_hz, t0_us in ((0.0, 0.0), (float("nan"), 0.0), (1e6, float("inf"))):
        bad = sound[:16] + struct.pack("<dd", fs_hz, t0_us) + sound[32:]
        path.write_bytes(PLAIN[0] + pack_chunk(Kind.ASCANS, 1, bad, FILE_ID, 1) + b"".join(PLAIN[2:]))
        assert all_fields(read(path)[0]) == surviving({1})


def test_a_compressed_body_cannot_unpack_beyond_its_limit(path: Path) -> None:
    bomb = pack_chunk(Kind.ASCANS_ZLIB, 1, zlib.compress(bytes(MAX_BODY + 1)), FILE_ID, 1)
    path.write_bytes(PLAIN[0] + bomb + b"".join(PLAIN[2:]))
    assert all_fields(read(path)[0]) == surviving({1})


def test_what_another_file_left_on_the_card_is_not_taken(path: Path) -> None:
    old = b"".join(pack_chunk(Kind.ASCANS, 1, pack_ascan(ASCANS[0]), FILE_ID + 1, n) for n in range(9))
    again = PLAIN[1]
    path.write_bytes(b"".join(PLAIN[:5]) + old + again + b"".join(PLAIN[5:]))
    ascans, recording = read(path)
    assert all_fields(ascans) == all_fields(ASCANS)
    assert recording.found.bytes_skipped == len(old) + len(again)


def test_a_newer_version_is_refused(path: Path) -> None:
    head = struct.pack("<8sBBHIQI", layout.SYNC, 2, 0, 0, 2, FILE_ID, 0)
    path.write_bytes(head + struct.pack("<I", zlib.crc32(head)) + b"{}" + bytes(4))
    with pytest.raises(InputError, match="format version 2") as caught:
        read(path)
    assert "Update usedge" in str(caught.value)


def test_missing_chunks_and_numbers_are_counted(path: Path) -> None:
    path.write_bytes(b"".join(PLAIN[:3] + PLAIN[5:]))
    ascans, recording = read(path)
    assert len(ascans) == 18
    assert recording.found.chunks_missing == 2
    assert recording.found.seq_gaps == 6
    assert "lacks 2 chunks" in recording.found.remark


# The page.

CODES = {"8": "8s", "u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i64": "q", "f64": "d"}


def byte_table(title: str) -> tuple[struct.Struct, list[str]]:
    """The struct that a table of the page describes; its offsets must follow from its types."""
    section = PAGE.split(f"### {title}\n")[1].split("\n### ")[0]
    rows = re.findall(r"^\| (\d+) \| (\w+)(?: B)? \| `(\w+)` \|", section, re.MULTILINE)
    format_ = "<"
    for offset, kind, field in rows:
        assert int(offset) == struct.calcsize(format_), field
        format_ += CODES[kind]
    return struct.Struct(format_), [field for _, _, field in rows]


def by_page(content: bytes, title: str, at: int) -> dict[str, int | float | bytes]:
    table, names = byte_table(title)
    return dict(zip(names, table.unpack_from(content, at), strict=True))


def test_the_page_reads_what_the_recorder_wrote(path: Path) -> None:
    ascans = make_ascans(10)
    with Recorder(path, RecordPolicy(), {"port": "test"}, lambda: {"protocol": "usfp"}) as recorder:
        for ascan in ascans:
            recorder.offer(ascan)
    content, at, met, kinds, numbers = path.read_bytes(), 0, [], [], []
    while at < len(content):
        head = by_page(content, "Chunk", at)
        assert head["sync"] == bytes.fromhex("55535245430D0A1A")
        assert head["version"] == 1
        assert head["head_crc"] == zlib.crc32(content[at : at + 28])
        body = at + 32
        end = body + int(head["body_bytes"])
        assert struct.unpack_from("<I", content, end)[0] == zlib.crc32(content[at:end])
        kinds.append(head["kind"])
        numbers.append(head["number"])
        for _ in range(int(head["n_ascans"])):
            ascan = by_page(content, "A-scan", body)
            samples = np.frombuffer(content, "<i2", int(ascan["samples"]), body + 48)
            met.append((samples.tobytes(), ascan["fs_hz"], ascan["t0_us"], ascan["seq"], ascan["t_ns"],
                        ascan["gain_db"], ascan["channel"], ascan["flags"]))
            body += 48 + samples.nbytes
        at = end + 4
    assert kinds == [0, 0, 1, 3]
    assert numbers == [0, 1, 2, 3]
    assert met == [(each.samples.tobytes(), each.fs_hz, each.t0_us, each.seq, each.t_ns, each.gain_db,
                    each.channel, int(each.rf)) for each in ascans]


def test_the_page_names_what_the_code_does() -> None:
    assert layout.SYNC.hex(" ").upper() in PAGE
    assert f"{MAX_BODY:,}" in PAGE
    for kind in Kind:
        assert f"| {kind.value} | {kind.name} |" in PAGE
    shown = bytes.fromhex(PAGE.split("```hex\n")[1].split("```")[0])
    example = AScan(np.array([0, 1, -2, 512], np.int16), 40e6, -1.5, 7, 1_000_000_000, 20.0, 3)
    assert shown == pack_chunk(Kind.ASCANS, 1, pack_ascan(example), FILE_ID, 2)


def test_the_facts_that_the_page_promises_stand_in_the_file(path: Path) -> None:
    with Recorder(path, RecordPolicy(), {"recording": "usedge", "version": "1", "port": "test"},
                  lambda: {"protocol": "usfp", "prf_hz": 50.0}) as recorder:
        recorder.offer(ASCANS[0])
    with Recording(path) as recording:
        list(recording)
    row = next(line for line in PAGE.splitlines() if line.startswith("| 0 | FACTS |"))
    assert set(recording.facts) == set(re.findall(r"`(\w+)`", row))
