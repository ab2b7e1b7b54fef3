"""Tests of the log posterior (the factor N/n, a prior that counts once) and of the priors against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from bayesjax import posteriors

NUM_DATA, SIZE = 12, 3
RANDOM = np.random.default_rng(0)
DATA = {"x": RANDOM.normal(size=(NUM_DATA, 2)), "y": RANDOM.normal(size=NUM_DATA)}
PARAMS = {"w": RANDOM.normal(size=2), "b": RANDOM.normal(size=())}


def log_likelihood(params, rng_key, example):
    """One example, with noise of scale 1/2."""
    del rng_key
    return -2.0 * (example["y"] - example["x"] @ params["w"] - params["b"]) ** 2


def minibatches(num=NUM_DATA // SIZE):
    return [jax.tree.map(lambda leaf, i=i: leaf[i * SIZE : (i + 1) * SIZE], DATA) for i in range(num)]


def assert_unbiased(logdensity, full):
    """Value and gradient averaged over all disjoint minibatches are `full`'s on all data, to float64 rounding."""
    evaluate = jax.value_and_grad(lambda params, batch: logdensity(params, jax.random.key(0), batch)[0])
    parts = [evaluate(PARAMS, batch) for batch in minibatches()]
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *parts)
    expected = jax.value_and_grad(full)(PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), mean, expected)
    assert not np.allclose(parts[0][0], expected[0], rtol=1e-3)


def test_minibatches_are_unbiased_and_the_prior_counts_once():
    """In float64 the mean over disjoint minibatches is log p(w) + sum over all data, exactly.

    Power: no N/n, and N/n on the prior too, are both refused.
    """
    with jax.enable_x64(True):
        prior = posteriors.gaussian(0.7)

        def full(params):
            residual = DATA["y"] - DATA["x"] @ params["w"] - params["b"]
            return prior(params) - 2 * (residual**2).sum()

        right = posteriors.log_posterior(log_likelihood, prior, NUM_DATA)
        assert_unbiased(right, full)
        assert right(PARAMS, jax.random.key(0), DATA)[0] == pytest.approx(float(full(PARAMS)), rel=1e-12)
        unscaled = posteriors.log_posterior(log_likelihood, prior, SIZE)
        flattened = posteriors.log_posterior(log_likelihood, lambda params: NUM_DATA / SIZE * prior(params), NUM_DATA)
        for wrong in (unscaled, flattened):
            with pytest.raises(AssertionError):
                assert_unbiased(wrong, full)


def test_data_sum():
    """N/n times the sum of one scalar for each example; an axis of outputs is refused."""
    assert posteriors.data_sum(jnp.arange(1.0, 7.0), 12) == 42
    with pytest.raises(ValueError, match=r"values must be \[n\], one scalar for each example; got .* shape \(6, 1\)"):
        posteriors.data_sum(jnp.ones((6, 1)), 12)


def test_each_example_has_its_own_key_and_aux_is_averaged():
    """Keys are those of one split; aux is the mean over the batch, an empty dict where there is none."""

    def with_aux(params, rng_key, example):
        noise = jax.random.normal(rng_key)
        return noise * params["b"], {"noise": noise, "y": example["y"]}

    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf[:SIZE], jnp.float32), DATA)
    params = jax.tree.map(jnp.float32, PARAMS)
    logdensity = posteriors.log_posterior(with_aux, lambda params: 0.0, NUM_DATA)
    value, aux = logdensity(params, jax.random.key(3), batch)
    noise = jnp.stack([jax.random.normal(key) for key in jax.random.split(jax.random.key(3), SIZE)])
    assert aux["noise"] == pytest.approx(float(noise.mean()), rel=1e-6)
    assert aux["y"] == pytest.approx(float(batch["y"].mean()), rel=1e-6)
    assert value == pytest.approx(float(NUM_DATA * noise.mean() * params["b"]), rel=1e-5)
    assert noise.std() > 0.1
    plain = posteriors.log_posterior(log_likelihood, lambda params: 0.0, NUM_DATA)
    assert plain(params, jax.random.key(0), batch)[1] == {}


WEIGHTS = {
    "dense": {"kernel": RANDOM.normal(size=(6, 4)), "bias": RANDOM.normal(size=4)},
    "conv": {"kernel": RANDOM.normal(size=(5, 3, 2, 7))},
    "scale": RANDOM.normal(size=()),
}


def test_gaussian_prior_is_scipys():
    """Normalised: the sum of scipy's normal log densities over all weights; another scale is another number."""
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(WEIGHTS)])
    with jax.enable_x64(True):
        value = posteriors.gaussian(1.7)(WEIGHTS)
        assert value == pytest.approx(scipy.stats.norm(0, 1.7).logpdf(flat).sum(), rel=1e-12)
        assert value != pytest.approx(scipy.stats.norm(0, 1.7**0.5).logpdf(flat).sum(), rel=1e-3)


def test_fan_in_prior_is_scipys():
    """Kernels have variance scale^2 / fan-in (6 dense, 5 * 3 * 2 convolutional), biases and scales scale^2."""
    fan_in = {"dense": {"kernel": 6, "bias": 1}, "conv": {"kernel": 30}, "scale": 1}

    def by_scipy(fan_in):
        terms = jax.tree.map(lambda w, n: scipy.stats.norm(0, 1.7 / np.sqrt(n)).logpdf(w).sum(), WEIGHTS, fan_in)
        return sum(jax.tree.leaves(terms))

    with jax.enable_x64(True):
        value = posteriors.fan_in_gaussian(1.7)(WEIGHTS)
        assert value == pytest.approx(by_scipy(fan_in), rel=1e-12)
        fan_out = {"dense": {"kernel": 4, "bias": 1}, "conv": {"kernel": 7}, "scale": 1}
        assert value != pytest.approx(by_scipy(fan_out), rel=1e-3)
    scales = posteriors.fan_in_scales(WEIGHTS, 1.7)
    jax.tree.map(lambda sd, n: np.testing.assert_allclose(sd, 1.7 / np.sqrt(n)), scales, fan_in)


def test_fan_in_of_weights_whose_first_axis_is_the_output():
    """PyTorch's and Equinox's [10, 784] has standard deviation 1/28 = 0.036; over its first axis it would be 0.316.

    Prior, divergence and standard deviations follow one rule, by path as well: without a layout a leaf named "weight"
    is refused, and with one it is believed.
    """
    shapes = {
        "layers": [{"weight": np.ones((10, 784)), "bias": np.ones(10)}],
        "conv": {"weight": np.ones((7, 2, 5, 3))},
    }
    scales = posteriors.fan_in_scales(shapes, out_axis=0)
    assert scales["layers"][0] == {"weight": pytest.approx(1 / 28), "bias": 1.0}
    assert scales["conv"]["weight"] == pytest.approx(1 / np.sqrt(2 * 5 * 3))
    assert posteriors.fan_in_scales(shapes, out_axis=-1)["layers"][0]["weight"] == pytest.approx(0.316, abs=1e-3)
    with pytest.raises(ValueError, match=r"out_axis must be an axis of layers/0/weight \(10, 784\); got 2"):
        posteriors.fan_in_scales(shapes, out_axis=2)
    with pytest.raises(ValueError, match=r"out_axis must be given for layers.0.weight \(2, 6\): 0 if it is \[out, in"):
        posteriors.fan_in_scales({"layers.0.weight": np.ones((2, 6))})
    for name in ("weight_ih_l0", "in_proj_weight"):
        with pytest.raises(ValueError, match=f"out_axis must be given for {name}"):
            posteriors.fan_in_scales({name: np.ones((2, 6))})

    weights, family = {"weight": jnp.arange(12.0).reshape(2, 6)}, posteriors.mean_field()
    of = jax.jit(lambda prior, kl, weights: (prior(weights), kl(family.init(weights), weights)), static_argnums=(0, 1))
    prior, kl = posteriors.fan_in_gaussian, posteriors.kl_to_fan_in_gaussian
    by_path = posteriors.priors.by_path, posteriors.kl.by_path
    expected = of(prior(), kl(), {"kernel": weights["weight"].T})
    for pair in (
        (prior(out_axis=0), kl(out_axis=0)),
        [part({"*": f(out_axis=0)}) for f, part in zip((prior, kl), by_path, strict=True)],
    ):
        np.testing.assert_allclose(of(*pair, weights), expected, rtol=1e-5)
    for call in (
        lambda: prior()(weights), lambda: by_path[0]({"*": prior()})(weights),
        lambda: kl()(family.init(weights), weights), lambda: by_path[1]({"*": kl()})(family.init(weights), weights),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="out_axis must be given for weight"):
            call()


def variational():
    return posteriors.mean_field(0.3).init(PARAMS)


TRACED = {
    "gaussian": lambda scale: posteriors.gaussian(scale)(PARAMS),
    "fan_in_gaussian": lambda scale: posteriors.fan_in_gaussian(scale)({"w": PARAMS["w"].reshape(2, 1)}),
    "laplace_prior": lambda scale: posteriors.laplace_prior(scale)(PARAMS),
    "kl_to_gaussian": lambda scale: posteriors.kl_to_gaussian(scale)(variational(), PARAMS),
    "kl_to_fan_in_gaussian": lambda scale: posteriors.kl_to_fan_in_gaussian(scale)(variational(), PARAMS),
    "kl_to_laplace": lambda scale: posteriors.kl_to_laplace(scale)(variational(), PARAMS),
}


@pytest.mark.parametrize("name", TRACED)
def test_scales_may_be_traced(name):
    """The derivative by a traced scale is the difference quotient of the values at known scales."""
    value, scale, step = TRACED[name], 0.8, 1e-5
    with jax.enable_x64(True):
        traced, derivative = jax.jit(jax.value_and_grad(value))(scale)
        np.testing.assert_allclose(traced, value(scale), rtol=1e-12)
        quotient = (value(scale + step) - value(scale - step)) / (2 * step)
        np.testing.assert_allclose(derivative, quotient, rtol=1e-6)
    assert abs(derivative) > 0.1


def test_a_traced_mixture_is_refused():
    with pytest.raises(ValueError, match="weight and scales of a scale_mixture must be numbers; got a traced value"):
        jax.jit(lambda scale: posteriors.scale_mixture(0.5, (scale, 0.1))(PARAMS))(1.0)


@pytest.mark.parametrize(("scale", "dtype"), [(1e-15, jnp.float32), (1e15, jnp.float32), (10.0, jnp.float16)])
def test_gaussian_prior_at_the_ends_of_a_type(scale, dtype):
    """1000 weights of one standard deviation: quadratic term -500, gradient -1/sd; float16 cannot hold w^2's sum."""
    weights = jnp.full(1000, scale, dtype)
    constant = posteriors.gaussian(scale)(jnp.zeros(1000, dtype))
    value, gradient = jax.value_and_grad(posteriors.gaussian(scale))(weights)
    assert value - constant == pytest.approx(-500, rel=1e-2)
    np.testing.assert_allclose(gradient, -1 / scale, rtol=1e-2)


def test_samples_of_the_gaussian_prior():
    """Mean and variance of 50000 weights within 4 standard errors, per leaf (false alarms: 4 at 6.3e-5, 0.03 %).

    Power: the scale taken for the variance is refused.
    """
    like = {"a": jnp.zeros((200, 200)), "b": jnp.zeros(10000)}
    for leaf in jax.tree.leaves(posteriors.sample_gaussian(jax.random.key(0), like, 3.0)):
        w = np.asarray(leaf, np.float64)
        assert abs(w.mean()) < 4 * 3 / np.sqrt(w.size)
        assert abs(w.var() / 9 - 1) < 4 * np.sqrt(2 / w.size)
        assert abs(w.var() / 3 - 1) > 4 * np.sqrt(2 / w.size)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1e-16, 1e16, float("inf"), float("nan")])
@pytest.mark.parametrize("prior", [posteriors.gaussian, posteriors.fan_in_gaussian])
def test_prior_scale_is_checked(prior, scale):
    """ValueError naming scale."""
    with pytest.raises(ValueError, match="scale must lie between 1e-15 and 1e15"):
        prior(scale)


def test_num_data_and_batch_are_checked():
    """ValueError naming num_data, and the batch whose leaves disagree."""
    with pytest.raises(ValueError, match="num_data must be at least 1; got 0"):
        posteriors.log_posterior(log_likelihood, posteriors.gaussian(), 0)
    logdensity = posteriors.log_posterior(log_likelihood, posteriors.gaussian(), NUM_DATA)
    with pytest.raises(ValueError, match="batch must have one leading axis"):
        logdensity(PARAMS, jax.random.key(0), {"x": jnp.zeros((3, 2)), "y": jnp.zeros(2)})


@pytest.mark.parametrize("chunk_size", [1, 5, NUM_DATA, 100])
def test_chunks_and_terms_change_nothing(chunk_size):
    """Value, aux and gradient by chunks are those at once, to float64 rounding, and terms sum to the value."""

    def noisy(params, rng_key, example):
        value = log_likelihood(params, rng_key, example) * jax.random.uniform(rng_key)
        return value, {"value": value}

    with jax.enable_x64(True):
        prior = posteriors.gaussian(0.7)

        def evaluate(**arguments):
            density = posteriors.log_posterior(noisy, prior, 2 * NUM_DATA, **arguments)

            def value(params):
                out, aux = density(params, jax.random.key(0), DATA)
                return jnp.sum(out), (out, aux)

            (total, (out, aux)), gradient = jax.value_and_grad(value, has_aux=True)(PARAMS)
            return out, (total, aux, gradient)

        scalar, expected = evaluate()
        assert scalar.shape == ()
        for arguments in ({}, {"as_terms": True}):
            out, found = evaluate(chunk_size=chunk_size, **arguments)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, expected)
        assert out.shape == (1 + NUM_DATA,)
        assert out[0] == pytest.approx(float(prior(PARAMS)))
    with pytest.raises(ValueError, match="chunk_size must be at least 1; got 0"):
        posteriors.log_posterior(log_likelihood, prior, 1, chunk_size=0)


def test_chunks_take_less_memory():
    """Temporary memory of a compiled gradient: 4096 examples of 1000 activations take over 16 MB, in chunks a fifth."""
    params = {"a": jax.ShapeDtypeStruct((4, 1000), jnp.float32), "b": jax.ShapeDtypeStruct((1000, 10), jnp.float32)}
    x = jax.ShapeDtypeStruct((4096, 4), jnp.float32)

    def network(params, rng_key, example):
        return -jnp.sum((jnp.tanh(example @ params["a"]) @ params["b"]) ** 2)

    def temporary(**arguments):
        density = posteriors.log_posterior(network, posteriors.gaussian(), 4096, **arguments)
        gradient = jax.jit(jax.grad(lambda params, x: density(params, jax.random.key(0), x)[0]))
        return gradient.lower(params, x).compile().memory_analysis().temp_size_in_bytes

    at_once, chunked = temporary(), temporary(chunk_size=256)
    assert at_once > 16e6
    assert chunked < at_once / 5


def test_minus_the_loss_of_all_data_is_a_log_posterior():
    """`from_loss` of the mean negative log likelihood is `log_posterior`, aux and all; a sign or N left out is not."""

    def loss(params, rng_key, batch):
        values = jax.vmap(log_likelihood, in_axes=(None, None, 0))(params, rng_key, batch)
        return -values.mean(), {"largest": values.max()}

    prior, key, (params, data) = posteriors.gaussian(2.0), jax.random.key(0), jax.tree.map(jnp.float32, (PARAMS, DATA))
    found, aux = posteriors.from_loss(loss, prior, NUM_DATA)(params, key, data)
    expected = posteriors.log_posterior(log_likelihood, prior, NUM_DATA)(params, key, data)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert set(aux) == {"largest"}
    plain = posteriors.from_loss(lambda *arguments: loss(*arguments)[0], prior, NUM_DATA)(params, key, data)
    assert plain[0] == found
    back = posteriors.as_loss(posteriors.from_loss(loss, lambda params: jnp.zeros(()), NUM_DATA), NUM_DATA)
    np.testing.assert_allclose(back(params, key, data)[0], loss(params, key, data)[0], rtol=1e-6)
    for of in (lambda num: posteriors.from_loss(loss, prior, num), lambda num: posteriors.as_loss(loss, num)):
        with pytest.raises(ValueError, match="num_data must be positive and finite; got 0"):
            of(0)
