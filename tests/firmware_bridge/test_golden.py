"""Every implementation answers the committed golden frames byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from usedge_firmware import golden, usfp
from usedge_firmware.native import NativeEncoder

CASES: list[dict[str, Any]] = json.loads(golden.GOLDEN_FILE.read_text(encoding="utf-8"))["cases"]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])


def test_the_committed_file_is_what_the_code_writes() -> None:
    assert golden.GOLDEN_FILE.read_text(encoding="utf-8") == golden.render()


def test_every_frame_type_has_a_golden_frame(room: Path) -> None:
    assert {case["kind"].upper() for case in CASES} == {each.name for each in usfp.FrameType}
    assert golden.GOLDEN_FILE.is_relative_to(room)


@each_case
def test_python_encodes_it(case: dict[str, Any]) -> None:
    assert golden.encode_case(usfp, case["kind"], case["fields"]).hex() == case["hex"]


@each_case
def test_python_decodes_it_to_the_fields(case: dict[str, Any]) -> None:
    (frame,) = usfp.Decoder().feed(bytes.fromhex(case["hex"]))
    fields, kind = case["fields"], case["kind"]
    assert frame.type.name == kind.upper()
    assert frame.seq == fields["seq"]
    assert frame.t_us == fields.get("t_us", 0)
    if kind == "ascan":
        assert frame.samples().tolist() == fields["samples"]
        assert frame.payload_format == fields.get("payload_format", 0)
        header = (frame.fs_hz, frame.t0_ns, frame.gain_cdb, frame.channel, frame.flags)
        assert header == tuple(fields[name] for name in ("fs_hz", "t0_ns", "gain_cdb", "channel", "flags"))
    elif kind == "log":
        assert usfp.parse_log(frame) == fields["text"]
    else:
        parse = {"info": usfp.parse_info, "command": usfp.parse_command, "ack": usfp.parse_ack}[kind]
        message = parse(frame)
        for name in set(fields) - {"seq", "t_us"}:
            value = getattr(message, name)
            assert (list(value) if name == "firmware" else value) == fields[name]


@each_case
def test_c_encodes_it(case: dict[str, Any], native: NativeEncoder) -> None:
    assert golden.encode_case(native, case["kind"], case["fields"]).hex() == case["hex"]


@each_case
def test_c_decodes_it_as_python_does(case: dict[str, Any], native: NativeEncoder) -> None:
    raw = bytes.fromhex(case["hex"])
    assert native.decoder().feed(raw) == usfp.Decoder().feed(raw)


def test_every_payload_format_has_a_golden_frame() -> None:
    assert {case["fields"].get("payload_format", 0) for case in CASES} == set(usfp.PayloadFormat)


@pytest.mark.parametrize(
    "case", [each for each in CASES if each["kind"] == "command"], ids=lambda case: case["name"]
)
def test_c_parses_the_command(case: dict[str, Any], native: NativeEncoder) -> None:
    fields = case["fields"]
    command = usfp.Command(**{name: value for name, value in fields.items() if name != "seq"})
    assert native.command_parser().feed(bytes.fromhex(case["hex"])) == [(fields["seq"], command)]
