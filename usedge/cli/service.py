"""``usedge service``: a run as a systemd unit, printed or installed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from usedge.cli.options import new_app
from usedge.errors import InputError, LinkError

if TYPE_CHECKING:
    from usedge.service import Job

READS = ("bundle", "require_signature", "reference", "calibration")
WRITES = ("record", "summary")
SYSTEMD_RUNS = Path("/run/systemd/system")
PATIENCE_S = 60

app = new_app()


@app.command(epilog="Example: usedge service -- run --port /dev/ttyUSB0 --sink jsonl:readings.jsonl")
def service(
    words: Annotated[list[str], typer.Argument(metavar="RUN", help="After --: a usedge run as it is typed.")],
    install: Annotated[bool, typer.Option(
        "--install", help="Write, enable and start the unit; as root.")] = False,
    name: Annotated[str, typer.Option(help="Name of the unit, and of its folder in /var/lib.")] = "usedge",
    group: Annotated[str, typer.Option(help="Group that may open serial ports.")] = "dialout",
    watchdog_s: Annotated[int, typer.Option(min=15, help="Seconds without a move before a restart.")] = 30,
) -> None:
    """Print a hardened systemd unit that keeps a run going, or install it."""
    from usedge.service import unit

    job = _job(words, group)
    if install:
        _check_root(name)
    text = unit(job, name, watchdog_s, _systemd_version())
    troubles = list(_troubles(job, name))
    if not job.sinks:
        sys.stderr.write("usedge: readings go to the journal, which drops what comes too fast; a --sink takes"
                         " them to a file or a server.\n")
    if not install:
        sys.stdout.write(text)
        for trouble in troubles:
            sys.stderr.write(f"usedge: {trouble}\n")
        return
    if troubles:
        raise InputError(troubles[0])
    _install(text, name)


def _job(words: list[str], group: str) -> Job:
    """The run that ``words`` describe; raises what ``usedge run`` would of options that it does not know."""
    from usedge.service import Job, absolute

    while words and words[0] in ("usedge", "run"):
        words = words[1:]
    options = _run_options(words)
    reads = [Path(options[each]) for each in READS if options.get(each)]
    for path in reads:
        if not path.is_file():
            raise InputError(f"there is no file {path}.", "Give the unit files that are there.")
    return Job(_program(), absolute(words, reads), options["port"], tuple(options.get("sink") or ()), group,
               tuple(each.absolute() for each in reads))


def _run_options(words: list[str]) -> dict[str, Any]:
    from usedge.cli.run import app as run_app

    command = typer.main.get_command(run_app)
    options: dict[str, Any] = command.make_context("run", list(words)).params
    return options


def _program() -> tuple[str, ...]:
    script = Path(sys.executable).with_name("usedge")
    return (str(script),) if script.is_file() else (sys.executable, "-m", "usedge")


def _troubles(job: Job, name: str) -> Iterator[str]:
    """What will keep the service from working, and what to do about each."""
    from usedge.service import FILE_SINKS, STATE_FOLDER, unreadable

    shut = unreadable(Path(job.program[0])) or unreadable(Path(sys.executable))
    if shut is not None:
        yield (f"a service's user may not read {shut}. Install usedge in a virtual environment where all may,"
               " such as /opt/usedge, and use /opt/usedge/bin/usedge service.")
    for path in job.reads:
        shut = unreadable(path)
        if shut is not None:
            yield (f"a service's user may not read {shut}. Put {path.name} in /etc/{name}, readable by all,"
                   " and name it there.")
    options = _run_options(list(job.words))
    written = [str(options[each]) for each in WRITES if options.get(each)]
    written += [each.partition(":")[2] for each in job.sinks if each.partition(":")[0] in FILE_SINKS]
    folder = STATE_FOLDER / name
    for each in written:
        if each.startswith("/") and not Path(each).is_relative_to(folder):
            yield f"a service may not write {each}. Give a name without a folder; it lies in {folder} then."


def _check_root(name: str) -> None:
    if os.geteuid() != 0:
        line = shlex.join([*_program(), *sys.argv[1:]])
        raise InputError(f"installing {name}.service needs root.", f"Run: sudo {line}")
    if not SYSTEMD_RUNS.is_dir():
        raise InputError("systemd does not run this machine.", "Without --install the unit is printed.")


def _install(text: str, name: str) -> None:
    from usedge.files import write_whole
    from usedge.service import OURS, UNIT_FOLDER

    path = UNIT_FOLDER / f"{name}.service"
    if path.exists() and not path.read_text(errors="replace").startswith(OURS):
        raise InputError(f"{path} is there and was not written by usedge.", "Choose another --name.")
    write_whole(path, text.encode())
    path.chmod(0o644)
    for words in (("daemon-reload",), ("enable", name), ("restart", name)):
        _systemctl(*words)
    sys.stderr.write(f"usedge: {path} is written, enabled and started. See it: systemctl status {name};"
                     f" journalctl -u {name} -f\n")


def _systemctl(*words: str) -> None:
    try:
        done = subprocess.run(["systemctl", *words], capture_output=True, text=True, timeout=PATIENCE_S,
                              check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LinkError(f"systemctl {' '.join(words)} cannot be run ({error}).",
                        "Is systemd sound?") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise LinkError(f"systemctl {' '.join(words)} failed: {said}", "See: journalctl -xe")


def _systemd_version() -> int | None:
    """The version of this machine's systemd; None where it has none, or does not say."""
    try:
        done = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, timeout=PATIENCE_S,
                              check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.match(r"systemd (\d+)", done.stdout)
    return int(found[1]) if found else None
