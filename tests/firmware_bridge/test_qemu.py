"""Real firmware on emulated boards: every A-scan that leaves the UART is the one in its flash."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

DEADLINE_S = 60.0
TOOLS = ("qemu-system-arm", "arm-none-eabi-gcc", "make")


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    missing = [each for each in TOOLS if shutil.which(each) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} missing (make qemu-tools): no board can be emulated here")
    if not hasattr(os, "openpty"):
        pytest.skip("no pseudo-terminals on this system: no board can be emulated here")


@pytest.fixture(scope="module")
def folder(room: Path) -> Path:
    return room / "ports/qemu"


@pytest.fixture(scope="module")
def runner(folder: Path) -> Iterator[ModuleType]:
    """Load run.py as it is, under a name of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        spec = importlib.util.spec_from_file_location("usedge_qemu_run", folder / "run.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def kernels(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every firmware, in a folder of this run alone: it tells our emulators from anybody else's."""
    build = tmp_path_factory.mktemp("kernels")
    command = ["make", "-C", str(folder), f"BUILD={build}", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    return build


def processes_with(text: str) -> list[int]:
    """Processes of this machine whose command line has ``text`` in it, other than our own."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            command = (each / "cmdline").read_bytes().decode(errors="replace")
            # A zombie has an empty command line: it has ended, whoever has not yet asked for its status.
            if text in command and int(each.name) != os.getpid():
                found.append(int(each.name))
        except OSError:
            continue
    return found


def await_true(question: Callable[[], object]) -> bool:
    deadline = time.monotonic() + DEADLINE_S
    while not question():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_three_boards_stream_200_ascans_each(runner: ModuleType, kernels: Path) -> None:
    outcomes = runner.stream(runner.BOARDS, runner.Task(prf_hz=20.0, count=200, kernels=kernels))
    for each in outcomes:
        assert not each.faults, str(each)
        assert (each.ascans, each.equal) == (200, 200)
    assert [each.board for each in outcomes] == list(runner.BOARDS)
    assert processes_with(str(kernels)) == []


@pytest.mark.parametrize("payload", ["packed12", "rice"])
def test_coded_payloads_carry_the_same_samples(runner: ModuleType, kernels: Path, payload: str) -> None:
    (found,) = runner.stream(["microbit"], runner.Task(count=16, payload=payload, kernels=kernels))
    assert not found.faults, str(found)
    assert found.wire_bytes < 16 * 2 * runner.table.N_SAMPLES


def test_every_boot_has_a_session_of_its_own(runner: ModuleType, kernels: Path) -> None:
    boots = [runner.stream(runner.BOARDS, runner.Task(count=1, kernels=kernels)) for _ in range(2)]
    sessions = [each.session_id for outcomes in boots for each in outcomes]
    assert 0 not in sessions
    assert len(set(sessions)) == len(sessions)


def test_a_row_that_differs_fails_the_run(
    runner: ModuleType, kernels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = runner.table.payloads()
    rows[5] = bytes([rows[5][0] ^ 1]) + rows[5][1:]
    arguments = ["mps2-an385", "--count", "16", "--kernels", str(kernels)]
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert runner.main(arguments, rows) == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    told = capsys.readouterr().out
    assert "16 A-scans, 15 hashes equal" in told
    assert "hashes equal to the table's: 15, not 16" in told


def test_a_board_that_does_not_come_up_is_named(runner: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(runner.BoardError, match=r"microbit\.elf is missing"):
        runner.stream(["microbit"], runner.Task(kernels=tmp_path))
    (tmp_path / "nonesuch.elf").write_bytes(b"no firmware")
    with pytest.raises(runner.BoardError, match=r"nonesuch: the emulator told no port; .*machine type"):
        runner.stream(["nonesuch"], runner.Task(kernels=tmp_path))


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="no /proc on this system")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_runner_that_dies_leaves_no_emulator(folder: Path, kernels: Path, how: signal.Signals) -> None:
    script, quiet = str(folder / "run.py"), subprocess.DEVNULL
    command = [sys.executable, script, "microbit", "--count", "100000", "--kernels", str(kernels)]
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=folder.parents[1])
    try:
        assert await_true(lambda: len(processes_with(f"kernel\0{kernels}")) >= 1)
        process.send_signal(how)
        assert process.wait(DEADLINE_S) != 0
        assert await_true(lambda: not processes_with(str(kernels)))
    finally:
        process.kill()
        process.wait()
