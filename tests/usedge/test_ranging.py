from __future__ import annotations

import math

import pytest

from usedge.errors import InputError
from usedge.gates import parse_gates
from usedge.ranging import Ranging
from usedge.smooth import Smooth, Smoother


def test_distance_by_mode_and_offset() -> None:
    assert Ranging(1500.0).distance_mm(20.0) == pytest.approx(15.0)
    assert Ranging(1500.0, mode="pitch-catch").distance_mm(20.0) == pytest.approx(30.0)
    assert Ranging(1500.0, offset_us=2.0).distance_mm(20.0) == pytest.approx(13.5)
    with pytest.raises(InputError, match="nearest known one is pulse-echo"):
        Ranging(1500.0, mode="pulse")


def test_the_uncertainty_is_that_of_its_parts_and_unknown_where_one_is() -> None:
    whole = Ranging(1500.0, 3.0, offset_sd_us=0.01, tof_sd_us=0.02)
    # 0.75 mm/µs; 15 mm · 3/1500; 0.01 µs; 0.02 µs.
    assert whole.distance_sd_mm(20.0, 0.01) == pytest.approx(math.hypot(0.03, 0.0075, 0.015))
    for unknown in (Ranging(1500.0, None, tof_sd_us=0.02), Ranging(1500.0, 3.0),
                    Ranging(1500.0, 3.0, offset_sd_us=None, tof_sd_us=0.1)):
        assert unknown.distance_sd_mm(20.0, 0.01) is None


def test_a_tof_is_no_better_than_the_grid_of_its_samples() -> None:
    still = Ranging(1500.0, 0.0, tof_sd_us=0.0)
    assert still.distance_sd_mm(20.0, 0.125) == pytest.approx(0.75 * 0.125 / math.sqrt(12))


def test_gates_are_named_or_called_by_what_they_are() -> None:
    front, back = parse_gates(["front=10:20", "40:20.5"])
    assert (front.name, front.gate.start_us, front.gate.end_us) == ("front", 10.0, 30.0)
    assert (back.name, back.gate.width_us) == ("40:20.5", 20.5)
    for texts, words in ((["a=1:2", "a=3:4"], "two gates are called 'a'"), (["1:2", "1:2"], "two gates"),
                         (['a"b=1:2'], "gate name"), (["=1:2"], "gate name"), (["a=1"], "START:WIDTH"),
                         (["a=1:-2"], "not positive"), (["a=nan:2"], "not finite")):
        with pytest.raises(InputError, match=words):
            parse_gates(texts)


def answers(text: str, *tof_us: float | None, seqs: list[int] | None = None) -> list[float | None]:
    smoother = Smoother(Smooth.parse(text))
    return [smoother.update(each, seq) for each, seq in zip(tof_us, seqs or range(len(tof_us)), strict=False)]


def test_a_median_passes_over_a_single_wrong_answer() -> None:
    assert answers("median:3", 10.0, 10.1, 55.0, 10.2, 10.3) == [10.0, pytest.approx(10.05), 10.1, 10.2, 10.3]


def test_an_average_follows_by_its_share() -> None:
    assert answers("ema:0.25", 10.0, 14.0, 14.0) == [10.0, 11.0, 11.75]


@pytest.mark.parametrize("text", ["median:3", "ema:0.4"])
def test_an_abstention_says_nothing_and_changes_nothing(text: str) -> None:
    with_one = answers(text, 10.0, 12.0, None, 11.0)
    without = answers(text, 10.0, 12.0, 11.0)
    assert with_one[2] is None
    assert [each for each in with_one if each is not None] == without


@pytest.mark.parametrize("text", ["median:3", "ema:0.34"])
def test_what_is_older_than_the_memory_is_forgotten(text: str) -> None:
    assert answers(text, 10.0, 20.0, seqs=[1, 4])[1] != 20.0
    assert answers(text, 10.0, 20.0, seqs=[1, 5])[1] == 20.0
    assert answers(text, 10.0, 20.0, seqs=[7, 0])[1] == 20.0  # a board that was reset


@pytest.mark.parametrize("text", ["median", "median:4", "median:1", "median:2.5", "median:1003", "median:nan",
                                  "ema:0", "ema:1.5", "ema:x", "ema:nan", "mean:3", ""])
def test_what_is_no_smoothing_is_refused(text: str) -> None:
    with pytest.raises(InputError) as error:
        Smooth.parse(text)
    assert error.value.next_step
