"""The C library: warnings are errors, sanitizers are silent, and its decoder survives a bad line."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import zlib
from binascii import crc_hqx
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usedge_firmware import clibrary, golden, payload, usfp
from usedge_firmware import native as native_module
from usedge_firmware.native import NativeEncoder, NativeUnavailableError, build_native_encoder
from usedge_firmware.usfp import Command, UsfpError


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    return subprocess.run(command, capture_output=True, check=False, timeout=120, **options)


STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic"]
SANITIZE = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
COMMANDS = [Command(1, 250_000, 500, 2), Command(2), Command(3), Command(200, 1, 2)]
LINE = [usfp.encode_command(each, seq=seq) for seq, each in enumerate(COMMANDS)]
EXPECTED = list(enumerate(COMMANDS))
TOO_LONG = usfp.encode(usfp.Frame(usfp.FrameType.COMMAND, payload=bytes(10_000)))
# One change that a careless edit could make, each in the code that it breaks.
BREAKS = {
    "capacity": ("usfp.c", "capacity < USFP_ASCAN_FRAME_SIZE(n_samples)", "capacity < 1u"),
    "crc": ("usfp.c", "get32(bytes + covered) != crc32(0, bytes, covered)", "0"),
    "header crc": ("usfp.c", "get16(header + 38) == crc16(header, 38) &&", ""),
    "compaction": ("usfp.c", "decoder->buffer[decoder->at + i];", "decoder->buffer[i];"),
    "room": ("usfp.c", "decoder->capacity - USFP_OVERHEAD\n", "decoder->capacity\n"),
    "search": ("usfp.c", "skip(decoder, sizeof SYNC);\n        return",
               "skip(decoder, size);\n        return"),
    "in place": ("usfp_payload.c", "first = samples[i];", "first = samples[i]; to[2 * has_second] = 0;"),
    "unary end": ("usfp_payload.c", "if (reader->at >= reader->end) {", "if (0) {"),
    "largest code": ("usfp_payload.c", "if (zeros > LARGEST_CODE >> k) {", "if (0) {"),
    "padding": ("usfp_payload.c", "left < 8u && get_bits(reader, left) == 0", "left < 8u"),
    "rice length": ("usfp_payload.c", "if (length >= 2u * (size_t)n_samples) {", "if (0) {"),
}
shared_native = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def sources(room: Path) -> list[str]:
    return [str(room / "c/src" / each) for each in ("usfp.c", "usfp_payload.c")]


def program_files(room: Path) -> list[str]:
    return [str(each) for each in sorted((room / "c/tests").glob("*.c"))]


@pytest.fixture(scope="module", params=["gcc", "clang"])
def each_compiler(request: pytest.FixtureRequest) -> str:
    found = shutil.which(request.param)
    if found is None:
        pytest.skip(f"no {request.param} on this machine: the C library is not tested with it")
    return found


@pytest.fixture(scope="module")
def checked_program(each_compiler: str, room: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C test program, built under AddressSanitizer and UndefinedBehaviorSanitizer."""
    program = tmp_path_factory.mktemp("c") / "test_usfp"
    files = [*program_files(room), *sources(room)]
    command = [each_compiler, *STRICT, *SANITIZE, f"-I{room / 'c/include'}", *files, "-o", str(program)]
    done = run(command, text=True)
    if re.search(r"cannot find .*(asan|ubsan)", done.stderr):
        pytest.skip(f"{each_compiler} has no sanitizer runtime installed")
    assert done.returncode == 0, done.stderr
    return program


@pytest.mark.parametrize("options", ["-Os", "-O2", "-O2 -DUSFP_CRC_TABLE=256"])
def test_it_compiles_freestanding_without_a_warning(
    each_compiler: str, room: Path, tmp_path: Path, options: str
) -> None:
    command = [each_compiler, *STRICT, *options.split(), "-ffreestanding", f"-I{room / 'c/include'}", "-c"]
    for source in sources(room):
        done = run([*command, source, "-o", str(tmp_path / "usfp.o")], text=True)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m4"])
def test_firmware_links_nothing_but_what_every_compiler_asks_for(
    room: Path, tmp_path: Path, core: str
) -> None:
    """Freestanding gcc may call the four memory functions by itself; anything else would need a libc."""
    compiler = shutil.which("arm-none-eabi-gcc")
    if compiler is None:
        pytest.skip("no arm-none-eabi-gcc on this machine: the library is not built for a Cortex-M")
    undefined = set()
    for number, source in enumerate(sources(room)):
        made = str(tmp_path / f"{number}.o")
        command = [compiler, f"-mcpu={core}", "-mthumb", *STRICT, "-Os", "-ffreestanding"]
        done = run([*command, f"-I{room / 'c/include'}", "-c", source, "-o", made], text=True)
        assert done.returncode == 0, done.stderr
        undefined |= set(re.findall(r"U (\w+)", run(["arm-none-eabi-nm", "-u", made], text=True).stdout))
    foreign = {each for each in undefined if not each.startswith(("usfp_", "__aeabi_"))}
    assert foreign <= {"memcpy", "memmove", "memset", "memcmp"}


def test_cpp_takes_the_headers(compiler: str, room: Path, tmp_path: Path) -> None:
    cpp = shutil.which("g++")
    if cpp is None:
        pytest.skip("no g++ on this machine: the headers are not included by C++")
    program = tmp_path / "program"
    (tmp_path / "main.cpp").write_text(
        '#include "usfp_device.h"\nstatic uint8_t out[USFP_COMMAND_FRAME_SIZE];\nint main() {\n'
        "    usfp_command stop{};\n    stop.opcode = USFP_OPCODE_STOP;\n"
        "    return usfp_encode_command(out, sizeof out, &stop) == int32_t{sizeof out} ? 0 : 1;\n}\n"
    )
    objects = []
    for source in sources(room):
        objects.append(str(tmp_path / f"{Path(source).stem}.o"))
        command = [compiler, *STRICT, f"-I{room / 'c/include'}", "-c", source, "-o", objects[-1]]
        assert run(command).returncode == 0
    strict = ["-std=c++11", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic"]
    includes = [f"-I{room / 'c/include'}", f"-I{room / 'ports/common'}"]
    main = str(tmp_path / "main.cpp")
    done = run([cpp, *strict, *includes, main, *objects, "-o", str(program)], text=True)
    assert done.returncode == 0, done.stderr
    assert run([str(program)]).returncode == 0


def test_it_compiles_where_an_int_has_16_bits(room: Path, tmp_path: Path) -> None:
    compiler = shutil.which("avr-gcc")
    if compiler is None:
        pytest.skip("no avr-gcc on this machine: the library is compiled for ints of 32 bits only")
    # A length above the maximum cannot be said in 16 bits, and the check for it is rightly idle there.
    strict = [*STRICT, "-Wno-type-limits", "-Os", "-ffreestanding", f"-I{room / 'c/include'}"]
    for source in sources(room):
        command = [compiler, "-mmcu=atmega2560", *strict, "-c", source, "-o", str(tmp_path / "usfp.o")]
        done = run(command, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_big_endian_machine_passes_the_same_program(room: Path, tmp_path: Path) -> None:
    compiler, emulator = shutil.which("powerpc-linux-gnu-gcc"), shutil.which("qemu-ppc")
    if compiler is None or emulator is None:
        pytest.skip("no powerpc-linux-gnu-gcc or no qemu-ppc on this machine: run on little-endian CPUs only")
    program, files = str(tmp_path / "test_usfp"), [*program_files(room), *sources(room)]
    command = [compiler, "-static", *STRICT, "-O2", f"-I{room / 'c/include'}", *files, "-o", program]
    done = run(command, text=True)
    assert done.returncode == 0, done.stderr
    done = run([emulator, program], input=b"".join(LINE))
    assert (done.returncode, done.stderr) == (0, b"")
    parsed = [tuple(map(int, line.split())) for line in done.stdout.decode().splitlines()]
    assert [each[2] for each in parsed] == [seq for seq, _ in EXPECTED]


def test_it_includes_nothing_that_firmware_lacks(room: Path) -> None:
    text = "".join(each.read_text() for each in [room / "c/include/usfp.h", *(room / "c/src").iterdir()])
    own = {f'"{each}"' for each in ("usfp.h", "usfp_bytes.h", "usfp_crc.h")}
    assert set(re.findall(r"#include\s+(\S+)", text)) == {"<stddef.h>", "<stdint.h>", "USFP_CONFIG", *own}


def test_sanitizers_find_nothing(checked_program: Path) -> None:
    noise = (b"\x55\x53\xa5" + LINE[0][:45], bytes(range(256)) * 4 + TOO_LONG)
    noisy_line = b"".join(each + b"".join(LINE) for each in noise)
    done = run([str(checked_program)], input=noisy_line)
    assert done.returncode == 0, done.stderr.decode()
    parsed = [tuple(map(int, line.split())) for line in done.stdout.decode().splitlines()]
    assert parsed == 2 * [
        (each.opcode, each.payload_format, seq, each.prf_mhz, each.count) for seq, each in EXPECTED
    ]


@pytest.mark.parametrize("change", BREAKS)
def test_the_program_can_fail(compiler: str, room: Path, tmp_path: Path, change: str) -> None:
    """The same program against a library with one fault must say so, or die of it."""
    name, sound, broken = BREAKS[change]
    shutil.copytree(room / "c/src", tmp_path / "src")
    text = (tmp_path / "src" / name).read_text()
    assert text.count(sound) == 1
    (tmp_path / "src" / name).write_text(text.replace(sound, broken))
    program = tmp_path / "broken"
    files = [*program_files(room), *map(str, (tmp_path / "src").glob("*.c"))]
    command = [compiler, "-std=c99", *SANITIZE, f"-I{room / 'c/include'}", *files, "-o", str(program)]
    built = run(command, text=True)
    assert built.returncode == 0, built.stderr
    assert run([str(program)], input=b"").returncode != 0


@pytest.mark.parametrize("setting", ["-DUSFP_CRC_TABLE=16", "-DUSFP_CRC_TABLE=256"])
def test_every_crc_table_gives_the_golden_frames(
    compiler: str, room: Path, tmp_path: Path, setting: str
) -> None:
    library = tmp_path / "usfp.so"
    command = [compiler, "-std=c99", "-shared", "-fPIC", setting, f"-I{room / 'c/include'}", *sources(room)]
    assert run([*command, "-o", str(library)]).returncode == 0
    assert_golden(NativeEncoder(clibrary.with_signatures(ctypes.CDLL(str(library)))))


def test_a_crc_peripheral_takes_the_place_of_the_tables(compiler: str, room: Path, tmp_path: Path) -> None:
    """The hooks, by a settings file of one's own; the peripheral is Python's zlib."""
    (tmp_path / "my_config.h").write_text("#define USFP_CRC32 my_crc32\n#define USFP_CRC16 my_crc16\n")
    (tmp_path / "peripheral.c").write_text(
        "#include <stdint.h>\n#include <stddef.h>\n"
        "uint32_t (*crc32_by)(uint32_t, const uint8_t *, size_t);\n"
        "uint16_t (*crc16_by)(const uint8_t *, size_t);\n"
        "uint32_t my_crc32(uint32_t c, const uint8_t *b, size_t n) { return crc32_by(c, b, n); }\n"
        "uint16_t my_crc16(const uint8_t *b, size_t n) { return crc16_by(b, n); }\n"
    )
    made = tmp_path / "usfp.so"
    command = [compiler, *STRICT, "-shared", "-fPIC", f"-I{room / 'c/include'}", f"-I{tmp_path}"]
    files = [*sources(room), str(tmp_path / "peripheral.c")]
    done = run([*command, '-DUSFP_CONFIG="my_config.h"', *files, "-o", str(made)], text=True)
    assert done.returncode == 0, done.stderr
    library = ctypes.CDLL(str(made))
    size, pointer = ctypes.c_size_t, ctypes.c_void_p
    calls = []

    @ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_uint32, pointer, size)
    def crc32_by(crc: int, at: int, length: int) -> int:
        calls.append(32)
        return zlib.crc32(ctypes.string_at(at, length), crc)

    @ctypes.CFUNCTYPE(ctypes.c_uint16, pointer, size)
    def crc16_by(at: int, length: int) -> int:
        calls.append(16)
        return crc_hqx(ctypes.string_at(at, length), 0xFFFF)

    ctypes.c_void_p.in_dll(library, "crc32_by").value = ctypes.cast(crc32_by, pointer).value
    ctypes.c_void_p.in_dll(library, "crc16_by").value = ctypes.cast(crc16_by, pointer).value
    assert_golden(NativeEncoder(clibrary.with_signatures(library)))
    assert set(calls) == {16, 32}
    calls.clear()
    decoder = NativeEncoder(library).decoder()
    assert [len(decoder.feed(bytes([byte]))) for byte in LINE[0]] == [0] * (len(LINE[0]) - 1) + [1]
    assert sorted(calls) == [16, 32], "a header is checked once, however small the reads"


def assert_golden(encoder: NativeEncoder) -> None:
    for name, (kind, fields) in golden.CASES.items():
        raw = golden.encode_case(usfp, kind, fields)
        assert golden.encode_case(encoder, kind, fields) == raw, name
        assert encoder.decoder().feed(raw) == usfp.Decoder().feed(raw), name


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
    assert native.gather_ascan(samples, **fields) == usfp.encode_ascan(samples, **fields)


@pytest.mark.parametrize(("field", "value"), [("seq", 2**32), ("t0_ns", 2**31), ("gain_cdb", -40_000)])
def test_c_refuses_what_python_refuses(native: NativeEncoder, field: str, value: int) -> None:
    fields = {"seq": 0, "fs_hz": 1, field: value}
    with pytest.raises(UsfpError, match="out of range"):
        native.encode_ascan(np.zeros(1, np.int16), **fields)
    with pytest.raises(UsfpError, match=r"\(n,\) int16"):
        native.encode_ascan(np.zeros(1, np.float32), seq=0, fs_hz=1)


@pytest.mark.parametrize(
    ("call", "arguments", "fields"),
    [
        ("encode_log", ("x",), {"seq": 2**32}),
        ("encode_log", ("x",), {"t_us": -1}),
        ("encode_ack", (usfp.Ack(1),), {"t_us": 2**64}),
        ("encode_info", (usfp.Info(1, 12, (1, 2, 3), 4, 5, 6, 7, "n"),), {"seq": -1}),
        ("encode_ascan", (np.zeros(1, np.int16),), {"seq": 0, "fs_hz": 1, "payload_format": 256}),
        ("unpack12", (b"\1\0", 2**16 + 1), {}),
        ("rice_decode", (b"", 2**16), {}),
        ("rice_decode", (b"", -1), {}),
    ],
)
def test_c_wraps_no_number_that_python_refuses(
    native: NativeEncoder, call: str, arguments: tuple[Any, ...], fields: dict[str, int]
) -> None:
    """A count that wrapped would return samples that nobody wrote."""
    with pytest.raises(UsfpError):
        getattr(payload if hasattr(payload, call) else usfp, call)(*arguments, **fields)
    with pytest.raises(UsfpError, match="a number is out of range"):
        getattr(native, call)(*arguments, **fields)


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
    assert parser.feed(LINE[1]) == EXPECTED[1:2]


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


def test_an_installed_wheel_has_all_that_it_compiles(
    compiler: str, room: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What pyproject.toml puts into the wheel is enough to compile, private headers and all."""
    text = (room.parent / "pyproject.toml").read_text(encoding="utf-8")
    pairs = re.findall(r'^"(firmware_bridge/\S+)" = "(usedge_firmware/\S+)"$', text, re.M)
    assert len(pairs) == 2
    for here, there in pairs:
        shutil.copytree(room.parent / here, tmp_path / there)
    monkeypatch.setattr(clibrary, "__file__", str(tmp_path / "usedge_firmware/clibrary.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build_native_encoder().encode_command(COMMANDS[0]) == LINE[0]


def test_another_machines_library_does_not_stand_in_the_way(
    compiler: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cross = tmp_path / "cross-cc"
    cross.write_text('#!/bin/sh\nfor last; do :; done\necho "for another machine" > "$last"\n')
    cross.chmod(0o755)
    monkeypatch.setenv("CC", str(cross))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(NativeUnavailableError, match="CC to a compiler for this machine"):
        build_native_encoder()
    monkeypatch.setenv("CC", compiler)
    assert isinstance(build_native_encoder(), NativeEncoder)


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(NativeUnavailableError, match="XDG_CACHE_HOME"):
        build_native_encoder()
    assert native_module.load_native_encoder() is None


@pytest.mark.parametrize(("seconds", "each"), [(60, 30), (3, 1), (1, 1), (0, 1)])
def test_no_fuzzer_runs_for_ever(room: Path, tmp_path: Path, seconds: int, each: int) -> None:
    """libFuzzer takes no time at all for all the time there is."""
    if shutil.which("make") is None:
        pytest.skip("no make on this machine: the C library is not fuzzed")
    shutil.copy(room / "c/Makefile", tmp_path)
    (tmp_path / "build").mkdir()
    stand_ins = [f"build/fuzz_{target}" for target in ("decoder", "payload")]
    for name in stand_ins:
        (tmp_path / name).write_text('#!/bin/sh\necho "$*" >> build/told\n')
        (tmp_path / name).chmod(0o755)
    assumed = [f"--assume-old={name}" for name in stand_ins]
    done = run(["make", "-C", str(tmp_path), "fuzz", f"SECONDS={seconds}", *assumed], text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = (tmp_path / "build/told").read_text()
    assert re.findall(r"-max_total_time=(\S+)", told) == [str(each)] * 2


def test_the_library_is_compiled_once(native: NativeEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    assert isinstance(build_native_encoder(), NativeEncoder)
