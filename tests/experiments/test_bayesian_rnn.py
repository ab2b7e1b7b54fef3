"""The Bayesian language model: log probabilities of words, perplexity, the order of windows, and the optimisers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import bayesian_rnn

pytestmark = pytest.mark.usefixtures("compile_once")


class Unigram:
    """A language model whose logits are its parameters; its state counts the words."""

    def initial_carry(self, shape):
        return jnp.zeros(shape)

    def apply(self, variables, words, carry):
        return jnp.broadcast_to(variables["params"], (*words.shape, len(variables["params"]))), carry + len(words)


def test_log_probabilities_are_of_the_following_words():
    """Each word but the first is scored by the logits at the word before it."""
    logits = np.random.default_rng(0).normal(size=(2, 1, 3)).astype(np.float32)
    found = bayesian_rnn.log_probs(jnp.asarray(logits), jnp.array([[0], [2], [1]]))
    expected = [np.log(np.exp(row[word]) / np.exp(row).sum()) for row, word in zip(logits[:, 0], (2, 1), strict=True)]
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)


def test_perplexity():
    """A uniform model of four words has perplexity 4; draws are averaged as probabilities."""
    windows = np.array([[[0], [1], [2]], [[2], [3], [0]]])
    uniform = jnp.zeros(4)
    assert bayesian_rnn.perplexity(Unigram(), [uniform], windows) == pytest.approx(4, rel=1e-6)
    other = jnp.log(jnp.array([0.7, 0.1, 0.1, 0.1]))
    values = [np.log((0.25 + np.exp(other[word])) / 2) for word in (1, 2, 3, 0)]
    assert bayesian_rnn.perplexity(Unigram(), [uniform, other], windows) == pytest.approx(
        np.exp(-np.mean(values)), rel=1e-5
    )


def test_windows_are_taken_in_order():
    """An epoch begins at its first window only."""
    windows = jnp.arange(3)
    taken = [bayesian_rnn.take_window(windows, jnp.asarray(step)) for step in range(5)]
    assert [(int(window), bool(is_first)) for window, is_first in taken] == [
        (0, True), (1, False), (2, False), (0, True), (1, False),
    ]  # fmt: skip


def test_means_descend_and_deviations_use_adam():
    """The first step of means is the clipped gradient times the rate, that of rho is Adam's rate."""
    config = bayesian_rnn.Config(learning_rate=0.5, deviation_learning_rate=1e-3, clip=5.0, length=20)
    family = bayesian_rnn.posteriors.mean_field(0.05)
    position = family.init({"kernel": jnp.zeros(3)})
    gradient = jax.tree.map(lambda leaf: jnp.array([0.01, 0.0, -0.02]), position)
    optimizer = bayesian_rnn.optimizer(config, 100)
    updates, _ = optimizer.update(gradient, optimizer.init(position), position)
    np.testing.assert_allclose(updates.mean["kernel"], -0.5 * 20 * gradient.mean["kernel"], rtol=1e-5)
    np.testing.assert_allclose(updates.rho["kernel"], [-1e-3, 0, 1e-3], rtol=1e-3)


def test_the_sharpened_bound_and_its_published_number():
    """The row of the best epoch carries the published perplexity, for 650 units on PTB only."""
    result = {"by_epoch": {"validation": np.array([9.0, 7.0, 8.0]), "test": np.array([6.0, 5.0, 4.0])}}
    result |= {"averaged": {"validation": 7.5, "test": 4.5}, "seconds": 1.0}
    config = bayesian_rnn.Config(dataset="ptb", features=650)
    rows = bayesian_rnn.make_rows(config, "bbb_sharpened", result)
    test = {(row["epoch"], row.get("weights")): row for row in rows if row["measure"] == "test perplexity"}
    assert {key: row["value"] for key, row in test.items()} == {
        ("best", None): 5.0, ("last", "mean"): 4.0, ("last", "draws"): 4.5,
    }  # fmt: skip
    assert test["best", None]["paper"] == 74.8 and "at most" in test["best", None]["source"]
    others = bayesian_rnn.make_rows(bayesian_rnn.Config(), "bbb_sharpened", result)
    assert not any("paper" in row for row in others)
