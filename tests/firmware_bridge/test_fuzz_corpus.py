"""The fuzz corpus through C under sanitizers, and Python held to what C made of every entry.

``make -C firmware_bridge/c fuzz`` looks for more; here every entry that it ever found worth keeping is run.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from usedge_firmware import payload, usfp
from usedge_firmware.usfp import Decoder, DecoderStats, Frame, FrameType, PayloadFormat, UsfpError

STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic"]
SANITIZE = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
REFUSED = -6
"""USFP_ERR_PAYLOAD."""
Description = list[list[str]]


@pytest.fixture(scope="module")
def replay(
    compiler: str, room: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., list[Description]]:
    """Run a target over files; return the lines of words that it printed for each of them."""
    folder, c = tmp_path_factory.mktemp("replay"), room / "c"

    def run(target: str, files: list[Path], change: tuple[str, str] | None = None) -> list[Description]:
        program = folder / f"{target}{'_broken' * (change is not None)}"
        if not program.exists():
            build(target, program, change)
        done = subprocess.run(
            [str(program), *map(str, files)], capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return [
            [line.split() for line in each.splitlines()[1:]] for each in done.stdout.split("file ")[1:]
        ]

    def build(target: str, program: Path, change: tuple[str, str] | None) -> None:
        sources = []
        for each in (c / "src").iterdir():
            text = each.read_text()
            (folder / each.name).write_text(text.replace(*change) if change else text)
            sources += [str(folder / each.name)] if each.suffix == ".c" else []
        files = [str(c / "fuzz" / name) for name in ("replay.c", f"fuzz_{target}.c")]
        command = [compiler, "-std=c99", *SANITIZE, f"-I{c / 'include'}", f"-I{c / 'fuzz'}", *files, *sources]
        done = subprocess.run(
            [*command, "-o", str(program)], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr

    return run


def corpus(room: Path, target: str) -> list[Path]:
    return sorted((room / "c/fuzz/corpus" / target).iterdir())


def raw(word: str) -> bytes:
    return b"" if word == "-" else bytes.fromhex(word)


def frame_of(words: list[str]) -> Frame:
    kind, payload_format, *fields = map(int, words[:-1])
    return Frame(FrameType(kind), PayloadFormat(payload_format), *fields, raw(words[-1]))


def test_python_decodes_every_stream_as_c_does(replay: Callable[..., list[Description]], room: Path) -> None:
    entries = corpus(room, "decoder")
    met = DecoderStats()
    for entry, description in zip(entries, replay("decoder", entries), strict=True):
        if not description:
            continue
        (_, limit, line), *frames, (_, *counts) = description
        decoder = Decoder(max_payload=int(limit))
        assert decoder.feed(raw(line)) + decoder.finish() == [frame_of(each[1:]) for each in frames], entry
        assert decoder.stats == DecoderStats(*map(int, counts)), entry
        for name in DecoderStats.__dataclass_fields__:
            setattr(met, name, getattr(met, name) + getattr(decoder.stats, name))
    # A corpus that met nothing would prove nothing.
    assert min(getattr(met, name) for name in DecoderStats.__dataclass_fields__) >= 10


def test_python_judges_every_payload_as_c_does(replay: Callable[..., list[Description]], room: Path) -> None:
    entries = corpus(room, "payload")
    verdicts = set()
    for entry, description in zip(entries, replay("payload", entries), strict=True):
        for what, payload_format, n_samples, code, given, made in description:
            judge = decoded if what == "decode" else encoded
            expected = "refused" if int(code) < 0 else raw(made)
            assert judge(int(payload_format), int(n_samples), raw(given)) == expected, entry
            verdicts.add((what, payload_format, int(code) < 0))
    assert len(verdicts) == 8, "the corpus must hold both verdicts on both formats, in both directions"


def decoded(payload_format: int, n_samples: int, coded: bytes) -> bytes | str:
    try:
        return payload.decode_samples(coded, n_samples, payload_format).astype("<i2").tobytes()
    except UsfpError:
        return "refused"


def encoded(payload_format: int, n_samples: int, samples: bytes) -> bytes | str:
    try:
        return payload.encode_samples(np.frombuffer(samples, "<i2").astype(np.int16), payload_format)
    except UsfpError:
        return "refused"


@pytest.mark.parametrize("target", ["decoder", "payload"])
def test_a_big_endian_machine_of_32_bits_answers_alike(
    replay: Callable[..., list[Description]], room: Path, tmp_path: Path, target: str
) -> None:
    cross, emulator = shutil.which("powerpc-linux-gnu-gcc"), shutil.which("qemu-ppc")
    if cross is None or emulator is None:
        pytest.skip("no powerpc-linux-gnu-gcc or no qemu-ppc on this machine: run on little-endian CPUs only")
    c, program = room / "c", tmp_path / target
    sources = [c / "fuzz/replay.c", c / f"fuzz/fuzz_{target}.c", *sorted((c / "src").glob("*.c"))]
    command = [cross, "-static", *STRICT, "-O2", f"-I{c / 'include'}", *map(str, sources), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert built.returncode == 0, built.stderr
    entries = corpus(room, target)
    arguments = [emulator, str(program), *map(str, entries)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    theirs = [[line.split() for line in each.splitlines()[1:]] for each in done.stdout.split("file ")[1:]]
    assert theirs == replay(target, entries)


@pytest.mark.parametrize(
    ("target", "change"),
    [
        ("decoder", ("decoder->stats.skipped_bytes += (uint32_t)size;", "")),
        ("payload", ("payload[payload_len - 1] > 15u)) {", "0)) {")),
    ],
)
def test_the_corpus_finds_a_fault(
    replay: Callable[..., list[Description]], room: Path, target: str, change: tuple[str, str]
) -> None:
    with pytest.raises(AssertionError, match="does not hold"):
        replay(target, corpus(room, target), change)


def test_the_corpus_stays_small(room: Path) -> None:
    sizes = [each.stat().st_size for target in ("decoder", "payload") for each in corpus(room, target)]
    assert sum(sizes) < 300_000
    assert len(sizes) < 1000


def test_divisions_do_not_matter_to_the_entries_streams(room: Path) -> None:
    for entry in corpus(room, "decoder")[::20]:
        line = entry.read_bytes()[4:]
        whole, pieces = usfp.Decoder(), usfp.Decoder()
        assert whole.feed(line) == [frame for byte in line for frame in pieces.feed(bytes([byte]))]
        assert whole.stats == pieces.stats
