"""The variational auto-encoder's distributions against scipy and by hand; its loss learns, on two devices as on one."""

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from bayesjax import data, kernels, models, objectives, training
from bayesjax.models import dcgan, vae
from bayesjax.objectives import elbo
from tests.parameters import some

SHAPE, LATENT = (3, 2, 1), 2
pytestmark = pytest.mark.usefixtures("compile_once")
X = np.random.default_rng(0).uniform(size=(5, *SHAPE)).astype(np.float32)


def made(likelihood="bernoulli", **options):
    """A model with random biases, its params and its methods as functions of the params."""
    model = vae.VAE(LATENT, SHAPE, hidden=(7, 4), likelihood=likelihood, **options)
    random, shapes = np.random.default_rng(0), jax.eval_shape(model.init, jax.random.key(0), X)["params"]
    return model, jax.tree.map(lambda leaf: 0.5 * random.normal(size=leaf.shape).astype(np.float32), shapes)


def by_hand(layers, x, activation=np.tanh):
    """A perceptron in float64."""
    x = np.asarray(x, np.float64)
    for i in range(len(layers)):
        x = x @ np.asarray(layers[f"layers_{i}"]["kernel"], np.float64) + layers[f"layers_{i}"]["bias"]
        x = activation(x) if i + 1 < len(layers) else x
    return x


def test_encoder_is_a_gaussian_with_its_own_variance():
    """Mean and log variance are the halves of the last layer: scale = exp(log variance / 2), not its exp."""
    model, params = made()
    q = vae.conditionals(model)[0](params, X)
    mean, log_variance = np.split(by_hand(params["encoder"], X.reshape(5, -1)), 2, axis=-1)
    assert (q.batch_shape, q.event_shape) == ((5,), (LATENT,))
    z = np.random.default_rng(1).normal(size=(5, LATENT))
    expected = scipy.stats.norm(mean, np.exp(log_variance / 2)).logpdf(z).sum(axis=-1)
    np.testing.assert_allclose(q.log_prob(z), expected, rtol=1e-4)
    wrong = scipy.stats.norm(mean, np.exp(log_variance)).logpdf(z).sum(axis=-1)
    assert not np.allclose(q.log_prob(z), wrong, rtol=1e-2)


@pytest.mark.parametrize("likelihood", vae.LIKELIHOODS)
def test_decoder_against_scipy(likelihood):
    """log p(x | z) of whole images, from the decoder's outputs by hand; with ReLU as well as tanh."""
    for activation, by_numpy in ((nn.tanh, np.tanh), (nn.relu, lambda h: np.maximum(h, 0))):
        model, params = made(likelihood, activation=activation)
        z = np.random.default_rng(1).normal(size=(5, LATENT)).astype(np.float32)
        p = vae.conditionals(model)[1](params, z)
        assert (p.batch_shape, p.event_shape) == ((5,), SHAPE)
        out, x = by_hand(params["decoder"], z, by_numpy), X.reshape(5, -1).astype(np.float64)
        if likelihood == "bernoulli":
            probability = scipy.special.expit(out)
            log_prob = x * np.log(probability) + (1 - x) * np.log1p(-probability)
        else:
            log_variance = params["log_variance"] if likelihood == "gaussian_shared" else np.split(out, 2, axis=-1)[1]
            mean = out[:, : x.shape[1]]
            log_prob = scipy.stats.norm(mean, np.sqrt(np.exp(log_variance) + model.min_scale**2)).logpdf(x)
            np.testing.assert_allclose(p.mean().reshape(5, -1), mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(p.log_prob(X), log_prob.sum(axis=-1), rtol=1e-4)
        assert not np.allclose(p.log_prob(X[::-1]), log_prob.sum(axis=-1), rtol=1e-3)


def test_a_reconstruction_is_decoded_from_the_mean_of_the_code():
    model, params = made()
    encode, decode = vae.conditionals(model)
    expected = decode(params, encode(params, X).mean()).mean()
    np.testing.assert_allclose(model.apply({"params": params}, X).mean(), expected, rtol=1e-6)


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian_shared"])
def test_means_may_be_kept_between_0_and_1(likelihood):
    model, params = made(likelihood)
    between = made(likelihood, mean_activation=nn.sigmoid)[0]
    z = 3 * np.random.default_rng(1).normal(size=(5, LATENT)).astype(np.float32)
    means = [np.asarray(vae.conditionals(each)[1](params, z).mean()) for each in (model, between)]
    assert (means[0] < 0).any()
    np.testing.assert_allclose(means[1], scipy.special.expit(means[0]), rtol=1e-5)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_decoder_may_begin_at_the_mean_of_the_data(likelihood):
    """At z = 0, where a new perceptron of tanh has no other output; the variances stay."""
    model = vae.VAE(LATENT, SHAPE, hidden=(5,), likelihood=likelihood, mean_activation=nn.sigmoid)
    params = jax.jit(model.init)(jax.random.key(0), X)["params"]
    mean = jnp.clip(X.mean(axis=0), 0.01, 0.99)
    begun = vae.set_output_bias(model, params, jnp.log(mean / (1 - mean)))
    p, before = (vae.conditionals(model)[1](each, jnp.zeros(LATENT)) for each in (begun, params))
    np.testing.assert_allclose(p.mean(), mean, rtol=1e-5)
    if likelihood == "gaussian":
        np.testing.assert_array_equal(p.distribution.scale, before.distribution.scale)
    with pytest.raises(ValueError, match=r"bias must have the shape .* of the outputs.* got \(3,\)"):
        vae.set_output_bias(model, params, jnp.zeros(3))


@pytest.mark.parametrize("kind", some([distrax.Normal, vae.Bernoulli], vae.Bernoulli))
def test_pixels_are_independent(kind):
    """As distrax has it: densities of any leading axes, through `jit` and `vmap`, and those of draws."""
    parameters = np.random.default_rng(2).uniform(0.5, 2, size=(2, 4, *SHAPE)).astype(np.float32)
    inner = kind(*parameters) if kind is distrax.Normal else kind(parameters[0])
    reference, p = distrax.Independent(inner, 3), vae.Pixels(inner, 3)
    x = X[:4]
    np.testing.assert_allclose(p.log_prob(x[0]), reference.log_prob(x[0]), rtol=1e-5)
    np.testing.assert_allclose(jax.jit(vae.Pixels.log_prob)(p, x), reference.log_prob(x), rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(vae.Pixels.log_prob)(p, x), reference.log_prob(x), rtol=1e-5)
    draws, log_prob = p.sample_and_log_prob(seed=jax.random.key(0), sample_shape=(7, 2))
    assert draws.shape == (7, 2, 4, *SHAPE)
    np.testing.assert_allclose(log_prob, p.log_prob(draws), rtol=1e-5)


def test_shapes_and_sizes():
    """One example, any leading axes; the classic has 784-500-20-500-784; "gaussian_shared" adds a single number."""
    model, params = made("gaussian")
    encode, decode = vae.conditionals(model)
    assert encode(params, X[0]).batch_shape == ()
    assert decode(params, jnp.zeros((2, 4, LATENT))).batch_shape == (2, 4)
    assert model.apply({"params": params}, X).event_shape == SHAPE
    assert params["decoder"]["layers_2"]["bias"].shape == (12,), "mean and variance of 6 pixels"
    shared = made("gaussian_shared")[1]
    assert shared["log_variance"].shape == () and shared["decoder"]["layers_2"]["bias"].shape == (6,)
    classic = jax.eval_shape(vae.VAE(20, (784,)).init, jax.random.key(0), jnp.zeros((1, 784)))["params"]
    kernels_of = {name: [layer["kernel"].shape for layer in net.values()] for name, net in classic.items()}
    assert kernels_of == {"encoder": [(784, 500), (500, 40)], "decoder": [(20, 500), (500, 784)]}


@pytest.mark.parametrize(
    "likelihood",
    ["gaussian", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bernoulli", "gaussian_shared"))],
)
def test_convolutional_networks(likelihood):
    """DCGAN's stacks: any leading axes, one example as in a batch, a mean and a variance for every pixel."""
    model = vae.VAE(LATENT, (6, 5, 2), hidden=(4, 8), likelihood=likelihood, architecture="convolutional")
    x = np.random.default_rng(0).uniform(size=(3, 6, 5, 2)).astype(np.float32)
    params = jax.jit(model.init)(jax.random.key(0), x)["params"]
    encode, decode = vae.conditionals(model)
    q, p = encode(params, x), decode(params, np.ones((3, 2, LATENT), np.float32))
    assert (q.batch_shape, q.event_shape) == ((3,), (LATENT,))
    assert (p.batch_shape, p.event_shape) == ((3, 2), (6, 5, 2))
    np.testing.assert_allclose(jax.vmap(lambda x: encode(params, x).mean())(x), q.mean(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(decode(params, np.ones(LATENT)).log_prob(x[0]), p.log_prob(x[0])[0, 0], rtol=1e-4)
    out = dcgan.Generator((6, 5, 4 if likelihood == "gaussian" else 2), (8, 4), norm="none", output=lambda x: x).apply(
        {"params": params["decoder"]}, np.ones((1, LATENT))
    )
    log_variance = params["log_variance"] if likelihood == "gaussian_shared" else out[0, ..., 2:]
    if likelihood == "bernoulli":
        np.testing.assert_allclose(p.mean()[0, 0], jax.nn.sigmoid(out[0]), rtol=1e-5, atol=1e-6)
    else:
        scale = np.broadcast_to(np.sqrt(model.min_scale**2 + np.exp(log_variance)), (6, 5, 2))
        np.testing.assert_allclose(p.mean()[0, 0], out[0, ..., :2], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(p.stddev()[0, 0], scale, rtol=1e-5)


def test_prior_is_standard_normal():
    z = np.random.default_rng(0).normal(size=(3, LATENT))
    np.testing.assert_allclose(made()[0].prior().log_prob(z), scipy.stats.norm.logpdf(z).sum(axis=-1), rtol=1e-5)


def test_a_constant_pixel_does_not_run_away():
    """Log variance of -1e4: the density stays that of the least scale; without one it is infinite."""
    model, params = made("gaussian_shared")
    params = {**params, "log_variance": jnp.float32(-1e4)}
    mean = vae.conditionals(model)[1](params, jnp.zeros(LATENT)).mean()
    log_prob = vae.conditionals(model)[1](params, jnp.zeros(LATENT)).log_prob(mean)
    assert float(log_prob) == pytest.approx(6 * scipy.stats.norm(0, 1 / (256 * np.sqrt(12))).logpdf(0), rel=1e-5)
    bare = made("gaussian_shared", min_scale=0.0)[0]
    assert not np.isfinite(vae.conditionals(bare)[1](params, jnp.zeros(LATENT)).log_prob(mean))


def test_bernoulli_log_prob():
    """distrax's values for black, white and grey; value and gradient finite at +-1e4, where log(sigmoid) is not."""
    logits, values = jnp.linspace(-30, 30, 61)[:, None], jnp.array([0.0, 0.25, 1.0])
    actual, expected = (kind(logits).log_prob(values) for kind in (vae.Bernoulli, distrax.Bernoulli))
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=4e-6)
    extreme, x = jnp.array([1e4, -1e4, 1e4, -1e4, 0.0]), jnp.array([1.0, 0.0, 0.0, 1.0, 0.25])
    value, gradient = jax.vmap(jax.value_and_grad(lambda logit, x: vae.Bernoulli(logit).log_prob(x)))(extreme, x)
    np.testing.assert_allclose(value, [0, 0, -1e4, -1e4, -np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(gradient, x - jax.nn.sigmoid(extreme))
    naive = jax.vmap(
        jax.grad(lambda logit, x: x * jnp.log(jax.nn.sigmoid(logit)) + (1 - x) * jnp.log(1 - jax.nn.sigmoid(logit)))
    )
    assert not np.isfinite(naive(extreme, x)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: made("poisson"), "likelihood must be one of bernoulli, gaussian, gaussian_shared; got 'poisson'"),
        (lambda: made(architecture="unet"), "architecture must be one of mlp, convolutional; got 'unet'"),
        (lambda: vae.VAE(0, SHAPE).init(jax.random.key(0), X), r"latent_dim and data_shape .* got 0 and \(3, 2, 1\)"),
        (lambda: vae.VAE(2, (4,)).init(jax.random.key(0), X), r"x must be \[..., 4\]; got \(5, 3, 2, 1\)"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def kernel_and_start(model, example):
    encode, decode = vae.conditionals(model)
    loss = objectives.batch_mean(elbo.negative_elbo(encode, decode, model.prior()))
    kernel = kernels.optimize(loss, optax.adam(3e-3))
    return kernel, kernel.init(model.init(jax.random.key(0), example)["params"], jax.random.key(1))


@pytest.mark.slow
def test_learns_digits_alike_on_one_device_and_two():
    """300 steps on binarised digits: better than independent pixels, whose code length is their entropy; and the first
    steps are the same on two devices, to the rounding of sums (the noise is that of each example's place)."""
    images = data.load("digits").train.inputs
    source = data.Binarised(jax.random.key(2), data.Minibatches(jax.random.key(3), images, 64))
    kernel, state = kernel_and_start(models.vae.VAE(8, (8, 8, 1), hidden=(64,)), images[:1])
    spread = training.data_parallel(kernel, 2)

    def losses(kernel, num_steps):
        return training.run(jax.random.key(4), kernel, state, source, num_steps=num_steps, chunk_size=5)[1].info

    there, here = losses(spread, 5), losses(kernel, 300)
    for name in ("reconstruction", "kl"):
        np.testing.assert_allclose(there.aux[name], here.aux[name][:5], rtol=1e-5)
    np.testing.assert_allclose(there.loss, here.loss[:5], rtol=1e-5)
    np.testing.assert_allclose(there.gradient_norm, here.gradient_norm[:5], rtol=1e-5)
    mean = images.mean(axis=0)
    independent = (scipy.special.entr(mean) + scipy.special.entr(1 - mean)).sum()
    assert here.loss[0] > independent > here.loss[-50:].mean() + 1
    np.testing.assert_allclose(here.loss, here.aux["kl"] - here.aux["reconstruction"], rtol=1e-5)
    assert here.aux["kl"][-50:].mean() > 2, "the latent code is used"
