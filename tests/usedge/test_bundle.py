"""The bundle: what is written is read back, and every kind of damage is refused in one line."""

from __future__ import annotations

import hashlib
import io
import json
import operator
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usedge.bundle import (
    FORMAT_VERSION,
    MAX_ENTRY_BYTES,
    Bundle,
    BundleParts,
    Thresholds,
    VariantParts,
    check_golden,
    read_bundle,
    write_bundle,
)
from usedge.errors import InputError
from usedge.golden import Golden, called, pack, unpack
from usedge.spec import SignalSpec

SPEC = SignalSpec()
NO_ECHO = 0.3


def answers(rng: np.random.Generator, g: int = 8) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Network answers (g, 193) that point clearly at one patch each, the last at "no echo"."""
    out = rng.normal(0.0, 0.1, (g, 3 * SPEC.n_patches + 1)).astype(np.float32)
    chosen = rng.choice(SPEC.n_patches, g, replace=False)
    chosen[-1] = SPEC.n_patches
    out[np.arange(g), chosen] = 12.0
    out[:, SPEC.n_patches + 1 :] = 0.5
    return out


def golden() -> Golden:
    rng = np.random.default_rng(1)
    out = answers(rng)
    label, place = called(out, NO_ECHO)
    x = rng.normal(0.0, 0.3, (len(out), SPEC.n_samples)).astype(np.float32)
    return Golden(x, out, label, place, 0.2)


def parts(**changes: Any) -> BundleParts:
    rng = np.random.default_rng(2)
    variants = {
        "litert-int8": VariantParts("litert", "int8", rng.bytes(30_000), {"agreement": 0.99}, True),
        "litert-fp32": VariantParts("litert", "fp32", rng.bytes(50_000), {}, False),
        "onnx-fp32": VariantParts("onnx", "fp32", rng.bytes(40_000), {"p50_us": 3}, True),
    }
    limits = Thresholds(NO_ECHO, 0.5, 0.9, 0.1, no_echo_again=0.2)
    whole = BundleParts("field", SPEC, limits, variants, golden(), {"seed": 7})
    return replace(whole, **changes)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "b.usedge", parts())


def refusal(path: Path) -> str:
    """The one line with which ``path`` is refused."""
    with pytest.raises(InputError) as caught:
        read_bundle(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def reseal(path: Path, archive: bytes, version: str = str(FORMAT_VERSION)) -> None:
    """Write ``archive`` (a zip without a comment) with a seal that fits."""
    comment = f"usedge-bundle/{version} sha256=".encode()
    body = archive[:-2] + (len(comment) + 64).to_bytes(2, "little")
    path.write_bytes(body + comment + hashlib.sha256(body).hexdigest().encode())


def repacked(path: Path, change: Callable[[dict[str, bytes]], object]) -> bytes:
    """The entries of ``path`` after ``change``, as a zip without a comment."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


def with_manifest(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest of ``path`` and seal it again."""
    def edit(entries: dict[str, bytes]) -> None:
        manifest = json.loads(entries["manifest.json"])
        change(manifest)
        entries["manifest.json"] = json.dumps(manifest).encode()

    reseal(path, repacked(path, edit))


def test_what_is_written_is_read_back(bundle: Bundle) -> None:
    given, read = parts(), read_bundle(bundle.path)
    assert read == bundle
    assert (read.name, read.spec, read.provenance) == ("field", SPEC, {"seed": 7})
    assert read.thresholds == given.thresholds
    for name, part in given.variants.items():
        variant = read.variants[name]
        assert read.variant_bytes(name) == part.content
        assert (variant.runtime, variant.precision, variant.parity, variant.default, variant.bytes) == (
            part.runtime, part.precision, part.parity, part.default, len(part.content))
    for field in ("x", "out", "label", "place", "tolerance_patches"):
        np.testing.assert_array_equal(getattr(read.golden(), field), getattr(given.golden, field))


def test_weights_come_back_where_there_are_some(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"b\.usedge holds no weights to go on from\. Give the checkpoint"):
        bundle.weights()
    weights = np.random.default_rng(3).bytes(5_000)
    kept = write_bundle(tmp_path / "kept.usedge", parts(weights=weights))
    assert kept.weights() == weights
    assert read_bundle(kept.path) == kept

    def damage(entries: dict[str, bytes]) -> None:
        entries["weights.safetensors"] = weights[:-1] + bytes([weights[-1] ^ 1])

    reseal(kept.path, repacked(kept.path, damage))
    with pytest.raises(InputError, match=r"weights\.safetensors differs from its SHA-256 in the manifest"):
        read_bundle(kept.path).weights()


def test_defaults_are_per_runtime(bundle: Bundle) -> None:
    assert bundle.default_for("litert").name == "litert-int8"
    assert bundle.default_for("onnx").name == "onnx-fp32"
    with pytest.raises(InputError, match=r"no variant for the runtime 'openvino'.*litert-int8"):
        bundle.default_for("openvino")
    with pytest.raises(InputError, match=r"no variant 'litert-int4'.*litert-int8"):
        bundle.variant_bytes("litert-int4")


def test_same_parts_same_bytes(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.localtime(time.time() + 1e7)
    monkeypatch.setattr(time, "localtime", lambda *_: later)
    backwards = dict(reversed(list(parts().variants.items())))
    again = write_bundle(tmp_path / "again.usedge", parts(variants=backwards))
    assert again.path.read_bytes() == bundle.path.read_bytes()
    assert again.sha256 == bundle.sha256


def test_failed_write_leaves_the_old_bundle_and_nothing_else(bundle: Bundle, tmp_path: Path) -> None:
    before = bundle.path.read_bytes()
    nobodys_default = {name: replace(part, default=False) for name, part in parts().variants.items()}
    with pytest.raises(InputError, match="one default"):
        write_bundle(bundle.path, parts(variants=nobodys_default))
    with pytest.raises(InputError, match="hold NaN"):
        write_bundle(bundle.path, parts(provenance={"loss": float("nan")}))
    with pytest.raises(InputError, match="golden vectors cannot be read"):
        write_bundle(bundle.path, parts(golden=replace(golden(), x=np.zeros((8, 100), np.float32))))
    assert bundle.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["b.usedge"]
    with pytest.raises(InputError, match="cannot be written"):
        write_bundle(tmp_path / "no-such-folder" / "b.usedge", parts())


def test_any_changed_byte_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    whole = bundle.path.read_bytes()
    rng = np.random.default_rng(3)
    tail = range(len(whole) - 120, len(whole))
    for position in [0, *rng.integers(0, len(whole), 200), *tail]:
        changed = bytearray(whole)
        changed[position] ^= int(rng.integers(1, 256))
        path = tmp_path / "changed.usedge"
        path.write_bytes(changed)
        refusal(path)


def test_truncated_and_extended_files_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    whole = bundle.path.read_bytes()
    path = tmp_path / "cut.usedge"
    for size in [0, 1, 3, 4, len(whole) - 1, *np.random.default_rng(4).integers(5, len(whole), 60)]:
        path.write_bytes(whole[:size])
        assert "truncated" in refusal(path) or size < 5
    path.write_bytes(whole + b"\0")
    refusal(path)
    path.write_bytes(b"\0" + whole)
    refusal(path)


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    assert "there is no bundle" in refusal(tmp_path / "missing.usedge")
    assert "there is no bundle" in refusal(tmp_path)
    text = tmp_path / "text.usedge"
    text.write_text("hello\n" * 100)
    assert "is no usedge bundle" in refusal(text)


def test_newer_versions_ask_for_an_update(bundle: Bundle) -> None:
    reseal(bundle.path, repacked(bundle.path, dict.copy), version="3")
    assert "format 3; this usedge reads 2. Update usedge." in refusal(bundle.path)


def test_newer_manifest_asks_for_an_update(bundle: Bundle) -> None:
    with_manifest(bundle.path, lambda manifest: manifest.update(format_version=3))
    assert "format 3; this usedge reads 2. Update usedge." in refusal(bundle.path)


UNSAFE = ["/etc/passwd", "../up.tflite", "variants/../../up", "C:evil", "variants\\x", "a//b"]


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_paths_are_refused(bundle: Bundle, name: str) -> None:
    reseal(bundle.path, repacked(bundle.path, lambda entries: entries.update({name: b"x"})))
    assert "unsafe path" in refusal(bundle.path)


def test_entries_and_manifest_must_agree(bundle: Bundle) -> None:
    whole = bundle.path.read_bytes()
    reseal(bundle.path, repacked(bundle.path, lambda entries: entries.update({"variants/extra.onnx": b"x"})))
    assert "variants/extra.onnx" in refusal(bundle.path)
    for missing in ("variants/litert-int8.tflite", "golden.npz", "manifest.json"):
        bundle.path.write_bytes(whole)
        reseal(bundle.path, repacked(bundle.path, operator.methodcaller("pop", missing)))
        assert missing in refusal(bundle.path)


def test_zip_bombs_are_refused(bundle: Bundle) -> None:
    bomb = {"variants/onnx-fp32.onnx": bytes(MAX_ENTRY_BYTES + 1)}
    reseal(bundle.path, repacked(bundle.path, lambda entries: entries.update(bomb)))
    assert f"the limit is {MAX_ENTRY_BYTES}" in refusal(bundle.path)


def test_understated_size_is_refused(bundle: Bundle) -> None:
    """An entry that unpacks to more than its header says is never read beyond it."""
    larger = {"manifest.json": bytes(10 << 20)}
    archive = repacked(bundle.path, lambda entries: entries.update(larger))
    true, stated = (10 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")
    assert archive.count(true) == 2
    reseal(bundle.path, archive.replace(true, stated))
    assert "damaged" in refusal(bundle.path)


def test_many_entries_are_refused(bundle: Bundle) -> None:
    many = {f"v{i}": b"" for i in range(70)}
    reseal(bundle.path, repacked(bundle.path, lambda entries: entries.update(many)))
    assert "at most 64" in refusal(bundle.path)


def test_wrong_variant_and_golden_are_refused_when_asked_for(bundle: Bundle) -> None:
    def swap(entries: dict[str, bytes]) -> None:
        entries["variants/litert-int8.tflite"] = bytes(30_000)
        entries["golden.npz"] = entries["golden.npz"][:-1] + b"!"

    reseal(bundle.path, repacked(bundle.path, swap))
    read = read_bundle(bundle.path)
    assert read.variant_bytes("onnx-fp32") == parts().variants["onnx-fp32"].content
    with pytest.raises(InputError, match=r"litert-int8\.tflite differs from its SHA-256"):
        read.variant_bytes("litert-int8")
    with pytest.raises(InputError, match=r"golden\.npz differs from its SHA-256"):
        read.golden()


def test_golden_arrays_must_fit_the_spec() -> None:
    whole = golden()
    bad = [replace(whole, x=whole.x[:, :100]), replace(whole, label=whole.label[:3]),
           replace(whole, out=whole.out.astype(np.float64)), replace(whole, place=np.array(1.0, np.float32))]
    for wrong in bad:
        with pytest.raises(ValueError, match=r"is float|is int"):
            unpack(pack(wrong), SPEC, 0.2)


MANIFEST_FAULTS: list[Callable[[dict[str, Any]], Any]] = [
    lambda m: m.pop("spec"),
    lambda m: m.pop("golden"),
    lambda m: m.update(magic="other"),
    lambda m: m.update(format_version=True),
    lambda m: m.update(name=3),
    lambda m: m.update(variants={}),
    lambda m: m.update(variants=[1]),
    lambda m: m["spec"].update(n_samples="2048"),
    lambda m: m["spec"].update(colour=1),
    lambda m: m["thresholds"].update(no_echo=1.5),
    lambda m: m["thresholds"].update(no_echo=None),
    lambda m: m["thresholds"].update(low_confidence=float("nan")),
    lambda m: m["provenance"].update(loss=float("inf")),
    lambda m: m["golden"].update(tolerance_patches=0),
    lambda m: m["variants"]["onnx-fp32"].update(runtime="abacus"),
    lambda m: m["variants"]["onnx-fp32"].update(precision="int3"),
    lambda m: m["variants"]["onnx-fp32"].update(bytes=-1),
    lambda m: m["variants"]["onnx-fp32"].update(sha256="0"),
    lambda m: m["variants"]["onnx-fp32"].update(file="../x"),
    lambda m: m["variants"]["onnx-fp32"].update(file="golden.npz"),
    lambda m: m["variants"]["onnx-fp32"].update(default=False),
    lambda m: m["variants"]["litert-fp32"].update(default=True),
]


@pytest.mark.parametrize("change", MANIFEST_FAULTS)
def test_manifests_that_no_writer_writes_are_refused(
    bundle: Bundle, change: Callable[[dict[str, Any]], Any]
) -> None:
    with_manifest(bundle.path, change)
    refusal(bundle.path)


def test_resealed_damage_never_escapes_as_another_error(bundle: Bundle, tmp_path: Path) -> None:
    """A seal can be forged; what zipfile and json then meet still ends in an InputError or is valid."""
    plain = repacked(bundle.path, dict.copy)
    rng = np.random.default_rng(5)
    path, refused = tmp_path / "forged.usedge", 0
    for _ in range(300):
        changed = bytearray(plain)
        first = 0 if rng.random() < 0.5 else len(plain) - 700
        for position in rng.integers(first, len(plain) - 2, 3):
            changed[position] = int(rng.integers(256))
        reseal(path, bytes(changed))
        try:
            read_all(path)
        except InputError as error:
            refused += "\n" not in str(error)
    assert refused > 250


def read_all(path: Path) -> None:
    read = read_bundle(path)
    read.golden()
    for name in read.variants:
        read.variant_bytes(name)


def test_golden_check_accepts_right_answers(bundle: Bundle) -> None:
    known = golden()
    rows = iter(known.out)
    check_golden(bundle, lambda _: next(rows)[np.newaxis])
    nearly = iter(known.out + np.float32(0.1))
    check_golden(bundle, lambda _: next(nearly)[np.newaxis])


def test_golden_check_puts_the_stored_a_scans(bundle: Bundle) -> None:
    known, seen = golden(), []

    def infer(x: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
        seen.append(x)
        return known.out[len(seen) - 1 : len(seen)]

    check_golden(bundle, infer)
    np.testing.assert_array_equal(np.concatenate(seen), known.x)


WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "rolled": (lambda out: np.roll(out, 1, axis=1), "8 of 8"),
    "zeros": (np.zeros_like, "7 of 8|8 of 8"),
    "nan": (lambda out: np.full_like(out, np.nan), "8 of 8 .* class differs in 8"),
    "place off": (lambda out: out + np.where(np.arange(193) > 64, 0.3, 0.0).astype(np.float32),
                  r"7 of 8 .* class differs in 0, the place is off by up to 0\.3 patches \(0\.2 allowed\)"),
    "one class": (lambda out: out[:, :128], r"shape \(1, 128\), not \(1, 193\)"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_golden_check_refuses_wrong_answers(bundle: Bundle, fault: str) -> None:
    spoil, message = WRONG[fault]
    rows = iter(golden().out)
    with pytest.raises(InputError, match=message):
        check_golden(bundle, lambda _: spoil(next(rows)[np.newaxis]))


def test_reading_needs_numpy_and_stdlib_alone(bundle: Bundle) -> None:
    program = (
        "import sys; from usedge.bundle import read_bundle; b = read_bundle(sys.argv[1]); b.golden();"
        "b.variant_bytes('litert-int8');"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'scipy', 'tensorflow', 'typer', 'rich', 'ai_edge_litert',"
        "'cryptography'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program, str(bundle.path)], check=True, cwd=root)
