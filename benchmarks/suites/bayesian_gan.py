"""The bayesian_gan suite: network updates per second of a Bayesian GAN, and the seconds until a published divergence.

The networks, the data and the settings are those of the paper preset of `experiments/bayesian_gan.py`: generators
10-1000-100, discriminators 100-1000-1, batches of 64 of 10 000 points. A sweep of SGHMC moves M discriminators and then
J M generators, for every pair of --generators (J) and --mc-samples (M); M discriminators and M generators stand for
each network of the game. On several devices the generators are divided over them. Pairs are timed in alternating order,
after compilation.

    network updates per second     updates of all networks in a second, noise and diagnostics included
    seconds to the bound           seconds of training ten generators and a discriminator, 1500 sweeps of Adam and then
                                   SGHMC at T = 1, after which the Jensen-Shannon divergence stays at most the bound; it
                                   is evaluated every EVERY sweeps, outside the clock

The bound is that of docs/results/bayesian_gan.md, which every seed reaches. Read `targets.py` next.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import evaluation, posteriors, training
from bayesjax.types import Given, Kernel
from benchmarks import machine, measure
from benchmarks.suites import rows, targets
from experiments import bayesian_gan
from experiments.shared import games, populations

SETTINGS = bayesian_gan.PAPER
BOUND, SOURCE = 0.03, "every seed of the paper preset"
EVERY = 50  # sweeps between evaluations of the divergence
NUM_SAMPLES = 640  # of each generator, as in the experiment


def check(config: Any) -> None:
    """Ends the program with one line if a flag is invalid."""
    for name in ("generators", "mc_samples"):
        values = getattr(config, name)
        if not values or min(values) < 1:
            measure.fail(f"--{name.replace('_', '-')} must be at least 1; got {values}")
    for num in (*config.generators, SETTINGS.num_generators):
        if num % config.devices:
            measure.fail(f"--devices must divide the number of generators {num}; got {config.devices}")


def parts(inputs: np.ndarray, num: tuple[int, int], stage: str, devices: int) -> tuple[Kernel, Any, Callable]:
    """The kernel of a sweep on its devices, initial positions, and the minibatches as a function of the step.

    Args:
      inputs: the data.
      num: numbers of generators and of discriminators.
      stage: "adam", the warm-up, or "sghmc".
      devices: number of devices over which the generators are divided.
    """
    num_data, net = len(inputs), bayesian_gan.networks(SETTINGS, inputs.shape[1])
    if stage == "adam":
        moves = bayesian_gan.optimised(SETTINGS, net, games.prior(SETTINGS), num_data, SETTINGS.num_warmup)
    else:
        moves = bayesian_gan.sampled(SETTINGS, net, num_data, SETTINGS.temperature)
    kernel = training.spread(populations.sweep(moves, *num), particle=devices)
    position = jax.jit(lambda key: net.init(key, *num))(jax.random.key(0))
    return kernel, position, populations.unlabelled_batches(jax.random.key(3), inputs, SETTINGS.batch_size)


def check_work(inputs: np.ndarray) -> float:
    """Checks the gradient of a discriminator's log density against that of the highest precision."""
    net, num = bayesian_gan.networks(SETTINGS, inputs.shape[1]), SETTINGS.num_networks
    densities = bayesian_gan.conditionals(net, games.prior(SETTINGS), len(inputs), batch_size=SETTINGS.batch_size)
    position = net.init(jax.random.key(0), *num)
    batch = Given(posteriors.GANBatch(jnp.asarray(inputs[: SETTINGS.batch_size])), position)
    one = jax.tree.map(lambda leaf: leaf[0], position["discriminator"])

    def value(params: Any, batch: Any) -> jax.Array:
        out: Any = densities["discriminator"](params, jax.random.key(5), batch)
        return out[0]

    return rows.check_precision(jax.grad(value), one, batch)


def measure_rates(config: Any, inputs: np.ndarray, rates: machine.Rates) -> list[dict[str, Any]]:
    """The rows of sweeps, for every pair of J and M."""
    made: dict[str, rows.Program] = {}
    keys: dict[str, dict[str, Any]] = {}
    for num_generators in config.generators:
        for num_samples in config.mc_samples:
            num = num_generators * num_samples, num_samples
            kernel, position, batches = parts(inputs, num, "sghmc", config.devices)
            state = jax.jit(kernel.init)(position, jax.random.key(1))
            name = f"{num_generators} x {num_samples}"
            keys[name] = {"J": num_generators, "M": num_samples, "networks": sum(num)}
            # A sweep of a network has about six products of a batch with its weights, forward and backward.
            products = 6 * sum(num) * 2 * SETTINGS.batch_size * SETTINGS.hidden * (inputs.shape[1] + 1)
            steps = int(np.clip(config.seconds * rates.peak / products, 2, 2000))
            made[name] = rows.program(kernel, state, batches, steps, rates, config.devices)
    timed = {name: functools.partial(measure.timed, each.row) for name, each in made.items()}
    times = measure.alternate_timed(timed, config.repeats)
    found: list[dict[str, Any]] = []
    for name, each in made.items():
        found += rows.of_program(
            keys[name], "network updates per second", keys[name]["networks"], each, times[name], rates
        )
    return found


def measure_quality(config: Any, inputs: np.ndarray) -> list[dict[str, Any]]:
    """The rows of the seconds of training until the divergence reaches the bound."""
    plane = evaluation.ProjectedDivergence(inputs, step=SETTINGS.grid_step)
    mean, components = jnp.float32(plane.mean), jnp.float32(plane.components)
    net, key = bayesian_gan.networks(SETTINGS, inputs.shape[1]), jax.random.key(7)
    programs: dict[str, Callable] = {}
    num = SETTINGS.num_networks
    start: Any = parts(inputs, num, "adam", config.devices)[1]
    for stage in ("adam", "sghmc"):
        kernel, position, batches = parts(inputs, num, stage, config.devices)
        init = jax.jit(functools.partial(kernel.init, rng_key=jax.random.key(1)))
        state = init(position)
        compiled, _ = measure.compiled(rows.steps(kernel, EVERY), key, state, batches, jnp.int32(0))
        jax.block_until_ready(compiled(key, state, batches, jnp.int32(0)))  # warm; its result is not used
        programs[stage] = functools.partial(_advance, compiled, init, key, batches)

    @jax.jit
    def project(generators: Any) -> jax.Array:
        samples = populations.generate_each(net, generators, jax.random.key(8), NUM_SAMPLES)
        return ((samples - mean) @ components.T).reshape(-1, 2)

    def chunk(state: Any, index: int) -> tuple[Any, Any]:
        stage = "adam" if index * EVERY < SETTINGS.num_warmup else "sghmc"
        return programs[stage](state, index * EVERY, is_first=index * EVERY in (0, SETTINGS.num_warmup))

    def quality(state: Any, infos: Any) -> float:
        return float(plane.evaluate_projected(np.asarray(project(training.fetch(state.position)["generator"]))))

    course = targets.run(
        chunk, quality, start, least=BOUND, most_seconds=config.target_seconds,
        most_chunks=SETTINGS.num_steps // EVERY,
    )  # fmt: skip
    seconds = targets.time_to(course.values, course.seconds, BOUND)
    values = {
        "seconds to the bound": seconds,
        "sweeps to the bound": None if seconds is None else EVERY * (1 + int(np.searchsorted(course.seconds, seconds))),
        "JS divergence at the end": float(course.values[-1]),
        "seconds of training": float(course.seconds[-1]),
    }
    return rows.plain({"bound": BOUND, "source": SOURCE}, values)


def _advance(
    compiled: Callable, init: Callable, key: jax.Array, batches: Callable, state: Any, first: int, *, is_first: bool
) -> tuple[Any, Any]:
    """EVERY sweeps of a stage; its first ones begin at the positions in `state`, of the stage before."""
    if is_first:
        state = init(getattr(state, "position", state))
    return compiled(key, state, batches, jnp.int32(first))


def run(config: Any, rates: machine.Rates) -> list[dict[str, Any]]:
    """All rows of the suite."""
    inputs = bayesian_gan.load_vectors(SETTINGS.dataset)
    print(f"gradient differs from that of the highest precision by {check_work(inputs):.1e}", flush=True)
    found = measure_rates(config, inputs, rates)
    print(f"{len(found)} rows of rates", flush=True)
    jax.clear_caches()
    if config.target_seconds > 0:
        found += measure_quality(config, inputs)
    return found
