"""Posterior draws and diagnostics in a netCDF file of ArviZ: four chains of NUTS, written and read back."""

import tempfile
from pathlib import Path

import arviz
import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import evaluation, kernels, posteriors, training

NUM_CHAINS, NUM_DATA, NUM_ADAPTATION = 4, 100, 300
x = jnp.linspace(-1, 1, NUM_DATA)
y = 1.0 + 2.0 * x + 0.5 * jax.random.normal(jax.random.key(0), (NUM_DATA,))


def log_likelihood(params, rng_key, example):
    mean = params["intercept"] + params["slope"] * example["x"]
    return -0.5 * jnp.square((example["y"] - mean) / 0.5)


log_posterior = posteriors.log_posterior(log_likelihood, posteriors.gaussian(10.0), NUM_DATA)


def make(step_size, inverse_mass_matrix):
    return kernels.nuts(log_posterior, step_size=step_size, inverse_mass_matrix=inverse_mass_matrix)


chains = kernels.particles(kernels.adapt(make, num_steps=NUM_ADAPTATION), NUM_CHAINS)
start = {"intercept": jnp.zeros(NUM_CHAINS), "slope": jnp.zeros(NUM_CHAINS)}
state = chains.init(start, jax.random.key(1))
state, trace = training.run(
    jax.random.key(2), chains, state, {"x": x, "y": y}, num_steps=800, num_burnin=NUM_ADAPTATION
)

path = Path(tempfile.mkdtemp()) / "posterior.nc"
draws, info = evaluation.chains_first(trace.draws), evaluation.chains_first(trace.info)
evaluation.to_inference_data(draws, info).to_netcdf(str(path))

restored = arviz.from_netcdf(str(path))
summary = arviz.summary(restored)
print(summary)
print("diagnostics:", *restored.sample_stats.data_vars)
np.testing.assert_array_equal(restored.posterior["slope"], draws["slope"])
assert restored.posterior["slope"].shape == (NUM_CHAINS, 500)
assert (summary["r_hat"] < 1.02).all() and abs(summary.loc["slope", "mean"] - 2) < 0.3
assert "acceptance_rate" in restored.sample_stats and not restored.sample_stats["diverging"].any()
