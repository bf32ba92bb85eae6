"""When an answer of the network is withheld, which rule says so, and how that reaches the reading."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from usedge.ascan import AScan
from usedge.bundle import read_bundle
from usedge.errors import InputError
from usedge.preprocess import Preprocessor
from usedge.reading import ABSTENTIONS, REASONS, make_reading
from usedge.resources import shipped_bundle
from usedge.runtime.doubts import Doubter, Doubts, first_echo, tone_share
from usedge.runtime.picker import ModelPicker
from usedge.spec import SignalSpec

N, PERIOD = 1500, 20.0
T = np.arange(N)
ALL = Doubts(earlier=8.0)


def echo(onset: float, peak: float = 500.0) -> NDArray[np.float64]:
    u = np.maximum((T - onset) / PERIOD, 0.0)
    return peak * u**2 * np.exp(2.0 - 2.0 * u) * np.sin(2.0 * np.pi * u)


def noise(rms: float = 5.0) -> NDArray[np.float64]:
    return rms * np.random.default_rng(1).standard_normal(N)


def tone(peak: float) -> NDArray[np.float64]:
    return peak * np.sin(2.0 * np.pi * T / 17.3)


def why(x: NDArray[np.float64], onset: float, doubts: Doubts = ALL, snr_db: float = 30.0, blur: str = "none",
        period: float | None = PERIOD) -> Any:
    gated = AScan(x.round().astype(np.int16), 40e6)
    spec = SignalSpec(blur=blur)
    found = Doubter(doubts).doubt(Preprocessor(spec)(gated), snr_db, onset, period)
    return None if found is None else (found.abstain, found.reason)


@pytest.mark.parametrize(("onset", "reason"), [
    (700.0, None), (700.0 - 5 * PERIOD, None), (700.0 + 5 * PERIOD, None),
    (700.0 - 12 * PERIOD, "later"), (700.0 + 12 * PERIOD, "earlier"),
])
def test_an_answer_far_from_the_matched_filters_first_echo_is_withheld(onset: float, reason: str | None
                                                                       ) -> None:
    x = echo(700.0) + noise()
    assert why(x, onset) == (reason and ("disagreement", reason))
    assert why(-x, onset) == (reason and ("disagreement", reason))
    assert why(x + echo(1200.0), onset) == (reason and ("disagreement", reason))


def test_each_rule_can_be_left_away() -> None:
    x = echo(700.0) + noise()
    assert why(x, 200.0, replace(ALL, later=None)) is None
    assert why(x, 1200.0, replace(ALL, earlier=None)) is None
    assert why(x + tone(2000.0), 700.0, replace(ALL, tone=None)) is None
    assert why(x, 700.0, replace(ALL, flat=None), snr_db=3.0) is None


def test_noise_near_the_peak_and_a_tone_are_out_of_distribution() -> None:
    x = echo(700.0) + noise()
    assert why(x, 700.0, snr_db=3.0) == ("out_of_distribution", "flat")
    assert why(x + tone(20.0), 700.0) is None
    assert why(x + tone(500.0), 700.0) == ("out_of_distribution", "tone")


def test_a_blurred_gate_is_judged_without_its_blur() -> None:
    x = echo(700.0) + noise()
    blur = "gaussian:3"
    assert why(x, 700.0, blur=blur) is None
    assert why(x, 200.0, blur=blur) == ("disagreement", "later")


def test_no_filter_is_asked_without_a_period() -> None:
    assert why(echo(700.0) + noise(), 200.0, period=None) is None


def test_ring_down_is_no_first_echo() -> None:
    ring = 3000.0 * np.exp(-T / 60.0) * np.sin(2.0 * np.pi * T / PERIOD)
    x = (ring + echo(900.0) + noise()).astype(np.float32)
    found = first_echo(np.fft.rfft(x), PERIOD)
    assert found is not None
    assert 870 < found < 960
    assert first_echo(np.fft.rfft(noise().astype(np.float32)), PERIOD) is None


@pytest.mark.parametrize("onset", [700, 701, 707])
def test_an_echo_is_found_in_the_same_part_of_its_cycle_however_long_that_is(onset: int) -> None:
    found = []
    for period in (8.0, 16.0, 32.0, 64.0, 128.0):
        u = np.maximum((np.arange(2048) - onset) / period, 0.0)
        x = 500.0 * u**2 * np.exp(2.0 - 2.0 * u) * np.sin(2.0 * np.pi * u)
        x += np.random.default_rng(2).standard_normal(2048)
        first = first_echo(np.fft.rfft(x.astype(np.float32)), period)
        assert first is not None
        found.append((first - onset) / period)
    assert np.ptp(found) < 0.25
    assert abs(np.mean(found)) < 1.0


def test_the_share_of_a_tone_is_that_of_its_power() -> None:
    x = np.sin(2.0 * np.pi * 64 * np.arange(2048) / 2048)
    y = x + np.sin(2.0 * np.pi * 200 * np.arange(2048) / 2048)
    assert tone_share(np.fft.rfft(x)) == pytest.approx(1.0)
    assert tone_share(np.fft.rfft(y)) == pytest.approx(0.5)
    assert tone_share(np.fft.rfft(y + 100.0)) == pytest.approx(0.5)  # the rest level is no tone


def test_options_lie_over_the_defaults() -> None:
    assert Doubts.parse([]) == Doubts()
    assert Doubts.parse(["earlier=8", "tone=off"]) == replace(Doubts(), earlier=8.0, tone=None)
    assert Doubts.parse(["none"]) == Doubts(None, None, None, None)
    assert Doubts.parse(["none", "flat=6"]) == Doubts(6.0, None, None, None)


@pytest.mark.parametrize("text", ["tone", "tone=", "tone=x", "flat=-1", "later=0", "later=nan", "flat=inf"])
def test_a_limit_that_is_none_is_named(text: str) -> None:
    with pytest.raises(InputError, match="is not RULE=LIMIT"):
        Doubts.parse([text])


def test_an_unknown_rule_is_one_line_with_the_nearest() -> None:
    words = ["usedge", "run", "--port", "sim://", "--doubt", "latter=8"]
    process = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, timeout=120,
                             check=False)
    assert process.returncode == 2
    assert process.stderr == "usedge: rule of --doubt latter is unknown. The nearest known one is later.\n"


class Sure:
    """A network that sees an echo in one patch, and nowhere else, whatever it is shown."""

    def __init__(self, patch: int, length: int) -> None:
        self.row = np.zeros((1, 3 * length + 1), np.float32)
        self.row[0, patch] = 30.0
        self.row[0, 2 * length + 1 + patch] = 0.5

    def infer(self, x: NDArray[np.float32], places: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
        length = (self.row.shape[1] - 1) // 3
        looked = np.arange(length) if places is None else places[0]
        columns = np.concatenate([looked, [length], length + 1 + looked, 2 * length + 1 + looked])
        return np.repeat(self.row[:, columns], len(x), axis=0)

    def close(self) -> None:
        pass


def test_a_reading_names_the_rule_that_withheld_its_answer() -> None:
    bundle = read_bundle(shipped_bundle())
    gated = AScan((echo(1100.0) + noise()).round().astype(np.int16), 40e6)
    backend = Sure(5, bundle.spec.n_patches)
    picks = [ModelPicker(bundle, bundle.default_for("litert"), backend, 40e6 / PERIOD,
                         doubts=Doubts.parse(asked)).pick(gated) for asked in ([], ["none"])]
    withheld, given = (make_reading(gated, pick, 0) for pick in picks)
    assert (withheld.tof_us, withheld.abstain, withheld.reason) == (None, "disagreement", "later")
    assert '"abstain": "disagreement", "reason": "later"' in withheld.to_json()
    assert withheld.abstain in ABSTENTIONS
    assert withheld.reason in REASONS
    assert given.tof_us is not None
    assert given.to_dict()["reason"] is None
