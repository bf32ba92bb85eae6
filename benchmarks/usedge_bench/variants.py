"""Every variant of a bundle and its peers on the same gates: time of the whole decision, hits, memory, start.

The decision is what follows the preprocessing: which patches are looked at, both passes of the network, and
what is read from its answers. Peers look at all patches, as they would without usedge.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from usedge.ascan import AScan, cut_gate
from usedge.backends import Backend, open_backend
from usedge.bundle import Bundle, Variant
from usedge.errors import InputError, LinkError, MissingExtraError
from usedge.labelled import LabelledSet, load_labelled
from usedge.runtime.choice import choose
from usedge.runtime.evaluate import judge_passes
from usedge.runtime.passes import Passes
from usedge.sparse import SHARES, Glance
from usedge_bench.accuracy import synthetic_set
from usedge_bench.conditions import Watch
from usedge_bench.peers import REFERENCE, peer_name
from usedge_bench.percentiles import summary
from usedge_bench.report import VariantsReport, common
from usedge_bench.runtimes import CALIBRATION, OpenVINOBackend
from usedge_bench.suite import AccuracySuite, VariantsSuite

PATIENCE_S = 120.0
PROBE = """
import json, sys, time
from usedge.ascan import AScan
from usedge.bundle import read_bundle
from usedge.backends import open_backend
from usedge.meter import rss_mb
from usedge.runtime.passes import Passes
import numpy as np
bundle = read_bundle(sys.argv[1])
variant = bundle.variants[sys.argv[2]]
backend = open_backend(variant.runtime, bundle.variant_bytes(variant.name))
gate = AScan(np.random.default_rng(0).normal(0.0, 50.0, int(sys.argv[3])).astype(np.int16), 4e7)
Passes(bundle.spec, backend, glance=bundle.thresholds.glance).find(gate, 1.0)
print(json.dumps({"rss_mb": rss_mb()}))
"""


@dataclass(frozen=True, slots=True)
class Contender:
    """``name`` in the report, the network, how it is asked, and the ``variant`` of the bundle that it is."""

    name: str
    backend: Backend
    glance: Glance | None
    variant: Variant | None
    default: bool = False

    def passes(self, bundle: Bundle) -> Passes:
        """Both passes over a gate by it."""
        return Passes(bundle.spec, self.backend, glance=self.glance)


def run_variants(bundle: Bundle, suite: VariantsSuite, say: Callable[[str], None],
                 files: Sequence[Path] = ()) -> VariantsReport:
    """Time, score and start every contender; ``files`` are labelled A-scans, timed and scored.

    Raises InputError for a file that cannot be used.
    """
    watch = Watch(say)
    recorded = [load_labelled(path) for path in files]
    field = synthetic_set(AccuracySuite("field", suite.ascans, suite.samples, suite.seed))
    runtime = choose(bundle, say)
    missing: dict[str, str] = {}
    with watch.part("open", "opening every variant and peer …"):
        contenders = list(_contenders(bundle, runtime, field, missing))
    rows: dict[str, dict[str, Any]] = {each.name: {} for each in contenders}
    with watch.part("time", f"timing {len(contenders)} contenders in turn …"):
        values = _timed(bundle, contenders, _spread(recorded or [field], suite.gates), suite)
    for each in contenders:
        with watch.part(each.name, f"scoring {each.name} …"):
            rows[each.name] = _row(each, bundle, values[each.name], values[REFERENCE], suite)
            rows[each.name]["field"] = _hits(each, bundle, [field])
            rows[each.name]["recorded"] = _hits(each, bundle, recorded) if recorded else None
            rows[each.name] |= _start(each, bundle, suite)
    for backend in {id(each.backend): each.backend for each in contenders}.values():
        backend.close()
    for row in rows.values():
        row["hit_half_period"] = (row["recorded"] or row["field"])["hit_half_period"]
    return VariantsReport(
        **common("variants", suite, watch), bundle={"name": bundle.name, "sha256": bundle.sha256},
        missing=missing, files=[path.name for path in files], rows=list(rows.values()), values_us=values,
    )


def _contenders(bundle: Bundle, runtime: str, field: LabelledSet, missing: dict[str, str]
                ) -> Iterator[Contender]:
    """The reference first; then peers on all patches, and what the bundle does with fewer."""
    glance = bundle.thresholds.glance
    ordered = sorted(bundle.variants.values(), key=lambda each: peer_name(each) != REFERENCE)
    if not ordered or peer_name(ordered[0]) != REFERENCE:
        raise InputError(f"{bundle.path} has no variant onnx-fp32, which all others are compared with.",
                         "Export it with a recipe that names onnx-fp32.")
    for variant in ordered:
        try:
            backend = open_backend(variant.runtime, bundle.variant_bytes(variant.name))
        except MissingExtraError as error:
            missing[peer_name(variant)] = error.what
            continue
        chosen = variant.runtime == runtime and variant.default
        yield Contender(peer_name(variant), backend, None, variant, chosen and glance is None)
        if glance is not None and variant.precision == "int8":
            for k in _curve(bundle, glance):
                name = f"{peer_name(variant)}, {k} of {bundle.spec.n_patches}"
                yield Contender(name, backend, Glance(k, 0.0), variant)
            yield Contender(f"{peer_name(variant)}, {glance.patches} first", backend, glance, variant, chosen)
    yield from _foreign(bundle, field, missing)


def _curve(bundle: Bundle, glance: Glance) -> list[int]:
    """Patches of the latency–accuracy curve: what the files can be asked about, without a second look."""
    return sorted({*(bundle.spec.n_patches // share for share in SHARES), glance.patches})


def _foreign(bundle: Bundle, field: LabelledSet, missing: dict[str, str]) -> Iterator[Contender]:
    model = next(bundle.variant_bytes(each.name) for each in bundle.variants.values()
                 if peer_name(each) == REFERENCE)
    missing["ncnn"] = "pnnx, its converter, gives a graph of this network that ncnn does not load"
    for name, calibrate in (("openvino-fp32", None), ("openvino-int8", _prepared(bundle, field))):
        try:
            yield Contender(name, OpenVINOBackend(model, bundle.spec.n_patches, calibrate), None, None)
        except MissingExtraError as error:
            missing[name] = error.what


def _prepared(bundle: Bundle, field: LabelledSet) -> Any:
    # Ranges of int8 are taken from other A-scans than those that are scored.
    from usedge.preprocess import Preprocessor
    from usedge.synth import generate

    prepare = Preprocessor(bundle.spec)
    return prepare.batch(generate("field", CALIBRATION, 1, field.x.shape[1]).x).x


def _spread(sets: Sequence[LabelledSet], count: int) -> list[AScan]:
    """``count`` gates, as many of every set, from all over it."""
    each = -(-count // len(sets))
    gates = []
    for labelled in sets:
        rows = np.linspace(0, len(labelled) - 1, min(each, len(labelled))).astype(int)
        gates += [cut_gate(labelled.ascan(i), labelled.gate(i)) for i in rows]
    return gates


def _timed(bundle: Bundle, contenders: Sequence[Contender], gates: Sequence[AScan], suite: VariantsSuite
           ) -> dict[str, list[float]]:
    """µs of every decision, by contender, in the order that they were made in."""
    passes = {each.name: each.passes(bundle) for each in contenders}
    limits = bundle.thresholds
    took: dict[str, list[float]] = {name: [] for name in passes}
    names = list(passes)
    for turn in range(-1, suite.rounds):
        # Each round starts with another one: none of them always runs in its neighbour's wake.
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            for i in range(suite.block if turn >= 0 else suite.warmup):
                gate = gates[(turn * suite.block + i) % len(gates)]
                passes[name].find(gate, limits.no_echo, limits.no_echo_again)
                if turn >= 0:
                    took[name].append(round(passes[name].laps_ns["infer"] * 1e-3, 1))
    return took


def _row(each: Contender, bundle: Bundle, values: list[float], reference: list[float], suite: VariantsSuite
         ) -> dict[str, Any]:
    told = summary(values, suite.seed, rounds=suite.rounds)
    blocks = np.median(np.reshape(values, (suite.rounds, -1)), axis=1)
    base = np.median(np.reshape(reference, (suite.rounds, -1)), axis=1)
    return {"name": each.name, "default": each.default,
            "patches": each.glance.patches if each.glance else bundle.spec.n_patches,
            "sure": each.glance.sure if each.glance else None,
            "p50_us": told["p50_us"], "p90_us": told["p90_us"], "p99_us": told["p99_us"],
            "ci95_us": told["ci95_us"], "n": told["n"],
            "ratio_p50": round(float(np.median(blocks / base)), 3),
            "bytes": each.variant.bytes if each.variant else None}


def _hits(each: Contender, bundle: Bundle, sets: Sequence[LabelledSet]) -> dict[str, float | None]:
    """Mean over ``sets`` of hits within half a period and a period, misses and false alarms; and the share of
    passes that had to look at all patches.
    """
    passes, asked, limits = each.passes(bundle), 0, bundle.thresholds
    scores: dict[str, list[float]] = {}
    for labelled in sets:
        outcomes = judge_passes(passes, labelled, limits.no_echo, limits.no_echo_again)
        asked += len(outcomes) + int(outcomes.answered.sum())
        if outcomes.echo.any():
            for key, periods in (("hit_half_period", 0.5), ("hit_one_period", 1.0)):
                scores.setdefault(key, []).append(float(outcomes.hits(periods)[outcomes.echo].mean()))
            scores.setdefault("miss_rate", []).append(float((~outcomes.answered[outcomes.echo]).mean()))
        if not outcomes.echo.all():
            alarms = float(outcomes.answered[~outcomes.echo].mean())
            scores.setdefault("false_alarm_rate", []).append(alarms)
    keys = ("hit_half_period", "hit_one_period", "miss_rate", "false_alarm_rate")
    told: dict[str, float | None] = {
        key: round(float(np.mean(scores[key])), 4) if key in scores else None for key in keys}
    told["looked_at_all"] = round(passes.again / asked, 4) if each.glance and asked else None
    return told


def _start(each: Contender, bundle: Bundle, suite: VariantsSuite) -> dict[str, float | None]:
    """Memory of a process that has made one decision, and how long it took from its start."""
    if each.variant is None:
        return {"rss_mb": None, "cold_start_s": None}
    took, rss = [], []
    command = [sys.executable, "-c", PROBE, str(bundle.path), each.variant.name, str(suite.samples)]
    for _ in range(suite.starts):
        begun = time.perf_counter()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        except subprocess.SubprocessError as error:
            raise LinkError(f"a fresh process with {each.name} came to no decision: {error}.",
                            "Is the machine busy, or out of memory? Run again.") from None
        took.append(time.perf_counter() - begun)
        rss.append(json.loads(done.stdout)["rss_mb"])
    return {"rss_mb": round(median(rss), 1), "cold_start_s": round(median(took), 3)}
