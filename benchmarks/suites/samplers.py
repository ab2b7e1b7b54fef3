"""The samplers suite: the cost of samplers over the number of weights, of chains and of devices, and their quality.

The target is the posterior of a regression network with two hidden layers (`samplers_problem.py`), 512 examples. SGD,
SGLD, SGHMC and SGNHT take batches of 64, HMC 50 leapfrog steps, and NUTS at most 63. For every size of the grid the
samplers of bayesjax and the user's, and at few sizes those of BlackJAX, NumPyro and `posteriors` (PyTorch on the CPU),
are timed in alternating order, after compilation. A size is left out if a step would take longer than --step-seconds
or need more memory than the device has.

    gradients per second      gradients of all chains in a second, including noise, momenta and accept decisions
    share of product rate     FLOPs of the products of these gradients, counted in the HLO of a gradient alone, as a
                              fraction of the rate of a large product that is measured on the same device
    projection                time of a step from the roofline (`roofline.py`), beside the measured time
    noise, diagnostics        time of drawing one normal number for each weight, and time that the infos cost, as
                              fractions of the time of a step

Read `quality.py` next, which measures effective draws per second and the time to a stated error.
"""

import functools
import importlib.util
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import kernels, training, tree
from bayesjax.types import Kernel
from benchmarks import machine, measure, roofline
from benchmarks import samplers_problem as problem
from benchmarks.suites.kernels import STOCHASTIC_STEP, Sampler, ours, own, peers
from benchmarks.suites.reference import NUM_DATA
from benchmarks.suites.rows import check_precision

BATCH_SIZE, NUM_BATCHES = 64, 100
COPIES = 10  # of the weights of a chain that a step holds: state, gradient, noise, proposals
NOISE, PLAIN = "noise alone", "without diagnostics"


class Size(NamedTuple):
    """A point of the grid."""

    weights: int
    chains: int


class Measured(NamedTuple):
    """A compiled row and its work.

    Attributes:
      row: the row to time; its time is per step of all chains.
      gradients: mean number of gradients in a step of one chain.
      projected: projected seconds of a step; None if the program has loops of unknown length.
      peak_bytes: memory of the program on one device.
    """

    row: measure.Row
    gradients: float = 1.0
    projected: float | None = None
    peak_bytes: int = 0


def hidden(num_weights: int) -> tuple[int, int]:
    """Widths of the hidden layers of a network with about `num_weights` weights."""
    if num_weights == 1000:
        return problem.HIDDEN  # the network of the reference, with 973 weights
    width = round(-5.5 + math.sqrt(5.5**2 + num_weights - 1))  # width^2 + 11 width + 1 weights
    return max(width, 1), max(width, 1)


def grid(weights: tuple[int, ...], chains: tuple[int, ...], is_product: bool) -> list[Size]:
    """All sizes if `is_product`; else those with the fewest weights or the fewest chains."""
    sizes = [Size(*size) for size in sorted({(w, c) for w in weights for c in chains})]
    return [size for size in sizes if is_product or min(weights) == size.weights or min(chains) == size.chains]


def step_seconds(sampler: Sampler, size: Size, rates: machine.Rates, num_devices: int) -> float:
    """Rough time of a step before anything is compiled, from its products and the memory traffic of its weights."""
    num_data = NUM_DATA if sampler.is_full_batch else BATCH_SIZE
    widths = hidden(size.weights)
    products = problem.matrix_flops(num_data, widths) / rates.product(min(num_data, *widths))
    traffic = 4 * COPIES * size.weights / rates.bandwidth(4 * COPIES * size.weights * size.chains)
    each = size.chains / num_devices * (products + traffic)
    return sampler.most_gradients * (each + 20 * rates.product_seconds)


def fits(sampler: Sampler, size: Size, rates: machine.Rates, num_devices: int, most_seconds: float) -> bool:
    """Whether a size is within the budget of time and memory, and its chains can be divided over the devices."""
    num_data, widths = NUM_DATA if sampler.is_full_batch else BATCH_SIZE, sum(hidden(size.weights))
    needed = 4 * size.chains / num_devices * (COPIES * size.weights + 4 * num_data * widths)
    is_quick = step_seconds(sampler, size, rates, num_devices) <= most_seconds
    return is_quick and needed <= machine.memory_bytes() and size.chains % num_devices == 0


# ---- rows


def batches(is_full_batch: bool) -> Any:
    """The arrays `[number of batches, batch, ...]` of a sampler; a full batch is a single one."""
    if is_full_batch:
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], problem.regression(NUM_DATA))
    return jax.tree.map(jnp.asarray, problem.minibatches(NUM_DATA, BATCH_SIZE, NUM_BATCHES))


def start(num_weights: int, num_chains: int) -> Any:
    """Initial weights, stacked for the chains; random and different for each chain."""
    network = problem.network(hidden(num_weights))
    keys = jax.random.split(jax.random.key(0), num_chains)
    return jax.vmap(lambda key: network.init(key, jnp.zeros((1, problem.NUM_INPUTS)))["params"])(keys)


def chains_of(sampler: Sampler, size: Size, num_devices: int = 1) -> Kernel:
    """The kernel of all chains on the network of a size, spread over the devices."""
    density = problem.density(NUM_DATA, hidden(size.weights))
    step_size = sampler.step_size * min(1.0, 1000 / size.weights)
    kernel = kernels.particles(sampler.make(density, step_size), size.chains)
    return training.particle_parallel(kernel, num_devices)


def scanned(
    kernel: Kernel, num_steps: int, num_gradients: int | Callable[[Any], jax.Array], has_info: bool = True
) -> Callable[..., Any]:
    """A program of `num_steps` steps: `(rng_key, state, batches) -> (state, infos, mean number of gradients)`."""

    def steps(rng_key: jax.Array, state: Any, source: Any) -> tuple[Any, Any, jax.Array]:
        def one(carry: tuple[Any, jax.Array], step: jax.Array) -> tuple[tuple[Any, jax.Array], Any]:
            state, count = carry
            batch = jax.tree.map(lambda leaf: leaf[step % len(leaf)], source)
            state, info = kernel.step(jax.random.fold_in(rng_key, step), state, batch)
            taken = jnp.mean(num_gradients(info)) if callable(num_gradients) else jnp.float32(num_gradients)
            return (state, count + taken), info if has_info else ()

        carry = state, jnp.float32(0)
        (state, count), infos = jax.lax.scan(one, carry, jnp.arange(num_steps))
        return state, infos, count / num_steps

    return steps


def measured(
    sampler: Sampler, size: Size, rates: machine.Rates, num_devices: int, seconds: float, has_info: bool = True
) -> Measured:
    """Compiles and checks the row of a sampler, with as many steps as take about `seconds`."""
    num_steps = int(np.clip(seconds / step_seconds(sampler, size, rates, num_devices), 1, 2000))
    kernel = chains_of(sampler, size, num_devices)
    state = jax.jit(kernel.init)(start(size.weights, size.chains), jax.random.key(1))
    arguments = jax.random.key(2), state, batches(sampler.is_full_batch)
    program, compile_seconds = measure.compiled(scanned(kernel, num_steps, sampler.num_gradients, has_info), *arguments)

    def run() -> Any:
        return jax.block_until_ready(program(*arguments))

    moved, _, gradients = run()
    measure.check_finite(moved)
    row = measure.Row(run, num_steps, compile_seconds)
    projected = None
    if not callable(sampler.num_gradients):
        projected = roofline.on_this_device(program, rates, num_devices)[0] / num_steps
    return Measured(row, float(gradients), projected, roofline.working_set(program))


def gradient_of(size: Size, is_full_batch: bool) -> tuple[Callable, Any]:
    """The gradient of all chains on one batch as a function, and its arguments."""
    density = problem.density(NUM_DATA, hidden(size.weights))
    batch = jax.tree.map(lambda leaf: leaf[0], batches(is_full_batch))

    def value(params: Any, batch: Any) -> jax.Array:
        out: Any = density(params, jax.random.key(0), batch)
        return out[0]

    gradient = jax.vmap(jax.value_and_grad(value), in_axes=(0, None))
    return lambda *arguments: gradient(*arguments)[1], (start(size.weights, size.chains), batch)


def noise_row(size: Size, num_steps: int) -> measure.Row:
    """A row that draws one normal number for each weight of each chain, as a step of a sampler does."""
    position = start(size.weights, size.chains)

    def draws(rng_key: jax.Array, position: Any) -> Any:
        def one(position: Any, step: jax.Array) -> tuple[Any, None]:
            keys = jax.random.split(jax.random.fold_in(rng_key, step), size.chains)
            return jax.tree.map(jnp.add, position, jax.vmap(tree.normal_like)(keys, position)), None

        return jax.lax.scan(one, position, jnp.arange(num_steps))[0]

    arguments = jax.random.key(0), position
    program, seconds = measure.compiled(draws, *arguments)
    jax.block_until_ready(program(*arguments))
    return measure.Row(lambda: jax.block_until_ready(program(*arguments)), num_steps, seconds)


def posteriors_rows(num_steps: int) -> dict[str, measure.Row]:
    """Rows of SGHMC and SGLD of the PyTorch library `posteriors`, for one chain of 973 weights."""
    from benchmarks import samplers_torch as peer

    data = problem.minibatches(NUM_DATA, BATCH_SIZE, NUM_BATCHES)
    made = peer.network_samplers(problem.initial_weights(), NUM_DATA, STOCHASTIC_STEP, STOCHASTIC_STEP)
    rows = {}
    for name, sampler in made.items():
        sampler.steps(data, 3)
        rows[f"posteriors {name}"] = measure.Row(functools.partial(sampler.steps, data, num_steps), num_steps)
    return rows


# ---- the measurement


def chosen(config: Any, size: Size) -> dict[str, Sampler]:
    """The samplers of a size: bayesjax's and the user's, and at few sizes those of other libraries."""
    samplers = {name: each for name, each in ours().items() if name in config.samplers} | own(config.kernel)
    if config.peers and size.weights == min(config.weights) and size.chains in sorted(config.chains)[::2]:
        data = problem.regression(NUM_DATA)
        samplers |= {name: each for name, each in peers(data).items() if name.split()[-1] in config.samplers}
    return samplers


def measure_size(config: Any, size: Size, rates: machine.Rates) -> list[dict[str, Any]]:
    """Times all samplers of one size in alternating order; returns rows of the results file."""
    fitting = {
        name: sampler
        for name, sampler in chosen(config, size).items()
        if fits(sampler, size, rates, config.devices, config.step_seconds)
    }
    made = {name: measured(each, size, rates, config.devices, config.seconds) for name, each in fitting.items()}
    informed = [name for name in made if fitting[name].library == "bayesjax" and min(config.chains) == size.chains]
    for name in informed:
        plain = measured(fitting[name], size, rates, config.devices, config.seconds, has_info=False)
        made[f"{name} {PLAIN}"] = plain
    timed = {name: each.row for name, each in made.items()}
    if not timed:
        return []
    timed[NOISE] = noise_row(size, timed[next(iter(timed))].steps)
    is_small = size == Size(min(config.weights), 1) and size.weights == 1000 and jax.default_backend() == "cpu"
    has_torch = all(importlib.util.find_spec(name) for name in ("torch", "posteriors"))
    sides = {"posteriors": functools.partial(posteriors_rows, 50)} if config.peers and is_small and has_torch else {}
    with measure.Sides(sides, threads=config.threads) as running:
        here = {name: functools.partial(measure.timed, row) for name, row in timed.items()}
        remote = {name: functools.partial(running.time, name) for name in running.rows()}
        times = measure.alternate_timed(here | remote, config.repeats)
    work = {}
    for full in {each.is_full_batch for each in fitting.values()}:
        gradient, arguments = gradient_of(size, full)
        work[full] = roofline.on_this_device(jax.jit(gradient).lower(*arguments).compile(), rates)
    rows: list[dict[str, Any]] = []
    for name, sampler in fitting.items():
        rows += sampler_rows(config, name, sampler, size, made[name], times, work[sampler.is_full_batch], rates)
    for name in remote:
        keys = {"library": "posteriors", "sampler": name.split()[-1], **size._asdict()}
        rows.append(rate_row(keys, [1e3 / value for value in times[name]]))
    return rows


def sampler_rows(
    config: Any, name: str, sampler: Sampler, size: Size, found: Measured, times: dict[str, list[float]],
    work: Any, rates: machine.Rates,
) -> list[dict[str, Any]]:  # fmt: skip
    """The rows of one sampler at one size."""
    keys = {"library": sampler.library, "sampler": name.split()[-1], **size._asdict()}
    step, counted = float(np.median(times[name])) / 1e3, work[1]
    rate = [1e3 * found.gradients * size.chains / value for value in times[name]]
    # The gradient alone is compiled for one device; a collective is never part of it.
    projected = found.projected or found.gradients * work[0] / config.devices
    per_gradient = counted.flops / size.chains
    share = float(np.median(rate)) * per_gradient / (rates.peak * config.devices)
    values = {
        "gradients per step": found.gradients,
        "seconds per step": step,
        "projected seconds per step": projected,
        "measured / projected": step / projected,
        "share of product rate": share,
        "FLOPs per gradient": per_gradient,
        "bytes per gradient": counted.memory_bytes / size.chains,
        "compile seconds": found.row.compile_seconds,
        "program MiB": found.peak_bytes / 2**20,
    }
    if f"{name} {PLAIN}" in times:
        values["share of diagnostics"] = 1 - measure.ratio(times, f"{name} {PLAIN}", name, "-")["of_medians"]
    if not sampler.is_full_batch and sampler.library == "bayesjax" and name != "sgd":
        values["share of noise"] = measure.ratio(times, NOISE, name, "-")["of_medians"]
    return [rate_row(keys, rate), *({**keys, "measure": name, "value": value} for name, value in values.items())]


def rate_row(keys: dict[str, Any], rate: list[float]) -> dict[str, Any]:
    """The row of the gradients per second: median, range and number of repeats."""
    summary = measure.summary(rate)
    extremes = {"min": summary["min"], "max": summary["max"], "n": len(rate)}
    return {**keys, "measure": "gradients per second", "value": summary["median"], **extremes}


def check(config: Any) -> None:
    """Ends the program with one line if a flag is invalid."""
    measure.require_at_least(config, 1, "quality_chains")
    for name, least in (("weights", 100), ("chains", 1), ("samplers", None)):
        values = getattr(config, name)
        if not values:
            measure.fail(f"--{name} is empty")
        if least and min(values) < least:
            measure.fail(f"--{name} must be at least {least}; got {min(values)}")
    if config.quality_chains % config.devices:
        measure.fail(f"--devices must divide --quality-chains {config.quality_chains}; got {config.devices}")


def run(config: Any, rates: machine.Rates) -> list[dict[str, Any]]:
    """All rows of the suite."""
    from benchmarks.suites import quality

    try:
        own(config.kernel)
    except ValueError as error:
        measure.fail(str(error))
    gradient, arguments = gradient_of(Size(1000, 1), True)
    print(
        f"gradient differs from that of the highest precision by {check_precision(gradient, *arguments):.1e}",
        flush=True,
    )
    rows: list[dict[str, Any]] = []
    for size in grid(config.weights, config.chains, config.product):
        rows += measure_size(config, size, rates)
        print(f"{size.weights} weights, {size.chains} chains: {len(rows)} rows so far", flush=True)
        jax.clear_caches()
    if config.quality_seconds > 0:
        rows += quality.measure_all(config)
    return rows
