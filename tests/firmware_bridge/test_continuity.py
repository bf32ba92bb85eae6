"""The account of sequence numbers, against a model that remembers everything."""

from __future__ import annotations

import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from usedge_firmware.continuity import WINDOW, Continuity

U32 = 2**32


def counters(account: Continuity) -> tuple[int, int, int, int]:
    return account.received, account.missing, account.late, account.duplicated


def taken(account: Continuity, *numbers: int) -> list[str]:
    return [account.take(each % U32) for each in numbers]


class Model:
    """Every number ever seen, without wrap or window."""

    def __init__(self, first: int | None) -> None:
        self.first = first
        self.seen: set[int] = set()
        self.late = self.duplicated = 0

    def take(self, number: int) -> str:
        told = self.first is not None
        if number in self.seen or (told and number < self.first):  # type: ignore[operator]
            self.duplicated += 1
            return "duplicate"
        late = bool(self.seen) and number < max(self.seen)
        self.seen.add(number)
        self.late += late
        return "late" if late else "new"

    @property
    def missing(self) -> int:
        if not self.seen:
            return 0
        first = min(self.seen) if self.first is None else self.first
        return max(self.seen) + 1 - first - len(self.seen)


@given(
    base=st.sampled_from([100, U32 - 20, 2**31 - 20, U32 - 1]),
    told=st.booleans(),
    numbers=st.lists(st.integers(0, 60), max_size=120),
)
@example(base=U32 - 3, told=False, numbers=[3, 1, 2, 0, 7, 0, 5, 6, 4, 8])
def test_any_order_is_accounted_for_as_by_a_model_that_forgets_nothing(
    base: int, told: bool, numbers: list[int]
) -> None:
    account, model = Continuity(window=64), Model(base + 10 if told else None)
    if told:
        account.restart((base + 10) % U32)
    for each in numbers:
        assert account.take((base + each) % U32) == model.take(base + each)
        assert counters(account) == (len(model.seen), model.missing, model.late, model.duplicated)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=300), st.integers(0, U32 - 1))
def test_gaps_longer_than_all_windows_are_counted(gaps: list[int], base: int) -> None:
    account, number = Continuity(window=32), base
    account.restart(base)
    for gap in gaps:
        number += gap + 1
        assert account.take((number - 1) % U32) == "new"
    assert counters(account) == (len(gaps), sum(gaps), 0, 0)


@given(st.lists(st.integers(0, U32 - 1), max_size=60), st.integers(1, 5000))
def test_any_numbers_at_all_keep_the_sum_and_the_memory(numbers: list[int], window: int) -> None:
    account = Continuity(window=window)
    for done, each in enumerate(numbers, 1):
        account.take(each)
        assert account.received + account.duplicated == done
        assert account.missing >= 0
        assert account._unseen.bit_length() <= window


def test_wrap_reordering_and_repeats() -> None:
    account = Continuity()
    verdicts = taken(account, U32 - 2, U32 + 1, U32 - 1, U32 + 1, U32, U32 + 2)
    assert verdicts == ["new", "new", "late", "duplicate", "late", "new"]
    assert counters(account) == (5, 0, 2, 1)


def test_a_told_start_counts_what_is_lost_at_its_head() -> None:
    account = Continuity()
    account.restart(40)
    assert taken(account, 43, 39, 41) == ["new", "duplicate", "late"]
    assert counters(account) == (2, 2, 1, 1)


def test_an_untold_start_is_where_the_stream_is_met() -> None:
    account = Continuity()
    account.restart(None)
    assert taken(account, 43, 41, 44) == ["new", "late", "new"]
    assert counters(account) == (3, 1, 1, 0)


def test_restart_keeps_the_counters_and_charges_nothing() -> None:
    account = Continuity()
    taken(account, 0, 1, 3)
    account.restart(0)
    assert taken(account, 0, 1, 2) == ["new"] * 3
    assert counters(account) == (6, 1, 0, 0)


def test_resume_counts_what_the_cable_cost() -> None:
    account = Continuity()
    account.resume(7)
    taken(account, 7, 8)
    account.resume(10)
    assert taken(account, 10, 9) == ["new", "duplicate"]
    assert counters(account) == (3, 1, 0, 1)


def test_just_inside_the_window_is_late_and_beyond_it_a_new_start() -> None:
    inside, beyond = Continuity(), Continuity()
    for each in (inside, beyond):
        each.restart(1)
        each.take(WINDOW)
        assert each.missing == WINDOW - 1
    assert inside.take(1) == "late"
    beyond.take(WINDOW + 1)
    assert beyond.take(1) == "new"
    assert taken(beyond, 2, 3, 2) == ["new", "new", "duplicate"]
    assert counters(beyond) == (5, WINDOW - 1, 0, 1)


def test_a_wild_number_costs_itself_and_nothing_else() -> None:
    for wild in (5 + 2**30, 5 + 2**31, 5 - 2**20):
        account = Continuity()
        account.restart(0)
        assert taken(account, 0, 1, 3, wild, 5, 6, 2) == ["new"] * 6 + ["late"]
        assert counters(account) == (7, 1, 1, 0)


def test_a_long_silence_is_missing_not_wild() -> None:
    account = Continuity()
    account.restart(0)
    taken(account, 0, 1_000_000, 1_000_001, 999_999)
    assert counters(account) == (4, 999_998, 1, 0)


@pytest.mark.parametrize("step", [1, 3])
def test_memory_does_not_grow_with_the_stream(step: int) -> None:
    account = Continuity()
    for each in range(0, 60_000 * step, step):
        account.take(each)
    assert account.missing == (60_000 - 1) * (step - 1)
    assert sys.getsizeof(account._unseen) < WINDOW // 4


@given(st.lists(st.integers(0, 40), max_size=60))
def test_a_second_copy_is_known_before_it_is_taken(arrivals: list[int]) -> None:
    account = Continuity()
    account.restart(5)
    for each in arrivals:
        foreseen = account.has(each)
        assert (account.take(each) == "duplicate") == foreseen
