"""What a model expects of an A-scan: the one object shared by training, export and the device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from usedge.blur import Blur
from usedge.errors import InputError

NORMALISATIONS = ("noise-asinh",)
UNBLURRED = "none"
LEAST_ZOOM, MOST_ZOOM = 16.0, 512.0
ADDED: dict[str, object] = {"blur": UNBLURRED, "zoom": 0.0}
"""Fields that the first specs did not have, and what they then are."""


@dataclass(frozen=True, slots=True)
class Gate:
    """The evaluated time window of an A-scan, in µs after the main bang."""

    start_us: float
    width_us: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_us) and math.isfinite(self.width_us)):
            raise InputError(f"gate {self.start_us}:{self.width_us} is not finite.",
                             "Give --gate START:WIDTH in µs.")
        if not self.width_us > 0:
            raise InputError(f"gate width {self.width_us} µs is not positive.",
                             "Give --gate START:WIDTH in µs.")

    @property
    def end_us(self) -> float:
        """End of the gate, µs after the main bang."""
        return self.start_us + self.width_us

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Read ``START:WIDTH`` in µs; raises InputError for anything else."""
        start, colon, width = text.partition(":")
        try:
            if not colon:
                raise ValueError
            return cls(float(start), float(width))
        except ValueError:
            raise InputError(f"gate {text!r} is not START:WIDTH.", "Example: --gate 20:40 (µs).") from None


@dataclass(frozen=True, slots=True)
class SignalSpec:
    """The model's input, fixed when it is trained and carried by checkpoint and bundle.

    A gate is resampled to ``n_samples`` grid samples whatever its length or rate, so that one model
    serves every front end. ``n_samples / patch`` patches are the ToF classes.

    ``noise-asinh``: y = asinh(x / 2s) / asinh(peak / 2s), s = max(median|x| / 0.6745, peak · noise_floor),
    which keeps an echo 40 dB below the peak visible without blowing up the quantisation noise.

    ``blur`` is the text of a ``Blur``, kept in its canonical form; it comes last, on the grid. A model that
    was pretrained by deblurring reads blurred A-scans ever after, in fine-tuning and on the device, since
    clean ones would be another distribution (arXiv 2306.08249, eq. 1 and 4).

    ``zoom``: cycles of the centre frequency in the gate of a second pass around the first pick, 0 for a
    single pass (``usedge.zoom``).
    """

    n_samples: int = 2048
    patch: int = 32
    normalisation: str = "noise-asinh"
    noise_floor: float = 1.0 / 1024.0
    blur: str = UNBLURRED
    zoom: float = 0.0

    def __post_init__(self) -> None:
        if self.n_samples <= 0 or self.patch <= 0 or self.n_samples % self.patch:
            raise InputError(f"{self.n_samples} grid samples cannot be cut into patches of {self.patch}.")
        if not 0 <= self.noise_floor < 1:
            raise InputError(f"noise_floor {self.noise_floor} is not in 0 … 1.", "The default is 1/1024.")
        if self.normalisation not in NORMALISATIONS:
            raise InputError(f"normalisation {self.normalisation!r} is unknown.",
                             f"Known: {', '.join(NORMALISATIONS)}.")
        if not 0 <= self.zoom <= MOST_ZOOM or 0 < self.zoom < LEAST_ZOOM:
            raise InputError(f"zoom {self.zoom} is neither 0 nor in {LEAST_ZOOM:g} … {MOST_ZOOM:g} cycles.",
                             "0 is a single pass; 51.2 gives 40 grid samples a cycle.")
        blur = Blur.parse(self.blur)
        if blur.width > self.n_samples:
            raise InputError(f"blur {str(blur)!r} spans {blur.width} of {self.n_samples} grid samples.",
                             "Choose a narrower one.")
        object.__setattr__(self, "blur", str(blur))

    @property
    def blurring(self) -> Blur:
        """The blur itself: ``spec.blurring(x)`` blurs ``x (..., n_samples)``."""
        return Blur.parse(self.blur)

    @property
    def n_patches(self) -> int:
        """Number of patches, and so of ToF classes without "no echo"."""
        return self.n_samples // self.patch

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values, without ``blur`` and ``zoom`` where there is none.

        So a spec without them reads and writes as it did before there were any, in old files and by older
        versions; one with a blur or a second pass is refused by those, which know neither.
        """
        values = asdict(self)
        return {key: value for key, value in values.items() if value != ADDED.get(key)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SignalSpec:
        """Inverse of ``to_dict``; raises InputError for an unknown or a missing field.

        Only ``blur`` and ``zoom`` may be missing, and are then "none" and 0.
        """
        known = {field.name for field in fields(cls)}
        if {*ADDED, *values} != known:
            odd = ", ".join(sorted({*ADDED, *values} ^ known))
            raise InputError(f"the signal spec has unknown or missing fields: {odd}.",
                             "Was it written by a newer usedge?")
        return cls(**values)
