"""Labelled A-scan files: what comes back from them, and what is refused with which words."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usedge.ascan import cut_gate
from usedge.errors import InputError, MissingExtraError
from usedge.labelled import load_labelled, load_rows

N, SAMPLES, FS_HZ, T0_S = 3, 200, 10e6, 5e-6
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def arrays(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    content = {
        "x": rng.integers(-500, 500, (N, SAMPLES)).astype(np.int16), "fs_hz": FS_HZ, "t0_s": T0_S,
        "f0_hz": 1e6, "tof_s": np.array([12e-6, np.nan, 15e-6]),
        "gate_s": np.array([[10e-6, 8e-6], [5e-6, 20e-6], [14e-6, 4e-6]]), "label_point": "onset",
        "source": "a tank",
    } | changes
    return {name: value for name, value in content.items() if value is not None}


def npz(folder: Path, **changes: Any) -> Path:
    path = folder / "set.npz"
    np.savez(path, **arrays(**changes))
    return path


def hdf5(folder: Path, **changes: Any) -> Path:
    h5py = pytest.importorskip("h5py")
    path = folder / "set.h5"
    with h5py.File(path, "w") as file:
        for name, value in arrays(**changes).items():
            file[name] = value
    return path


@pytest.mark.parametrize("write", [npz, hdf5])
def test_a_file_comes_back_as_it_was_written(tmp_path: Path, write: Any) -> None:
    path, written = write(tmp_path), arrays()
    loaded = load_labelled(path)
    assert len(loaded) == N
    assert loaded.x.dtype == np.int16
    np.testing.assert_array_equal(loaded.x, written["x"])
    assert (loaded.fs_hz, loaded.t0_s, loaded.label_point, loaded.source) == (FS_HZ, T0_S, "onset", "a tank")
    np.testing.assert_array_equal(loaded.tof_s, written["tof_s"])
    np.testing.assert_allclose(loaded.gate_s, written["gate_s"], rtol=1e-12)
    np.testing.assert_array_equal(loaded.f0_hz, [1e6] * N)
    np.testing.assert_array_equal(loaded.has_echo, [True, False, True])
    assert loaded.path == path


def test_a_row_is_cut_at_its_gate(tmp_path: Path) -> None:
    loaded = load_labelled(npz(tmp_path))
    cut = cut_gate(loaded.ascan(2), loaded.gate(2))
    assert cut.samples.dtype == np.int16
    np.testing.assert_array_equal(cut.samples, loaded.x[2, 90:130])
    assert cut.t0_us == pytest.approx(14.0)
    assert cut.fs_hz == FS_HZ


def test_what_is_optional_may_be_missing(tmp_path: Path) -> None:
    loaded = load_labelled(npz(tmp_path, f0_hz=None, gate_s=None, label_point=None, source=None))
    assert loaded.f0_hz is None
    assert (loaded.label_point, loaded.source) == ("onset", "")
    for i in range(N):
        np.testing.assert_array_equal(cut_gate(loaded.ascan(i), loaded.gate(i)).samples, loaded.x[i])


def test_each_row_may_have_its_own_centre_frequency(tmp_path: Path) -> None:
    np.testing.assert_array_equal(load_labelled(npz(tmp_path, f0_hz=[1e6, 2e6, 3e6])).f0_hz, [1e6, 2e6, 3e6])


def test_a_gate_rounded_just_over_the_edge_is_the_edge(tmp_path: Path) -> None:
    gate_s = np.array([[5e-6 - 1e-11, 20e-6 + 2e-11]] * N)
    loaded = load_labelled(npz(tmp_path, gate_s=gate_s))
    assert len(cut_gate(loaded.ascan(0), loaded.gate(0)).samples) == SAMPLES


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint8])
def test_whole_numbers_stay_counts(tmp_path: Path, dtype: Any) -> None:
    x = np.abs(arrays()["x"]) // 4
    loaded = load_labelled(npz(tmp_path, x=x.astype(dtype)))
    assert loaded.x.dtype == dtype
    np.testing.assert_array_equal(loaded.ascan(1).samples, x[1])


@pytest.mark.parametrize("scale", [0.001, 1e-9, 1e6])
def test_other_numbers_are_scaled_to_full_scale(tmp_path: Path, scale: float) -> None:
    x = arrays()["x"] * scale * 1.0003
    samples = load_labelled(npz(tmp_path, x=x)).ascan(0).samples.astype(float)
    centred = x[0] - np.median(x[0])
    assert np.abs(samples).max() == 32767
    np.testing.assert_allclose(samples / 32767, centred / np.abs(centred).max(), atol=1e-4)


BAD = [
    ({"x": None}, "no array 'x'; it has: fs_hz, t0_s"),
    ({"tof_s": None}, "no array 'tof_s'"),
    ({"t0_s": None}, "no array 't0_s'"),
    ({"fs_hz": None}, "no array 'fs_hz'"),
    ({"x": np.zeros(5, np.int16)}, "x has shape (5,)"),
    ({"x": np.zeros((0, 5), np.int16)}, "x has shape (0, 5)"),
    ({"x": np.zeros((N, SAMPLES), complex)}, "x is of type complex128"),
    ({"x": np.full((N, SAMPLES), np.nan)}, "NaN or infinity in row 0"),
    ({"x": np.array([[0.0] * SAMPLES, [0.0] * SAMPLES, [np.inf] * SAMPLES])}, "NaN or infinity in row 2"),
    ({"fs_hz": 0.0}, "fs_hz is 0"),
    ({"fs_hz": -1e6}, "fs_hz is -1e+06"),
    ({"fs_hz": np.nan}, "fs_hz is nan"),
    ({"fs_hz": [1e6, 2e6]}, "fs_hz has shape (2,)"),
    ({"t0_s": np.inf}, "t0_s is inf"),
    ({"f0_hz": 5e6}, "centre frequency of 5e+06 Hz"),
    ({"f0_hz": [1e6, 0.0, 1e6]}, "centre frequency of 0 Hz"),
    ({"f0_hz": [1e6, 1e6]}, "f0_hz has shape (2,)"),
    ({"tof_s": np.array([12e-6, np.nan])}, "tof_s has shape (2,)"),
    ({"tof_s": np.array([12e-6, np.nan, 30e-6])}, "label of row 2 (30 µs) is outside its gate (14 to 18 µs)"),
    ({"tof_s": np.array([np.inf, np.nan, 15e-6])}, "label of row 0"),
    ({"tof_s": np.array(["a", "b", "c"])}, "tof_s is of type <U1"),
    ({"gate_s": np.array([[10e-6, 8e-6]])}, "gate_s has shape (1, 2)"),
    ({"gate_s": np.array([[10e-6, 8e-6], [4e-6, 2e-6], [14e-6, 4e-6]])}, "gate of row 1 (4 µs, 2 µs wide)"),
    ({"gate_s": np.array([[10e-6, 8e-6], [5e-6, 2e-6], [14e-6, 40e-6]])}, "gate of row 2"),
    ({"gate_s": np.array([[10e-6, 8e-6], [5e-6, 0.0], [14e-6, 4e-6]])}, "gate of row 1"),
    ({"gate_s": np.array([[10e-6, 8e-6], [np.nan, 1e-6], [14e-6, 4e-6]])}, "gate of row 1"),
    ({"label_point": "middle"}, "label_point is 'middle'"),
    ({"source": 3.5}, "source is not a text"),
]


@pytest.mark.parametrize(("changes", "words"), BAD, ids=lambda value: str(value)[:40])
def test_bad_content_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        load_labelled(npz(tmp_path, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("changes", "words"), [({"fs_hz": None}, "no array 'fs_hz'"),
                                                ({"tof_s": np.zeros(2)}, "tof_s has shape (2,)"),
                                                ({"source": 3.5}, "source is not a text")])
def test_bad_hdf5_content_is_refused_likewise(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        load_labelled(hdf5(tmp_path, **changes))


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read.*Pickled arrays are refused"):
        load_labelled(npz(tmp_path, tof_s=np.array([12e-6, None, 15e-6], object)))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"\x93NUMPY", b"text"])
@pytest.mark.parametrize("name", ["a.npz", "a.h5"])
def test_files_of_another_kind_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    if name.endswith("h5"):
        pytest.importorskip("h5py")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="cannot be read") as caught:
        load_labelled(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_single_array_is_no_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"one \.npy array"):
        load_labelled(tmp_path / "a.npz")


def test_missing_files_and_other_endings_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        load_labelled(tmp_path / "none.npz")
    with pytest.raises(InputError, match=r"neither \.npz nor \.h5"):
        load_labelled(tmp_path / "a.csv")


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 4000), position=st.integers(0, 4000), value=st.integers(0, 255))
def test_a_damaged_file_never_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, cut: int,
                                                  position: int, value: int) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    content = bytearray(npz(folder).read_bytes())
    content[position % len(content)] = value
    (folder / "set.npz").write_bytes(content[: len(content) - (cut if cut % 2 else 0)])
    try:
        load_labelled(folder / "set.npz")
    except InputError:
        return


def test_hdf5_without_h5py_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'usedge\[hdf5\]'"):
        load_labelled(tmp_path / "a.h5")


def test_rows_of_any_file_need_only_x_and_fs(tmp_path: Path) -> None:
    np.savez(tmp_path / "raw.npz", x=np.ones((2, 9), np.int8), fs_hz=4e6, t0_s=np.nan)
    rows = load_rows(tmp_path / "raw.npz")
    assert rows.x.shape == (2, 9)
    assert (rows.fs_hz, rows.t0_s, rows.tof_s, rows.f0_hz) == (4e6, 0.0, None, None)


@pytest.mark.parametrize("write", [npz, hdf5])
def test_rows_are_found_by_the_names_that_files_use(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path, tof_s=None, f0_hz=None, fc_hz_est=2e6, tof_onset_s=7e-6, traces=np.ones((4, 20)))
    rows = load_rows(path)
    np.testing.assert_array_equal(rows.tof_s, [7e-6] * N)
    np.testing.assert_array_equal(rows.f0_hz, [2e6] * N)
    assert load_rows(path, x_name="traces").x.shape == (4, 20)
    with pytest.raises(InputError, match=r"no array 'rf'; it has: .*traces"):
        load_rows(path, x_name="rf")


def test_one_of_several_columns_of_labels_is_chosen(tmp_path: Path) -> None:
    tof_s = np.arange(2.0 * N).reshape(N, 2) * 1e-6
    path = npz(tmp_path, tof_s=None, tof_onset_model_s=tof_s, mine=tof_s[:, ::-1])
    assert load_rows(path).tof_s is None
    np.testing.assert_array_equal(load_rows(path, column=1).tof_s, tof_s[:, 1])
    np.testing.assert_array_equal(load_rows(path, tof_name="mine", column=1).tof_s, tof_s[:, 0])
    for column in (None, 2, -1):
        with pytest.raises(InputError, match="Choose one: 0 to 1"):
            load_rows(path, tof_name="mine", column=column)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the recorded A-scans (../shared/data) are not here")
def test_every_recorded_file_can_be_read() -> None:
    recorded = sorted(path for path in SHARED.glob("*/*.npz") if path.parent.name != "eval")
    assert len(recorded) > 10
    for path in recorded:
        rows = load_rows(path)
        assert rows.x.ndim == 2
        assert rows.fs_hz > 1e6
    for path in sorted((SHARED / "eval").glob("*.npz")):
        loaded = load_labelled(path)
        assert all(len(cut_gate(loaded.ascan(i), loaded.gate(i)).samples) > 50 for i in range(len(loaded)))
