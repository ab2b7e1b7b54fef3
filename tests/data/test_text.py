"""Corpora: numbering, windows that follow each other, a chain of known entropy, and what is refused."""

import numpy as np
import pytest

from bayesjax import data
from bayesjax.data import text


def write(folder, **parts):
    (folder / "ptb").mkdir(exist_ok=True)
    parts = {"train": "the cat sat\nthe dog\n", "valid": "the cat\n", "test": "dog the\n", **parts}
    for name, lines in parts.items():
        (folder / "ptb" / f"ptb.{name}.txt").write_text(lines)
    return str(folder)


def test_words_are_numbered_by_frequency_with_an_end_to_every_line(tmp_path):
    found = data.load_text("ptb", data_dir=write(tmp_path))
    assert found.words == ("<eos>", "the", "cat", "dog", "sat")
    assert found.train.tolist() == [1, 2, 4, 0, 1, 3, 0]
    assert found.validation.tolist() == [1, 2, 0]
    assert found.test.tolist() == [3, 1, 0]


def test_windows_follow_each_other_in_every_stream():
    found = data.text_windows(np.arange(23), num_streams=2, length=3)
    assert found.shape == (3, 4, 2)
    assert found[:, :, 0].tolist() == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    assert found[0, :, 1].tolist() == [11, 12, 13, 14]
    with pytest.raises(ValueError, match="words must be at least 8 for 2 streams of a window of 3; got 7"):
        data.text_windows(np.arange(7), num_streams=2, length=3)


def test_the_chain_has_the_entropy_that_it_says():
    """The empirical entropy of 40 000 transitions of 400 kinds is within 0.02 nats of the exact one."""
    found = data.load_text("synthetic/chain")
    counts = np.zeros((20, 20))
    np.add.at(counts, (found.train[:-1], found.train[1:]), 1)
    rows = counts.sum(axis=1, keepdims=True)
    empirical = -(counts * np.log(np.maximum(counts, 1) / rows)).sum() / counts.sum()
    assert abs(empirical - text.chain_entropy_rate()) < 0.02
    shuffled = np.bincount(found.train) / len(found.train)
    assert -(shuffled * np.log(shuffled)).sum() > text.chain_entropy_rate() + 0.5


def test_characters_of_a_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("ab" * 50)
    found = data.load_text(path)
    assert (len(found.train), len(found.validation), len(found.test)) == (80, 10, 10)
    assert found.words == ("a", "b")


@pytest.mark.parametrize(
    ("parts", "message"),
    [({"valid": ""}, "the validation split is empty"), ({"test": "a bird\n"}, "the test split has the word 'a'")],
)
def test_corpora_that_do_not_fit_are_named(tmp_path, parts, message):
    with pytest.raises(ValueError, match=message):
        data.load_text("ptb", data_dir=write(tmp_path, **parts))


def test_names(tmp_path, monkeypatch):
    monkeypatch.delenv("BAYESJAX_DATA_DIR", raising=False)
    with pytest.raises(data.UnknownDataset, match="expected ptb, synthetic/chain"):
        data.load_text("wiki")
    with pytest.raises(data.DataUnavailable, match="set BAYESJAX_DATA_DIR"):
        data.load_text("ptb")
    with pytest.raises(data.DataUnavailable, match=r"no file .*ptb\.train\.txt"):
        data.load_text("ptb", data_dir=str(tmp_path))
