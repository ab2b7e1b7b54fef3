"""Flipout and local reparameterisation: outputs' law and gradients' means as of drawn weights, less variance."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import models, objectives, posteriors

FAMILY = posteriors.mean_field()
BATCH = 16


class Net(nn.Module):
    """A module that the library has never seen: a convolution, a norm with weights of its own, two dense layers."""

    flax_convolution: bool = True

    @nn.compact
    def __call__(self, x, scale=1.0):
        convolution = nn.Conv if self.flax_convolution else models.Conv
        x = convolution(3, (2, 2), strides=(2, 2))(x)
        x = nn.LayerNorm()(x).reshape(-1)
        return scale * nn.Dense(2)(jnp.tanh(nn.Dense(5, use_bias=False)(x)))


def variational_of(module, x, scale=0.3):
    params = module.init(jax.random.key(0), x)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    rho = jax.tree.map(lambda leaf: jnp.full_like(leaf, np.log(np.expm1(scale))), params)
    return posteriors.MeanFieldParams(params, rho)


def gradients(apply, sample, variational, x, num, one_draw_each=False):
    """`num` gradients of a batch's mean squared output, as one array."""

    def log_likelihood(weights, rng_key, example):
        return -jnp.sum((apply(weights, rng_key, example) - 1) ** 2)

    loss = objectives.bayes_by_backprop(log_likelihood, sample, lambda variational, weights: 0.0, num_data=1)
    keys = jax.random.split(jax.random.key(7), num)
    many = jax.jit(jax.vmap(lambda key: jax.grad(lambda v: loss(v, key, x)[0])(variational)))(keys)
    return np.concatenate([np.asarray(leaf, np.float64).reshape(num, -1) for leaf in jax.tree.leaves(many)], axis=1)


def compare(found, reference):
    """The largest difference of means in standard errors, and the ratio of total variances."""
    error = np.sqrt(found.var(0) / len(found) + reference.var(0) / len(reference))
    differs = np.abs(found.mean(0) - reference.mean(0))[error > 0] / error[error > 0]
    return differs.max(), found.var(0).sum() / reference.var(0).sum()


@pytest.mark.parametrize("estimator", [pytest.param("flipout", marks=pytest.mark.slow), "local_reparameterisation"])
def test_dense_layers_have_the_gradients_of_drawn_weights_with_less_variance(estimator):
    """42 means within 4.5 standard errors: a false alarm in 3.5e3 seeds. Noise of half the size is refused."""
    module = nn.Sequential([nn.Dense(4), jnp.tanh, nn.Dense(1)])
    x = jax.random.normal(jax.random.key(1), (BATCH, 3))
    variational = variational_of(module, x[0])
    drawn = gradients(
        lambda weights, rng_key, x: module.apply({"params": weights}, x), FAMILY.sample, variational, x, 4000
    )
    apply = getattr(models, estimator)(module)
    sample = FAMILY.perturb if estimator == "flipout" else FAMILY.moments
    distance, variance = compare(gradients(apply, sample, variational, x, 4000), drawn)
    assert distance < 4.5
    assert variance < 0.5

    def halved(variational, rng_key):
        mean, spread = sample(variational, rng_key)
        return mean, jax.tree.map(lambda leaf: leaf / 2, spread)

    assert compare(gradients(apply, halved, variational, x, 4000), drawn)[0] > 4.5


@pytest.mark.parametrize("flax_convolution", [pytest.param(True, marks=pytest.mark.slow), False])
def test_flipout_of_any_module_is_exact(flax_convolution):
    """210 means within 5 standard errors: a false alarm in 8e3 seeds. Convolutions and norms included."""
    module = Net(flax_convolution)
    x = jax.random.normal(jax.random.key(1), (BATCH, 4, 4, 2))
    variational = variational_of(module, x[0])
    drawn = gradients(
        lambda weights, rng_key, x: module.apply({"params": weights}, x), FAMILY.sample, variational, x, 3000
    )
    distance, variance = compare(gradients(models.flipout(module), FAMILY.perturb, variational, x, 3000), drawn)
    assert distance < 5
    assert variance < 1

    def halved(variational, rng_key):
        mean, noise = FAMILY.perturb(variational, rng_key)
        return mean, jax.tree.map(lambda leaf: leaf / 2, noise)

    assert compare(gradients(models.flipout(module), halved, variational, x, 3000), drawn)[0] > 5


@pytest.mark.parametrize("estimator", ["flipout", "local_reparameterisation"])
def test_without_noise_it_is_the_module(estimator):
    """Also with further arguments, which reach the module, and for leaves that are not intercepted."""
    module = Net()
    x = jax.random.normal(jax.random.key(1), (4, 4, 2))
    variational = variational_of(module, x)
    still = jax.tree.map(jnp.zeros_like, variational.mean)
    found = getattr(models, estimator)(module)((variational.mean, still), jax.random.key(2), x, scale=3.0)
    np.testing.assert_allclose(found, module.apply({"params": variational.mean}, x, scale=3.0), rtol=1e-5)


def test_the_outputs_of_a_layer_have_their_exact_law():
    """Means and variances of y = x W + b, eight scores within 4.5: a false alarm in 1.8e4 seeds; a variance without the
    bias's part is refused."""
    module = nn.Dense(2)
    x = jnp.array([1.0, -2.0, 0.0])
    variational = variational_of(module, x, scale=0.5)
    num = 20_000
    keys = jax.random.split(jax.random.key(3), num)
    mean = np.asarray(module.apply({"params": variational.mean}, x))
    exact = 0.25 * (1 + 4 + 1)

    def scores(values, variance):
        values = np.asarray(values, np.float64)
        return np.abs(
            [(values.mean(0) - mean) / np.sqrt(variance / num), (values.var(0) / variance - 1) / np.sqrt(2 / num)]
        ).max()

    flip, local = models.flipout(module), models.local_reparameterisation(module)
    pairs = jax.vmap(jax.random.split)(keys)
    flipped = jax.jit(jax.vmap(lambda pair: flip(FAMILY.perturb(variational, pair[0]), pair[1], x)))(pairs)
    outputs = jax.jit(jax.vmap(lambda pair: local(FAMILY.moments(variational, None), pair[1], x)))(pairs)
    for values in (flipped, outputs):
        assert scores(values, exact) < 4.5
        assert scores(values, exact - 0.25) > 4.5


def test_examples_of_a_batch_are_uncorrelated_unlike_with_one_draw():
    """A correlation of 4000 pairs within 7 / sqrt(4000) of 0, at least 4.5 errors of Flipout's dependent pairs: a false
    alarm in 7e4 seeds."""
    module = nn.Dense(1, use_bias=False)
    x = jnp.array([[1.0, 2.0], [1.0, 2.0]])
    variational = variational_of(module, x[0])

    def pair(apply, sample, key):
        draw_key, keys = jax.random.fold_in(key, 0), jax.random.split(jax.random.fold_in(key, 1))
        return jax.vmap(apply, in_axes=(None, 0, 0))(sample(variational, draw_key), keys, x)[:, 0]

    keys = jax.random.split(jax.random.key(4), 4000)
    for apply, sample in (
        (models.flipout(module), FAMILY.perturb),
        (models.local_reparameterisation(module), FAMILY.moments),
    ):
        values = jax.jit(jax.vmap(lambda key: pair(apply, sample, key)))(keys)  # noqa: B023
        assert abs(np.corrcoef(np.asarray(values).T)[0, 1]) < 7 / np.sqrt(4000)
    shared = jax.vmap(lambda key: pair(lambda w, key, x: module.apply({"params": w}, x), FAMILY.sample, key))(keys)
    assert np.corrcoef(np.asarray(shared).T)[0, 1] > 0.99


def test_every_input_has_its_own_sign():
    """With one noise and one input, 64 examples see sums of four terms with separate signs: 8 different sizes."""
    module, noise = nn.Dense(1, use_bias=False), jnp.array([[1.0], [2.0], [4.0], [8.0]])
    weights = {"kernel": jnp.zeros((4, 1))}, {"kernel": noise}
    apply = jax.vmap(lambda key: models.flipout(module)(weights, key, jnp.ones(4)))
    sizes = np.unique(np.abs(apply(jax.random.split(jax.random.key(0), 64))))
    np.testing.assert_array_equal(sizes, [1, 3, 5, 7, 9, 11, 13, 15])


def test_a_recurrent_network_keeps_an_example_s_weights_over_time():
    """Inside a scan no layer is intercepted: with one input at all times, a linear recurrence stays deterministic."""
    module = nn.RNN(nn.SimpleCell(3, activation_fn=lambda x: x))
    x = jnp.ones((6, 2))
    variational = variational_of(module, x)
    for apply, sample in (
        (models.flipout(module), FAMILY.perturb),
        (models.local_reparameterisation(module), FAMILY.moments),
    ):
        y = apply(sample(variational, jax.random.key(1)), jax.random.key(2), x)
        step = y[1:] - y[:-1]  # h_{t+1} - h_t = (h_t - h_{t-1}) U with one U for all t
        solved, *_ = np.linalg.lstsq(np.asarray(step[:-1]), np.asarray(step[1:]), rcond=None)
        np.testing.assert_allclose(step[:-1] @ solved, step[1:], atol=1e-4)


def test_an_input_of_zeros_has_a_finite_gradient():
    module = nn.Dense(2, use_bias=False)
    variational = variational_of(module, jnp.ones(3))
    apply = models.local_reparameterisation(module)
    gradient = jax.grad(lambda v: apply(FAMILY.moments(v, None), jax.random.key(0), jnp.zeros(3)).sum())(variational)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
