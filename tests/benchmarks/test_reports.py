"""Stored reports: those in the repository read, and what is wrong with a file is told in one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.benchmarks.made_reports import every_report
from usedge.cli import app
from usedge.errors import InputError
from usedge_bench.page.document import shown
from usedge_bench.reports.keys import Each, first_fault
from usedge_bench.reports.read import Report, checked, parsed, read_report
from usedge_bench.reports.shapes import SHAPES
from usedge_bench.suite import KINDS

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
STORED = [path for path in sorted(RESULTS.glob("**/*.json")) if '"suite"' in path.read_text()[:200]]


def latency() -> Report:
    report: Report = json.loads((RESULTS / "latency.json").read_text())
    return report


def test_reports_are_stored() -> None:
    assert {"latency.json", "link.json", "training.json"} <= {path.name for path in STORED}


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.name)
def test_every_stored_report_reads_and_has_figures(path: Path) -> None:
    report = read_report(path)
    names = [figure.name for figure in SHAPES[report["suite"]].figures(report)]
    assert names
    assert len(names) == len(set(names))
    assert shown(report).count("|") > 20


def test_every_suite_has_a_shape() -> None:
    assert set(KINDS) <= set(SHAPES)


@pytest.mark.parametrize(("change", "words"), [
    ({"format_version": 2}, ["format version 2", "latency up to version 1", "Update usedge"]),
    ({"format_version": "1"}, ["format version '1'", "Update usedge"]),
    ({"format_version": True}, ["format version True"]),
    ({"suite": "latancy"}, ["unknown suite 'latancy'", "nearest known: latency"]),
    ({"suite": ["latency"]}, ["unknown suite"]),
    ({"stabel": True}, ["stabel is unknown", "nearest known: stable"]),
    ({"stages": {}}, ["stages.decode is missing"]),
    ({"peak_rss_mb": "44"}, ["peak_rss_mb is '44', not a number"]),
    ({"stable": 1}, ["stable is 1, not true or false"]),
    ({"peers": {}}, ["peers is a table of keys, not a list"]),
    ({"host": None}, ["host is None, not a table of keys"]),
    ({"values_us": {"infer": [1.0, "x"]}}, ["values_us.infer[1] is 'x', not a number"]),
    ({"throughput": {"ascans_per_s": True, "dropped": 0, "received": 0}}, ["ascans_per_s is True, not a"]),
    ({"version": "9.0", "stabel": True}, ["written by usedge 9.0", "update the older one"]),
])
def test_a_fault_is_told_with_its_place_and_the_next_step(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as told:
        checked(latency() | change, "a.json")
    assert "\n" not in str(told.value)
    assert str(told.value).startswith("a.json")
    for word in words:
        assert word in str(told.value)


@pytest.mark.parametrize(("content", "words"), [
    (b"", "is not JSON"),
    (b"nonsense", "is not JSON"),
    (b"\xff\xfe\x00", "is not a text file"),
    (b"[1, 2]", "names no suite"),
    (b'{"files": []}', "names no suite"),
    (b"[" * 100_000, "is not JSON|was cut off"),
    (b'{"suite": "latency", "format_version": NaN}', "NaN is no number"),
])
def test_a_file_that_is_no_report_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_report(tmp_path / "a.json")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_off_is_told_from_others(part: float) -> None:
    text = (RESULTS / "link.json").read_text()
    cut = text[: int(part * len(text))].rstrip("0123456789. ,-")
    with pytest.raises(InputError, match=r"a\.json (ends in the middle|is not JSON)"):
        parsed(cut, "a.json")
    with pytest.raises(InputError, match="was cut off"):
        parsed(text.rstrip()[:-1], "a.json")


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(InputError, match=r"no\.json cannot be read \(No such file"):
        read_report(Path("no.json"))


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    found = enumerate(value[:2]) if isinstance(value, list) else ()
    for key, each in value.items() if isinstance(value, dict) else found:
        yield (*at, key)
        yield from places(each, (*at, key))


def changed(report: Report, at: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Report:
    report = copy.copy(report)
    holder: Any = report
    for key in at[:-1]:
        holder[key] = copy.copy(holder[key])
        holder = holder[key]
    change(holder, at[-1])
    return report


@pytest.mark.parametrize("suite", SHAPES)
def test_no_damage_to_a_report_ends_in_a_traceback(suite: str) -> None:
    report = every_report()[suite]

    def put(value: Any) -> Callable[[Any, Any], None]:
        return lambda holder, key: holder.__setitem__(key, value)

    refused = 0
    for at in places(report):
        for change in (put(None), put(0), put([]), put({}), put("x"), lambda holder, key: holder.pop(key)):
            try:
                found = checked(changed(report, at, change), "a.json")
            except InputError:
                refused += 1
            else:
                list(SHAPES[found["suite"]].figures(found))
                shown(found)
    assert refused > 100


def test_a_description_of_keys_is_what_it_says() -> None:
    wanted = {"a": "count", "b?": ["number?"], "c?": Each({"d": "text"})}
    assert first_fault({"a": 1, "b": [None, 2.5], "c": {"any?": {"d": ""}}}, wanted) is None
    for wrong, at in (({}, "a"), ({"a": 1.5}, "a"), ({"a": None}, "a"), ({"a": 1, "b": ["x"]}, "b[0]"),
                      ({"a": 1, "c": {"x": {"e": ""}}}, "c.x.e"), ({"a": 1, "c": {"x": 3}}, "c.x")):
        fault = first_fault(wrong, wanted)
        assert fault is not None
        assert fault.at == at


def test_the_command_says_one_line_and_ends_with_status_2(tmp_path: Path) -> None:
    (tmp_path / "new.json").write_text(json.dumps(latency() | {"format_version": 7}))
    result = CliRunner().invoke(app, ["bench", "compare", str(tmp_path / "new.json"),
                                      str(RESULTS / "latency.json")])
    assert isinstance(result.exception, InputError)
    assert result.exception.exit_code == 2
    assert "format version 7" in str(result.exception)
