"""The figures of merit, on cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usedge.errors import InputError
from usedge.metrics import Outcomes, calibration, gate_snr_db, judge, pooled_scores, score

F0_HZ = 2e6  # a period of 500 ns
NONE = float("nan")


def us(*values: float) -> np.ndarray:
    return np.array(values) * 1e-6


def test_hits_are_counted_after_the_median_error_is_removed() -> None:
    label = us(10, 20, 30, 40, 50)
    tof = label + us(1.0, 1.0, 1.1, 1.3, 0.4)
    assert score(tof, label, F0_HZ) == pytest.approx({
        "hit_half_period": 3 / 5, "hit_one_period": 4 / 5, "raw_hit_half_period": 0.0, "bias_ns": 1000.0,
        "median_abs_ns": 100.0, "p95_abs_ns": 540.0, "abstain_rate": 0.0, "miss_rate": 0.0,
        "false_alarm_rate": None,
    })


def test_a_gate_without_an_answer_is_a_miss() -> None:
    label = us(10, 20, 30, 40)
    scores = score(us(10, NONE, 30, NONE), label, F0_HZ)
    assert scores["hit_half_period"] == scores["hit_one_period"] == scores["raw_hit_half_period"] == 0.5
    assert scores["abstain_rate"] == scores["miss_rate"] == 0.5
    assert scores["median_abs_ns"] == scores["p95_abs_ns"] == 0.0


def test_gross_misses_do_not_move_the_bias_but_cost_hits() -> None:
    label = us(10, 20, 30, 40, 50)
    scores = score(label + us(0.1, 0.1, 9, 9, 9), label, F0_HZ)
    assert scores["bias_ns"] == pytest.approx(100.0)
    assert scores["hit_half_period"] == pytest.approx(2 / 5)
    assert scores["median_abs_ns"] == pytest.approx(8900.0)


def test_without_a_near_answer_there_is_no_bias() -> None:
    scores = score(us(90, 90), us(10, 20), F0_HZ)
    assert scores["bias_ns"] is None
    assert scores["hit_half_period"] == 0.0
    assert scores["median_abs_ns"] == pytest.approx(75_000.0)


def test_answers_in_empty_gates_are_false_alarms() -> None:
    scores = score(us(10, 33, NONE, 35, 36), us(10, NONE, NONE, NONE, NONE), F0_HZ)
    assert scores["false_alarm_rate"] == 0.75
    assert scores["hit_half_period"] == 1.0


def test_figures_over_no_gates_are_null() -> None:
    scores = score(us(NONE, 3), us(NONE, NONE), F0_HZ)
    assert scores.pop("false_alarm_rate") == 0.5
    assert set(scores.values()) == {None}


def test_no_answers_at_all() -> None:
    scores = score(us(NONE, NONE), us(1, 2), F0_HZ)
    assert scores["hit_half_period"] == 0.0
    assert scores["abstain_rate"] == 1.0
    assert scores["median_abs_ns"] is scores["p95_abs_ns"] is scores["bias_ns"] is None


def test_each_row_has_its_own_period() -> None:
    label = us(10, 20, 30)
    tof = label + us(0, 0.2, 0)
    assert score(tof, label, [1e6, 1e6, 1e6])["hit_half_period"] == 1.0
    assert score(tof, label, [1e6, 5e6, 1e6])["hit_half_period"] == pytest.approx(2 / 3)


def test_calibration_error_is_the_weighted_gap_between_confidence_and_hits() -> None:
    label = us(10, 20, 30, 40, 50, 60)
    tof = label + us(0, 0, 0, 9, NONE, 9)
    found = calibration(judge(tof, label, F0_HZ, [0.9, 0.85, 0.85, 0.85, 0.4, 0.05]))
    # Bin 0.8–0.9: four answers (0.9 belongs to it), three hits, confidence 0.8625; bin 0–0.1: one miss.
    assert found["ece"] == pytest.approx(4 / 5 * abs(3 / 4 - 0.8625) + 1 / 5 * 0.05)
    rows = found["reliability"]
    assert [row["n"] for row in rows] == [1, 0, 0, 0, 0, 0, 0, 0, 4, 0]
    assert rows[8] == pytest.approx({"from": 0.8, "to": 0.9, "n": 4, "confidence": 0.8625,
                                     "hit_half_period": 0.75})
    assert rows[1]["confidence"] is rows[1]["hit_half_period"] is None


def test_a_sure_method_that_is_always_right_is_calibrated() -> None:
    label = us(10, 20, NONE)
    assert calibration(judge(label, label, F0_HZ, 1.0))["ece"] == 0.0
    assert calibration(judge(label, label, F0_HZ))["ece"] is None, "no confidence, no calibration"
    assert calibration(judge(us(NONE, NONE), us(1, 2), F0_HZ, 0.5))["ece"] is None, "no answers"


def test_gates_of_several_files_keep_the_bias_of_their_file() -> None:
    early, late = us(10, 20, 30), us(12, 22, 32)
    one, two = judge(early, us(11, 21, 31), F0_HZ), judge(late, us(10, 20, 30), F0_HZ)
    joined = Outcomes.join([one, two])
    assert pooled_scores(joined)["hit_half_period"] == 1.0
    mixed = score(np.concatenate([early, late]), us(11, 21, 31, 10, 20, 30), F0_HZ)
    assert mixed["hit_half_period"] == 0.0
    assert len(joined.select(joined.error_s < 0)) == 3


@pytest.mark.parametrize("snr_db", [15.0, 25.0, 40.0])
def test_snr_is_the_echo_over_the_noise_whatever_comes_later(snr_db: float) -> None:
    rng = np.random.default_rng(3)
    n, period, label = 2000, 10.0, 400.0
    t = np.arange(n)
    x = 2000 * np.where((t >= label) & (t < label + 30), np.sin(2 * np.pi * (t - label) / period), 0.0)
    x += 12000 * np.where((t > 1500) & (t < 1700), np.sin(2 * np.pi * t / period), 0.0)
    x += 2000 * 10 ** (-snr_db / 20) * rng.standard_normal(n) + 300
    assert gate_snr_db(np.round(x), label, period) == pytest.approx(snr_db, abs=2.5)
    assert gate_snr_db(np.round(x), NONE, period) > snr_db + 12, "the loudest of a gate without an echo"


def test_snr_of_a_constant_gate_is_nothing() -> None:
    assert gate_snr_db(np.full(100, 7, np.int16), NONE, 10.0) == 0.0


@pytest.mark.parametrize(("tof", "label", "f0_hz"), [
    ([1.0], [1.0, 2.0], 1e6), ([[1.0]], [[1.0]], 1e6), ([1.0], [1.0], 0.0), ([1.0], [1.0], NONE),
    ([1.0, 2.0], [1.0, 2.0], [1e6]),
])
def test_arrays_that_do_not_match_are_refused(tof: list[float], label: list[float], f0_hz: float) -> None:
    with pytest.raises(InputError):
        score(tof, label, f0_hz)


ROWS = st.lists(st.tuples(st.floats(1e-6, 1e-4) | st.just(NONE), st.floats(1e-6, 1e-4) | st.just(NONE)),
                min_size=1, max_size=30)


@given(rows=ROWS)
def test_fractions_are_ordered_and_misses_never_pay(rows: list[tuple[float, float]]) -> None:
    tof, label = np.array(rows).T
    scores = score(tof, label, F0_HZ)
    half, one, abstained = (scores[key] for key in ("hit_half_period", "hit_one_period", "abstain_rate"))
    if half is None or one is None or abstained is None:
        assert np.isnan(label).all()
        return
    assert 0.0 <= half <= one <= 1.0 - abstained + 1e-12


@given(rows=ROWS, shift_s=st.floats(-1e-7, 1e-7))
def test_leaving_answers_out_never_adds_hits_to_an_unbiased_method(rows: list[tuple[float, float]],
                                                                   shift_s: float) -> None:
    label = np.array([row[1] for row in rows])
    tof = label + shift_s
    kept = np.where(np.arange(len(tof)) % 2 == 0, tof, NONE)
    echoes = int(np.isfinite(label).sum())
    if echoes:
        assert score(tof, label, F0_HZ)["hit_half_period"] == 1.0
        expected = np.isfinite(kept).sum() / echoes
        assert score(kept, label, F0_HZ)["hit_half_period"] == pytest.approx(expected)
