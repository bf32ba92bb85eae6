"""``usedge boards``: what is known about boards, which one this is, what a bundle should cost on another."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usedge.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from usedge.boards import BoardProfile

FORMAT_VERSION = 1

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

AsJson = Annotated[bool, typer.Option("--json", help="JSON on a terminal as well.")]
Board = Annotated[str, typer.Argument(metavar="BOARD", help="A board's name, or a TOML file.")]


@app.callback(epilog="Example: usedge boards detect", invoke_without_command=True)
def _group(context: typer.Context) -> None:
    """Board profiles: what is known, which one this is, its budget, and predictions for one not at hand."""
    if context.invoked_subcommand is None:
        list_boards()


@app.command("list", epilog="Example: usedge boards list")
def list_boards(as_json: AsJson = False) -> None:
    """All board profiles: processors, memory, links, budgets."""
    from usedge.boards import every_board

    boards = every_board()
    if _json(as_json):
        _print_json({"boards": [_summary(each) for each in boards]})
        return
    hosts = _table("host", "processor", "RAM, MB", "p99, RSS / disk")
    fronts = _table("front end", "A-scans", "link", "USB")
    for each in boards:
        if each.is_host:
            hosts.add_row(each.id, _processor(each), _listed(each.memory.ram_mb), _budget(each))
        else:
            fronts.add_row(each.id, _ascans(each), f"{each.links.protocol}, {_listed(each.links.kinds)}",
                           _listed(each.detect.usb))
    _print_tables(hosts, fronts)


@app.command(epilog="Example: usedge boards show rpi-4b")
def show(board: Board, as_json: AsJson = False) -> None:
    """One board's profile, every fact with its source."""
    from rich.markup import escape

    from usedge.boards import load_board

    profile = load_board(board)
    facts = profile.to_dict()
    if _json(as_json):
        _print_json(facts)
        return
    table = _table("fact", profile.name, "source")
    numbers: dict[str, int] = {}
    sections = {name: value for name, value in facts.items() if isinstance(value, dict) and name != "sources"}
    for name, section in sections.items():
        for key, value in section.items():
            source = profile.sources.get(f"{name}.{key}") or profile.sources[name]
            number = numbers.setdefault(source, len(numbers) + 1)
            table.add_row(f"{name}.{key}", escape(_value(value)), str(number))
    _print_tables(table)
    for source, number in numbers.items():
        typer.echo(f"  {number:2} {source}")
    if profile.note:
        typer.echo(f"\n{profile.note}")


@app.command(epilog="Example: usedge boards detect")
def detect(
    root: Annotated[Path, typer.Option(help="Look at the machine below this folder.")] = Path("/"),
    as_json: AsJson = False,
) -> None:
    """Which board this is, by its device tree, its processor, and the USB numbers of what is plugged in."""
    from rich.markup import escape

    from usedge.boards import detect as look

    if not root.is_dir():
        raise InputError(f"there is no folder {root}.", "Leave out --root for this machine.")
    found = look(root)
    if _json(as_json):
        _print_json(found.to_dict())
        return
    table = _table("", "found")
    table.add_row("board", f"{found.board or 'none'}: {escape(found.why)}")
    table.add_row("model", escape(found.model or "its device tree tells none"))
    table.add_row("processor", _listed((found.machine or "?", *found.features)))
    for each in found.front_ends:
        fitting = " or ".join(each.boards)
        table.add_row("plugged in", escape(f"{each.vid_pid} {each.product}: may be {fitting}"))
    if not found.front_ends:
        table.add_row("plugged in", "no front end with known USB numbers")
    _print_tables(table)


@app.command(epilog="Example: usedge boards predict rpi-5")
def predict(
    board: Annotated[str | None, typer.Argument(
        metavar="[BOARD]", help="Only this one, all variants.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle to predict; default: the shipped one.")] = None,
    tokens: Annotated[int | None, typer.Option(
        min=1, max=4096, help="Tokens of a pass, instead of the bundle's own.")] = None,
    as_json: AsJson = False,
) -> None:
    """How long a pass of the network should take on a board that is not at hand: predicted, not measured.

    The formula is tried on this host's own variants first; how far it is off there widens every bar.
    """
    from usedge.boards import every_board, load_board
    from usedge.boards.predict import core_of
    from usedge.runtime.outlook import outlook

    boards = [load_board(board)] if board else [each for each in every_board() if each.is_host]
    if board and core_of(boards[0]) is None:
        raise InputError(f"the profile of {boards[0].id} lacks a clock or rates: nothing can be predicted.",
                         "Boards with both: usedge boards predict")
    found = outlook(bundle, boards, tokens, every_variant=board is not None, say=_say)
    if _json(as_json):
        _print_json(found)
        return
    _print_prediction(found)


def _print_prediction(found: dict[str, Any]) -> None:
    here = _table("on this host", "p50 µs, measured", "by the formula", "off by", "speed / floor's")
    checked = {each["variant"]: each for each in found["host"]["check"]}
    for each in found["host"]["measured"]:
        own = checked.get(each["variant"], {})
        here.add_row(each["variant"], f"{each['p50_us']:.0f}", _cell(own.get("predicted_us"), ".0f"),
                     _cell(own.get("deviation"), "+.0%"), f"{each['efficiency']:.0%}")
    there = _table("board", "variant", "p50 ms, predicted", "from … to", "floor", "by instructions", names=2)
    before = ""
    for each in found["predictions"]:
        second = each["by_instructions"]
        there.add_row("" if each["board"] == before else each["board"], each["variant"], _ms(each["p50_us"]),
                      f"{_ms(each['fast_us'])} … {_ms(each['slow_us'])}", _ms(each["floor_us"]),
                      f"{_ms(second['fast_us'])} … {_ms(second['slow_us'])}" if second else "–")
        before = each["board"]
    whole = _table("board", "longest decision, ms, by instructions", "budget, p99, ms")
    for each in found["decisions"]:
        ends = each["longest_us"]
        whole.add_row(each["board"], f"{_ms(ends[0])} … {_ms(ends[1])}" if ends else "–",
                      _cell(each["budget_p99_ms"], "g"))
    _print_tables(here, there, whole)
    work = found["work"]
    typer.echo(f"One pass, one thread: {work['macs'] / 1e6:.1f} million multiply-accumulates,"
               f" {found['sizes']['tokens']} tokens. A reading takes {found['passes']}. No board was measured"
               " for this: usedge bench latency --board on yours does that.")


def _say(line: str) -> None:
    sys.stderr.write(f"usedge: {line}\n")


def _json(asked: bool) -> bool:
    return asked or not sys.stdout.isatty()


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps({"format_version": FORMAT_VERSION, **content}))


def _table(*headings: str, names: int = 1) -> Table:
    """A table whose first ``names`` columns hold what is there to be typed, and so is not broken."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable

    table = RichTable(box=SIMPLE_HEAD)
    for i, heading in enumerate(headings):
        table.add_column(heading, no_wrap=i < names, overflow="fold")
    return table


def _print_tables(*tables: Table) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    for each in tables:
        console.print(each)


def _summary(board: BoardProfile) -> dict[str, Any]:
    facts = board.to_dict()
    return {name: facts[name] for name in facts if name not in ("sources", "rates", "format_version")}


def _processor(board: BoardProfile) -> str:
    p = board.processor
    cores = f"{p.cores} × {p.core or p.arch}" if p.cores else p.core or p.arch
    return cores + (f", {p.clock_ghz:g} GHz" if p.clock_ghz else "")


def _budget(board: BoardProfile) -> str:
    budget = board.budget
    assert budget is not None
    return f"{budget.p99_ms:g} ms, {budget.rss_mb:g} / {budget.install_mb:g} MB"


def _ascans(board: BoardProfile) -> str:
    adc, links = board.adc, board.links
    parts = [f"{adc.bits} bits" if adc.bits else "", f"{adc.fs_hz / 1e6:g} MS/s" if adc.fs_hz else "",
             f"{adc.samples} samples" if adc.samples else "",
             f"{links.prf_hz:g} Hz at most" if links.prf_hz else ""]
    return ", ".join(filter(None, parts)) or "–"


def _listed(values: Any) -> str:
    return ", ".join(f"{each:g}" if isinstance(each, (int, float)) else str(each) for each in values) or "–"


def _value(value: Any) -> str:
    if not isinstance(value, list):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if any(isinstance(each, dict) for each in value):
        return "\n".join("; ".join(map(str, each.values())) for each in value)
    return _listed(value)


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _ms(us: float) -> str:
    return f"{us / 1e3:.2g}" if us < 1e4 else f"{us / 1e3:.0f}"
