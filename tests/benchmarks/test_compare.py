"""Two reports held against one another: what changed is told from what only varied."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usedge.errors import InputError
from usedge_bench.commands.compare import as_text
from usedge_bench.reports.compare import Comparison, Line, compare
from usedge_bench.reports.read import Report, checked

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
REFERENCE, OURS = "onnxruntime-fp32", "native-int8"
TURN, TURNS = 10, 30


def figures_of(values: Any) -> dict[str, float]:
    quantiles = {"p50": 50, "p90": 90, "p99": 99, "p99_9": 99.9, "max": 100}
    return {f"{name}_us": float(np.percentile(values, at)) for name, at in quantiles.items()}


def run(seed: int, network: float = 1.0, host: float = 1.0, **other: Any) -> Report:
    """A latency report whose network takes ``network`` times as long, on a machine ``host`` times as slow."""
    rng = np.random.default_rng(seed)
    stages = {"decode": 30.0, "preprocess": 300.0, "infer": 700.0 * network, "emit": 25.0}
    values = {name: rng.gamma(100.0, us * host / 100.0, 600) for name, us in stages.items()}
    values["wire_to_reading"] = np.add.reduce(list(values.values())) + 200.0 * host
    drift = np.repeat(rng.gamma(25.0, 1 / 25.0, TURNS), TURN) * host  # what disturbs a turn disturbs both
    peers = {OURS: 500.0 * network * drift * rng.gamma(100.0, 0.01, TURN * TURNS),
             REFERENCE: 1250.0 * drift * rng.gamma(100.0, 0.01, TURN * TURNS)}
    rows = [{"name": name, "p50_us": figures_of(x)["p50_us"], "p99_us": figures_of(x)["p99_us"], "n": len(x)}
            for name, x in peers.items()]
    report = {
        "format_version": 1, "suite": "latency", "version": "0.1.0",
        "host": {"machine": "aarch64", "cpu": "Cortex-A76", "cores": 4, "system": "Linux", "python": "3.11",
                 "numpy": "2.0", "governor": None, "load_1min": 0.0},
        "bundle": {"name": "field", "sha256": "00", "variant": OURS},
        "settings": {"peer_block": TURN, "prf_hz": 400.0},
        "stages": {name: figures_of(x) for name, x in values.items()},
        "stages_idle": {name: figures_of(x) for name, x in values.items()}, "overhead_share": 0.3,
        "throughput": {"ascans_per_s": 700.0, "dropped": 0, "received": 2000},
        "peers": rows, "ratio_p50": {REFERENCE: rows[0]["p50_us"] / rows[1]["p50_us"]},
        "peak_rss_mb": 44.0, "first_reading_s": 0.3, "first_reading_all_s": [0.3, 0.31, 0.29, 0.3, 0.32],
        "stable": True, "unstable_because": [],
        "values_us": {name: x.tolist() for name, x in values.items()},
        "values_peers_us": {name: x.tolist() for name, x in peers.items()},
    }
    return checked(report | other, "made up")


def lines(found: Comparison) -> dict[str, Line]:
    return {line.name: line for line in found.lines}


def test_the_same_build_run_twice_is_no_different() -> None:
    verdicts = [compare(run(seed), run(seed + 100)) for seed in range(3)]
    judged = [line.verdict for found in verdicts for line in found.lines if line.low is not None]
    assert len(judged) >= 30
    # An interval of 95 % errs in one of twenty, the margin of 2 % makes it rarer.
    assert judged.count("no difference") >= 0.9 * len(judged)
    assert all(found.notes == [] for found in verdicts)


@pytest.mark.parametrize(("network", "verdict"), [(1.1, "worse"), (0.9, "better")])
def test_a_change_of_the_network_is_found_where_it_is(network: float, verdict: str) -> None:
    found = lines(compare(run(1), run(2, network)))
    assert found["infer p50"].verdict == verdict
    assert found[f"network p50 / {REFERENCE}"].verdict == verdict
    assert found["preprocess p50"].verdict == found["decode p50"].verdict == "no difference"
    line = found[f"network p50 / {REFERENCE}"]
    assert line.low is not None
    assert line.high is not None
    assert line.low < network - 1 < line.high


def test_turns_drawn_together_know_more_than_apart() -> None:
    """A turn's disturbance is in both, so the quotient of one run is known far better than either."""
    found = lines(compare(run(3), run(4)))
    ratio, apart = found[f"network p50 / {REFERENCE}"], found[f"wire_to_reading p50 / {REFERENCE}"]
    assert ratio.high - ratio.low < 0.5 * (apart.high - apart.low)  # type: ignore[operator]


def test_a_slower_machine_shows_in_microseconds_and_not_in_the_ratio() -> None:
    found = lines(compare(run(5), run(6, host=1.3)))
    assert found["infer p50"].verdict == "worse"
    assert found[f"network p50 / {REFERENCE}"].verdict == "no difference"


def test_between_host_classes_ratios_alone_decide() -> None:
    other = run(8, 1.5, host=3.0)
    other["host"] = other["host"] | {"cpu": "Cortex-A53"}
    found = compare(run(7), other)
    assert lines(found)[f"network p50 / {REFERENCE}"].verdict == "worse"
    for line in found.lines:
        assert line.ratio or line.verdict == "undecided"
    assert any("Cortex-A53" in note and "only ratios decide" in note for note in found.notes)


def test_without_stored_values_nothing_is_decided() -> None:
    bare = {key: value for key, value in run(9).items() if key != "values_peers_us"}
    found = lines(compare(bare, run(10, 2.0)))
    assert (found[f"network p50 / {REFERENCE}"].verdict, found["peak RSS"].verdict) == ("undecided",) * 2
    assert found[f"network p50 / {REFERENCE}"].change == pytest.approx(1.0, abs=0.05)


def test_what_the_reader_must_know_is_said() -> None:
    told = run(11, stable=False, unstable_because=["p99 is 3 × p50"])
    later = run(12, settings={"peer_block": TURN, "prf_hz": 20.0}, version="0.2.0",
                bundle={"name": "field", "sha256": "ff", "variant": OURS})
    notes = compare(told, later).notes
    assert notes[0] == "A is unstable: p99 is 3 × p50"
    assert "prf_hz is 400.0 in A and 20.0 in B" in notes
    assert any("bundles differ" in note for note in notes)
    assert any("0.1.0 and 0.2.0" in note for note in notes)


def test_the_seed_decides_the_interval() -> None:
    a, b = run(13), run(14)
    assert compare(a, b, seed=3).as_dict() == compare(a, b, seed=3).as_dict()
    assert compare(a, b, seed=3).as_dict() != compare(a, b, seed=4).as_dict()


def test_what_is_counted_needs_no_interval() -> None:
    def soak(unaccounted: int) -> Report:
        counts = dict.fromkeys(("sent", "received", "dropped", "corrupted", "reconnects", "duplicated",
                                "queue_dropped", "deadline_misses", "threads_left", "files_left"), 0)
        return checked({"format_version": 1, "suite": "soak", "host": run(1)["host"], "settings": {},
                        "unaccounted": unaccounted, "rss_growth_mb": 0.1, "p99_first_us": None,
                        "p99_last_us": 9.0, "failed": [], "ascans_per_s": 100.0, "faults": {}, "summary": {},
                        "values_rss_mb": [1.0], "seconds": 1.0, **counts}, "made up")

    assert lines(compare(soak(0), soak(1)))["unaccounted"].verdict == "worse"
    assert lines(compare(soak(3), soak(1)))["unaccounted"].verdict == "better"
    assert lines(compare(soak(2), soak(2)))["unaccounted"].verdict == "no difference"


def test_two_suites_are_not_compared() -> None:
    with pytest.raises(InputError, match="A is of the suite latency, B of link"):
        compare(run(1), checked(json.loads((RESULTS / "link.json").read_text()), "link.json"))


def test_the_text_holds_every_figure_and_the_verdict() -> None:
    text = as_text(compare(run(1), run(2, 1.2)))
    assert f"| network p50 / {REFERENCE}" in text
    assert "worse" in text
    table = [row for row in text.splitlines() if row.startswith("|")]
    assert len({len(row) for row in table}) == 1


def test_the_command_writes_json_to_a_pipe(tmp_path: Path) -> None:
    for name, report in (("a.json", run(1)), ("b.json", run(2, 1.2))):
        (tmp_path / name).write_text(json.dumps(report))
    process = subprocess.run([sys.executable, "-m", "usedge", "bench", "compare", str(tmp_path / "a.json"),
                              str(tmp_path / "b.json")], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    told = json.loads(process.stdout)
    assert (told["format_version"], told["suite"]) == (1, "latency")
    assert {line["name"]: line["verdict"] for line in told["figures"]}["infer p50"] == "worse"


