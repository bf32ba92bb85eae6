"""Static int8: where its ranges come from, what the bundle says of them; dynamic int8 is the default."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from usedge import resources
from usedge.backends import Backend, open_backend
from usedge.bundle import check_golden, read_bundle
from usedge.errors import InputError
from usedge.sparse import telling
from usedge.spec import SignalSpec
from usedge.synth import generate
from usedge_export.recipe import CalibrationSettings, Recipe, read_recipe

torch = pytest.importorskip("torch", reason="export starts from a torch checkpoint: extra 'export'")
for package in ("safetensors", "onnx", "onnxscript", "onnxruntime", "litert_torch", "ai_edge_quantizer"):
    pytest.importorskip(package, reason="conversion needs the extra 'export'")

from usedge.models.nets import ToFNet  # noqa: E402
from usedge_export import build  # noqa: E402
from usedge_export.calibration_set import CalibrationSet  # noqa: E402
from usedge_export.material import labelled, synthetic  # noqa: E402

SPEC = SignalSpec()
STATIC = ["litert-int8-static", "onnx-int8-static"]
SETTINGS = CalibrationSettings("field", 61803, 48)
STATIC_CONVERTERS = build.STATIC_CONVERTERS


@pytest.fixture(scope="module")
def static_recipe(recipe: Recipe) -> Recipe:
    shipped = read_recipe(resources.recipe("static"))
    return replace(recipe, name="static", variants=shipped.variants, required=shipped.required,
                   gate=replace(recipe.gate, error_median_gain_ns_max=51_200.0), calibration=SETTINGS)


@pytest.fixture
def converted(contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Take fp32 and dynamic int8 as they are converted already: that is slow and has its own test."""
    for runtime in build.CONVERTERS:
        made = [lambda *_, name=f"{runtime}-{kind}": contents[name] for kind in ("fp32", "int8")]
        monkeypatch.setitem(build.CONVERTERS, runtime, (made[0], made[1]))


@pytest.fixture(scope="module")
def files(fp32: dict[str, bytes]) -> dict[str, bytes]:
    """Static variants of ``net``, by runtime."""
    chosen = CalibrationSet.gather(SETTINGS, SPEC, None)
    return {runtime: to_static(fp32[runtime], chosen) for runtime, to_static in STATIC_CONVERTERS.items()}


@pytest.fixture(scope="module")
def opened(files: dict[str, bytes]) -> dict[str, Backend]:
    return {runtime: open_backend(runtime, content) for runtime, content in files.items()}


@pytest.mark.parametrize("runtime", ["litert", "onnx"])
@torch.no_grad()
def test_all_and_few_patches_are_answered_as_torch_does(runtime: str, net: ToFNet,
                                                        opened: dict[str, Backend]) -> None:
    # A-scans of the kind that fixed the ranges, but none of those.
    for x in synthetic(replace(SETTINGS, seed=7, ascans=16), SPEC).x[:, np.newaxis]:
        for k in (None, 16, 32):
            places = None if k is None else telling(x, 32, k)
            asked = (x,) if places is None else (x, places)
            wanted = net(*map(torch.from_numpy, asked)).numpy()
            out = opened[runtime].infer(*asked)
            assert (out.shape, out.dtype) == (wanted.shape, np.float32)
            assert np.abs(out - wanted).max() < 0.15


@pytest.mark.parametrize("runtime", ["litert", "onnx"])
@torch.no_grad()
def test_ranges_stay_what_the_calibration_set_made_them(runtime: str, net: ToFNet,
                                                        opened: dict[str, Backend]) -> None:
    """Dynamic int8 would follow an A-scan far louder than all of the set; fixed ranges cut it off."""
    x = 50.0 * synthetic(replace(SETTINGS, seed=7, ascans=16), SPEC).x[:1]
    wanted = net(torch.from_numpy(x)).numpy()
    assert np.abs(opened[runtime].infer(x) - wanted).max() > 0.15 * np.abs(wanted).max()


def test_onnx_finds_no_range_on_the_way(files: dict[str, bytes]) -> None:
    import onnx

    kinds = [node.op_type for node in onnx.load_from_string(files["onnx"]).graph.node]
    assert "DynamicQuantizeLinear" not in kinds
    assert kinds.count("QuantizeLinear") == kinds.count("MatMulIntegerToFloat") > 8
    assert not {"Cast", "MatMulInteger"} & set(kinds)


@pytest.mark.parametrize("name", STATIC)
def test_the_set_decides_the_bytes_and_nothing_else_does(name: str, contents: dict[str, bytes]) -> None:
    runtime = name.partition("-")[0]
    made = [STATIC_CONVERTERS[runtime](contents[f"{runtime}-fp32"], CalibrationSet.gather(each, SPEC, None))
            for each in (SETTINGS, SETTINGS, replace(SETTINGS, seed=7))]
    assert made[0] == made[1] != made[2]
    assert len(made[0]) == pytest.approx(len(contents[f"{runtime}-int8"]), rel=0.25)


@pytest.mark.usefixtures("converted")
def test_bundle_says_what_fixed_the_ranges(checkpoint: Path, static_recipe: Recipe, tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    took = {"p50_us": 500.0, "p99_us": 900.0, "ratio_onnx_fp32": 0.5, "ratio_fp32": 0.5}
    monkeypatch.setattr("usedge_export.speed.measure", lambda models, *_: dict.fromkeys(models, took))
    synth, tank = generate("field", 24, 5, 640), tmp_path / "tank.npz"
    np.savez(tank, x=synth.x, fs_hz=20e6, t0_s=0.0, tof_s=synth.onset / 20e6)
    said: list[str] = []
    made = [build.export(checkpoint, static_recipe, tmp_path / folder / "b.usedge", tank, said.append)
            for folder in ("first", "second") if not (tmp_path / folder).mkdir()]
    bundle = read_bundle(made[0].bundle.path)
    assert made[1].bundle.path.read_bytes() == bundle.path.read_bytes()
    x = np.concatenate([synthetic(SETTINGS, SPEC).x, labelled(tank, SPEC).x])
    assert bundle.provenance["calibration_set"] == {
        "preset": "field", "seed": 61803, "ascans": 48, "gates": 72,
        "sha256": hashlib.sha256(x.tobytes()).hexdigest()}
    assert bundle.provenance["calibrate"] == {
        "file": "tank.npz", "sha256": hashlib.sha256(tank.read_bytes()).hexdigest()}
    assert said.count("fixing the ranges of static int8 on 72 A-scans") == 4
    assert (made[0].refused, sorted(bundle.variants)) == ({}, sorted(static_recipe.variants))
    for runtime in ("litert", "onnx"):
        assert bundle.default_for(runtime).name == f"{runtime}-int8"
        variant = bundle.variants[f"{runtime}-int8-static"]
        assert (variant.runtime, variant.precision) == (runtime, "int8")
        assert variant.parity["calibrate"]["ascans"] == 24
        check_golden(bundle, open_backend(runtime, bundle.variant_bytes(variant.name)).infer)


@pytest.mark.usefixtures("converted")
def test_static_outside_the_gate_is_left_out_with_its_figures(checkpoint: Path, static_recipe: Recipe,
                                                              tmp_path: Path) -> None:
    strict = replace(static_recipe, gate=replace(static_recipe.gate, shift_median_ns_max=1.0),
                     required=("litert-fp32",))
    exported = build.export(checkpoint, strict, tmp_path / "b.usedge")
    assert set(STATIC) <= set(exported.refused)
    for name in STATIC:
        assert name not in exported.bundle.variants
        assert "median ToF shift" in exported.bundle.provenance["refused"][name][0]


def test_recipes_without_static_variants_say_nothing_of_a_set(recipe: Recipe) -> None:
    assert "calibration" not in recipe.to_dict()
    assert read_recipe(resources.recipe("static")).without_int8().to_dict().keys() == recipe.to_dict().keys()


SHIPPED = resources.recipe("static").read_text()
FAULTS = {
    "[calibration]": ("[kalibration]", "key kalibration is unknown.* one is calibration"),
    "seed = 61803": ("seed = 39447", r"calibration\.seed is 39447, as parity\.seed is\. .*did not fix"),
    "ascans = 256": ("ascans = 8", r"calibration\.ascans is 8\. It must be a whole number from 16"),
    'preset = "field"                    # with': ('preset = "feild" #', r"preset feild is unknown.* field"),
    "ascans = 256\n": ('ascans = 256\noperators = "all"\n', r"key calibration\.operators is unknown"),
    '"litert-int8-static", ': ('"litert-int4-static", ', r"variant litert-int4-static is unknown"),
    '"onnx-int8-static"]': ('"onnx-int8-static", "onnx-int8-static"]', "Name each variant once"),
}


@pytest.mark.parametrize("old", FAULTS)
def test_faults_in_a_recipe_are_named(tmp_path: Path, old: str) -> None:
    new, message = FAULTS[old]
    assert SHIPPED.count(old) == 1
    (tmp_path / "own.toml").write_text(SHIPPED.replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        read_recipe(tmp_path / "own.toml")
    assert "\n" not in str(caught.value)


def test_static_variants_need_a_set(tmp_path: Path) -> None:
    before, behind = SHIPPED.split("[calibration]")
    (tmp_path / "own.toml").write_text(before + "[parity]" + behind.split("[parity]")[1])
    with pytest.raises(InputError, match=r"names litert-int8-static, but no calibration set\. .*static"):
        read_recipe(tmp_path / "own.toml")
