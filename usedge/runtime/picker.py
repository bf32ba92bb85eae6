"""Pickers that the device runs: the bundle's model, or a classical method by name."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

from usedge.ascan import AScan
from usedge.backends import BACKENDS, Backend, open_backend
from usedge.bundle import Bundle, Variant, check_golden, read_bundle
from usedge.errors import InputError, MissingExtraError
from usedge.pointer import Pointing, decode_one
from usedge.preprocess import Prepared, Preprocessor
from usedge.resources import shipped_bundle
from usedge.tof import QUANTISATION_RMS, Pick
from usedge.zoom import Place, settle, surer, zoom


class ModelPicker:
    """A gate through preprocessing, the network, and the operating points of its bundle; then, where the
    spec has a second pass, a shorter gate around the echo once more.

    ``f0_hz``: the transducer's centre frequency, None to estimate it from each echo. ``laps_ns`` says what
    the last A-scan took in the stages "preprocess" and "infer", both passes together.
    """

    def __init__(self, bundle: Bundle, variant: Variant, backend: Backend, f0_hz: float | None = None
                 ) -> None:
        if f0_hz is not None and not 0.0 < f0_hz < math.inf:
            raise InputError(f"centre frequency {f0_hz * 1e-6:g} MHz is not positive.",
                             "Example: --f0-mhz 2.25")
        self.laps_ns: dict[str, int] = {}
        self.f0_hz = f0_hz
        self.variant = variant
        self.backend = backend
        self._thresholds = bundle.thresholds
        self._spec = bundle.spec
        self._prepare = Preprocessor(bundle.spec)

    def pick(self, gated: AScan) -> Pick:
        """The onset of the first echo, or why there is none; raises InputError for too short a gate."""
        self.laps_ns = {"preprocess": 0, "infer": 0}
        prepared, found = self._look(gated)
        snr_db = 20.0 * math.log10(prepared.peak[0] / max(prepared.noise[0], QUANTISATION_RMS))
        if found.p_no_echo > self._thresholds.no_echo:
            return Pick(None, found.p_no_echo, snr_db, abstain="no_echo")
        if found.confidence < self._thresholds.low_confidence:
            return Pick(None, found.confidence, snr_db, abstain="low_confidence")
        patch = self._spec.patch * prepared.step
        place = _placed(found, patch)
        native = self._again(gated, place) if self._spec.zoom else min(place.onset, len(gated.samples))
        label = min(int(native / patch), self._spec.n_patches - 1)
        return Pick(gated.t0_us + native * gated.sample_us, found.confidence, snr_db, label)

    def _look(self, gated: AScan) -> tuple[Prepared, Pointing]:
        clock = time.perf_counter_ns
        begun = clock()
        prepared = self._prepare(gated)
        ready = clock()
        out = self.backend.infer(prepared.x)
        self.laps_ns["preprocess"] += ready - begun
        self.laps_ns["infer"] += clock() - ready
        return prepared, decode_one(out[0])

    def _again(self, gated: AScan, place: Place) -> float:
        """Where both passes together put the echo, in native samples."""
        clock = time.perf_counter_ns
        begun, samples = clock(), gated.samples
        window = zoom(samples, place.onset, self._spec.zoom, self._period(gated))
        self.laps_ns["preprocess"] += clock() - begun
        if window.stop - window.start < len(samples):
            prepared, found = self._look(replace(gated, samples=samples[window.start : window.stop]))
            second = _placed(found, self._spec.patch * prepared.step, window.start)
            place = surer(place, second, window)
        return settle(samples, place, window)

    def _period(self, gated: AScan) -> float | None:
        """Period of the known centre frequency in native samples."""
        if self.f0_hz is None:
            return None
        if self.f0_hz >= gated.fs_hz / 2:
            raise InputError(f"centre frequency {self.f0_hz * 1e-6:g} MHz is not under the Nyquist frequency,"
                             f" {gated.fs_hz / 2e6:g} MHz.", "Check --f0-mhz and the sampling rate.")
        return gated.fs_hz / self.f0_hz

    def close(self) -> None:
        """Free the runtime."""
        self.backend.close()


def _placed(found: Pointing, patch: float, start: int = 0) -> Place:
    """``found`` in native samples, ``patch`` of them in a patch, the first at ``start``."""
    return Place(start + found.place * patch, start + found.arrival * patch, found.confidence)


def _open_variant(bundle: Bundle, runtime: str, f0_hz: float | None) -> ModelPicker:
    variant = bundle.default_for(runtime)
    backend = open_backend(runtime, bundle.variant_bytes(variant.name))
    check_golden(bundle, backend.infer)
    return ModelPicker(bundle, variant, backend, f0_hz)


def open_model_picker(bundle: Bundle, runtime: str = "auto", f0_hz: float | None = None) -> ModelPicker:
    """A picker on ``runtime`` ("auto": the first installed), after it has answered the golden vectors.

    ``f0_hz`` is the transducer's centre frequency, where it is known (``ModelPicker``).
    Raises MissingExtraError where the runtime is not installed, InputError where it answers wrongly.
    """
    if runtime != "auto":
        return _open_variant(bundle, runtime, f0_hz)
    missing: MissingExtraError | None = None
    for name in BACKENDS:
        if not any(variant.runtime == name for variant in bundle.variants.values()):
            continue
        try:
            return _open_variant(bundle, name, f0_hz)
        except MissingExtraError as error:
            missing = error
    raise missing or InputError(f"{bundle.path} has no variant for a known runtime.", "Export it again.")


def load_model_picker(path: Path | None = None, runtime: str = "auto") -> ModelPicker:
    """A picker from a bundle file; None takes the shipped one."""
    return open_model_picker(read_bundle(path or shipped_bundle()), runtime)
