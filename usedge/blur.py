"""Blurs of a prepared A-scan, for a model that was pretrained to undo one.

Deblurring MAE (arXiv 2306.08249, section 2.2) blurs before it masks, and blurs again whenever the encoder is
used afterwards. Here are 1-D forms of the six blurs of its table 2, with amounts in grid samples:

======================  ====================================================================================
``none``                x itself
``gaussian:SIGMA``      eq. 2, cut off at 4 σ; below σ = 0.8 its few samples are narrower than σ
``srad:ITERATIONS:T``   eq. 3, speckle reducing anisotropic diffusion; ``_srad`` says how for RF
``mean:WIDTH``          mean of WIDTH samples around each, odd
``median:WIDTH``        median of them
``motion:LENGTH``       mean of the last LENGTH samples, as from a transducer that moves while it records.
                        Unlike ``mean`` it has a direction: nothing shows before the onset, and all is late
                        by (LENGTH − 1) / 2, which the model has to learn.
``defocus:RADIUS``      a disk projected on one axis, sqrt(r² − u²)
======================  ====================================================================================

Beyond either end the last value is held. numpy alone, since this runs on the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from usedge.errors import InputError

Float32 = NDArray[np.float32]
RowBlur = Callable[[Float32], Float32]

DEFAULT_SIGMA = 2.0
"""Grid samples. The paper's best on images, of 0.8 to 2.3, is 1.1 pixels."""
MAX_SIGMA = 256.0
MAX_WIDTH = 2049
"""Of any kernel, in grid samples: ±4 σ at the largest sigma."""
REACH_SIGMAS = 4.0
SRAD_WINDOW = 9
"""Differences over which SRAD takes the local variance: _sums_of_nine adds them up."""
SRAD_STRIDE = 4
"""Every how many-th local variance goes into their median: neighbours share most of their window."""
SRAD_FLOOR = 1e-12
"""Least variance of a quiet region, so that silence is not divided by itself."""


@dataclass(frozen=True, slots=True)
class _Amount:
    """A number of a blur's text: above ``above``, at most ``most``."""

    name: str
    default: float
    above: float
    most: float
    whole: bool = False
    odd: bool = False

    def rule(self) -> str:
        kind = "an odd whole number" if self.odd else "a whole number" if self.whole else "a number"
        return f"{self.name} is {kind} above {_plain(self.above)} and at most {_plain(self.most)}."

    def allows(self, value: float) -> bool:
        return (self.above < value <= self.most and (not self.whole or value % 1 == 0)
                and (not self.odd or value % 2 == 1))


@dataclass(frozen=True, slots=True)
class _Kind:
    amounts: tuple[_Amount, ...]
    make: Callable[..., tuple[int, RowBlur]]
    """From the amounts: the kernel's width in grid samples, and the blur of one row."""


@dataclass(frozen=True, slots=True)
class Blur:
    """A blur of A-scans on the grid: its kind and its amounts, by default those of the kind.

    Raises InputError for an unknown kind, and for amounts that are missing, not finite or out of range.
    """

    kind: str = "none"
    amounts: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        known = _known(self.kind).amounts
        amounts = tuple(float(value) for value in self.amounts or (amount.default for amount in known))
        object.__setattr__(self, "amounts", amounts)
        if len(amounts) != len(known):
            raise InputError(f"blur '{self}' has {len(amounts)} amount(s), not {len(known)}.",
                             f"Write {_usage(self.kind)}.")
        for amount, value in zip(known, amounts, strict=True):
            if not amount.allows(value):
                raise InputError(f"blur '{self}': {amount.name} is {_plain(value)}.",
                                 f"For {_usage(self.kind)}, {amount.rule()}")

    @classmethod
    def parse(cls, text: str) -> Blur:
        """Read ``KIND`` or ``KIND:AMOUNT…``; raises InputError for anything else."""
        if not isinstance(text, str):
            raise InputError(f"blur {text!r:.60} is not a text.", _choices())
        kind, *amounts = text.split(":")
        _known(kind)
        return cls(kind, tuple(_number(amount, text, kind) for amount in amounts))

    def __str__(self) -> str:
        """The canonical text: all amounts given, whole ones without a point."""
        return ":".join([self.kind, *map(_plain, self.amounts)])

    @property
    def width(self) -> int:
        """Grid samples that its kernel spans; for ``srad`` those of one step."""
        return _made(self)[0]

    def __call__(self, x: Float32) -> Float32:
        """Blur ``x (..., n) float32`` along its last axis, n ≥ 1; never in place, and ``none`` returns x.

        A row gives the same bits alone and in a batch.
        """
        if self.kind == "none":
            return x
        # Row by row: at these lengths numpy gains little from more, and a row's bits cannot depend on others.
        blur = _made(self)[1]
        rows = np.asarray(x, np.float32).reshape(-1, x.shape[-1])
        out = np.empty(rows.shape, np.float32)
        for row, blurred in zip(rows, out, strict=True):
            blurred[:] = blur(row)
        return out.reshape(x.shape)


# Text


def _plain(value: float) -> str:
    return f"{value:.0f}" if value % 1 == 0 and abs(value) < 1e6 else repr(value)


def _number(amount: str, text: str, kind: str) -> float:
    try:
        return float(amount)
    except ValueError:
        raise InputError(f"blur {text!r:.60}: {amount!r:.40} is not a number.",
                         f"Write {_usage(kind)}.") from None


def _usage(kind: str) -> str:
    amounts = _KINDS[kind].amounts
    if not amounts:
        return kind
    form = ":".join([kind, *(amount.name.upper() for amount in amounts)])
    return f"{form} (default {Blur(kind)})"


def _choices() -> str:
    return f"Known: {', '.join(_KINDS)}."


def _known(kind: str) -> _Kind:
    if kind in _KINDS:
        return _KINDS[kind]
    from difflib import get_close_matches

    near = get_close_matches(kind, _KINDS, 1)
    raise InputError(f"blur {kind!r:.60} is unknown.",
                     f"Did you mean {_usage(near[0])}? {_choices()}" if near else _choices())


@lru_cache(maxsize=64)
def _made(blur: Blur) -> tuple[int, RowBlur]:
    return _KINDS[blur.kind].make(*blur.amounts)


# Rows


def _held(row: Float32, before: int, after: int) -> Float32:
    """``row`` with its first value held for ``before`` samples and its last one for ``after``."""
    # np.pad takes as long as a short convolution.
    end = before + len(row)
    out = np.empty(end + after, np.float32)
    out[:before], out[before:end], out[end:] = row[0], row, row[-1]
    return out


def _convolved(row: Float32, kernel: Float32, before: int, after: int) -> Float32:
    return np.convolve(_held(row, before, after), kernel, "valid").astype(np.float32, copy=False)


def _linear(weights: NDArray[np.float64], after: int) -> tuple[int, RowBlur]:
    """The blur with a kernel that reaches ``after`` samples ahead, scaled to sum 1."""
    kernel = (weights / weights.sum()).astype(np.float32)
    return len(kernel), partial(_convolved, kernel=kernel, before=len(kernel) - 1 - after, after=after)


def _gaussian(sigma: float) -> tuple[int, RowBlur]:
    reach = round(REACH_SIGMAS * sigma)
    return _linear(np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2), reach)


def _mean(width: float) -> tuple[int, RowBlur]:
    return _linear(np.ones(int(width)), int(width) // 2)


def _motion(length: float) -> tuple[int, RowBlur]:
    return _linear(np.ones(int(length)), 0)


def _defocus(radius: float) -> tuple[int, RowBlur]:
    reach = math.ceil(radius) - 1
    return _linear(np.sqrt(radius**2 - np.arange(-reach, reach + 1) ** 2), reach)


def _median_row(row: Float32, width: int) -> Float32:
    middle = width // 2
    windows = sliding_window_view(_held(row, middle, middle), width)
    ranked: Float32 = np.partition(windows, middle)[:, middle]
    return ranked


def _median(width: float) -> tuple[int, RowBlur]:
    return int(width), partial(_median_row, width=int(width))


# Speckle reducing anisotropic diffusion


def _sums_of_nine(x: Float32) -> Float32:
    """Sum of each nine neighbours of ``x (n + 8,)``."""
    two = x[:-1] + x[1:]
    four = two[:-2] + two[2:]
    nine: Float32 = four[:-5] + four[4:-1] + x[8:]
    return nine


def _diffusivity(gradient: Float32) -> Float32:
    """c (n − 1,), 0..1, between neighbours whose differences are ``gradient (n − 1,)``."""
    margin = SRAD_WINDOW // 2
    local = _sums_of_nine(_held(gradient * gradient, margin, margin))
    spread = local[::SRAD_STRIDE]
    middle = len(spread) // 2
    quiet = np.float32(max(float(np.partition(spread, middle)[middle]), SRAD_FLOOR))
    c: Float32 = quiet / np.maximum(local, quiet)
    return c


def _srad_row(row: Float32, iterations: int, t: float) -> Float32:
    x: Float32 = row.copy()
    if len(x) == 1:
        return x
    for _ in range(iterations):
        gradient = x[1:] - x[:-1]
        flux = _diffusivity(gradient) * gradient
        flux *= t
        x[:-1] += flux
        x[1:] -= flux
    return x


def _srad(iterations: float, t: float) -> tuple[int, RowBlur]:
    """SRAD for RF: x ← x + t · div(c ∇x), ``iterations`` times (Yu & Acton 2002; eq. 3 of the paper).

    Yu & Acton have c = 1 / (1 + (q² − q0²) / (q0² (1 + q0²))), with q the standard deviation over the mean of
    neighbouring intensities and q0 that of a homogeneous region. RF is bipolar with mean zero: it has no q.
    Its square or envelope has one, but that is homogeneous at the crest of an echo, where the carrier would
    then be rubbed out. So RF is taken as the fluctuation x of an intensity M + x, M → ∞. Diffusion does not
    see the constant, q = s / M, and c becomes s0² / s²: M cancels. It is the weight of the mean in Lee's
    filter under additive noise, as SRAD's own c is under speckle.

    s² between two neighbours is Δx² / 4; here it is the mean over nine such pairs around the flux, lest a
    spike of noise be taken for an edge. s0² is its median over the A-scan at each iteration, most of a gate
    being homogeneous. As usual c is held at or below 1.

    A flux leaves one sample and enters the next, none crosses the ends: the mean is conserved. For t ≤ 0.5 a
    step is stable, and no sample leaves the range of itself and its neighbours. Where c = 1 the result is a
    Gaussian's of σ = sqrt(2 · iterations · t), 2.8 by default.
    """
    return SRAD_WINDOW + 1, partial(_srad_row, iterations=int(iterations), t=t)


def _odd_width() -> _Amount:
    return _Amount("width", 5, 1, MAX_WIDTH, whole=True, odd=True)


_KINDS: dict[str, _Kind] = {
    "none": _Kind((), lambda: (1, np.copy)),
    "gaussian": _Kind((_Amount("sigma", DEFAULT_SIGMA, 0, MAX_SIGMA),), _gaussian),
    "srad": _Kind((_Amount("iterations", 40, 0, 1000, whole=True), _Amount("t", 0.1, 0, 0.5)), _srad),
    "mean": _Kind((_odd_width(),), _mean),
    "median": _Kind((_odd_width(),), _median),
    "motion": _Kind((_Amount("length", 5, 1, MAX_WIDTH, whole=True),), _motion),
    "defocus": _Kind((_Amount("radius", 5, 1, MAX_WIDTH // 2),), _defocus),
}
"""Defaults are the paper's, but for sigma."""
