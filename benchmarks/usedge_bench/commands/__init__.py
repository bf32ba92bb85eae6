"""What ``usedge bench`` does beside running a suite: one file a command, imported when it is used."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

SUITE = "suite"
"""The command that a line without any of the others means, as in ``usedge bench latency``."""
COMMANDS: dict[str, tuple[str, str]] = {
    "compare": ("usedge_bench.commands.compare", "Two reports: better, worse or no difference, by figure."),
    "sinks": ("usedge_bench.commands.sinks", "Every sink at once on one core, and what each adds."),
    "check": ("usedge_bench.commands.check", "The latency suite against the stored run of such a host."),
    "submit": ("usedge_bench.commands.submit", "A report as the file to hand in for a board."),
    "html": ("usedge_bench.commands.html", "A stored report as a page with plots."),
}
"""Command → the module with its ``app``, and what it does."""


class BenchGroup(TyperGroup):
    """``usedge bench latency`` and ``usedge bench`` run a suite; ``usedge bench compare A B`` does not."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The line, with the suite's command put before it unless another one leads it."""
        return super().parse_args(ctx, args if args and args[0] in COMMANDS else [SUITE, *args])

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of all commands."""
        return [*super().list_commands(ctx), *COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, imported now; None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        command = typer.main.get_command(importlib.import_module(COMMANDS[cmd_name][0]).app)
        command.name = cmd_name
        return command


class SuiteCommand(TyperCommand):
    """The command that runs a suite: called without a name of its own, and its help lists the others."""

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """The usage line, as it is typed."""
        formatter.write_usage(ctx.parent.command_path, " ".join(self.collect_usage_pieces(ctx)))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The options, and after them what else ``usedge bench`` does."""
        super().format_options(ctx, formatter)
        if COMMANDS:
            with formatter.section("Commands"):
                formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])
