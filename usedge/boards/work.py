"""What one pass of the network costs: multiply-accumulates, other operations, bytes, from its sizes alone."""

from __future__ import annotations

import struct
from dataclasses import asdict, dataclass
from typing import Any

from usedge.errors import InputError
from usedge.spec import SignalSpec

NATIVE_MAGIC = b"USNET-w8"
VECTOR_OPS = {"softmax": 14, "gelu": 20, "norm": 6, "residual": 1, "quantise": 5}
"""Float operations for each element, as they stand in export/c/src/usnet_math.h and usnet_rows.h: an
exponential is a polynomial of degree 5 with its scaling, GELU one of degree 12, LayerNorm a mean, a deviation
and a gain; quantising is a peak, a product, a rounding and two limits."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a transformer encoder with a pointer head: ``tokens`` patches of ``patch`` samples in a pass."""

    tokens: int
    d_model: int
    heads: int
    d_head: int
    mlp_hidden: int
    layers: int
    patch: int

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 1 << 20:
                raise InputError(f"{name} {value!r} is no size of a network.")


@dataclass(frozen=True, slots=True)
class Work:
    """Of one pass, batch 1. ``linear_macs`` are those of the blocks' matrices, which an int8 variant computes
    in int8; ``attention_macs`` queries × keys and weights × values; ``end_macs`` embedding and head.
    ``vector_ops`` are all other float operations, ``quantise_ops`` those that only an int8 variant does.
    ``weights`` is how many numbers are read once, ``moved`` how many activations are written and read again.
    """

    linear_macs: int
    attention_macs: int
    end_macs: int
    vector_ops: int
    quantise_ops: int
    weights: int
    moved: int

    @property
    def macs(self) -> int:
        """All multiply-accumulates."""
        return self.linear_macs + self.attention_macs + self.end_macs

    def bytes_moved(self, precision: str) -> int:
        """Weights read once, and activations (float) written and read once each."""
        return self.weights * (1 if precision == "int8" else 4) + 2 * 4 * self.moved


def count(s: Sizes) -> Work:
    """The work of a network of the sizes ``s``."""
    t, d, inner, hidden = s.tokens, s.d_model, s.heads * s.d_head, s.mlp_hidden
    per_layer = d * 3 * inner + inner * d + 2 * d * hidden
    scores = s.heads * t * t
    elements = {
        "softmax": s.layers * scores, "gelu": s.layers * t * hidden, "norm": (2 * s.layers + 1) * t * d,
        "residual": 2 * s.layers * t * d,
    }
    quantised = s.layers * t * (d + inner + d + hidden)
    ends = t * s.patch * d + 3 * t * d + d
    return Work(
        linear_macs=s.layers * t * per_layer, attention_macs=s.layers * 2 * scores * s.d_head, end_macs=ends,
        vector_ops=sum(VECTOR_OPS[name] * n for name, n in elements.items()),
        quantise_ops=VECTOR_OPS["quantise"] * quantised,
        weights=s.layers * (per_layer + 3 * inner + d + hidden + d + 4 * d) + s.patch * d + t * d + 6 * d,
        moved=t * s.patch + t * d + s.layers * (t * (3 * inner + inner + 4 * d + hidden) + scores))


def sizes_of(spec: SignalSpec, config: dict[str, Any], tokens: int | None = None) -> Sizes:
    """The sizes that a bundle's provenance tells; ``tokens`` other than the spec's patches where given.

    Raises InputError for a network of another kind, or a provenance that does not tell.
    """
    if config.get("backbone", "transformer") != "transformer":
        raise InputError(f"its backbone is {config['backbone']!r}; operations are counted for a transformer.",
                         "Measure it instead: usedge bench latency")
    keys = {"d_model": "d_model", "heads": "heads", "d_head": "d_head", "mlp_hidden": "mlp_hidden",
            "layers": "encoder_layers"}
    missing = [key for key in keys.values() if key not in config]
    if missing:
        raise InputError(f"this bundle's provenance does not tell {', '.join(missing)}.",
                         "Export it again with this version of usedge.")
    return Sizes(tokens=tokens or spec.n_patches, patch=spec.patch,
                 **{name: config[key] for name, key in keys.items()})


def native_sizes(weights: bytes) -> Sizes:
    """The sizes that the header of a native variant states; raises InputError for other files."""
    if len(weights) < 64 or not weights.startswith(NATIVE_MAGIC):
        raise InputError("these are no weights of the native runtime.", "Take a variant native-int8.")
    patch, length, d_model, heads, d_head, hidden, layers = struct.unpack_from("<7H", weights, 16)
    return Sizes(length, d_model, heads, d_head, hidden, layers, patch)
