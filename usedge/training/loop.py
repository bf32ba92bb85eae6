"""The training loop that pretraining and fine-tuning share, on Lightning Fabric: CPU, GPUs or nodes by a flag."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from usedge.errors import InputError
from usedge.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from usedge.models.mae import MAEConfig
from usedge.spec import SignalSpec
from usedge.training.stream import Batch, Stream, batches

Loss = Callable[[nn.Module, Batch, torch.Generator], Tensor]


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
    seed: int = 0
    precision: str = "auto"
    devices: int = 1
    nodes: int = 1
    workers: int = 1
    checkpoint_s: float = 120.0

    def __post_init__(self) -> None:
        if self.ascans < self.batch * self.devices * self.nodes:
            raise InputError(f"{self.ascans} A-scans do not fill one batch of {self.batch}.", "Raise --ascans.")

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
    native = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else _cpu_has_bf16()
    return "bf16-mixed" if native else "32-true"


def _cpu_has_bf16() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "avx512_bf16" in text or " bf16" in text


def adamw(model: nn.Module, s: TrainSettings) -> torch.optim.AdamW:
    """AdamW that decays matrices and leaves biases, norms and single vectors alone."""
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if p.ndim >= 2], "weight_decay": s.weight_decay},
              {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=s.rate(0), betas=s.betas)


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
    """One training run: what is trained, on what, and where it is kept (``folder/last``, ``folder/log.jsonl``)."""

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

    def fit(self) -> Checkpoint:
        """Train to the end, resuming from ``folder/last`` where there is one; returns the last checkpoint.

        Interrupted (Ctrl-C), it stores a checkpoint first. Raises InputError when ``folder`` holds a run
        with other settings, or when the loss stops being finite.
        """
        s = self.settings
        fabric = Fabric(devices=s.devices, num_nodes=s.nodes, precision=resolve_precision(s.precision),  # type: ignore[arg-type]
                        accelerator="auto" if torch.cuda.is_available() else "cpu")
        fabric.launch()
        plain = self.model
        optimizer = adamw(plain, s)
        first = self._resume(plain, optimizer)
        model, wrapped = fabric.setup(plain, optimizer)
        order = [step * s.world + fabric.global_rank for step in range(first, s.steps)]
        step = first
        try:
            for step in self._steps(fabric, model, wrapped, batches(self.stream, order, s.workers), first):
                if fabric.is_global_zero:
                    self._store(plain, optimizer, step)
        except KeyboardInterrupt:
            if fabric.is_global_zero:
                self._store(plain, optimizer, self._done)
            raise
        scores = self.validate(plain) if self.validate else {}
        return self._store(plain, optimizer, step, scores) if fabric.is_global_zero else self._checkpoint(plain, {}, {})

    def _steps(self, fabric: Fabric, model: Any, optimizer: Any, source: Iterator[Batch], first: int) -> Iterator[int]:
        s, last_store, losses = self.settings, time.monotonic(), []
        started = time.monotonic()
        self._done = first
        with _progress(fabric.is_global_zero) as bar:
            task = bar.add_task(self.kind, total=s.steps * s.batch * s.world, completed=first * s.batch * s.world, loss="–")
            for step in range(first, s.steps):
                loss = self._step(fabric, model, optimizer, fabric.to_device(next(source)), step)
                losses.append(loss)
                self._done = step + 1
                bar.advance(task, s.batch * s.world)
                if (step + 1) % 20 == 0 or step + 1 == s.steps:
                    mean, losses = float(torch.stack(losses).mean()), []
                    bar.update(task, loss=f"{mean:.4f}")
                    self._log(fabric, step + 1, mean, (step + 1 - first) * s.batch * s.world / (time.monotonic() - started))
                if time.monotonic() - last_store > s.checkpoint_s or step + 1 == s.steps:
                    last_store = time.monotonic()
                    yield step + 1

    def _step(self, fabric: Fabric, model: Any, optimizer: Any, batch: Batch, step: int) -> Tensor:
        s = self.settings
        # Seeded by the step, not carried along: a resumed run draws the same masks.
        generator = torch.Generator().manual_seed((s.seed << 32) + step * s.world + fabric.global_rank)
        for group in optimizer.param_groups:
            group["lr"] = s.rate(step)
        loss = self.loss(model, batch, generator)
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=s.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach().float()

    def _log(self, fabric: Fabric, step: int, loss: float, rate: float) -> None:
        if not math.isfinite(loss):
            raise InputError(f"the loss is {loss} at step {step}.", "Lower --base-rate; the last checkpoint is kept.")
        if fabric.is_global_zero:
            entry = {"step": step, "ascans": step * self.settings.batch * self.settings.world, "loss": round(loss, 6),
                     "learning_rate": self.settings.rate(step - 1), "ascans_per_s": round(rate, 1)}
            with (self.folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(entry) + "\n")

    def _checkpoint(self, model: nn.Module, optimizer: dict[str, Tensor], record: dict[str, Any]) -> Checkpoint:
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

    def _resume(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "last").exists():
            return 0
        stored = load_checkpoint(self.folder / "last", self.kind)
        changed = [key for key, value in _settings(self.settings).items() if stored.record["settings"].get(key) != value]
        if changed or stored.optimizer is None:
            raise InputError(f"{self.folder} holds a run with other settings ({', '.join(changed) or 'no optimizer'}).",
                             "Give another --out, or the same settings to resume.")
        model.load_state_dict(stored.weights)
        restore_optimizer(model, optimizer, stored.optimizer)
        return int(stored.record["step"])


def _settings(s: TrainSettings) -> dict[str, Any]:
    values = json.loads(json.dumps(asdict(s)))
    for moved_freely in ("workers", "checkpoint_s"):
        values.pop(moved_freely)
    return dict(values)


def _progress(show: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("A-scans"),
                    TextColumn("loss {task.fields[loss]}"), TimeRemainingColumn(), console=console,
                    disable=not (show and console.is_terminal))
