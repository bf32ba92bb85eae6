"""The training loop of pretraining and fine-tuning, on Lightning Fabric: CPU, GPUs or nodes by a flag."""

from __future__ import annotations

import ctypes
import json
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from usedge.errors import InputError
from usedge.files import write_whole
from usedge.models.checkpoint import Checkpoint, is_stored, load_checkpoint, save_checkpoint
from usedge.models.config import MAEConfig
from usedge.spec import SignalSpec
from usedge.synth import PRESETS
from usedge.training.stream import Batch, Stream, batches

Loss = Callable[[nn.Module, Batch, torch.Generator], Tensor]

PRECISIONS = ("auto", "32-true", "bf16-mixed")
MOST_SEED = 2**31 - 1
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, MOST_KEPT = -1, -3, 1 << 30


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Every number of a training run. The schedule is in A-scans seen, so batch and hardware can change.

    AdamW with betas (0.9, 0.95), weight decay 0.05, rate × batch / 256 and warm-up + cosine are the MAE
    recipe (He et al. 2022, appendix A.1).
    """

    ascans: int
    batch: int = 128
    base_rate: float = 2e-3
    warmup_ascans: int = 10_000
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0
    preset: str = "field"
    pool: int = 0
    """Distinct synthetic A-scans, seen again every epoch; 0: every A-scan is a new one."""
    layer_decay: float = 1.0
    """Factor on the rate for each layer down from the head (He et al. 2022, appendix A.2: 0.75)."""
    augment: float = 0.0
    """Largest rms of the white noise that is added afresh to a pool's A-scans, full scale being 1, with a
    random polarity; 0: they are drawn as they are."""
    probe: bool = False
    """Train the head alone, on a frozen encoder."""
    rehearsal: float = 0.0
    """Share of fresh synthetic A-scans in batches of a few labelled ones (``training.adapt``); 0: none."""
    sparse: float = 0.0
    """Share of the batches that show the network few of their patches, half or a quarter (``usedge.sparse``);
    0: all of them, always."""
    seed: int = 0
    precision: str = "auto"
    devices: int = 1
    nodes: int = 1
    workers: int = 1
    checkpoint_s: float = 120.0

    def __post_init__(self) -> None:
        for name in ("batch", "devices", "nodes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)} is not positive.")
        if self.workers < 0 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"workers {self.workers} must not be negative, betas {self.betas} in 0 … 1.")
        if self.ascans < self.batch * self.world:
            raise InputError(f"{self.ascans} A-scans do not fill one batch of {self.batch * self.world}.",
                             "Raise --ascans.")
        if self.preset not in PRESETS:
            raise InputError(f"preset {self.preset!r} is unknown.", f"Known: {', '.join(PRESETS)}.")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision {self.precision!r} is unknown.", f"Known: {', '.join(PRECISIONS)}.")
        for name in ("base_rate", "weight_decay", "clip_norm", "augment", "checkpoint_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} {getattr(self, name)} is negative or not finite.")
        self._check_shares()
        if not 0 <= self.seed <= MOST_SEED:
            raise InputError(f"the seed {self.seed} is not in 0 … {MOST_SEED}.", "Give another --seed.")

    def _check_shares(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"layer_decay {self.layer_decay} is not in 0 … 1.", "1 treats all layers alike.")
        for name in ("rehearsal", "sparse"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)} is not a share under 1.", "A half: 0.5.")
        if self.pool < 0 or self.warmup_ascans < 0:
            raise InputError(f"pool {self.pool} and warmup_ascans {self.warmup_ascans} must not be negative.")

    @property
    def world(self) -> int:
        """Processes that train together."""
        return self.devices * self.nodes

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.ascans // (self.batch * self.world)

    def rate(self, step: int) -> float:
        """Learning rate of ``step``: linear warm-up, then cosine to zero."""
        peak = self.base_rate * self.batch * self.world / 256
        warmup = max(1, self.warmup_ascans // (self.batch * self.world))
        if step < warmup:
            return peak * (step + 1) / warmup
        return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.steps - warmup)))


def resolve_precision(precision: str) -> str:
    """"auto" → bf16 where the hardware has it natively, else 32 bits."""
    if precision != "auto":
        return precision
    # Without emulation: cards before Ampere "support" bf16 more slowly than 32 bits.
    native = (torch.cuda.is_bf16_supported(including_emulation=False) if torch.cuda.is_available()
              else _cpu_has_bf16())
    return "bf16-mixed" if native else "32-true"


def _cpu_has_bf16() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "avx512_bf16" in text or " bf16" in text


def adamw(model: nn.Module, s: TrainSettings) -> torch.optim.AdamW:
    """AdamW that decays matrices and leaves biases, norms, positions and single vectors alone.

    Each group's ``scale`` is its factor on the rate (``layer_decay``); frozen parameters are left out.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    layers = len(getattr(getattr(model, "encoder", None), "blocks", ()))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = s.layer_decay ** (layers + 1 - _depth(name, layers))
            matrix = parameter.ndim >= 2 and not name.endswith("position")
            decay = s.weight_decay if matrix else 0.0
            groups.setdefault((scale, decay), []).append(parameter)
    return torch.optim.AdamW([{"params": parameters, "scale": scale, "weight_decay": decay}
                              for (scale, decay), parameters in groups.items()], lr=s.rate(0), betas=s.betas)


def _depth(name: str, layers: int) -> int:
    """0 for the embedding, 1 … ``layers`` for the encoder's blocks, then one more for what stands on them."""
    if not name.startswith("encoder.") or name.startswith("encoder.norm"):
        return layers + 1
    return int(name.split(".")[2]) + 1 if name.startswith("encoder.blocks.") else 0


def keep_freed_memory() -> None:
    """Have glibc keep what it frees: handing every large tensor back to the kernel costs page faults."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library, another allocator
    mallopt(M_MMAP_THRESHOLD, MOST_KEPT)
    mallopt(M_TRIM_THRESHOLD, MOST_KEPT)


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's state by parameter name, as tensors that safetensors can hold."""
    return {f"{name}|{key}": value for name, parameter in model.named_parameters()
            for key, value in optimizer.state.get(parameter, {}).items()}


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Inverse of ``optimizer_tensors``."""
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        name, _, field = key.partition("|")
        parameter = parameters[name]
        optimizer.state[parameter][field] = value if field == "step" else value.to(parameter.device)


@dataclass
class Run:
    """One training run: what is trained, on what, and where it is kept (``folder/last``, ``log.jsonl``)."""

    kind: str
    model: nn.Module
    loss: Loss
    stream: Stream
    settings: TrainSettings
    spec: SignalSpec
    config: MAEConfig
    folder: Path
    origin: dict[str, Any]
    validate: Callable[[nn.Module], dict[str, Any]] | None = None
    _done: int = field(default=0, init=False)

    def fit(self) -> Checkpoint:
        """Train to the end, resuming from ``folder/last`` where there is one; returns the last checkpoint.

        Interrupted (Ctrl-C), it stores a checkpoint first. Raises InputError when ``folder`` holds a run
        with other settings, or when loss, gradients or weights stop being finite.
        """
        s = self.settings
        keep_freed_memory()
        # Fabric announces its precision once a run: a line for each of an ablation's trials.
        logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
        fabric = Fabric(devices=s.devices, num_nodes=s.nodes,
                        precision=resolve_precision(s.precision),  # type: ignore[arg-type]
                        accelerator="auto" if torch.cuda.is_available() else "cpu")
        fabric.launch()
        plain = self.model
        optimizer = adamw(plain, s)
        first, moments = self._resume(plain)
        model, wrapped = fabric.setup(plain, optimizer)
        # After setup, which moves the weights to their device but no optimizer state.
        restore_optimizer(plain, optimizer, moments)
        if fabric.is_global_zero:
            self._trim_log(first)
        # A range, not a list: workers get a copy of it, whatever the length of the run.
        order = range(first * s.world + fabric.global_rank, s.steps * s.world, s.world)
        step = self._done = first
        try:
            for step in self._steps(fabric, model, wrapped, batches(self.stream, order, s.workers), first):
                if fabric.is_global_zero:
                    self._store(plain, optimizer, step)
        except KeyboardInterrupt:
            if fabric.is_global_zero:
                self._store(plain, optimizer, self._done)
            raise
        scores = self.validate(plain) if self.validate else {}
        if not fabric.is_global_zero:
            return self._checkpoint(plain, {}, {})
        return self._store(plain, optimizer, step, scores)

    def _steps(
        self, fabric: Fabric, model: Any, optimizer: Any, source: Iterator[Batch], first: int
    ) -> Iterator[int]:
        s, last_store, losses = self.settings, time.monotonic(), []
        started, each = time.monotonic(), s.batch * s.world
        with _progress(fabric.is_global_zero) as bar:
            task = bar.add_task(self.kind, total=s.steps * each, completed=first * each, loss="–")
            for step in range(first, s.steps):
                batch = fabric.to_device(next(source))
                with _whole():
                    losses.append(self._step(fabric, model, optimizer, batch, step))
                    self._done = step + 1
                bar.advance(task, each)
                if (step + 1) % 20 == 0 or step + 1 == s.steps:
                    mean, losses = float(torch.stack(losses).mean()), []
                    bar.update(task, loss=f"{mean:.4f}")
                    rate = (step + 1 - first) * each / (time.monotonic() - started)
                    self._log(fabric, step + 1, mean, rate)
                if time.monotonic() - last_store > s.checkpoint_s or step + 1 == s.steps:
                    last_store = time.monotonic()
                    yield step + 1

    def _step(self, fabric: Fabric, model: Any, optimizer: Any, batch: Batch, step: int) -> Tensor:
        s = self.settings
        # Seeded by the step, not carried along: a resumed run draws the same masks. Mixed, since torch's
        # generator heeds 32 bits alone.
        mixed = np.random.SeedSequence((s.seed, step * s.world + fabric.global_rank)).generate_state(1)[0]
        generator = torch.Generator().manual_seed(int(mixed))
        for group in optimizer.param_groups:
            group["lr"] = s.rate(step) * group["scale"]
        loss = self.loss(model, batch, generator)
        fabric.backward(loss)
        norm = fabric.clip_gradients(model, optimizer, max_norm=s.clip_norm, error_if_nonfinite=False)
        if norm is not None and not math.isfinite(norm):
            raise InputError(f"the gradients are not finite at step {step + 1}.",
                             "Lower --base-rate; the last checkpoint is kept.")
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach().float()

    def _log(self, fabric: Fabric, step: int, loss: float, rate: float) -> None:
        if not math.isfinite(loss):
            raise InputError(f"the loss is {loss} at step {step}.",
                             "Lower --base-rate; the last checkpoint is kept.")
        if fabric.is_global_zero:
            entry = {"step": step, "ascans": step * self.settings.batch * self.settings.world,
                     "loss": round(loss, 6), "learning_rate": self.settings.rate(step - 1),
                     "ascans_per_s": round(rate, 1)}
            with (self.folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(entry) + "\n")

    def _trim_log(self, step: int) -> None:
        """Drop what a run that ended without a checkpoint had logged after ``step``: it is done again."""
        path = self.folder / "log.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if _logged_step(line) <= step]
        if kept != lines:
            write_whole(path, "".join(line + "\n" for line in kept).encode())

    def _checkpoint(
        self, model: nn.Module, optimizer: dict[str, Tensor], record: dict[str, Any]
    ) -> Checkpoint:
        weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        return Checkpoint(self.kind, self.spec, self.config, record, weights, optimizer)

    def _store(self, model: nn.Module, optimizer: torch.optim.Optimizer, step: int,
               scores: dict[str, Any] | None = None) -> Checkpoint:
        record = {"step": step, "ascans": step * self.settings.batch * self.settings.world,
                  "settings": _settings(self.settings), "origin": self.origin, "scores": scores or {},
                  "torch": torch.__version__}
        checkpoint = self._checkpoint(model, optimizer_tensors(model, optimizer), record)
        save_checkpoint(self.folder / "last", checkpoint)
        return checkpoint

    def _resume(self, model: nn.Module) -> tuple[int, dict[str, Tensor]]:
        """The step to go on from and the optimizer's tensors, once ``model`` has the stored weights."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not is_stored(self.folder / "last"):
            return 0, {}
        stored = load_checkpoint(self.folder / "last")
        if stored.kind != self.kind:
            raise InputError(f"{self.folder} holds a {stored.kind!r} model, not {self.kind!r}.",
                             "Give another --out.")
        changed = self._changed(stored)
        if changed or stored.optimizer is None:
            odd = ", ".join(changed) or "no optimizer"
            raise InputError(f"{self.folder} holds a run with other settings ({odd}).",
                             "Give another --out, or the same settings to resume.")
        model.load_state_dict(stored.weights)
        return int(stored.record["step"]), stored.optimizer

    def _changed(self, stored: Checkpoint) -> list[str]:
        """Names of what differs between this run and a stored one, so that it cannot be the same run."""
        # A setting that came later had its default then.
        settings = _settings(TrainSettings(MOST_SEED)) | stored.record["settings"]
        pairs = [(_settings(self.settings), settings),
                 (self.config.to_dict(), stored.config.to_dict()),
                 (asdict(self.spec), asdict(stored.spec)),
                 ({"start": _plain(self.origin)}, {"start": stored.record["origin"]})]
        return [key for mine, theirs in pairs for key, value in mine.items() if theirs.get(key) != value]


def _logged_step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf  # cut short


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` as they come back from JSON (tuples as lists)."""
    return dict(json.loads(json.dumps(values)))


def _settings(s: TrainSettings) -> dict[str, Any]:
    return {key: value for key, value in _plain(asdict(s)).items() if key not in ("workers", "checkpoint_s")}


@contextmanager
def _whole() -> Iterator[None]:
    """Hold Ctrl-C back until the end, so that what is then stored is a whole step."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        signal.raise_signal(signal.SIGINT)


def _progress(show: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                    TextColumn("A-scans"), TextColumn("loss {task.fields[loss]}"), TimeRemainingColumn(),
                    console=console, disable=not (show and console.is_terminal))
