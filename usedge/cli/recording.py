"""What `usedge run --record` and `usedge record` share: the options of a recording, and its recorder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usedge.errors import InputError

if TYPE_CHECKING:
    from usedge.recording import Recorder
    from usedge.sources import Source

RECORDER_TALK = "usedge.recording"
"""Name of the log in which the recorder speaks."""

SyncS = Annotated[float, typer.Option(help="Most seconds of a recording that a power cut may cost.")]
RotateMb = Annotated[float, typer.Option(help="Record to numbered files of at most so many MB; 0: one file.")]
RotateS = Annotated[float, typer.Option(help="Record to numbered files of so many seconds.")]
QuotaMb = Annotated[float, typer.Option(help="Keep the newest MB of recordings; the oldest file goes.")]
Compress = Annotated[bool, typer.Option("--compress", help="Compress the recording, without loss.")]


def recorder_of(path: Path | None, policy: tuple[float, float, float, float, bool], port: str,
                source: Source) -> Recorder | None:
    """The recorder, to be entered, of what ``source`` brings from ``port``; None where ``path`` is.

    ``policy``: the options of a recording, in RecordPolicy's order. Raises InputError for one that cannot be,
    for one that is given without ``path``, and for a folder that cannot be used.
    """
    if path is None:
        if any(policy[1:]):
            raise InputError("there is no recording to rotate, limit or compress.", "Add --record FILE.")
        return None
    from usedge import __version__
    from usedge.recording import Recorder, RecordPolicy

    facts = {"recording": "usedge", "version": __version__, "port": port}
    return Recorder(path, RecordPolicy(*policy), facts,
                    lambda: {"protocol": source.protocol, "prf_hz": source.prf_hz}, waits=source.lossless)


def tell_recorded(summary: dict[str, Any]) -> None:
    """Say on stderr what ``summary`` counts of a recording; nothing where there was none."""
    if "recorded" in summary:
        from usedge.cli.talk import tell

        files = summary["record_files"]
        tell(
            f"usedge: {summary['recorded']} A-scans recorded in {files} file{'' if files == 1 else 's'},"
            f" {summary['record_dropped']} not; {summary['record_faults']} faults,"
            f" {summary['record_removed']} old files removed.\n")
