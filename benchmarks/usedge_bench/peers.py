"""Peers of the shipped variant, timed in turn on the same prepared A-scans in one process and one thread."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from usedge.ascan import AScan
from usedge.backends import Backend, open_backend
from usedge.bundle import Bundle, Variant
from usedge.errors import MissingExtraError
from usedge.preprocess import Preprocessor
from usedge.synth import FS_HZ, generate
from usedge_bench.percentiles import summary
from usedge_bench.suite import LatencySuite

REFERENCE = "onnxruntime-fp32"
PACKAGES = {"onnx": "onnxruntime", "litert": "litert", "native": "native"}
POOL = 64


def peer_name(variant: Variant) -> str:
    """The runtime's package and the precision, as in "onnxruntime-fp32"."""
    return f"{PACKAGES[variant.runtime]}-{variant.precision}"


def _open(bundle: Bundle, runtime: str) -> dict[str, Backend]:
    default = bundle.default_for(runtime)
    order = [default, *(each for each in bundle.variants.values() if each.name != default.name)]
    opened: dict[str, Backend] = {}
    for variant in order:
        try:
            opened[peer_name(variant)] = open_backend(variant.runtime, bundle.variant_bytes(variant.name))
        except MissingExtraError:
            continue
    return opened


def time_peers(bundle: Bundle, runtime: str, suite: LatencySuite
               ) -> tuple[list[dict[str, Any]], dict[str, float], dict[str, list[float]]]:
    """Figures of the default variant on ``runtime`` and all other installed ones; the former's p50 over the
    reference's; and every duration in µs, in the order that they were measured in.
    """
    synth = generate("field", POOL, suite.seed, suite.samples)
    prepare = Preprocessor(bundle.spec)
    gates = [prepare(AScan(row, FS_HZ)).x for row in synth.x]
    backends = _open(bundle, runtime)
    times: dict[str, list[int]] = {name: [] for name in backends}
    for turn in range(-2, suite.peer_rounds):  # two rounds to warm up
        for name, backend in backends.items():
            for i in range(suite.peer_block):
                begun = time.perf_counter_ns()
                backend.infer(gates[i % POOL])
                if turn >= 0:
                    times[name].append(time.perf_counter_ns() - begun)
    for backend in backends.values():
        backend.close()
    every = {name: np.round(np.array(values) * 1e-3, 1).tolist() for name, values in times.items()}
    peers = [_row(name, values, suite.seed) for name, values in every.items()]
    by_name = {peer["name"]: peer["p50_us"] for peer in peers}
    ratios = {REFERENCE: round(peers[0]["p50_us"] / by_name[REFERENCE], 3)} if REFERENCE in by_name else {}
    return peers, ratios, every


def _row(name: str, values_us: list[float], seed: int) -> dict[str, Any]:
    told = summary(values_us, seed)
    return {"name": name, **{key: told[key] for key in ("p50_us", "p90_us", "p99_us", "ci95_us", "n")}}
