"""From counts to the model's input: resampling against the analytic echo, and what must not change it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from usedge.ascan import AScan
from usedge.errors import InputError
from usedge.preprocess import MIN_GATE_SAMPLES, Prepared, Preprocessor, resample, resample_plan
from usedge.spec import SignalSpec

GRID = 2048
WIDTH = 0.06
"""Gaussian width of the test echo, in gates; its spectrum then ends 13 cycles a gate off the carrier."""


def echo(place: NDArray[np.float64], centre: float, cycles: float) -> NDArray[np.float64]:
    """A Gaussian echo of ``cycles`` a gate at ``place`` in gates, symmetric around ``centre``."""
    return np.exp(-0.5 * ((place - centre) / WIDTH) ** 2) * np.cos(2 * np.pi * cycles * (place - centre))


def carriers(n: int, share: float) -> float:
    """A carrier in the pass band of gates of ``n`` samples; ``share`` 0 is the lowest, 1 the highest."""
    return 10.0 + share * max(0.0, 0.36 * min(n, GRID) - 13.5 - 10.0)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(MIN_GATE_SAMPLES, 9000), centre=st.floats(0.32, 0.68), share=st.floats(0, 1))
def test_a_band_limited_echo_of_any_length_lands_on_the_grid(n: int, centre: float, share: float) -> None:
    cycles = carriers(n, share)
    plan = resample_plan(n, GRID)
    native = echo(np.arange(n) / n, centre, cycles).astype(np.float32)
    place = np.arange(GRID) * plan.step / n
    inside = place <= (n - 1) / n
    expected = echo(place, centre, cycles)
    got = resample(native, plan)
    assert got.shape == (GRID,)
    assert np.abs(got - expected)[inside].max() < 2e-3


@pytest.mark.parametrize("n", [100, 500, 1500, 3001, 8000])
def test_a_gate_that_ends_elsewhere_than_it_began_does_not_ring(n: int) -> None:
    plan = resample_plan(n, GRID)
    got = resample(np.linspace(-1, 1, n, dtype=np.float32), plan)
    place = np.arange(GRID) * plan.step
    inside = (place >= 3) & (place <= n - 4)
    assert np.abs(got - (2 * place / (n - 1) - 1))[inside].max() < 2e-3


@settings(max_examples=40, deadline=None)
@given(n=st.integers(MIN_GATE_SAMPLES, 9000))
def test_the_grid_covers_the_gate_and_hardly_more(n: int) -> None:
    plan = resample_plan(n, GRID)
    assert n <= plan.step * GRID <= 1.07 * n + 3
    assert plan.padded >= plan.span
    assert plan.out * plan.span == plan.padded * GRID


def counts_again(prepared: Prepared) -> NDArray[np.float64]:
    """The spec's normalisation undone: x = asinh(y / 2s) / asinh(peak / 2s), s = max(noise, peak · floor)."""
    peak, noise = float(prepared.peak[0]), float(prepared.noise[0])
    twice = 2 * max(noise, peak * SignalSpec().noise_floor)
    return twice * np.sinh(prepared.x[0].astype(np.float64) * np.arcsinh(peak / twice))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(MIN_GATE_SAMPLES, 6000), place=st.floats(0.3, 0.7))
def test_a_place_on_the_grid_maps_back_to_native_time(n: int, place: float) -> None:
    rf = echo(np.arange(n) / n, place, carriers(n, 0.3))
    prepared = Preprocessor(SignalSpec()).batch(np.round(30_000 * rf).astype(np.int16)[np.newaxis])
    energy = counts_again(prepared) ** 2
    centre = float((energy * np.arange(GRID)).sum() / energy.sum())
    assert centre * prepared.step == pytest.approx(place * n, abs=0.05)


def rows(n: int = 999, k: int = 6) -> NDArray[np.int16]:
    """``k`` A-scans of noise with an echo; an odd ``n`` has one sample in the middle of its ranks."""
    rng = np.random.default_rng(n)
    noise = rng.normal(0, 30, (k, n))
    return np.round(noise + 2000 * echo(np.arange(n) / n, 0.5, 25.0)).astype(np.int16)


def prepare(x: NDArray[np.int16]) -> NDArray[np.float32]:
    return Preprocessor(SignalSpec()).batch(x).x


@pytest.mark.parametrize("n", [200, 999, 2048, 4001])
def test_offset_gain_and_polarity_do_not_matter(n: int) -> None:
    x = rows(n)
    plain = prepare(x)
    np.testing.assert_allclose(prepare(x + np.int16(12_345)), plain, atol=1e-5)
    np.testing.assert_allclose(prepare(x * np.int16(8)), plain, atol=1e-5)
    np.testing.assert_allclose(prepare(-x), -plain, atol=1e-5 if n % 2 else 0.02)


@pytest.mark.parametrize("n", [64, 500, 2048, 5000])
def test_a_batch_is_its_rows(n: int) -> None:
    x, preprocess = rows(n), Preprocessor(SignalSpec())
    together = preprocess.batch(x)
    for i, row in enumerate(x):
        alone = preprocess(AScan(row, 40e6))
        np.testing.assert_allclose(alone.x[0], together.x[i], atol=1e-6)
        assert alone.peak[0] == pytest.approx(together.peak[i], rel=1e-5)
        assert alone.noise[0] == pytest.approx(together.noise[i], rel=1e-5)
        assert alone.step == together.step


BLURS = ["none", "gaussian", "srad", "mean", "median", "motion", "defocus"]


@pytest.mark.parametrize("blur", BLURS)
@pytest.mark.parametrize("n", [500, 2048])
def test_a_blurred_batch_is_its_rows_bit_for_bit(blur: str, n: int) -> None:
    x, preprocess = rows(n), Preprocessor(SignalSpec(blur=blur))
    together = preprocess.batch(x)
    for i, row in enumerate(x):
        alone = preprocess(AScan(row, 40e6))
        assert np.array_equal(alone.x[0], together.x[i])
        assert (alone.noise[0], alone.peak[0]) == (together.noise[i], together.peak[i])


@pytest.mark.parametrize("blur", BLURS)
def test_clean_and_blurred_a_scans_come_from_one_preparation(blur: str) -> None:
    """As training on deblurring needs them: the clean A-scan is the target, the blurred one the input."""
    spec = SignalSpec(blur=blur)
    clean = Preprocessor(replace(spec, blur="none")).batch(rows())
    blurred = Preprocessor(spec).batch(rows())
    assert np.array_equal(spec.blurring(clean.x), blurred.x)
    assert np.array_equal(clean.x, prepare(rows()))
    assert np.array_equal(clean.x, blurred.x) == (blur == "none")
    assert (clean.noise, clean.peak, clean.step) == (blurred.noise, blurred.peak, blurred.step)
    assert blurred.x.dtype == np.float32
    assert np.abs(blurred.x).max() <= 1 + 1e-6


@pytest.mark.parametrize("n", [512, 1024, 4096])
def test_a_blur_is_as_wide_on_the_grid_for_every_front_end(n: int) -> None:
    spike = np.zeros((1, n), np.int16)
    spike[0, n // 2] = 20_000
    specs = (SignalSpec(), SignalSpec(blur="gaussian:8"))
    clean, blurred = (Preprocessor(spec).batch(spike).x[0] for spec in specs)
    kernel = np.exp(-0.5 * (np.arange(-32, 33) / 8) ** 2)
    expected = np.convolve(clean, kernel / kernel.sum(), "same")
    np.testing.assert_allclose(blurred[32:-32], expected[32:-32], atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(64, 3000), seed=st.integers(0, 2**32 - 1))
def test_values_fill_minus_one_to_one(n: int, seed: int) -> None:
    x = np.random.default_rng(seed).integers(-(2**15), 2**15, (2, n)).astype(np.int16)
    prepared = prepare(x)
    assert prepared.dtype == np.float32
    assert np.abs(prepared).max() <= 1.0 + 1e-6
    np.testing.assert_allclose(np.abs(prepared).max(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("value", [0, 1, -7, 32767, -32768])
@pytest.mark.parametrize("n", [64, 2048, 3001])
def test_a_constant_gate_is_silence_not_nan(value: int, n: int) -> None:
    assert np.array_equal(prepare(np.full((1, n), value, np.int16)), np.zeros((1, GRID)))


def test_an_echo_forty_decibels_down_stays_visible() -> None:
    place = np.arange(GRID) / GRID
    rf = echo(4 * place, 1.0, 20.0) + 0.01 * echo(4 * place, 3.0, 20.0)
    x = prepare(np.round(20_000 * rf).astype(np.int16)[np.newaxis])[0]
    assert np.abs(x[GRID // 2 :]).max() > 0.3


def test_peak_and_noise_are_in_counts() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(0, 50, (1, GRID))
    x[0, 1000] = 4000
    prepared = Preprocessor(SignalSpec()).batch(np.round(x).astype(np.int16))
    assert prepared.peak[0] == pytest.approx(4000, abs=10)
    assert prepared.noise[0] == pytest.approx(50, rel=0.1)


@pytest.mark.parametrize("n", [0, 1, MIN_GATE_SAMPLES - 1])
def test_a_gate_that_is_too_short_says_so(n: int) -> None:
    with pytest.raises(InputError, match=rf"holds {n} samples.*{MIN_GATE_SAMPLES}.*Widen"):
        Preprocessor(SignalSpec())(AScan(np.zeros(n, np.int16), 40e6))
