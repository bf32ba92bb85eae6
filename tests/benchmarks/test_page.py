"""Reports as pages: every suite has one, nothing is loaded from elsewhere, no text of a report is markup."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.benchmarks.made_reports import every_report, latency_report
from usedge.cli import app
from usedge.errors import InputError, MissingExtraError
from usedge_bench.page import canvas
from usedge_bench.page.document import page, table
from usedge_bench.page.plots import PLOTS
from usedge_bench.reports.read import Report, checked
from usedge_bench.reports.shapes import SHAPES

matplotlib = pytest.importorskip("matplotlib", reason="pages are drawn by matplotlib, the extra `bench`")
EMPTY = {"meta", "path", "use", "br", "rect", "line", "circle", "polyline", "polygon", "image"}
EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)> $x^2$ </style>'


class Read(HTMLParser):
    """What a page holds: tags that close, texts, ids; an assertion error where a tag closes another one."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found[name] or "" for name in ("href", "src", "xlink:href") if name in found]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in EMPTY:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if not self.open or self.open[-1] != "style" else ""


@pytest.fixture(scope="module")
def pages() -> dict[str, tuple[Report, str]]:
    return {suite: (report, page(report)) for suite, report in every_report().items()}


def test_every_suite_has_plots_and_made_reports_have_all_of_them() -> None:
    assert set(PLOTS) == set(SHAPES) == set(every_report())


@pytest.mark.parametrize("suite", SHAPES)
def test_a_page_stands_alone(pages: dict[str, tuple[Report, str]], suite: str) -> None:
    report, text = pages[suite]
    found = Read(text)
    assert "svg" in found.tags
    assert not {"script", "link", "iframe", "img", "image", "object"} & set(found.tags)
    assert all(link.startswith("#") and link[1:] in found.ids for link in found.links)
    assert len(found.ids) == len(set(found.ids))
    assert re.findall(r"url\((?!#)", text) == []
    assert "//" not in re.sub(r'xmlns(:xlink)?="http://www\.w3\.org/[^"]*"|sim://', "", text)
    assert f"usedge bench {suite}" in found.text
    assert report["host"]["cpu"] in found.text


@pytest.mark.parametrize("suite", SHAPES)
def test_colours_and_fonts_are_the_pages(pages: dict[str, tuple[Report, str]], suite: str) -> None:
    body = pages[suite][1].partition("</style>")[2]
    assert "var(--s0)" in body
    # A colour that the style sheet does not know would vanish on one of the two grounds.
    assert re.findall(r"#[0-9a-f]{6}", body) == []
    assert "DejaVu" not in body


def test_what_a_latency_page_shows(pages: dict[str, tuple[Report, str]]) -> None:
    text = Read(pages["latency"][1]).text
    for words in ("Do the rounds agree?", "the machine's pace", "1100 – 1500 µs, 19 of 20 times",
                  "3 rounds one behind the other", "Share of A-scans within a time",
                  "Wire to reading over the run", "Where the time goes",
                  "The network alone, by runtime", "99 %", "wire_to_reading", "onnxruntime-fp32", "stable"):
        assert words in text


def test_what_the_other_pages_show(pages: dict[str, tuple[Report, str]]) -> None:
    for suite, words in (("accuracy", "by SNR"), ("accuracy", "< 10"), ("openloop", "Deadline misses"),
                         ("openloop", "never"), ("memory", "Resident memory"), ("soak", "Resident memory"),
                         ("startup", "usedge, cold"), ("throughput", "first loss"), ("sinks", "+0.030")):
        assert words in Read(pages[suite][1]).text, words


def test_an_unstable_or_failed_run_says_so_at_its_head() -> None:
    report = latency_report(1, stable=False, unstable_because=["a browser was open"])
    text = Read(page(report)).text
    assert text.index("a browser was open") < text.index("Plots")
    failed = checked({**every_report()["soak"], "failed": ["unaccounted 3"]}, "made up")
    assert "unaccounted 3" in Read(page(failed)).text


def evil(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: evil(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [evil(each, key) for each in value]
    fixed = key in ("suite", "contender", "start", "source", "key", "against") or value in ("native-int8",)
    return f"{value}{EVIL}" if isinstance(value, str) and not fixed else value


@pytest.mark.parametrize("suite", SHAPES)
def test_no_text_of_a_report_is_markup(suite: str) -> None:
    report = checked(evil(every_report()[suite]), "made up")
    for free in ("values_us", "values_peers_us", "curves", "values_s", "added_cores"):
        if isinstance(report.get(free), dict):
            report[free] = {f"{name}{EVIL}" if name not in ("wire_to_reading",) and suite not in (
                "memory", "startup") else name: each for name, each in report[free].items()}
    text = page(report)
    found = Read(text)
    assert not {"script", "img"} & set(found.tags)
    assert found.tags.count("style") == 1
    assert "alert(1)" in found.text
    assert "$x^2$" in found.text


def test_a_column_of_numbers_alone_stands_to_the_right() -> None:
    shown = table(["name", "µs", "said"], [["a", "1,000", "10 – 20 s"], ["b", "–", "well"]])
    assert re.findall(r'<td class="number">(.*?)</td>', shown) == ["1,000", "–"]
    assert re.findall(r"<td>(.*?)</td>", shown) == ["10 – 20 s", "well"]
    assert re.findall(r'<td class="whole">(.*?)</td>', shown) == ["a", "b"]
    assert "whole" not in table(["name"], [["a name of some length"]])


def test_a_run_on_another_machine_shows_no_empty_budget() -> None:
    board = {"board": "rpi-5", "counts": False, "why": "this machine is rpi-4b", "lines": []}
    found = Read(page(latency_report(1, board=board)))
    assert "This does not count for rpi-5, and nothing was judged." in found.text
    assert "budget of rpi-5" not in found.text


def test_many_parts_of_a_run_are_shown_when_asked_for() -> None:
    report = every_report()["memory"]
    assert "<details>" not in page(report)
    one = report["conditions"]["parts"][0]
    parts = [one | {"part": f"part {k}", "others_cores": k / 100} for k in range(20)]
    found = Read(page(report | {"conditions": report["conditions"] | {"parts": parts}}))
    assert "20 parts: at most 0.19 cores by others" in found.text
    assert "part 7" in found.text


def test_the_command_writes_the_page_of_a_stored_report(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(latency_report(1)))
    result = CliRunner().invoke(app, ["bench", "html", str(tmp_path / "a.json"), str(tmp_path / "a.html")])
    assert result.exit_code == 0, result.output
    Read((tmp_path / "a.html").read_text())


def test_a_suite_writes_its_page_in_the_same_run(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text('kind = "link"\nsamples = 500\nascans = 4\nrounds = 2\nseed = 8\n'
                                         "floor_4096 = 0.0\nfloor_64 = 0.0\nfloor_rice = 0.0\n")
    process = subprocess.run(
        [sys.executable, "-m", "usedge", "bench", str(tmp_path / "small.toml"), "--html",
         str(tmp_path / "link.html")], capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    assert "usfp, Python, 4096 B reads" in Read((tmp_path / "link.html").read_text()).text


def test_what_cannot_be_written_is_told_before_anything_runs(tmp_path: Path) -> None:
    for option in ("--json", "--html"):
        result = CliRunner().invoke(app, ["bench", "link", option, str(tmp_path / "none" / "x")])
        assert isinstance(result.exception, InputError)
        assert "cannot be written" in str(result.exception)


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"usedge\[bench\]"):
        canvas.need_matplotlib()
    result = CliRunner().invoke(app, ["bench", "link", "--html", str(tmp_path / "a.html")])
    assert isinstance(result.exception, MissingExtraError)


def test_comparing_needs_no_matplotlib() -> None:
    code = ("import sys; import usedge_bench.commands.compare, usedge_bench.reports.compare,"
            " usedge_bench.cli; sys.exit('matplotlib' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
