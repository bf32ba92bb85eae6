"""Peers of the shipped variant, timed in turn on the same prepared A-scans in one process and one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from usedge.ascan import AScan
from usedge.backends import Backend, open_backend
from usedge.bundle import Bundle, Variant
from usedge.errors import MissingExtraError
from usedge.preprocess import Preprocessor
from usedge.synth import FS_HZ, generate
from usedge_bench.percentiles import summary

REFERENCE = "onnxruntime-fp32"
WOKEN = ", woken"
"""Behind the name of a peer that slept before each inference, as it would between two A-scans."""
PACKAGES = {"onnx": "onnxruntime", "litert": "litert", "native": "native", "tflite": "tflite-runtime",
            "cuda": "onnxruntime-cuda", "tensorrt": "onnxruntime-tensorrt"}
POOL = 64
WARMUP = 2

Times = dict[str, list[float]]
"""µs of every inference, by peer, in the order that they were made in."""


def peer_name(variant: Variant) -> str:
    """The runtime's package and the precision, as in "onnxruntime-fp32"."""
    return f"{PACKAGES[variant.runtime]}-{variant.precision}"


class Peers:
    """The default variant on ``runtime``, first, and all others whose runtime is installed, opened."""

    def __init__(self, bundle: Bundle, runtime: str, samples: int, seed: int) -> None:
        synth = generate("field", POOL, seed, samples)
        prepare = Preprocessor(bundle.spec)
        self._gates = [prepare(AScan(row, FS_HZ)).x for row in synth.x]
        self._backends: dict[str, Backend] = {}
        default = bundle.default_for(runtime)
        for variant in (default, *(each for each in bundle.variants.values() if each != default)):
            try:
                self._backends[peer_name(variant)] = open_backend(
                    variant.runtime, bundle.variant_bytes(variant.name))
            except MissingExtraError:
                continue

    def __enter__(self) -> Peers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for backend in self._backends.values():
            backend.close()

    def in_turns(self, turns: int, block: int) -> Times:
        """``block`` inferences of each, ``turns`` times over, after turns that warm up."""
        times: Times = {name: [] for name in self._backends}
        for turn in range(-WARMUP, turns):
            for name, backend in self._backends.items():
                for i in range(block):
                    begun = time.perf_counter_ns()
                    backend.infer(self._gates[i % POOL])
                    if turn >= 0:
                        times[name].append(round((time.perf_counter_ns() - begun) * 1e-3, 1))
        return times

    def woken(self, woken: Callable[[Callable[[], Any], int, float], list[float]], times: int, asleep_s: float
              ) -> Times:
        """The default variant and the reference, asleep before each inference."""
        names = dict.fromkeys((next(iter(self._backends)), REFERENCE))
        return {f"{name}{WOKEN}": woken(lambda name=name: self._backends[name].infer(self._gates[0]),  # type: ignore[misc]
                                        times, asleep_s) for name in names if name in self._backends}


def peer_rows(times: Times, seed: int, rounds: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Figures of all, and the p50 of the first over the reference's."""
    rows = []
    for name, values in times.items():
        told = summary(values, seed, rounds=rounds)
        rows.append({"name": name, **{key: told[key] for key in ("p50_us", "p90_us", "p99_us", "ci95_us",
                                                                 "n")}})
    by_name = {peer["name"]: peer["p50_us"] for peer in rows}
    ratios = {REFERENCE: round(rows[0]["p50_us"] / by_name[REFERENCE], 3)} if REFERENCE in by_name else {}
    return rows, ratios
