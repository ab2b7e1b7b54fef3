"""The posterior predictive and what is said about it, against hand computation."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import evaluation


def test_predict():
    """Every draw predicts every input, whatever the batches; against a loop in numpy."""
    rng = np.random.default_rng(0)
    draws = {"w": rng.normal(size=(3, 2, 4)).astype(np.float32), "b": rng.normal(size=(3, 4)).astype(np.float32)}
    x = rng.normal(size=(7, 2)).astype(np.float32)
    expected = np.stack([x @ draws["w"][s] + draws["b"][s] for s in range(3)])
    for chunk_size in (1024, 3):
        outputs = evaluation.predict(lambda p, x: x @ p["w"] + p["b"], draws, x, chunk_size=chunk_size)
        assert outputs.shape == (3, 7, 4)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("draw_chunk_size", [None, 1, 2])
@pytest.mark.parametrize("chunk_size", [1024, 3])
def test_predict_mean_averages_the_predictions_of_all_draws(chunk_size, draw_chunk_size):
    """Each input once and in its place, whatever the chunks of inputs and of draws; `predict` takes the same chunks."""
    draws, x = {"a": jnp.array([1.0, 3.0, -7.0])}, np.arange(1.0, 8)[:, None]
    chunks = {"chunk_size": chunk_size, "draw_chunk_size": draw_chunk_size}
    apply = lambda params, x: params["a"] * x  # noqa: E731
    each = evaluation.predict(apply, draws, x, **chunks)
    np.testing.assert_allclose(each, np.array([1, 3, -7])[:, None, None] * x)
    np.testing.assert_allclose(evaluation.predict_mean(apply, draws, x, **chunks), -x, rtol=1e-6)
    with pytest.raises(ValueError, match="draw_chunk_size must be at least 1; got 0"):
        evaluation.predict_mean(apply, draws, x, draw_chunk_size=0)


def counted(calls):
    """A function that counts how often it is traced, by the number of its inputs."""

    def apply(params, x):
        calls.append(len(x))
        return x * params["a"]

    return apply


@dataclasses.dataclass(frozen=True)
class Network:
    """A callable whose bound method is a new object at every access, and which cannot be hashed for its list."""

    calls: list

    def apply(self, params, x):
        return counted(self.calls)(params, x)

    __call__ = apply


def test_predict_compiles_once():
    """One trace for a function and a shape, over calls and over batches whose last one is filled up; a bound method
    of one object is one function; a function made anew, or what cannot be hashed, is traced anew."""
    draws, x = {"a": jnp.arange(1.0, 4)}, np.arange(7.0)[:, None]
    calls, network = [], Network([])
    apply = counted(calls)
    for _ in range(2):
        outputs = evaluation.predict(apply, draws, x, chunk_size=3)
        np.testing.assert_allclose(outputs, np.arange(1, 4)[:, None, None] * x)
        evaluation.predict(network.apply, draws, x)
    assert calls == [3] and network.calls == [7]
    evaluation.predict(apply, draws, x[:6], chunk_size=3)
    assert calls == [3]
    for _ in range(2):
        evaluation.predict(functools.partial(apply), draws, x)
        evaluation.predict(network, draws, x)
    assert calls == [3, 7, 7] and network.calls == [7, 7, 7]


@pytest.mark.parametrize("of", [lambda scale: scale, lambda scale: scale.__call__, functools.partial])
def test_predict_sees_an_attribute_that_has_changed(of):
    """The method of an object that is hashed by its identity is compiled anew, so that no old attribute is used."""

    class Scale:
        value = 1.0

        def __call__(self, params, x):
            return self.value * x * params

    scale = Scale()
    before = evaluation.predict(of(scale), jnp.ones(2), np.ones((3, 1)))
    scale.value = 2.0
    np.testing.assert_array_equal(evaluation.predict(of(scale), jnp.ones(2), np.ones((3, 1))), 2 * before)


def test_predict_refuses_what_is_not_stacked():
    """Leaves that disagree on the number of draws are refused by name."""
    with pytest.raises(ValueError, match=r"draws .* got 2, 3"):
        evaluation.predict(lambda p, x: x, {"a": jnp.zeros((2, 1)), "b": jnp.zeros((3, 1))}, jnp.zeros((1, 1)))


PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.3, 0.3, 0.4], [0.25, 0.5, 0.25]])
LABELS = np.array([0, 2, 2, 1])


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_error_rate(kind):
    """One of four wrong: 1/4, standard error sqrt(1/4 3/4 / 4)."""
    estimate = evaluation.error_rate(kind(PROBABILITIES), kind(LABELS))
    assert estimate.value == pytest.approx(0.25)
    assert estimate.stderr == pytest.approx(math.sqrt(0.25 * 0.75 / 4), rel=1e-6)
    assert evaluation.error_rate(kind(PROBABILITIES), kind(np.array([0, 1, 2, 1]))) == (0, 0)


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_negative_log_likelihood(kind):
    """Mean of -log p(label) in nats, with the standard deviation over sqrt(n) as its error."""
    values = -np.log([0.7, 0.4, 0.4, 0.5])
    estimate = evaluation.negative_log_likelihood(kind(PROBABILITIES), kind(LABELS))
    assert estimate.value == pytest.approx(values.mean(), rel=1e-6)
    assert estimate.stderr == pytest.approx(values.std() / 2, rel=1e-5)


def test_mean_estimate():
    """Mean and its standard error with n - 1; no error for a single value."""
    estimate = evaluation.mean_estimate([1.0, 2.0, 6.0])
    assert estimate.value == pytest.approx(3)
    assert estimate.stderr == pytest.approx(math.sqrt(7 / 3))
    value, stderr = evaluation.mean_estimate(jnp.array([2.0]))
    assert value == 2 and math.isnan(stderr)


def test_averaging_draws_is_the_posterior_predictive():
    """The mean over axis 0 of `predict` is the mixture: two draws sure of opposite classes make an even bet."""
    draws = {"logit": jnp.array([20.0, -20.0])}
    classify = lambda p, x: jax.nn.softmax(jnp.stack([x * p["logit"], -x * p["logit"]], axis=-1))  # noqa: E731
    predictive = evaluation.predict_mean(classify, draws, jnp.ones(2))
    np.testing.assert_allclose(predictive, 0.5, atol=1e-6)
    assert evaluation.negative_log_likelihood(predictive, np.array([0, 1])).value == pytest.approx(
        math.log(2), rel=1e-5
    )
