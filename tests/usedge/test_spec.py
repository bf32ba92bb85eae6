"""Gates and signal specs: what is read, and what is refused with which words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usedge.blur import Blur
from usedge.errors import InputError
from usedge.spec import Gate, SignalSpec


@settings(deadline=None)
@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_a_gate_is_read_back_as_it_was_written(start_us: float, width_us: float) -> None:
    gate = Gate.parse(f"{start_us!r}:{width_us!r}")
    assert (gate.start_us, gate.width_us) == (start_us, width_us)
    assert gate.end_us == start_us + width_us


@pytest.mark.parametrize("text", ["", "20", "20-40", "20:", ":40", "a:b", "20:40:60", "20,5:40"])
def test_what_is_no_gate_is_quoted_with_an_example(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Gate.parse(text)
    assert repr(text) in str(caught.value)
    assert "--gate 20:40" in str(caught.value)


@pytest.mark.parametrize("text", ["20:0", "20:-5", "nan:5", "20:nan", "inf:5", "20:inf", "-inf:1"])
def test_a_gate_without_a_finite_extent_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"not (positive|finite)"):
        Gate.parse(text)


def test_a_spec_survives_json() -> None:
    spec = SignalSpec(n_samples=1024, patch=16)
    assert SignalSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.n_patches == 64


@pytest.mark.parametrize(("changes", "named"), [({"colour": 1}, "colour"), ({"patch": None}, "patch")])
@pytest.mark.parametrize("blur", ["none", "srad"])
def test_unknown_and_missing_fields_are_named(changes: dict[str, int | None], named: str, blur: str) -> None:
    values = SignalSpec(blur=blur).to_dict() | changes
    with pytest.raises(InputError, match=named):
        SignalSpec.from_dict({key: value for key, value in values.items() if value is not None})


@pytest.mark.parametrize(("n_samples", "patch"), [(2048, 33), (0, 32), (2048, 0), (-2048, 32)])
def test_a_grid_that_patches_do_not_fill_is_refused(n_samples: int, patch: int) -> None:
    with pytest.raises(InputError, match="patches"):
        SignalSpec(n_samples=n_samples, patch=patch)


def test_an_unknown_normalisation_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'z-score'.*Known: noise-asinh"):
        SignalSpec(normalisation="z-score")


BEFORE_BLURS = {"n_samples": 2048, "patch": 32, "normalisation": "noise-asinh", "noise_floor": 1 / 1024}
"""A spec as checkpoints and bundles hold it that were written before the field ``blur``."""


def test_a_spec_without_a_blur_reads_and_writes_as_before_there_were_any() -> None:
    assert SignalSpec.from_dict(BEFORE_BLURS) == SignalSpec() == SignalSpec(blur="none")
    assert SignalSpec().to_dict() == BEFORE_BLURS


def test_a_blur_is_kept_in_its_canonical_text() -> None:
    spec = SignalSpec(blur="gaussian:1.50")
    assert spec.blur == "gaussian:1.5"
    assert spec.blurring == Blur("gaussian", (1.5,))
    assert spec == SignalSpec(blur="gaussian:15e-1") != SignalSpec()
    assert spec.to_dict() == BEFORE_BLURS | {"blur": "gaussian:1.5"}
    assert SignalSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize("blur", ["gaussian:0", "sepia", "", None, 3])
def test_a_stored_blur_that_is_none_is_refused(blur: object) -> None:
    with pytest.raises(InputError, match=r"blur .* (is|has) "):
        SignalSpec.from_dict(BEFORE_BLURS | {"blur": blur})


@pytest.mark.parametrize(("blur", "n_samples", "width"), [("gaussian:256", 2048, 2049), ("mean:65", 64, 65)])
def test_a_blur_wider_than_the_grid_is_refused(blur: str, n_samples: int, width: int) -> None:
    with pytest.raises(InputError, match=rf"'{blur}' spans {width} of {n_samples} grid samples.*narrower"):
        SignalSpec(n_samples=n_samples, blur=blur)
    assert SignalSpec(n_samples=2 * n_samples, blur=blur).blur == blur
