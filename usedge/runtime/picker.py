"""Pickers that the device runs: the bundle's model, or a classical method by name."""

from __future__ import annotations

import math
import time
from pathlib import Path

from usedge.ascan import AScan
from usedge.backends import BACKENDS, Backend, open_backend
from usedge.bundle import Bundle, Variant, check_golden, read_bundle
from usedge.errors import InputError, MissingExtraError
from usedge.pointer import decode_one
from usedge.preprocess import Preprocessor
from usedge.resources import shipped_bundle
from usedge.tof import QUANTISATION_RMS, Pick


class ModelPicker:
    """A gate through preprocessing, the network, and the operating points of its bundle.

    ``laps_ns`` says what the last A-scan took in the stages "preprocess" and "infer".
    """

    def __init__(self, bundle: Bundle, variant: Variant, backend: Backend) -> None:
        self.laps_ns: dict[str, int] = {}
        self.variant = variant
        self.backend = backend
        self._thresholds = bundle.thresholds
        self._spec = bundle.spec
        self._prepare = Preprocessor(bundle.spec)

    def pick(self, gated: AScan) -> Pick:
        """The onset of the first echo, or why there is none; raises InputError for too short a gate."""
        clock = time.perf_counter_ns
        begun = clock()
        prepared = self._prepare(gated)
        ready = clock()
        out = self.backend.infer(prepared.x)
        inferred = clock()
        self.laps_ns = {"preprocess": ready - begun, "infer": inferred - ready}
        label, place, confidence, p_no_echo = decode_one(out[0])
        snr_db = 20.0 * math.log10(prepared.peak[0] / max(prepared.noise[0], QUANTISATION_RMS))
        if p_no_echo > self._thresholds.no_echo:
            return Pick(None, p_no_echo, snr_db, abstain="no_echo")
        if confidence < self._thresholds.low_confidence:
            return Pick(None, confidence, snr_db, abstain="low_confidence")
        native = min(place * self._spec.patch * prepared.step, len(gated.samples))
        return Pick(gated.t0_us + native * gated.sample_us, confidence, snr_db, label)

    def close(self) -> None:
        """Free the runtime."""
        self.backend.close()


def _open_variant(bundle: Bundle, runtime: str) -> ModelPicker:
    variant = bundle.default_for(runtime)
    backend = open_backend(runtime, bundle.variant_bytes(variant.name))
    check_golden(bundle, backend.infer)
    return ModelPicker(bundle, variant, backend)


def open_model_picker(bundle: Bundle, runtime: str = "auto") -> ModelPicker:
    """A picker on ``runtime`` ("auto": the first installed), after it has answered the golden vectors.

    Raises MissingExtraError where the runtime is not installed, InputError where it answers wrongly.
    """
    if runtime != "auto":
        return _open_variant(bundle, runtime)
    missing: MissingExtraError | None = None
    for name in BACKENDS:
        if not any(variant.runtime == name for variant in bundle.variants.values()):
            continue
        try:
            return _open_variant(bundle, name)
        except MissingExtraError as error:
            missing = error
    raise missing or InputError(f"{bundle.path} has no variant for a known runtime.", "Export it again.")


def load_model_picker(path: Path | None = None, runtime: str = "auto") -> ModelPicker:
    """A picker from a bundle file; None takes the shipped one."""
    return open_model_picker(read_bundle(path or shipped_bundle()), runtime)
