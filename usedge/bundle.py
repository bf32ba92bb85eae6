"""The bundle: the one ``.usedge`` file that a device needs, format version 2.

A zip archive with ``manifest.json``, ``variants/*``, ``golden.npz`` and, for going on from it, the trained
``weights.safetensors``. Its archive comment is the seal,
``usedge-bundle/2 sha256=<hex>`` over every byte before the comment, so any changed byte is refused; the
manifest holds a SHA-256 of each entry besides. Only what is asked for is unpacked: one variant on a device.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from usedge.archive import UnsafeArchiveError, open_archive
from usedge.errors import InputError
from usedge.files import whole_file
from usedge.golden import Golden, pack, unpack, wrong_answers
from usedge.signature import Sealed
from usedge.sparse import Ask, Glance, few
from usedge.spec import SignalSpec

MAGIC = "usedge-bundle"
FORMAT_VERSION = 2
MANIFEST, GOLDEN, WEIGHTS, VARIANTS = "manifest.json", "golden.npz", "weights.safetensors", "variants/"
RUNTIMES = {"litert": ".tflite", "onnx": ".onnx", "native": ".usnet"}
"""Runtime of a variant → the ending of its file."""
PRECISIONS = ("int8", "fp32")
BORROWED = {"tflite": ("litert", "fp32"), "cuda": ("onnx", "fp32"), "tensorrt": ("onnx", "fp32")}
"""Runtime without files of its own → whose it runs, and the precision that it is right and quick in."""

MAX_FILE_BYTES = 256 << 20
MAX_MANIFEST_BYTES = 1 << 20
MAX_ENTRY_BYTES = 64 << 20

_SEAL = re.compile(rb"usedge-bundle/(\d{1,4}) sha256=([0-9a-f]{64})\Z")
_LOCAL_HEADER = b"PK\x03\x04"
_CHUNK = 1 << 18
_EPOCH = (1980, 1, 1, 0, 0, 0)
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OverflowError, MemoryError,
           KeyError)
"""What zipfile, json and numpy raise for content that is not what it claims to be."""
LEAST_DOUBT = 1e-6
"""A network's confidence is not taken as nearer to 0 or 1."""
LATER = {"slope": float, "offset": float, "patches": int, "sure": float, "no_echo_again": float}
"""Keys of the thresholds that bundles of this version may lack."""
_DO_NOT_USE = "Do not use this file."
_SEAL_BYTES = len(f"{MAGIC}/{FORMAT_VERSION} sha256=") + 64
_EXPORT_AGAIN = "Copy the bundle again, or export it again with `usedge export`."


@dataclass(frozen=True, slots=True)
class Thresholds:
    """``no_echo``: an A-scan with a larger probability of "no echo" has none, unless a closer look says at
    most ``no_echo_again``. ``low_confidence``: a ToF with less confidence is not given. All in 0..1.
    ``slope`` (over 0) and ``offset`` calibrate confidence: its log odds are ``slope`` times those that the
    network says, plus ``offset`` (J. Platt, 1999: "Probabilistic outputs for support vector machines").

    ``patches`` and ``sure`` are the bundle's ``usedge.sparse.Glance``; ``patches`` 0: all, always.
    """

    no_echo: float
    low_confidence: float
    slope: float = 1.0
    offset: float = 0.0
    patches: int = 0
    sure: float = 1.0
    no_echo_again: float = 0.0

    @property
    def glance(self) -> Glance | None:
        """How a gate is looked at, None for the whole of it at once."""
        return Glance(self.patches, self.sure) if self.patches else None

    def calibrated(self, confidence: float) -> float:
        """The share of hits that the network's ``confidence`` has come with."""
        sure = min(max(confidence, LEAST_DOUBT), 1.0 - LEAST_DOUBT)
        log_odds = self.slope * math.log(sure / (1.0 - sure)) + self.offset
        return 1.0 / (1.0 + math.exp(-min(max(log_odds, -30.0), 30.0)))

    def __post_init__(self) -> None:
        if not (0.0 < self.slope < math.inf and math.isfinite(self.offset)):
            raise InputError(f"calibration {self.slope} · log odds + {self.offset} does not rise.")
        if self.patches < 0:
            raise InputError(f"patches is {self.patches}.", "0 looks at all of them.")
        for name, value in (("no_echo", self.no_echo), ("low_confidence", self.low_confidence),
                            ("sure", self.sure), ("no_echo_again", self.no_echo_again)):
            if not 0.0 <= value <= 1.0:
                raise InputError(f"threshold {name} is {value}, not within 0 and 1.")


@dataclass(frozen=True, slots=True)
class Variant:
    """One exported form of the model. ``parity`` holds its measured figures against the torch original;
    ``default`` marks the one of its runtime that a device should take.
    """

    name: str
    file: str
    runtime: str
    precision: str
    sha256: str
    bytes: int
    parity: dict[str, Any]
    default: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """Where something lies in the archive."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class GoldenEntry(Entry):
    """Where the golden vectors lie in the archive."""

    tolerance_patches: float


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose seal and manifest were checked; variants and golden vectors are read when asked for.

    ``sha256`` is the seal's: the identity that readings and reports carry.
    """

    path: Path
    format_version: int
    name: str
    spec: SignalSpec
    thresholds: Thresholds
    variants: dict[str, Variant]
    golden_entry: GoldenEntry
    provenance: dict[str, Any]
    sha256: str
    weights_entry: Entry | None = None

    @property
    def sealed(self) -> Sealed:
        """Its seal as a signature covers it."""
        return Sealed(self.path, f"{MAGIC}/{self.format_version} sha256={self.sha256}", self.sha256)

    def variant_bytes(self, name: str) -> bytes:
        """The model file of a variant; raises InputError for an unknown name or a wrong SHA-256."""
        if name not in self.variants:
            raise InputError(f"{self.path} has no variant {name!r}.", f"It has: {', '.join(self.variants)}.")
        return _entry(self.path, self.variants[name])

    def variant_for(self, runtime: str) -> Variant | None:
        """The variant that ``runtime`` should run, with ``runtime`` as its own; None where there is none."""
        of, precision = BORROWED.get(runtime, (runtime, None))
        for variant in self.variants.values():
            if variant.runtime == of and (variant.default if precision is None
                                          else variant.precision == precision):
                return replace(variant, runtime=runtime)
        return None

    def default_for(self, runtime: str) -> Variant:
        """``variant_for``; raises InputError where the bundle has none."""
        variant = self.variant_for(runtime)
        if variant is None:
            file = "-".join(BORROWED[runtime]) if runtime in BORROWED else ""
            raise InputError(
                f"{self.path} has no variant {file}, which the runtime {runtime!r} runs." if file
                else f"{self.path} has no variant for the runtime {runtime!r}.",
                f"It has: {', '.join(self.variants)}.")
        return variant

    def weights(self) -> bytes:
        """The trained weights, a safetensors file; raises InputError for none and for damaged ones."""
        if self.weights_entry is None:
            raise InputError(f"{self.path} holds no weights to go on from.",
                             "Give the checkpoint that it was exported from.")
        return _entry(self.path, self.weights_entry)

    def golden(self) -> Golden:
        """The golden vectors; raises InputError where they are damaged or do not fit the spec."""
        content = _entry(self.path, self.golden_entry)
        with _refuse_damage(self.path, "its golden vectors cannot be read"):
            return unpack(content, self.spec, self.golden_entry.tolerance_patches)


@dataclass(frozen=True, slots=True)
class VariantParts:
    """A variant on its way into a bundle: what ``Variant`` says of it, and the model file itself."""

    runtime: str
    precision: str
    content: bytes
    parity: dict[str, Any]
    default: bool


@dataclass(frozen=True, slots=True)
class BundleParts:
    """All that ``write_bundle`` stores; with ``weights``, a safetensors file, training can go on from it."""

    name: str
    spec: SignalSpec
    thresholds: Thresholds
    variants: Mapping[str, VariantParts]
    golden: Golden
    provenance: dict[str, Any]
    weights: bytes | None = None


def check_golden(bundle: Bundle, infer: Ask) -> None:
    """Put the golden vectors to ``infer``, as a whole and at a glance where the bundle has one; raises
    InputError that counts and measures its wrong answers.
    """
    limits, golden = bundle.thresholds, bundle.golden()
    fault = wrong_answers(golden, limits.no_echo, infer)
    if fault is None and limits.patches:
        fault = wrong_answers(golden, limits.no_echo,
                              lambda x: few(infer, x, bundle.spec.patch, limits.patches))
    if fault is not None:
        raise InputError(f"{bundle.path}: {fault}.",
                         "This runtime computes the model wrongly: update it or choose another --runtime.")


# Reading


@contextmanager
def _refuse_damage(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path} cannot be read ({reason}).", "Check its permissions.") from error
    except UnsafeArchiveError as error:
        raise InputError(f"{path}: {error}.", _DO_NOT_USE) from error
    except _DAMAGE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: {what} ({reason}).", _EXPORT_AGAIN) from error


def read_bundle(path: str | Path) -> Bundle:
    """Open a bundle: check its seal, its entries and its manifest, and unpack nothing else.

    Raises InputError, one line, for a file that is missing, no bundle, truncated, changed in any byte, of a
    newer format, or whose entries leave the archive, exceed the sizes above or differ from its manifest.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no bundle {path}.", "Check the path, or write one with `usedge export`.")
    with _refuse_damage(path, "it is damaged"), path.open("rb") as file:
        seal = _check_seal(path, file)
        with open_archive(file, _SEAL_BYTES) as archive:
            names = _check_entries(path, archive)
            text = _unpack(path, archive, MANIFEST, MAX_MANIFEST_BYTES)
            manifest = json.loads(text, parse_constant=_no_constant)
    bundle = _from_manifest(path, manifest, seal)
    stated = {MANIFEST, bundle.golden_entry.file, *(variant.file for variant in bundle.variants.values()),
              *([bundle.weights_entry.file] if bundle.weights_entry else [])}
    if names != stated:
        odd = ", ".join(sorted(names ^ stated))
        raise InputError(f"{path}: entries and manifest differ ({odd}).", _EXPORT_AGAIN)
    return bundle


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} in the manifest")


def _check_seal(path: Path, file: BinaryIO) -> str:
    """The seal's SHA-256, checked against every byte before the archive comment."""
    size = file.seek(0, os.SEEK_END)
    if size > MAX_FILE_BYTES:
        raise InputError(f"{path} is {size >> 20} MB; a bundle is at most {MAX_FILE_BYTES >> 20} MB.",
                         "Is it a bundle?")
    file.seek(max(0, size - 128))
    seal = _SEAL.search(file.read())
    file.seek(0)
    if seal is None and file.read(4) == _LOCAL_HEADER:
        raise InputError(f"{path} has no seal at its end: it is truncated or damaged.", _EXPORT_AGAIN)
    if seal is None:
        raise InputError(f"{path} is no usedge bundle.", "Give the .usedge file that `usedge export` wrote.")
    file.seek(0)
    if _digest(file, size - len(seal[0])) != seal[2].decode():
        raise InputError(f"{path} is damaged: its SHA-256 differs from its seal.", _EXPORT_AGAIN)
    _check_version(path, int(seal[1]))
    return seal[2].decode()


def _digest(file: BinaryIO, size: int) -> str:
    digest = hashlib.sha256()
    while size > 0:
        chunk = file.read(min(size, _CHUNK))
        if not chunk:
            break
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest()


def _check_version(path: Path, version: int) -> None:
    if version != FORMAT_VERSION:
        newer = version > FORMAT_VERSION
        next_step = "Update usedge." if newer else "Export its checkpoint again with this usedge."
        raise InputError(f"{path} is a bundle of format {version}; this usedge reads {FORMAT_VERSION}.",
                         next_step)


def _leaves_archive(name: str) -> bool:
    unsafe = any(character in name for character in "\\:\0")
    return unsafe or any(part in ("", ".", "..") for part in name.split("/"))


def _check_entries(path: Path, archive: zipfile.ZipFile) -> set[str]:
    """Names of all entries; raises InputError for unsafe paths, doubles and sizes that a bundle never has."""
    entries = archive.infolist()
    for entry in entries:
        if _leaves_archive(entry.orig_filename):
            raise InputError(f"{path}: entry {entry.orig_filename!r} has an unsafe path.", _DO_NOT_USE)
        _check_size(path, entry, MAX_ENTRY_BYTES)
    names = {entry.filename for entry in entries}
    if len(names) != len(entries):
        raise InputError(f"{path} has {len(entries)} entries, {len(names)} of them different.", _DO_NOT_USE)
    return names


def _check_size(path: Path, entry: zipfile.ZipInfo, limit: int) -> None:
    if entry.file_size > limit:
        size = f"{entry.file_size} bytes; the limit is {limit}"
        raise InputError(f"{path}: {entry.filename} would unpack to {size}.", _DO_NOT_USE)


def _unpack(path: Path, archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    if name not in archive.namelist():
        raise InputError(f"{path} has no {name}.", _EXPORT_AGAIN)
    info = archive.getinfo(name)
    _check_size(path, info, limit)
    with archive.open(info) as file:
        return file.read(info.file_size)


def _entry(path: Path, entry: Variant | Entry) -> bytes:
    """The content of an entry, checked against the manifest's size and SHA-256."""
    with _refuse_damage(path, f"{entry.file} is damaged"), path.open("rb") as file, \
            open_archive(file, _SEAL_BYTES) as archive:
        content = _unpack(path, archive, entry.file, entry.bytes)
    if len(content) != entry.bytes or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise InputError(f"{path}: {entry.file} differs from its SHA-256 in the manifest.", _EXPORT_AGAIN)
    return content


def _from_manifest(path: Path, manifest: Any, seal: str) -> Bundle:
    with _refuse_damage(path, "its manifest is not valid"):
        if _take(manifest, "magic", str) != MAGIC:
            raise ValueError(f"magic is {manifest['magic']!r}")
        _check_version(path, _take(manifest, "format_version", int))
        limits = _take(manifest, "thresholds", dict)
        entries = _take(manifest, "variants", dict)
        variants = {name: _variant(name, entries[name]) for name in entries}
        return Bundle(
            path, FORMAT_VERSION, _take(manifest, "name", str), _spec(_take(manifest, "spec", dict)),
            Thresholds(*(_take(limits, name, float) for name in ("no_echo", "low_confidence")),
                       **{name: _take(limits, name, LATER[name]) for name in LATER.keys() & limits.keys()}),
            _one_default(variants), _golden_entry(_take(manifest, "golden", dict)),
            _take(manifest, "provenance", dict), seal, _weights_entry(manifest))


def _take(values: Any, key: str, kind: type) -> Any:
    """``values[key]`` if it is a ``kind``; raises ValueError otherwise. Whole numbers pass as float."""
    if not isinstance(values, dict) or key not in values:
        raise ValueError(f"{key} is missing")
    value = values[key]
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{key} is {value!r:.40}")
    return value


def _spec(values: dict[str, Any]) -> SignalSpec:
    for key, value in SignalSpec().to_dict().items():
        _take(values, key, type(value))
    return SignalSpec.from_dict(values)


def _located(values: Any, file: str) -> tuple[str, str, int]:
    """``file``, SHA-256 and size of an entry; raises ValueError for what no writer writes."""
    sha256, size = _take(values, "sha256", str), _take(values, "bytes", int)
    if _leaves_archive(file) or not re.fullmatch("[0-9a-f]{64}", sha256) or not 0 < size <= MAX_ENTRY_BYTES:
        raise ValueError(f"entry {file!r} of {size} bytes")
    return file, sha256, size


def _variant(name: str, values: Any) -> Variant:
    runtime, precision = _take(values, "runtime", str), _take(values, "precision", str)
    if runtime not in RUNTIMES or precision not in PRECISIONS:
        raise ValueError(f"variant {name} is {runtime} {precision}")
    file, sha256, size = _located(values, _take(values, "file", str))
    if not file.startswith(VARIANTS):
        raise ValueError(f"variant {name} is in {file!r}")
    return Variant(name, file, runtime, precision, sha256, size, _take(values, "parity", dict),
                   _take(values, "default", bool))


def _one_default(variants: dict[str, Variant]) -> dict[str, Variant]:
    runtimes = {variant.runtime for variant in variants.values()}
    defaults = [variant.runtime for variant in variants.values() if variant.default]
    if not variants or sorted(defaults) != sorted(runtimes):
        raise ValueError("each runtime must have one default variant")
    return variants


def _golden_entry(values: dict[str, Any]) -> GoldenEntry:
    tolerance = _take(values, "tolerance_patches", float)
    if not tolerance > 0:
        raise ValueError(f"tolerance_patches is {tolerance}")
    return GoldenEntry(*_located(values, _take(values, "file", str)), tolerance)


def _weights_entry(manifest: dict[str, Any]) -> Entry | None:
    return Entry(*_located(_take(manifest, "weights", dict), WEIGHTS)) if "weights" in manifest else None


# Writing


def write_bundle(path: str | Path, parts: BundleParts) -> Bundle:
    """Write a bundle whole or not at all, read it back, and return what was read.

    The same parts give the same bytes wherever zlib is the same: entries are sorted and bear no time. Raises
    InputError where the folder cannot be written, or for parts that ``read_bundle`` would refuse.
    """
    path = Path(path)
    with whole_file(path) as fresh:
        fresh.write_bytes(_sealed(_zip(_entries(parts), zipfile.ZIP_DEFLATED)))
        bundle = read_bundle(fresh)
        bundle.golden()
    return replace(bundle, path=path)


def _entries(parts: BundleParts) -> dict[str, bytes]:
    """Content of every entry by its name, the manifest included; raises InputError for NaN in it."""
    entries = {GOLDEN: pack(parts.golden)}
    golden = {"file": GOLDEN, **_stated(entries[GOLDEN]), "tolerance_patches": parts.golden.tolerance_patches}
    variants = {}
    for name, part in parts.variants.items():
        file = f"{VARIANTS}{name}{RUNTIMES[part.runtime]}"
        entries[file] = part.content
        variants[name] = {"file": file, "runtime": part.runtime, "precision": part.precision,
                          **_stated(part.content), "parity": part.parity, "default": part.default}
    manifest = {
        "magic": MAGIC, "format_version": FORMAT_VERSION, "name": parts.name, "spec": parts.spec.to_dict(),
        "thresholds": asdict(parts.thresholds),
        "variants": variants, "golden": golden, "provenance": parts.provenance,
    }
    if parts.weights is not None:
        entries[WEIGHTS] = parts.weights
        manifest["weights"] = _stated(parts.weights)
    try:
        entries[MANIFEST] = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"
    except ValueError:
        raise InputError("the bundle's figures or provenance hold NaN.", "Train the model again.") from None
    return entries


def _stated(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def _zip(entries: Mapping[str, bytes], method: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method, compresslevel=9) as archive:
        for name in sorted(entries):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = 0o644 << 16
            archive.writestr(info, entries[name], method)
    return stream.getvalue()


def _sealed(archive: bytes) -> bytes:
    """``archive``, which ends in its comment's length of 0, with the seal as its comment."""
    body = archive[:-2] + _SEAL_BYTES.to_bytes(2, "little")
    return body + f"{MAGIC}/{FORMAT_VERSION} sha256={hashlib.sha256(body).hexdigest()}".encode()
