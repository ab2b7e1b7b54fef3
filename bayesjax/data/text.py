"""`load_text(name) -> TextDataset`: words as numbers, and windows of parallel streams for truncated back-propagation.

    synthetic/chain     a generated Markov chain over 20 words with a known entropy rate
    ptb                 ptb.train.txt, ptb.valid.txt and ptb.test.txt in `ptb/` of the data folder: words separated by
                        spaces, with an end-of-sentence word after each line
    path/to/file.txt    characters; the last tenth is the test split, and the tenth before it the validation split

Read `models/recurrent.py` next.
"""

import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bayesjax import checks
from bayesjax.data.dataset import data_folder
from bayesjax.data.errors import DataUnavailable, UnknownDataset
from bayesjax.data.files import read_text

END = "<eos>"


@dataclass(frozen=True)
class TextDataset:
    """A text as a sequence of word numbers.

    Attributes:
      name: the name that was given to `load_text`.
      train, validation, test: word numbers of each split, int32 `[num]`.
      words: the vocabulary; words[i] is word number i.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    words: tuple[str, ...]


def load_text(name: str | Path, *, data_dir: str | None = None) -> TextDataset:
    """Loads a text by name.

    Args:
      name: "synthetic/chain", "ptb" or the path of a .txt file, whose characters are then the words.
      data_dir: the folder that contains `ptb/`; the default is `BAYESJAX_DATA_DIR`.

    Returns:
      The text with its vocabulary. Words are numbered by decreasing frequency in the training split.

    Raises:
      UnknownDataset: if there is no text of that name.
      DataUnavailable: if no data folder is given, or the text is not in it.
      FileNotFoundError: if the .txt file does not exist.
      ValueError: if a file is not in UTF-8, if a split is empty, or if a split has words that do not occur in training.
    """
    name = str(name)
    if name == "synthetic/chain":
        return _chain()
    if name.endswith(".txt"):
        return _characters(Path(name))
    if name != "ptb":
        raise UnknownDataset(f"unknown corpus {name!r}: expected ptb, synthetic/chain or a path ending in .txt")
    root = data_folder(name, data_dir, "ptb/")
    parts = [root / "ptb" / f"ptb.{part}.txt" for part in ("train", "valid", "test")]
    if absent := [path for path in parts if not path.is_file()]:
        raise DataUnavailable(f"corpus {name!r}: no file {absent[0]}")
    return _numbered(name, *(_split_lines(read_text(path)) for path in parts))


def _split_lines(text: str) -> list[str]:
    return [word for line in io.StringIO(text) for word in (*line.split(), END)]


def text_windows(words: np.ndarray, num_streams: int, length: int) -> np.ndarray:
    """Cuts a text into parallel streams and each stream into consecutive windows, for truncated back-propagation.

    Words after the last whole window are dropped.

    Args:
      words: word numbers, `[num]`.
      num_streams: number of parts of the text that are read in parallel.
      length: number of predicted words per window.

    Returns:
      `[num_windows, length + 1, num_streams]`. The inputs of a window are `window[:-1]`, and the targets, which are
      the next words, are `window[1:]`.

    Raises:
      ValueError: if the text is too short for one window, or a count is below 1.
    """
    checks.count(num_streams=num_streams, length=length)
    num_windows = (len(words) // num_streams - 1) // length
    if num_windows < 1:
        raise ValueError(
            f"words must be at least {num_streams * (length + 1)} for {num_streams} streams of a window of {length}; "
            f"got {len(words)}"
        )
    streams = words[: len(words) // num_streams * num_streams].reshape(num_streams, -1).T
    return np.stack([streams[i * length : (i + 1) * length + 1] for i in range(num_windows)])


def chain_transition_matrix() -> np.ndarray:
    """Returns the transition probabilities `[20, 20]` of `synthetic/chain`, from rows to columns."""
    return np.random.default_rng(0).dirichlet(np.full(20, 0.1), size=20) * 0.98 + 0.001


def chain_entropy_rate() -> float:
    """Returns the entropy rate of `synthetic/chain` in nats per word, the lowest expected loss of any model."""
    matrix = chain_transition_matrix()
    values, vectors = np.linalg.eig(matrix.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    stationary /= stationary.sum()
    return float(-(stationary[:, None] * matrix * np.log(matrix)).sum())


def _chain(num: int = 60_000) -> TextDataset:
    cumulative, random = chain_transition_matrix().cumsum(axis=1), np.random.default_rng(1)
    words, word = np.empty(num, np.int32), 0
    for i, u in enumerate(random.random(num)):
        word = min(int(np.searchsorted(cumulative[word], u)), 19)
        words[i] = word
    names = tuple(chr(ord("a") + i) for i in range(20))
    return TextDataset(
        "synthetic/chain", words[: num // 3 * 2], words[num // 3 * 2 : num // 6 * 5], words[num // 6 * 5 :], names
    )


def _characters(path: Path) -> TextDataset:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: expected a text file")
    text = list(read_text(path))
    tenth = len(text) // 10
    return _numbered(
        str(path),
        text[: -2 * tenth or None],
        text[len(text) - 2 * tenth : len(text) - tenth],
        text[len(text) - tenth :],
    )


def _numbered(name: str, train: list[str], validation: list[str], test: list[str]) -> TextDataset:
    """Numbers the words by decreasing frequency in the training split."""
    counts = Counter(train)
    words = tuple(sorted(counts, key=lambda word: (-counts[word], word)))
    number = {word: i for i, word in enumerate(words)}
    parts = {"train": train, "validation": validation, "test": test}
    for part, values in parts.items():
        if not values:
            raise ValueError(f"corpus {name!r}: the {part} split is empty")
        if unseen := [word for word in values if word not in number]:
            raise ValueError(
                f"corpus {name!r}: the {part} split has the word {unseen[0]!r}, which does not occur in training"
            )
    arrays = [np.array([number[word] for word in values], np.int32) for values in parts.values()]
    return TextDataset(name, arrays[0], arrays[1], arrays[2], words)
