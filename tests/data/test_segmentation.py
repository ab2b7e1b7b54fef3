"""Segmentation sets: both ways to store images, the ignored label, synthetic shapes, and what is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from bayesjax import data
from bayesjax.data import segmentation
from bayesjax.data.segmentation import load_segmentation

RANDOM = np.random.default_rng(0)


def write(folder, as_jpeg=False, **changed):
    for part in ("train", "val", "test"):
        image = RANDOM.integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
        label = RANDOM.integers(0, 4, (2, 8, 12)).astype(np.uint8)
        label[0, 0, 0] = 3
        arrays = {"image": image, "label": label}
        if as_jpeg:
            files = []
            for each in np.full_like(image, 100):
                buffer = io.BytesIO()
                Image.fromarray(each).save(buffer, "JPEG")
                files.append(np.frombuffer(buffer.getvalue(), np.uint8))
            arrays = {
                "jpeg": np.concatenate(files), "offset": np.cumsum([0, *map(len, files)]), "label": label,
            }  # fmt: skip
        arrays = {name: value for name, value in {**arrays, **changed}.items() if value is not None}
        np.savez(folder / f"{part}.npz", **arrays)
    return str(folder)


def test_images_are_scaled_and_labels_beyond_the_classes_are_one(tmp_path):
    found = load_segmentation(write(tmp_path), num_classes=2)
    assert found.num_classes == 2
    assert set(np.unique(found.train.labels)) == {0, 1, 2}
    assert found.train.images.dtype == np.float32
    assert 0 <= found.train.images.min() <= found.train.images.max() <= 1
    assert found.validation.labels.shape == (2, 8, 12)
    assert load_segmentation(tmp_path.name, data_dir=str(tmp_path.parent)).num_classes == 4


def test_joined_jpegs_are_decoded(tmp_path):
    found = load_segmentation(write(tmp_path, as_jpeg=True))
    np.testing.assert_allclose(found.test.images, np.full((2, 8, 12, 3), 100 / 255), atol=2 / 255)
    with pytest.raises(ValueError, match="declares 576 bytes of pixels; the limit, max_bytes, is 575"):
        segmentation._decoded(*joined(tmp_path), tmp_path, 575)


def joined(folder):
    arrays = data.read_npz(folder / "train.npz")
    return arrays["jpeg"], arrays["offset"]


def test_shapes_are_made_on_the_spot():
    found = load_segmentation("synthetic/shapes")
    assert found.num_classes == 4
    assert set(np.unique(found.train.labels)) == {0, 1, 2, 3}
    bright, dark = (found.train.images[found.train.labels == k].mean() for k in (1, 2))
    assert bright > 0.7 > 0.3 > dark


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label": None}, "must contain label, and either image or jpeg"),
        ({"label": np.zeros((2, 8, 11), int)}, r"label must be integers \[num, height, width\]"),
        ({"image": None, "jpeg": np.zeros(10, np.uint8), "offset": np.array([0, 5, 10])}, "jpeg cannot be read"),
        ({"image": None, "jpeg": np.zeros(10, np.uint8), "offset": np.array([0.0, 5.0])}, "offset integers"),
        ({"label": np.full((2, 8, 12), 255, np.uint8)}, "got 255 .. 255 with no example of class 0"),
        ({"label": np.zeros((2, 8, 12), complex)}, "label must be integers"),
        ({"image": np.full((2, 8, 12, 3), 255.0)}, r"image must hold uint8 images or floats in \[0, 1\]"),
        ({"image": np.zeros((2, 8, 12, 3), complex)}, "image must hold real numbers"),
        ({"image": np.zeros((2, 8, 12, 16))}, "with 1 to 4 channels"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        load_segmentation(write(tmp_path, **changed))


def test_names_and_labels(tmp_path):
    with pytest.raises(data.UnknownDataset, match="expected synthetic/shapes or a folder"):
        load_segmentation("nowhere")
    with pytest.raises(ValueError, match=r"no file .*train\.npz"):
        load_segmentation(str(tmp_path))
    with pytest.raises(ValueError, match="labels must be at least 0, and num_classes at least 2; got 0 and 1"):
        load_segmentation(write(tmp_path), num_classes=1)
    (tmp_path / "train.npz").write_text("no archive")
    with pytest.raises(ValueError, match=r"train\.npz is not a readable \.npz file"):
        load_segmentation(str(tmp_path))
