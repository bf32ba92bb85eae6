"""The command line: a list of commands, each imported only when it is asked for.

One file a command, holding a ``typer.Typer`` called ``app`` with that one command. Other rooms add theirs by
the entry-point group "usedge.commands".
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from usedge import __version__
from usedge.errors import UsedgeError

COMMANDS = {
    "run": "usedge.cli.run:app",
    "calibrate": "usedge.cli.calibrate:app",
    "doctor": "usedge.cli.doctor:app",
    "boards": "usedge.cli.boards:app",
    "service": "usedge.cli.service:app",
    "record": "usedge.cli.record:app",
    "recover": "usedge.cli.recover:app",
    "convert": "usedge.cli.convert:app",
    "sign": "usedge.cli.sign:app",
    "emulate": "usedge.cli.emulate:app",
    "synth": "usedge.cli.synth:app",
    "harden": "usedge.cli.harden:app",
    "pretrain": "usedge.cli.pretrain:app",
    "finetune": "usedge.cli.finetune:app",
    "ablate": "usedge.cli.ablate:app",
    "report": "usedge.cli.report:app",
    "label": "usedge.cli.label:app",
    "evaluate": "usedge.cli.evaluate:app",
    "repeat": "usedge.cli.repeat:app",
}


def known_commands() -> dict[str, str]:
    """Command name → "module:attribute" of its Typer, those of other rooms included."""
    from importlib.metadata import entry_points  # 2 MB that a built-in command never needs

    return COMMANDS | {point.name: point.value for point in entry_points(group="usedge.commands")}


class LazyGroup(TyperGroup):
    """A command group that imports a command's module only when that command is used."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        """Names of all commands, in the order of the A-scan's way."""
        return list(known_commands())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - click's signature
        """The command, imported now; None where there is none of that name."""
        target = COMMANDS.get(cmd_name) or known_commands().get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command = typer.main.get_command(getattr(importlib.import_module(module), attribute))
        command.name = cmd_name
        return command


app = typer.Typer(cls=LazyGroup, add_completion=False, rich_markup_mode=None,
                  pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"usedge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True,
                                 help="Print the version."),
    traceback: bool = typer.Option(False, "--traceback", help="Show an error's Python traceback as well."),
) -> None:
    """Time of flight from ultrasound A-scans, on the device that records them."""


def main() -> None:
    """Entry point of the ``usedge`` command: errors become one line on stderr and an exit code."""
    show_traceback = "--traceback" in sys.argv[1:]
    if show_traceback:
        sys.argv = [word for word in sys.argv if word != "--traceback"]
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except UsedgeError as error:
        if show_traceback:
            raise
        _end(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except Exception as error:
        # Usage errors: typer's own copy of click keeps their class to itself.
        if show_traceback or not hasattr(error, "format_message"):
            raise
        _end(f"{error.format_message()} See: usedge --help", 2)


def _end(message: str, code: int) -> NoReturn:
    from usedge.cli.talk import tell

    tell(f"usedge: {message}\n")
    sys.exit(code)
