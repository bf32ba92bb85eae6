"""Pictures of what a pretrained autoencoder does: reconstructions, and where its tokens look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from usedge.errors import InputError
from usedge.labelled import LabelledSet, load_labelled
from usedge.models.checkpoint import Checkpoint, load_checkpoint
from usedge.models.mae import MaskedAutoencoder, log_energy
from usedge.spec import SignalSpec
from usedge.synth import FS_HZ
from usedge.training.report.attention import attention, by_distance, measures, uniform
from usedge.training.report.plots import COLOURS, canvas, png, styled
from usedge.training.stream import Batch, Prepare, synthetic_pool
from usedge.training.tasks import TEST_SEED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float32]
POOL = 256
"""Synthetic A-scans that the attention is averaged over."""
SHOWN = 2
"""A-scans in a picture."""
DB = 20.0
"""Per decade of amplitude, the unit of the log energy."""


@dataclass(frozen=True)
class Pictures:
    """PNGs by file name, and what the report says of them."""

    files: dict[str, bytes]
    reconstructions: list[tuple[str, str]]
    """File name and caption."""
    attention: str


@dataclass(frozen=True, slots=True)
class Subject:
    """A-scans to reconstruct, and the time in µs of the first and behind the last grid sample of each."""

    batch: Batch
    span_us: list[tuple[float, float]]
    since: str


def open_pretrained(folder: Path) -> tuple[Checkpoint, MaskedAutoencoder]:
    """The autoencoder of a checkpoint; raises InputError for another kind, or one without RF target."""
    checkpoint = load_checkpoint(folder, "mae")
    model = checkpoint.model()
    if not isinstance(model, MaskedAutoencoder) or not model.config.rf_weight:
        raise InputError(f"{folder} predicts no RF (rf_weight 0).", "Nothing can be drawn of it.")
    return checkpoint, model


def draw(folder: Path, recorded: Sequence[Path]) -> Pictures:
    """All pictures of the checkpoint ``folder``: on synthetic A-scans, and on those of each file."""
    checkpoint, model = open_pretrained(folder)
    spec, preset = checkpoint.spec, str(checkpoint.record.get("settings", {}).get("preset", "paper"))
    pool = synthetic_pool(preset, POOL, TEST_SEED, spec)
    echoes = np.flatnonzero(~np.isnan(pool.onset.numpy()))[:SHOWN]
    grid_us = spec.n_samples / FS_HZ * 1e6
    shown = Subject(pool.rows(echoes), [(0.0, grid_us)] * len(echoes), "the gate's start, at 40 MHz")
    about = (f"Synthetic A-scans ({preset}) that no training has seen. The checkpoint saw"
             f" {checkpoint.record.get('ascans', 0):,} A-scans ({preset}, {checkpoint.config.recipe},"
             f" mask ratio {100 * checkpoint.config.mask_ratio:g} %).")
    files, captions = {}, [("reconstruction.png", about)]
    with styled():
        files["reconstruction.png"] = png(reconstruction(model, shown))
        for path in recorded:
            name = f"reconstruction-{path.stem}.png"
            labelled = load_labelled(path)
            files[name] = png(reconstruction(model, _recorded(labelled, spec)))
            captions.append((name, f"Recorded A-scans of {path.name}, with the same checkpoint."))
        looks = attention(model, pool, int(echoes[0]) if len(echoes) else 0)
        files["attention-distance.png"] = png(_distance_figure(looks.maps, spec))
        files["attention-maps.png"] = png(_map_figure(looks.example), colours=256)
    return Pictures(files, captions, measures(looks))


def _recorded(labelled: LabelledSet, spec: SignalSpec) -> Subject:
    """A few A-scans from the whole length of a file, with an echo where it has any."""
    rows = np.flatnonzero(labelled.has_echo)
    if not len(rows):
        rows = np.arange(len(labelled))
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, SHOWN + 2).astype(int)[1:-1])]
    some = replace(labelled, x=labelled.x[rows], tof_s=labelled.tof_s[rows], gate_s=labelled.gate_s[rows],
                   f0_hz=None if labelled.f0_hz is None else labelled.f0_hz[rows])
    spans = [(float(start), float(start + width)) for start, width in some.gate_s * 1e6]
    return Subject(Prepare(spec).labelled(some), spans, "the main bang")


def reconstruction(model: MaskedAutoencoder, subject: Subject) -> Figure:
    """For each A-scan: itself with the removed patches shaded, the prediction, and envelopes if predicted."""
    batch = subject.batch
    rf, mask = model.reconstruct(batch.x, torch.Generator().manual_seed(TEST_SEED), batch.clean)
    energy = _envelope(model, batch)
    each = 2 if energy is None else 3
    figure, grid = canvas(1.15 * each * len(batch) + 0.7, nrows=each * len(batch), ncols=1, sharex=False)
    for i in range(len(batch)):
        span = subject.span_us[i]
        rows = grid[i * each : (i + 1) * each]
        _draw_ascan(rows, span, batch.x[i].numpy(), batch.clean[i].numpy(), rf[i].numpy(), mask[i].numpy(),
                    model.config.recipe != "mae")
        if energy is not None:
            _draw_envelope(rows[2], span, energy[0][i].numpy(), energy[1][i].numpy(), mask[i].numpy())
        for axes in rows:
            axes.set_xlim(*span)
            axes.tick_params(labelbottom=axes is rows[-1])
        rows[-1].set_xlabel(f"time after {subject.since} (µs)" if i == len(batch) - 1 else "")
    return figure


def _envelope(model: MaskedAutoencoder, batch: Batch) -> tuple[torch.Tensor, torch.Tensor] | None:
    """True and predicted log energy (b, l, bins) under the mask of ``reconstruct``, None if not predicted."""
    c = model.config
    if not c.envelope_weight:
        return None
    with torch.no_grad():
        masking = model.random_masking(len(batch), torch.Generator().manual_seed(TEST_SEED), True)
        predicted = model.forward_decoder(model.forward_encoder(batch.x, masking.visible), masking)
    true = log_energy(model.encoder.patchify(batch.clean), c.envelope_bins)
    places = torch.cat([masking.visible, masking.removed], dim=1)
    index = places[..., None].expand(-1, -1, c.envelope_bins)
    return true, torch.zeros_like(true).scatter_(1, index, predicted[..., model.rf_width :].float())


def _draw_ascan(rows: Sequence[Axes], span: tuple[float, float], x: Floats, clean: Floats, rf: Floats,
                mask: Floats, everywhere: bool) -> None:
    times = np.linspace(*span, len(x), endpoint=False)
    hidden = np.repeat(mask > 0, rf.shape[1])
    predicted = rf.reshape(-1) if everywhere else np.where(hidden, rf.reshape(-1), np.nan)
    _shade(rows[0], span, mask)
    _shade(rows[1], span, mask)
    rows[0].plot(times, np.where(hidden, clean, np.nan), color="0.55", lw=0.8, label="removed")
    rows[0].plot(times, np.where(hidden, np.nan, x), color="black", lw=0.8, label="visible")
    rows[1].plot(times, clean, color="0.7", lw=0.8, label="original")
    rows[1].plot(times, predicted, color=COLOURS[1], lw=0.9, label="predicted")
    for axes in rows[:2]:
        axes.set(ylim=(-1.1, 1.1), ylabel="RF (full\nscale 1)")
        _legend(axes)


def _draw_envelope(axes: Axes, span: tuple[float, float], true: Floats, predicted: Floats, mask: Floats
                   ) -> None:
    edges = np.linspace(*span, true.size + 1)
    hidden = np.repeat(mask > 0, true.shape[1])
    _shade(axes, span, mask)
    axes.stairs(DB * true.reshape(-1), edges, color="0.6", lw=0.9, label="original", baseline=None)
    axes.stairs(DB * np.where(hidden, predicted.reshape(-1), np.nan), edges, color=COLOURS[0], lw=1.0,
                label="predicted", baseline=None)
    axes.set(ylabel="envelope\n(dB)", ylim=(-54, 4))
    _legend(axes)


def _shade(axes: Axes, span: tuple[float, float], mask: Floats) -> None:
    edges = np.linspace(*span, len(mask) + 1)
    for i in np.flatnonzero(mask > 0):
        axes.axvspan(edges[i], edges[i + 1], color="#56B4E9", alpha=0.16, lw=0)
    axes.grid(False)


def _legend(axes: Axes) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.2, borderaxespad=0.2)


def _distance_figure(maps: Floats, spec: SignalSpec) -> Figure:
    shares, flat = by_distance(maps), uniform(maps.shape[1])
    figure, axes = canvas(3.4, nrows=1, ncols=1)
    for layer, row in enumerate(shares):
        shade = COLOURS[layer % len(COLOURS)]
        axes.plot(row, color=shade, lw=1.3, marker="os^DvP"[layer % 6], ms=3.5, markevery=(layer, 8),
                  label=f"layer {layer + 1}")
    axes.plot(flat[0], color="black", lw=1.2, ls="--", label="uniform")
    axes.set(yscale="log", xlabel=f"distance (tokens of {spec.patch} grid samples)",
             ylabel="share of attention", xlim=(0, maps.shape[1] - 1),
             title=f"Where tokens look, mean over {POOL} A-scans and all heads")
    axes.set_ylim(bottom=max(1e-5, float(min(shares[shares > 0].min(), flat.min()))))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _map_figure(example: Floats) -> Figure:
    columns = min(3, len(example))
    lines = -(-len(example) // columns)
    figure, grid = canvas(2.6 * lines + 0.4, nrows=lines, ncols=columns, sharex=True, sharey=True,
                          squeeze=False)
    top = float(np.quantile(example, 0.995))
    for layer, axes in enumerate(grid.flat):
        axes.grid(False)
        if layer >= len(example):
            axes.set_axis_off()
            continue
        image = axes.imshow(example[layer], cmap="cividis", vmin=0.0, vmax=top, interpolation="nearest")
        axes.set_title(f"layer {layer + 1}")
    for axes in grid[-1]:
        axes.set_xlabel("token looked at")
    for axes in grid[:, 0]:
        axes.set_ylabel("token that looks")
    figure.colorbar(image, ax=grid, label="attention, mean of heads", extend="max", shrink=0.8)
    return figure
