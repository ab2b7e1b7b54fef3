"""A NumPyro model as log prior and log likelihood: NumPyro's own density, eight schools by NUTS, and its errors."""

import functools

import arviz
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.module import flax_module, random_flax_module
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import potential_energy

from bayesjax import adapters, evaluation, kernels, posteriors, training

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (20, 3))
DATA = {"x": X, "y": X.sum(1)}
SCHOOLS = {
    "error": jnp.array([15.0, 10, 16, 11, 9, 11, 10, 18]),
    "effect": jnp.array([28.0, 8, -3, 7, -1, 1, 18, 12]),
}


def eight_schools(error, effect):
    mu, tau = numpyro.sample("mu", dist.Normal(0, 5)), numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", len(error)):
        z = numpyro.sample("z", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * z)
        numpyro.sample("effect", dist.Normal(theta, error), obs=effect)


def supports(x, y):
    """Sites on many supports; that of `u` depends on another site."""
    scale = numpyro.sample("scale", dist.Exponential(1.0))
    u = numpyro.sample("u", dist.Uniform(0, scale))
    w = numpyro.sample("w", dist.Normal(0, 1).expand([3]).to_event(1))
    numpyro.sample("simplex", dist.Dirichlet(jnp.ones(4)))
    cholesky = numpyro.sample("cholesky", dist.LKJCholesky(3, 2.0))
    numpyro.sample("ordered", dist.TransformedDistribution(
        dist.Normal(0, 1).expand([3]).to_event(1), dist.transforms.OrderedTransform()
    ))  # fmt: skip
    numpyro.factor("slope", -jnp.sum(w**4))
    with numpyro.plate("data", len(x)):
        numpyro.sample("y", dist.StudentT(4.0, x @ cholesky @ w, scale + u), obs=y)
        numpyro.factor("penalty", -jnp.abs(y - u))


def network(x, y=None, width=4):
    module = nn.Sequential([nn.Dense(width), jnp.tanh, nn.Dense(1)])
    apply = random_flax_module("net", module, prior=dist.Normal(0, 1), input_shape=(1, 3))
    with numpyro.plate("data", len(x)):
        numpyro.sample("y", dist.Normal(apply(x)[..., 0], 0.1), obs=y)


@pytest.mark.parametrize(("model", "batch"), [(eight_schools, SCHOOLS), (supports, DATA), (network, DATA)])
def test_the_joint_density_is_numpyros(model, batch):
    """For sites with constraints, factors and random Flax modules, from uniform and from prior starts."""
    for start in ("uniform", "prior"):
        functions = adapters.numpyro_model(model, batch, start=start)
        params = functions.init(KEY)
        expected = -potential_energy(model, (), batch, params)
        np.testing.assert_allclose(functions.log_joint(params, KEY, batch), expected, rtol=1e-5)


@pytest.mark.parametrize("model", [supports, network])
def test_prior_and_likelihood_of_examples_add_up_to_the_joint_density(model):
    """Also as an estimate from minibatches, whose mean over all minibatches is the density of the whole data."""
    functions = adapters.numpyro_model(model, DATA)
    params = functions.init(KEY)
    logdensity = posteriors.log_posterior(functions.log_likelihood, functions.log_prior, num_data=20)
    expected = functions.log_joint(params, KEY, DATA)
    np.testing.assert_allclose(logdensity(params, KEY, DATA)[0], expected, rtol=1e-5)
    batches = [jax.tree.map(lambda leaf, i=i: leaf[i::4], DATA) for i in range(4)]
    estimates = [logdensity(params, KEY, batch)[0] for batch in batches]
    np.testing.assert_allclose(np.mean(estimates), expected, rtol=1e-5)
    assert np.std(estimates) > 1e-3 * abs(expected)  # minibatches differ


def test_the_prior_is_normalised():
    """exp(log prior) of a positive site, over its unconstrained parameter, integrates to 1; without Jacobian not."""

    def model(y):
        scale = numpyro.sample("scale", dist.HalfNormal(2.0))
        with numpyro.plate("data", len(y)):
            numpyro.sample("y", dist.Normal(0, scale), obs=y)

    functions = adapters.numpyro_model(model, {"y": jnp.ones(4)})
    grid = jnp.linspace(-20, 4, 20_001)
    density = jnp.exp(jax.vmap(lambda u: functions.log_prior({"scale": u}))(grid))
    assert abs(float(density.sum()) * 24 / 20_000 - 1) < 1e-4
    without = jnp.exp(dist.HalfNormal(2.0).log_prob(jnp.exp(grid)))
    assert abs(float(without.sum()) * 24 / 20_000 - 1) > 1


@functools.cache
def schools_by_numpyro():
    sampler = MCMC(NUTS(eight_schools), num_warmup=500, num_samples=1000, num_chains=4, chain_method="vectorized",
                   progress_bar=False)  # fmt: skip
    sampler.run(jax.random.key(2), **SCHOOLS)
    return sampler


def schools_by_bayesjax(logdensity, functions):
    def make(step_size, inverse_mass_matrix):
        return kernels.nuts(logdensity, step_size=step_size, inverse_mass_matrix=inverse_mass_matrix)

    chains = kernels.particles(kernels.adapt(make, num_steps=500), 4)
    start = jax.vmap(functions.init)(jax.random.split(jax.random.key(3), 4))
    state = chains.init(start, jax.random.key(4))
    _, trace = training.run(jax.random.key(5), chains, state, SCHOOLS, num_steps=1500, num_burnin=500)
    draws = jax.vmap(jax.vmap(functions.constrain))(evaluation.chains_first(trace.draws))
    return draws, evaluation.chains_first(trace.info)


def largest_difference(draws):
    """The largest difference of a posterior mean from NumPyro's, in Monte Carlo standard errors of the difference."""
    ours = arviz.summary(evaluation.to_inference_data(draws), round_to="none")
    theirs = arviz.summary(arviz.from_numpyro(schools_by_numpyro()), round_to="none")
    assert sorted(ours.index) == sorted(theirs.index)
    theirs = theirs.loc[ours.index]
    return float((abs(ours["mean"] - theirs["mean"]) / np.hypot(ours["mcse_mean"], theirs["mcse_mean"])).max())


def test_eight_schools_by_nuts():
    """All 18 posterior means are within 4 standard errors of NumPyro's; false-alarm rate 0.1 %.

    Without the Jacobian of tau, the mean of tau differs by more.
    """
    functions = adapters.numpyro_model(eight_schools, SCHOOLS)
    draws, info = schools_by_bayesjax(functions.log_joint, functions)
    assert largest_difference(draws) < 4
    theirs = arviz.from_numpyro(schools_by_numpyro())
    ours = evaluation.to_inference_data(draws, info)
    assert set(ours.posterior.data_vars) == set(theirs.posterior.data_vars) == {"mu", "tau", "z", "theta"}
    assert set(theirs.sample_stats.data_vars) == {"diverging"} <= set(ours.sample_stats.data_vars)

    wrong, _ = schools_by_bayesjax(lambda *args: functions.log_joint(*args) - args[0]["tau"], functions)
    assert largest_difference(wrong) > 4


def test_sghmc_runs_on_a_numpyro_model():
    """Minibatches, a compiled loop, chains, and predictions from the values of the sites."""
    functions = adapters.numpyro_model(functools.partial(network, width=2), DATA)
    logdensity = posteriors.log_posterior(functions.log_likelihood, functions.log_prior, num_data=20)
    chains = kernels.particles(kernels.sghmc(logdensity, step_size=1e-4), 2)
    state = chains.init(jax.vmap(functions.init)(jax.random.split(KEY, 2)), KEY)
    batch = jax.tree.map(lambda leaf: leaf[:5], DATA)
    _, trace = training.run(KEY, chains, state, batch, num_steps=20)
    draws = jax.vmap(jax.vmap(functions.constrain))(trace.draws)
    assert draws["net/layers_0.kernel"].shape == (20, 2, 3, 2)
    assert np.isfinite(np.asarray(trace.info.logdensity)).all()


def local(x, y):
    with numpyro.plate("data", len(x)):
        numpyro.sample("y", dist.Normal(numpyro.sample("z", dist.Normal(0, 1)), 1), obs=y)


def broadcast(x, y):
    """Eight latent effects for one school that is given: the likelihood of one example would be that of eight."""
    effects = numpyro.sample("effects", dist.Normal(0, 1).expand([20]).to_event(1))
    numpyro.sample("y", dist.Normal(effects if len(x) == 20 else effects[:1] * jnp.ones(20), 1), obs=y.mean())


def depends_on_data(x, y):
    mean = numpyro.sample("mean", dist.Normal(x[0, 0], 1))
    numpyro.sample("y", dist.Normal(mean, 1), obs=y)


def of_the_batch(x, y):
    mean = numpyro.sample("mean", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(mean + y.mean(), 1), obs=y)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (local, r"site z depends on the number of examples, \(20,\) for all and \(1,\) for few: use log_joint"),
        (broadcast, r"site y must have a log likelihood for each example; its shape is \(20,\) for one and \(20,\)"),
        (depends_on_data, "the prior depends on the data"),
        (of_the_batch, "the log likelihoods of examples do not add up"),
    ],
)
def test_a_model_without_a_likelihood_of_one_example_says_so(model, message):
    """The joint density of the whole data still works."""
    functions = adapters.numpyro_model(model, DATA)
    params = functions.init(KEY)
    assert np.isfinite(functions.log_joint(params, KEY, DATA))
    for call in (
        lambda: functions.log_prior(params),
        lambda: functions.log_likelihood(params, KEY, jax.tree.map(lambda leaf: leaf[0], DATA)),
    ):
        with pytest.raises(ValueError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def discrete(x, y):
    numpyro.sample("k", dist.Bernoulli(0.5))
    numpyro.sample("y", dist.Normal(0, 1), obs=y)


def subsampled(x, y):
    mean = numpyro.sample("mean", dist.Normal(0, 1))
    with numpyro.plate("data", len(x), subsample_size=1) as index:
        numpyro.sample("y", dist.Normal(mean, 1), obs=y[index])


def with_param(x, y):
    numpyro.sample("unused", dist.Normal(0, 1))
    apply = flax_module("net", nn.Dense(1), input_shape=(1, 3))
    numpyro.sample("y", dist.Normal(apply(x)[..., 0], 1), obs=y)


@pytest.mark.parametrize(
    ("model", "batch", "message"),
    [
        (discrete, DATA, "site k is latent and discrete"),
        (subsampled, DATA, "plate data draws subsamples: give minibatches as arguments"),
        (with_param, DATA, r"site net\$params is a numpyro.param"),
        (lambda x, y: None, DATA, "model must have a latent site"),
        (lambda x, y: numpyro.sample("z", dist.Normal(0, 1)), DATA, "model must have an observed site"),
        (network, jax.tree.map(lambda leaf: leaf[:1], DATA), "batch must have at least 2 examples; got 1"),
    ],
)
def test_models_that_gradients_cannot_sample(model, batch, message):
    with pytest.raises(ValueError, match=message) as error:
        adapters.numpyro_model(model, batch)
    assert "\n" not in str(error.value)


def test_an_unknown_start_is_an_error():
    with pytest.raises(ValueError, match="start must be uniform or prior; got 'zero'"):
        adapters.numpyro_model(network, DATA, start="zero")
