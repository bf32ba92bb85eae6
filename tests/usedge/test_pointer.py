"""Reading the network's answers, built here by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from usedge.pointer import RIVAL, Pointed, decode, decode_few, decode_one

L = 4


def answer(p: list[float], offsets: list[float], arrivals: list[float] | None = None) -> Pointed:
    """Decode class probabilities (the last is "no echo"), offsets of the onset and of the arrival."""
    told = np.arcsinh(offsets if arrivals is None else arrivals)
    return decode(np.array([[*np.log(p), *offsets, *told]], np.float32))


def test_a_clear_answer() -> None:
    pointed = answer([0.1, 0.6, 0.15, 0.05, 0.1], [9.0, 0.25, 9.0, 9.0])
    assert pointed.label.tolist() == [1]
    assert pointed.place[0] == pytest.approx(1.25)
    assert pointed.p_no_echo[0] == pytest.approx(0.1, abs=1e-6)
    assert pointed.confidence[0] == pytest.approx(0.85 / 0.9, abs=1e-6)


def test_an_echo_may_arrive_patches_after_its_onset_but_never_before_it_nor_beyond_the_gate() -> None:
    p, offsets = [0.1, 0.6, 0.15, 0.05, 0.1], [0.0, 0.25, 0.0, 0.0]
    arrived = [float(answer(p, offsets, [0.0, each, 0.0, 0.0]).arrival[0]) for each in (2.5, 0.1, 8.0, 1e30)]
    assert arrived == pytest.approx([3.5, 1.25, 4.0, 4.0])


@pytest.mark.parametrize("best", [0, L - 1])
def test_an_edge_patch_has_one_neighbour(best: int) -> None:
    p = [0.1, 0.1, 0.1, 0.1, 0.2]
    p[best] = 0.5
    pointed = answer(p, [0.5] * L)
    assert pointed.confidence[0] == pytest.approx((0.5 + 0.1) / 0.8, abs=1e-6)
    assert pointed.label.tolist() == [best]


@pytest.mark.parametrize(("offset", "label", "place"), [
    (1.5, 2, 2.5), (-0.25, 0, 0.75), (-9.0, 0, 0.0), (9.0, L - 1, float(L))])
def test_an_offset_may_leave_its_patch_but_not_the_gate(offset: float, label: int, place: float) -> None:
    pointed = answer([0.1, 0.6, 0.1, 0.1, 0.1], [0.0, offset, 0.0, 0.0])
    assert (pointed.label[0], pointed.place[0]) == (label, pytest.approx(place))


def test_the_likeliest_patch_answers_even_when_no_echo_is_likelier() -> None:
    pointed = answer([0.02, 0.05, 0.02, 0.01, 0.9], [0.0, 0.5, 0.0, 0.0])
    assert pointed.place[0] == pytest.approx(1.5)
    assert pointed.p_no_echo[0] == pytest.approx(0.9, abs=1e-6)
    assert pointed.confidence[0] == pytest.approx(0.9, abs=1e-4)


@settings(deadline=None)
@given(arrays(np.float32, (3, 3 * 16 + 1), elements=st.floats(-200, 200, width=32)))
def test_whatever_the_network_says_the_answer_is_in_range(out: np.ndarray) -> None:
    pointed = decode(out)
    assert np.all((pointed.place >= 0) & (pointed.place <= 16))
    assert np.all((pointed.arrival >= pointed.place) & (pointed.arrival <= 16))
    np.testing.assert_array_equal(pointed.label, np.minimum(np.floor(pointed.place), 15))
    for share in (pointed.confidence, pointed.p_no_echo):
        assert np.all((share >= 0) & (share <= 1))


@settings(deadline=None)
@given(arrays(np.float32, (4, 3 * 8 + 1), elements=st.floats(-20, 20, width=32)), st.floats(-30, 30))
def test_a_constant_added_to_all_logits_changes_nothing(out: np.ndarray, constant: float) -> None:
    shifted = out.copy()
    shifted[:, :9] += np.float32(constant)
    np.testing.assert_allclose(decode(shifted).p_no_echo, decode(out).p_no_echo, atol=1e-3)


def test_rows_do_not_mix() -> None:
    out = np.random.default_rng(5).normal(0, 3, (20, 3 * 64 + 1)).astype(np.float32)
    together = decode(out)
    for i in range(len(out)):
        alone = decode(out[i : i + 1])
        assert (alone.label[0], alone.place[0]) == (together.label[i], together.place[i])
        assert alone.confidence[0] == pytest.approx(together.confidence[i], rel=1e-6)


@pytest.mark.parametrize(("later", "rival"), [(RIVAL + 0.01, 6), (RIVAL - 0.01, None)])
def test_a_later_patch_that_is_likely_enough_is_a_rival_and_a_neighbour_or_an_earlier_one_never(
        later: float, rival: int | None) -> None:
    p = np.array([0.25, 0.0, 0.0, 0.5, 0.25 - later, 0.0, later, 0.0, 0.0]) + 1e-9
    row = np.array([*np.log(p), *[0.5] * 16], np.float32)
    for found in (decode_one(row), decode_few(row, np.arange(8), 8)):
        assert found.label == 3
        assert (found.rival and found.rival.label) == rival
    if rival is not None:
        assert found.rival is not None
        assert found.rival.confidence == pytest.approx(later, abs=1e-3)
