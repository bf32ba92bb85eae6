"""What `usedge ablate` tries: trials, and the studies that are made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from usedge.blur import DEFAULT_SIGMA
from usedge.errors import InputError
from usedge.models.config import RECIPES
from usedge.tof import CLASSICAL
from usedge.training.recipe import Recipe

LABELS = 9_600
"""A-scans for fine-tuning in arXiv 2508.20622, method summary."""
RF, ENVELOPE = 1.0, 4.0
"""Log energy leads: with RF of the same size the encoder learns less that is of use downstream."""
TARGETS: dict[str, dict[str, Any]] = {
    "rf": {"rf_weight": RF, "envelope_weight": 0.0, "norm_patches": False},
    "standardised": {"rf_weight": 1.0, "envelope_weight": 0.0, "norm_patches": True},
    "envelope": {"rf_weight": 0.0, "envelope_weight": ENVELOPE, "norm_patches": False},
    "rf+envelope": {"rf_weight": RF, "envelope_weight": ENVELOPE, "norm_patches": False},
}
LOSSES = {"removed": 0.0, "all": 1.0}
"""Patches that the pretraining's loss is over → weight of the visible ones."""
RATES = {"scratch": 4e-3, "cnn": 2e-3}
"""Rates of fine-tuning, from the study "rates"; methods that begin with pretraining have the recipe's."""
METHODS = ("scratch", *RECIPES, "cnn", *CLASSICAL)
GAUSSIAN = f"gaussian:{DEFAULT_SIGMA:g}"
BLURS = (GAUSSIAN, "srad", "mean:5", "median:5", "motion:5", "defocus:3")
LENGTHS = (0.25, 1.0, 4.0)
MASK_RATIOS = (0.5, 0.625, 0.75, 0.875)
SIGMAS = ("gaussian:1.1", "gaussian:2", "gaussian:4", "gaussian:8")


@dataclass(frozen=True, slots=True)
class Trial:
    """One run: what is pretrained, then what is learnt from ``labels`` (a share of LABELS) of ``preset``.

    ``method``: a pretraining recipe, "scratch" or "cnn" (both without pretraining), or a classical picker,
    which learns nothing and whose seed chooses the A-scans that it is scored on; ``length``: factor on the
    A-scans of pretraining. ``base_rate`` 0 means the method's, ``layer_decay`` 0 the recipe's. Pretraining
    fields of a method without it keep their defaults, so that equal work has equal fields.
    """

    method: str = "mae"
    pretrain_preset: str = "paper"
    patch: int = 32
    mask_ratio: float = 0.75
    d_model: int = 128
    blur: str = "none"
    target: str = "rf+envelope"
    loss: str = "all"
    length: float = 1.0
    task: str = "tof"
    preset: str = "paper"
    head: str = "pointer"
    probe: bool = False
    labels: float = 0.25
    augment: float = 0.1
    base_rate: float = 0.0
    layer_decay: float = 0.0
    seed: int = 0

    @property
    def pretrained(self) -> bool:
        """Whether the trial begins with pretraining."""
        return self.method in RECIPES

    def key(self) -> str:
        """Name of the trial: equal fields, equal name."""
        return _digest(asdict(self))

    def pretraining_key(self) -> str:
        """Name of its pretraining, which trials that differ downstream alone share."""
        names = ("method", "pretrain_preset", "patch", "mask_ratio", "d_model", "blur", "target",
                 "loss", "length", "seed")
        return _digest({name: getattr(self, name) for name in names})

    def recipe(self, base: Recipe, budget: float) -> Recipe:
        """Every number of the trial: ``base`` with its fields, and A-scans × ``budget``."""
        before, after = base.sections["pretrain"], base.sections["finetune"]
        model = {"mask_ratio": self.mask_ratio, "d_model": self.d_model, "heads": max(1, self.d_model // 32),
                 "mlp_hidden": 2 * self.d_model, "head": self.head, **TARGETS[self.target],
                 "visible_weight": LOSSES[self.loss],
                 "backbone": "cnn" if self.method == "cnn" else "transformer",
                 "recipe": self.method if self.pretrained else "mae"}
        finetune = {"preset": self.preset, "probe": self.probe, "seed": self.seed,
                    "pool": max(1, round(LABELS * self.labels)),
                    "augment": self.augment,
                    "base_rate": self.base_rate or RATES.get(self.method),
                    "layer_decay": self.layer_decay or (1.0 if self.method == "cnn" else None)}
        return (base.changed("signal", patch=self.patch, blur=self.blur).changed("model", **model)
                .changed("pretrain", preset=self.pretrain_preset, seed=self.seed,
                         **_scaled(before, budget * self.length))
                .changed("finetune", **finetune, **_scaled(after, budget)))


def _scaled(section: dict[str, Any], budget: float) -> dict[str, int]:
    ascans = max(section["batch"], round(section["ascans"] * budget))
    return {"ascans": ascans, "warmup_ascans": min(section["warmup_ascans"], ascans // 5)}


def _digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]


def _labels() -> Iterable[Trial]:
    for method in ("mae", "scratch", "cnn"):
        for share in (0.0, 0.1, 0.25, 0.5, 1.0):
            yield Trial(method, labels=share)


def _variants() -> Iterable[Trial]:
    for method, blur in (("scratch", "none"), ("mae", "none"), ("deblur", GAUSSIAN), ("denoise", "none")):
        for probe in (False, True):
            yield Trial(method, blur=blur, probe=probe, labels=0.1)


def _transfer() -> Iterable[Trial]:
    for method in ("mae", "scratch", "cnn"):
        for probe in (False, True):
            yield Trial(method, task="presence", preset="plate", probe=probe)


STUDIES: dict[str, tuple[str, Callable[[], Iterable[Trial]]]] = {
    "labels": ("label fraction, with and without pretraining", _labels),
    "variants": ("pretraining variants, fine-tuned and probed", _variants),
    "targets": ("what the autoencoder predicts, and the patches its loss is over", lambda: (
        Trial(target=t, loss=over, labels=0.1) for t in TARGETS for over in LOSSES)),
    "length": ("A-scans of pretraining", lambda: (
        trial for p in ("paper", "field") for trial in (
            Trial("scratch", preset=p, labels=0.1),
            *(Trial(pretrain_preset=p, preset=p, length=x, labels=0.1) for x in LENGTHS)))),
    "mask": ("mask ratio at patch 32", lambda: (Trial(mask_ratio=r, labels=0.1) for r in MASK_RATIOS)),
    "patch": ("patch at mask ratio 75 %", lambda: (Trial(patch=p, labels=0.1) for p in (64, 32, 16, 8))),
    "size": ("d_model", lambda: (Trial(d_model=d, labels=0.1) for d in (64, 128, 256))),
    "blur": ("kind of blur", lambda: (Trial("deblur", blur=b, labels=0.1) for b in BLURS)),
    "sigma": ("width of the Gaussian blur", lambda: (Trial("deblur", blur=b, labels=0.1) for b in SIGMAS)),
    "augment": ("noise and polarity drawn afresh in fine-tuning", lambda: (
        Trial(m, augment=a, labels=0.1) for m in ("mae", "scratch", "cnn") for a in (0.0, 0.1))),
    "classical": ("classical pickers, told the frequency", lambda: (
        Trial(m, preset=p, labels=0.0) for p in ("paper", "field") for m in CLASSICAL)),
    "heads": ("head", lambda: (Trial(m, head=h) for m in ("mae", "scratch") for h in ("pointer", "pooled"))),
    "transfer": ("second task: echo and defect presence", _transfer),
    "domain": ("A-scans for pretraining, fine-tuned to field", lambda: (
        Trial(m, pretrain_preset=p, preset="field", labels=1.0)
        for m, p in (("scratch", "paper"), ("mae", "paper"), ("mae", "field")))),
    "decay": ("layer decay in fine-tuning; the recipe's is 1", lambda: (
        Trial(layer_decay=d, labels=0.1) for d in (0.0, 0.75, 0.5))),
    "rates": ("rate of fine-tuning, each method by itself", lambda: (
        Trial(m, base_rate=r, labels=0.1, seed=1000) for m in ("mae", "scratch", "cnn")
        for r in (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2))),
}
"""Name → what is varied, and its trials at seed 0; "rates" has a seed of its own and is run once."""
ONCE = ("rates",)


def trials(studies: Sequence[str], seeds: int) -> list[Trial]:
    """The trials of ``studies`` (all where none is named), seed by seed, each once.

    Raises InputError for an unknown study.
    """
    for name in studies:
        if name not in STUDIES:
            raise InputError(f"study {name!r} is unknown.", f"Known: {', '.join(STUDIES)}.")
    found: dict[Trial, None] = {}
    for seed in range(seeds):
        for name in studies or STUDIES:
            for trial in STUDIES[name][1]():
                found[trial if name in ONCE else replace(trial, seed=seed)] = None
    return list(found)
