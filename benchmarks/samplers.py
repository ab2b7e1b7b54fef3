"""The cost of samplers: HMC compared with BlackJAX and NumPyro, SGHMC and SGLD with BlackJAX and `posteriors`.

The target is the posterior of a network of 973 weights (`samplers_problem.py`). HMC uses 512 data points, and the same
log density, step size and 50 leapfrog steps in every library. It is compared with two loops without a sampler:
the bare loop, a scan of `value_and_grad` that updates the position, and a second loop that also has a momentum. SGHMC
and SGLD use batches of 64, one for each step; BlackJAX's SGHMC takes 10 gradients per call, its default.

    python -m benchmarks.samplers                       twenty minutes on two idle cores
    python -m benchmarks.samplers --repeats 2 --close-repeats 2 --processes 2 --num-draws 20      a check

Each library has its own process on the same cores. Rows run in alternating order, after compilation. A time is that of
one gradient and includes noise and accept decisions. Three checks precede the timing (`samplers_checks.py`). The
log posterior in PyTorch, for the library `posteriors`, must have bayesjax's gradient. The HMC kernels must agree on the
means of the posterior. BlackJAX's function estimates their bulk effective sample sizes from chains with common starting
points; the smallest over 64 predictions and the log density is reported per gradient (`effective`). Every
stochastic-gradient sampler draws from N(0, I) at its matched step size. It fails if its variance differs from 1 by more
than 5 %; the variance is reported beside the speed.

Bars: HMC computes at least 0.97 of the bare loop's gradients per second and more than any other library; 32 chains
cost at most 12 times one. One chain keeps a core busy, so that on two cores 32 chains cost about 16 times one, and less
where the fixed cost of a step dominates. That ratio is therefore measured with 512 and with 16 data points, on one
device and with one device per core. The speed of a program differs between processes by a few per cent. Rows close to a
bar or to each other are therefore measured in several sets of processes, and their ratio is taken for each repeat.
Every library draws its noise with its default generator; bayesjax's is `bayesjax.noise`. The committed results were
measured when its default was the sixteen-bit law; the present default is the exact normal law, which is slower to draw.

The growth of the cost with the numbers of weights and chains is measured by `benchmarks.run`. Results:
benchmarks/results/samplers.json.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from bayesjax import kernels, training, tree
from bayesjax.types import Kernel, Params
from benchmarks import measure, samplers_checks
from benchmarks import samplers_problem as problem
from benchmarks.samplers_checks import LEAPS, Sampler

NUM_DATA, FEW_DATA, BATCH_SIZE, MANY = 512, 16, 64, 32
NETWORK_STEPS = (1e-6, 1e-6)  # step sizes of SGHMC and SGLD, in bayesjax's units
FEW = f", {FEW_DATA} data"
PEERS = ("blackjax", "numpyro")
HMC = "bayesjax hmc"
CLOSE = ("bare loop", "bare loop with a momentum", *(f"{name} hmc" for name in PEERS))
"""Rows within a few per cent of HMC's time; their order requires many repeats in several processes."""


@dataclass(frozen=True)
class Config:
    """Flags of benchmarks.samplers."""

    repeats: int = 11
    """Number of times that every row is measured."""
    close_repeats: int = 20
    """Number of further measurements, in each set of processes, of the rows whose times are close to one another or to
    a bar: the bare loops, HMC in every library, and 32 chains on 16 data points."""
    processes: int = 5
    """Number of sets of processes for the rows of --close-repeats and their ratios, at least 2."""
    num_gradients: int = 2000
    """Number of gradients in a measurement."""
    num_draws: int = 400
    """Number of draws of each of four chains for the effective sample size."""
    threads: int = 2
    """Number of cores, and of threads, for every library."""
    out: str = str(measure.RESULTS / "samplers.json")
    """The JSON file to write."""


# ---- rows: several steps from a state under one jit


def scanned(step: Callable[[jax.Array, Any], Any], state: Any, num_steps: int, gradients_per_step: int) -> measure.Row:
    """Compiles a scan of steps `(index, state) -> state` whose time is reported per gradient."""

    def steps(state: Any) -> Any:
        return jax.lax.scan(lambda state, index: (step(index, state), None), state, jnp.arange(num_steps))[0]

    program, seconds = measure.compiled(steps, state)

    def run() -> None:
        measure.check_finite(program(state))

    run()
    return measure.Row(run, num_steps * gradients_per_step, seconds)


def moved(params: Params, by: Params) -> Params:
    """The parameters plus a small multiple of `by`."""
    return jax.tree.map(lambda leaf, direction: leaf + 1e-9 * direction, params, by)


def bare_loop(logdensity: Callable[[Params], jax.Array], position: Params, num_gradients: int) -> measure.Row:
    """A loop of value and gradient in which each position depends on the previous gradient."""

    def step(_: jax.Array, carry: tuple[Params, jax.Array]) -> tuple[Params, jax.Array]:
        value, gradient = jax.value_and_grad(logdensity)(carry[0])
        return moved(carry[0], gradient), value

    return scanned(step, (position, jnp.zeros(())), num_gradients, 1)


def bare_loop_with_momentum(
    logdensity: Callable[[Params], jax.Array], position: Params, num_gradients: int
) -> measure.Row:
    """A loop of leapfrog updates without a sampler: the gradient moves the momentum, which moves the position."""

    def step(_: jax.Array, carry: tuple[Params, Params]) -> tuple[Params, Params]:
        momentum = moved(carry[1], jax.grad(logdensity)(carry[0]))
        return moved(carry[0], momentum), momentum

    return scanned(step, (position, jax.tree.map(jnp.zeros_like, position)), num_gradients, 1)


def hmc(num_data: int = NUM_DATA) -> Kernel:
    """The HMC kernel of bayesjax on the full-batch log posterior."""
    return samplers_checks.bayesjax_hmc(problem.closure(num_data))


def hmc_row(kernel: Kernel, position: Params, num_gradients: int) -> measure.Row:
    """A row of steps of bayesjax's HMC, from a state that already has its gradient."""

    def step(index: jax.Array, state: Any) -> Any:
        return kernel.step(jax.random.fold_in(jax.random.key(1), index), state, None)[0]

    state = jax.jit(kernel.step)(jax.random.key(0), kernel.init(position, jax.random.key(0)), None)[0]
    return scanned(step, state, max(1, num_gradients // LEAPS), LEAPS)


def chains_of(kernel: Kernel, position: Params, num: int) -> tuple[Kernel, Params]:
    """Copies of a kernel and of its position; a single chain is returned unchanged."""
    return (kernels.particles(kernel, num), tree.stack([position] * num)) if num > 1 else (kernel, position)


def stochastic_rows(samplers: dict[str, Sampler], num_gradients: int) -> dict[str, measure.Row]:
    """The rows of SGHMC and SGLD, with one batch per step."""
    batches = jax.tree.map(jnp.asarray, problem.minibatches(NUM_DATA, BATCH_SIZE, 100))
    rows = {}
    for name, sampler in samplers.items():

        def step(index: jax.Array, state: Any, sampler: Sampler = sampler) -> Any:
            batch = jax.tree.map(lambda leaf: leaf[index % 100], batches)
            return sampler.step(jax.random.fold_in(jax.random.key(1), index), state, batch)

        state = sampler.init(problem.initial_weights(), jax.random.key(0))
        per_step = sampler.gradients_per_step
        rows[name] = scanned(step, state, num_gradients // per_step, per_step)
    return rows


def close_rows(config: Config) -> dict[str, measure.Row]:
    """Rows of the bare loops, and of HMC on many and on few data points."""
    num, position = config.num_gradients, problem.initial_weights()
    return {
        "bare loop": bare_loop(problem.closure(NUM_DATA), position, num),
        "bare loop with a momentum": bare_loop_with_momentum(problem.closure(NUM_DATA), position, num),
        HMC: hmc_row(hmc(), position, num),
        f"{HMC}{FEW}": hmc_row(hmc(FEW_DATA), position, 5 * num),
    }


def bayesjax_rows(config: Config) -> dict[str, measure.Row]:
    """Rows of the bare loop, HMC in one chain and many, SGHMC and SGLD."""
    num, position = config.num_gradients, problem.initial_weights()
    rows = close_rows(config) | {
        f"{HMC} {MANY} chains": hmc_row(*chains_of(hmc(), position, MANY), num // MANY),
        f"{HMC} {MANY} chains{FEW}": hmc_row(*chains_of(hmc(FEW_DATA), position, MANY), 5 * num // MANY),
    }
    density = problem.density(NUM_DATA)
    return rows | stochastic_rows(samplers_checks.bayesjax_samplers(density, *NETWORK_STEPS), num)


def device_rows(config: Config, names: tuple[str, ...] = ("", FEW)) -> dict[str, measure.Row]:
    """Rows of HMC with many chains spread over the cores, with many and with few data points."""
    rows = {}
    for name in names:
        num_data, num = (FEW_DATA, 5 * config.num_gradients) if name else (NUM_DATA, config.num_gradients)
        kernel, position = chains_of(hmc(num_data), problem.initial_weights(), MANY)
        kernel = training.particle_parallel(kernel, config.threads)
        rows[f"{HMC} {MANY} chains{name} on {config.threads} devices"] = hmc_row(kernel, position, num // MANY)
    return rows


def peer_hmc_rows(config: Config, library: str) -> dict[str, measure.Row]:
    """The row of HMC in one of the JAX libraries."""
    position = problem.initial_weights()
    sampler = samplers_checks.hmc_samplers(problem.closure(NUM_DATA))[library]
    state = sampler.init(position, jax.random.key(0))
    steps = config.num_gradients // LEAPS

    def step(index: jax.Array, state: Any) -> Any:
        return sampler.step(jax.random.fold_in(jax.random.key(1), index), state, None)

    return {f"{library} hmc": scanned(step, state, steps, LEAPS)}


def peer_rows(config: Config, library: str) -> dict[str, measure.Row]:
    """The row of HMC in one of the JAX libraries and, for BlackJAX, those of SGHMC and SGLD."""
    rows = peer_hmc_rows(config, library)
    if library == "blackjax":
        samplers = samplers_checks.blackjax_samplers(problem.density(NUM_DATA), *NETWORK_STEPS)
        rows |= stochastic_rows(samplers, config.num_gradients)
    return rows


def posteriors_rows(config: Config) -> dict[str, measure.Row]:
    """Rows of SGHMC and SGLD of `posteriors` in eager PyTorch."""
    from benchmarks import samplers_torch as peer

    batches = problem.minibatches(NUM_DATA, BATCH_SIZE, 100)
    num = max(1, config.num_gradients // 4)
    rows = {}
    for name, sampler in peer.network_samplers(problem.initial_weights(), NUM_DATA, *NETWORK_STEPS).items():
        sampler.steps(batches, 3)
        rows[f"posteriors {name}"] = measure.Row(functools.partial(sampler.steps, batches, num), num)
    return rows


def main(config: Config) -> None:
    """Checks, measures, prints the tables and writes the file."""
    load_average = measure.prepare(
        config, "num_gradients", "num_draws", "close_repeats", needs=("torch", "posteriors", "numpyro")
    )
    if config.processes < 2:
        measure.fail(f"--processes must be at least 2, for a standard error; got {config.processes}")
    if config.num_gradients < MANY * LEAPS:
        measure.fail(f"--num-gradients must be at least {MANY * LEAPS}, for {MANY} chains; got {config.num_gradients}")
    difference = samplers_checks.check_port(NUM_DATA)
    gate = samplers_checks.moment_gate()
    effective = samplers_checks.effective_sizes(problem.closure(NUM_DATA), config.num_draws)

    many, on = f"{HMC} {MANY} chains", f" on {config.threads} devices"
    on_devices = f"bayesjax{on}"
    sides = {
        "bayesjax": functools.partial(bayesjax_rows, config),
        on_devices: functools.partial(device_rows, config),
        **{library: functools.partial(peer_rows, config, library) for library in PEERS},
        "posteriors": functools.partial(posteriors_rows, config),
    }
    close_sides = {
        "bayesjax": functools.partial(close_rows, config),
        on_devices: functools.partial(device_rows, config, (FEW,)),
        **{library: functools.partial(peer_hmc_rows, config, library) for library in PEERS},
    }
    devices, close = {on_devices: config.threads}, []
    with measure.Sides(sides, threads=config.threads, devices=devices) as running:
        times = running.alternate(config.repeats)
    for number in range(config.processes):
        print(f"close rows: processes {number + 1} of {config.processes}", flush=True)
        with measure.Sides(close_sides, threads=config.threads, devices=devices) as fresh:
            close.append(fresh.alternate(config.close_repeats))
    ratio = functools.partial(measure.ratio, times)
    bars = dict.fromkeys(CLOSE, "> 1") | {"bare loop": ">= 0.97", "bare loop with a momentum": "-"}
    ratios = {
        **{f"{name} / {HMC}": measure.ratio_over_processes(close, name, HMC, bars[name]) for name in CLOSE},
        **{
            f"{library} {name} / bayesjax {name}": ratio(f"{library} {name}", f"bayesjax {name}", "> 1")
            for name in ("sghmc", "sgld")
            for library in ("blackjax", "posteriors")
        },
        **{
            f"{many}{name}{where} / {HMC}{name}": ratio(f"{many}{name}{where}", f"{HMC}{name}", "<= 12")
            for name, where in (("", ""), (FEW, ""), ("", on))
        },
        f"{many}{FEW}{on} / {HMC}{FEW}": measure.ratio_over_processes(
            close, f"{many}{FEW}{on}", f"{HMC}{FEW}", "<= 12"
        ),
    }
    results = {
        **measure.made_beside_torch(config, load_average, "blackjax", "numpyro", "posteriors"),
        "milliseconds_per_gradient": measure.summaries(times),
        "compile_seconds": running.compile_seconds,
        "peak_mib": running.peak_mib,
        "ratios": ratios,
        "effective": effective,
        "gate": gate,
        "difference": difference,
    }
    measure.write(config.out, results)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, description=__doc__))
