"""Folders of PNG and JPEG images: layouts, splits, sizes, colours, the disk cache, and errors."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bayesjax import data


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def image(value, height=6, width=4, channels=None):
    return np.full((height, width) if channels is None else (height, width, channels), value, np.uint8)


@pytest.fixture
def animals(tmp_path):
    """Twenty cats with pixels 0 to 19, and ten dogs with pixels 100 to 109."""
    for i in range(20):
        write(tmp_path / "animals" / "cat" / f"{i:02d}.png", image(i))
    for i in range(10):
        write(tmp_path / "animals" / "dog" / f"{i:02d}.PNG", image(100 + i))
    (tmp_path / "animals" / "dog" / ".hidden.png").write_text("no image")
    (tmp_path / "animals" / "notes.txt").write_text("no image")
    return f"{tmp_path / 'animals'}/"


def test_classes_and_a_tenth_of_each_for_the_test(animals):
    """Every image is in one split, with its class; pixels are those of the files; the split is always the same."""
    dataset = data.load(animals)
    assert dataset.num_classes == 2 and dataset.class_names == ("cat", "dog") and dataset.input_shape == (6, 4, 1)
    assert len(dataset.train) == 27 and np.bincount(dataset.test.labels).tolist() == [2, 1]
    values = np.concatenate([part.inputs[:, 0, 0, 0] for part in (dataset.train, dataset.test)]) * 255
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    np.testing.assert_array_equal(labels, values >= 99.5)
    np.testing.assert_allclose(np.sort(values), [*range(20), *range(100, 110)], atol=1e-3)
    assert dataset.train.inputs.dtype == np.float32 and dataset.train.labels.dtype == np.int32
    np.testing.assert_array_equal(data.load(animals).test.inputs, dataset.test.inputs)


def test_splits_of_the_folder(tmp_path):
    """Folders train and test are the splits; a folder without classes has no labels."""
    for split, num in (("train", 3), ("test", 2)):
        for name in ("a", "b"):
            for i in range(num):
                write(tmp_path / "labelled" / split / name / f"{i}.png", image(10 * i))
        for i in range(num):
            write(tmp_path / "plain" / split / f"{i}.jpg", image(10 * i))
    labelled, plain = (data.load(f"{tmp_path / name}/") for name in ("labelled", "plain"))
    assert labelled.train.labels.tolist() == [0, 0, 0, 1, 1, 1] and labelled.test.labels.tolist() == [0, 0, 1, 1]
    assert len(plain.train) == 3 and len(plain.test) == 2 and plain.num_classes == 0 and plain.train.labels.size == 0
    for i in range(20):
        write(tmp_path / "loose" / f"{i:02d}.png", image(i))
    assert len(data.load(f"{tmp_path / 'loose'}/").test) == 2


def test_sizes_and_colours(tmp_path):
    """Images of several sizes need `size`; one colour image makes all of them RGB."""
    folder = f"{tmp_path / 'mixed'}/"
    write(tmp_path / "mixed" / "a.png", image(50, 8, 8))
    write(tmp_path / "mixed" / "b.png", image(60, 4, 6, channels=3))
    with pytest.raises(ValueError, match=r"images of . x . \(.\.png\) and of . x . \(.\.png\) pixels: pass") as error:
        data.load(folder)
    assert "\n" not in str(error.value)
    dataset = data.load(folder, size=(4, 2))
    assert dataset.input_shape == (4, 2, 3)
    pixels = np.concatenate([dataset.train.inputs, dataset.test.inputs])
    np.testing.assert_allclose(np.sort(pixels.reshape(2, -1) * 255, axis=0), [[50] * 24, [60] * 24], atol=1e-3)
    assert data.load(folder, size=5).input_shape == (5, 5, 3)


def test_rows_and_columns_keep_their_places(tmp_path):
    """A dark left and a bright right half stay where they are when the image is resized."""
    halves = np.repeat([[0, 200]], 8, axis=0).repeat(10, axis=1)
    for i in range(2):
        write(tmp_path / "halves" / f"{i}.png", halves)
    (image,) = data.load(f"{tmp_path / 'halves'}/", size=(4, 6)).test.inputs
    assert image.shape == (4, 6, 1)
    np.testing.assert_allclose(255 * image[:, [0, 5], 0], [[0, 200]] * 4, atol=1e-3)


def test_a_second_call_reads_the_arrays_from_the_disk(animals, tmp_path, monkeypatch):
    """Equal bits without reading an image; a changed image is read again."""
    monkeypatch.setenv("BAYESJAX_CACHE_DIR", str(tmp_path / "cache"))
    first = data.load(animals)
    with monkeypatch.context() as patched:
        patched.setattr(Image, "open", lambda *args: pytest.fail("an image was read"))
        second = data.load(animals)
    np.testing.assert_array_equal(first.train.inputs, second.train.inputs)
    assert second.class_names == first.class_names
    write(tmp_path / "animals" / "cat" / "00.png", image(77))
    third = data.load(animals)
    assert 77 in np.round(255 * np.concatenate([third.train.inputs, third.test.inputs])[:, 0, 0, 0])


def test_sixteen_bits_are_scaled(tmp_path):
    """Pixels of 16 bits keep their order; converted by PIL they would all be white."""
    (tmp_path / "deep").mkdir()
    for i in range(2):
        Image.fromarray(np.full((4, 4), 256 * (40 + i), np.uint16)).save(tmp_path / "deep" / f"{i}.png")
    dataset = data.load(f"{tmp_path / 'deep'}/")
    values = {round(255 * float(part.inputs[0, 0, 0, 0])) for part in (dataset.train, dataset.test)}
    assert values == {40, 41} and dataset.input_shape == (4, 4, 1)


def test_linked_folders_are_read_again_when_they_change(tmp_path, monkeypatch):
    """The fingerprint follows links."""
    monkeypatch.setenv("BAYESJAX_CACHE_DIR", str(tmp_path / "cache"))
    for i in range(2):
        write(tmp_path / "real" / f"{i}.png", image(10))
    (tmp_path / "linked").mkdir()
    for name in ("a", "b"):
        (tmp_path / "linked" / name).symlink_to(tmp_path / "real")
    data.load(f"{tmp_path / 'linked'}/")
    for i in range(2):
        write(tmp_path / "real" / f"{i}.png", image(200, height=7))
    assert data.load(f"{tmp_path / 'linked'}/").input_shape == (7, 4, 1)


ERRORS = {
    "no folder": ({}, {}),
    "at least 1 PNG or JPEG images; got 0": ({"a/x.txt": None}, {}),
    "cat must have at least 2 examples, for two splits; got 1": ({"cat/0.png": image(0), "dog/0.png": image(0)}, {}),
    "it has 0.png beside cat/": ({"cat/0.png": image(0), "0.png": image(0)}, {}),
    "must have both folders train and test, or neither; it has train": ({"train/cat/0.png": image(0)}, {}),
    "must have the same classes; got cat and dog": ({"train/cat/0.png": image(0), "test/dog/0.png": image(0)}, {}),
    "0.png is not a readable image": ({"0.png": None, "1.png": image(0)}, {}),
    "size must be one or two integers of at least 1; got 0": ({"0.png": image(0), "1.png": image(0)}, {"size": 0}),
    "would take 48 bytes; max_bytes is 10": ({"0.png": image(0), "1.png": image(0)}, {"max_bytes": 10}),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors(message, tmp_path):
    """Wrong folders give one line that says what came and what was expected."""
    files, options = ERRORS[message]
    for name, pixels in files.items():
        if pixels is not None:
            write(tmp_path / "folder" / name, pixels)
        else:
            (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "folder" / name).write_text("no image")
    with pytest.raises((ValueError, OSError), match=message) as error:
        data.load(f"{tmp_path / 'folder'}/", **options)
    assert "\n" not in str(error.value)


def test_paths_and_a_missing_slash(animals, monkeypatch):
    folder = Path(animals)
    np.testing.assert_array_equal(data.load(folder).train.inputs, data.load(f"{folder}/").train.inputs)
    np.savez(folder.parent / "images.npz", x_train=np.zeros((2, 3, 4, 3)), x_test=np.zeros((1, 3, 4, 3)))
    assert data.load(folder.parent / "images.npz").input_shape == (3, 4, 3)
    monkeypatch.chdir(folder.parent)
    with pytest.raises(data.UnknownDataset, match=f"write '{folder.name}/' for the folder of images"):
        data.load(folder.name)


def test_size_is_for_folders():
    with pytest.raises(
        ValueError, match="size is an argument for folders, whose names end with a slash; got 8 for 'digits'"
    ):
        data.load("digits", size=8)
