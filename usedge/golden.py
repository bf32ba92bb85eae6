"""Golden vectors: A-scans whose answers are known, put to a model on the machine that is to run it.

numpy alone, since this runs on the device before its first reading.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usedge.archive import open_archive
from usedge.pointer import decode, patches_of
from usedge.spec import SignalSpec

Float32 = NDArray[np.float32]
Infer = Callable[[Float32], Float32]
"""A backend's ``infer``: (1, n_samples) float32 → (1, 3l + 1) float32."""

MAX_ARRAY_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Golden:
    """A-scans with known answers: ``x (g, n_samples)`` and the torch original's ``out (g, 3l + 1)`` in fp32.

    ``label (g,)`` has l for "no echo", ``place (g,)`` is in patches with NaN = no echo.
    """

    x: Float32
    out: Float32
    label: NDArray[np.int64]
    place: Float32
    tolerance_patches: float


def called(out: Float32, no_echo: float) -> tuple[NDArray[np.int64], Float32]:
    """What the answers ``out (b, 3l + 1)`` say at the threshold ``no_echo``.

    Returns label (b,) with l = "no echo", and place (b,) in patches with NaN = no echo.
    """
    pointed = decode(out)
    empty = pointed.p_no_echo > no_echo
    length = patches_of(out.shape[1])
    place = np.where(empty, np.nan, pointed.place).astype(np.float32)
    return np.where(empty, length, pointed.label), place


def wrong_answers(golden: Golden, no_echo: float, infer: Infer) -> str | None:
    """One line on the golden vectors that ``infer`` answers wrongly; None when all its answers are right."""
    g, columns = golden.out.shape
    label, place = np.full(g, -1), np.full(g, np.nan, np.float32)
    for i in range(g):
        out = infer(golden.x[i : i + 1])
        if out.shape != (1, columns):
            return f"the answer has shape {out.shape}, not (1, {columns})"
        if np.isfinite(out).all():
            label[i : i + 1], place[i : i + 1] = called(out, no_echo)
    other = label != golden.label
    off = np.nan_to_num(np.abs(place - golden.place))
    wrong = other | (off > golden.tolerance_patches)
    if not wrong.any():
        return None
    return (f"{int(wrong.sum())} of {g} golden A-scans were answered wrongly: the class differs in"
            f" {int(other.sum())}, the place is off by up to {float(off.max()):.3g} patches"
            f" ({golden.tolerance_patches:g} allowed)")


def pack(golden: Golden) -> bytes:
    """The golden vectors as an npz; the same vectors give the same bytes."""
    stream = io.BytesIO()
    np.savez(stream, x=golden.x, out=golden.out, label=golden.label, place=golden.place)
    return stream.getvalue()


def unpack(content: bytes, spec: SignalSpec, tolerance_patches: float) -> Golden:
    """Inverse of ``pack``; raises ValueError for arrays that do not fit the spec, and what zipfile raises."""
    with open_archive(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_ARRAY_BYTES:
            raise ValueError("the arrays are too large")
        arrays = {name: _array(archive, name) for name in ("x", "out", "label", "place")}
    g, length = arrays["label"].size, spec.n_patches
    shapes = {"x": (g, spec.n_samples), "out": (g, 3 * length + 1), "label": (g,), "place": (g,)}
    for name, shape in shapes.items():
        dtype = np.dtype(np.int64 if name == "label" else np.float32)
        if arrays[name].shape != shape or arrays[name].dtype != dtype or g == 0:
            raise ValueError(f"{name} is {arrays[name].dtype} {arrays[name].shape}")
    return Golden(arrays["x"], arrays["out"], arrays["label"], arrays["place"], tolerance_patches)


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
