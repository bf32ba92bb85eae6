"""Hard gates from recorded ones: real echoes, noise and ring-down, put together so that the label is known.

Every file made has one kind and one parent's echoes, at the parent's rate: the bias that `usedge evaluate`
takes off belongs to one shape of echo, and nothing but what is added is resampled.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usedge.ascan import AScan, cut_gate
from usedge.errors import InputError, known_name
from usedge.files import write_whole
from usedge.spec import Gate
from usedge.synth.hard_kinds import KINDS, FloatArray, Host, Made, Pool, Trace

HARD_VERSION = 1
"""Raised whenever the same seed and files would give other A-scans."""
LEAST_SAMPLES = 64
LEAST_SNR_DB = 26.0
"""Echoes weaker than this would hide what is added to them."""
MOST_AHEAD = 0.1
"""Nothing before the echo has more than this part of its envelope, or the label would not be the first's."""
LEAST_NOISE_RMS = 1.0
"""Counts; noise under this is the rounding of its ADC."""
MOST_UNEVEN, MOST_LOCAL, MOST_CREST = 1.6, 2.2, 5.0
"""Noise alone: rms of its loudest quarter over the quietest, of any 3 periods and peak over that of all."""
RING_RATIO = 8.0
"""Ring-down: rms of the first quarter over the last."""
ECHO_LEVEL = 0.05
"""An echo is cut out where its envelope leaves and reaches this part of its peak."""
ECHOES_A_FILE = 8
TRIES = 20
NEEDS = {"ring": ("rings",), "noise": ("noise",), "empty": ("noise", "rings")}
LACKS = {
    "noise": ("none of the files has an empty gate that holds noise alone (steady, at least one count rms)",
              "Give a recording with gates without an echo"),
    "rings": ("none of the files has ring-down: no echo in the whole file, gates that begin loud and decay",
              "Give a recording of a transducer without a reflector, from the main bang on"),
}


@dataclass(frozen=True)
class Parent:
    """A file of labelled A-scans: ``x (n, samples)`` counts, the rest as in ``LabelledSet``, per row (n,).

    ``name`` is for texts and file names alone; ``snr_db`` as `usedge evaluate` measures it.
    """

    name: str
    x: NDArray[np.int16]
    fs_hz: float
    t0_s: float
    tof_s: FloatArray
    gate_s: FloatArray
    f0_hz: FloatArray
    label_point: str
    snr_db: FloatArray

    def place(self, i: int) -> slice:
        """The samples of row ``i`` that its gate covers; raises InputError where it is outside the A-scan."""
        ascan = AScan(self.x[i], self.fs_hz, self.t0_s * 1e6)
        gated = cut_gate(ascan, Gate(float(self.gate_s[i, 0]) * 1e6, float(self.gate_s[i, 1]) * 1e6))
        first = round((gated.t0_us - ascan.t0_us) * self.fs_hz * 1e-6)
        return slice(first, first + len(gated.samples))

    def gate(self, i: int) -> FloatArray:
        """Counts (m,) of the gate of row ``i``, its median taken off."""
        x = self.x[i, self.place(i)].astype(np.float64)
        centred: FloatArray = x - np.median(x)
        return centred


@dataclass(frozen=True)
class HardFile:
    """One kind and one parent: ``rows (n,)`` of the parent and what was made of each."""

    kind: str
    parent: Parent
    rows: list[int]
    made: list[Made]

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.kind}-{self.parent.name}.npz"


def harden(parents: Sequence[Parent], seed: int = 0, count: int = 24, kinds: Sequence[str] = tuple(KINDS),
           advance: Callable[[], None] = lambda: None) -> Iterator[HardFile]:
    """Files of up to ``count`` hard gates for each of ``kinds`` and each parent whose gates suit it.

    The same parents in the same order, seed and version give the same A-scans, whichever kinds are asked
    for. ``advance`` is called after each kind and parent. Raises InputError for an unknown kind and where
    the files lack what a kind is made of.
    """
    for kind in kinds:
        known_name(kind, KINDS, "kind")
    hosts = [_hosts(parent) for parent in parents]
    noise = [_noise_hosts(parent) for parent in parents]
    pool = Pool([_trace(host) for found in noise for _, host in found],
                [ring for parent in parents for ring in _rings(parent)],
                [_trace(host, host.echo, host.fs_hz / host.period) for found in hosts
                 for host in _spread([host for _, host in found if not host.clipped])])
    _check(kinds, hosts, pool)
    for kind in kinds:
        for number, parent in enumerate(parents):
            rng = np.random.default_rng((seed, list(KINDS).index(kind), number))
            found = noise[number] if kind == "empty" else hosts[number]
            rows, made = _make(rng, kind, found, pool, count)
            advance()
            if rows:
                yield HardFile(kind, parent, rows, made)


def _check(kinds: Sequence[str], hosts: Sequence[Sequence[tuple[int, Host]]], pool: Pool) -> None:
    for kind in kinds:
        leave_out = f", or leave {kind} out of --kinds."
        for need in NEEDS.get(kind, ()):
            if not getattr(pool, need):
                what, next_step = LACKS[need]
                raise InputError(f"{what}, which the kind {kind} is made of.", next_step + leave_out)
        if kind != "empty" and not any(hosts):
            raise InputError(f"none of the files has an echo of at least {LEAST_SNR_DB:g} dB with nothing"
                             f" ahead of it, to make gates of the kind {kind} from.",
                             "Give clean recordings.")
        if kind == "foreign" and len({trace.name for trace in pool.echoes}) < 2:
            raise InputError("foreign packets are cut from another file, and fewer than two have echoes that"
                             " are not clipped.", "Give one more" + leave_out)


def _make(rng: np.random.Generator, kind: str, hosts: Sequence[tuple[int, Host]], pool: Pool, count: int
          ) -> tuple[list[int], list[Made]]:
    """Up to ``count`` gates of ``kind`` from ``hosts`` in random order, over and over."""
    rows: list[int] = []
    made: list[Made] = []
    for _ in range(TRIES if hosts else 0):
        for place in rng.permutation(len(hosts)):
            row, host = hosts[place]
            if len(made) < count and (found := KINDS[kind](rng, host, pool)) is not None:
                rows.append(row)
                made.append(found)
    return rows, made


def _hosts(parent: Parent) -> list[tuple[int, Host]]:
    """Rows whose gate holds a clean echo, and that gate."""
    clean = np.isfinite(parent.tof_s) & (parent.snr_db >= LEAST_SNR_DB)
    found = [(int(i), _host(parent, int(i))) for i in np.flatnonzero(clean)]
    return [(i, host) for i, host in found
            if len(host.samples) >= LEAST_SAMPLES and host.ahead <= MOST_AHEAD
            and 2 * host.period <= host.label <= len(host.samples) - 2 * host.period]


def _host(parent: Parent, i: int) -> Host:
    x, period, place = parent.gate(i), parent.fs_hz / float(parent.f0_hz[i]), parent.place(i)
    label = (float(parent.tof_s[i]) - parent.t0_s) * parent.fs_hz - place.start
    envelope = _local_rms(x, period)
    early, late = max(int(label - period), 0), int(label + 8 * period) + 1
    top = early + int(np.argmax(envelope[early:late])) if early < len(x) else early
    level = ECHO_LEVEL * envelope[min(top, len(x) - 1)]
    quiet = np.flatnonzero(envelope < level)
    # From a label of an onset on at the latest, whatever weak beginning the envelope does not show.
    begin = int(max(quiet[quiet < top], default=0))
    if parent.label_point == "onset":
        begin = min(max(begin, int(label - 2 * period)), int(label - 0.5 * period))
    end = int(min(quiet[quiet > top], default=len(x)))
    begin, end = max(begin, 0), min(end, top + round(12 * period), len(x))
    peak = float(np.abs(x[begin:end]).max(initial=1.0))
    before = envelope[: max(begin - round(period), 1)].max()
    ahead = float(before / max(float(envelope[begin:end].max(initial=0.0)), 1e-9))
    return Host(x, parent.fs_hz, period, parent.name, label, begin, end, peak, ahead, float(parent.snr_db[i]),
                _clipped(parent.x[i, place][begin:end]), parent.label_point == "onset")


def _local_rms(x: FloatArray, length: float) -> FloatArray:
    """The rms of ``x (n,)`` over ``length`` samples around each."""
    box = np.full(min(max(2, round(length)), len(x)), 1.0)
    squares: FloatArray = np.convolve(x * x, box / len(box), "same")
    return np.sqrt(squares)


def _clipped(echo: NDArray[np.int16]) -> bool:
    """Whether the echo reaches its largest or its least value three times: at a rail, that is."""
    return len(echo) > 0 and max(int((echo == echo.max()).sum()), int((echo == echo.min()).sum())) > 2


def _noise_hosts(parent: Parent) -> list[tuple[int, Host]]:
    """Rows whose empty gate holds steady noise alone, its trend taken off."""
    found = []
    for i in np.flatnonzero(np.isnan(parent.tof_s)):
        x, period = _level(parent.gate(int(i))), parent.fs_hz / float(parent.f0_hz[i])
        if len(x) >= 2 * LEAST_SAMPLES and _steady_noise(x, period):
            found.append((int(i), Host(x, parent.fs_hz, period, parent.name)))
    return found


def _steady_noise(x: FloatArray, period: float) -> bool:
    """Whether ``x (n,)`` has no packet in it, no drift, and is more than the rounding of its ADC."""
    quarters = [float(part.std()) for part in np.array_split(x, 4)]
    box = np.full(min(2 * max(2, round(period)), len(x)), 1.0)
    slow = np.convolve(x, box / len(box), "same")
    rms = float((x - slow).std())
    return (rms >= LEAST_NOISE_RMS and float(slow.std()) <= rms
            and max(quarters) <= MOST_UNEVEN * min(quarters) and np.abs(x).max() <= MOST_CREST * x.std()
            and float(_local_rms(x, 3 * period).max()) <= MOST_LOCAL * x.std())


def _level(x: FloatArray) -> FloatArray:
    """``x (n,)`` without the straight line through it."""
    t = np.linspace(-1.0, 1.0, len(x))
    straight: FloatArray = x - x.mean() - t * float((t * x).sum() / (t * t).sum())
    return straight


def _rings(parent: Parent) -> list[Trace]:
    """Gates of a file without any echo that begin loud and decay, down to their rest level."""
    found: list[Trace] = []
    if np.isfinite(parent.tof_s).any():
        return found
    for i in range(len(parent.x)):
        x = parent.gate(i)
        quarters = np.array_split(x, 4)
        if len(x) >= LEAST_SAMPLES and quarters[0].std() >= RING_RATIO * max(_level(quarters[3]).std(), 0.3):
            tail = len(x) // 10
            x = x - x[-tail:].mean()
            x[-2 * tail :] *= 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, 2 * tail))
            found.append(Trace(x, parent.fs_hz, parent.name))
    return found


def _trace(host: Host, samples: FloatArray | None = None, f0_hz: float = 0.0) -> Trace:
    return Trace(host.samples if samples is None else samples, host.fs_hz, host.name, float(f0_hz))


def _spread(found: Sequence[Host]) -> Sequence[Host]:
    """At most ECHOES_A_FILE of them, evenly over the file."""
    return found[:: max(1, -(-len(found) // ECHOES_A_FILE))]


def arrays(hard: HardFile, seed: int) -> dict[str, Any]:
    """The arrays of a labelled A-scan file, and ``kind``, ``seed``, ``hard_version``, ``parent_row (n,)``,
    ``level_db (n,)`` and, of the kind weak, ``later_tof_s (n,)``.

    Every A-scan is the parent's with its gate replaced; what lies outside the gate is as recorded.
    """
    parent, rows = hard.parent, hard.rows
    x = parent.x[rows]
    tof_s, later_s = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for k, (row, made) in enumerate(zip(rows, hard.made, strict=True)):
        place = parent.place(row)
        rest = np.median(parent.x[row, place])
        x[k, place] = np.clip(np.round(made.samples + rest), -32768, 32767)
        tof_s[k] = parent.t0_s + (place.start + made.label) / parent.fs_hz
        later_s[k] = parent.t0_s + (place.start + made.later) / parent.fs_hz
    others = sorted({name for made in hard.made for name in made.parents})
    added = f" with {', '.join(others)}" if others else ""
    source = f"hard {hard.kind}: from {parent.name}{added}; seed {seed}"
    extra = {"later_tof_s": later_s} if hard.kind == "weak" else {}
    return {"x": x, "fs_hz": parent.fs_hz, "t0_s": parent.t0_s, "f0_hz": parent.f0_hz[rows], "tof_s": tof_s,
            "gate_s": parent.gate_s[rows], "label_point": parent.label_point, "source": source,
            "kind": hard.kind, "seed": seed, "hard_version": HARD_VERSION, "parent_row": np.array(rows),
            "level_db": np.array([made.level_db for made in hard.made]), **extra}


def write_hard(folder: Path, hard: HardFile, seed: int) -> Path:
    """Write ``hard`` into ``folder``, whole or not at all; raises InputError where that fails."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays(hard, seed))
    write_whole(folder / hard.name, buffer.getvalue())
    return folder / hard.name
