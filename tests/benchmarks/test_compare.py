"""Two reports held against one another: what changed is told from what only varied."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.made_reports import OURS, REFERENCE, TURN, figures_of, soak_report
from tests.benchmarks.made_reports import latency_report as run
from usedge.errors import InputError
from usedge_bench.commands.compare import as_text
from usedge_bench.reports.compare import Comparison, Line, compare
from usedge_bench.reports.read import Report, checked

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


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


def paced(seed: int, pace_us: float, **other: float) -> Report:
    figures = dict.fromkeys(("p50_us", "p90_us", "p99_us", "p99_9_us", "max_us"), pace_us)
    return run(seed, pace=figures, **other)


def test_where_the_machine_kept_another_pace_ratios_alone_decide() -> None:
    found = compare(paced(5, 200.0), paced(6, 300.0, network=1.3, host=1.5))
    assert lines(found)["infer p50"].verdict == "undecided"
    assert "own pace differed" in lines(found)["infer p50"].why
    assert lines(found)[f"network p50 / {REFERENCE}"].verdict == "worse"
    assert "the same fixed work took 200 µs in A and 300 in B" in found.notes[0]
    assert lines(compare(paced(5, 200.0), paced(6, 205.0, network=1.3)))["infer p50"].verdict == "worse"


def wandering(seed: int, rounds: int) -> Report:
    """A machine whose pace differs from round to round, of ten; told as measured in ``rounds``."""
    report = run(seed)
    paces = np.random.default_rng(seed).normal(1.0, 0.2, 10)
    for stage, values in report["values_us"].items():
        report["values_us"][stage] = moved = np.concatenate(
            [part * pace for part, pace in zip(np.array_split(values, 10), paces, strict=True)]).tolist()
        report["stages"][stage] = figures_of(moved)
    report["settings"] = report["settings"] | {"rounds": rounds}
    return report


def test_a_machine_whose_pace_wanders_decides_nothing_in_rounds_and_too_much_in_one_stretch() -> None:
    seeds = [(seed, seed + 50) for seed in range(4)]
    for rounds, sure in ((10, 0), (1, 2)):
        found = [compare(wandering(first, rounds), wandering(second, rounds)) for first, second in seeds]
        wrong = sum(lines(each)["infer p50"].verdict != "no difference" for each in found)
        assert (wrong == 0) if sure == 0 else (wrong >= sure)


def test_peaks_of_memory_and_rates_of_all_rounds_decide_too() -> None:
    def rate(middle: float) -> dict[str, object]:
        return {"ascans_per_s": middle, "dropped": 0, "received": 2000,
                "all_per_s": [middle + each for each in (-10, 0, 10, -5, 5)]}

    before = run(1, peak_rss_all_mb=[43.5, 44.0], throughput=rate(700.0))
    later = run(2, peak_rss_mb=50.0, peak_rss_all_mb=[49.0, 50.0], throughput=rate(900.0))
    found = lines(compare(before, later))
    assert (found["peak RSS"].verdict, found["free-running throughput"].verdict) == ("worse", "better")


def test_what_the_reader_must_know_is_said() -> None:
    told = run(11, stable=False, unstable_because=["p99 is 3 × p50"])
    later = run(12, settings={"peer_block": TURN, "prf_hz": 20.0, "idle_prf_hz": 20.0}, version="0.2.0",
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
    assert lines(compare(soak_report(0), soak_report(1)))["unaccounted"].verdict == "worse"
    assert lines(compare(soak_report(3), soak_report(1)))["unaccounted"].verdict == "better"
    assert lines(compare(soak_report(2), soak_report(2)))["unaccounted"].verdict == "no difference"


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


