"""`usedge service`, and what `usedge run` tells systemd over a real datagram socket."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import usedge.service as service_module
from usedge.cli import app
from usedge.cli import service as service_command
from usedge.errors import InputError, LinkError
from usedge.runtime.notify import Notifier
from usedge.service import Job, absolute, device_allow, quoted, unit, unreadable

DEADLINE_S = 60


class Systemd:
    """The end of NOTIFY_SOCKET where systemd listens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.heard: list[str] = []

    def hear(self, wait_s: float) -> str | None:
        self.socket.settimeout(wait_s)
        try:
            self.heard.append(self.socket.recv(4096).decode())
        except TimeoutError:
            return None
        return self.heard[-1]

    def until(self, words: str) -> str:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            said = self.hear(deadline - time.monotonic())
            if said is not None and words in said:
                return said
        raise AssertionError(f"no {words!r} in {self.heard}")


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    end = Systemd(tmp_path / "notify")
    yield end
    end.socket.close()


def test_a_run_says_that_it_is_ready_alive_how_it_goes_and_that_it_stops(systemd: Systemd) -> None:
    environ = {**os.environ, "NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "400000"}
    process = subprocess.Popen([sys.executable, "-m", "usedge", "run", "--port", "sim://?prf=50", "--runtime",
                                "classical"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               env=environ)
    assert systemd.until("READY=1").startswith("READY=1\n")
    said = ""
    while int(said.partition("STATUS=")[2].split()[0] or 0) < 5 if said else True:
        said = systemd.until("received")
    assert said.startswith("WATCHDOG=1\nSTATUS=")
    process.send_signal(signal.SIGTERM)
    systemd.until("STOPPING=1")
    _, talk = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130, talk
    while systemd.hear(0.01) is not None:
        pass
    assert sum("READY=1" in each for each in systemd.heard) == 1
    assert sum("STOPPING=1" in each for each in systemd.heard) == 1


def test_no_sign_of_life_while_a_stage_is_stuck(systemd: Systemd) -> None:
    alive = True
    environ = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "80000", "WATCHDOG_PID": str(os.getpid())}
    with Notifier(lambda: alive, lambda: "7 received", environ):
        systemd.until("WATCHDOG=1\nSTATUS=7 received")
        alive = False
        systemd.until("STATUS=stuck: 7 received")
        for _ in range(5):
            assert systemd.until("STATUS=").startswith("STATUS=stuck")
        alive = True
        systemd.until("WATCHDOG=1")
    systemd.until("STOPPING=1")


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_without_a_listener_nothing_happens(environ: dict[str, str]) -> None:
    with Notifier(lambda: True, lambda: "", environ) as notifier:
        notifier.stopping()


def test_an_abstract_socket_and_another_process_watchdog() -> None:
    name = f"usedge-test-{os.getpid()}"
    end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    end.bind("\0" + name)
    end.settimeout(DEADLINE_S)
    # systemd watches another process here: this one is to send no signs of life.
    environ = {"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "40000", "WATCHDOG_PID": "1"}
    with Notifier(lambda: True, lambda: "fine", environ):
        assert end.recv(4096).startswith(b"READY=1")
    assert end.recv(4096) == b"STOPPING=1"
    end.close()


def command(*words: str) -> Any:
    return CliRunner().invoke(app, ["service", *words])


def settings(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            found.setdefault(key, []).append(value)
    return found


def test_the_unit_is_locked_in_restarted_and_watched() -> None:
    result = command("--", "run", "--port", "/dev/ttyUSB0", "--sink", "jsonl:readings.jsonl",
                     "--gate", "a=1:2", "--gate", "b=3:4")
    assert result.exit_code == 0, result.exception
    found = settings(result.stdout)
    assert found["ExecStart"][0].endswith("usedge run --port /dev/ttyUSB0 --sink jsonl:readings.jsonl"
                                          " --gate a=1:2 --gate b=3:4")
    for key, value in {"Type": "notify", "WatchdogSec": "30", "Restart": "always", "DynamicUser": "yes",
                       "SupplementaryGroups": "dialout", "ProtectSystem": "strict",
                       "StateDirectory": "usedge", "DevicePolicy": "closed",
                       "DeviceAllow": "char-ttyUSB rw", "PrivateNetwork": "yes",
                       "RestartPreventExitStatus": "2", "StartLimitIntervalSec": "0"}.items():
        assert found[key] == [value], key


def verified(text: str, path: Path) -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    path.write_text(text)
    done = subprocess.run([program, "verify", str(path)], capture_output=True, text=True, timeout=DEADLINE_S,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.parametrize("words", [
    ("--port", "/dev/serial/by-id/usb-FTDI_FT232R-if00", "--sink", "mqtt://127.0.0.1/plant"),
    ("--port", "usb:0403:6001", "--speed-of-sound", "air@20+-0.5C,45%"),
    ("--port", "socket://127.0.0.1:4000", "--sink", "jsonl:a b.jsonl", "--gate", "x=1:2"),
    ("--port", "sim://?prf=20&seed=$HOME"),
])
def test_systemd_finds_nothing_to_object_to(tmp_path: Path, words: tuple[str, ...]) -> None:
    text = unit(Job((sys.executable, "-m", "usedge"), words, words[1], words[3:4]), systemd=252)
    assert verified(text, tmp_path / "usedge.service") == ""


def test_systemd_does_object_to_a_unit_that_is_wrong(tmp_path: Path) -> None:
    text = unit(Job(("/nowhere/usedge",), ("--port", "sim://"), "sim://"), systemd=252)
    with pytest.raises(AssertionError, match="nowhere"):
        verified(text, tmp_path / "usedge.service")


def test_backoff_where_systemd_knows_it() -> None:
    job = Job(("/usr/bin/usedge",), ("--port", "sim://"), "sim://")
    assert "RestartMaxDelaySec=60" in unit(job, systemd=254)
    assert "RestartMaxDelaySec=60" in unit(job, systemd=None)
    assert "RestartMaxDelaySec" not in unit(job, systemd=252)


@pytest.mark.parametrize(("port", "allowed"), [
    ("/dev/ttyUSB1", ["char-ttyUSB"]), ("/dev/ttyACM0", ["char-ttyACM"]), ("/dev/ttyAMA0", ["char-ttyAMA"]),
    ("/dev/serial/by-id/ttyS", ["char-ttyUSB", "char-ttyACM"]),
    ("/dev/usedge0", ["char-ttyUSB", "char-ttyACM"]), ("usb:0403:6001", ["char-ttyUSB", "char-ttyACM"]),
    ("sim://", []), ("socket://h:1", []), ("replay:/dev/x", []),
])
def test_a_run_may_open_its_kind_of_port_and_no_other_device(port: str, allowed: list[str]) -> None:
    assert device_allow(port) == allowed
    text = unit(Job(("/usr/bin/usedge",), ("--port", port), port))
    assert ("PrivateDevices=yes" in text) == (not allowed)


def test_words_are_quoted_as_systemd_reads_them() -> None:
    assert quoted("plain/word:1=2") == "plain/word:1=2"
    assert quoted("45%") == '"45%%"'
    assert quoted("$HOME") == '"$$HOME"'
    assert quoted('a "b" \\c') == '"a \\"b\\" \\\\c"'
    with pytest.raises(InputError, match="control characters"):
        quoted("a\nExecStartPre=/bin/rm")


def test_files_are_named_so_that_they_are_found_from_another_folder(tmp_path: Path) -> None:
    tank = Path("tank.json")
    words = absolute(["--calibration", "tank.json", "--bundle=tank.json", "--gate", "1:2"], [tank])
    assert words == ("--calibration", str(tank.absolute()), f"--bundle={tank.absolute()}", "--gate", "1:2")


def test_what_a_stranger_may_not_read_is_named(tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o700)
    (shut / "file").write_text("x")
    assert unreadable(Path("/etc/passwd")) is None
    assert unreadable(shut / "file") in (tmp_path, *tmp_path.parents, shut)


@pytest.mark.parametrize(("words", "told"), [
    (("--port", "sim://", "--bundle", "none.usedge"), "there is no file none.usedge"),
    (("--port", "/dev/ttyUSB0", "--name"), None), (("--nonsense", "1"), None), ((), None),
])
def test_a_run_that_would_not_start_is_refused_at_once(words: tuple[str, ...], told: str | None) -> None:
    process = subprocess.run([sys.executable, "-m", "usedge", "service", "--", "run", *words],
                             capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert process.returncode == 2
    assert process.stdout == ""
    assert len(process.stderr.splitlines()) == 1, process.stderr
    assert told is None or told in process.stderr


def test_what_the_service_could_not_write_or_would_flood_is_told() -> None:
    result = command("--", "run", "--port", "sim://", "--record", "/home/anna/a.usrec")
    assert "may not write /home/anna/a.usrec" in result.stderr
    assert "journal" in result.stderr
    assert "Type=notify" in result.stdout
    assert isinstance(command("--name", "a/b", "--", "run", "--port", "sim://").exception, InputError)


def test_installing_needs_root_and_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["usedge", "service", "--install", "--", "run", "--port", "sim://"])
    error = command("--install", "--", "run", "--port", "sim://").exception
    assert isinstance(error, InputError)
    assert "needs root. Run: sudo " in str(error)
    assert "service --install -- run --port" in str(error)


@pytest.fixture
def installable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for units, a systemctl that writes down what it is told, and nothing that a stranger minds."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "systemd 257 (257.5)" && exit\n'
                       f'echo "$@" >> {tmp_path}/told\n'
                       f'[ ! -e {tmp_path}/broken ] || {{ echo sick >&2; exit 1; }}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(service_module, "UNIT_FOLDER", tmp_path)
    monkeypatch.setattr(service_module, "unreadable", lambda _: None)
    monkeypatch.setattr(service_command, "SYSTEMD_RUNS", tmp_path)
    return tmp_path


INSTALL = ("--install", "--", "run", "--port", "/dev/ttyACM0", "--sink", "jsonl:r.jsonl")


def test_installing_writes_enables_and_starts(installable: Path) -> None:
    for _ in range(2):  # an installed one is replaced
        assert command(*INSTALL).exception is None
    text = (installable / "usedge.service").read_text()
    assert "DeviceAllow=char-ttyACM rw" in text
    assert "RestartMaxDelaySec=60" in text
    told = (installable / "told").read_text().splitlines()
    assert told == ["daemon-reload", "enable usedge", "restart usedge"] * 2


def test_a_unit_of_someone_else_is_left_alone(installable: Path) -> None:
    (installable / "usedge.service").write_text("[Service]\nExecStart=/bin/true\n")
    assert "not written by usedge" in str(command(*INSTALL).exception)
    assert not (installable / "told").exists()


def test_a_systemctl_that_fails_is_heard(installable: Path) -> None:
    (installable / "broken").touch()
    error = command(*INSTALL).exception
    assert isinstance(error, LinkError)
    assert "daemon-reload failed: sick" in str(error)


def test_what_cannot_work_is_not_installed(installable: Path) -> None:
    error = command(*INSTALL, "--record", "/tmp/a.usrec").exception
    assert "may not write /tmp/a.usrec" in str(error)
    assert not (installable / "usedge.service").exists()
