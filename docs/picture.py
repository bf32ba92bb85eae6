"""Draws docs/run.svg: the live view at the end of a real run of the shipped bundle over sim://."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from usedge.bundle import read_bundle
from usedge.cli.view import LiveView
from usedge.ranging import Ranging
from usedge.resources import shipped_bundle
from usedge.runtime.lane import Lane
from usedge.runtime.picker import open_model_picker
from usedge.runtime.runner import Run, RunOptions
from usedge.sources import SourceOptions, open_source

PORT = "sim://?prf=20&seed=2"
ASCANS = 38
WIDTH = 84


def main() -> None:
    """Run, draw, write the picture."""
    picker = open_model_picker(read_bundle(shipped_bundle()))
    run = Run(open_source(PORT, SourceOptions(count=ASCANS)), picker, [], RunOptions(),
              lanes=[Lane(ranging=Ranging(1482.0))])
    view = LiveView(run, PORT)
    run.sinks = [view]
    run.go()
    with Path("/dev/null").open("w") as nowhere:
        paper = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        paper.print(view.render())
        paper.save_svg(str(Path(__file__).with_name("run.svg")), title="usedge run --port sim://")


if __name__ == "__main__":
    main()
