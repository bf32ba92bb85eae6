"""Pickers that the device runs: the bundle's model, or a classical method by name."""

from __future__ import annotations

import math
import time
from pathlib import Path

from usedge.ascan import AScan
from usedge.backends import BACKENDS, Backend, open_backend
from usedge.bundle import Bundle, Variant, check_golden, read_bundle
from usedge.errors import InputError, MissingExtraError
from usedge.meter import Meter
from usedge.pointer import decode
from usedge.preprocess import Preprocessor
from usedge.resources import shipped_bundle
from usedge.tof import QUANTISATION_RMS, Pick


class ModelPicker:
    """A gate through preprocessing, the network, and the operating points of its bundle."""

    def __init__(
        self, bundle: Bundle, variant: Variant, backend: Backend, meter: Meter | None = None
    ) -> None:
        self.meter = meter or Meter()
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
        self.meter.add("preprocess", ready - begun)
        self.meter.add("infer", inferred - ready)
        pointed = decode(out)
        snr_db = 20.0 * math.log10(prepared.peak[0] / max(float(prepared.noise[0]), QUANTISATION_RMS))
        p_no_echo, confidence = float(pointed.p_no_echo[0]), float(pointed.confidence[0])
        if p_no_echo > self._thresholds.no_echo:
            return Pick(None, p_no_echo, snr_db, abstain="no_echo")
        if confidence < self._thresholds.low_confidence:
            return Pick(None, confidence, snr_db, abstain="low_confidence")
        native = float(pointed.place[0]) * self._spec.patch * prepared.step
        tof_us = gated.t0_us + min(native, len(gated.samples)) * gated.sample_us
        return Pick(tof_us, confidence, snr_db, int(pointed.label[0]))

    def close(self) -> None:
        """Free the runtime."""
        self.backend.close()


def _open_variant(bundle: Bundle, runtime: str, meter: Meter | None) -> ModelPicker:
    variant = bundle.default_for(runtime)
    backend = open_backend(runtime, bundle.variant_bytes(variant.name))
    check_golden(bundle, backend.infer)
    return ModelPicker(bundle, variant, backend, meter)


def open_model_picker(bundle: Bundle, runtime: str = "auto", meter: Meter | None = None) -> ModelPicker:
    """A picker on ``runtime`` ("auto": the first installed), after it has answered the golden vectors.

    Raises MissingExtraError where the runtime is not installed, InputError where it answers wrongly.
    """
    if runtime != "auto":
        return _open_variant(bundle, runtime, meter)
    missing: MissingExtraError | None = None
    for name in BACKENDS:
        if not any(variant.runtime == name for variant in bundle.variants.values()):
            continue
        try:
            return _open_variant(bundle, name, meter)
        except MissingExtraError as error:
            missing = error
    raise missing or InputError(f"{bundle.path} has no variant for a known runtime.", "Export it again.")


def load_model_picker(path: Path | None = None, runtime: str = "auto") -> ModelPicker:
    """A picker from a bundle file; None takes the shipped one."""
    return open_model_picker(read_bundle(path or shipped_bundle()), runtime)
