"""Scores: what knows everything scores perfectly, what knows nothing does not, and by hand in between."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")

from torch import Tensor, nn  # noqa: E402

from usedge.models.config import MAEConfig  # noqa: E402
from usedge.models.mae import MaskedAutoencoder  # noqa: E402
from usedge.models.nets import ToFNet  # noqa: E402
from usedge.spec import SignalSpec  # noqa: E402
from usedge.training import tasks  # noqa: E402
from usedge.training.scores import (  # noqa: E402
    place_scores,
    predict,
    presence_scores,
    reconstruction_scores,
    tof_scores,
)
from usedge.training.stream import Batch, SynthStream  # noqa: E402
from usedge.training.tasks import validate  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = SignalSpec()
TINY = MAEConfig(d_model=16, heads=2, d_head=8, mlp_hidden=16, encoder_layers=1, decoder_layers=1)


@pytest.fixture(autouse=True)
def few_validation_ascans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "VALIDATION_ASCANS", 256)


class Told(nn.Module):
    """A network that knows the onsets, and gives "no echo" the probabilities it is told to."""

    def __init__(self, onset: Tensor, p_echo_gate: float = 1e-6, p_empty_gate: float = 1 - 1e-6) -> None:
        super().__init__()
        self.place, self.row, self.p = nn.Parameter(onset), 0, (p_echo_gate, p_empty_gate)

    def forward(self, x: Tensor) -> Tensor:
        onset = self.place[self.row : self.row + len(x)]
        self.row += len(x)
        out = torch.full((len(x), 193), -30.0)
        p_no_echo = torch.where(onset.isnan(), self.p[1], self.p[0])
        out[torch.arange(len(x)), onset.nan_to_num(0.0).long()] = torch.log(1 - p_no_echo)
        out[:, 64] = torch.log(p_no_echo)
        out[:, 65:129] = onset.nan_to_num(0.0)[:, None] - torch.arange(64)
        return out


class Says(nn.Module):
    """A network that gives these answers, whatever it reads."""

    def __init__(self, answers: Tensor) -> None:
        super().__init__()
        self.answers = nn.Parameter(answers)

    def forward(self, x: Tensor) -> Tensor:
        return self.answers[: len(x)]


def labelled(onset: list[float], period: float = 0.25, presence: list[int] | None = None) -> Batch:
    x = torch.zeros(len(onset), 2048)
    return Batch(x, x, torch.tensor(onset), torch.tensor(onset), torch.full((len(onset),), period),
                 torch.tensor(presence or [0] * len(onset)))


# Time of flight


@pytest.mark.parametrize("preset", ["field", "paper"])
def test_a_perfect_network_scores_perfectly(preset: str) -> None:
    batch = SynthStream(preset, tasks.VALIDATION_SEED, 256, SPEC)[0]
    scores = validate(Told(batch.onset), SPEC, preset)
    for key in ("top1", "within_patch", "hit_half_period", "hit_one_period"):
        assert scores[key] == 1.0, key
    assert scores["missed"] == 0.0
    assert scores["median_error_samples"] < 0.01
    assert scores["false_alarms"] == (0.0 if preset == "field" else None)
    assert scores["validation"] == {"preset": preset, "seed": tasks.VALIDATION_SEED, "ascans": 256}


def test_a_network_that_sees_nothing_is_not_called_good() -> None:
    onset = SynthStream("field", tasks.VALIDATION_SEED, 256, SPEC)[0].onset
    scores = validate(Told(onset, p_echo_gate=1 - 1e-6), SPEC, "field")
    assert scores["missed"] + scores["false_alarms"] == pytest.approx(1.0)


def test_the_operating_point_parts_echoes_from_empty_gates() -> None:
    onset = SynthStream("field", tasks.VALIDATION_SEED, 256, SPEC)[0].onset
    scores = validate(Told(onset, p_echo_gate=0.1, p_empty_gate=0.3), SPEC, "field")
    assert 0.1 <= scores["no_echo_threshold"] < 0.3
    assert (scores["missed"], scores["false_alarms"]) == (0.0, 0.0)


def test_a_class_beside_the_right_one_is_within_a_patch_and_no_top1() -> None:
    batch = labelled([10.2, 20.9, math.nan, 30.5])
    told = torch.tensor([11.1, 20.9, 5.0, 33.0])
    scores = tof_scores(Told(told), batch, 32)
    assert scores["top1"] == pytest.approx(1 / 3)
    assert scores["within_patch"] == pytest.approx(2 / 3)
    assert scores["median_error_samples"] == pytest.approx(0.9 * 32, rel=1e-4)


# Places


def test_places_without_an_answer_are_misses() -> None:
    batch = labelled([10.0, 20.0, 30.0, 40.0, math.nan])
    place = np.array([10.0, np.nan, 30.1, np.nan, 3.0])
    scores = place_scores(place, batch, 32)
    assert scores["within_patch"] == 0.5
    assert scores["hit_one_period"] == 0.5
    assert scores["median_error_samples"] == pytest.approx(0.05 * 32)


def test_a_method_that_never_answers_has_no_error_and_no_hit() -> None:
    scores = place_scores(np.full(3, np.nan), labelled([10.0, 20.0, 30.0]), 32)
    assert (scores["within_patch"], scores["hit_half_period"]) == (0.0, 0.0)
    assert scores["median_error_samples"] is None


def test_a_constant_offset_costs_no_hit() -> None:
    """Methods mark different points of an echo; the median error is taken off before hits are counted."""
    batch = labelled([10.0, 20.0, 30.0])
    scores = place_scores(batch.onset.numpy() + 0.2, batch, 32)
    assert (scores["hit_half_period"], scores["hit_one_period"]) == (1.0, 1.0)
    assert scores["median_error_samples"] == pytest.approx(0.2 * 32, rel=1e-4)


def test_half_a_period_is_counted_in_patches() -> None:
    batch = labelled([10.0, 20.0, 30.0, 40.0], period=0.5)
    scores = place_scores(batch.onset.numpy() + np.array([0.0, 0.0, 0.0, 0.3]), batch, 32)
    assert (scores["hit_half_period"], scores["hit_one_period"]) == (0.75, 1.0)


def test_without_periods_there_are_no_hits_to_tell() -> None:
    batch = labelled([10.0, 20.0], period=math.nan)
    assert set(place_scores(batch.onset.numpy(), batch, 32)) == {"within_patch", "median_error_samples"}


# Presence


def test_presence_scores_by_hand() -> None:
    truth, said = [0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 2, 2]
    batch = labelled([math.nan] * 6, presence=truth)
    scores = presence_scores(Says(torch.eye(3)[said]), batch)
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["f1"] == pytest.approx({"no echo": 2 / 3, "sound": 2 / 3, "defect": 2 / 3})
    assert scores["f1_mean"] == pytest.approx(2 / 3)


def test_always_the_commonest_class_has_a_poor_f1() -> None:
    batch = labelled([math.nan] * 10, presence=[1] * 8 + [0, 2])
    scores = presence_scores(Says(torch.eye(3)[[1] * 10]), batch)
    assert scores["accuracy"] == 0.8
    assert scores["f1"] == pytest.approx({"no echo": 0.0, "sound": 16 / 18, "defect": 0.0})
    perfect = presence_scores(Says(torch.eye(3)[batch.presence]), batch)
    assert (perfect["accuracy"], perfect["f1_mean"]) == (1.0, 1.0)


def test_presence_is_validated_on_its_own_scores() -> None:
    truth = SynthStream("plate", tasks.VALIDATION_SEED, 256, SPEC)[0].presence
    scores = validate(Says(torch.eye(3)[truth]), SPEC, "plate", "presence")
    assert (scores["accuracy"], scores["f1_mean"], scores["validation"]["preset"]) == (1.0, 1.0, "plate")


# Predictions and reconstruction


def test_predictions_do_not_depend_on_the_batch_and_leave_the_network_as_it_was() -> None:
    torch.manual_seed(3)
    net, x = ToFNet(SPEC, TINY), SynthStream("field", 1, 20, SPEC)[0].x
    assert net.training
    whole, parts = predict(net, x, 20), predict(net, x, 7)
    assert net.training
    assert (whole.shape, whole.dtype) == ((20, 193), np.float32)
    np.testing.assert_allclose(whole, parts, atol=1e-5)


def test_a_network_with_batch_norms_is_scored_as_it_will_be_used() -> None:
    torch.manual_seed(3)
    net, x = ToFNet(SPEC, MAEConfig(d_model=16, backbone="cnn")), SynthStream("field", 1, 8, SPEC)[0].x
    before = {name: value.clone() for name, value in net.state_dict().items()}
    whole, one = predict(net, x), predict(net, x[3:4])
    np.testing.assert_allclose(whole[3:4], one, rtol=1e-3, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def zeros(config: MAEConfig) -> MaskedAutoencoder:
    model = MaskedAutoencoder(SPEC, config)
    with torch.no_grad():
        model.decoder_out.weight.zero_()
        model.decoder_out.bias.zero_()
    return model


def test_predicting_zeros_explains_nothing() -> None:
    model = zeros(MAEConfig(d_model=16, heads=1, encoder_layers=1, decoder_layers=1, norm_patches=False))
    scores = reconstruction_scores(model, SynthStream("paper", 1, 300, SPEC)[0], 5)
    assert scores["mean_abs"] == scores["mean_abs_nothing"] > 0
    assert scores["explained"] == pytest.approx(0.0, abs=1e-6)
    assert scores["echo_explained"] == pytest.approx(0.0, abs=1e-6)


def test_predicting_the_clean_a_scan_explains_all_of_it() -> None:
    batch = SynthStream("paper", 1, 20, SignalSpec(blur="gaussian:2"))[0]

    class Oracle(MaskedAutoencoder):
        def reconstruct(self, x: Tensor, generator: torch.Generator | None = None,
                        clean: Tensor | None = None) -> tuple[Tensor, Tensor]:
            _, mask = super().reconstruct(x, generator, clean)
            return batch.clean.view(20, 64, 32), mask

    scores = reconstruction_scores(Oracle(SPEC, TINY), batch, 5)
    assert (scores["mean_abs"], scores["explained"], scores["echo_explained"]) == (0.0, 1.0, 1.0)


def test_reconstruction_is_scored_under_the_same_masks_for_the_same_seed() -> None:
    torch.manual_seed(1)
    model, batch = MaskedAutoencoder(SPEC, TINY), SynthStream("paper", 1, 20, SPEC)[0]
    assert reconstruction_scores(model, batch, 5) == reconstruction_scores(model, batch, 5)
    assert reconstruction_scores(model, batch, 5) != reconstruction_scores(model, batch, 6)
