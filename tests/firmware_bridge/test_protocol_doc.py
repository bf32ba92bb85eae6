"""PROTOCOL.md is read and compared with the code: its tables, its hex, its link budget."""

from __future__ import annotations

import json
import re
import struct
from binascii import crc_hqx
from pathlib import Path

import numpy as np
import pytest

from usedge_firmware import golden, usfp
from usedge_firmware.messages import COMMAND_MAX
from usedge_firmware.payload import RICE_BLOCK, pack12, rice_encode

CODES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i16": "h", "i32": "i"}
GOLDEN = {case["name"]: case for case in json.loads(golden.GOLDEN_FILE.read_text(encoding="utf-8"))["cases"]}


@pytest.fixture(scope="module")
def text(room: Path) -> str:
    return (room / "PROTOCOL.md").read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """What stands between this heading and the next."""
    found = re.search(rf"^#+ {re.escape(title)}.*?\n(.*?)(?=^#)", text, re.M | re.S)
    assert found, f"PROTOCOL.md has no section '{title}'"
    return found[1]


def layout(text: str, title: str) -> tuple[struct.Struct, list[str]]:
    """The struct that a byte table describes; its offsets must follow from its types."""
    rows = re.findall(r"^\| (\d+) \| (\S+)( B)? \| `(\w+)` \|", section(text, title), re.M)
    assert rows, f"no byte table under '{title}'"
    codes = ["<"]
    for offset, kind, is_bytes, field in rows:
        assert int(offset) == struct.calcsize("".join(codes)), f"{title}: `{field}` is not at {offset}"
        codes.append(f"{kind}s" if is_bytes else CODES[kind])
    return struct.Struct("".join(codes)), [row[3] for row in rows]


def read(text: str, title: str, raw: bytes) -> dict[str, object]:
    table, fields = layout(text, title)
    return dict(zip(fields, table.unpack(raw), strict=True))


def test_the_header_table_reads_a_frame(text: str) -> None:
    raw = bytes.fromhex(GOLDEN["ascan_greatest_header"]["hex"])
    header = read(text, "Header", raw[: usfp.HEADER_SIZE])
    (frame,) = usfp.Decoder().feed(raw)
    assert (header.pop("sync"), header.pop("version")) == (usfp.SYNC, usfp.VERSION)
    assert header.pop("payload_len") == len(frame.payload)
    assert header.pop("header_crc") == crc_hqx(raw[:38], 0xFFFF)
    assert header == {field: getattr(frame, field) for field in header}


def test_the_info_table_reads_an_info_frame(text: str) -> None:
    (frame,) = usfp.Decoder().feed(bytes.fromhex(GOLDEN["info"]["hex"]))
    fields, info = read(text, "INFO payload", frame.payload), usfp.parse_info(frame)
    for field in ("session_id", "adc_bits", "fs_hz", "n_samples", "payload_formats", "prf_mhz", "t0_ns"):
        assert fields[field] == getattr(info, field), field
    assert tuple(fields[f"firmware_{part}"] for part in ("major", "minor", "patch")) == info.firmware
    assert fields["name"] == info.name.encode().ljust(usfp.NAME_SIZE, b"\0")


@pytest.mark.parametrize(
    ("title", "case", "parse", "fields"),
    [
        ("COMMAND payload", "command_start", usfp.parse_command, ("opcode", "prf_mhz", "count")),
        (
            "COMMAND payload", "command_start_rice", usfp.parse_command,
            ("opcode", "payload_format", "prf_mhz", "count"),
        ),
        ("ACK payload", "ack_unknown_opcode", usfp.parse_ack, ("opcode", "status", "detail")),
    ],
)
def test_the_command_and_ack_tables_read_their_frames(
    text: str, title: str, case: str, parse: object, fields: tuple[str, ...]
) -> None:
    (frame,) = usfp.Decoder().feed(bytes.fromhex(GOLDEN[case]["hex"]))
    table = read(text, title, frame.payload)
    message = parse(frame)  # type: ignore[operator]
    assert {field: table[field] for field in fields} == {field: getattr(message, field) for field in fields}


@pytest.mark.parametrize("title", ["INFO payload", "COMMAND payload", "ACK payload"])
def test_a_title_states_the_size_of_its_table(text: str, title: str) -> None:
    assert f"{title}, {layout(text, title)[0].size} bytes" in text


def test_the_worked_hex_is_the_golden_frame(text: str) -> None:
    blocks = re.findall(r"^```hex (\w+)\n(.*?)^```", text, re.M | re.S)
    assert [name for name, _ in blocks] == ["ascan", "command_start", "ack_start", "packed12", "rice"]
    for name, block in blocks:
        # The notes stand behind three spaces; between bytes there are never more than two.
        shown = "".join(re.split(r" {3,}", line)[0] for line in block.splitlines())
        assert bytes.fromhex(shown) == bytes.fromhex(GOLDEN[name]["hex"]), name


def test_every_number_that_has_a_name_is_listed(text: str) -> None:
    for each in usfp.FrameType:
        assert f"| {each.value} | {each.name} |" in section(text, "Frame types")
    for each, name in zip(usfp.PayloadFormat, SIZES, strict=True):
        assert f"| {each.value} | {name} |" in section(text, "Payload formats")
    for each in usfp.Opcode:
        assert f"{each.value} {each.name}" in section(text, "COMMAND payload")
    for each in usfp.AckStatus:
        assert f"{each.value} {each.name.replace('_', ' ')}".lower() in section(text, "ACK payload").lower()
    assert f"{usfp.MAX_PAYLOAD:,}" in section(text, "Header")


SIZES = {
    "int16": lambda n_samples: 2 * n_samples,
    "packed-12": lambda n_samples: (3 * n_samples + 1) // 2,
    "delta-Rice": lambda n_samples: 0.32 * 2 * n_samples,
}


@pytest.mark.parametrize("name", SIZES)
def test_the_link_budget_follows_from_its_formula(text: str, name: str) -> None:
    budget = section(text, f"Link budget in {name}")
    assert (name == "delta-Rice") == ("0.32 of int16" in budget)
    lengths = [int(each) for each in re.search(r"^\| link \| bytes/s \|(.*)\|$", budget, re.M)[1].split("|")]
    rows = re.findall(r"^\| ([\w, -]+) \| ([\d,]+) \|(.*)\|$", budget, re.M)
    assert len(rows) == 6
    for link, bytes_s, rates in rows:
        rate_bytes = int(bytes_s.replace(",", ""))
        if link.endswith("baud"):
            assert rate_bytes == int(link.removesuffix(" baud").replace(",", "")) // 10
        sizes = [usfp.HEADER_SIZE + SIZES[name](each) + usfp.TRAILER_SIZE for each in lengths]
        assert [each.strip() for each in rates.split("|")] == [f"{rate_bytes / each:.1f}" for each in sizes]


def test_the_packed12_table_packs_a_pair(text: str) -> None:
    rows = re.findall(r"^\| (\d) \| ([ab]), bits (\d+) … \d+ \| ([ab]), bits (\d+) … \d+ \|$", text, re.M)
    assert len(rows) == 3
    for first, second in ((0, 1), (-1, 256), (2047, -2048), (-1366, 1365)):
        value = {"a": first & 0xFFF, "b": second & 0xFFF}
        made = [
            (value[low] >> int(low_at)) & 15 | ((value[high] >> int(high_at)) & 15) << 4
            for _, low, low_at, high, high_at in rows
        ]
        assert bytes(made) == pack12(np.array([first, second], np.int16))


def test_the_worked_rice_codes_are_those_of_the_samples(text: str) -> None:
    numbers = re.search(r"six samples (.*) in delta-Rice: differences (.*?), so u = (.*?), whose sum", text)
    assert numbers
    samples, differences, codes = (
        [int(each) for each in part.replace("−", "-").split(",")] for part in numbers.groups()
    )
    assert samples == GOLDEN["rice"]["fields"]["samples"]
    assert differences == np.diff(samples, prepend=0).tolist()
    assert codes == [2 * each if each >= 0 else -2 * each - 1 for each in differences]
    assert rice_encode(np.array(samples, np.int16))[0] == 3
    assert f"whose sum\n{sum(codes)} takes k = 3" in text


def test_the_c_header_names_the_same_numbers(room: Path) -> None:
    header = (room / "c/include/usfp.h").read_text(encoding="utf-8")
    named = {name: int(value) for name, value in re.findall(r"^#define USFP_(\w+) (\d+)u", header, re.M)}
    expected = {
        **{f"TYPE_{each.name}": each.value for each in usfp.FrameType},
        **{f"FORMAT_{each.name}": each.value for each in usfp.PayloadFormat},
        **{f"OPCODE_{each.name}": each.value for each in usfp.Opcode},
        **{f"STATUS_{each.name}": each.value for each in usfp.AckStatus},
        "VERSION": usfp.VERSION, "HEADER_SIZE": usfp.HEADER_SIZE, "TRAILER_SIZE": usfp.TRAILER_SIZE,
        "MAX_PAYLOAD": usfp.MAX_PAYLOAD, "NAME_SIZE": usfp.NAME_SIZE,
        "COMMAND_MAX": COMMAND_MAX, "RICE_BLOCK": RICE_BLOCK,
    }
    assert {name: named.get(name) for name in expected} == expected
