"""Operation counts, the formula that predicts a pass on a board, and the command that shows it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from usedge.boards import every_board, load_board
from usedge.boards.instructions import longest_us, opinion, read_counts
from usedge.boards.predict import Core, Measured, check, core_of, floor_us, predict, spread
from usedge.boards.work import Sizes, count, native_sizes, sizes_of
from usedge.bundle import read_bundle
from usedge.cli import app
from usedge.errors import InputError
from usedge.models.config import MAEConfig
from usedge.resources import shipped_bundle
from usedge.spec import SignalSpec

PAPER = Sizes(tokens=64, d_model=128, heads=4, d_head=64, mlp_hidden=256, layers=6, patch=32)
CORE = Core(int8_macs_s=4e9, fp32_macs_s=1e9)


# Counting


def test_counts_are_those_of_the_network_that_is_trained() -> None:
    torch = pytest.importorskip("torch")
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from usedge.models.nets import ToFNet

    sizes = Sizes(tokens=16, d_model=32, heads=2, d_head=8, mlp_hidden=48, layers=3, patch=4)
    config = MAEConfig(d_model=32, heads=2, d_head=8, mlp_hidden=48, encoder_layers=3)
    model = ToFNet(SignalSpec(n_samples=64, patch=4), config).eval()
    # Written out, since the counter does not know a CPU's fused attention.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 64))
    assert counter.get_total_flops() == 2 * count(sizes).macs
    learned = sum(each.numel() for each in model.parameters())
    assert count(sizes).weights == pytest.approx(learned, rel=0.01)


def test_linears_grow_with_the_tokens_and_attention_with_their_square() -> None:
    whole, half = count(PAPER), count(replace(PAPER, tokens=32))
    assert whole.linear_macs == 75_497_472
    assert whole.attention_macs == 12_582_912
    assert (whole.linear_macs, whole.attention_macs) == (2 * half.linear_macs, 4 * half.attention_macs)
    assert whole.bytes_moved("fp32") - whole.bytes_moved("int8") == 3 * whole.weights


def test_the_shipped_bundle_tells_its_sizes_twice_alike() -> None:
    bundle = read_bundle(shipped_bundle())
    told = sizes_of(bundle.spec, bundle.provenance["config"])
    native = [each.name for each in bundle.variants.values() if each.runtime == "native"]
    assert [native_sizes(bundle.variant_bytes(name)) for name in native] == [told] * len(native)


def test_a_network_of_another_kind_is_not_counted() -> None:
    spec = SignalSpec()
    with pytest.raises(InputError, match="backbone is 'cnn'"):
        sizes_of(spec, {**MAEConfig().to_dict(), "backbone": "cnn"})
    with pytest.raises(InputError, match="does not tell d_model"):
        sizes_of(spec, {})
    with pytest.raises(InputError, match="no weights of the native runtime"):
        native_sizes(b"TFL3" * 20)
    with pytest.raises(InputError, match="tokens 0 is no size"):
        replace(PAPER, tokens=0)


# The formula


def test_a_floor_is_work_over_rates() -> None:
    work = count(PAPER)
    in_float = work.attention_macs + work.end_macs + work.vector_ops
    assert floor_us(work, "fp32", CORE) == pytest.approx((work.linear_macs + in_float) / 1e3)
    assert floor_us(work, "int8", CORE) == pytest.approx(
        work.linear_macs / 4e3 + (in_float + work.quantise_ops) / 1e3)


def test_weights_beyond_the_cache_come_from_memory() -> None:
    work = count(PAPER)
    small = replace(CORE, cache_bytes=1e5, memory_bytes_s=1e9)
    large = replace(small, cache_bytes=1e8)
    assert floor_us(work, "int8", large) == floor_us(work, "int8", CORE)
    assert floor_us(work, "int8", small) - floor_us(work, "int8", CORE) == pytest.approx(work.weights / 1e3)


def test_the_formula_is_tried_on_each_variant_by_the_others() -> None:
    alike = [Measured(name, "litert", "int8", 200.0, 100.0) for name in "ab"]
    assert [each.deviation for each in check(alike)] == [0.0, 0.0]
    assert spread(check(alike)) == 1.25  # nothing is claimed to be better than that
    twice = [*alike, Measured("c", "onnx", "int8", 400.0, 100.0)]
    worst = check(twice)[2]
    assert worst.deviation == pytest.approx(-0.5)  # it is predicted twice as fast as it is
    assert spread(check(twice)) == pytest.approx(2.0)
    assert spread(check(alike[:1])) == 2.0  # one alone checks nothing


def test_a_prediction_lies_within_its_bar_and_not_under_its_floor() -> None:
    measured = Measured("litert-int8", "litert", "int8", 500.0, 300.0)
    for board in every_board():
        found = predict(board, count(PAPER), measured, 1.6)
        assert (found is None) == (core_of(board) is None), board.id
        if found is not None:
            assert found.floor_us <= found.fast_us <= found.p50_us <= found.slow_us
            assert found.to_dict()["kind"] == "predicted"


def test_what_others_published_of_a_core_goes_into_its_prediction() -> None:
    board = load_board("rpi-4b")
    measured = Measured("litert-int8", "litert", "int8", 100.0, 60.0)
    found = predict(board, count(PAPER), measured, 1.25)
    assert found is not None
    assert found.efficiencies == pytest.approx({
        "this host": 0.6, **{each.what: each.macs / 8 for each in board.rates.published
                             if each.precision == "int8"}})
    mean = math.prod(found.efficiencies.values()) ** (1 / len(found.efficiencies))
    assert found.p50_us == pytest.approx(found.floor_us / mean)


def test_half_the_tokens_take_less_than_half() -> None:
    measured = Measured("litert-int8", "litert", "int8", 100.0, 60.0)
    board = load_board("rpi-5")
    whole, half = (predict(board, count(each), measured, 1.3)
                   for each in (PAPER, replace(PAPER, tokens=32)))
    assert whole is not None
    assert half is not None
    assert half.p50_us < whole.p50_us / 2


# The second opinion


def test_stored_counts_cover_the_boards_that_are_predicted() -> None:
    rows = read_counts()
    for board in every_board():
        if core_of(board) is not None:
            for tokens in (16, 32, 64):
                told = opinion(board, replace(PAPER, tokens=tokens), rows)
                assert told is not None, (board.id, tokens)
                assert told.fast_us < told.slow_us
                assert told.ipc[1] <= board.rates.issue_width  # type: ignore[operator]


def test_an_opinion_is_instructions_over_units() -> None:
    board = load_board("rpi-4b")  # 1.5 GHz, 3 wide, 1 to 2 vector operations, 1 load
    rows = [{"core": "Cortex-A72", "kernel": "neon", "sizes": vars_of(PAPER),
             "instructions": {"total": 3000, "vector": 1500, "loads": 900}}]
    told = opinion(board, PAPER, rows)
    assert told is not None
    assert told.fast_us == pytest.approx(1000 / 1500)
    assert told.slow_us == pytest.approx((1500 + 900 + 200) / 1500)
    assert opinion(board, replace(PAPER, tokens=8), rows) is None
    assert opinion(load_board("rpi-5"), PAPER, rows) is None


def test_the_longest_decision_takes_both_passes_twice() -> None:
    board, rows = load_board("rpi-4b"), read_counts()
    few, whole = (opinion(board, replace(PAPER, tokens=tokens), rows) for tokens in (16, 64))
    assert few is not None
    assert whole is not None
    assert longest_us(board, PAPER, 16, rows) == pytest.approx(
        (2 * (few.fast_us + whole.fast_us), 2 * (few.slow_us + whole.slow_us)))
    assert longest_us(board, PAPER, 64, rows) == pytest.approx((2 * whole.fast_us, 2 * whole.slow_us))
    assert longest_us(board, PAPER, 8, rows) is None


def test_no_budget_is_beyond_what_is_predicted_and_none_is_met_by_anything() -> None:
    bundle = read_bundle(shipped_bundle())
    sizes, glance = sizes_of(bundle.spec, bundle.provenance["config"]), bundle.thresholds.glance
    assert glance is not None
    judged = 0
    for board in every_board():
        told = longest_us(board, sizes, glance.patches, read_counts())
        if board.budget is not None and told is not None:
            fast_ms, slow_ms = (us / 1e3 for us in told)
            assert fast_ms * 1.1 < board.budget.p99_ms < slow_ms, board.id  # a tenth for what is no network
            judged += 1
    assert judged >= 6


def vars_of(sizes: Sizes) -> dict[str, int]:
    return {name: getattr(sizes, name) for name in sizes.__slots__}


def between(name: str) -> list[str]:
    page = (Path(__file__).parents[2] / "docs" / "boards.md").read_text()
    table = page.partition(f"<!-- {name}: begin -->\n")[2].partition(f"<!-- {name}: end -->")[0]
    return table.splitlines()[2:]


def test_the_page_has_the_counted_instructions() -> None:
    by_core: dict[str, list[str]] = {}
    for row in sorted(read_counts(), key=lambda each: -each["sizes"]["tokens"]):
        kinds = row["instructions"]
        vector = f" ({kinds['vector'] / 1e6:.1f})" if "vector" in kinds else ""
        cells = by_core.setdefault(f"{row['core']}, {row['kernel']}", [])
        cells.append(f"{kinds['total'] / 1e6:.1f}{vector}")
    expected = [f"| {name} | {' | '.join(cells)} |" for name, cells in by_core.items()]
    assert sorted(between("instructions")) == sorted(expected)


def shown(ms: float) -> str:
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.2g}"


def test_the_page_has_what_follows_from_them() -> None:
    expected = []
    for board in every_board():
        core = core_of(board)
        if core is not None:
            cells, longest = [board.id], [0.0, 0.0]
            assert board.budget is not None
            for tokens in (64, 32, 16):
                sizes = replace(PAPER, tokens=tokens)
                told = opinion(board, sizes, read_counts())
                assert told is not None
                floor = floor_us(count(sizes), "int8", core)
                ends = (told.fast_us, told.slow_us)
                cells.append(f"{floor / 1e3:.2g}; {' … '.join(f'{each / 1e3:.2g}' for each in ends)}")
                if tokens != 32:
                    longest = [whole + 2 * each for whole, each in zip(longest, ends, strict=True)]
            cells.append(" … ".join(shown(us / 1e3) for us in longest))
            expected.append(f"| {' | '.join([*cells, f'{board.budget.p99_ms:g}'])} |")
    assert between("opinion") == expected


@pytest.mark.parametrize("text", ["", "[]", '{"format_version": 1}', '{"format_version": 9, "rows": []}'])
def test_damaged_counts_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "counts.json").write_text(text)
    with pytest.raises(InputError, match="make instructions"):
        read_counts(tmp_path / "counts.json")


# The command


@pytest.fixture(scope="module")
def predicted() -> dict[str, Any]:
    result = CliRunner().invoke(app, ["boards", "predict", "rpi-4b"])
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def test_predict_says_what_it_rests_on(predicted: dict[str, Any]) -> None:
    assert predicted["kind"] == "predicted"
    assert predicted["sizes"]["tokens"] >= 1
    assert predicted["work"]["macs"] == count(Sizes(**predicted["sizes"])).macs
    here = {each["variant"]: each for each in predicted["host"]["measured"]}
    assert "litert-int8" in here
    assert all(0 < each["efficiency"] < 1 for each in here.values())
    assert {each["variant"] for each in predicted["host"]["check"]} == set(here)
    for each in predicted["predictions"]:
        assert each["board"] == "rpi-4b"
        assert each["variant"] in here
        assert (each["by_instructions"] is not None) == (each["variant"] == "native-int8")


def test_the_longest_decision_stands_beside_the_budget(predicted: dict[str, Any]) -> None:
    (told,) = predicted["decisions"]
    assert "patches and, unsure, on all" in predicted["passes"]
    budget = load_board("rpi-4b").budget
    assert budget is not None
    assert told["budget_p99_ms"] == budget.p99_ms
    passed = [each["by_instructions"] for each in predicted["predictions"] if each["by_instructions"]]
    assert told["longest_us"][0] > 2 * passed[0]["fast_us"]


def test_fewer_tokens_are_predicted_from_the_same_measurement() -> None:
    result = CliRunner().invoke(app, ["boards", "predict", "rpi-5", "--tokens", "16"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["sizes"]["tokens"] == 16
    assert told["work"]["linear_macs"] == count(replace(PAPER, tokens=16)).linear_macs
