"""The native variant: weights for our own C code in ``export/c``, and the same as a C header for firmware.

The byte table is in docs/native.md; ``usnet_blob.h`` reads the sections in the order in which they are
written here.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from usedge.errors import InputError
from usedge.models.mae import Block, Encoder
from usedge.models.nets import ToFNet
from usedge.models.stem import KERNEL, Framed, Stem, framed

MAGIC = b"USNET-w8"
VERSION = 2
ALIGN = 64
LANES, GROUP = 16, 4
"""Columns of a panel, and values of a column that lie beside one another in it."""
PEAK = 127

Float32 = NDArray[np.float32]


def native_int8(model: nn.Module) -> bytes:
    """``model`` as int8 weights with a scale for each column; activations are quantised as they come.

    Raises InputError for a network that the C code does not run.
    """
    encoder, sizes = _sizes(framed(model))
    body = b"".join(_aligned(section) for section in _sections(model, encoder, sizes["heads"]))
    # The checksum takes the last four bytes of the last section, which leaves them free.
    total = ALIGN + len(body)
    header = struct.pack(f"<8sII{len(sizes)}H", MAGIC, VERSION, total, *sizes.values()).ljust(ALIGN, b"\0")
    content = (header + body)[:-4]
    return content + struct.pack("<I", zlib.crc32(content))


def _sizes(model: nn.Module) -> tuple[Encoder, dict[str, int]]:
    encoder = getattr(model, "encoder", None)
    if not isinstance(model, ToFNet) or not isinstance(encoder, Encoder) or model.pooled:
        raise InputError("the native runtime knows the transformer with the pointer head alone.",
                         "Leave native-int8 out of the recipe.")
    block = encoder.blocks[0]
    assert isinstance(block, Block)
    sizes = {"patch": encoder.patch, "length": encoder.length, "d_model": encoder.embed.out_features,
             "heads": block.heads, "d_head": block.d_head, "hidden": block.fc1.out_features,
             "layers": len(encoder.blocks)}
    for name in ("length", "d_model", "d_head", "hidden"):
        if sizes[name] % LANES:
            raise InputError(f"the native runtime needs {name} in multiples of {LANES}; it is {sizes[name]}.",
                             "Leave native-int8 out of the recipe, or train with another size.")
    return encoder, sizes | (_stem_sizes(encoder.stem) if encoder.stem is not None else {})


def _stem_sizes(stem: Stem) -> dict[str, int]:
    frames, join = _convolution(stem.frames), _convolution(stem.join)
    return {"frame": frames.kernel, "hop": frames.stride, "kernel": KERNEL, "joined": join.kernel,
            "narrow": frames.product.out_features, "wide": join.product.out_features,
            "narrow_blocks": len(stem.narrow), "wide_blocks": len(stem.wide)}


def _aligned(section: bytes) -> bytes:
    return section + bytes(-len(section) % ALIGN)


def _array(tensor: Any) -> Float32:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), np.float32)


def _raw(*tensors: Any) -> bytes:
    return b"".join(_array(tensor).astype("<f4").tobytes() for tensor in tensors)


def _sections(model: Any, encoder: Encoder, heads: int) -> Iterator[bytes]:
    yield _raw(encoder.embed.weight.T)
    if encoder.stem is None:
        yield _raw(encoder.position + encoder.embed.bias)
    else:
        yield _raw(encoder.position + encoder.embed.bias + encoder.stem.out.bias)
        yield from _stem(encoder.stem)
    for block in encoder.blocks:
        yield from _block(block, heads)
    yield _raw(encoder.norm.weight, encoder.norm.bias)
    yield _raw(model.pointer.weight, model.no_echo.weight)
    yield _raw(model.pointer.bias, model.no_echo.bias) + bytes(4)


def _stem(stem: Stem) -> Iterator[bytes]:
    first = _convolution(stem.frames).product
    yield _raw(first.weight.T, first.bias)
    yield from _residuals(stem.narrow)
    yield from _linear(_convolution(stem.join).product)
    yield from _residuals(stem.wide)
    yield from _matrix([_array(stem.out.weight)], np.zeros(0, np.float32))


def _residuals(blocks: Any) -> Iterator[bytes]:
    for block in blocks:
        for convolution in (block.conv1, block.conv2):
            yield from _linear(_convolution(convolution).product)


def _convolution(module: nn.Module) -> Framed:
    assert isinstance(module, Framed)
    return module


def _linear(linear: nn.Linear) -> Iterator[bytes]:
    yield from _matrix([_array(linear.weight)], _array(linear.bias))


def _block(block: Any, heads: int) -> Iterator[bytes]:
    yield _raw(block.norm1.weight, block.norm1.bias)
    # Queries, keys and values of one head stand together: a head is computed whole before the next.
    d_model = block.qkv.in_features
    qkv = _array(block.qkv.weight).reshape(3, heads, -1, d_model).swapaxes(0, 1).reshape(-1, d_model)
    yield from _matrix([qkv], _array(block.qkv.bias).reshape(3, heads, -1).swapaxes(0, 1).ravel())
    proj = _array(block.proj.weight).reshape(d_model, heads, -1).swapaxes(0, 1)
    yield from _matrix(list(proj), _array(block.proj.bias))
    yield _raw(block.norm2.weight, block.norm2.bias)
    yield from _linear(block.fc1)
    yield from _linear(block.fc2)


def _matrix(parts: list[Float32], bias: Float32) -> Iterator[bytes]:
    """Panels, scales, sums and biases of ``parts``, each (columns, k): the rows of a torch weight."""
    quantised = [_quantised(part) for part in parts]
    yield b"".join(_panels(weights) for weights, _ in quantised)
    yield b"".join(scale.astype("<f4").tobytes() for _, scale in quantised)
    yield b"".join(weights.sum(axis=1, dtype="<i4").tobytes() for weights, _ in quantised)
    yield bias.astype("<f4").tobytes()


def _quantised(part: Float32) -> tuple[NDArray[np.int8], Float32]:
    """int8 weights of ``part (columns, k)`` and the scale (columns,) that gives them back."""
    peak = np.abs(part).max(axis=1)
    scale = np.where(peak > 0, peak / PEAK, 1.0).astype(np.float32)
    return np.clip(np.rint(part / scale[:, np.newaxis]), -PEAK, PEAK).astype(np.int8), scale


def _panels(weights: NDArray[np.int8]) -> bytes:
    """``weights (columns, k)`` as panels (columns / 16, k / 4, 16, 4)."""
    columns, k = weights.shape
    panels: bytes = weights.reshape(columns // LANES, LANES, k // GROUP, GROUP).swapaxes(1, 2).tobytes()
    return panels


def c_header(content: bytes, name: str, provenance: str) -> str:
    """The weights as a C header that defines ``usnet_weights`` and ``usnet_weights_size``."""
    words = np.frombuffer(content, "<u4")
    rows = [", ".join(f"0x{word:08X}" for word in words[i : i + 8]) for i in range(0, len(words), 8)]
    return (
        f"/* Weights of {name} for usnet.h: {len(content)} bytes of flash. Written by `usedge export`;"
        f" include it in one file.\n * {provenance} */\n"
        "#ifndef USNET_WEIGHTS_H\n#define USNET_WEIGHTS_H\n\n#include <stdint.h>\n\n"
        "#if defined(__GNUC__)\n__attribute__((aligned(64)))\n#endif\n"
        f"static const uint32_t usnet_weights[{len(words)}] = {{\n    " + ",\n    ".join(rows) + "\n};\n"
        f"#define usnet_weights_size {len(content)}u\n\n#endif\n"
    )
