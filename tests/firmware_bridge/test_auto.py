"""Finding out which protocol it is, and what the page on front ends says of each."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.firmware_bridge.foreign_streams import (
    assert_same,
    decode,
    device,
    events_of,
    pieces,
    records_of,
    seqs,
    vector,
)
from usedge_firmware import usfp
from usedge_firmware.dialect import DeviceDescription, DeviceState
from usedge_firmware.frontend import LinkStats, Record, Request, Said
from usedge_firmware.frontends import DIALECTS, FRONT_ENDS, UnknownFrontEndError, open_dialect, open_front_end
from usedge_firmware.frontends.auto import MOST_WORDS, AutoFrontEnd

PROTOCOLS = ["usfp", "p0rk", "wulpus", "pic0rick"]
ROWS = np.random.default_rng(4).integers(-2048, 2048, (6, 400)).astype(np.int16)
STATE = DeviceState(next_seq=0, sent=0, t_us=0, streaming=False)
PAGE = (Path(__file__).parents[2] / "docs" / "front-ends.md").read_text()


def stream_of(protocol: str) -> bytes:
    board = device(protocol)
    return b"".join(board.ascan(row, seq=seq, t_us=seq) for seq, row in enumerate(ROWS))


STREAMS = {each: stream_of(each) for each in PROTOCOLS}


# Half a marker before a whole one is a fault of its own, and told as such elsewhere.
noises = st.binary(max_size=300).filter(lambda noise: b"START" not in noise and b"ACQ" not in noise)


@settings(max_examples=40)
@given(st.sampled_from(PROTOCOLS), noises, st.lists(st.integers(0, 6000), max_size=8))
def test_the_protocol_is_found_behind_noise_and_no_record_is_lost(
    protocol: str, noise: bytes, cuts_at: list[int]
) -> None:
    records, front = decode("auto", noise + STREAMS[protocol], cuts_at)
    assert front.name == front.chosen.name == protocol
    assert_same(records, decode(protocol, noise + STREAMS[protocol])[0])
    assert len(records) == 6
    assert front.seen >= front.evidence


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_once_found_it_answers_as_the_one_it_found(protocol: str) -> None:
    front: Any = AutoFrontEnd(Request())
    assert (front.name, front.seen, front.evidence, front.acknowledges, front.blind_to, front.stats) == (
        "auto", 0, 1, False, "", LinkStats())
    front.feed(STREAMS[protocol])
    own: Any = open_front_end(protocol, Request())
    own.feed(STREAMS[protocol])
    for attribute in ("name", "seen", "evidence", "acknowledges", "blind_to", "stats", "max_prf_hz"):
        assert getattr(front, attribute) == getattr(own, attribute)
    assert (front.start(), front.stop(), front.wants(5.0)) == (own.start(), own.stop(), own.wants(5.0))


@pytest.mark.parametrize(("protocol", "needed"), [("usfp", 1), ("p0rk", 2), ("wulpus", 3)])
def test_nothing_is_believed_before_its_evidence(protocol: str, needed: int) -> None:
    front = AutoFrontEnd(Request())
    size = len(STREAMS[protocol]) // 6
    for count in range(1, needed + 1):
        events = front.feed(STREAMS[protocol][(count - 1) * size : count * size])
        assert len(records_of(events)) == (needed if count == needed else 0)


@pytest.mark.parametrize("protocol", ["p0rk", "wulpus"])
def test_a_short_capture_is_settled_at_its_end(protocol: str) -> None:
    records, front = decode("auto", STREAMS[protocol][: len(STREAMS[protocol]) // 6])
    assert (seqs(records), front.name) == ([0], protocol)


def test_noise_is_no_protocol() -> None:
    records, front = decode("auto", random.Random(3).randbytes(1 << 16), range(0, 1 << 16, 4096))
    assert (records, front.chosen) == ([], None)


@pytest.mark.parametrize("inner", ["p0rk", "wulpus", "pic0rick"])
@pytest.mark.parametrize("step", [0, 100, 4096])
def test_what_lies_inside_a_usfp_frame_is_no_protocol_of_its_own(inner: str, step: int) -> None:
    inside = STREAMS[inner] + b"\0" * (len(STREAMS[inner]) % 2)
    samples = np.frombuffer(inside, dtype="<i2").astype(np.int16)
    stream = usfp.encode_ascan(samples, seq=0, fs_hz=1) + usfp.encode_log("OK\n" + inside.hex())
    records, front = decode("auto", stream, range(0, len(stream), step) if step else ())
    assert (front.name, len(records)) == ("usfp", 1)


def test_wulpus_samples_may_look_like_anything_without_a_check() -> None:
    looks = b"P0RK\x01\x01" + usfp.SYNC + b"\x01\x01" + b"OK\n----------Start of ACQ----------\n1,2,"
    looks = looks.ljust(800, b"\n")
    board = device("wulpus")
    rows = [np.frombuffer(looks, "<i2").astype(np.int16)] * 4
    records, front = decode("auto", b"".join(board.ascan(row, seq=i, t_us=0) for i, row in enumerate(rows)))
    assert (front.name, len(records)) == ("wulpus", 4)


def test_words_alone_are_no_evidence_and_do_not_pile_up() -> None:
    front = AutoFrontEnd(Request())
    first, *rest = pieces(STREAMS["p0rk"], [len(STREAMS["p0rk"]) // 6])
    assert front.feed(first + b"OK maybe\r\n" * 10_000) == []
    events = front.feed(rest[0])
    assert len(records_of(events)) == 6
    assert sum(isinstance(each, Said) for each in events) == MOST_WORDS
    assert isinstance(events[0], Record)


mutilated = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.builds(lambda protocol, start, length: STREAMS[protocol][start : start + length],
                  st.sampled_from(PROTOCOLS), st.integers(0, 4000), st.integers(0, 3000)),
    ), max_size=8,
)


@settings(max_examples=150)
@given(st.sampled_from([*PROTOCOLS, "auto"]), mutilated, st.lists(st.integers(0, 9000), max_size=8))
def test_no_stream_breaks_a_front_end_or_its_account(
    protocol: str, parts: list[bytes], cuts_at: list[int]
) -> None:
    stream = b"".join(parts)
    front: Any = open_front_end(protocol, Request())
    fed, events = 0, []
    for piece in pieces(stream, cuts_at):
        events += front.feed(piece)
        fed += len(piece)
        assert front.stats.skipped_bytes + getattr(front, "pending", 0) <= fed
    events += front.finish()
    assert [*front.feed(b""), *front.finish()] == []
    whole, _ = decode(protocol, stream)
    assert_same(records_of(events), whole)


def test_an_echo_of_every_probe_is_no_evidence() -> None:
    front = AutoFrontEnd(Request())
    for _ in range(20):
        assert front.feed(front.probe()) == []
    assert front.finish() == []


def test_probes_go_round_the_harmless_first() -> None:
    front = AutoFrontEnd(Request(prf_hz=20.0))
    own = {each: open_front_end(each, Request(prf_hz=20.0)).probe() for each in PROTOCOLS}
    asked = [front.probe() for _ in range(6)]
    assert asked == [own[each] for each in ("usfp", "p0rk", "usfp", "pic0rick", "wulpus", "usfp")]
    assert all(front.probe() for _ in range(30))


def test_a_board_that_has_begun_to_answer_is_left_alone_with_it() -> None:
    front = AutoFrontEnd(Request())
    front.feed(STREAMS["wulpus"][:814])
    assert [front.probe() for _ in range(3)] == [b""] * 3
    assert front.probe() == usfp.command_info()
    stops = {each: open_front_end(each, Request()).stop() for each in ("usfp", "wulpus")}
    assert front.stop() == b"\n" + stops["usfp"] + b"\n" + stops["wulpus"]


def test_all_that_were_asked_are_told_to_stop_in_words_that_each_understands() -> None:
    front = AutoFrontEnd(Request())
    asked = b"".join(front.probe() for _ in range(5))
    for protocol in ("p0rk", "wulpus"):
        device = open_dialect(protocol, DeviceDescription(fs_hz=8_000_000, n_samples=400))
        kinds = [order.kind for order in device.orders(asked + front.stop())]
        assert ("start" in kinds, kinds[-1]) == (True, "stop"), protocol


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_board_is_found_by_its_answers_to_the_probes(protocol: str) -> None:
    """Host and device talk until the stream runs; what the host says to others is noise to this one."""
    front, board = AutoFrontEnd(Request(prf_hz=40.0)), device(protocol)
    records: list[Record] = []
    streaming, begun, seq = False, False, 0
    for turn in range(40):
        said = front.wants(float(turn)) if begun else front.probe()
        if front.chosen and not begun:
            said, begun = front.start(), True
        for order in board.orders(said):
            streaming = order.kind == "start" or (streaming and order.kind != "stop")
            records += records_of(front.feed(board.reply(order, STATE)))
            if order.kind == "once":
                records += records_of(front.feed(board.ascan(ROWS[seq % 6], seq=seq, t_us=0)))
                seq += 1
        if streaming:
            records += records_of(front.feed(board.ascan(ROWS[seq % 6], seq=seq, t_us=0)))
            seq += 1
    assert front.name == protocol
    assert len(records) > 20
    assert seqs(records) == list(range(records[0].seq, records[0].seq + len(records)))
    assert front.stats.corrupted == 0


def test_memory_stays_bounded_while_nothing_is_found() -> None:
    for noise in (random.Random(1).randbytes(1 << 17), b"P0RK" * 10_000, b"OK\n" * 20_000, bytes(1 << 17)):
        front = AutoFrontEnd(Request())
        for start in range(0, len(noise), 4096):
            assert front.feed(noise[start : start + 4096]) == []
        held = [each for events in front._held.values() for each in events]
        pending = sum(each.pending for each in front._candidates.values())  # type: ignore[attr-defined]
        assert len(held) <= MOST_WORDS
        assert pending < 1 << 19


def test_reset_forgets_what_was_heard_and_keeps_what_was_found() -> None:
    front = AutoFrontEnd(Request())
    front.feed(STREAMS["wulpus"][:1000])
    front.reset()
    assert records_of(events_of(front, STREAMS["p0rk"]))[0].seq == 0
    assert front.name == "p0rk"
    front.reset()
    assert (front.name, front.feed(STREAMS["wulpus"])) == ("p0rk", [])


@pytest.mark.parametrize(("name", "protocol", "count"), [
    ("p0rk/p0rk_selftest_stream.bin", "p0rk", 21), ("wulpus/wulpus_usb_200frames.bin", "wulpus", 200),
    ("pic0rick_text/read_8000.txt", "pic0rick", 1),
])
@pytest.mark.parametrize("step", [0, 64, 4096])
def test_recorded_streams_are_found_and_decoded_completely(
    name: str, protocol: str, count: int, step: int
) -> None:
    stream = random.Random(step).randbytes(999) + vector(name)
    records, front = decode("auto", stream, range(0, len(stream), step) if step else ())
    assert (front.name, len(records), front.stats.corrupted) == (protocol, count, 0)


def test_an_unknown_name_prints_the_known_ones() -> None:
    with pytest.raises(UnknownFrontEndError, match="usfp, p0rk, wulpus, pic0rick, auto"):
        open_front_end("modbus", Request())
    with pytest.raises(ValueError, match="usfp, p0rk, wulpus, pic0rick"):
        open_dialect("auto", device("usfp").description)  # type: ignore[attr-defined]
    assert list(DIALECTS) == PROTOCOLS
    assert list(FRONT_ENDS) == [*PROTOCOLS, "auto"]


def test_the_front_ends_stand_on_the_standard_library_and_numpy_alone() -> None:
    code = ("import sys, numpy; before = set(sys.modules); from usedge_firmware import frontends as f;"
            " from importlib import import_module as load;"
            " [load(module) for table in (f.FRONT_ENDS, f.DIALECTS) for module, _ in table.values()];"
            " new = {each.split('.')[0] for each in set(sys.modules) - before};"
            " print(sorted(new - set(sys.stdlib_module_names) - {'numpy'}))")
    room = Path(__file__).parents[2] / "firmware_bridge"
    done = subprocess.run([sys.executable, "-c", code], cwd=room, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['usedge_firmware']"


def test_a_protocol_is_imported_when_it_is_asked_for() -> None:
    code = ("import sys, usedge_firmware.frontends as f; from usedge_firmware.frontend import Request;"
            " f.open_front_end('wulpus', Request());"
            " names = [each for each in sys.modules if each.startswith('usedge_firmware.frontends.')];"
            " print(sorted(each.split('.')[-1] for each in names))")
    room = Path(__file__).parents[2] / "firmware_bridge"
    done = subprocess.run([sys.executable, "-c", code], cwd=room, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['gathering', 'wulpus']"


def rows_of_the_page() -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines()
            if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in rows}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_page_says_of_each_protocol_what_the_code_does(protocol: str) -> None:
    front = open_front_end(protocol, Request())
    cells = rows_of_the_page()[protocol]
    assert cells[-1] == (front.blind_to or "Nothing that a CRC of 48 bits in all lets through.")
    assert cells[-2] == str(front.evidence)
    assert cells[-3] == ("none" if front.max_prf_hz is None else f"{front.max_prf_hz:g} Hz")


def test_the_page_tells_the_order_of_the_probes() -> None:
    told = re.search(r"The probes go round in this order: (.*?)\.", PAGE, re.DOTALL)
    assert told is not None
    words = re.findall(r"`(\w+)`", told[1])
    assert [each for each in words if each in PROTOCOLS] == ["usfp", "p0rk", "usfp", "pic0rick", "wulpus"]
