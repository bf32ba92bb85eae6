"""`usedge export`: a ToF checkpoint becomes the one bundle that a device needs."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usedge.cli.options import new_app
from usedge.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from usedge_export.build import Exported

PACKAGES = {
    "torch": "torch", "safetensors": "safetensors", "onnx": "onnx", "onnxscript": "onnxscript",
    "onnxruntime": "onnxruntime", "ai_edge_litert": "ai-edge-litert", "litert_torch": "litert-torch",
    "ai_edge_quantizer": "ai-edge-quantizer",
}
"""Import name → package of all that an export needs."""

HEADINGS = ("variant", "agreement", "shift p50 ns", "p95 ns", "hit rate", "error ns", "p50 µs", "p99 µs",
            "× onnx fp32", "MB", "RSS MB", "")

app = new_app()


@app.command(epilog="Example: usedge export runs/finetune/last --int8 -o field.usedge")
def export(
    checkpoint: Annotated[Path | None, typer.Argument(
        help="Folder that `usedge finetune` wrote, or a bundle; default: the shipped one.")] = None,
    int8: Annotated[bool, typer.Option("--int8/--no-int8", help="With int8 variants, or fp32 alone.")] = True,
    recipe: Annotated[str, typer.Option(help="Shipped recipe by name, or a TOML file.")] = "int8",
    calibrate: Annotated[Path | None, typer.Option(
        help="Labelled A-scans that variants must pass on too, and that calibrate confidence.")] = None,
    native: Annotated[bool, typer.Option(
        "--native", help="With the weights for our own C code as well: --runtime native.")] = False,
    c_header: Annotated[Path | None, typer.Option(
        metavar="FILE", help="Write these weights as a C header for firmware; implies --native.")] = None,
    sign: Annotated[Path | None, typer.Option(
        metavar="KEY", help="Sign the bundle with this private key (Ed25519, PEM).")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle to write.")] = Path("field.usedge"),
    as_json: Annotated[bool, typer.Option("--json", help="JSON on a terminal as well.")] = False,
) -> None:
    """Convert and quantise a model, compare every variant with the original, and write one bundle.

    A variant outside the recipe's limits is left out, with the figures; when a required one is, nothing is
    written and the exit code is 1.
    """
    _need_export()
    from usedge.resources import recipe as find_recipe
    from usedge.resources import shipped_bundle
    from usedge_export.build import export as build
    from usedge_export.recipe import read_recipe

    chosen = read_recipe(find_recipe(recipe))
    for path, option in ((out, "-o"), (c_header or out, "--c-header")):
        if not path.parent.is_dir():
            raise InputError(f"there is no folder {path.parent}.", f"Make it, or give another {option} FILE.")
    signer = _signer(sign)
    chosen = chosen if int8 else chosen.without_int8()
    chosen = chosen.with_native() if native or c_header else chosen
    exported = build(checkpoint or shipped_bundle(), chosen, out, calibrate,
                     lambda line: typer.echo(f"usedge: {line}", err=True))
    if c_header:
        _write_header(exported, c_header)
    signer(exported)
    if as_json or not sys.stdout.isatty():
        typer.echo(json.dumps(exported.to_dict(), allow_nan=False))
    else:
        _print_table(exported)


def _signer(key: Path | None) -> Callable[[Exported], None]:
    """Signs the bundle with ``key``, which is read before the work begins; else tells of an old signature."""
    from usedge.signature import fingerprint, private_key, sign

    private = private_key(key) if key is not None else None

    def end(exported: Exported) -> None:
        sealed = exported.bundle.sealed
        if private is not None:
            public = sign(sealed, private)
            typer.echo(f"usedge: {sealed.signatures}: signed by {fingerprint(public)}", err=True)
        elif sealed.signatures.exists():
            typer.echo(f"usedge: {sealed.signatures} was there before: it holds for the same bytes alone",
                       err=True)

    return end


def _write_header(exported: Exported, path: Path) -> None:
    from usedge.files import whole_file
    from usedge_export.native_variant import c_header
    from usedge_export.recipe import NATIVE

    bundle = exported.bundle
    told = f"Bundle sha256 {bundle.sha256}, usedge {bundle.provenance['usedge']}."
    with whole_file(path) as fresh:
        fresh.write_text(c_header(bundle.variant_bytes(NATIVE), bundle.name, told))


def _need_export() -> None:
    for module, package in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(package, "export")


def _print_table(exported: Exported) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{exported.bundle.path}: {exported.bundle.path.stat().st_size / 1e6:.1f} MB"))
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    hit_rate, error_ns = exported.torch["hit_rate"], exported.torch["error_median_ns"]
    table.add_row("torch fp32", "", "", "", _percent(hit_rate), _plain(error_ns))
    for name, row in exported.to_dict()["variants"].items():
        table.add_row(name, *_cells(row))
    Console().print(table)
    for name, reasons in exported.refused.items():
        typer.echo(f"{name} was left out: {'; '.join(reasons)}.")


def _cells(row: dict[str, Any]) -> list[str]:
    verdict = "default" if row["default"] else "" if row["accepted"] else "refused"
    if row.get("slower_than_fp32"):
        verdict = "slower than fp32"
    parity = [_plain(row.get(key)) for key in ("shift_median_ns", "shift_p95_ns")]
    took = [_plain(row["p50_us"]), _plain(row["p99_us"]), _plain(row["ratio_onnx_fp32"], 2)]
    return [_percent(row.get("agreement")), *parity, _percent(row.get("hit_rate")),
            _plain(row.get("error_median_ns")), *took, f"{row['bytes'] / 1e6:.2f}",
            _plain(row["rss_mb"]), verdict]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"


def _plain(value: float | None, places: int = 1) -> str:
    return "–" if value is None else f"{value:.{places}f}"
