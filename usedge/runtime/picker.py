"""Pickers that the device runs: the bundle's model, or a classical method by name."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from usedge.ascan import AScan
from usedge.backends import Backend, open_backend
from usedge.bundle import Bundle, Variant, check_golden, read_bundle
from usedge.errors import InputError
from usedge.golden import Infer
from usedge.resources import shipped_bundle
from usedge.runtime.choice import BY_NAME_ALONE, Say, choose
from usedge.runtime.doubts import Doubter, Doubts
from usedge.runtime.passes import LAPS, Passes
from usedge.sparse import few
from usedge.tof import Pick

CHOOSE = ("auto", "measure")
"""Instead of a runtime: the one that was chosen here before, or that is chosen anew."""
SATURATED = 0.2
"""Share of a gate at its least value, and as much at its largest, from which nothing is left to time."""
LEAST_SWING = 64
"""Counts between the extremes under which many equal samples are only quiet."""


class ModelPicker:
    """A gate through both passes of the network (``Passes``) and the operating points of its bundle.

    ``f0_hz``: the transducer's centre frequency, None to estimate it from each echo. ``passes`` 1 leaves the
    second pass away, for a high PRF. ``doubts`` are the rules by which an answer is withheld (None: the
    defaults). ``laps_ns`` says what the last A-scan took in the stages "preprocess"
    and "infer".
    """

    def __init__(self, bundle: Bundle, variant: Variant, backend: Backend, f0_hz: float | None = None,
                 passes: int = 2, doubts: Doubts | None = None) -> None:
        self.variant = variant
        self._thresholds = bundle.thresholds
        spec = bundle.spec if passes > 1 else replace(bundle.spec, zoom=0.0)
        self._passes = Passes(spec, backend, f0_hz, bundle.thresholds.glance)
        self._doubter = Doubter(doubts or Doubts())

    @property
    def provider(self) -> str | None:
        """What onnxruntime runs the network on, in its own word; None for other runtimes."""
        provider: str | None = getattr(self._passes.backend, "provider", None)
        return provider

    @property
    def laps_ns(self) -> dict[str, int]:
        """Nanoseconds of the last A-scan by stage."""
        return self._passes.laps_ns

    def pick(self, gated: AScan) -> Pick:
        """The onset of the first echo, or why there is none; raises InputError for too short a gate.

        ``abstain`` is "out_of_distribution" for a constant gate, which no receiver sends, "saturated" for one
        that mostly lies at the ADC's limits, else "no_echo" or "low_confidence" by the bundle's thresholds,
        or by a rule of ``doubts``, which ``reason`` then names.
        """
        limits = self._thresholds
        self._passes.laps_ns = dict.fromkeys(LAPS, 0)
        odd = unfit(gated.samples)
        if odd is not None:
            reason = "constant" if odd == "out_of_distribution" else None
            return Pick(None, 0.0, 0.0, abstain=odd, reason=reason)
        found = self._passes.find(gated, limits.no_echo, limits.no_echo_again)
        if found.onset is None:
            return Pick(None, found.p_no_echo, found.snr_db, abstain="no_echo")
        confidence = limits.calibrated(found.confidence)
        if confidence < limits.low_confidence:
            return Pick(None, confidence, found.snr_db, abstain="low_confidence")
        assert self._passes.whole is not None
        doubt = self._doubter.doubt(self._passes.whole, found.snr_db, found.onset, self._passes.period)
        if doubt is not None:
            return Pick(None, confidence, found.snr_db, abstain=doubt.abstain, reason=doubt.reason)
        label = min(int(found.onset / found.patch), self._passes.spec.n_patches - 1)
        return Pick(gated.t0_us + found.onset * gated.sample_us, confidence, found.snr_db, label)

    def close(self) -> None:
        """Free the runtime."""
        self._passes.backend.close()


def unfit(samples: NDArray[np.int16]) -> str | None:
    """Why ``samples (n,)`` hold nothing that could be timed; None where they may."""
    low, high = int(samples[samples.argmin()]), int(samples[samples.argmax()])
    if low == high:
        return "out_of_distribution"
    if high - low < LEAST_SWING:
        return None
    most = SATURATED * len(samples)
    at_limits = all(np.count_nonzero(samples == limit) > most for limit in (low, high))
    return "saturated" if at_limits else None


def open_runtime(bundle: Bundle, runtime: str) -> tuple[Infer, NDArray[np.float32]]:
    """The bundle's variant on ``runtime``, asked as the device asks it first, once it has answered the golden
    vectors, and these (n, n_samples).

    Raises MissingExtraError where the runtime is not installed, InputError where it answers wrongly, or on
    another processor than the one that it is named after.
    """
    backend, glance = _opened(bundle, bundle.default_for(runtime)), bundle.thresholds.glance
    if fault := getattr(backend, "fault", ""):
        raise InputError(f"{fault}.", "Install what it names, or run with another: --runtime onnx")
    infer = backend.infer
    if glance is not None:
        return partial(few, infer, patch=bundle.spec.patch, k=glance.patches), bundle.golden().x
    return infer, bundle.golden().x


def _opened(bundle: Bundle, variant: Variant) -> Backend:
    """``variant`` on its runtime, after it has answered the golden vectors."""
    backend = open_backend(variant.runtime, bundle.variant_bytes(variant.name))
    check_golden(bundle, backend.infer)
    return backend


def open_model_picker(bundle: Bundle, runtime: str = "auto", f0_hz: float | None = None, passes: int = 2,
                      say: Say = lambda _: None, doubts: Doubts | None = None) -> ModelPicker:
    """A picker on ``runtime`` after it has answered the golden vectors; ``say`` is told of a choice ("auto":
    ``choice.choose``).

    ``f0_hz``, ``passes`` and ``doubts`` as ``ModelPicker`` takes them.
    Raises MissingExtraError where the runtime is not installed, InputError where it answers wrongly.
    """
    name = choose(bundle, say, anew=runtime == "measure") if runtime in CHOOSE else runtime
    variant = bundle.default_for(name)
    if name in BY_NAME_ALONE:
        say(f"{name} compiles the network for this machine, which may take minutes")
    backend = _opened(bundle, variant)
    if fault := getattr(backend, "fault", ""):
        say(f"{fault}; the network runs on {getattr(backend, 'provider', '')}")
    return ModelPicker(bundle, variant, backend, f0_hz, passes, doubts)


def load_model_picker(path: Path | None = None, runtime: str = "auto", doubts: Doubts | None = None
                      ) -> ModelPicker:
    """A picker from a bundle file; None takes the shipped one."""
    return open_model_picker(read_bundle(path or shipped_bundle()), runtime, doubts=doubts)
