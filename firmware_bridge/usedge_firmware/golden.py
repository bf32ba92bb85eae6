"""The golden frames: the fields and the bytes that every USFP implementation must agree on.

``python -m usedge_firmware.golden`` rewrites ``firmware_bridge/golden/frames.json`` in a checkout. The file
is committed: a change of it is a change of the protocol, and says so in a review.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from usedge_firmware import usfp

GOLDEN_FILE: Final = Path(__file__).resolve().parents[1] / "golden" / "frames.json"
FORMAT_VERSION: Final = 1

_U32: Final = 2**32 - 1
_INFO: Final = {
    "session_id": 0xDEADBEEF, "adc_bits": 12, "firmware": [1, 2, 3], "fs_hz": 10_000_000, "n_samples": 2048,
    "prf_mhz": 100_000, "t0_ns": -250, "name": "bench probe µ1", "payload_formats": 1,
}
_ASCAN: Final = {
    "seq": 7, "fs_hz": 10_000_000, "t_us": 1_000_000, "t0_ns": 1500, "gain_cdb": 2050, "channel": 1,
    "flags": 0,
}
_GREATEST: Final = {
    "seq": _U32, "fs_hz": _U32, "t_us": 2**64 - 1, "t0_ns": 2**31 - 1, "gain_cdb": 2**15 - 1,
    "channel": 255, "flags": 2**16 - 1,
}

# Ringing that dies out, in whole numbers: it takes several blocks, and their parameters differ.
_ECHO: Final = [(-1) ** (i // 3) * (1800 - 11 * i) * (i % 3 - 1) * (i < 164) for i in range(200)]

# Steps of half the range need k = 15; the flat rest makes up for their length.
_STEEP: Final = [*[0, -32768] * 32, *[0] * 64]

CASES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "ascan": ("ascan", {**_ASCAN, "samples": [0, 1, -1, 256]}),
    "ascan_extremes": ("ascan", {**_ASCAN, "samples": [32767, -32768, 21333, 23205, -1]}),
    "ascan_negative": ("ascan", {**_ASCAN, "t0_ns": -2_000_000, "gain_cdb": -600, "samples": [-2, 2]}),
    "ascan_greatest_header": ("ascan", {**_GREATEST, "samples": [-32768]}),
    "ascan_least_header": (
        "ascan", {**dict.fromkeys(_ASCAN, 0), "t0_ns": -(2**31), "gain_cdb": -(2**15), "samples": [1]},
    ),
    "ascan_empty": ("ascan", {**_ASCAN, "samples": []}),
    "packed12": ("ascan", {**_ASCAN, "payload_format": 1, "samples": [0, 1, -1, 256]}),
    "packed12_odd": ("ascan", {**_ASCAN, "payload_format": 1, "samples": [-2, 1365, -1366]}),
    "packed12_extremes": ("ascan", {**_GREATEST, "payload_format": 1, "samples": [2047, -2048, -2048, 2047]}),
    "packed12_empty": ("ascan", {**_ASCAN, "payload_format": 1, "samples": []}),
    "rice": ("ascan", {**_ASCAN, "payload_format": 2, "samples": [0, 3, 5, 2, -1, -12]}),
    "rice_many_blocks": ("ascan", {**_ASCAN, "payload_format": 2, "samples": _ECHO}),
    "rice_extremes": (
        "ascan",
        {**_GREATEST, "payload_format": 2, "samples": [*[0] * 40, 32767, -32768, 0, -32768, *[0] * 99]},
    ),
    "rice_largest_parameter": ("ascan", {**_ASCAN, "payload_format": 2, "samples": _STEEP}),
    "rice_empty": ("ascan", {**_ASCAN, "payload_format": 2, "samples": []}),
    "info": ("info", {**_INFO, "seq": 42, "t_us": 123_456}),
    "info_name_fills_field": ("info", {**_INFO, "name": "n" * usfp.NAME_SIZE, "seq": 0, "t_us": 0}),
    "info_nothing_known": (
        "info", {**dict.fromkeys(_INFO, 0), "firmware": [0, 0, 0], "name": "", "seq": 0, "t_us": 0},
    ),
    "log": ("log", {"text": "supply 3.21 V, below 3.3 V", "seq": 9, "t_us": 2**40}),
    "log_empty": ("log", {"text": "", "seq": 0, "t_us": 0}),
    "command_start": ("command", {"opcode": 1, "prf_mhz": 100_000, "count": 500, "seq": 1}),
    "command_start_rice": (
        "command", {"opcode": 1, "prf_mhz": 0, "count": 0, "payload_format": 2, "seq": 4},
    ),
    "command_start_defaults": ("command", {"opcode": 1, "prf_mhz": 0, "count": 0, "seq": 0}),
    "command_stop": ("command", {"opcode": 2, "prf_mhz": 0, "count": 0, "seq": 2}),
    "command_info": ("command", {"opcode": 3, "prf_mhz": 0, "count": 0, "seq": 3}),
    "command_unknown": ("command", {"opcode": 255, "prf_mhz": _U32, "count": _U32, "seq": _U32}),
    "ack_start": ("ack", {"opcode": 1, "status": 0, "detail": 42, "seq": 1, "t_us": 5000}),
    "ack_stop": ("ack", {"opcode": 2, "status": 0, "detail": 500, "seq": 2, "t_us": 5_005_000}),
    "ack_unknown_opcode": ("ack", {"opcode": 255, "status": 1, "detail": _U32, "seq": _U32, "t_us": 0}),
}


def encode_case(encoder: Any, kind: str, fields: dict[str, Any]) -> bytes:
    """Return the frame of one case as ``encoder`` makes it.

    ``encoder`` is the module ``usfp`` or a ``native.NativeEncoder``.
    """
    values = dict(fields)
    seq = values.pop("seq")
    if kind == "command":
        return bytes(encoder.encode_command(usfp.Command(**values), seq=seq))
    t_us = values.pop("t_us")
    if kind == "ascan":
        samples: npt.NDArray[np.int16] = np.array(values.pop("samples"), np.int16)
        return bytes(encoder.encode_ascan(samples, seq=seq, t_us=t_us, **values))
    if kind == "info":
        info = usfp.Info(**{**values, "firmware": tuple(values["firmware"])})
        return bytes(encoder.encode_info(info, seq=seq, t_us=t_us))
    if kind == "log":
        return bytes(encoder.encode_log(values["text"], seq=seq, t_us=t_us))
    return bytes(encoder.encode_ack(usfp.Ack(**values), seq=seq, t_us=t_us))


def render() -> str:
    """Return the text of the golden file."""
    lines = [
        json.dumps(
            {"name": name, "kind": kind, "fields": fields, "hex": encode_case(usfp, kind, fields).hex()},
            ensure_ascii=False,
        )
        for name, (kind, fields) in CASES.items()
    ]
    versions = f'"version": {usfp.VERSION}, "format_version": {FORMAT_VERSION}'
    return f'{{"protocol": "USFP", {versions}, "cases": [\n' + ",\n".join(lines) + "\n]}\n"


def main() -> int:
    """Write the golden file and say so; exit status 0."""
    GOLDEN_FILE.parent.mkdir(exist_ok=True)
    GOLDEN_FILE.write_text(render(), encoding="utf-8")
    sys.stderr.write(f"{len(CASES)} golden frames written to {GOLDEN_FILE}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
