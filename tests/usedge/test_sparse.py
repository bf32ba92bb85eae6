"""Looking at few patches first: which ones, what becomes of their answers, and when all are looked at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from usedge.ascan import AScan
from usedge.bundle import Thresholds
from usedge.errors import InputError
from usedge.pointer import decode_few, decode_one
from usedge.runtime.picker import ModelPicker
from usedge.sparse import Glance, few, spread, telling, worth
from usedge.spec import SignalSpec
from usedge.synth import generate

SPEC = SignalSpec()


def gate(onset: int, seed: int = 0) -> NDArray[np.float32]:
    """(1, 2048): weak noise, and from ``onset`` on an echo that dies away."""
    rng = np.random.default_rng(seed)
    t = np.arange(2048) - onset
    echo = np.where(t >= 0, np.sin(t * 0.6) * np.exp(-np.maximum(t, 0) / 150.0), 0.0)
    return (0.02 * rng.standard_normal(2048) + echo)[np.newaxis].astype(np.float32)


@pytest.mark.parametrize("onset", [300, 1000, 1900])
def test_patches_at_and_just_before_an_echo_are_chosen(onset: int) -> None:
    chosen = telling(gate(onset), 32, 16)[0]
    assert {onset // 32 - 1, onset // 32, onset // 32 + 1} <= set(chosen.tolist())
    assert (np.diff(chosen) > 0).all()
    assert len(chosen) == 16


def test_silence_and_constants_have_a_choice_too() -> None:
    for x in (np.zeros((1, 2048), np.float32), np.ones((2, 2048), np.float32)):
        assert telling(x, 32, 32).shape == (len(x), 32)
        assert np.isfinite(worth(x, 32)).all()


def test_the_choice_does_not_heed_polarity_and_each_row_has_its_own() -> None:
    x = np.concatenate([gate(300), gate(1500)])
    both = telling(x, 32, 16)
    assert np.array_equal(telling(-x, 32, 16), both)
    assert np.array_equal(both[1:], telling(x[1:], 32, 16))
    assert not np.array_equal(both[0], both[1])


def test_most_synthetic_onsets_lie_in_the_chosen_half() -> None:
    from usedge.preprocess import Preprocessor

    synth = generate("field", 400, 5, 2048)
    echo = ~np.isnan(synth.onset)
    x = Preprocessor(SPEC).batch(synth.x[echo]).x
    chosen = telling(x, 32, 32)
    patch = (synth.onset[echo] / 32).astype(int)[:, np.newaxis]
    near = (np.abs(chosen - patch) <= 1).any(axis=1)
    assert near.mean() > 0.9


def test_answers_of_few_patches_stand_at_their_places() -> None:
    places = np.array([[3, 10, 63]])
    out = np.arange(1.0, 11.0, dtype=np.float32)[np.newaxis]
    whole = spread(out, places, 64)[0]
    assert whole[[3, 10, 63]].tolist() == [1, 2, 3]
    assert whole[64] == 4
    assert whole[65 + np.array([3, 10, 63])].tolist() == [5, 6, 7]
    assert whole[129 + np.array([3, 10, 63])].tolist() == [8, 9, 10]
    assert decode_one(whole).label == 63
    assert np.exp(whole[[0, 4, 62]]).max() < 1e-12


@pytest.mark.parametrize("seed", range(8))
def test_an_answer_on_few_patches_is_read_as_one_on_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = np.sort(rng.choice(64, 16, replace=False))
    out = rng.normal(0.0, 2.0, 3 * 16 + 1).astype(np.float32)
    whole = spread(out[np.newaxis], places[np.newaxis], 64)[0]
    few, one = decode_few(out, places, 64), decode_one(whole)
    assert few[:5] == pytest.approx(one[:5], abs=1e-9)
    assert (few.rival is None) == (one.rival is None)
    if few.rival is not None and one.rival is not None:
        assert few.rival[:5] == pytest.approx(one.rival[:5], abs=1e-9)


def test_only_true_neighbours_add_to_the_confidence() -> None:
    out = np.zeros(3 * 3 + 1, np.float32)
    out[:4] = np.log([0.1, 0.6, 0.1, 0.2])
    assert decode_few(out, np.array([4, 5, 6]), 64).confidence == pytest.approx(1.0)
    assert decode_few(out, np.array([3, 5, 6]), 64).confidence == pytest.approx(0.7 / 0.8)
    assert decode_few(out, np.array([0, 20, 63]), 64)[:2] == (20, 20.0)


class Known:
    """A network that knows where the echo is: its patch's logit leads by ``lead`` where it is looked at."""

    def __init__(self, patch: int, lead: float) -> None:
        self.patch, self.lead = patch, lead
        self.asked: list[int] = []

    def infer(self, _x: NDArray[np.float32], places: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        looked = np.arange(64) if places is None else places[0]
        self.asked.append(len(looked))
        lead = 20.0 if places is None else self.lead
        logits = np.where(looked == self.patch, lead, 0.0)
        half = np.full(len(looked), 0.5)
        return np.concatenate([logits, [-5.0], half, half])[np.newaxis].astype(np.float32)

    def close(self) -> None:
        pass


def asked(lead: float, **limits: Any) -> list[int]:
    """How many patches each look had, of a gate whose echo the network places with that ``lead``."""
    network = Known(20, lead)
    bundle = SimpleNamespace(thresholds=Thresholds(0.5, 0.5, **limits), spec=SPEC)
    picker = ModelPicker(cast("Any", bundle), cast("Any", None), network)
    samples = (gate(20 * 32 + 16)[0] * 500).astype(np.int16)
    label = picker.pick(AScan(samples, 40e6)).label
    assert label == (20 if network.asked[-1] == 64 or lead > 10 else None)
    return network.asked


def test_few_patches_answer_where_they_are_sure_and_else_all_do() -> None:
    assert asked(20.0) == [64]
    assert asked(20.0, patches=16, sure=0.9) == [16]
    assert asked(0.5, patches=16, sure=0.9) == [16, 64]
    assert asked(0.5, patches=32, sure=0.0) == [32]


def test_a_network_asked_about_all_patches_by_number_says_the_same() -> None:
    x, network = gate(700), Known(21, 3.0)
    by_number = network.infer(x, np.arange(64)[np.newaxis])
    assert np.array_equal(few(network.infer, x, 32, 64), by_number)


def test_a_glance_is_checked() -> None:
    assert Thresholds(0.5, 0.5).glance is None
    assert Thresholds(0.5, 0.5, patches=16, sure=0.9).glance == Glance(16, 0.9)
    with pytest.raises(InputError, match="patches is -1"):
        Thresholds(0.5, 0.5, patches=-1)
    with pytest.raises(InputError, match=r"sure is 1\.5"):
        Thresholds(0.5, 0.5, sure=1.5)
