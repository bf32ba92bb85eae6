"""Work for ``usedge bench training``, done in turns: training steps, plain ones beside, and making A-scans.

``python -m usedge.training.speed GROUP`` answers every line on stdin, the key of a contender, by one turn of
it and a JSON line. A group is a process, so that each trains under its own memory settings, and so that the
suite, which must not import torch, can run them turn by turn.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from usedge.errors import UsedgeError
from usedge.models.mae import MaskedAutoencoder
from usedge.models.nets import ToFNet
from usedge.synth import PRESETS
from usedge.synth.files import write_synth
from usedge.training.loop import Loss, Run, TrainSettings, adamw, keep_freed_memory, resolve_precision
from usedge.training.plain import PlainMAE
from usedge.training.recipe import Recipe, read_recipes
from usedge.training.stream import Batch, FileStream, SynthStream
from usedge.training.tasks import LOSSES

SHORT = {"32-true": "fp32", "bf16-mixed": "bf16"}
FILE_SAMPLES = 2048


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done; the recipe states models and batches. ``folder`` takes the HDF5 file."""

    recipe: Recipe
    seed: int
    data_ascans: int
    file_ascans: int
    folder: Path

    def batch(self, section: str) -> Batch:
        """The one batch that every step of ``section`` trains on: making A-scans is timed apart."""
        s = self.recipe.settings(section)
        return SynthStream(s.preset, self.seed, s.batch, self.recipe.spec())[0]


@dataclass(frozen=True, slots=True)
class Contender:
    """``turn`` does one turn and returns how many A-scans that was; the rest describes it."""

    key: str
    name: str
    turn: Callable[[], int]
    batch: int
    parameters: int = 0


def plain(work: Work) -> Iterator[Contender]:
    """The textbook form, as a textbook trains it."""
    s, x = work.recipe.settings("pretrain"), work.batch("pretrain").x
    for precision, short in SHORT.items():
        torch.manual_seed(work.seed)
        model = PlainMAE(work.recipe.spec(), work.recipe.config())
        yield Contender(f"plain-{short}", f"plain MAE, {short}", _plain_steps(model, x, s, precision),
                        s.batch, _parameters(model))


def _plain_steps(model: nn.Module, x: Tensor, s: TrainSettings, precision: str) -> Callable[[], int]:
    optimizer, generator = adamw(model, s), torch.Generator().manual_seed(s.seed)

    def step() -> int:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = model(x, generator)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), s.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        return len(x)

    return step


def ours(work: Work) -> Iterator[Contender]:
    """Pretraining and fine-tuning, each step by the training loop's own hands."""
    keep_freed_memory()
    spec, config = work.recipe.spec(), work.recipe.config()
    pretrain, finetune = work.recipe.settings("pretrain"), work.recipe.settings("finetune")
    short = SHORT[resolve_precision(pretrain.precision)]
    for key, share, name in (("usedge", 1.0, f"usedge, {short}"),
                             ("usedge-half", 0.5, f"usedge, {short}, half of the removed patches decoded")):
        torch.manual_seed(work.seed)
        model: nn.Module = MaskedAutoencoder(spec, replace(config, decoded_share=share))
        turn = _loop_steps(work, "pretrain", model, LOSSES["mae"], pretrain)
        yield Contender(key, name, turn, pretrain.batch, _parameters(model))
    for precision, short in SHORT.items():
        torch.manual_seed(work.seed)
        model = ToFNet(spec, config)
        turn = _loop_steps(work, "finetune", model, LOSSES["tof"], replace(finetune, precision=precision))
        yield Contender(f"finetune-{short}", f"usedge, {short}", turn, finetune.batch, _parameters(model))


def _loop_steps(work: Work, section: str, model: nn.Module, loss: Loss, s: TrainSettings
                ) -> Callable[[], int]:
    spec, batch = work.recipe.spec(), work.batch(section)
    stream = SynthStream(s.preset, work.seed, s.batch, spec)
    run = Run(section, model, loss, stream, s, spec, work.recipe.config(), work.folder, {})
    fabric = Fabric(devices=1, accelerator="cpu",
                    precision=resolve_precision(s.precision))  # type: ignore[arg-type]
    fabric.launch()
    wrapped, optimizer = fabric.setup(model, adamw(model, s))
    steps = count()

    def step() -> int:
        # The loop's own step, private as it is: a copy of it would measure the copy.
        run._step(fabric, wrapped, optimizer, batch, next(steps))
        return len(batch)

    return step


def data(work: Work) -> Iterator[Contender]:
    """Making and reading A-scans, preprocessing included, as one worker process of the loop does."""
    torch.set_num_threads(1)
    spec, batch = work.recipe.spec(), work.recipe.settings("pretrain").batch
    turns = max(1, work.data_ascans // batch)
    for preset in PRESETS:
        # The same batches every turn: their native lengths differ, and with them the work.
        stream = SynthStream(preset, work.seed, batch, spec)
        yield Contender(f"generator-{preset}", f"generator, preset {preset}",
                        _reads(stream, cycle(range(turns)), turns), batch)
    path = work.folder / "speed.h5"
    write_synth(path, "paper", work.file_ascans, FILE_SAMPLES, work.seed)
    # On and on through the file, so that HDF5's own cache of chunks is of no use.
    yield Contender("file", "HDF5 file of usedge synth",
                    _reads(FileStream(path, work.seed, batch, spec), count(), turns), batch)


def _reads(stream: SynthStream | FileStream, order: Iterator[int], turns: int) -> Callable[[], int]:
    return lambda: sum(len(stream[index]) for index in islice(order, turns))


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


GROUPS = {"plain": plain, "usedge": ours, "data": data}


def serve(group: str, work: Work, warmup: int) -> Iterator[dict[str, Any]]:
    """Answers: first who is here, each warmed up by ``warmup`` turns, then one for every line of stdin."""
    contenders = {each.key: each for each in GROUPS[group](work)}
    for each in contenders.values():
        for _ in range(warmup):
            each.turn()
    yield {"torch": torch.__version__, "threads": torch.get_num_threads(),
           "contenders": [{"key": each.key, "name": each.name, "batch": each.batch,
                           "parameters": each.parameters} for each in contenders.values()]}
    for line in sys.stdin:
        turn = contenders[line.strip()].turn
        begun = time.perf_counter()
        ascans = turn()
        yield {"ascans": ascans, "elapsed_s": time.perf_counter() - begun}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m usedge.training.speed", description=__doc__)
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--folder", type=Path, required=True)
    for name, default in (("seed", 8), ("data-ascans", 1024), ("file-ascans", 4096), ("warmup", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def main() -> int:
    """Serve turns until stdin ends; an error is one line on stderr."""
    given, answers = _arguments(), sys.stdout
    try:
        work = Work(read_recipes([given.recipe]), given.seed, given.data_ascans, given.file_ascans,
                    given.folder)
        with redirect_stdout(sys.stderr):  # answers alone go out, whatever a library has to say
            for answer in serve(given.group, work, given.warmup):
                answers.write(json.dumps(answer) + "\n")
                answers.flush()
    except UsedgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
