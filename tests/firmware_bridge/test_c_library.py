"""The C library: warnings are errors, sanitizers are silent, and its parser survives a bad line."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usedge_firmware import native as native_module
from usedge_firmware import usfp
from usedge_firmware.native import NativeEncoder, NativeUnavailableError, build_native_encoder
from usedge_firmware.usfp import Command, UsfpError


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    return subprocess.run(command, capture_output=True, check=False, timeout=120, **options)


STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic"]
COMMANDS = [Command(1, 250_000, 500), Command(2), Command(3), Command(200, 1, 2)]
LINE = [usfp.encode_command(each, seq=seq) for seq, each in enumerate(COMMANDS)]
EXPECTED = list(enumerate(COMMANDS))
TOO_LONG = usfp.encode(usfp.Frame(usfp.FrameType.COMMAND, payload=bytes(10_000)))
shared_native = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@pytest.fixture(scope="module")
def checked_program(compiler: str, room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C test program, built under AddressSanitizer and UndefinedBehaviorSanitizer."""
    program = tmp_path_factory.mktemp("c") / "test_usfp"
    c = room / "c"
    sanitize = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = [str(c / "tests/test_usfp.c"), str(c / "src/usfp.c")]
    done = run([compiler, *STRICT, *sanitize, f"-I{c / 'include'}", *sources, "-o", str(program)], text=True)
    if re.search(r"cannot find .*(asan|ubsan)", done.stderr):
        pytest.skip("this compiler has no sanitizer runtime installed")
    assert done.returncode == 0, done.stderr
    return program


@pytest.mark.parametrize("optimise", ["-Os", "-O2"])
def test_it_compiles_freestanding_without_a_warning(
    compiler: str, room: Path, tmp_path: Path, optimise: str
) -> None:
    source = room / "c/src/usfp.c"
    command = [compiler, *STRICT, optimise, "-ffreestanding", f"-I{room / 'c/include'}", "-c", str(source)]
    done = run([*command, "-o", str(tmp_path / "usfp.o")], text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_it_includes_nothing_that_firmware_lacks(room: Path) -> None:
    text = "".join((room / "c" / each).read_text() for each in ("include/usfp.h", "src/usfp.c"))
    assert set(re.findall(r"#include\s+(\S+)", text)) == {"<stddef.h>", "<stdint.h>", '"usfp.h"'}


def test_sanitizers_find_nothing(checked_program: Path) -> None:
    noise = (b"\x55\x53\xa5" + LINE[0][:45], bytes(range(256)) * 4 + TOO_LONG)
    noisy_line = b"".join(each + b"".join(LINE) for each in noise)
    done = run([str(checked_program)], input=noisy_line)
    assert done.returncode == 0, done.stderr.decode()
    parsed = [tuple(map(int, line.split())) for line in done.stdout.decode().splitlines()]
    assert parsed == 2 * [(each.opcode, seq, each.prf_mhz, each.count) for seq, each in EXPECTED]


def test_the_program_can_fail(compiler: str, room: Path, tmp_path: Path) -> None:
    """The same program against a library with a wrong capacity check must be caught."""
    broken = tmp_path / "usfp.c"
    sound = (room / "c/src/usfp.c").read_text()
    broken.write_text(sound.replace("capacity < USFP_ASCAN_FRAME_SIZE(n_samples)", "capacity < 1u"))
    assert broken.read_text() != sound
    program = tmp_path / "broken"
    sources = [str(room / "c/tests/test_usfp.c"), str(broken)]
    built = run([compiler, "-std=c99", f"-I{room / 'c/include'}", *sources, "-o", str(program)])
    assert built.returncode == 0
    assert run([str(program)], input=b"").returncode != 0


@shared_native
@given(
    st.lists(st.integers(-32768, 32767), max_size=40), st.integers(0, 2**32 - 1),
    st.integers(-(2**31), 2**31 - 1),
)
def test_both_languages_encode_an_ascan_alike(
    native: NativeEncoder, values: list[int], seq: int, t0_ns: int
) -> None:
    samples = np.array(values, np.int16)
    fields = {"seq": seq, "fs_hz": 4, "t_us": seq * 999, "t0_ns": t0_ns, "gain_cdb": -1, "channel": 3}
    assert native.encode_ascan(samples, **fields) == usfp.encode_ascan(samples, **fields)
    assert native.encode_ascan(samples[::-2], **fields) == usfp.encode_ascan(samples[::-2], **fields)


@pytest.mark.parametrize(("field", "value"), [("seq", 2**32), ("t0_ns", 2**31), ("gain_cdb", -40_000)])
def test_c_refuses_what_python_refuses(native: NativeEncoder, field: str, value: int) -> None:
    fields = {"seq": 0, "fs_hz": 1, field: value}
    with pytest.raises(UsfpError, match="out of range"):
        native.encode_ascan(np.zeros(1, np.int16), **fields)
    with pytest.raises(UsfpError, match=r"\(n,\) int16"):
        native.encode_ascan(np.zeros(1, np.float32), seq=0, fs_hz=1)


@shared_native
@given(st.lists(st.binary(min_size=1, max_size=90), min_size=5, max_size=5))
def test_the_c_parser_finds_commands_between_garbage(native: NativeEncoder, noise: list[bytes]) -> None:
    parser = native.command_parser()
    found = [each for n, command in zip(noise, LINE, strict=False) for each in parser.feed(n + command)]
    assert found == EXPECTED
    assert parser.skipped_bytes == sum(len(each) for each in noise[: len(LINE)])


@shared_native
@given(st.integers(0, sum(map(len, LINE)) - 1), st.integers(0, 7))
def test_a_flipped_bit_costs_one_command(native: NativeEncoder, position: int, bit: int) -> None:
    damaged = bytearray(b"".join(LINE))
    damaged[position] ^= 1 << bit
    found = native.command_parser().feed(bytes(damaged))
    assert found == [each for each in EXPECTED if each[0] != position // len(LINE[0])]


@shared_native
@given(st.integers(0, sum(map(len, LINE)) - 10), st.integers(1, 9))
def test_lost_bytes_cost_the_commands_they_came_from(
    native: NativeEncoder, position: int, length: int
) -> None:
    line, size = b"".join(LINE), len(LINE[0])
    found = native.command_parser().feed(line[:position] + line[position + length :])
    hit = range(position // size, (position + length - 1) // size + 1)
    assert found == [each for each in EXPECTED if each[0] not in hit]


def test_the_c_parser_takes_longer_commands_and_passes_over_other_frames(native: NativeEncoder) -> None:
    later = usfp.encode(usfp.Frame(usfp.FrameType.COMMAND, seq=9, payload=COMMANDS[0].pack() + bytes(20)))
    too_long = usfp.encode(usfp.Frame(usfp.FrameType.COMMAND, payload=bytes(33)))
    too_short = usfp.encode(usfp.Frame(usfp.FrameType.COMMAND, payload=bytes(11)))
    other = usfp.encode_ack(usfp.Ack(1))
    found = native.command_parser().feed(too_long + too_short + other + later)
    assert found == [(9, COMMANDS[0])]


def test_the_c_parser_refuses_a_damaged_header_at_its_last_byte(native: NativeEncoder) -> None:
    parser = native.command_parser()
    assert parser.feed(LINE[0]) == EXPECTED[:1]
    damaged = bytearray(LINE[0][: usfp.HEADER_SIZE])
    damaged[12] ^= 16
    parser.feed(bytes(damaged[:-1]))
    assert parser.skipped_bytes == 0
    parser.feed(bytes(damaged[-1:]))
    assert parser.skipped_bytes == usfp.HEADER_SIZE


def test_without_a_compiler_there_is_a_reason_and_no_encoder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(NativeUnavailableError, match="'no-such-compiler' is not installed"):
        build_native_encoder()
    assert native_module.load_native_encoder() is None


def test_a_compiler_that_fails_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "false")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(NativeUnavailableError, match="failed"):
        build_native_encoder()
    assert list((tmp_path / "usedge").iterdir()) == []


def test_the_library_is_compiled_once(native: NativeEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    assert isinstance(build_native_encoder(), NativeEncoder)
