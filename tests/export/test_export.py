"""`usedge export` end to end, on a tiny untrained model: what is written, what is refused, and why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from usedge.backends import open_backend
from usedge.bundle import Bundle, Thresholds, check_golden, read_bundle
from usedge.errors import GateFailedError, InputError, MissingExtraError
from usedge.spec import SignalSpec
from usedge.synth import generate
from usedge_export import cli
from usedge_export.recipe import CalibrationSettings, Recipe

torch = pytest.importorskip("torch", reason="export starts from a torch checkpoint: extra 'export'")
for package in ("safetensors", "onnx", "onnxscript", "onnxruntime", "litert_torch", "ai_edge_quantizer"):
    pytest.importorskip(package, reason="conversion needs the extra 'export'")

from usedge.models.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from usedge.models.mae import MaskedAutoencoder  # noqa: E402
from usedge_export import build  # noqa: E402
from usedge_export.calibration_set import CalibrationSet  # noqa: E402

SPEC = SignalSpec()
VARIANTS = ["litert-fp32", "litert-int8", "onnx-fp32", "onnx-int8"]


@pytest.fixture
def converted(contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the variants that are converted already: conversion is slow and has its own test."""
    monkeypatch.setattr(build, "convert", lambda *given: {name: contents[name] for name in given[2]})


@pytest.fixture(scope="module")
def exported(checkpoint: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> build.Exported:
    """The whole way, conversion included."""
    return build.export(checkpoint, recipe, tmp_path_factory.mktemp("out") / "tiny.usedge")


def changed(checkpoint: Path, folder: Path, **changes: Any) -> Path:
    """A copy of ``checkpoint`` with other fields."""
    save_checkpoint(folder / "changed", replace(load_checkpoint(checkpoint), **changes))
    return folder / "changed"


def test_bundle_holds_what_a_device_needs(exported: build.Exported, checkpoint: Path, recipe: Recipe) -> None:
    bundle = read_bundle(exported.bundle.path)
    assert sorted(bundle.variants) == VARIANTS
    assert bundle.name == "tiny"
    assert bundle.thresholds == Thresholds(0.3, recipe.operating.low_confidence)
    record = json.loads((checkpoint / "checkpoint.json").read_text())
    assert bundle.provenance["weights_sha256"] == record["sha256"]["weights.safetensors"]
    assert bundle.provenance["checkpoint"] == record["record"]
    assert bundle.provenance["packages"]["litert-torch"]
    assert bundle.provenance["recipe"]["gate"]["agreement_min"] == 0.8


def test_a_bundle_is_the_checkpoint_that_it_was_exported_from(
    exported: build.Exported, checkpoint: Path, recipe: Recipe, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = load_checkpoint(checkpoint, "tof"), load_checkpoint(exported.bundle.path, "tof")
    assert (here.kind, here.spec, here.config, here.record) == (there.kind, there.spec, there.config,
                                                               there.record)
    assert here.weights.keys() == there.weights.keys()
    assert all(bool((here.weights[name] == there.weights[name]).all()) for name in there.weights)
    monkeypatch.setattr("usedge.resources.shipped_bundle", lambda: exported.bundle.path)
    monkeypatch.setattr("usedge_export.recipe.read_recipe", lambda _: recipe)
    result = CliRunner().invoke(cli.app, ["-o", str(tmp_path / "again.usedge")], catch_exceptions=False)
    assert json.loads(result.stdout)["bundle"] == str(tmp_path / "again.usedge")
    again = read_bundle(tmp_path / "again.usedge")
    assert again.provenance["weights_sha256"] == exported.bundle.provenance["weights_sha256"]
    assert again.variant_bytes("onnx-fp32") == exported.bundle.variant_bytes("onnx-fp32")


def test_bundle_tells_no_paths_and_no_host_name(exported: build.Exported, checkpoint: Path) -> None:
    import platform

    text = json.dumps(exported.bundle.provenance)
    assert str(checkpoint.parent) not in text
    assert platform.node() not in text.replace(platform.release(), "")


def test_each_variant_answers_like_torch_on_new_a_scans(exported: build.Exported, checkpoint: Path) -> None:
    from usedge.preprocess import Preprocessor

    model = load_checkpoint(checkpoint).model()
    x = Preprocessor(exported.bundle.spec).batch(generate("field", 6, 99).x).x
    with torch.inference_mode():
        expected = model(torch.from_numpy(x)).numpy()
    for name, variant in exported.bundle.variants.items():
        backend = open_backend(variant.runtime, exported.bundle.variant_bytes(name))
        out = np.concatenate([backend.infer(x[i : i + 1]) for i in range(len(x))])
        assert (out.shape, out.dtype) == ((6, 193), np.float32)
        tolerance = 1e-4 if variant.precision == "fp32" else 0.05
        assert np.abs(out - expected).max() < tolerance * np.abs(expected).max(), name


def test_int8_is_smaller_and_really_int8(exported: build.Exported) -> None:
    variants = exported.bundle.variants
    for runtime in ("litert", "onnx"):
        assert variants[f"{runtime}-int8"].bytes < variants[f"{runtime}-fp32"].bytes


def test_golden_vectors_are_answered_and_wrong_ones_refused(exported: build.Exported) -> None:
    bundle = exported.bundle
    assert len(bundle.golden().x) == 8
    for name, variant in bundle.variants.items():
        infer = open_backend(variant.runtime, bundle.variant_bytes(name)).infer
        check_golden(bundle, infer)
        with pytest.raises(InputError, match="golden A-scans were answered wrongly"):
            check_golden(bundle, lambda x, infer=infer: np.roll(infer(x), 3, axis=1))


def test_figures_are_whole(exported: build.Exported) -> None:
    times = {"p50_us", "p99_us", "ratio_onnx_fp32", "ratio_fp32", "rss_mb"}
    verdict = {"accepted", "default", "refused_because"}
    for name, row in exported.to_dict()["variants"].items():
        assert row["ascans"] == 96
        assert row["p99_us"] >= row["p50_us"] > 0
        assert row["accepted"]
        assert row == row | exported.bundle.variants[name].parity
        assert row.keys() - exported.bundle.variants[name].parity.keys() == times | verdict
        if name.endswith("fp32"):
            assert row["agreement"] == 1.0
            assert row["shift_max_ns"] < 1.0
    defaults = [name for name, row in exported.to_dict()["variants"].items() if row["default"]]
    assert len(defaults) == 2
    assert all(exported.bundle.default_for(name.partition("-")[0]).name == name for name in defaults)


def test_converters_keep_quiet_and_give_the_same_bytes_in_another_process(
    checkpoint: Path, contents: dict[str, bytes], tmp_path: Path
) -> None:
    program = (
        "import sys; from pathlib import Path; from usedge.models.checkpoint import load_checkpoint;"
        "from usedge.spec import SignalSpec; from usedge_export.calibration_set import CalibrationSet;"
        "from usedge_export.recipe import CalibrationSettings as Settings;"
        "from usedge_export.build import CONVERTERS, STATIC_CONVERTERS;"
        "model = load_checkpoint(Path(sys.argv[1])).model();"
        "chosen = CalibrationSet.gather(Settings('field', 61803, 16), SignalSpec(), None);"
        "made = [to_fp32(model, 2048) for to_fp32, _ in CONVERTERS.values()];"
        "both = zip(made, CONVERTERS.values(), strict=True);"
        "made += [to_int8(fp32) for fp32, (_, to_int8) in both];"
        "static = zip(made, STATIC_CONVERTERS.values());"
        "made += [to_static(fp32, chosen) for fp32, to_static in static];"
        "[Path(str(i)).write_bytes(each) for i, each in enumerate(made)];"
        "print('out'); print('err', file=sys.stderr)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", program, str(checkpoint)], env=environment, check=True,
                         capture_output=True, text=True, cwd=tmp_path)
    assert (ran.stdout, ran.stderr) == ("out\n", "err\n")
    for i, name in enumerate(("litert-fp32", "onnx-fp32", "litert-int8", "onnx-int8")):
        assert (tmp_path / str(i)).read_bytes() == contents[name], name
    chosen = CalibrationSet.gather(CalibrationSettings("field", 61803, 16), SPEC, None)
    for i, (runtime, to_static) in enumerate(build.STATIC_CONVERTERS.items(), start=4):
        assert (tmp_path / str(i)).read_bytes() == to_static(contents[f"{runtime}-fp32"], chosen), runtime


def test_variants_name_no_file_of_the_machine_that_made_them(exported: build.Exported) -> None:
    for name in exported.bundle.variants:
        content = exported.bundle.variant_bytes(name)
        for path in (str(Path(build.__file__).parents[2]), sys.prefix, ".py\"", "site-packages"):
            assert path.encode() not in content, name


@pytest.mark.usefixtures("converted")
def test_same_checkpoint_and_recipe_give_the_same_bytes(checkpoint: Path, recipe: Recipe, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    def export(folder: str, p50_us: float, ratio: float) -> bytes:
        took = {"p50_us": p50_us, "p99_us": 2 * p50_us, "ratio_onnx_fp32": ratio, "ratio_fp32": ratio}
        monkeypatch.setattr("usedge_export.speed.measure", lambda models, *_: dict.fromkeys(models, took))
        (tmp_path / folder).mkdir()
        exported = build.export(checkpoint, recipe, tmp_path / folder / "b.usedge")
        assert exported.to_dict()["variants"]["onnx-int8"]["p50_us"] == p50_us
        return exported.bundle.path.read_bytes()

    first = export("first", 500.0, 0.5)
    assert export("at another hour", 812.5, 0.95) == first
    assert export("slower than fp32", 500.0, 1.2) != first


@pytest.mark.usefixtures("converted")
def test_required_outside_the_gate_writes_nothing(checkpoint: Path, recipe: Recipe, tmp_path: Path) -> None:
    strict = replace(recipe, gate=replace(recipe.gate, shift_median_ns_max=1e-3))
    with pytest.raises(GateFailedError, match=r"litert-int8 is outside .* [\d.]+ ns \(at most 0\.001 ns\)"):
        build.export(checkpoint, strict, tmp_path / "b.usedge")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("converted")
def test_variant_outside_the_gate_is_left_out(checkpoint: Path, recipe: Recipe, tmp_path: Path) -> None:
    strict = replace(recipe, gate=replace(recipe.gate, shift_median_ns_max=1.0), required=("litert-fp32",))
    exported = build.export(checkpoint, strict, tmp_path / "b.usedge")
    assert sorted(exported.bundle.variants) == ["litert-fp32", "onnx-fp32"]
    assert sorted(exported.refused) == ["litert-int8", "onnx-int8"]
    assert exported.bundle.provenance["refused"] == exported.refused
    row = exported.to_dict()["variants"]["litert-int8"]
    assert not row["accepted"]
    assert "median ToF shift" in row["refused_because"][0]


@pytest.mark.usefixtures("converted")
def test_calibration_file_is_compared_as_well(checkpoint: Path, recipe: Recipe, tmp_path: Path) -> None:
    synth = generate("field", 24, 5, 640)
    np.savez(tmp_path / "tank.npz", x=synth.x, fs_hz=20e6, t0_s=0.0, tof_s=synth.onset / 20e6)
    exported = build.export(checkpoint, recipe, tmp_path / "b.usedge", tmp_path / "tank.npz")
    for variant in exported.bundle.variants.values():
        assert variant.parity["calibrate"]["file"] == "tank.npz"
        assert variant.parity["calibrate"]["ascans"] == 24
    assert exported.bundle.provenance["calibrate"]["file"] == "tank.npz"


@pytest.mark.usefixtures("converted")
def test_too_few_clear_a_scans_write_nothing(checkpoint: Path, recipe: Recipe, tmp_path: Path) -> None:
    strict = replace(recipe, golden=replace(recipe.golden, margin_log_odds=90.0))
    with pytest.raises(GateFailedError, match="clear enough for golden vectors"):
        build.export(checkpoint, strict, tmp_path / "b.usedge")
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_of_no_use_say_why(checkpoint: Path, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "b.usedge"
    with pytest.raises(InputError, match="no threshold for \"no echo\""):
        build.export(changed(checkpoint, tmp_path, record={"ascans": 0}), recipe, out)
    loaded = load_checkpoint(checkpoint)
    mae = MaskedAutoencoder(loaded.spec, loaded.config).state_dict()
    with pytest.raises(InputError, match="holds a 'mae' model"):
        build.export(changed(checkpoint, tmp_path, kind="mae", weights=mae), recipe, out)
    with pytest.raises(InputError, match="is no usedge checkpoint"):
        build.export(tmp_path, recipe, out)


def test_models_that_cannot_be_converted_give_one_line() -> None:
    class Odd(torch.nn.Module):
        def forward(self, _: Any) -> Any:
            raise RuntimeError("odd model\nwith many lines")

    for to_fp32, _ in build.CONVERTERS.values():
        with pytest.raises(InputError, match="could not convert the model") as caught:
            to_fp32(Odd(), 64)
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("converted")
def test_command_prints_one_json_object(checkpoint: Path, recipe: Recipe, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usedge_export.recipe.read_recipe", lambda _: recipe)
    out = tmp_path / "b.usedge"
    result = CliRunner().invoke(cli.app, [str(checkpoint), "--int8", "-o", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["bundle"] == str(out)
    assert sorted(report["variants"]) == VARIANTS
    assert isinstance(read_bundle(out), Bundle)
    assert "comparing" in result.stderr


@pytest.mark.usefixtures("converted")
def test_command_signs_what_it_writes(checkpoint: Path, recipe: Recipe, tmp_path: Path,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography", reason="signatures need the extra 'sign'")
    from usedge.signature import new_key, require

    monkeypatch.setattr("usedge_export.recipe.read_recipe", lambda _: recipe)
    digits, out = new_key(tmp_path / "k.pem"), tmp_path / "b.usedge"
    words = [str(checkpoint), "-o", str(out), "--sign", str(tmp_path / "k.pem")]
    result = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert f"{out}.sig: signed by {digits[:16]}" in result.stderr
    assert require(read_bundle(out).sealed, tmp_path / "k.pem.pub") == digits
    result = CliRunner().invoke(cli.app, words[:-2], catch_exceptions=False)
    assert f"{out}.sig was there before" in result.stderr


@pytest.mark.usefixtures("converted")
def test_table_shows_refused_and_default_variants(checkpoint: Path, recipe: Recipe, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    strict = replace(recipe, gate=replace(recipe.gate, shift_median_ns_max=1.0), required=())
    cli._print_table(build.export(checkpoint, strict, tmp_path / "b.usedge"))
    shown = capsys.readouterr().out
    assert shown.count("default") == 2
    assert "onnx-int8 was left out: median ToF shift" in shown


def test_command_asks_for_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def invoke(*words: str) -> None:
        CliRunner().invoke(cli.app, list(words), catch_exceptions=False)

    with pytest.raises(InputError, match="no recipe 'int4'"):
        invoke(str(tmp_path), "--recipe", "int4")
    with pytest.raises(InputError, match="no folder"):
        invoke(str(tmp_path), "-o", str(tmp_path / "missing" / "b.usedge"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "litert_torch" else name)
    with pytest.raises(MissingExtraError, match=r"'litert-torch', which .* 'usedge\[export\]'"):
        invoke(str(tmp_path))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc on this system")
def test_the_report_says_what_memory_each_variant_takes_and_the_bundle_does_not(exported: build.Exported
                                                                               ) -> None:
    for row in exported.to_dict()["variants"].values():
        assert 10 < row["rss_mb"] < 400
    assert "rss_mb" not in json.dumps(read_bundle(exported.bundle.path).provenance)
    assert all("rss_mb" not in each.parity for each in exported.bundle.variants.values())
