"""Int16 counts for boards whose ADC has 10 bits about mid-scale."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from usedge_firmware.dialect import DeviceDescription
from usedge_firmware.frame import check_ascan_array

MID_SCALE: Final = 512
TOP: Final = 1023
_PEAK: Final = 511


def shift_for(description: DeviceDescription) -> int:
    """How many bits to drop so that the device's greatest count, or its ADC's, fits into ±511."""
    bits = description.peak.bit_length() + 1 if description.peak else description.adc_bits
    return max(0, bits - 10)


def to_ten_bit(samples: npt.NDArray[Any], shift: int) -> npt.NDArray[np.int16]:
    """Return ``(n,)`` int16 counts divided by 2^``shift`` and clipped to ±511, int16.

    Raises ``UsfpError`` for another shape or dtype.
    """
    check_ascan_array(samples)
    counts: npt.NDArray[np.int16] = np.clip(samples >> shift, -_PEAK, _PEAK)
    return counts
