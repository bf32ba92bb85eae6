"""``usedge harden``: hard labelled gates made from recorded ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usedge.cli.options import listed, new_app
from usedge.errors import InputError

if TYPE_CHECKING:
    from usedge.labelled import LabelledSet
    from usedge.synth.hard import Parent

ALL_KINDS = "ring,noise,foreign,overlap,clip,weak,empty"

app = new_app()


@app.command(epilog="Example: usedge harden water.npz plate.npz no-target.npz -o hard --seed 0")
def harden(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Recorded, labelled (.npz, .h5).")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the files made.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed; the same seed gives the same A-scans.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="A-scans in each file, at most.")] = 24,
    kinds: Annotated[str, typer.Option(help="Kinds to make, with commas.")] = ALL_KINDS,
) -> None:
    """Make hard labelled A-scans from recorded ones: KIND-FILE.npz for every kind and every FILE it suits.

    ring: ring-down before the echo. noise: recorded noise at 10–20 dB. foreign: a packet of another file and
    frequency. overlap: a second echo 0.5–3 periods on. clip: over-driven by 3–20 dB. weak: a first echo 12–20
    dB under a later one, and labelled. empty: noise and ring-down, no echo.
    """
    stems = [file.stem for file in files]
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise InputError(f"two files are called {twice}, and what is made is named after them.",
                         "Rename one.")
    names = listed(kinds)
    written = _written(files, out, seed, count, names)
    if not written:
        raise InputError(f"no gate of these files suits {', '.join(names) or repr(kinds)}.",
                         "Labels of onsets and echoes under the rails suit every kind.")
    typer.echo(json.dumps({"seed": seed, "files": written}))


def _written(files: list[Path], out: Path, seed: int, count: int, kinds: list[str]) -> list[dict[str, Any]]:
    """Make and write every file; the entry of each in what is said."""
    from rich.console import Console
    from rich.progress import Progress

    from usedge.labelled import load_labelled
    from usedge.synth.hard import harden as make
    from usedge.synth.hard import write_hard

    parents = [_parent(load_labelled(path)) for path in files]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} is no folder that can be written ({error.strerror}).",
                         "Give another --out.") from None
    console = Console(stderr=True)
    written = []
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("kinds × files", total=len(kinds) * len(parents))
        for hard in make(parents, seed, count, kinds, lambda: bar.advance(task)):
            path = write_hard(out, hard, seed)
            written.append({"file": str(path), "kind": hard.kind, "n": len(hard.rows)})
    return written


def _parent(labelled: LabelledSet) -> Parent:
    import numpy as np

    from usedge.ascan import cut_gate
    from usedge.labelled import as_counts
    from usedge.runtime.evaluate import gates_snr_db, median_f0
    from usedge.synth.hard import Parent

    gated = [cut_gate(labelled.ascan(i), labelled.gate(i)) for i in range(len(labelled))]
    f0_hz = labelled.f0_hz
    if f0_hz is None:
        f0_hz = np.full(len(gated), median_f0(gated, labelled.has_echo))
    return Parent(labelled.path.stem if labelled.path else "", as_counts(labelled.x), labelled.fs_hz,
                  labelled.t0_s, labelled.tof_s, labelled.gate_s, f0_hz, labelled.label_point,
                  gates_snr_db(gated, labelled.tof_s, labelled.fs_hz / f0_hz))
