"""A reader as people write it without usedge: pyserial's blocking reads, numpy, onnxruntime in fp32.

One loop and one thread: read a frame of USFP, check it, normalise it, run the network once, print a line. It
has no second pass, no calibrated confidence, no check of the model, no search for the protocol, no queue and
no coming back, and takes A-scans of the model's own length only. Where speed costs nothing it is written for
speed: frames are read by their length rather than byte by byte, and onnxruntime has one thread, since the
script has one core.
"""

from __future__ import annotations

import json
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import serial
from numpy.typing import NDArray

from usedge_firmware.usfp import command_start

SYNC = b"\x55\x53\xa5\x5a"
HEADER = struct.Struct("<4sBBBBHHIQIIihH")
ASCAN = 1
THREADS = 1
NOISE_FLOOR, PATCH = 1 / 1024, 32
"""Of the shipped model."""


def open_session(model: bytes) -> Any:
    """The network in onnxruntime on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def normalise(samples: NDArray[np.int16], noise_floor: float) -> NDArray[np.float32]:
    """The input of the network (1, n) for ``samples (n,)``: noise-scaled asinh, as the model was trained."""
    x = samples - np.median(samples)
    size = np.abs(x)
    peak = max(float(size.max()), 1e-6)
    noise = float(np.median(size)) / 0.6745
    scale = 0.5 / max(noise, peak * noise_floor)
    return np.asarray(np.arcsinh(x * scale) / np.arcsinh(peak * scale), np.float32)[None]


def decode(out: NDArray[np.float32], patch_us: float) -> tuple[float | None, float]:
    """ToF in µs after the first sample, None where "no echo" is likelier than not, and its probability.

    ``out (3l + 1,)`` are l class logits, that of "no echo", l offsets of the onset in patches, and more.
    """
    n_patches = (len(out) - 1) // 3
    likely = np.exp(out[: n_patches + 1] - out[: n_patches + 1].max())
    likely /= likely.sum()
    best = int(np.argmax(likely[:n_patches]))
    onset = best + float(out[n_patches + 1 + best])
    return None if likely[n_patches] > 0.5 else onset * patch_us, float(likely[best])


def read_loop(port: str, count: int, session: Any, noise_floor: float, patch: int, lines: IO[str],
              done: Callable[[int], None], limit_s: float) -> None:
    """Read ``count`` A-scans from ``port`` and print a reading of each; ``done`` is told its number.

    ``patch`` samples are a class. Ends after ``limit_s`` seconds whatever has come.
    """
    device = serial.Serial(port, 921_600, timeout=0.5)
    inputs = [each.name for each in session.get_inputs()]
    device.write(command_start(seq=1, count=count))
    read, until = 0, time.monotonic() + limit_s
    while read < count and time.monotonic() < until:
        header = device.read(HEADER.size)
        if len(header) < HEADER.size:
            continue
        if header[:4] != SYNC:
            device.read_until(SYNC)
            header = SYNC + device.read(HEADER.size - 4)
        fields = HEADER.unpack(header)
        kind, n_bytes, seq, fs_hz = fields[2], fields[7], fields[9], fields[10]
        rest = device.read(n_bytes + 4)
        if kind != ASCAN or zlib.crc32(header + rest[:-4]) != int.from_bytes(rest[-4:], "little"):
            continue
        samples = np.frombuffer(rest[:-4], "<i2")
        given: dict[str, Any] = {inputs[0]: normalise(samples, noise_floor)}
        if len(inputs) > 1:  # which patches to answer on: all
            given[inputs[1]] = np.arange(len(samples) // patch)[None]
        out = session.run(None, given)[0][0]
        tof_us, confidence = decode(out, patch * 1e6 / fs_hz)
        lines.write(json.dumps({"seq": seq, "tof_us": tof_us, "confidence": confidence}) + "\n")
        lines.flush()
        done(seq)
        read += 1
    device.close()


if __name__ == "__main__":
    read_loop(sys.argv[1], int(sys.argv[3]), open_session(Path(sys.argv[2]).read_bytes()), NOISE_FLOOR, PATCH,
              sys.stdout, lambda _: None, limit_s=60.0)
