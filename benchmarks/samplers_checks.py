"""Checks of the samplers of `samplers.py` before their timing: gradients, stationary moments and effective draws."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import evaluation, kernels
from bayesjax.types import Density, Kernel, Params
from benchmarks import samplers_problem as problem

STEP_SIZE, LEAPS = 0.0035, 50  # settings of HMC, with an acceptance rate of about 0.8
FRICTION = 0.1
GATE_STEPS = (0.01, 0.02)  # step sizes of SGHMC and SGLD on N(0, I), in bayesjax's units
GATE, GATE_DIM, GATE_LENGTH = 0.05, 4096, 4000  # relative error allowed, coordinates, steps
TOLERANCE = 1e-4  # relative, between the port's gradient and bayesjax's
NUM_CHAINS, NUM_RUNS, WARM_UP = 4, 4, 300


class Sampler(NamedTuple):
    """A sampler of any JAX library, with one interface.

    Attributes:
      init: `(position, rng_key) -> state`.
      step: `(rng_key, state, batch) -> state`.
      position: `state -> params`.
      gradients_per_step: number of gradients in a step.
    """

    init: Callable
    step: Callable
    position: Callable
    gradients_per_step: int = 1


# ---- stochastic gradients


def chen(step_size: float) -> tuple[float, float]:
    """Converts eta and alpha to step size eps and friction C of Chen et al. (2014): eta = eps^2, alpha = eps C."""
    return step_size**0.5, FRICTION / step_size**0.5


def bayesjax_samplers(density: Density, sghmc_step: float, sgld_step: float) -> dict[str, Sampler]:
    """The samplers of bayesjax by the names of the rows."""
    made = {
        "bayesjax sghmc": kernels.sghmc(density, step_size=sghmc_step, friction=FRICTION),
        "bayesjax sgld": kernels.sgld(density, step_size=sgld_step),
    }
    return {
        name: Sampler(
            kernel.init,
            lambda rng_key, state, batch, kernel=kernel: kernel.step(rng_key, state, batch)[0],
            lambda state: state.position,
        )
        for name, kernel in made.items()
    }


def blackjax_samplers(density: Density, sghmc_step: float, sgld_step: float) -> dict[str, Sampler]:
    """BlackJAX's samplers at the same step sizes; its SGHMC takes 10 gradients per call, as by default."""
    import blackjax  # not at the top: the import starts JAX's backend before its devices are set

    def value(position: Params, batch: Any) -> jax.Array:
        out: Any = density(position, jax.random.key(0), batch)
        return out[0] if isinstance(out, tuple) else out

    step_size, friction = chen(sghmc_step)
    sghmc: Any = blackjax.sghmc(jax.grad(value), 10, alpha=friction)
    sgld: Any = blackjax.sgld(jax.grad(value))

    def init(position: Params, rng_key: jax.Array) -> Params:
        del rng_key
        return position

    return {
        "blackjax sghmc": Sampler(
            init, lambda rng_key, state, batch: sghmc.step(rng_key, state, batch, step_size), lambda state: state, 10
        ),
        "blackjax sgld": Sampler(
            init, lambda rng_key, state, batch: sgld.step(rng_key, state, batch, sgld_step), lambda state: state
        ),
    }


def variance(sampler: Sampler) -> tuple[float, float]:
    """A sampler's stationary variance on N(0, I), and its Monte Carlo standard error over independent coordinates."""

    @jax.jit
    def run() -> jax.Array:
        def step(carry: tuple[Any, jax.Array], index: jax.Array) -> tuple[tuple[Any, jax.Array], None]:
            state = sampler.step(jax.random.fold_in(jax.random.key(2), index), carry[0], None)
            keep = index >= GATE_LENGTH // 4
            return (state, carry[1] + jnp.where(keep, sampler.position(state)["x"] ** 2, 0)), None

        start = {"x": jax.random.normal(jax.random.key(0), (GATE_DIM,))}
        carry = sampler.init(start, jax.random.key(1)), jnp.zeros(GATE_DIM)
        (_, squares), _ = jax.lax.scan(step, carry, jnp.arange(GATE_LENGTH))
        return squares / (GATE_LENGTH - GATE_LENGTH // 4)

    return mean_and_error(np.asarray(run(), np.float64))


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """The mean of independent values and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def moment_gate() -> dict[str, dict[str, Any]]:
    """The variance of every SGHMC and SGLD on N(0, I) at its matched step size, and whether it is within 5 % of 1."""
    from benchmarks import samplers_torch as peer

    samplers = bayesjax_samplers(problem.gaussian, *GATE_STEPS) | blackjax_samplers(problem.gaussian, *GATE_STEPS)
    found = {name: variance(sampler) for name, sampler in samplers.items()}
    for name, sampler in peer.gaussian_samplers(GATE_DIM, *GATE_STEPS).items():
        found[f"posteriors {name}"] = mean_and_error(sampler.mean_squares(GATE_LENGTH))
    return {
        name: {"variance": value, "stderr": stderr, "passes": bool(abs(value - 1) <= GATE)}
        for name, (value, stderr) in found.items()
    }


def check_port(num_data: int) -> float:
    """Largest relative difference (Euclidean, by tensor) between the port's and bayesjax's gradients on a batch.

    Raises:
      ArithmeticError: if the difference exceeds TOLERANCE.
    """
    from benchmarks import samplers_torch as peer

    params = problem.initial_weights()
    batch = jax.tree.map(lambda leaf: leaf[0], problem.minibatches(num_data, 64, 100))
    density: Any = problem.density(num_data)
    expected = jax.grad(lambda params: density(params, jax.random.key(0), batch)[0])(params)
    found = peer.gradient(params, batch, num_data)
    pairs = zip(found, peer.tensors(expected), strict=True)
    worst = max(float(np.linalg.norm(a - b.numpy()) / np.linalg.norm(b.numpy())) for a, b in pairs)
    if not worst < TOLERANCE:
        raise ArithmeticError(f"the port's gradient differs from bayesjax's by {worst:.1e}; at most {TOLERANCE:g}")
    return worst


# ---- HMC


def bayesjax_hmc(logdensity: Callable[[Params], jax.Array]) -> Kernel:
    """The HMC sampler of bayesjax for a log density."""
    return kernels.hmc(
        lambda params, rng_key, batch: logdensity(params), step_size=STEP_SIZE, num_integration_steps=LEAPS
    )


def hmc_samplers(logdensity: Callable[[Params], jax.Array]) -> dict[str, Sampler]:
    """The HMC sampler of each library for one log density, with the same step size and number of leapfrog steps."""
    import blackjax
    from numpyro.infer.hmc import hmc as numpyro_hmc  # pyright: ignore[reportMissingImports]

    kernel = bayesjax_hmc(logdensity)
    numpyro_init, numpyro_step = numpyro_hmc(lambda params: -logdensity(params), algo="HMC")
    settings: Any = {"num_warmup": 0, "adapt_step_size": False, "adapt_mass_matrix": False, "trajectory_length": None}

    def blackjax_kernel(position: Params) -> Any:
        dim = sum(leaf.size for leaf in jax.tree.leaves(position))
        return blackjax.hmc(logdensity, STEP_SIZE, jnp.ones(dim), LEAPS)

    def of_blackjax(rng_key: jax.Array, state: Any, batch: Any) -> Any:
        del batch
        return blackjax_kernel(state.position).step(rng_key, state)[0]

    def of_numpyro(rng_key: jax.Array, state: Any, batch: Any) -> Any:
        del rng_key, batch  # its state has a key
        return numpyro_step(state)

    return {
        "bayesjax": Sampler(
            kernel.init, lambda *arguments: kernel.step(*arguments)[0], lambda state: state.position, LEAPS
        ),
        "blackjax": Sampler(
            lambda position, rng_key: blackjax_kernel(position).init(position),
            of_blackjax,
            lambda state: state.position,
            LEAPS,
        ),
        "numpyro": Sampler(
            lambda position, rng_key: numpyro_init(
                position, step_size=STEP_SIZE, num_steps=LEAPS, rng_key=rng_key, **settings
            ),
            of_numpyro,
            lambda state: state.z,
            LEAPS,
        ),
    }


def effective_sizes(logdensity: Callable[[Params], jax.Array], num_draws: int) -> dict[str, dict[str, Any]]:
    """Effective sample sizes per 1000 gradients of each library's HMC, its largest R-hat, and its agreement on means.

    The quantities are 64 predictions and the log density. Each library has four runs of four chains from common
    starting points. The least and median bulk effective sample sizes are means over runs, with standard errors. R-hat
    and the distance of the means from bayesjax's are computed from all chains together.

    Raises:
      ArithmeticError: if a mean is 5 standard errors from bayesjax's. With 65 means of two libraries, the probability
        of a false alarm is 7e-5.
    """
    from blackjax.diagnostics import ess_bulk

    inputs = problem.regression(64, seed=1)["x"]
    samplers = hmc_samplers(logdensity)
    starts = jax.vmap(lambda key: problem.network().init(key, jnp.zeros((1, problem.NUM_INPUTS)))["params"])(
        jax.random.split(jax.random.key(0), NUM_CHAINS)
    )

    @functools.partial(jax.jit, static_argnums=(0, 3))
    def run(name: str, position: Params, key: jax.Array, num: int) -> tuple[Params, jax.Array]:
        sampler = samplers[name]

        def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            state = jax.vmap(sampler.step, (0, 0, None))(jax.random.split(key, NUM_CHAINS), state, None)
            position = sampler.position(state)
            predictions = jax.vmap(lambda params: problem.predict(params, inputs))(position)
            return state, jnp.concatenate([predictions, jax.vmap(logdensity)(position)[:, None]], axis=1)

        init_key, run_key = jax.random.split(key)
        state = jax.vmap(sampler.init)(position, jax.random.split(init_key, NUM_CHAINS))
        state, watched = jax.lax.scan(step, state, jax.random.split(run_key, num))
        return sampler.position(state), jnp.swapaxes(watched, 0, 1)

    warm, _ = run("bayesjax", starts, jax.random.key(1), WARM_UP)
    found, reference = {}, None
    for name, sampler in samplers.items():
        runs = [run(name, warm, key, num_draws)[1] for key in jax.random.split(jax.random.key(2), NUM_RUNS)]
        sizes = np.stack([np.asarray(ess_bulk(watched)) for watched in runs])
        watched = jnp.concatenate(runs)
        mean, square_error = watched.mean(axis=(0, 1)), watched.var(axis=(0, 1)) / sizes.sum(axis=0)
        reference = reference or (mean, square_error)
        z = jnp.abs(mean - reference[0]) / jnp.sqrt(square_error + reference[1])
        if not z.max() < 5:
            raise ArithmeticError(f"{name}'s means differ from bayesjax's by {z.max():.1f} standard errors; at most 5")
        thousands = NUM_CHAINS * num_draws * sampler.gradients_per_step / 1000
        found[name] = {
            "min_per_1000_gradients": evaluation.mean_estimate(sizes.min(axis=1) / thousands)._asdict(),
            "median_per_1000_gradients": evaluation.mean_estimate(np.median(sizes, axis=1) / thousands)._asdict(),
            "largest_z_from_bayesjax": float(z.max()),
            "largest_r_hat": float(evaluation.split_r_hat(watched).max()),
        }
    return found
