"""Blurs: their texts, what is refused with which words, and what each does to an A-scan."""

from __future__ import annotations

import pickle
import re
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from usedge.blur import DEFAULT_SIGMA, MAX_WIDTH, Blur
from usedge.errors import InputError

Float32 = NDArray[np.float32]
N = 2048

DEFAULTS = {
    "none": "none", "gaussian": f"gaussian:{DEFAULT_SIGMA:g}", "srad": "srad:40:0.1", "mean": "mean:5",
    "median": "median:5", "motion": "motion:5", "defocus": "defocus:5",
}
SYMMETRIC = ["gaussian", "gaussian:0.05", "gaussian:7.3", "mean", "mean:31", "defocus", "defocus:2.5"]
LINEAR = [*SYMMETRIC, "motion", "motion:2", "motion:40"]
KINDS = [*LINEAR, "none", "srad", "srad:3:0.5", "median", "median:21"]

odd = st.integers(1, MAX_WIDTH // 2).map(lambda half: 2 * half + 1)
blurs = st.one_of(
    st.just(Blur()),
    st.floats(0, 256, exclude_min=True).map(lambda sigma: Blur("gaussian", (sigma,))),
    st.tuples(st.integers(1, 1000), st.floats(0, 0.5, exclude_min=True)).map(lambda a: Blur("srad", a)),
    odd.map(lambda width: Blur("mean", (width,))),
    odd.map(lambda width: Blur("median", (width,))),
    st.integers(2, MAX_WIDTH).map(lambda length: Blur("motion", (length,))),
    st.floats(1, 1024, exclude_min=True).map(lambda radius: Blur("defocus", (radius,))),
)
ascans = arrays.arrays(np.float32, st.integers(1, 200), elements=st.floats(-1, 1, width=32))


def impulse(n: int = N) -> Float32:
    return np.eye(1, n, n // 2, dtype=np.float32)[0]


def noise(sigma: float, seed: int = 0) -> Float32:
    return np.random.default_rng(seed).normal(0, sigma, N).astype(np.float32)


def moments(weights: Float32) -> tuple[float, float]:
    """Centre of ``weights (n,)`` after n // 2, and their standard deviation, in samples."""
    place = np.arange(len(weights)) - len(weights) // 2
    centre = float((weights * place).sum() / weights.sum())
    return centre, float(np.sqrt((weights * (place - centre) ** 2).sum() / weights.sum()))


# Text


@settings(deadline=None)
@given(blurs)
def test_a_blur_is_read_back_as_it_was_written(blur: Blur) -> None:
    assert Blur.parse(str(blur)) == blur
    assert str(Blur.parse(str(blur))) == str(blur)
    assert pickle.loads(pickle.dumps(blur)) == blur


@pytest.mark.parametrize(("kind", "text"), DEFAULTS.items())
def test_a_kind_alone_takes_its_defaults(kind: str, text: str) -> None:
    assert Blur.parse(kind) == Blur(kind) == Blur.parse(text)
    assert str(Blur.parse(kind)) == text


@pytest.mark.parametrize(("written", "canonical"), [
    ("gaussian:2.00", "gaussian:2"), ("gaussian:11e-1", "gaussian:1.1"), ("mean:7.0", "mean:7"),
    ("srad:010:.25", "srad:10:0.25"), ("srad:1:0.00001", "srad:1:1e-05"), ("defocus:2.50", "defocus:2.5"),
])
def test_other_spellings_become_the_canonical_one(written: str, canonical: str) -> None:
    assert str(Blur.parse(written)) == canonical


@pytest.mark.parametrize(("text", "what", "rule"), [
    ("gausian:2", "'gausian' is unknown", "Did you mean gaussian:SIGMA"),
    ("Median", "'Median' is unknown", "Did you mean median:WIDTH"),
    ("", "'' is unknown", "Known: none, gaussian, srad, mean, median, motion, defocus"),
    ("bilateral", "'bilateral' is unknown", "Known: none"),
    ("gaussian:", "'' is not a number", "gaussian:SIGMA"),
    ("gaussian:wide", "'wide' is not a number", "gaussian:SIGMA"),
    ("gaussian:2,5", "'2,5' is not a number", "gaussian:SIGMA"),
    ("gaussian:nan", "sigma is nan", "above 0 and at most 256"),
    ("gaussian:inf", "sigma is inf", "above 0 and at most 256"),
    ("gaussian:1e300", "sigma is 1e+300", "above 0 and at most 256"),
    ("gaussian:0", "sigma is 0", "above 0 and at most 256"),
    ("gaussian:-1.5", "sigma is -1.5", "above 0 and at most 256"),
    ("gaussian:256.5", "sigma is 256.5", "above 0 and at most 256"),
    ("gaussian:1:2", "has 2 amount(s), not 1", "gaussian:SIGMA"),
    ("none:1", "has 1 amount(s), not 0", "Write none."),
    ("mean:4", "width is 4", "an odd whole number above 1 and at most 2049"),
    ("median:5.5", "width is 5.5", "an odd whole number above 1"),
    ("median:1", "width is 1", "an odd whole number above 1"),
    ("mean:2051", "width is 2051", "at most 2049"),
    ("mean:-5", "width is -5", "above 1"),
    ("motion:1", "length is 1", "a whole number above 1 and at most 2049"),
    ("motion:2.5", "length is 2.5", "a whole number"),
    ("defocus:1", "radius is 1", "above 1 and at most 1024"),
    ("defocus:1025", "radius is 1025", "above 1 and at most 1024"),
    ("srad:40", "has 1 amount(s), not 2", "srad:ITERATIONS:T (default srad:40:0.1)"),
    ("srad:0:0.1", "iterations is 0", "a whole number above 0 and at most 1000"),
    ("srad:1001:0.1", "iterations is 1001", "at most 1000"),
    ("srad:1.5:0.1", "iterations is 1.5", "a whole number"),
    ("srad:40:0", "t is 0", "above 0 and at most 0.5"),
    ("srad:40:0.51", "t is 0.51", "above 0 and at most 0.5"),
    ("srad:40:nan", "t is nan", "above 0 and at most 0.5"),
])
def test_what_is_no_blur_is_named_with_the_rule(text: str, what: str, rule: str) -> None:
    with pytest.raises(InputError, match=r"^blur ") as caught:
        Blur.parse(text)
    assert what in caught.value.what
    assert rule in caught.value.next_step
    assert len(str(caught.value)) < 200


@given(st.text(max_size=12) | st.from_regex(re.compile(r"[a-z]{3,8}(:[-+0-9.e_]{1,6}){0,3}"), fullmatch=True))
def test_any_text_is_a_blur_or_refused(text: str) -> None:
    with suppress(InputError):
        blur = Blur.parse(text)
        assert Blur.parse(str(blur)) == blur


# What each does


@pytest.mark.parametrize("text", KINDS)
@given(x=ascans)
@settings(deadline=None, max_examples=20)
def test_no_blur_changes_its_input_or_leaves_its_range(text: str, x: Float32) -> None:
    before = x.copy()
    y = Blur.parse(text)(x)
    assert np.array_equal(x, before)
    assert (y.shape, y.dtype) == (x.shape, np.float32)
    assert x.min() - 1e-6 <= y.min() <= y.max() <= x.max() + 1e-6


@pytest.mark.parametrize("text", KINDS)
@given(value=st.floats(-1, 1, width=32), n=st.integers(1, 100))
@settings(deadline=None, max_examples=20)
def test_a_constant_stays_one(text: str, value: float, n: int) -> None:
    x = np.full(n, value, np.float32)
    np.testing.assert_allclose(Blur.parse(text)(x), x, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("text", KINDS)
@given(x=ascans)
@settings(deadline=None, max_examples=20)
def test_polarity_does_not_matter(text: str, x: Float32) -> None:
    np.testing.assert_allclose(Blur.parse(text)(-x), -Blur.parse(text)(x), atol=1e-6)


@pytest.mark.parametrize("text", [*LINEAR, "srad", "srad:100:0.5"])
def test_the_mean_is_conserved(text: str) -> None:
    x = noise(0.2)
    x[:100] = x[-100:] = 0  # no kernel reaches an end
    blurred = Blur.parse(text)(x)
    assert not np.array_equal(x, blurred) or text == "gaussian:0.05"
    assert blurred.sum(dtype=np.float64) == pytest.approx(x.sum(dtype=np.float64), abs=1e-3)


@given(x=ascans)
@settings(deadline=None, max_examples=30)
def test_nothing_leaves_srad_through_the_ends(x: Float32) -> None:
    assert Blur.parse("srad")(x).sum(dtype=np.float64) == pytest.approx(x.sum(dtype=np.float64), abs=1e-4)


@pytest.mark.parametrize("text", ["none", *KINDS])
def test_a_batch_is_its_rows_bit_for_bit(text: str) -> None:
    blur = Blur.parse(text)
    x = np.stack([noise(0.1, seed) for seed in range(6)]).reshape(2, 3, N)
    x[0, 0], x[1, 2, 1000:1010] = 0, 1
    together = blur(x)
    assert (together.shape, together.dtype) == (x.shape, np.float32)
    for i in np.ndindex(2, 3):
        assert np.array_equal(blur(x[i]), together[i])
        assert np.array_equal(blur(x[i][np.newaxis])[0], together[i])
    assert np.array_equal(blur(np.asfortranarray(x)), together)
    assert blur(x[:0]).shape == (0, 3, N)


def test_none_gives_back_the_very_a_scan() -> None:
    x = noise(0.1)
    assert Blur()(x) is x


@pytest.mark.parametrize("sigma", [0.8, 1.1, 2.0, 7.3, 40.0])
def test_a_gaussian_has_the_stated_sigma(sigma: float) -> None:
    weights = Blur("gaussian", (sigma,))(impulse())
    centre, deviation = moments(weights)
    assert centre == pytest.approx(0, abs=1e-4)
    assert deviation == pytest.approx(sigma, rel=0.01)
    place = np.arange(N) - N // 2
    np.testing.assert_allclose(weights, np.exp(-0.5 * (place / sigma) ** 2) / sigma / np.sqrt(2 * np.pi),
                               atol=1e-3 / sigma)


@pytest.mark.parametrize("text", SYMMETRIC)
def test_symmetric_kernels_move_nothing(text: str) -> None:
    weights = Blur.parse(text)(impulse())
    np.testing.assert_allclose(weights[1:], weights[:0:-1], atol=1e-8)
    assert np.count_nonzero(weights) <= Blur.parse(text).width


def test_mean_and_defocus_have_their_shapes() -> None:
    at = slice(N // 2 - 3, N // 2 + 4)
    box = np.array([0, 1, 1, 1, 1, 1, 0])
    np.testing.assert_allclose(Blur.parse("mean:5")(impulse())[at], box / box.sum(), atol=1e-7)
    disk = np.sqrt([0, 5, 8, 9, 8, 5, 0])
    np.testing.assert_allclose(Blur.parse("defocus:3")(impulse())[at], disk / disk.sum(), atol=1e-7)


@pytest.mark.parametrize("length", [2, 5, 40])
def test_motion_shows_nothing_early_and_all_late(length: int) -> None:
    weights = Blur("motion", (length,))(impulse())
    assert np.array_equal(np.flatnonzero(weights), N // 2 + np.arange(length))
    np.testing.assert_allclose(weights[weights > 0], 1 / length, rtol=1e-6)
    assert moments(weights)[0] == pytest.approx((length - 1) / 2)


def test_a_median_drops_a_spike_and_keeps_a_step() -> None:
    step = (np.arange(N) >= 1000).astype(np.float32)
    spiky = step.copy()
    spiky[[10, 500, 501, 1500]] = [9, -9, 9, -9]
    assert np.array_equal(Blur.parse("median:5")(spiky), step)


@given(x=ascans, half=st.integers(1, 12))
@settings(deadline=None, max_examples=50)
def test_a_median_is_that_of_each_window(x: Float32, half: int) -> None:
    held = np.pad(x, half, mode="edge")
    expected = [np.median(held[i : i + 2 * half + 1]) for i in range(len(x))]
    assert np.array_equal(Blur("median", (2 * half + 1,))(x), np.array(expected, np.float32))


# Speckle reducing anisotropic diffusion


def equal_gaussian(blur: Blur, x: Float32) -> Blur:
    """The Gaussian that leaves as much of the noise ``x`` as ``blur`` does."""
    left = blur(x).std()
    sigmas = np.arange(0.4, 4.0, 0.02)
    return next(g for g in (Blur("gaussian", (float(s),)) for s in sigmas) if g(x).std() <= left)


def test_srad_smooths_noise_about_as_the_papers_gaussian() -> None:
    x = noise(0.03)
    assert Blur.parse("srad")(x).std() < 0.5 * x.std()
    assert 1.0 < equal_gaussian(Blur.parse("srad"), x).amounts[0] < 2.0


def test_an_edge_survives_srad_better_than_an_equal_gaussian() -> None:
    srad = Blur.parse("srad")
    gaussian = equal_gaussian(srad, noise(0.03))
    step = (np.arange(N) >= 1000).astype(np.float32)
    x, near = step + noise(0.03, seed=1), slice(995, 1005)
    wrong = [float(np.linalg.norm((blur(x) - step)[near])) for blur in (srad, gaussian)]
    assert wrong[0] < 0.3 * wrong[1]


@pytest.mark.parametrize("cycle", [6, 10, 16, 30])
def test_an_echo_survives_srad_better_than_an_equal_gaussian(cycle: int) -> None:
    """Crests too: bipolar RF is not rubbed out where its envelope is flat."""
    srad = Blur.parse("srad")
    gaussian = equal_gaussian(srad, noise(0.03))
    place = np.arange(N) - 1000
    echo = np.exp(-0.5 * (place / (2 * cycle)) ** 2) * np.cos(2 * np.pi * place / cycle)
    x = (echo + noise(0.03, seed=1)).astype(np.float32)
    kept = [float(blur(x) @ echo / (echo @ echo)) for blur in (srad, gaussian)]
    assert kept[0] == pytest.approx(1, abs=0.03)
    assert kept[0] > kept[1]


@pytest.mark.parametrize("text", ["srad:1000:0.5", "srad:40:0.5", "srad:1000:0.001"])
def test_srad_is_stable_for_every_step_allowed(text: str) -> None:
    x = noise(0.3)
    x[::2] *= -1
    y = Blur.parse(text)(x)
    assert np.isfinite(y).all()
    assert x.min() <= y.min() <= y.max() <= x.max()
    assert np.abs(np.diff(y)).sum() < np.abs(np.diff(x)).sum()


def test_more_iterations_or_a_longer_step_blur_more() -> None:
    x = noise(0.1)
    left = [Blur.parse(text)(x).std() for text in ("srad:10:0.1", "srad:40:0.1", "srad:40:0.4")]
    assert left == sorted(left, reverse=True)
