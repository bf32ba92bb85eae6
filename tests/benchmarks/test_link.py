"""The link suite on small numbers: same A-scans for all, floors that fail, COBS where it is installed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from usedge.errors import InputError
from usedge_bench.link import Contender, _pass
from usedge_bench.report import as_table
from usedge_bench.suite import LinkSuite, load_suite

SMALL = """kind = "link"
samples = 500
ascans = 6
rounds = 2
seed = 8
floor_4096 = {floor}
floor_64 = 0.0
floor_rice = 0.0
"""


def bench(folder: Path, floor: float) -> tuple[int, dict[str, Any], str]:
    (folder / "small.toml").write_text(SMALL.format(floor=floor))
    process = subprocess.run(
        [sys.executable, "-m", "usedge", "bench", str(folder / "small.toml"),
         "--json", str(folder / "out.json")], capture_output=True, text=True, timeout=300, check=False,
    )
    return process.returncode, json.loads((folder / "out.json").read_text()), process.stderr


def test_every_decoder_takes_its_turn_and_every_pass_is_stored(tmp_path: Path) -> None:
    code, report, said = bench(tmp_path, 0.0)
    assert code == 0, said
    rows = {row["name"]: row for row in report["decoders"]}
    assert {"usfp, Python, 4096 B reads", "usfp, Python, 64 B reads", "delta-rice payload to samples, numpy",
            "wulpus, Python, 4096 B reads"} <= set(rows)
    assert {len(values) for values in report["values_per_s"].values()} == {2}
    for row in rows.values():
        assert 0 < row["min_per_s"] <= row["median_per_s"] <= row["max_per_s"]
    assert rows["packed12 payload to samples, numpy"]["bytes_per_ascan"] == 750
    assert rows["delta-rice payload to samples, numpy"]["bytes_per_ascan"] < 750
    assert as_table(report).count("\n") > len(rows)


@pytest.mark.skipif(importlib.util.find_spec("cobs") is None, reason="cobs (the extra `bench`) is not here")
def test_cobs_is_timed_in_the_same_run(tmp_path: Path) -> None:
    _, report, _ = bench(tmp_path, 0.0)
    assert any(name.startswith("cobs, Python") for name in report["values_per_s"])


def test_a_rate_below_its_floor_fails_by_name(tmp_path: Path) -> None:
    code, report, said = bench(tmp_path, 1e12)
    assert code == 1
    assert report["below_floor"] == ["usfp, Python, 4096 B reads"]
    assert said.splitlines()[-1].startswith("usedge: below their floor: usfp, Python, 4096 B reads")


def test_a_decoder_that_loses_an_ascan_ends_the_run() -> None:
    with pytest.raises(InputError, match="found 5 of 6"):
        _pass(Contender("lossy", lambda: 5, 100), 6)


def test_a_suite_is_of_a_known_kind(tmp_path: Path) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(SMALL.format(floor=1))
    assert isinstance(load_suite(path), LinkSuite)
    path.write_text('kind = "chain"\n')
    with pytest.raises(InputError, match="link"):
        load_suite(path)
