"""MC dropout: the divergence by hand, the precision and weight decay that belong together, one exact posterior."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import objectives
from bayesjax.objectives.dropout import mc_dropout, precision, weight_decay

PARAMS = {
    "first": {"kernel": jnp.array([[1.0, 2.0]]), "bias": jnp.array([3.0, 0.0])},
    "second": {"kernel": jnp.array([[1.0], [1.0]]), "bias": jnp.array([-1.0])},
}
BATCH = jnp.zeros((4, 1))


def test_the_divergence_by_hand():
    loss = mc_dropout(lambda params, key, x: -7.0, num_data=10, rates={"first/*": 0.0, "*": 0.5}, length_scale=2.0)
    value, aux = loss(PARAMS, jax.random.key(0), BATCH)
    np.testing.assert_allclose(aux["kl"], 0.5 * 4 * ((1 + 4) + 9 + 2 / 0.5 + 1))
    np.testing.assert_allclose(value, 7 + aux["kl"] / 10)
    of_first = mc_dropout(lambda params, key, x: 0.0, num_data=1, rates=0.5, weights=lambda params: params["first"])
    np.testing.assert_allclose(of_first(PARAMS, jax.random.key(0), BATCH)[0], 0.5 * (5 / 0.5 + 9))
    of_all = mc_dropout(lambda params, key, x: 0.0, num_data=1, rates=0.5)(PARAMS, jax.random.key(0), BATCH)[0]
    np.testing.assert_allclose(of_all, 0.5 * (7 / 0.5 + 10))


def test_precision_and_weight_decay_are_inverse():
    """The paper's equation: tau = p l^2 / (2 N lambda)."""
    arguments = {"rate": 0.2, "length_scale": 3.0, "num_data": 50}
    np.testing.assert_allclose(precision(0.01, **arguments), 0.8 * 9 / (2 * 50 * 0.01))
    np.testing.assert_allclose(weight_decay(precision(0.01, **arguments), **arguments), 0.01)


def test_its_gradient_is_that_of_the_weight_decay_that_practitioners_use():
    """A linear model: tau times [ |y - f|^2 / 2 + lambda |M|^2 ], where M = W / keep, as Flax divides by keep."""
    keep, tau, num_data = 0.8, 4.0, 20
    w, x, y = jnp.array([[0.5], [-1.0]]), jnp.array([[1.0, 2.0], [0.5, -1.0]]), jnp.array([0.3, 0.1])

    def log_likelihood(params, rng_key, example):
        inputs, target = example
        mask = jax.random.bernoulli(rng_key, keep, inputs.shape)
        return -0.5 * tau * (target - jnp.where(mask, inputs / keep, 0) @ params["kernel"][:, 0]) ** 2

    loss = mc_dropout(log_likelihood, num_data=num_data, rates=1 - keep, length_scale=1.5)
    key = jax.random.key(1)
    found = jax.grad(lambda w: loss({"kernel": w}, key, (x, y))[0])(w)
    decay = weight_decay(tau, rate=1 - keep, length_scale=1.5, num_data=num_data)
    masks = jax.vmap(lambda key: jax.random.bernoulli(key, keep, (2,)))(jax.random.split(key, 2))

    def usual(m):
        return 0.5 * jnp.mean((y - (x * masks) @ m[:, 0]) ** 2) + decay * jnp.sum(m**2)

    of_m = jax.grad(usual)(w / keep) / keep  # the scale of the weights: d/dW = 1/keep d/dM
    np.testing.assert_allclose(found, tau * of_m, rtol=1e-5)


def test_keys_are_draws():
    """Dropout's predictions through `evaluation.predict`, one mask pattern for each key."""
    from bayesjax import evaluation

    module = nn.Sequential([nn.Dense(50), nn.Dropout(0.5, deterministic=False), nn.Dense(1)])
    params = module.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, jnp.zeros((1, 2)))["params"]
    keys = jax.random.split(jax.random.key(2), 5)
    apply = lambda key, x: module.apply({"params": params}, x, rngs={"dropout": key})  # noqa: E731
    outputs = evaluation.predict(apply, keys, jnp.ones((3, 2)))
    assert outputs.shape == (5, 3, 1)
    assert np.ptp(np.asarray(outputs), axis=0).min() > 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mc_dropout(len, num_data=0, rates=0.1), "num_data must be at least 1; got 0"),
        (lambda: mc_dropout(len, num_data=1, rates=1.0), r"rate must lie in \[0, 1\); got 1.0"),
        (lambda: mc_dropout(len, num_data=1, rates=0.1, length_scale=0.0), "length_scale must be positive"),
        (lambda: precision(0.0, rate=0.1, length_scale=1.0, num_data=5), "weight_decay must be positive"),
        (
            lambda: mc_dropout(lambda params, key, x: 0.0, num_data=1, rates={"third/*": 0.1})(
                PARAMS, jax.random.key(0), BATCH
            ),
            "rates must cover every leaf; none of third/[*] matches first/kernel",
        ),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_it_is_there():
    assert objectives.dropout.mc_dropout is mc_dropout
