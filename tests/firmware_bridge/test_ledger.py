"""The fault ledger: its lines, its totals, and that a cut or changed one is known for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from usedge_firmware.faults import FaultPlan
from usedge_firmware.injector import Injector
from usedge_firmware.ledger import FORMAT, Ledger, LedgerError, read_ledger


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.jsonl"
    plan = FaultPlan.parse("flip=0.3,drop=0.2,duplicate=0.2")
    ledger = Ledger(seed=5, plan=str(plan), path=path)
    injector = Injector(plan, seed=5, ledger=ledger)
    for seq in range(50):
        injector.send(bytes(100), seq)
    ledger.close()
    ledger.close()
    return path


def test_header_lines_and_totals_agree(written: Path) -> None:
    header, lines, totals = read_ledger(written)
    assert header == {"format": FORMAT, "version": 1, "seed": 5, "plan": "flip=0.3,drop=0.2,duplicate=0.2"}
    assert totals["sent"] == 50 == totals["intact"] + totals["damaged"] + totals["dropped"]
    for fate in ("damaged", "dropped"):
        assert sum(line.get("fate") == fate for line in lines) == totals[fate] > 0
    assert sum(line.get("copies", 0) for line in lines) == totals["copies"] > 0
    for name, count in totals["faults"].items():
        assert sum(line.get("fault") == name for line in lines) == count > 0
    flip = next(line for line in lines if line.get("fault") == "flip")
    assert flip.keys() == {"frame", "seq", "fault", "at", "size"}
    assert 0 <= flip["at"] < 100
    assert 1 <= flip["size"] <= 8


def test_it_is_written_as_it_happens(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(seed=1, plan="", path=path)
    ledger.fault(0, 0, "flip", at=3, size=1)
    ledger.note("a host that does not read", size=12)
    assert [json.loads(line) for line in path.read_text().splitlines()][1:] == [
        {"frame": 0, "seq": 0, "fault": "flip", "at": 3, "size": 1},
        {"note": "a host that does not read", "size": 12},
    ]
    with pytest.raises(LedgerError, match="cut short"):
        read_ledger(path)
    ledger.close()
    assert read_ledger(path)[2]["faults"] == {"flip": 1}


def test_every_cut_and_every_changed_line_shows(written: Path) -> None:
    content = written.read_bytes()
    for end in range(0, len(content) - 1, 7):
        written.write_bytes(content[:end])
        with pytest.raises(LedgerError):
            read_ledger(written)
    lines = content.splitlines(keepends=True)
    for i in range(len(lines) - 1):
        written.write_bytes(b"".join(lines[:i] + lines[i + 1 :]))
        with pytest.raises(LedgerError):
            read_ledger(written)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"no json\n{}\n", b'{"format": "x", "version": 1}\n{}\n', b"1\n2\n"]
)
def test_what_is_no_ledger_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(LedgerError, match="x"):
        read_ledger(tmp_path / "x")


def test_a_ledger_of_a_later_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usedge_firmware.ledger.VERSION", 2)
    Ledger(seed=1, plan="", path=tmp_path / "x").close()
    monkeypatch.undo()
    with pytest.raises(LedgerError, match="of version 1"):
        read_ledger(tmp_path / "x")


def test_a_file_that_cannot_be_made_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Ledger(seed=1, plan="", path=tmp_path / "none" / "x")
