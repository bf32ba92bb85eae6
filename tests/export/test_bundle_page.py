"""docs/bundle.md against a bundle that was exported for it: keys, offsets, limits, arrays."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usedge import archive, signature
from usedge import bundle as bundles
from usedge.spec import SignalSpec
from usedge_export.recipe import Recipe

torch = pytest.importorskip("torch", reason="export starts from a torch checkpoint: extra 'export'")

PAGE = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text()


def table(heading: str) -> list[list[str]]:
    """Rows of the first table under ``heading``, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    end = next((i for i, line in enumerate(lines) if i > 1 and line.startswith("|---")), len(lines) + 1)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2 : end - 1]]


def quoted(cell: str) -> str:
    return re.findall("`(.*?)`", cell)[0]


@pytest.fixture(scope="module")
def path(checkpoint: Path, recipe: Recipe, contents: dict[str, bytes],
         tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the tiny checkpoint, its variants converted already."""
    from usedge_export import build

    out = tmp_path_factory.mktemp("page") / "tiny.usedge"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "convert", lambda *given: {name: contents[name] for name in given[2]})
        build.export(checkpoint, recipe, out)
    return out


@pytest.fixture(scope="module")
def manifest(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as opened:
        return dict(json.loads(opened.read("manifest.json")))


def test_keys_of_the_manifest_are_those_of_the_page(manifest: dict[str, Any]) -> None:
    keys = set()
    for key, value in manifest.items():
        if key == "variants":
            keys |= {f"variants.VARIANT.{each}" for variant in value.values() for each in variant}
        elif isinstance(value, dict):
            keys |= {f"{key}.{each}" for each in value}
        else:
            keys.add(key)
    documented = {quoted(row[0]): row[1] for row in table("manifest.json")}
    optional = {key for key, meaning in documented.items() if "missing" in meaning}
    assert keys <= documented.keys()
    assert documented.keys() - keys <= optional


def test_offsets_from_the_end_are_those_of_the_page(path: Path) -> None:
    whole = path.read_bytes()
    rows = table("The end of the file")
    assert len(rows) == 7
    for offset, size, what in rows:
        start = len(whole) - int(offset.lstrip("−"))
        found = whole[start : start + int(size)]
        shown = re.findall("`(.*?)`", what)
        if shown and re.fullmatch("[0-9a-f]{2}( [0-9a-f]{2})+", shown[0]):
            assert found == bytes.fromhex(shown[0])
        elif shown:
            assert found == shown[0].encode()
    assert whole[-64:].decode() == hashlib.sha256(whole[:-87]).hexdigest()
    with zipfile.ZipFile(path) as opened:
        assert opened.comment == whole[-87:]
        assert int.from_bytes(whole[-99:-97], "little") == len(opened.infolist())
    directory, begins = (int.from_bytes(whole[-at : -at + 4], "little") for at in (97, 93))
    assert begins + directory == len(whole) - 109
    assert whole[begins : begins + 4] == b"PK\x01\x02"


def test_entries_are_as_the_page_says(path: Path) -> None:
    with zipfile.ZipFile(path) as opened:
        entries = opened.infolist()
    assert [each.filename for each in entries] == sorted(each.filename for each in entries)
    assert {each.date_time for each in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {each.external_attr >> 16 for each in entries} == {0o644}
    patterns = {quoted(row[0]) for row in table_of_entries()}
    assert {re.sub("^variants/.*", "variants/*", each.filename) for each in entries} == patterns
    meanings = {quoted(row[0]): row[1] for row in table_of_entries()}
    assert set(re.findall(r"`(\.\w+)`", meanings["variants/*"])) == set(bundles.RUNTIMES.values())


def table_of_entries() -> list[list[str]]:
    lines = [line for line in PAGE.split("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_version_limits_and_values_are_those_of_the_reader() -> None:
    assert f"# The bundle: format {bundles.FORMAT_VERSION}\n" in PAGE
    limits = {row[0]: int(row[1]) for row in table("What a reader refuses")}
    assert limits == {
        "bytes of the file": bundles.MAX_FILE_BYTES,
        "bytes of an entry, unpacked": bundles.MAX_ENTRY_BYTES,
        "bytes of the manifest, unpacked": bundles.MAX_MANIFEST_BYTES,
        "entries": archive.MAX_ENTRIES,
        "bytes of the directory": archive.MAX_DIRECTORY_BYTES,
    }
    meanings = {quoted(row[0]): row[1] for row in table("manifest.json")}
    for key, known in (("runtime", bundles.RUNTIMES), ("precision", bundles.PRECISIONS)):
        assert set(re.findall("`(.*?)`", meanings[f"variants.VARIANT.{key}"])) == set(known)
    assert quoted(meanings["magic"]) == bundles.MAGIC


def test_golden_arrays_are_those_of_the_page(path: Path) -> None:
    with zipfile.ZipFile(path) as opened:
        arrays = np.load(io.BytesIO(opened.read("golden.npz")))
    spec, g = SignalSpec(), len(arrays["x"])
    numbers = {"g": g, "n_samples": spec.n_samples, "3l + 1": 3 * spec.n_patches + 1}
    rows = table("golden.npz")
    assert {quoted(row[0]) for row in rows} == set(arrays.files)
    for name, kind, shape, _ in rows:
        array = arrays[quoted(name)]
        sizes = tuple(numbers[each.strip()] for each in shape.strip("()").split(",") if each.strip())
        assert (array.dtype.name, array.shape) == (kind, sizes)


def test_the_signature_line_is_that_of_the_page(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="signatures need the extra 'sign'")
    signature.new_key(tmp_path / "k.pem")
    sealed = bundles.read_bundle(path).sealed
    signature.sign(sealed, signature.private_key(tmp_path / "k.pem"))
    line = sealed.signatures.read_text().rstrip("\n")
    fields = {quoted(row[0]): int(row[1]) for row in table("Signatures")}
    shown = re.search(r"^    (usedge-signature/.*)$", PAGE, re.MULTILINE)
    assert shown is not None
    assert re.sub("[0-9a-f]{64,}", "X", line) == re.sub("=[A-Z0-9]+", "=X", shown[1])
    assert {name: len(value) for name, value in re.findall(r"(\w+)=([0-9a-f]+)", line)} == fields
    assert len(sealed.seal) == 87
