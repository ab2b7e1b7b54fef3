"""On a day on which distrax cannot be imported, the rest of the library works, and one line says what is missing."""

import os
import subprocess
import sys

PROGRAM = """
import sys
import jax, jax.numpy as jnp, numpy as np, optax
import numpyro.distributions as dist
import bayesjax
from bayesjax import data, distributions, evaluation, kernels, models, objectives, posteriors, training
from bayesjax.objectives import elbo

for name in bayesjax.__all__:
    module = getattr(bayesjax, name)
    for each in set(getattr(module, "__all__", ())) - {"boltzmann", "deep_boltzmann", "flows", "vae",
                                                       "partition_function", "partition_function_curve"}:
        getattr(module, each)

def encode(params, x):
    return dist.Normal(params["mean"] * x, 1.0).to_event(1)

def decode(params, z):
    return dist.Normal(params["scale"] * z, 1.0).to_event(1)

loss = objectives.batch_mean(elbo.negative_elbo(encode, decode, dist.Normal(jnp.zeros(3), 1.0).to_event(1)))
kernel = kernels.optimize(loss, optax.adam(1e-2))
state = kernel.init({"mean": jnp.ones(3), "scale": jnp.ones(3)}, jax.random.key(0))
state, trace = training.run(jax.random.key(1), kernel, state, jnp.ones((4, 3)), num_steps=5)
assert np.isfinite(trace.info.loss).all()
for module in ("vae", "flows", "boltzmann"):
    try:
        getattr(models, module)
    except ImportError as error:
        print(error)
"""


def test_the_rest_works(tmp_path):
    """A distrax that raises AttributeError on import, as a nightly build of its dependency did, stands in its place."""
    (tmp_path / "distrax.py").write_text("raise AttributeError('module jax has no attribute interpreters.xla\\nmore')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = (
        "models.vae, models.flows and models.boltzmann need distrax, which cannot be imported (AttributeError: module "
        "jax has no attribute interpreters.xla); the rest of bayesjax works without it, with distributions of NumPyro "
        "or distreqx"
    )
    assert done.stdout.splitlines() == [expected] * 3
