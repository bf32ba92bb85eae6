"""Which board this is: by its device tree, its /proc/cpuinfo, and the USB numbers of what is plugged in."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from usedge.boards.profile import BoardProfile, every_board

DEVICE_TREES = ("proc/device-tree", "sys/firmware/devicetree/base")
USB_DEVICES = "sys/bus/usb/devices/*"
X86_TOLD, ARM64_TOLD = "lm", "asimd"
"""Flags of /proc/cpuinfo that only a 64-bit processor has."""


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """A USB device, and the ids of the front ends whose numbers it has."""

    vid_pid: str
    product: str
    boards: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Detected:
    """The board that a machine is (None where no profile fits), and why; what is plugged into it."""

    board: str | None
    why: str
    model: str | None
    machine: str | None
    features: tuple[str, ...]
    front_ends: tuple[UsbDevice, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def detect(root: Path = Path("/"), boards: Iterable[BoardProfile] | None = None) -> Detected:
    """The board below ``root`` among ``boards``, all shipped ones by default."""
    known = list(every_board() if boards is None else boards)
    compatible, model = _device_tree(root)
    machine, features = _processor(root)
    board, why = _match(known, compatible, model, machine)
    return Detected(board, why, model, machine, features, _front_ends(root, known))


def _match(known: list[BoardProfile], compatible: list[str], model: str | None, machine: str | None
           ) -> tuple[str | None, str]:
    for name in compatible:  # the first of the list says most
        for board in known:
            if name in board.detect.compatible:
                return board.id, f"its device tree is compatible with {name}"
    for board in known:
        if model and model.startswith(board.detect.model or ("\n",)):
            return board.id, f"its device tree says {model}"
    for board in known:
        if machine in board.detect.machine:
            return board.id, f"its processor is {machine}, and no device tree names a board of ours"
    return None, f"no profile knows {model or machine or 'this processor'}"


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


def _plain(text: str) -> str:
    # A USB device and a device tree say what they like, which may move a terminal's cursor.
    return "".join(each for each in text if each.isprintable()).strip()


def _device_tree(root: Path) -> tuple[list[str], str | None]:
    for folder in DEVICE_TREES:
        words = (_text(root / folder / "compatible") or "").split("\0")
        model = _plain((_text(root / folder / "model") or "").split("\0")[0])
        if any(words) or model:
            return [_plain(word) for word in words if word], model or None
    return [], None


def _processor(root: Path) -> tuple[str | None, tuple[str, ...]]:
    """``uname -m`` and the features, both by /proc/cpuinfo, so that another machine's files do."""
    lines = (_text(root / "proc/cpuinfo") or "").splitlines()
    flags = [line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))]
    told = flags[0] if flags else []
    if X86_TOLD in told:
        return "x86_64", _known_features(told)
    if ARM64_TOLD in told:
        return "aarch64", _known_features(told)
    if any(line.startswith("CPU implementer") for line in lines):
        return "armv7l", _known_features(told)
    return (platform.machine() if root == Path("/") else None), ()


def _known_features(told: list[str]) -> tuple[str, ...]:
    names = {"avx2": "avx2", "avx_vnni": "avx-vnni", "avx512_vnni": "avx512-vnni", "asimd": "neon",
             "neon": "neon", "asimddp": "neon-dot"}
    return tuple(name for flag, name in names.items() if flag in told)


def _front_ends(root: Path, known: list[BoardProfile]) -> tuple[UsbDevice, ...]:
    found = []
    for folder in sorted(root.glob(USB_DEVICES)):
        vid, pid = (_plain(_text(folder / name) or "").lower() for name in ("idVendor", "idProduct"))
        fitting = tuple(board.id for board in known if f"{vid}:{pid}" in board.detect.usb)
        if fitting:
            found.append(UsbDevice(f"{vid}:{pid}", _plain(_text(folder / "product") or ""), fitting))
    return tuple(found)
