"""The slow checks, `make slow-checks`: what an aarch64 device would install and compute, without one.

1. Every wheel of the device install, with the extras onnx and sign, is resolved for Python 3.10, 3.11, 3.13.
2. The int8 variants of a bundle (default: the shipped one) answer the same A-scans here and in an aarch64
   Python under qemu-user, through the same backends; it says how far they differ, and the golden ones must be
   answered as a device demands before its first reading.
3. tflite-runtime answers the golden A-scans in a 32-bit ARM Python under qemu-user.

Needs the network, and apt-get, dpkg-deb, qemu-aarch64 and qemu-arm; with aarch64-linux-gnu-gcc our own C code
as well.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "aarch64"
PYTHONS = ("3.10", "3.11", "3.13")
GLIBC = (17, 24, 26, 27, 28, 31, 34)
"""Minor versions of the glibc that wheels may ask for: Ubuntu 22.04 and Debian 12 have the last."""
EXTRAS = ("onnx", "sign")
NEEDED = {"apt-get": "apt", "dpkg-deb": "dpkg", "qemu-aarch64": "qemu-user", "qemu-arm": "qemu-user"}
PROCESSORS = {
    "cortex-a72": ("0xd08", "fp asimd evtstrm crc32 cpuid"),
    "cortex-a76": ("0xd0b", "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm"
                            " lrcpc dcpop asimddp"),
}
"""Those of the Raspberry Pi 4 and 5, with what /proc/cpuinfo says of them: part and features. Not "max": on
that of qemu 7.2, with int8 matrix products, both LiteRT and onnxruntime answered nonsense.
"""
ANSWERS = """
import sys
import numpy as np
from usedge.backends import open_backend
from usedge.bundle import read_bundle
bundle, given = read_bundle(sys.argv[1]), np.load(sys.argv[2])
out = {}
for name in given["names"]:
    variant = bundle.variants[str(name)]
    infer = open_backend(variant.runtime, bundle.variant_bytes(variant.name)).infer
    out[variant.name] = np.concatenate([infer(row[np.newaxis]) for row in given["x"]])
np.savez(sys.argv[3], **out)
"""
TFLITE = """
import platform, sys
import numpy
from usedge.backends import open_backend
from usedge.bundle import check_golden, read_bundle
bundle = read_bundle(sys.argv[1])
variant = bundle.default_for("tflite")
check_golden(bundle, open_backend("tflite", bundle.variant_bytes(variant.name)).infer)
print(f"{variant.name}: the golden answers are right; {platform.machine()}, numpy {numpy.__version__}")
"""


class CheckFailedError(Exception):
    """One line on a check that failed."""


def say(text: str) -> None:
    """To stdout at once: the checks take minutes."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def ran(*words: object, what: str, env: dict[str, str] | None = None) -> str:
    """The stdout of a command; raises CheckFailedError with its last words where it fails."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or f"it ended with {done.returncode}"
        raise CheckFailedError(f"{what}: {said.splitlines()[-1]}")
    return done.stdout


def requirements(python: str) -> list[str]:
    """What the device install asks for in ``python``, with EXTRAS."""
    from packaging.requirements import Requirement

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(each for name in EXTRAS
                                         for each in project["optional-dependencies"][name])]
    asked = [Requirement(text) for text in texts]
    here = {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": "aarch64"}
    return [f"{each.name}{each.specifier}" for each in asked
            if each.marker is None or each.marker.evaluate(here)]


def pip_for(python: str, machine: str = "aarch64") -> list[str]:
    """Options with which pip takes wheels for ``python`` on ``machine`` and nothing else."""
    platforms = [f"manylinux2014_{machine}", *(f"manylinux_2_{minor}_{machine}" for minor in GLIBC)]
    return ["--quiet", "--disable-pip-version-check", "--only-binary=:all:", "--implementation", "cp",
            "--python-version", python, *(word for each in platforms for word in ("--platform", each))]


def check_wheels(python: str) -> None:
    """Resolve every wheel of the device install for ``python``."""
    report = WORK / f"wheels-{python}.json"
    ran(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed",
        "--target", WORK / "nowhere", "--report", report, *pip_for(python), *requirements(python),
        what=f"wheels for Python {python}")
    found = {each["metadata"]["name"].lower(): each["metadata"]["version"]
             for each in json.loads(report.read_text())["install"]}
    known = ("numpy", "ai-edge-litert", "onnxruntime", "cryptography")
    say(f"Python {python}: {len(found)} wheels; " + ", ".join(f"{name} {found[name]}" for name in known))


def arm_python(architecture: str = "arm64", *packages: str) -> Path:
    """A system with Debian's python3, its libraries and ``packages``, unpacked below WORK and kept."""
    work = WORK if architecture == "arm64" else WORK / architecture
    system = work / "system"
    if not (system / "done").exists():
        say(f"unpacking a python3 for {architecture} from Debian's packages")
        for folder in ("apt/lists/partial", "cache/archives/partial"):
            (work / folder).mkdir(parents=True, exist_ok=True)
        (work / "status").write_text("")
        settings = {"APT::Architecture": architecture, "APT::Architectures::": architecture,
                    "Dir::State": work / "apt", "Dir::State::status": work / "status",
                    "Dir::Cache": work / "cache", "APT::Install-Recommends": "false",
                    "APT::Sandbox::User": "root"}
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        # One of a mirror's indices may be amiss; the installation tells whether that matters.
        subprocess.run(["apt-get", *options, "-qq", "update"], capture_output=True, check=False)
        ran("apt-get", *options, "-qq", "-y", "--download-only", "install", "python3", "libstdc++6",
            *packages, what=f"python3 for {architecture}")
        for package in sorted((work / "cache" / "archives").glob("*.deb")):
            ran("dpkg-deb", "-x", package, system, what=package.name)
        (system / "proc").mkdir(exist_ok=True)
        (system / "done").touch()
    return system


def arm_packages(system: Path) -> tuple[str, Path]:
    """The version of the Python in ``system``, and a folder with the wheels for it."""
    python = min(path.name for path in (system / "usr" / "bin").glob("python3.*")).removeprefix("python")
    target = WORK / f"packages-{python}"
    if not (target / "numpy").is_dir():
        say(f"installing the wheels for Python {python} on aarch64")
        ran(sys.executable, "-m", "pip", "install", "--target", target, *pip_for(python),
            *requirements(python), what=f"wheels for Python {python}")
    return python, target


def cpuinfo(processor: str) -> str:
    """/proc/cpuinfo of ``processor``: onnxruntime ends without a word where it meets this machine's."""
    part, features = PROCESSORS[processor]
    return "".join(f"processor\t: {core}\nBogoMIPS\t: 108.00\nFeatures\t: {features}\n"
                   f"CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n"
                   f"CPU part\t: {part}\nCPU revision\t: 3\n\n"
                   for core in range(4))


def material(bundle: Any) -> np.ndarray[Any, Any]:
    """Golden A-scans and as many synthetic ones again as a shift would show on, (n, n_samples)."""
    from usedge.preprocess import Preprocessor
    from usedge.synth import generate

    return np.concatenate([bundle.golden().x, Preprocessor(bundle.spec).batch(generate("field", 24, 7).x).x])


def compare(name: str, here: np.ndarray[Any, Any], there: np.ndarray[Any, Any], bundle: Any) -> None:
    """Say how far the answers (n, 3l + 1) lie apart; raises CheckFailedError for wrong golden ones."""
    from usedge.golden import called, wrong_answers

    golden, no_echo = bundle.golden(), bundle.thresholds.no_echo
    rows = iter(there)
    fault = wrong_answers(golden, no_echo, lambda _: next(rows)[np.newaxis])
    if fault is not None:
        raise CheckFailedError(f"{name}: {fault}")
    if here.tobytes() == there.tobytes():
        say(f"  {name}: {len(here)} answers, the same bits")
        return
    (label, place), (label0, place0) = (called(out, no_echo) for out in (there, here))
    say(f"  {name}: {len(golden.x)} golden answers are right; of {len(here)}, {int((label != label0).sum())}"
        f" labels differ, places by up to {float(np.nanmax(np.abs(place - place0))):.2g} patches, numbers by"
        f" up to {float(np.abs(here - there).max()):.2g}")


def own_library() -> Path | None:
    """Our own C code for aarch64; None, and said, where its compiler is missing."""
    if shutil.which("aarch64-linux-gnu-gcc") is None:
        say("native is left out: aarch64-linux-gnu-gcc is missing (Debian: gcc-aarch64-linux-gnu)")
        return None
    path = WORK / "libusnet.so"
    sources = ROOT / "export" / "c"
    ran("aarch64-linux-gnu-gcc", "-std=c99", "-O3", "-mcpu=cortex-a72", "-shared", "-fPIC",
        f"-I{sources / 'include'}", sources / "src" / "usnet.c", "-o", path, what="our C code for aarch64")
    return path


def check_variants(path: Path) -> None:
    """Put the same A-scans to each int8 variant here and on the emulated processor."""
    from usedge.bundle import read_bundle

    missing = [f"{tool} (Debian: {package})" for tool, package in NEEDED.items()
               if shutil.which(tool) is None]
    if missing:
        raise FileNotFoundError(", ".join(missing))
    bundle, library = read_bundle(path), own_library()
    names = [name for name, each in bundle.variants.items()
             if each.precision == "int8" and (each.runtime != "native" or library)]
    np.savez(WORK / "given.npz", x=material(bundle), names=np.array(names))
    system = arm_python()
    python, packages = arm_packages(system)
    plain = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    roots = os.pathsep.join(map(str, (ROOT, ROOT / "firmware_bridge")))
    say(f"asking {', '.join(names)} here")
    ran(sys.executable, "-c", ANSWERS, path, WORK / "given.npz", WORK / "here.npz", what="here",
        env=plain | {"PYTHONPATH": roots})
    there = plain | {"PYTHONPATH": f"{packages}{os.pathsep}{roots}", "PYTHONHOME": str(system / "usr")}
    there |= {"USEDGE_NATIVE_LIBRARY": str(library)} if library else {}
    for processor in PROCESSORS:
        say(f"asking them on a {processor}, emulated")
        (system / "proc" / "cpuinfo").write_text(cpuinfo(processor))
        ran("qemu-aarch64", "-cpu", processor, "-L", system, system / "usr" / "bin" / f"python{python}", "-c",
            ANSWERS, path, WORK / "given.npz", WORK / "there.npz", what=processor, env=there)
        here_out, there_out = np.load(WORK / "here.npz"), np.load(WORK / "there.npz")
        for name in names:
            compare(name, here_out[name], there_out[name], bundle)


def check_tflite(path: Path) -> None:
    """tflite-runtime's wheel for 32-bit ARM, with Debian's numpy, on the golden A-scans of the bundle."""
    system = arm_python("armhf", "python3-numpy")
    python = min(path.name for path in (system / "usr" / "bin").glob("python3.*"))
    wheels = WORK / "armhf" / "packages"
    if not (wheels / "tflite_runtime").is_dir():
        ran(sys.executable, "-m", "pip", "install", "--no-deps", "--target", wheels,
            *pip_for(python.removeprefix("python"), "armv7l"), "tflite-runtime==2.14.0",
            what="tflite-runtime for 32-bit ARM")
    libraries = system / "usr" / "lib" / "arm-linux-gnueabihf"
    folders = (wheels, ROOT, ROOT / "firmware_bridge", system / "usr" / "lib" / "python3" / "dist-packages")
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    env |= {"PYTHONPATH": os.pathsep.join(map(str, folders)), "PYTHONHOME": str(system / "usr")}
    told = ran("qemu-arm", "-E", f"LD_LIBRARY_PATH={libraries / 'blas'}:{libraries / 'lapack'}", "-L", system,
               system / "usr" / "bin" / python, "-c", TFLITE, path, what="tflite-runtime", env=env)
    say(f"  {told.strip()}")


def main() -> int:
    """0: all holds; 1: a check failed; 2: a tool is missing."""
    from usedge.resources import shipped_bundle

    WORK.mkdir(parents=True, exist_ok=True)
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else shipped_bundle()
    try:
        say("== wheels of the device install for aarch64")
        for python in PYTHONS:
            check_wheels(python)
        say("== int8 variants on an emulated aarch64 processor")
        check_variants(path)
        say("== tflite-runtime on an emulated 32-bit ARM processor")
        check_tflite(path)
    except CheckFailedError as failed:
        say(f"failed: {failed}")
        return 1
    except FileNotFoundError as missing:
        say(f"not checked, since this is missing: {missing}")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
