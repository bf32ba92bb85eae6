"""A tiny ToF checkpoint, a recipe that takes seconds, and the variants of that checkpoint, converted once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from usedge import resources
from usedge.spec import SignalSpec
from usedge_export.recipe import Recipe, read_recipe

SPEC = SignalSpec()
THRESHOLD = 0.3


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """The shipped recipe, with fewer A-scans and with limits that an untrained model can keep."""
    shipped = read_recipe(resources.recipe("int8"))
    return replace(
        shipped, parity=replace(shipped.parity, ascans=96),
        gate=replace(shipped.gate, agreement_min=0.8, no_echo_agreement_min=0.9, shift_median_ns_max=200.0,
                     shift_p95_ns_max=51_200.0,
                     hit_rate_loss_max=0.2, error_median_gain_ns_max=1_000.0),
        speed=replace(shipped.speed, rounds=4, runs=8, warmup=4),
        operating=replace(shipped.operating, scenes=0),
        golden=replace(shipped.golden, margin_log_odds=0.05, margin_patches=0.05, tolerance_patches=0.5))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an untrained one-layer ToFNet whose pointer is turned up, so that its answers are decided."""
    torch = pytest.importorskip("torch", reason="checkpoints need the extra 'train'")
    pytest.importorskip("safetensors", reason="checkpoints need the extra 'train'")
    from usedge.models.checkpoint import Checkpoint, save_checkpoint
    from usedge.models.config import MAEConfig
    from usedge.models.nets import ToFNet

    torch.manual_seed(5)
    config = MAEConfig(d_model=32, heads=2, d_head=16, mlp_hidden=32, encoder_layers=1, decoder_layers=1)
    model = ToFNet(SPEC, config)
    with torch.no_grad():
        model.pointer.weight[0] *= 20.0
        model.pointer.weight[1] *= 0.2
        model.pointer.bias[1] = 0.5
        model.no_echo.weight *= 40.0
    folder = tmp_path_factory.mktemp("checkpoint") / "last"
    record: dict[str, Any] = {"ascans": 0, "scores": {"no_echo_threshold": THRESHOLD}}
    save_checkpoint(folder, Checkpoint("tof", SPEC, config, record, model.state_dict()))
    return folder


@pytest.fixture(scope="session")
def contents(checkpoint: Path, recipe: Recipe) -> dict[str, bytes]:
    """Every variant of ``checkpoint``, converted."""
    for package in ("onnx", "onnxscript", "onnxruntime", "litert_torch", "ai_edge_quantizer"):
        pytest.importorskip(package, reason="conversion needs the extra 'export'")
    from usedge.models.checkpoint import load_checkpoint
    from usedge_export.build import convert

    return convert(load_checkpoint(checkpoint).model(), SPEC.n_samples, recipe.variants, lambda _: None)


@pytest.fixture(scope="session")
def net() -> Any:
    """An untrained one-layer ToFNet with a convolutional stem."""
    torch = pytest.importorskip("torch", reason="checkpoints need the extra 'train'")
    from usedge.models.config import MAEConfig
    from usedge.models.nets import ToFNet

    torch.manual_seed(1)
    config = MAEConfig(d_model=32, heads=2, d_head=16, mlp_hidden=32, encoder_layers=1, stem="conv")
    return ToFNet(SPEC, config).eval()


@pytest.fixture(scope="session")
def fp32(net: Any) -> dict[str, bytes]:
    """``net`` in fp32, by runtime."""
    for package in ("onnx", "onnxscript", "litert_torch"):
        pytest.importorskip(package, reason="conversion needs the extra 'export'")
    from usedge_export.litert_variant import litert_fp32
    from usedge_export.onnx_variant import onnx_fp32

    return {"litert": litert_fp32(net, SPEC.n_samples), "onnx": onnx_fp32(net, SPEC.n_samples)}
