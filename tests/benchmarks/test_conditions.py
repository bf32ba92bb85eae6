"""What else a machine did, told from its files; percentiles and how sure they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from usedge.health.machine import Machine
from usedge_bench.conditions import Part, Watch, cores_apart, disturbances, on_cores
from usedge_bench.percentiles import disagreement, intervals, rank, redrawn, share_interval, summary

HZ = os.sysconf("SC_CLK_TCK")


def put(root: Path, files: dict[str, str]) -> Machine:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Machine(root)


def stat(user: float, steal: float) -> str:
    ours = f"cpu0 {user * HZ:.0f} 0 0 999 0 0 0 {steal * HZ:.0f} 0 0"
    return f"cpu  9 9 9 9\n{ours}\ncpu1 777 0 0 0 0 0 0 0 0 0\n"


def process(pid: int, parent: int, seconds: float) -> dict[str, str]:
    used = f"{seconds * HZ:.0f} 0 0 0"
    return {f"proc/{pid}/stat": f"{pid} (a ) b) S {parent} 0 0 0 0 0 0 0 0 0 {used} 20 0"}


def test_others_are_what_is_busy_and_not_ours(tmp_path: Path) -> None:
    own = os.getpid()
    machine = put(tmp_path, {"proc/stat": stat(100, 5), **process(own, 1, 10), **process(70001, own, 2),
                             **process(70002, 70001, 1), **process(70003, 1, 50)})
    watch = Watch(lambda _: None, machine, cores={0})
    with watch.part("work"):
        put(tmp_path, {"proc/stat": stat(140, 8), **process(own, 1, 15), **process(70001, own, 4),
                       **process(70002, 70001, 4), **process(70003, 1, 90)})
    part = watch.parts[0]
    seconds = part["seconds"]
    busy, own_cores = part["others_cores"], part["own_cores"]
    assert busy is not None
    assert own_cores is not None
    # 40 s busy, 5 + 2 + 3 of them ours: 30 by others, whatever the length of this part.
    assert busy / own_cores == pytest.approx(3.0, rel=0.02)
    assert part["steal_cores"] / own_cores == pytest.approx(0.3, rel=0.02)  # type: ignore[operator]
    assert seconds >= 0


def test_a_machine_that_tells_nothing_is_recorded_as_such(tmp_path: Path) -> None:
    watch = Watch(lambda _: None, Machine(tmp_path))
    with watch.part("work"):
        pass
    part = watch.parts[0]
    told = dict(part)
    assert [told[key] for key in ("others_cores", "steal_cores", "hottest_c", "throttled", "held_back")] == [
        None] * 5
    assert watch.disturbances() == []


def test_heat_and_throttling_are_recorded(tmp_path: Path) -> None:
    machine = put(tmp_path, {
        "sys/class/thermal/thermal_zone0/temp": "61000", "sys/class/thermal/thermal_zone0/type": "cpu",
        "sys/class/thermal/thermal_zone1/temp": "48000",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000"})
    watch = Watch(lambda _: None, machine)
    with watch.part("streaming"):
        pass
    part = watch.parts[0]
    assert (part["hottest_c"], part["clock_mhz"], part["throttled"]) == (61.0, 1500.0, 0x50005)
    assert watch.disturbances() == ["under-voltage (streaming); see `usedge doctor`",
                                    "throttled (streaming); see `usedge doctor`"]


def part(name: str, **told: float) -> Part:
    quiet = {"seconds": 10.0, "own_cores": 1.0, "others_cores": 0.01, "steal_cores": 0.0, "hottest_c": None,
             "clock_mhz": None, "throttled": None, "held_back": None}
    return Part(part=name, **{**quiet, **told})  # type: ignore[typeddict-item]


def test_a_disturbance_names_the_worst_and_every_part_and_what_to_do() -> None:
    why = disturbances([part("a", others_cores=0.4), part("b"), part("c", others_cores=1.25)])
    assert why == ["other programs took up to 1.25 cores (a, c); close them and run again"]
    both = disturbances([part("a", others_cores=0.4), part("c", others_cores=1.25)])
    assert "up to 1.25 cores (throughout)" in both[0]
    assert disturbances([part("a"), part("short", seconds=0.1, others_cores=2.0)]) == []
    assert "host of this virtual machine" in disturbances([part("a", steal_cores=0.2)])[0]
    assert "quota" in disturbances([part("a", held_back=3)])[0]


def test_cores_are_given_back() -> None:
    before = os.sched_getaffinity(0)
    ours, theirs = cores_apart()
    assert ours | theirs <= before
    with on_cores(ours):
        assert os.sched_getaffinity(0) == ours
    assert os.sched_getaffinity(0) == before


def test_percentiles_are_values_that_were_measured() -> None:
    values = np.random.default_rng(2).permutation(1000) + 1.0
    told = summary(values, seed=3)
    assert [told[key] for key in ("p50_us", "p90_us", "p99_us", "p99_9_us", "max_us")] == [
        500, 900, 990, 999, 1000]
    assert rank(1, 0.999) == 0
    assert summary([], seed=3)["p50_us"] is None


def test_intervals_are_seeded_and_not_given_where_nothing_is_known() -> None:
    values = np.random.default_rng(2).lognormal(0, 0.3, 600)
    first = summary(values, seed=3)
    assert first == summary(values, seed=3)
    low, high = first["ci95_us"]["p50"]
    assert low <= first["p50_us"] <= high < first["p90_us"]
    assert first["ci95_us"]["p99"] is not None
    assert first["ci95_us"]["p99_9"] is None


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    truth = 0.6931  # the median of an exponential
    hit = 0
    for trial in range(30):
        (ends,) = intervals(rng.exponential(1.0, 200), [0.5], trial)
        assert ends is not None
        hit += ends[0] <= truth + 0.005 and ends[1] >= truth - 0.005  # type: ignore[operator]
    assert hit >= 24


def test_neighbours_that_move_together_widen_the_interval() -> None:
    alone = np.random.default_rng(4).normal(10, 1, 600)
    together = np.repeat(alone[::20], 20)
    widths = []
    for values in (alone, together):
        (ends,) = intervals(values, [0.5], 1)
        widths.append(ends[1] - ends[0])  # type: ignore[index,operator]
    assert widths[1] > 2 * widths[0]


def in_rounds(rng: np.random.Generator, spread: float, rounds: int = 10) -> np.ndarray:
    """100 values a round, each round at a pace of its own."""
    return np.concatenate([rng.gamma(16.0, 50.0, 100) * np.exp(rng.normal(0.0, spread))
                           for _ in range(rounds)])


def test_a_second_run_lies_within_the_interval_of_the_rounds_and_not_of_one_stretch() -> None:
    rng = np.random.default_rng(6)
    within = {1: 0, 10: 0}
    for trial in range(25):
        first, second = in_rounds(rng, 0.15), float(np.median(in_rounds(rng, 0.15)))
        for rounds in within:
            (ends,) = intervals(first, [0.5], trial, rounds)
            within[rounds] += ends[0] <= second <= ends[1]  # type: ignore[index,operator]
    assert within[10] >= 22
    assert within[1] <= 18


def test_rounds_are_drawn_whole_and_alike_for_two() -> None:
    values = np.repeat(np.arange(6.0), 50)
    for part in redrawn(values, 25, np.random.default_rng(1), 6):
        counts = np.array([[np.sum(row == each) for each in range(6)] for row in part[:20]])
        assert (counts % 50 == 0).all()
        assert len({tuple(row) for row in counts}) > 1
    which = np.zeros((1000, 6), np.int64)
    assert all((part == 0.0).all() for part in redrawn(values, 25, np.random.default_rng(1), 6, which))


def test_rounds_that_disagree_are_called_so_and_what_to_do() -> None:
    calm, wild = (in_rounds(np.random.default_rng(7), spread) for spread in (0.005, 0.25))
    assert disagreement("wire-to-reading", summary(calm, 1, rounds=10), calm, 10) == []
    (why,) = disagreement("wire-to-reading", summary(wild, 1, rounds=10), wild, 10)
    assert why.startswith("the 10 rounds disagree: wire-to-reading p50 from ")
    assert "quote ratios" in why
    (why,) = disagreement("two", summary([1.0] * 20 + [9.0] * 20, 1, rounds=2), [1.0] * 20 + [9.0] * 20, 2)
    assert "another run may give anything; run again" in why
    assert disagreement("one stretch", summary(wild, 1), wild, 1) == []


def test_what_never_came_is_no_figure() -> None:
    told = summary([1.0, 2.0, 3.0, np.inf], seed=1)
    assert (told["p50_us"], told["p90_us"], told["max_us"]) == (2.0, None, None)


def test_the_interval_of_a_share() -> None:
    low, high = share_interval(np.arange(1000) % 4 == 0, seed=1)  # type: ignore[misc]
    assert 0.2 < low < 0.25 < high < 0.3
    assert share_interval(np.zeros(50, bool), seed=1) == [0.0, 0.0]
    assert share_interval(np.zeros(50, bool), seed=1, rounds=5) == [0.0, 0.0]
    late = np.repeat([False, True, False, False], 250)  # all in one round of four
    apart = share_interval(late, seed=1, rounds=4)
    assert apart is not None
    assert apart[0] < 0.1 < low < 0.25 < high < 0.6 < apart[1] <= 1.0
    assert share_interval(np.zeros(0, bool), seed=1) is None
