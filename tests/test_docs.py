"""What the README and the commands' help say is so."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from usedge.ascan import AScan
from usedge.cli import app, known_commands
from usedge.ranging import Ranging
from usedge.reading import make_reading
from usedge.runtime.picker import load_model_picker
from usedge.synth import FS_HZ, generate

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [path for path in [*ROOT.glob("*.md"), *ROOT.glob("*/*.md")] if ".venv" not in path.parts]
ROOMS = ("usedge", "firmware_bridge", "export", "benchmarks", "tests", "boards")


def help_of(*command: str) -> str:
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("command", sorted(known_commands()))
def test_every_command_explains_itself_and_ends_with_an_example(command: str) -> None:
    last_paragraph = help_of(command).strip().split("\n\n")[-1]
    assert last_paragraph.strip().startswith(f"Example: usedge {command}")


def usedge_lines(text: str) -> list[str]:
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("usedge ")]


@pytest.mark.parametrize(("page", "line"), [(page.name, line) for page in PAGES
                                            for line in usedge_lines(page.read_text())])
def test_every_documented_command_line_names_real_options(page: str, line: str) -> None:
    command = line.split()[1]
    assert command in known_commands(), page
    own, _, run = line.partition(" -- run ")  # a service's line holds a run's
    # The second word may be a command of a group; help of any other is that of the first.
    words = [word for word in line.split()[1:3] if not word.startswith("-")]
    for part, text in ((own, help_of(*words)), (run, help_of("run"))):
        for option in re.findall(r"(?<![^ ])--[a-z0-9-]+", part):
            assert option in text, f"{page}: {line}"


def test_readme_sections_stand_in_the_promised_order() -> None:
    headings = re.findall(r"^## (.*)$", README, re.MULTILINE)
    assert headings == ["Two commands", "Your own board in five minutes", "Train and export", "Benchmarks",
                        "The rooms"]


def test_every_link_to_a_file_leads_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_room_has_a_readme() -> None:
    for room in ROOMS:
        assert (ROOT / room / "README.md").read_text().startswith(f"# {room}")


def test_readme_table_is_that_of_the_stored_report() -> None:
    script = ROOT / "docs" / "figures.py"
    process = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True,
                             check=False)
    assert process.returncode == 0, process.stdout + process.stderr


def test_the_reading_in_the_readme_is_what_the_shipped_bundle_says() -> None:
    shown = json.loads(re.search(r"```json\n(.*?)\n```", README, re.DOTALL)[1])  # type: ignore[index]
    samples = generate("field", 128, 0).x[shown["seq"]]  # what sim:// sends without options
    ascan = AScan(samples, FS_HZ, seq=shown["seq"])
    reading = make_reading(ascan, load_model_picker().pick(ascan), 0, Ranging(1482.0)).to_dict()
    assert list(shown) == list(reading)
    assert shown["tof_us"] == pytest.approx(reading["tof_us"], abs=0.05)
    assert shown["distance_mm"] == pytest.approx(reading["distance_mm"], abs=0.05)
    assert shown["label"] == reading["label"]


def test_no_module_is_too_long() -> None:
    for path in ROOT.glob("**/*.py"):
        if not {".venv", "runs", "build"} & set(path.relative_to(ROOT).parts):
            assert len(path.read_text().splitlines()) <= 500, path
