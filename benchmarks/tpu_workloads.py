"""The steps that `tpu.py` compiles: a kernel, the shapes of its position and batch, and how it is spread over chips.

Each workload is a function of the number of chips. With strong scaling the work is the same on any number of chips: HMC
divides its full batch, NUTS its chains, and the Bayesian GAN first its particles and then its images. With weak scaling
the batch grows with the number of chips (VAE, SGHMC on a network of 1e7 weights).
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bayesjax import kernels, models, objectives, posteriors
from bayesjax.types import Kernel
from benchmarks import bayesian_gan as synthetic
from benchmarks import samplers_problem as problem
from benchmarks.suites import kernels as sampler_kernels
from benchmarks.suites import samplers

Size = Literal["full", "smoke"]


class Workload(NamedTuple):
    """A step to compile.

    Attributes:
      what: description in one line, for the table.
      scaling: "strong" or "weak".
      kernel: the kernel before it is spread over devices.
      position, batch: shapes and types of the arguments.
      data, particle: numbers of parts into which the batch and the particles are divided.
      unknown_turns: number of iterations of loops that do not count up to a constant.
    """

    what: str
    scaling: str
    kernel: Kernel
    position: Any
    batch: Any
    data: int = 1
    particle: int = 1
    unknown_turns: int = 1


def shape(*lengths: int, dtype: Any = jnp.float32) -> Any:
    """The shape and type of an argument."""
    return jax.ShapeDtypeStruct(lengths, dtype)


def hmc(num_chips: int, size: Size) -> Workload:
    """HMC on a Bayesian neural network; the full batch, which every gradient needs, is divided over the chips."""
    num_data, widths, num_steps = (61440, (784, 400, 400, 10), 10) if size == "full" else (512, (32, 16, 4), 3)
    network = models.MLP(widths[1:])

    def log_likelihood(params: Any, rng_key: jax.Array, example: Any) -> jax.Array:
        logits: Any = network.apply({"params": params}, example["x"])
        # Not `[example["y"]]`: its gradient is a scatter, which the compiler makes a loop over the examples.
        return jnp.sum(jax.nn.log_softmax(logits) * jax.nn.one_hot(example["y"], widths[-1]))

    return Workload(
        f"HMC, {num_steps} leapfrog steps: MLP {'-'.join(map(str, widths))}, full batch of {num_data}",
        "strong",
        kernels.hmc(
            posteriors.log_posterior(log_likelihood, posteriors.gaussian(1.0), num_data),
            step_size=1e-4,
            num_integration_steps=num_steps,
            full_batch=True,
        ),
        position(network, widths[0]),
        {"x": shape(num_data, widths[0]), "y": shape(num_data, dtype=jnp.int32)},
        data=num_chips,
        unknown_turns=0,  # the loop computes a missing gradient, only in the first step
    )


def nuts(num_chips: int, size: Size) -> Workload:
    """NUTS in many chains, which are divided over the chips; the loops of a trajectory have no fixed length."""
    num_chains, num_data, hidden = (256, samplers.NUM_DATA, 1000) if size == "full" else (4, 32, 100)
    widths = samplers.hidden(hidden)
    num_doublings = sampler_kernels.NUM_DOUBLINGS
    kernel = kernels.nuts(
        problem.density(num_data, widths), step_size=1e-4, max_num_doublings=num_doublings, full_batch=True
    )
    return Workload(
        f"NUTS, one gradient of {num_chains} chains: MLP of {hidden} weights, full batch of {num_data}",
        "strong",
        kernels.particles(kernel, num_chains),
        jax.eval_shape(lambda: samplers.start(hidden, num_chains)),
        {"x": shape(num_data, problem.NUM_INPUTS), "y": shape(num_data)},
        particle=num_chips,
        unknown_turns=1,  # one doubling of one gradient
    )


def sghmc(num_chips: int, size: Size) -> Workload:
    """A step of SGHMC on a large network; the batch grows with the chips."""
    each, num_weights, num_data = (512, 10_000_000, 10**6) if size == "full" else (16, 1000, 512)
    widths = samplers.hidden(num_weights)
    return Workload(
        f"SGHMC: MLP of {num_weights} weights, {each} examples per chip",
        "weak",
        kernels.sghmc(problem.density(num_data, widths), step_size=1e-9),
        jax.eval_shape(lambda: problem.initial_weights(widths)),
        {"x": shape(each * num_chips, problem.NUM_INPUTS), "y": shape(each * num_chips)},
        data=num_chips,
    )


def bayesian_gan(num_chips: int, size: Size) -> Workload:
    """The game of `bayesian_gan.py` with as many discriminators as generators; the particles are divided first."""
    num, num_data, dim = (16, 10_000, 100) if size == "full" else (4, 512, 8)
    density, particle = synthetic.conditionals(num_data), min(num, num_chips)
    players = {name: synthetic.sampler(density[name], num, num_data, 1.0) for name in ("discriminator", "generator")}
    return Workload(
        f"SGHMC sweep of the Bayesian GAN: {num} + {num} MLPs, batch {synthetic.peer.BATCH_SIZE}",
        "strong",
        kernels.alternate(**players),
        jax.eval_shape(lambda: synthetic.initial_position(num, dim, num)),
        posteriors.GANBatch(shape(synthetic.peer.BATCH_SIZE, dim)),
        data=num_chips // particle,
        particle=particle,
    )


def vae(num_chips: int, size: Size) -> Workload:
    """A step of Adam on the negative evidence lower bound; the batch grows with the chips."""
    each, dim, hidden, latent_dim = (1024, 784, 500, 20) if size == "full" else (32, 16, 8, 2)
    network = models.vae.VAE(latent_dim=latent_dim, data_shape=(dim,), hidden=(hidden,))
    encode, decode = models.vae.conditionals(network)
    loss = objectives.elbo.negative_elbo(encode, decode, network.prior())
    return Workload(
        f"Adam on the negative ELBO: VAE {dim}-{hidden}-{latent_dim}, {each} images per chip",
        "weak",
        kernels.optimize(objectives.batch_mean(loss), optax.adam(1e-3)),
        position(network, dim),
        shape(each * num_chips, dim),
        data=num_chips,
    )


def position(network: Any, width: int) -> Any:
    """The shapes of a network's parameters."""
    return jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, width)))["params"])


WORKLOADS: dict[str, Callable[[int, Size], Workload]] = {
    "hmc": hmc,
    "nuts": nuts,
    "sghmc": sghmc,
    "bayesian_gan": bayesian_gan,
    "vae": vae,
}
