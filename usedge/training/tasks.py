"""The tasks: pretraining the masked autoencoder; then its encoder to time of flight, or to presence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usedge.errors import InputError
from usedge.models.checkpoint import Checkpoint, fit_weights, load_checkpoint
from usedge.models.config import MAEConfig
from usedge.models.mae import MaskedAutoencoder
from usedge.models.nets import build, spread, tof_loss
from usedge.sparse import SHARES, worth
from usedge.spec import SignalSpec
from usedge.training.loop import Run, TrainSettings
from usedge.training.scores import presence_scores, tof_scores
from usedge.training.stream import Augment, Batch, FileStream, PoolStream, Stream, SynthStream, synthetic_pool

if TYPE_CHECKING:
    from usedge.labelled import LabelledSet

VALIDATION_SEED = 0x5EED
"""Kept apart from every training seed; the validation A-scans are the same for all runs."""
TEST_SEED = 0x7E57
"""Of the A-scans that ablations are scored on: in no training and no validation."""
LABELS_SEED = 1 << 31
"""Added to a fine-tuning's seed, so that no fine-tuning shares its A-scans with any pretraining."""
VALIDATION_ASCANS = 4096
TASKS = ("tof", "presence")
WORTH_NOISE = (0.0, 0.5, 2.0)
"""Of the log energies by which patches are chosen in training, as factors of Gumbel noise."""


def pretrain(settings: TrainSettings, config: MAEConfig, folder: Path, spec: SignalSpec | None = None,
             data: Path | None = None) -> Checkpoint:
    """Pretrain an autoencoder into ``folder/last``, on synthetic A-scans or those of an HDF5 file ``data``.

    With ``spec.blur`` the encoder sees blurred A-scans, and with the recipe "deblur" it must undo that.
    Raises InputError for settings that contradict each other, or A-scans that are not finite.
    """
    spec = spec or SignalSpec()
    if (config.recipe == "deblur") != (spec.blur != "none"):
        raise InputError(f"recipe {config.recipe!r} does not go with blur {spec.blur!r}.",
                         "Deblurring needs a blur, such as --blur gaussian; the other recipes have none.")
    if settings.probe:
        raise InputError("probe trains a head alone, and pretraining has none.", "Leave pretrain.probe out.")
    if config.backbone != "transformer":
        raise InputError(f"a {config.backbone!r} cannot be pretrained by masking.", "Give a transformer.")
    torch.manual_seed(settings.seed)
    model = MaskedAutoencoder(spec, config)
    stream: Stream
    origin: dict[str, Any] = {}
    if data is None:
        stream = _stream(settings, spec, settings.seed)
    else:
        stream = FileStream(data, settings.seed, settings.batch, spec)
        origin = {"data": {"file": data.name, "ascans": stream.check()}}

    return Run("mae", model, LOSSES["mae"], stream, settings, spec, config, folder, origin).fit()


@dataclass(frozen=True, slots=True)
class Downstream:
    """What is learnt after pretraining, and from where.

    ``task``: "tof" or "presence". ``start``: a checkpoint folder, None for from scratch; sizes and spec are
    then those of the checkpoint, with which ``config`` and ``spec`` must agree, but for head and zoom; with
    ``asked`` in those fields alone. ``data``: labelled A-scans, None for synthetic ones. ``validate``: score
    on validation A-scans at the end.
    """

    task: str = "tof"
    start: Path | None = None
    config: MAEConfig | None = None
    spec: SignalSpec | None = None
    data: LabelledSet | None = None
    validate: bool = True
    asked: frozenset[str] | None = None

    def named(self, keys: Iterable[str]) -> list[str]:
        """Those of ``keys`` that were asked for."""
        return [key for key in keys if self.asked is None or key in self.asked]

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise InputError(f"task {self.task!r} is unknown.", f"Known: {', '.join(TASKS)}.")
        if self.task == "presence" and self.data is not None:
            raise InputError("labelled files hold no defects.", "Leave --data out with --task presence.")


def finetune(settings: TrainSettings, what: Downstream, folder: Path) -> Checkpoint:
    """Fine-tune, or probe (``settings.probe``), into ``folder/last``: from a checkpoint or from scratch.

    The operating point of "no echo" is chosen on synthetic validation A-scans and stored in the scores.
    Raises InputError where the checkpoint has another architecture than was asked for.
    """
    torch.manual_seed(settings.seed)
    start = load_checkpoint(what.start) if what.start else None
    spec, config = _architecture(what, start)
    if settings.layer_decay != 1 and config.backbone != "transformer":
        raise InputError(f"layer_decay {settings.layer_decay} is for transformers.", "Give 1 for a CNN.")
    net = build(what.task, spec, config)
    origin: dict[str, Any] = {"from": "scratch"}
    if start is not None:
        _start_from(net, start, what.task)
        origin = {"from": start.kind, "ascans": start.record["ascans"],
                  "settings": start.record["settings"], "origin": start.record["origin"]}
    if what.data is not None:
        origin["data"] = {"file": what.data.path.name if what.data.path else "", "ascans": len(what.data)}
    if settings.probe:
        freeze(net)
    if settings.sparse and (what.task, config.backbone, config.head) != ("tof", "transformer", "pointer"):
        raise InputError(f"sparse {settings.sparse} is for time of flight by transformer and pointer.",
                         "Give finetune.sparse=0.")
    stream = (_stream(settings, spec, settings.seed + LABELS_SEED) if what.data is None
              else PoolStream.of(what.data, spec, settings.seed + LABELS_SEED, settings.batch))
    if settings.augment:
        stream = _augmented(stream, settings.augment, spec)

    def check(model: nn.Module) -> dict[str, Any]:
        return validate(model, spec, settings.preset, what.task)

    loss = SparseLoss(spec, settings.sparse) if settings.sparse else LOSSES[what.task]
    return Run(what.task, net, loss, stream, settings, spec, config, folder, origin,
               check if what.validate else None).fit()


def _augmented(stream: Stream, noise: float, spec: SignalSpec) -> PoolStream:
    if not isinstance(stream, PoolStream):
        raise InputError(f"augment {noise} is for A-scans that are seen again.",
                         "Give --labels or --data, or 0.")
    return replace(stream, augment=Augment(noise, spec.blurring))


def _mae(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
    value: Tensor = model(batch.x, generator, batch.clean)
    return value


def _tof(model: nn.Module, batch: Batch, _generator: torch.Generator) -> Tensor:
    return tof_loss(model(batch.x), batch.onset, batch.arrival)


@dataclass(frozen=True, slots=True)
class SparseLoss:
    """``tof_loss`` that in a ``share`` of the batches is of the most telling half or quarter of the patches.

    Noise on what is telling, none or some or much, has the network meet other choices than the device's.
    """

    spec: SignalSpec
    share: float

    def __call__(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """The loss of ``batch``; all that is random comes from ``generator``."""
        whole, share, noise = torch.rand(3, generator=generator).tolist()
        if whole >= self.share:
            return _tof(model, batch, generator)
        length = self.spec.n_patches
        told = torch.from_numpy(worth(batch.x.numpy(force=True), self.spec.patch))
        gumbel = -torch.log(-torch.log(torch.rand(told.shape, generator=generator).clamp(1e-6, 1 - 1e-6)))
        told = told + WORTH_NOISE[int(noise * len(WORTH_NOISE))] * gumbel
        count = length // SHARES[int(share * len(SHARES))]
        places = told.topk(count, dim=1).indices.sort(dim=1).values
        places = places.to(batch.x.device)
        out = spread(model(batch.x, places), places, length)
        return tof_loss(out, batch.onset, batch.arrival, places)


def _presence(model: nn.Module, batch: Batch, _generator: torch.Generator) -> Tensor:
    return F.cross_entropy(model(batch.x).float(), batch.presence)


LOSSES = {"mae": _mae, "tof": _tof, "presence": _presence}


def _stream(settings: TrainSettings, spec: SignalSpec, seed: int) -> Stream:
    if seed in (VALIDATION_SEED, TEST_SEED):
        raise InputError(f"the seed {settings.seed} would train on the A-scans that models are scored on.",
                         "Give another --seed.")
    if settings.pool:
        return PoolStream.synthetic(settings.preset, settings.pool, seed, settings.batch, spec)
    return SynthStream(settings.preset, seed, settings.batch, spec)


def _architecture(what: Downstream, start: Checkpoint | None) -> tuple[SignalSpec, MAEConfig]:
    """Spec and sizes: the checkpoint's where there is one; what was asked for must then agree with it."""
    if start is None:
        return what.spec or SignalSpec(), what.config or MAEConfig()
    if what.config is not None:
        _agree(what.config, start.config, what.named(ENCODER_KEYS))
    if what.spec is not None:
        # "none" is what recipes say by default, and asks for nothing.
        blur = ("blur",) if what.spec.blur != "none" else ()
        _agree(what.spec, start.spec, what.named(("n_samples", "patch", *blur)))
    spec, config = start.spec, start.config
    if what.spec is not None and what.named(("zoom",)):
        spec = replace(spec, zoom=what.spec.zoom)
    if what.config is not None and what.named(("head",)):
        config = replace(config, head=what.config.head)
    if what.config is not None and what.named(("stem",)):
        config = replace(config, stem=what.config.stem)
    return spec, config


def same_architecture(what: Downstream, start: Checkpoint) -> None:
    """Raise InputError where ``what`` asks for other sizes, head or second pass than ``start`` has."""
    _architecture(what, start)
    if what.config is not None:
        _agree(what.config, start.config, what.named(("head",)))
    if what.spec is not None:
        _agree(what.spec, start.spec, what.named(("zoom",)))


ENCODER_KEYS = ("backbone", "d_model", "heads", "d_head", "mlp_hidden", "encoder_layers")


def _agree(asked: MAEConfig | SignalSpec, stored: MAEConfig | SignalSpec, keys: Iterable[str]) -> None:
    for key in keys:
        if getattr(asked, key) != getattr(stored, key):
            raise InputError(f"the checkpoint has {key} {getattr(stored, key)}, not {getattr(asked, key)}.",
                             "Give what it was trained with, or nothing.")


STEM = "encoder.stem."


def _start_from(net: nn.Module, checkpoint: Checkpoint, task: str) -> None:
    """Take over the whole network where it is of the same kind and head, else the encoder."""
    fresh = {name for name in net.state_dict() if name.startswith(STEM)} - set(checkpoint.weights)
    whole = checkpoint.kind == task and set(net.state_dict()) == {*fresh, *checkpoint.weights}
    prefix = "" if whole else "encoder."
    target = net if whole else net.get_submodule("encoder")
    weights = {name.removeprefix(prefix): value for name, value in checkpoint.weights.items()
               if name.startswith(prefix)}
    # A stem that the checkpoint has not is learnt beside what it has.
    weights |= {name.removeprefix(prefix): net.state_dict()[name] for name in fresh}
    fit_weights(target, weights)


def freeze(net: nn.Module) -> None:
    """Leave the encoder as it is: only the head is trained."""
    # In evaluation mode too, or the CNN's batch norms would go on adapting their averages.
    for parameter in net.get_submodule("encoder").eval().parameters():
        parameter.requires_grad_(False)


def validate(model: nn.Module, spec: SignalSpec, preset: str, task: str = "tof") -> dict[str, Any]:
    """Scores on fresh synthetic A-scans (``tof_scores`` or ``presence_scores``), whole gates all of them."""
    batch = synthetic_pool(preset, VALIDATION_ASCANS, VALIDATION_SEED, replace(spec, zoom=0.0))
    scores = presence_scores(model, batch) if task == "presence" else tof_scores(model, batch, spec.patch)
    about = {"preset": preset, "seed": VALIDATION_SEED, "ascans": VALIDATION_ASCANS}
    return {"validation": about} | scores


