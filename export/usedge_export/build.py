"""The whole way of a checkpoint: convert, compare, time, gate, choose golden vectors, write."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from usedge import __version__
from usedge.bundle import Bundle, BundleParts, Thresholds, VariantParts, write_bundle
from usedge.errors import GateFailedError, InputError
from usedge.golden import Golden, Infer, wrong_answers
from usedge.labelled import load_labelled
from usedge.meter import host_facts
from usedge.models.checkpoint import Checkpoint, load_checkpoint, weights_of
from usedge.sparse import Ask, few
from usedge_export.calibration_set import CalibrationSet
from usedge_export.golden_choice import choose
from usedge_export.litert_variant import litert_fp32, litert_int8, litert_static
from usedge_export.material import Material, labelled, synthetic
from usedge_export.memory import rss_mb
from usedge_export.native_variant import native_int8
from usedge_export.onnx_plain import without_notes
from usedge_export.onnx_static import onnx_static
from usedge_export.onnx_variant import onnx_fp32, onnx_int8
from usedge_export.operating import calibration, no_echo_limit
from usedge_export.parity import Figures
from usedge_export.recipe import NATIVE, STATIC, OperatingSettings, Recipe, runtime_and_precision
from usedge_export.trial import Trial, measure, open_variants, run
from usedge_export.verdict import choose_defaults, gate, near_fp32, stored


def _onnx_plain(model: nn.Module, n_samples: int) -> bytes:
    return without_notes(onnx_fp32(model, n_samples))


CONVERTERS: dict[str, tuple[Callable[[nn.Module, int], bytes], Callable[[bytes], bytes]]] = {
    "litert": (litert_fp32, litert_int8),
    "onnx": (_onnx_plain, onnx_int8),
}
STATIC_CONVERTERS: dict[str, Callable[[bytes, CalibrationSet], bytes]] = {
    "litert": litert_static,
    "onnx": onnx_static,
}
PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "litert-torch", "ai-edge-quantizer",
            "ai-edge-litert", "numpy")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to: the bundle, the original's scores, all figures, why a variant was left out."""

    bundle: Bundle
    torch: Figures
    figures: dict[str, Figures]
    refused: dict[str, list[str]]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; the keys are a contract."""
        variants = {name: self._variant(name) for name in self.figures}
        return {"format_version": 1, "bundle": str(self.bundle.path), "sha256": self.bundle.sha256,
                "bytes": self.bundle.path.stat().st_size, "torch": self.torch, "variants": variants,
                "seconds": round(self.seconds, 1), "host": host_facts()}

    def _variant(self, name: str) -> dict[str, Any]:
        written = self.bundle.variants.get(name)
        verdict = {"accepted": written is not None, "default": written is not None and written.default}
        return self.figures[name] | verdict | {"refused_because": self.refused.get(name, [])}


def export(folder: Path, recipe: Recipe, out: Path, calibrate: Path | None = None,
           say: Say = lambda _: None) -> Exported:
    """Make the bundle ``out`` of the ToF checkpoint in ``folder``, or of that in another bundle.

    ``calibrate`` is a labelled A-scan file on which the variants must pass the gate as well, and which the
    confidence is calibrated on. Raises
    InputError for a checkpoint or a file that cannot be used, and GateFailedError where a required variant
    breaks a limit or too few A-scans are clear enough for golden vectors; then nothing is written.
    """
    begun = time.monotonic()
    checkpoint = load_checkpoint(folder, "tof")
    materials = _materials(checkpoint, recipe, calibrate)  # first: a file of no use is refused at once
    thresholds = _thresholds(folder, checkpoint, recipe.operating, calibrate, say)
    patch_ns = 1e3 * recipe.parity.gate_us / checkpoint.spec.n_patches
    model = checkpoint.model()
    calibration_set = _calibration_set(checkpoint, recipe, materials[1:])
    contents = convert(model, checkpoint.spec.n_samples, recipe.variants, say, calibration_set)
    models = open_variants(contents)
    say(f"comparing and timing on {' + '.join(f'{len(each.x)} {each.name}' for each in materials)} A-scans")
    trials = [run(model, models, material) for material in materials]
    measured = measure(trials, models, thresholds.no_echo, patch_ns, recipe.speed)
    for name, content in contents.items():
        measured[name] |= {"bytes": len(content), "rss_mb": rss_mb(name, content, checkpoint.spec.n_samples)}
    refused = gate(measured, recipe)
    accepted = {name: models[name] for name in contents if name not in refused}
    golden = _golden(trials[0], accepted, thresholds, checkpoint.spec.patch, recipe)
    defaults = choose_defaults({name: measured[name] for name in accepted})
    for line in near_fp32({name: measured[name] for name in accepted}):
        say(line)
    variants = {name: _parts(name, contents[name], stored(measured[name]), name in defaults)
                for name in accepted}
    original = trials[0].original(thresholds.no_echo, patch_ns)
    weights = weights_of(folder)
    provenance = _provenance(weights, checkpoint, recipe, calibrate) | {"torch": original, "refused": refused}
    if calibration_set is not None:
        provenance["calibration_set"] = calibration_set.to_dict()
    parts = BundleParts(out.stem, checkpoint.spec, thresholds, variants, golden, provenance, weights)
    bundle = write_bundle(out, parts)
    return Exported(bundle, original, measured, refused, time.monotonic() - begun)


def _thresholds(folder: Path, checkpoint: Checkpoint, settings: OperatingSettings, calibrate: Path | None,
                say: Say) -> Thresholds:
    """The operating point: by scenes, where the recipe has some, else the limit that training validated."""
    if settings.scenes:
        say(f"choosing the no-echo limit on {settings.scenes} scenes, {settings.repeats} times each")
        limits = no_echo_limit(checkpoint, settings), settings.no_echo_again
    else:
        limits = _validated(folder, checkpoint), 0.0
    line = calibration(checkpoint, load_labelled(calibrate), limits, say) if calibrate else (1.0, 0.0)
    placed = Thresholds(limits[0], settings.low_confidence, *line, no_echo_again=limits[1])
    if settings.patches and not checkpoint.record.get("settings", {}).get("sparse"):
        say("it was not trained on few patches (finetune.sparse): all of them are looked at, always")
        return placed
    return replace(placed, patches=settings.patches, sure=settings.sure)


def _validated(folder: Path, checkpoint: Checkpoint) -> float:
    threshold = (checkpoint.record.get("scores") or {}).get("no_echo_threshold")
    if not isinstance(threshold, float):
        raise InputError(f"{folder} has no threshold for \"no echo\" among its scores.",
                         "Let `usedge finetune` run to its end: it validates last.")
    return threshold


def _materials(checkpoint: Checkpoint, recipe: Recipe, calibrate: Path | None) -> list[Material]:
    own = [labelled(calibrate, checkpoint.spec)] if calibrate else []
    return [synthetic(recipe.parity, checkpoint.spec), *own]


def _calibration_set(checkpoint: Checkpoint, recipe: Recipe, own: list[Material]) -> CalibrationSet | None:
    if recipe.calibration is None:
        return None
    return CalibrationSet.gather(recipe.calibration, checkpoint.spec, own[0] if own else None)


def convert(model: nn.Module, n_samples: int, names: tuple[str, ...], say: Say,
            chosen: CalibrationSet | None = None) -> dict[str, bytes]:
    """The model file of each variant in ``names``; fp32 is made on the way to int8 in any case, and
    ``chosen`` fixes the ranges of static int8.
    """
    contents = {}
    for runtime, (to_fp32, to_int8) in CONVERTERS.items():
        wanted = [name for name in names if name.startswith(runtime)]
        if not wanted:
            continue
        say(f"converting to {runtime}")
        made = {f"{runtime}-fp32": to_fp32(model, n_samples)}
        if f"{runtime}-int8" in wanted:
            made[f"{runtime}-int8"] = to_int8(made[f"{runtime}-fp32"])
        if chosen is not None and f"{runtime}-{STATIC}" in wanted:
            say(f"fixing the ranges of static int8 on {len(chosen.x)} A-scans")
            made[f"{runtime}-{STATIC}"] = STATIC_CONVERTERS[runtime](made[f"{runtime}-fp32"], chosen)
        contents.update({name: made[name] for name in wanted})
    if NATIVE in names:
        contents[NATIVE] = native_int8(model)
    return contents


def _golden(trial: Trial, accepted: Mapping[str, Ask], limits: Thresholds, patch: int, recipe: Recipe
            ) -> Golden:
    """Golden vectors, put to every accepted variant once more, as the device does."""
    answers, x = [trial.answers[name] for name in accepted], trial.material.x
    asked: list[tuple[str, Infer]] = list(accepted.items())
    if limits.patches:
        at_a_glance = [(name, partial(few, infer, patch=patch, k=limits.patches)) for name, infer in asked]
        answers += [np.concatenate([infer(x[i : i + 1]) for i in range(len(x))]) for _, infer in at_a_glance]
        asked += at_a_glance
    golden = choose(x, trial.reference, answers, limits.no_echo, recipe.golden)
    for name, infer in asked:
        fault = wrong_answers(golden, limits.no_echo, infer)
        if fault is not None:
            raise GateFailedError(f"{name} does not repeat its own answers: {fault}.", "Nothing was written.")
    return golden


def _parts(name: str, content: bytes, parity: Figures, default: bool) -> VariantParts:
    return VariantParts(*runtime_and_precision(name), content, parity, default)


def _provenance(weights: bytes, checkpoint: Checkpoint, recipe: Recipe,
                calibrate: Path | None) -> dict[str, Any]:
    """Where the bundle comes from, as JSON values: no paths, no host name, nothing that varies."""
    return {
        "usedge": __version__, "checkpoint": checkpoint.record, "config": checkpoint.config.to_dict(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(), "recipe": recipe.to_dict(),
        "calibrate": {"file": calibrate.name, "sha256": _sha256(calibrate)} if calibrate else None,
        "packages": {name: _version(name) for name in PACKAGES}, "machine": platform.machine(),
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
