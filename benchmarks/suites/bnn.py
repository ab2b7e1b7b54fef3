"""The bnn suite: seconds until samplers agree with the posterior of a Bayesian neural network.

The problem and the settings are those of the paper preset of `experiments/bnn_posterior`: 1000 of scikit-learn's
digits, a network 64-50-50-10, four chains of each sampler from random weights. Every sampler keeps draws from its first
step on, and its predictive is the mean over the second half of its draws so far.

    total variation          mean distance of the class probabilities of 360 test images from the reference's
    seconds to the bound     seconds of sampling, warm-up included and compilation not, after which the total variation
                             stays at most the bound

The reference, bnn_reference.csv, has the class probabilities of `python -m experiments.bnn_posterior --preset paper
--methods hmc --seed 1`, which that run writes to parts/reference.csv; independent runs of HMC differ from it by about
0.005. The bounds lie between the published values of docs/results/samplers.md: Laplace's approximation, 0.044, meets
the first, and SGHMC, 0.021, the second. Read `targets.py` next.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, kernels, training
from bayesjax.evaluation import agreement
from bayesjax.types import Kernel
from benchmarks import machine, measure
from benchmarks.suites import rows, targets
from experiments.bnn_posterior.__main__ import PRESETS
from experiments.bnn_posterior.problems import Problem, classification

SETTINGS = PRESETS["paper"]
REFERENCE = Path(__file__).with_name("bnn_reference.csv")
BOUNDS = {0.05: "about Laplace's approximation", 0.025: "about SGHMC"}
SAMPLERS = ("sgld", "sghmc", "sgnht", "hmc", "nuts")
DRAWS_PER_CHUNK, THINNING = 10, 10  # draws of a chain between evaluations, and minibatch steps for a draw


def check(config: Any) -> None:
    """Ends the program with one line if a flag is invalid."""
    if not set(config.samplers) & set(SAMPLERS):
        measure.fail(f"--samplers must name one of {', '.join(SAMPLERS)}; got {config.samplers}")
    if SETTINGS.num_chains % config.devices:
        measure.fail(f"--devices must divide the number of chains {SETTINGS.num_chains}; got {config.devices}")


def make_kernel(problem: Problem, name: str) -> Kernel:
    """The kernel of one chain, with the settings of the experiment."""
    density, num_data = problem.scaled_density(), len(problem.train.x)
    match name:
        case "hmc" | "nuts":
            make = (
                functools.partial(kernels.hmc, density, num_integration_steps=SETTINGS.num_integration_steps)
                if name == "hmc"
                else functools.partial(kernels.nuts, density, max_num_doublings=SETTINGS.max_num_doublings)
            )
            return kernels.adapt(
                functools.partial(make, full_batch=True), num_steps=SETTINGS.num_warmup, step_size=0.05, mass="fixed",
                target_acceptance=0.65 if name == "hmc" else 0.8,
            )  # fmt: skip
        case "sgld":
            return kernels.sgld(density, step_size=SETTINGS.sgld_learning_rate / num_data)
    make = kernels.sghmc if name == "sghmc" else kernels.sgnht
    return make(density, step_size=SETTINGS.learning_rate / num_data, friction=SETTINGS.friction)


def parts(problem: Problem, name: str, devices: int) -> tuple[Kernel, Any, Callable]:
    """The kernel of all chains on their devices, its initial state, and the data as a function of the step."""
    is_full_batch, num = name in ("hmc", "nuts"), SETTINGS.num_chains
    # Chains of HMC and NUTS move one after the other on a CPU: NUTS then does not wait for the longest trajectory.
    chunk_size = 1 if is_full_batch and jax.default_backend() == "cpu" and devices == 1 else None
    kernel = kernels.particles(
        make_kernel(problem, name), num, batch_axis=None if is_full_batch else 0, chunk_size=chunk_size
    )
    kernel = training.spread(kernel, particle=devices)
    init = jax.vmap(lambda key: problem.scale(problem.init(key)))
    state = jax.jit(kernel.init)(jax.jit(init)(jax.random.split(jax.random.key(0), num)), jax.random.key(1))
    train = jax.tree.map(jnp.asarray, problem.train)
    if is_full_batch:
        return kernel, state, jax.tree_util.Partial(lambda train, step: train, train)
    # The gradient noise of an epoch's minibatches sums to 0, which biases the noise estimate of SGNHT.
    batches = data.independent_minibatches(
        jax.random.key(3), train, SETTINGS.batch_size, num, with_replacement=name == "sgnht"
    )
    return kernel, state, batches


def chunk_program(problem: Problem, kernel: Kernel, thinning: int) -> Callable:
    """The program `(rng_key, state, batches, first step) -> (state, mean class probabilities [num_test, K])`."""
    x = jnp.asarray(problem.test.x)
    steps = rows.steps(kernel, thinning)

    def chunk(rng_key: jax.Array, state: Any, batches: Callable, first: jax.Array) -> tuple[Any, jax.Array]:
        def draw(state: Any, start: jax.Array) -> tuple[Any, jax.Array]:
            state, _ = steps(rng_key, state, batches, start)
            logits = jax.vmap(lambda scaled: problem.apply(problem.unscale(scaled), x))(state.position)
            return state, jax.nn.softmax(logits, axis=-1).mean(axis=0)

        state, probabilities = jax.lax.scan(draw, state, first + thinning * jnp.arange(DRAWS_PER_CHUNK))
        return state, probabilities.mean(axis=0)

    return chunk


def measure_sampler(config: Any, problem: Problem, name: str, most_seconds: float) -> list[dict[str, Any]]:
    """The rows of one sampler."""
    kernel, state, batches = parts(problem, name, config.devices)
    thinning, key = 1 if name in ("hmc", "nuts") else THINNING, jax.random.key(7)
    compiled, compile_seconds = measure.compiled(
        chunk_program(problem, kernel, thinning), key, state, batches, jnp.int32(0)
    )
    known, sums = agreement.load_reference(REFERENCE), [np.zeros((len(problem.test.x), problem.model.features[-1]))]

    def chunk(state: Any, index: int) -> tuple[Any, Any]:
        return compiled(key, state, batches, jnp.int32(index * DRAWS_PER_CHUNK * thinning))

    def quality(state: Any, probabilities: jax.Array) -> float:
        sums.append(sums[-1] + np.asarray(probabilities, float))
        num = len(sums) - 1
        mean = (sums[num] - sums[num // 2]) / (num - num // 2)
        return float(agreement.total_variation(mean, known).value)

    course = targets.run(chunk, quality, state, least=min(BOUNDS), most_seconds=most_seconds)
    found = []
    for bound, source in BOUNDS.items():
        values = {
            "seconds to the bound": targets.time_to(course.values, course.seconds, bound),
            "total variation at the end": float(course.values[-1]),
            "seconds of sampling": float(course.seconds[-1]),
            "compile seconds": compile_seconds,
        }
        found += rows.plain({"sampler": name, "bound": bound, "source": source}, values)
    return found


def run(config: Any, rates: machine.Rates) -> list[dict[str, Any]]:
    """All rows of the suite; the samplers share --target-seconds."""
    problem, found = classification(SETTINGS), []
    chosen = [name for name in SAMPLERS if name in config.samplers]
    for name in chosen:
        found += measure_sampler(config, problem, name, config.target_seconds / len(chosen))
        print(f"{name}: {found[-3]['measure']} {found[-3]['value']:.4f}", flush=True)
        jax.clear_caches()
    return found
