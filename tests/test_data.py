"""Data: files in and out, malformed files by name and field, splits, standardisation, teachers."""

from __future__ import annotations

import gzip
import struct
import sys

import numpy as np
import pytest

import dln

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx(array):
    """An IDX file by its specification: 0 0, type, number of axes, big-endian sizes, big-endian numbers."""
    code = CODES[array.dtype.str[1:]]
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, code, array.ndim]) + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("compressed", [False, True])
def test_idx_files_of_every_type_are_read(tmp_path, kind, compressed):
    rng = np.random.default_rng(0)
    images = (100 * rng.normal(size=(7, 3, 4))).astype(kind)
    labels = rng.integers(10, size=7).astype("u1")
    write = gzip.compress if compressed else bytes
    for name, array in (("images", images), ("labels", labels)):
        (tmp_path / name).write_bytes(write(idx(array)))
    found = dln.data.read_idx(tmp_path / "images")
    np.testing.assert_array_equal(found, images)
    assert found.dtype == images.dtype
    X, y = dln.data.read(tmp_path / "images", tmp_path / "labels")
    np.testing.assert_array_equal(X, images)
    np.testing.assert_array_equal(y, labels)
    assert X.dtype == np.float64
    assert y.dtype == np.int64


GOOD = idx(np.arange(24, dtype="u1").reshape(2, 3, 4))
MALFORMED = {
    "magic number, got bytes 01 00 08 03": b"\1" + GOOD[1:],
    "magic number, got bytes none": b"",
    "type, got code 0x07": GOOD[:2] + b"\7" + GOOD[3:],
    "dimensions, got 0": GOOD[:3] + b"\0",
    "dimensions, got 3 in 10 bytes": GOOD[:10],
    r"data, got 23 bytes where shape \(2, 3, 4\) takes 24": GOOD[:-1],
    "data, got 25 bytes": GOOD + b"\0",
    r"data, got 0 bytes where shape \(0,\)": bytes([0, 0, 8, 1, 0, 0, 0, 0]),
    "content, which cannot be read": gzip.compress(GOOD)[:-9],
}


@pytest.mark.parametrize("message", MALFORMED)
def test_malformed_idx_files_are_refused(tmp_path, message):
    path = tmp_path / "images"
    path.write_bytes(MALFORMED[message])
    with pytest.raises(ValueError, match=f"images' must have a valid {message}"):
        dln.data.read_idx(path)


def test_labels_must_fit_their_images(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(GOOD)
    labels.write_bytes(idx(np.arange(3, dtype="u1")))
    with pytest.raises(ValueError, match="labels' must have a valid count, got 3 labels for 2 samples"):
        dln.data.read(images, labels)
    with pytest.raises(ValueError, match="images' must have a valid number of axes, got 3"):
        dln.data.read(images, images)
    with pytest.raises(ValueError, match="`labels` must be the IDX file"):
        dln.data.read(images)
    with pytest.raises(FileNotFoundError, match="`labels` must be a file"):
        dln.data.read(images, tmp_path / "nothing")


def test_csv_files(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("height;weight;kind\n1.5;2;0\n2.5;3;1\n")
    X, y = dln.data.read(path)
    assert X.tolist() == [[1.5, 2.0], [2.5, 3.0]]
    assert y.tolist() == [0, 1]
    assert y.dtype == np.int64
    X, y = dln.data.read(path, column=0)
    assert X.tolist() == [[2.0, 0.0], [3.0, 1.0]]
    assert y.tolist() == [1.5, 2.5]
    refused = {
        "1,2,0\n1,,1\n": "data.csv' must have a valid cell everywhere, got an empty one in row 2, column 2",
        "1,2,0\n1,2\n": "2 cells in line 2 after 3 in line 1",
        "1,2,0\n1,x,1\n": "'x' in line 2, cell 2",
        "1\n2\n": "valid column of labels",
    }
    for text, message in refused.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            dln.data.read(path)
    path.write_text("1,2\n3,4\n")
    with pytest.raises(ValueError, match="`column` must be at most 1"):
        dln.data.read(path, column=2)
    with pytest.raises(ValueError, match=r"`labels` must be None for a \.csv file"):
        dln.data.read(path, path)


def test_npz_files(tmp_path):
    path = tmp_path / "data.npz"
    samples = np.arange(12.0).reshape(3, 2, 2)
    np.savez(path, X=samples, y=np.array([0, 1, 0]))
    X, y = dln.data.read(path)
    np.testing.assert_array_equal(X, samples)
    assert y.tolist() == [0, 1, 0]
    refused = {
        "array 'y', got \\['X'\\]": {"X": samples},
        "number of labels 'y', got shapes": {"X": samples, "y": np.zeros(2)},
        r"\[X\]` must be finite": {"X": samples * np.nan, "y": np.zeros(3)},
        r"\[y\]` must be an array of real numbers": {"X": samples, "y": np.array(["a", "b", "c"])},
    }
    for message, arrays in refused.items():
        np.savez(path, **arrays)
        with pytest.raises((ValueError, TypeError), match=message):
            dln.data.read(path)
    np.savez(path, X=np.array([None]), y=np.zeros(1))
    for content in (path.read_bytes(), path.read_bytes()[:50], b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"data\.npz' must have a valid content, which cannot be read"):
            dln.data.read(path)


@pytest.mark.parametrize(("name", "sizes"), [("digits", (1437, 360)), ("breast_cancer", (455, 114))])
def test_bundled_data(name, sizes):
    data = getattr(dln.data, name)()
    assert (len(data.X), len(data.X_test)) == (len(data.y), len(data.y_test)) == sizes
    np.testing.assert_allclose(data.X.mean(axis=0), 0.0, atol=1e-12)
    deviation = data.X.std(axis=0)
    np.testing.assert_allclose(deviation[deviation > 0], 1.0, rtol=1e-12)
    again, other = getattr(dln.data, name)(), getattr(dln.data, name)(rng=1)
    np.testing.assert_array_equal(data.X, again.X)
    assert not np.array_equal(data.y, other.y)
    assert data.test[0] is data.X_test


def test_digits_as_images():
    flat, images = dln.data.digits(), dln.data.digits(images=True)
    assert images.X.shape == (1437, 1, 8, 8)
    np.testing.assert_array_equal(images.X.reshape(-1, 64), flat.X)


def test_missing_scikit_learn_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install 'dln\[data\]'"):
        dln.data.digits()


def test_split_keeps_every_sample_once():
    X, y = np.arange(23.0)[:, None], np.arange(23)
    data = dln.data.split(X, y, test_fraction=0.3, rng=3)
    assert len(data.y_test) == 7
    assert sorted([*data.y, *data.y_test]) == list(range(23))
    np.testing.assert_array_equal(data.X[:, 0], data.y)
    np.testing.assert_array_equal(data.X_test[:, 0], data.y_test)
    with pytest.raises(ValueError, match="`test_fraction` must leave samples"):
        dln.data.split(X, y, test_fraction=0.99)
    with pytest.raises(ValueError, match="as many samples"):
        dln.data.split(X, y[:-1])


def test_standardise_leaves_constant_features_alone():
    X, Z = dln.data.standardise([[1.0, 5.0], [3.0, 5.0]], [[2.0, 6.0]])
    assert X.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert Z.tolist() == [[0.0, 1.0]]
    with pytest.raises(ValueError, match="samples as in X"):
        dln.data.standardise(np.eye(2), np.eye(3))


def test_teachers():
    data = dln.data.teacher(12, 5, 200, rank=2, labels=False, rng=0)
    map_, residual, *_ = np.linalg.lstsq(data.X, data.y, rcond=None)
    assert residual.max() < 1e-20
    assert np.linalg.matrix_rank(map_, tol=1e-10) == 2
    np.testing.assert_allclose(data.X_test @ map_, data.y_test, atol=1e-12)
    noisy = dln.data.teacher(12, 5, 2000, rank=2, labels=False, noise=0.5, rng=0)
    rest = noisy.y - noisy.X @ np.linalg.lstsq(noisy.X, noisy.y, rcond=None)[0]
    assert rest.std() == pytest.approx(0.5, rel=0.05)
    labelled = dln.data.teacher(12, 5, 200, hidden=20, rng=0)
    assert labelled.y.shape == (160,)
    assert set(labelled.y) <= set(range(5))
    with pytest.raises(ValueError, match="`rank` must be at most 5"):
        dln.data.teacher(12, 5, 200, rank=6)
