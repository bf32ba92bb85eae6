"""What the papers say, each claim as data beside the comparisons that decide it on our own runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import fmean

from usedge.training.grid import Trial
from usedge.training.report.rule import Contrast, Outcome, together, weigh
from usedge.training.report.select import Runs, Study, find, study_trials

MAE_PAPER, DEBLUR_PAPER = "arXiv 2508.20622", "arXiv 2306.08249"
Contrasts = Callable[[Runs, "float | None"], Sequence[Contrast]]


@dataclass(frozen=True, slots=True)
class Claim:
    """``text`` as its ``source`` has it, and the comparisons on our runs that must all hold for it.

    ``note`` says what of the claim those comparisons do not reach.
    """

    name: str
    text: str
    source: str
    study: str
    contrasts: Contrasts
    note: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim with the outcome of each comparison."""

    claim: Claim
    outcomes: list[Outcome]

    @property
    def verdict(self) -> str:
        """The verdict on the claim."""
        return together(self.outcomes)


def judge(runs: Runs, studies: Mapping[str, Study]) -> list[Judged]:
    """Every claim, each at the budget of its study."""
    found = []
    for claim in claims():
        budget = studies[claim.study].budget
        found.append(Judged(claim, [weigh(each, runs, budget) for each in claim.contrasts(runs, budget)]))
    return found


def over(text: str, better: Trial | None, worse: Trial | None, score: str = "top1") -> Contrast:
    """``better`` has the higher score."""
    return Contrast(text, score, ((1.0, better), (-1.0, worse)))


def under(text: str, lower: Trial | None, higher: Trial | None, score: str) -> Contrast:
    """``lower`` has the lower score."""
    return Contrast(text, score, ((-1.0, lower), (1.0, higher)))


def _always(contrasts: Sequence[Contrast]) -> Contrasts:
    return lambda _runs, _budget: contrasts


def claims() -> list[Claim]:
    """All claims, in the order of the papers."""
    return [*_label_claims(), *_shape_claims(), *_transfer_claims(), *_variant_claims(), *_blur_claims()]


def _label_claims() -> list[Claim]:
    presets = dict.fromkeys(trial.preset for trial in study_trials("labels"))
    return [claim for preset in presets for claim in _label_claims_of(preset)]


def _label_claims_of(preset: str) -> list[Claim]:
    of = partial(find, "labels", preset=preset)
    shares = sorted({trial.labels for trial in study_trials("labels")
                     if trial.preset == preset and trial.labels > 0})
    found = []
    for method, name in (("scratch", "training from scratch"), ("cnn", "a CNN")):
        for share in shares:
            better, worse = of(method="mae", labels=share), of(method=method, labels=share)
            for score, words, suffix in (("top1", "exact class", ""),
                                         ("hit_half_period", "onsets within half a period", "_hit")):
                found.append(Claim(
                    f"pretraining_over_{method}_{100 * share:g}_{preset}{suffix}",
                    f"Pretraining beats {name}: with {100 * share:g} % of the labels, A-scans of {preset}, by"
                    f" {words}", f"{MAE_PAPER}, key results", "labels",
                    _always([over(f"MAE over {METHOD_NAMES[method]}, {words}", better, worse, score)])))
    least, most = shares[0], shares[-1]
    gain = Contrast(
        f"gain over from scratch at {100 * least:g} % less that at {100 * most:g} %, exact class", "top1",
        ((1.0, of(method="mae", labels=least)), (-1.0, of(method="scratch", labels=least)),
         (-1.0, of(method="mae", labels=most)), (1.0, of(method="scratch", labels=most))))
    found.append(Claim(
        f"gain_shrinks_with_labels_{preset}",
        f"The gain of pretraining shrinks as labels grow, A-scans of {preset}",
        f"{MAE_PAPER}, third check that it leaves open", "labels", _always([gain]),
        "asked by the paper, not claimed"))
    return found


METHOD_NAMES = {"scratch": "from scratch", "cnn": "CNN"}


def _shape_claims() -> list[Claim]:
    return [*_patch_claims(), *_size_claims()]


def _patch_claims() -> list[Claim]:
    at = partial(find, "patch")
    sizes = sorted({trial.patch for trial in study_trials("patch")})
    others, small = [size for size in sizes if size != 32], [size for size in sizes if size < 32]

    def best(score: str) -> Contrasts:
        return _always([over(f"patch 32 over {size}", at(patch=32), at(patch=size), score)
                        for size in others])

    return [
        Claim("patch_32_exact_class", "Patch 32 is best downstream, by the exact class",
              f"{MAE_PAPER}, key results", "patch", best("top1"),
              "a class is a patch: smaller ones are more classes and harder, larger ones fewer and easier"),
        Claim("patch_32_hit", "Patch 32 is best downstream, by onsets placed within one period",
              f"{MAE_PAPER}, key results", "patch", best("hit_one_period"),
              "the same measure for every patch"),
        Claim("small_patches_reconstruct_better", "Small patches reconstruct better",
              f"{MAE_PAPER}, design tradeoffs", "patch",
              _always([under(f"patch {size} under 32, mean abs. error", at(patch=size), at(patch=32),
                             "mean_abs") for size in small])),
        Claim("small_patches_classify_worse", "… but are worse downstream, within one period",
              f"{MAE_PAPER}, design tradeoffs", "patch",
              _always([over(f"patch 32 over {size}", at(patch=32), at(patch=size), "hit_one_period")
                       for size in small])),
    ]


def _size_claims() -> list[Claim]:
    ratios = sorted({trial.mask_ratio for trial in study_trials("mask")} - {0.75})
    widths = sorted({trial.d_model for trial in study_trials("size")} - {128})
    far = partial(find, "length", method="mae", preset="paper")
    lengths = sorted({trial.length for trial in study_trials("length") if trial.pretrained})
    ratio, width = partial(find, "mask"), partial(find, "size")
    return [
        Claim("mask_75_best", "A mask ratio of 75 % is best downstream",
              f"{MAE_PAPER}, key results; {DEBLUR_PAPER}, Fig. 3", "mask",
              _always([over(f"75 % over {100 * each:g} %, exact class", ratio(mask_ratio=0.75),
                            ratio(mask_ratio=each)) for each in ratios])),
        Claim("size_best", "1.2 M parameters (d_model 128) beat larger and smaller models",
              f"{MAE_PAPER}, key results", "size",
              _always([over(f"d_model 128 over {each}, exact class", width(d_model=128), width(d_model=each))
                       for each in widths])),
        Claim("more_pretraining_better", "More A-scans for pretraining transfer better",
              f"{DEBLUR_PAPER}, Fig. 3; {MAE_PAPER}, open question 2", "length",
              _always([over(f"× {more:g} over × {less:g}, exact class", far(length=more), far(length=less))
                       for less, more in pairwise(lengths)]),
              "A-scans seen, of the same 48,000; the papers mean different ones"),
        Claim("pooled_head_learns", "A classifier on the mean token profits from pretraining",
              f"{MAE_PAPER}, method summary, as far as it describes its head", "heads",
              _always([over("pooled head, MAE over from scratch, exact class",
                            find("heads", method="mae", head="pooled"),
                            find("heads", method="scratch", head="pooled"))])),
        Claim("pooled_head_best", "That head is a better one than the pointer head used here",
              "no claim of the paper: its reading of the head against ours", "heads",
              _always([over("pooled over pointer, MAE, exact class",
                            find("heads", method="mae", head="pooled"),
                            find("heads", method="mae", head="pointer"))])),
    ]


def _transfer_claims() -> list[Claim]:
    domain, second = partial(find, "domain"), partial(find, "transfer")
    fine, frozen = partial(second, probe=False), partial(second, probe=True)
    stand_in = "recorded A-scans are stood in for by the synthetic preset field"
    return [
        Claim("synthetic_pretraining_transfers",
              "Synthetic pretraining transfers to A-scans of another kind, against training on those alone",
              f"{MAE_PAPER}, key results", "domain",
              _always([over("MAE on paper over from scratch, on field, exact class",
                            domain(method="mae", pretrain_preset="paper"), domain(method="scratch"))]),
              stand_in),
        Claim("diverse_pretraining_transfers_better", "More diverse A-scans for pretraining transfer better",
              f"{MAE_PAPER}, mechanism 2", "domain",
              _always([over("MAE on field over MAE on paper, on field, exact class",
                            domain(method="mae", pretrain_preset="field"),
                            domain(method="mae", pretrain_preset="paper"))]),
              f"{stand_in}; field is more diverse and also the kind tested on, and the two are not parted"),
        Claim("second_task_fine_tuned", "Representations transfer to a second task: fine-tuned",
              f"{MAE_PAPER}, open question 1", "transfer",
              _always([over("MAE over from scratch, accuracy", fine(method="mae"), fine(method="scratch"),
                            "accuracy"),
                       over("MAE over CNN, accuracy", fine(method="mae"), fine(method="cnn"), "accuracy")]),
              "asked by the paper, not claimed"),
        Claim("second_task_frozen", "Representations transfer to a second task: on a frozen encoder",
              f"{MAE_PAPER}, open question 1", "transfer",
              _always([over("MAE over a random encoder, accuracy", frozen(method="mae"),
                            frozen(method="scratch"), "accuracy")]),
              "asked by the paper, not claimed"),
    ]


def _variant_claims() -> list[Claim]:
    found = []
    for better, worse, said in (("deblur", "mae", "accuracy 90.19 ± 0.47 against 89.45 ± 0.53 %"),
                                ("mae", "denoise", "accuracy 89.45 ± 0.53 against 80.38 ± 1.37 %")):
        for probe, how in ((False, "fine-tuned"), (True, "frozen encoder")):
            if not probe:
                source = f"{DEBLUR_PAPER}, Table 1: {said}"
            elif better == "deblur":
                source = f"{DEBLUR_PAPER}, Fig. 2"
            else:
                source = f"no claim of {DEBLUR_PAPER}, which fine-tunes here"
            names = {"deblur": "deblurring", "mae": "vanilla", "denoise": "denoising"}
            contrast = over(f"{names[better]} over {names[worse]}, {how}, exact class",
                            find("variants", method=better, probe=probe),
                            find("variants", method=worse, probe=probe))
            found.append(Claim(f"{better}_over_{worse}_{'frozen' if probe else 'fine_tuned'}",
                               f"{names[better].capitalize()} MAE beats {names[worse]} MAE, {how}", source,
                               "variants", _always([contrast])))
    return found


ORDER = (("gaussian", 88.48), ("srad", 88.13), ("mean", 88.11), ("median", 87.63), ("baseline", 87.54),
         ("defocus", 85.37), ("motion", 78.33))
"""Kinds of blur and their F1 in %, Table 2 (left) of arXiv 2306.08249; the baseline is vanilla MAE."""


def _blurs() -> dict[str, Trial | None]:
    found: dict[str, Trial | None] = {kind: None for kind, _ in ORDER}
    for trial in study_trials("blur"):
        kind = trial.blur.partition(":")[0]
        found[kind] = found.get(kind) or trial
    return found | {"baseline": find("variants", method="mae", probe=False)}


def _blur_claims() -> list[Claim]:
    kinds, source = _blurs(), f"{DEBLUR_PAPER}, Table 2 (left)"
    names = [kind for kind, _ in ORDER]
    base = kinds["baseline"]
    scores = ", ".join(f"{kind} {f1:.2f}" for kind, f1 in ORDER)

    def pairs(wanted: Sequence[tuple[str, str]]) -> Contrasts:
        return _always([over(f"{a} over {b}, exact class", kinds[a], kinds[b]) for a, b in wanted])

    return [
        Claim("gaussian_best", "Of the kinds of blur, Gaussian is best", source, "blur",
              pairs([("gaussian", other) for other in names[1:]])),
        Claim("blur_order", f"The order of the kinds, F1 in %: {scores}", source, "blur",
              pairs(list(pairwise(names))), "each against the next"),
        Claim("harmful_blurs", "Defocus and motion blur are worse than no blur", source, "blur",
              pairs([("baseline", "defocus"), ("baseline", "motion")])),
        Claim("sigma_inner_optimum", "The width of the Gaussian has an optimum within",
              f"{DEBLUR_PAPER}, Table 2 (right): best at σ 1.1 of 0.8 to 2.3", "sigma",
              partial(_inner, base),
              "the width with the best mean of ours, which it owes to luck in part, against no blur and the"
              " widest"),
    ]


def _inner(base: Trial | None, runs: Runs, budget: float | None) -> list[Contrast]:
    """The best width but the widest, against no blur and the widest: the ends of the range."""
    widths = sorted(study_trials("sigma"), key=lambda trial: float(trial.blur.partition(":")[2] or 0))

    def mean(trial: Trial) -> float:
        found = runs.of(trial, budget).values() if budget is not None else ()
        return fmean([run.scores["top1"] for run in found if "top1" in run.scores] or [-1.0])

    best, widest = max(widths[:-1], key=mean), widths[-1]
    return [over(f"{best.blur} over no blur, exact class", best, base),
            over(f"{best.blur} over {widest.blur}, exact class", best, widest)]
