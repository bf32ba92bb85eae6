"""The report on a table of trials: report.md and its plots, from `usedge report`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from usedge.errors import InputError
from usedge.files import write_whole
from usedge.training.report import page, pictures, plots
from usedge.training.report.claims import judge
from usedge.training.report.select import read_runs, studies_of

NAME = "report.md"


@dataclass(frozen=True, slots=True)
class Report:
    """What was written, and the verdict on each claim by its name."""

    path: Path
    figures: list[Path]
    claims: dict[str, str]


def write_report(table: Path, out: Path, budget: float | None = None, pretrained: Path | None = None,
                 recorded: Sequence[Path] = ()) -> Report:
    """Write the report on ``table`` into the folder ``out``, once all of it is made.

    ``pretrained``: a checkpoint to draw reconstructions and attention of, ``recorded``: labelled files to
    reconstruct as well; of those A-scans only the picture is written. Raises InputError for what cannot be
    read or drawn, MissingExtraError without matplotlib.
    """
    plots.need_matplotlib()
    _distinct(recorded)
    runs = read_runs(table)
    studies = studies_of(runs, budget)
    judged = judge(runs, studies)
    drawn = pictures.draw(pretrained, recorded) if pretrained else None
    files = plots.figures(studies)
    parts = page.page(table.name, runs, studies, judged, files)
    if drawn is None:
        parts += page.without_pictures(table.name)
    else:
        files |= drawn.files
        parts += page.with_pictures(drawn.reconstructions, drawn.attention, recorded, table.name)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} is no folder that can be written ({error.strerror}).", "Give another --out."
                         ) from None
    for name, content in files.items():
        write_whole(out / name, content)
    write_whole(out / NAME, ("\n\n".join(parts) + "\n").encode())
    return Report(out / NAME, [out / name for name in files],
                  {each.claim.name: each.verdict for each in judged})


def _distinct(recorded: Sequence[Path]) -> None:
    """Pictures are named after their files, so two files of one name would overwrite each other."""
    names = [path.stem for path in recorded]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"two files of A-scans are named {twice}.",
                         "Rename one: pictures are named after them.")
