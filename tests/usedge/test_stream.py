"""What training reads: synthetic streams, pools and files, which give batch i to whoever asks for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from usedge.errors import InputError  # noqa: E402
from usedge.labelled import LabelledSet, load_labelled  # noqa: E402
from usedge.preprocess import Preprocessor  # noqa: E402
from usedge.spec import SignalSpec  # noqa: E402
from usedge.synth import FS_HZ, generate  # noqa: E402
from usedge.synth.files import write_synth  # noqa: E402
from usedge.training.stream import (  # noqa: E402
    Augment,
    Batch,
    FileStream,
    PoolStream,
    Prepare,
    SynthStream,
    Truth,
    batches,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = SignalSpec()
BLURRED = SignalSpec(blur="gaussian:2")


def assert_same(a: Batch, b: Batch) -> None:
    """All fields agree to the bit."""
    for name, mine, theirs in zip(Batch._fields, a, b, strict=True):
        assert torch.equal(mine.nan_to_num(-1), theirs.nan_to_num(-1)), name


def identities(batch: Batch) -> list[bytes]:
    return [row.numpy().tobytes() for row in batch.x]


# Batches


@pytest.mark.parametrize("spec", [SPEC, BLURRED])
def test_rows_and_joins_keep_every_field_together(spec: SignalSpec) -> None:
    whole = SynthStream("plate", 3, 12, spec)[0]
    parts = [whole.rows(slice(0, 5)), whole.rows(np.arange(5, 12))]
    assert [len(part) for part in (whole, *parts)] == [12, 5, 7]
    assert_same(Batch.join(parts), whole)
    assert_same(whole.rows(np.array([7])), parts[1].rows(np.array([2])))


def test_without_a_blur_what_is_clean_is_what_is_read_and_takes_no_memory() -> None:
    pool = PoolStream.synthetic("paper", 8, 1, 4, SPEC)
    for batch in (SynthStream("paper", 1, 4, SPEC)[0], pool.pool, pool[0]):
        assert batch.clean is batch.x


@pytest.mark.parametrize("blur", ["gaussian:2", "motion", "srad"])
def test_a_blurred_batch_is_what_a_device_with_that_blur_would_read(blur: str) -> None:
    spec = SignalSpec(blur=blur)
    batch, plain = (SynthStream("paper", 3, 8, each)[2] for each in (spec, SPEC))
    counts = generate("paper", 8, (3, 2, 0), 2048).x
    np.testing.assert_array_equal(batch.x.numpy(), Preprocessor(spec).batch(counts).x)
    assert not torch.equal(batch.x, batch.clean)
    assert_same(Batch(batch.clean, *batch[1:]), plain)


# Synthetic streams


@pytest.mark.parametrize("preset", ["field", "paper", "plate"])
def test_a_synthetic_batch_depends_on_its_seed_and_index_alone(preset: str) -> None:
    stream = SynthStream(preset, 3, 70, SPEC)
    batch = stream[5]
    assert (batch.x.shape, batch.x.dtype) == ((70, 2048), torch.float32)
    assert (batch.onset.shape, batch.onset.dtype) == ((70,), torch.float32)
    assert batch.period.dtype == torch.float32
    assert batch.presence.dtype == torch.int64
    assert_same(batch, SynthStream(preset, 3, 70, SPEC)[5])
    for other in (stream[6], SynthStream(preset, 4, 70, SPEC)[5]):
        assert not torch.equal(batch.x, other.x)
    echo = ~batch.onset.isnan()
    assert batch.onset[echo].min() >= 0
    assert batch.onset[echo].max() < 64
    assert torch.equal(batch.presence > 0, echo)
    assert batch.x.abs().max() <= 1 + 1e-6


def test_a_paper_batch_is_the_prepared_synthetic_ascans() -> None:
    batch = SynthStream("paper", 3, 8, SPEC)[2]
    synth = generate("paper", 8, (3, 2, 0), 2048)
    np.testing.assert_array_equal(batch.x.numpy(), Preprocessor(SPEC).batch(synth.x).x)
    np.testing.assert_allclose(batch.onset.numpy(), synth.onset / 32, rtol=1e-6)
    np.testing.assert_allclose(batch.period.numpy(), synth.cycle / 32, rtol=1e-6)


def test_onsets_are_counted_on_the_grid_not_in_the_gate() -> None:
    """Batch 8 of seed 1 is drawn at 1064 samples, under a grid that spans 1120 of them."""
    batch = SynthStream("field", 1, 8, SPEC)[8]
    expected = [24.496658, 21.381893, 2.070787, 42.195515]
    np.testing.assert_allclose(batch.onset[[0, 1, 4, 6]], expected, rtol=1e-5)
    native = generate("field", 8, (1, 8, 0), 1064)
    np.testing.assert_allclose(batch.onset, native.onset * 64 / 1120, rtol=1e-6)
    np.testing.assert_allclose(batch.period, native.cycle * 64 / 1120, rtol=1e-6)


@pytest.mark.parametrize("spec", [SPEC, BLURRED])
def test_worker_processes_deliver_the_same_batches_in_order(spec: SignalSpec) -> None:
    stream, order = SynthStream("field", 1, 4, spec), [3, 0, 7]
    for mine, theirs in zip(batches(stream, order, 0), batches(stream, order, 1), strict=True):
        assert_same(mine, theirs)


# Pools


def small_pool(n: int, batch: int, seed: int = 5) -> PoolStream:
    """Rows that are told apart by their onset."""
    number = torch.arange(n, dtype=torch.float32)
    x = number[:, None].expand(n, 2048)
    return PoolStream(Batch(x, x, number, number, number, number.long()), seed, batch)


@pytest.mark.parametrize(("n", "batch"), [(12, 4), (10, 4), (7, 7), (3, 8)])
def test_a_pool_is_seen_whole_every_epoch_in_another_order(n: int, batch: int) -> None:
    stream = small_pool(n, batch)
    seen = torch.cat([stream[i].onset for i in range(-(-3 * n // batch))])[: 3 * n].view(3, n)
    assert torch.equal(seen.sort(dim=1).values, torch.arange(float(n)).expand(3, n))
    assert len({tuple(epoch.tolist()) for epoch in seen}) == 3
    assert all(len(stream[i]) == batch for i in range(9))


def test_a_pool_gives_a_batch_by_its_number_whatever_was_read_before() -> None:
    stream = small_pool(10, 4)
    straight = [stream[i] for i in range(8)]
    for i in (7, 2, 5):
        assert_same(small_pool(10, 4)[i], straight[i])
    assert not torch.equal(small_pool(10, 4, seed=6)[0].onset, straight[0].onset)
    assert torch.equal(straight[3].x[:, 0], straight[3].onset)


@pytest.mark.parametrize("spec", [SPEC, BLURRED])
def test_a_synthetic_pool_is_the_start_of_the_stream_of_its_seed(spec: SignalSpec) -> None:
    pool = PoolStream.synthetic("field", 300, 4, 8, spec).pool
    stream = SynthStream("field", 4, 256, spec)
    assert_same(pool, Batch.join([stream[0], stream[1].rows(slice(0, 44))]))
    assert len(set(identities(pool))) == 300


@pytest.mark.parametrize("spec", [SPEC, BLURRED])
def test_augmentation_changes_noise_and_polarity_and_nothing_else(spec: SignalSpec) -> None:
    plain = PoolStream.synthetic("paper", 40, 4, 40, spec)
    changed = replace(plain, augment=Augment(0.1, spec.blurring))
    was, drawn, again, later = plain[0], changed[0], changed[0], changed[1]
    assert_same(drawn, again)
    for mine, theirs in zip(drawn[2:], was[2:], strict=True):
        assert torch.equal(mine.nan_to_num(-1), theirs.nan_to_num(-1))
    sign = torch.sign((drawn.clean * was.clean).sum(dim=1))
    rms = (sign[:, None] * drawn.clean - was.clean).square().mean(dim=1).sqrt()
    assert {-1.0, 1.0} == set(sign.tolist())
    assert 0 < rms.min() < 0.03
    assert 0.07 < rms.max() < 0.11
    np.testing.assert_array_equal(drawn.x.numpy(), spec.blurring(drawn.clean.numpy()))
    assert not torch.equal(drawn.clean, later.clean)


def test_fewer_labels_are_some_of_the_more() -> None:
    few, many = (PoolStream.synthetic("paper", n, 4, 8, SPEC).pool for n in (5, 9))
    assert_same(few, many.rows(slice(0, 5)))


# Labelled files


@pytest.fixture
def labelled(tmp_path: Path) -> LabelledSet:
    pytest.importorskip("h5py")
    write_synth(tmp_path / "set.h5", "field", 40, 500, 2)
    return load_labelled(tmp_path / "set.h5")


def test_a_labelled_file_is_drawn_from_by_seed(labelled: LabelledSet) -> None:
    stream = PoolStream.of(labelled, SPEC, 7, 200)
    batch = stream[0]
    assert batch.x.shape == (200, 2048)
    assert_same(batch, stream[0])
    assert not torch.equal(batch.x, stream[1].x)
    assert len(set(identities(batch))) == 40
    prepared = Preprocessor(SPEC).batch(labelled.x)
    np.testing.assert_array_equal(stream.pool.x.numpy(), prepared.x)
    patch = prepared.step * 32
    np.testing.assert_allclose(stream.pool.onset, labelled.tof_s * FS_HZ / patch, rtol=1e-5)
    assert labelled.f0_hz is not None
    np.testing.assert_allclose(stream.pool.period, FS_HZ / labelled.f0_hz / patch, rtol=1e-5)
    assert 0 < int(batch.onset.isnan().sum()) < 200


def test_a_labelled_file_is_blurred_as_its_model_is(labelled: LabelledSet) -> None:
    pool = PoolStream.of(labelled, BLURRED, 7, 4).pool
    np.testing.assert_array_equal(pool.x.numpy(), Preprocessor(BLURRED).batch(labelled.x).x)
    np.testing.assert_array_equal(pool.clean.numpy(), Preprocessor(SPEC).batch(labelled.x).x)


def test_without_a_frequency_the_period_is_unknown(labelled: LabelledSet) -> None:
    pool = PoolStream.of(replace(labelled, f0_hz=None), SPEC, 7, 4).pool
    assert pool.period.isnan().all()


def test_a_labelled_gate_is_counted_from_its_own_start(labelled: LabelledSet) -> None:
    echo = np.flatnonzero(labelled.has_echo)[0]
    start = np.floor(labelled.tof_s[echo] * FS_HZ) - 3
    gate_s = labelled.gate_s.copy()
    gate_s[echo] = [start / FS_HZ, min(200.0, 500 - start) / FS_HZ]
    pool = PoolStream.of(replace(labelled, gate_s=gate_s), SPEC, 0, 1).pool
    assert 3 / 200 * 64 * 0.9 < pool.onset[echo] < 4 / min(200.0, 500 - start) * 64


# Files that are read as they are needed


def write(path: Path, x: NDArray[np.generic], **columns: object) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, values in {"x": x, **columns}.items():
            file[name] = values
    return path


def rows_of(stream: FileStream, file: Batch) -> list[int]:
    """Which rows of ``file`` the first epoch of ``stream`` delivers, in order."""
    known = {row: number for number, row in enumerate(identities(file))}
    return [known[row] for i in range(stream.blocks * stream.block // stream.batch)
            for row in identities(stream[i])]


@pytest.mark.parametrize("spec", [SPEC, BLURRED])
def test_a_file_gives_the_rows_that_its_arrays_give(tmp_path: Path, spec: SignalSpec) -> None:
    pytest.importorskip("h5py")
    write_synth(tmp_path / "set.h5", "plate", 50, 600, 2)
    synth = generate("plate", 50, (2, 0), 600)
    expected = Prepare(spec).counts(synth.x, Truth.of(synth))
    stream = FileStream(tmp_path / "set.h5", 3, 10, spec)
    assert stream.check() == 50
    order = rows_of(stream, expected)
    assert sorted(order) == list(range(50))
    for i in range(5):
        mine, theirs = stream[i], expected.rows(np.array(order[10 * i : 10 * i + 10]))
        torch.testing.assert_close(mine.period, theirs.period, equal_nan=True)
        assert_same(Batch(mine.x, mine.clean, mine.onset, mine.arrival, theirs.period, mine.presence), theirs)


def test_a_file_is_read_in_blocks_once_an_epoch_in_an_order_that_changes(tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(330, 64)).astype(np.float32)
    path = write(tmp_path / "big.h5", x)
    small = SignalSpec(n_samples=128, patch=16)
    stream, known = FileStream(path, 1, 128, small), Prepare(small).clean.batch(x).x
    number = {row.tobytes(): i for i, row in enumerate(known)}
    assert (stream.block, stream.blocks) == (64, 5)
    starts = []
    for i in range(5):
        found = np.array([number[row] for row in identities(stream[i])]).reshape(2, 64)
        assert np.all(np.diff(found, axis=1) == 1)
        starts += found[:, 0].tolist()
    # Two epochs of five blocks; the ten rows after the last whole block are never read.
    assert sorted(starts[:5]) == sorted(starts[5:]) == [0, 64, 128, 192, 256]
    assert starts[:5] != starts[5:]
    assert_same(FileStream(path, 1, 128, small)[3], stream[3])


def test_a_file_of_bare_a_scans_knows_no_labels(tmp_path: Path) -> None:
    x = np.random.default_rng(1).integers(-500, 500, (8, 300)).astype(np.int16)
    batch = FileStream(write(tmp_path / "bare.h5", x), 1, 8, SPEC)[0]
    assert batch.x.shape == (8, 2048)
    assert batch.onset.isnan().all()
    assert batch.period.isnan().all()


@pytest.mark.parametrize("fs_hz", [40e6, np.array([40e6])])
def test_one_frequency_in_a_file_is_that_of_every_row(tmp_path: Path, fs_hz: object) -> None:
    """As in docs/labelled-files.md, which allows it."""
    x = np.random.default_rng(1).integers(-500, 500, (16, 2048)).astype(np.int16)
    stream = FileStream(write(tmp_path / "one.h5", x, fs_hz=fs_hz, f0_hz=2e6), 1, 8, SPEC)
    for index in range(2):
        np.testing.assert_allclose(stream[index].period, 20 / 32)


@pytest.mark.parametrize("unit", [2.0**-60, 2.0**200])
def test_a_file_may_be_in_any_unit(tmp_path: Path, unit: float) -> None:
    x = np.random.default_rng(1).normal(size=(8, 300))
    scaled, plain = (FileStream(write(tmp_path / f"{name}.h5", values), 1, 8, SPEC)[0].x
                     for name, values in (("scaled", x * unit), ("plain", x)))
    assert torch.equal(scaled, plain)
    assert plain.abs().max() == pytest.approx(1.0)


@pytest.mark.parametrize(("name", "values"), [
    ("fs_hz", np.ones(8)), ("f0_hz", np.ones(3)), ("presence", np.ones((8, 1))), ("onset_samples", 1.0)])
def test_a_column_of_another_length_is_refused(tmp_path: Path, name: str, values: object) -> None:
    path = write(tmp_path / "odd.h5", np.ones((8, 300), np.int16), **{name: values})
    with pytest.raises(InputError, match=rf"odd\.h5: {name} has shape .* but x has 8 rows.*leave it out"):
        FileStream(path, 1, 8, SPEC)


@pytest.mark.parametrize("batch", [96, 65])
def test_a_batch_from_a_file_is_whole_blocks(tmp_path: Path, batch: int) -> None:
    path = write(tmp_path / "a.h5", np.zeros((256, 64), np.int16))
    with pytest.raises(InputError, match=rf"batch of {batch} .* blocks of 64 rows.*multiple of 64"):
        FileStream(path, 1, batch, SPEC)


@pytest.mark.parametrize(("rows", "batch"), [(9, 10), (127, 128), (0, 1)])
def test_a_file_smaller_than_a_batch_is_refused(tmp_path: Path, rows: int, batch: int) -> None:
    path = write(tmp_path / "few.h5", np.zeros((rows, 64), np.int16))
    with pytest.raises(InputError, match=rf"few\.h5 has too few A-scans for a batch of {batch}"):
        FileStream(path, 1, batch, SPEC)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_sample_that_is_not_finite_is_found_by_its_row(tmp_path: Path, bad: float) -> None:
    x = np.zeros((2100, 64), np.float32)
    x[2050, 9] = bad
    with pytest.raises(InputError, match=r"nan\.h5 has NaN or infinite samples in row 2050"):
        FileStream(write(tmp_path / "nan.h5", x), 1, 64, SPEC).check()


def test_a_file_of_gates_that_are_too_short_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "short.h5", np.zeros((64, 63), np.int16))
    with pytest.raises(InputError, match="the gate holds 63 samples"):
        FileStream(path, 1, 64, SPEC)


def test_what_is_no_file_of_a_scans_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no HDF5")
    for path, said in ((tmp_path / "text.h5", "cannot be read as HDF5"),
                       (tmp_path / "none.h5", "cannot be read as HDF5"),
                       (write(tmp_path / "flat.h5", np.zeros(64, np.int16)), "has no A-scans x"),
                       (write(tmp_path / "iq.h5", np.ones((64, 64), complex)), "has no A-scans x"),
                       (write(tmp_path / "text_in.h5", np.full((64, 64), b"a")), "has no A-scans x")):
        with pytest.raises(InputError, match=rf"{path.name} {said}.*usedge synth"):
            FileStream(path, 1, 8, SPEC)
