"""Effective draws per second of the samplers of `samplers.py`, and the time until their predictive has a stated error.

Every sampler starts from random weights of the network of 973 weights and runs for --quality-seconds after compilation.
It is stopped between chunks of steps, after which the predictions of all chains at 64 held-out inputs are read.

    effective draws    bulk effective sample size (Vehtari et al., 2021) of the predictions of the second half of the
                       steps, the smallest and the median of the 64, over the seconds of that half
    error at time t    root mean square over the 64 inputs of (mean prediction - reference) / posterior standard
                       deviation, with the mean over all chains and the second half of the steps until t
    time to error      the seconds after which the error stays below 0.1

The reference is a long run of HMC (`reference.py`), whose own error is 0.02. SGD is no sampler: its error is the
distance of a point estimate. Step sizes are those of `kernels.py`, and nothing is adapted.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import evaluation
from benchmarks import measure
from benchmarks import samplers_problem as problem
from benchmarks.suites import reference, targets
from benchmarks.suites.kernels import LEAPS, Sampler, ours, own, peers
from benchmarks.suites.samplers import Size, batches, chains_of, start

STATED_ERROR = 0.1
DRAWS_PER_CHUNK = 20
LEAST_CHUNKS = 4


def traced(sampler: Sampler, num_chains: int, seconds: float, num_devices: int) -> dict[str, Any]:
    """Runs a sampler; returns its predictions, the time at which each chunk ended, and the seconds of compilation.

    Returns:
      `predictions [num_chains, num_draws, 64]`, `seconds [num_chunks]`, `compile_seconds`.
    """
    kernel, x = chains_of(sampler, Size(1000, num_chains), num_devices), jnp.asarray(reference.inputs())
    thinning = max(1, LEAPS // sampler.most_gradients)

    def chunk(rng_key: jax.Array, state: Any, source: Any, first: jax.Array) -> tuple[Any, jax.Array]:
        def one(state: Any, step: jax.Array) -> tuple[Any, None]:
            batch = jax.tree.map(lambda leaf: leaf[step % len(leaf)], source)
            return kernel.step(jax.random.fold_in(rng_key, step), state, batch)[0], None

        def draw(state: Any, index: jax.Array) -> tuple[Any, jax.Array]:
            steps = first + index * thinning + jnp.arange(thinning)
            state, _ = jax.lax.scan(one, state, steps)
            return state, jax.vmap(lambda params: problem.predict(params, x))(sampler.position(state))

        return jax.lax.scan(draw, state, jnp.arange(DRAWS_PER_CHUNK))

    state = jax.jit(kernel.init)(start(1000, num_chains), jax.random.key(4))
    fixed = jax.random.key(5), batches(sampler.is_full_batch)
    program, compile_seconds = measure.compiled(chunk, fixed[0], state, fixed[1], jnp.int32(0))
    jax.block_until_ready(program(fixed[0], state, fixed[1], jnp.int32(0)))  # warm; its result is not used
    ends, predictions, begun = [], [], time.perf_counter()
    while len(ends) < LEAST_CHUNKS or ends[-1] < seconds:
        first = jnp.int32(len(ends) * DRAWS_PER_CHUNK * thinning)
        state, values = jax.block_until_ready(program(fixed[0], state, fixed[1], first))
        ends.append(time.perf_counter() - begun)
        predictions.append(np.asarray(values))
    drawn = np.swapaxes(np.concatenate(predictions), 0, 1)
    measure.check_finite(drawn)
    return {"predictions": drawn, "seconds": np.asarray(ends), "compile_seconds": compile_seconds}


def errors(predictions: np.ndarray, num_chunks: int, expected: dict[str, np.ndarray]) -> np.ndarray:
    """The error of the predictive mean at the end of each chunk, in posterior standard deviations."""
    sums = np.concatenate([np.zeros((1, predictions.shape[2])), predictions.mean(axis=0, dtype=float).cumsum(axis=0)])
    ends = np.arange(1, num_chunks + 1) * (predictions.shape[1] // num_chunks)
    means = np.stack([(sums[end] - sums[end // 2]) / (end - end // 2) for end in ends])
    return np.sqrt(np.mean(((means - expected["mean"]) / expected["sd"]) ** 2, axis=1))


def measure_one(name: str, sampler: Sampler, config: Any, expected: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """The rows of one sampler."""
    run = traced(sampler, config.quality_chains, config.quality_seconds, config.devices)
    drawn, seconds = run["predictions"], run["seconds"]
    error = errors(drawn, len(seconds), expected)
    half = drawn[:, drawn.shape[1] // 2 :]
    half_seconds = seconds[-1] * half.shape[1] / drawn.shape[1]
    values: dict[str, float | None] = {
        "error of the predictive": float(error[-1]),
        f"seconds to error {STATED_ERROR}": targets.time_to(error, seconds, STATED_ERROR),
    }
    if name != "sgd":
        sizes = np.asarray(evaluation.effective_sample_size(half, kind="bulk"))
        whole = seconds[-1] + run["compile_seconds"]
        values |= {
            "effective draws per second, smallest": float(sizes.min() / half_seconds),
            "effective draws per second, median": float(np.median(sizes) / half_seconds),
            "effective draws per second with warm-up and compilation": float(np.median(sizes) / whole),
            "largest R-hat": float(np.max(evaluation.r_hat(half))),
        }
    keys = {"library": sampler.library, "sampler": name.split()[-1], "weights": 1000, "chains": config.quality_chains}
    return [{**keys, "measure": name, "value": value} for name, value in values.items()]


def measure_all(config: Any) -> list[dict[str, Any]]:
    """The rows of all samplers, one after the other."""
    samplers = {name: each for name, each in ours().items() if name in config.samplers} | own(config.kernel)
    if config.peers:
        found = peers(problem.regression(reference.NUM_DATA))
        samplers |= {name: each for name, each in found.items() if name.split()[-1] in config.samplers}
    expected, rows = reference.read(), []
    for name, sampler in samplers.items():
        rows += measure_one(name, sampler, config, expected)
        print(f"quality of {name}: {rows[-1]['measure']} {rows[-1]['value']}", flush=True)
    return rows
