"""What does a Bayesian GAN sample? SGHMC against Hamiltonian Monte Carlo on both conditionals, on a game of small networks.

Papers: Saatci & Wilson, "Bayesian GAN", NIPS 2017 (the conditionals); Arnold & Press, "Compatible conditional
distributions", 1989; Heckerman et al., "Dependency networks", 2000 (Gibbs sampling of incompatible conditionals).

    python -m experiments.bayesian_gan_truth                     quick: under a minute
    python -m experiments.bayesian_gan_truth --preset paper      all schemes, long chains

Generator G and discriminator D have one hidden layer each. The noise z is a fixed set, so both conditionals are
definite densities of the weights g and d, with normal priors and without minibatches:

    log p(d | g) = log p(d) + sum_x log D(x) + sum_z log (1 - D(G(z)))
    log p(g | d) = log p(g) + sum_z [ a log D(G(z)) + b log (1 - D(G(z))) ]

A joint density with these conditionals exists only if both have the same mixed second derivatives in d and g. They are
then called compatible. Three games differ in a and b:

    cooperative       a = 0, b = 1     compatible: both players raise log (1 - D(G(z)))
    non_saturating    a = 1, b = 0     incompatible: the generator of the paper
    zero_sum          a = 0, b = -1    incompatible: the mixed derivatives have opposite signs

Three schemes sample the same conditionals:

    hmc          HMC-within-Gibbs: many HMC updates of d given g, then of g given d. It samples each conditional exactly.
    sghmc        SGHMC-within-Gibbs: each player takes `inner steps` steps of SGHMC before the other moves.
    one step     the alternating scheme of the Bayesian GAN: `inner steps` is 1.

If the conditionals are compatible, all schemes sample the joint density. Otherwise there is no joint density, and each
scheme defines its own law. That of Gibbs sampling depends on which player moved last, and that of the one-step scheme
tends to the stationary law of a Langevin diffusion with a non-conservative force, which depends on the friction. The
quadratic game log p(d | g) = -d^2 / 2 - s d g, log p(g | d) = -g^2 / 2 - t d g has all these laws in closed form.

Weights are not identified, so laws of functions are compared: the total variation between histograms of the mean and
standard deviation of G(z), of the logits of D at both modes of the data, and of the mean logit of D(G(z)).

Expected: the total variation between SGHMC-within-Gibbs and HMC falls with the step size to the Monte Carlo error in
all games. That of the one-step scheme does so in the cooperative game only.
"""

import functools
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg, special

from bayesjax import evaluation, kernels, models, plots, posteriors, training
from bayesjax.types import Array, Density, Given, Kernel, Params, PRNGKey
from experiments.harness import Column, Count, NonEmpty, Positive, Range, Run, RunConfig, Table, cli, row

GAMES = {"cooperative": (0.0, 1.0), "non_saturating": (1.0, 0.0), "zero_sum": (0.0, -1.0)}
"""Weights a and b of log D(G(z)) and log (1 - D(G(z))) in the log likelihood of the generator."""
PLAYERS = ("discriminator", "generator")
MODES = (-1.0, 1.5)
"""Means of the two normal distributions of the data, whose standard deviation is 0.3; the first has 60 % of the data."""
SHOWN = {"generator": (0, 1), "discriminator": (2, 3), "pair": (0, 4)}
"""Pairs of the summaries of `summarise`, whose joint histograms are compared."""


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.bayesian_gan_truth."""

    dataset: Literal["synthetic/two_normals"] = "synthetic/two_normals"
    """Data: quantiles of a mixture of two normal distributions in one dimension."""
    num_data: Annotated[int, Range(least=5)] = 10
    """Number of data, at least 5, and of generated points."""
    hidden: Count = 5
    """Number of tanh units in the one hidden layer of each network."""
    prior_scale: Positive = 0.7
    """Standard deviation of the normal prior of every weight."""
    step_sizes: Annotated[tuple[Positive, ...], NonEmpty] = (0.4, 0.1)
    """Time steps h of SGHMC; its parameter eta is about h^2."""
    friction_rates: Annotated[tuple[Positive, ...], NonEmpty] = (2.0,)
    """Friction of SGHMC per unit of time, at least one value; alpha is 1 - exp(-rate h). One-step schemes use all values
    at the smallest step size, and other schemes use the first."""
    integration_time: Positive = 8.0
    """Time for which SGHMC-within-Gibbs moves a player before the other moves, at every step size."""
    num_inner_steps: tuple[Count, ...] = ()
    """Further numbers of inner steps of SGHMC-within-Gibbs, at the smallest step size."""
    hmc_step_size: Positive = 0.25
    """Largest step size of the leapfrog integrator of HMC; steps vary between half of it and the whole."""
    num_integration_steps: Count = 8
    """Number of leapfrog steps of an HMC update."""
    num_hmc_updates: Annotated[int, Range(least=2)] = 4
    """Number of HMC updates of a player before the other moves, at least 2."""
    num_chains: Annotated[int, Range(least=2)] = 32
    """Number of independent chains of a scheme, at least 2; the reference has twice as many."""
    num_warmup: Count = 50
    """Number of sweeps of HMC, or of equal times of SGHMC, before draws are kept."""
    num_draws: Annotated[int, Range(least=4)] = 200
    """Number of draws of each chain, at least 4: one after each sweep of HMC or equal time of SGHMC."""
    num_bins: Annotated[int, Range(least=2)] = 6
    """Number of bins along each of the two axes of a histogram."""
    coupling: Annotated[float, Range(above=0, below=1)] = 0.6
    """Coupling of the quadratic game, in (0, 1): s = t compatible, and s = -t zero-sum."""


PRESETS = {
    "quick": Config(),
    "paper": Config(
        step_sizes=(0.6, 0.4, 0.2, 0.1), friction_rates=(2.0, 8.0), num_inner_steps=(4, 16), num_chains=128,
        num_warmup=100, num_draws=1000,
    ),
}  # fmt: skip
SCHEME = {
    "method": "method", "first": "first player", "step_size": "h", "inner": "inner steps", "friction_rate": "friction",
}  # fmt: skip
TABLES = [
    Table(
        SCHEME,
        [
            Column(measure, heading, 3, field)
            for measure in ("variance", "covariance")
            for heading, field in ((measure, "value"), ("exact", "theory"))
        ],
        across="coupling", heading="{}:", where={"game": "quadratic"},
        note=lambda config: f"The quadratic game; |s| is {config['coupling']}, and s = t is compatible.",
    ),
    Table(
        SCHEME, [Column(f"TV, {part}", part, 3) for part in ("generator", "pair")], across="game", heading="{}:",
        note="Total variation to HMC-within-Gibbs; the first line has that between halves of the reference chains.",
    ),
    Table(
        SCHEME,
        [Column("worst R-hat", "R-hat", 3), Column("least ESS", "ESS", 0), Column("kinetic temperature", "T", 2)],
        across="game", heading="{}:", note="R-hat and ESS are the worst of the five summaries. T should be 1.",
    ),
]  # fmt: skip
HEADLINE = "bayesian_gan_truth-paper-synthetic_two_normals", {"measure": "TV, pair"}, 3

# ---- networks and conditionals


class Batch(NamedTuple):
    """The data of a chain: real points `[num_data, 1]`, and the weights a and b of its game."""

    real: Array
    real_weight: Array
    fake_weight: Array


def networks(config: Config) -> tuple[Callable, Callable, Array]:
    """The functions `(params, z [n, 1]) -> G(z) [n, 1]` and `(params, x [n, 1]) -> logits [n]`, and the noise z."""
    network = models.MLP((config.hidden, 1), jnp.tanh)
    noise = jnp.asarray(_quantiles(config.num_data), jnp.float32)[:, None]

    def generator(params: Params, z: Array) -> Array:
        return network.apply({"params": params}, z)

    return generator, lambda params, x: generator(params, x)[:, 0], noise


def real_points(config: Config) -> Array:
    """The data `[num_data, 1]`: quantiles of the two normal distributions."""
    num = round(0.6 * config.num_data)
    parts = [mean + 0.3 * _quantiles(n) for mean, n in zip(MODES, (num, config.num_data - num), strict=True)]
    return jnp.asarray(np.concatenate(parts), jnp.float32)[:, None]


def conditionals(config: Config) -> dict[str, Density]:
    """The log densities log p(d | g) and log p(g | d) of both players' weights, whose batch is a `Batch`."""
    generator, logits, noise = networks(config)
    prior, num = posteriors.gaussian(config.prior_scale), config.num_data

    def generate(params: Params, rng_key: PRNGKey, num: int) -> Array:
        return generator(params, noise)

    def log_prob_real(params: Params, x: Array) -> Array:
        return jax.nn.log_sigmoid(logits(params, x))

    def log_prob_fake(params: Params, x: Array) -> Array:
        return jax.nn.log_sigmoid(-logits(params, x))

    def generator_density(params: Params, rng_key: PRNGKey, given: Given) -> Any:
        def log_likelihood(params: Params, x: Array) -> Array:
            batch = given.data
            return batch.real_weight * log_prob_real(params, x) + batch.fake_weight * log_prob_fake(params, x)

        density = posteriors.generator_conditional(generate, log_likelihood, prior, num_generated=num, batch_size=num)
        return density(params, rng_key, given)

    return {
        "discriminator": posteriors.discriminator_conditional(
            generate, log_prob_real, log_prob_fake, prior, num_data=num, batch_size=num
        ),
        "generator": generator_density,
    }


def summarise(config: Config, position: dict[str, Params]) -> Array:
    """Functions of the weights: mean and sd of G(z), the logits of D at both modes, the mean logit of D(G(z)); `[5]`."""
    generator, logits, noise = networks(config)
    d, g = (jax.tree.map(lambda leaf: leaf[0], position[player]) for player in PLAYERS)
    fakes = generator(g, noise)
    at_modes = logits(d, jnp.array(MODES)[:, None])
    return jnp.array([fakes.mean(), fakes.std(), *at_modes, logits(d, fakes).mean()])


# ---- schemes


class Scheme(NamedTuple):
    """A way to sample both conditionals: the kernel of a player, its steps per sweep, and the player that moves first."""

    method: Literal["hmc", "sghmc"]
    inner: int
    step_size: float
    friction_rate: float | None = None
    first: str = "discriminator"

    @property
    def keys(self) -> dict[str, Any]:
        """The keys of its rows."""
        return self._asdict()

    @property
    def name(self) -> str:
        """The name of its stage."""
        return "-".join(f"{value:g}" if isinstance(value, float) else str(value) for value in self)


def sghmc(density: Density, step_size: float, friction_rate: float) -> Kernel:
    """SGHMC with time step h: friction alpha = 1 - exp(-rate h), learning rate eta = h^2 (2 - alpha) / 2."""
    friction = -math.expm1(-friction_rate * step_size)
    return kernels.sghmc(density, step_size=step_size**2 * (2 - friction) / 2, friction=friction)


def sweep(config: Config, scheme: Scheme, densities: dict[str, Density]) -> Kernel:
    """The kernel of one sweep: the first player takes its inner steps, then the other."""

    def move(density: Density) -> Kernel:
        if scheme.friction_rate is not None:
            return sghmc(density, scheme.step_size, scheme.friction_rate)
        steps = kernels.jittered(scheme.step_size, 0.5)
        return kernels.hmc(density, step_size=steps, num_integration_steps=config.num_integration_steps)

    order = sorted(PLAYERS, key=lambda player: player != scheme.first)
    return kernels.alternate(**{
        player: kernels.particles(kernels.repeat(move(densities[player]), scheme.inner), 1) for player in order
    })  # fmt: skip


def schemes(config: Config) -> list[Scheme]:
    """All schemes of a run, the reference first."""
    num, size, rate = config.num_hmc_updates, config.hmc_step_size, config.friction_rates[0]
    hmc = [Scheme("hmc", num, size), Scheme("hmc", num // 2, size), Scheme("hmc", num, size, None, "generator")]
    smallest = min(config.step_sizes)
    gibbs = [Scheme("sghmc", num_steps(config, h), h, rate) for h in config.step_sizes]
    further = [Scheme("sghmc", inner, smallest, rate) for inner in config.num_inner_steps]
    one_step = [Scheme("sghmc", 1, h, rate) for h in config.step_sizes]
    return hmc + gibbs + further + one_step + [Scheme("sghmc", 1, smallest, x) for x in config.friction_rates[1:]]


def num_steps(config: Config, step_size: float) -> int:
    """The number of steps of SGHMC in the integration time."""
    return max(round(config.integration_time / step_size), 1)


# ---- chains


def run_chains(
    run: Run, name: str, scheme: Scheme, densities: dict[str, Density], start: dict[str, Params], batch: Any,
    keep: Callable[[dict[str, Params]], Array],
) -> dict[str, np.ndarray]:  # fmt: skip
    """Runs independent chains of a scheme from `start`, leaves `[num, 1, ...]`, each with its own entry of `batch`.

    Returns:
      "draws", the kept values `[num, num_draws, ...]`, and the mean kinetic "temperature" of both players `[num]`.
    """
    config, num = run.config, jax.tree.leaves(start)[0].shape[0]
    kernel, options = run.stage(name, kernels.particles(sweep(config, scheme, densities), num, batch_axis=0))
    rng_key = jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(name.encode()))
    init_key, run_key = jax.random.split(rng_key)
    thinning = 1 if scheme.method == "hmc" else max(num_steps(config, scheme.step_size) // scheme.inner, 1)
    _, trace = training.run(
        run_key, kernel, jax.jit(kernel.init)(start, init_key), batch, thinning=thinning,
        num_steps=(config.num_warmup + config.num_draws) * thinning, num_burnin=config.num_warmup * thinning,
        keep=lambda state: jax.vmap(keep)(state.position), warn=False, **options,
    )  # fmt: skip
    temperatures = [info.kinetic_temperature.mean(axis=(0, 2)) for info in trace.info.players.values()]
    return {"draws": evaluation.chains_first(trace.draws), "temperature": np.mean(temperatures, axis=0)}


def sample_games(run: Run, scheme: Scheme, num_chains: int) -> dict[str, dict[str, np.ndarray]]:
    """Runs a scheme on all games at once, from draws of the prior; `{game: {"draws": ..., "temperature": ...}}`."""
    config, num = run.config, num_chains * len(GAMES)
    weights = jnp.repeat(jnp.array(list(GAMES.values())), num_chains, axis=0)
    batch = Batch(jnp.broadcast_to(real_points(config), (num, config.num_data, 1)), *weights.T)
    network = models.MLP((config.hidden, 1), jnp.tanh)
    params = network.init(jax.random.key(0), jnp.zeros((1, 1)))["params"]
    stacked = jax.tree.map(lambda leaf: jnp.zeros((num, 1, *leaf.shape)), dict.fromkeys(PLAYERS, params))
    start = posteriors.sample_gaussian(jax.random.key(config.seed), stacked, config.prior_scale)
    keep = functools.partial(summarise, config)
    values = run_chains(run, scheme.name, scheme, conditionals(config), start, batch, keep)
    parts = {name: np.split(each, len(GAMES)) for name, each in values.items()}
    return {game: {name: each[i] for name, each in parts.items()} for i, game in enumerate(GAMES)}


# ---- the quadratic game


def couplings(config: Config) -> dict[str, tuple[float, float]]:
    """The couplings (s, t) of the quadratic games log p(d | g) = -d^2/2 - s d g, log p(g | d) = -g^2/2 - t d g."""
    return {"s = t": (config.coupling, config.coupling), "s = -t": (config.coupling, -config.coupling)}


def quadratic_covariance(scheme: Scheme, coupling: tuple[float, float]) -> np.ndarray:
    """The exact stationary covariance of (d, g) under a scheme with SGHMC on the quadratic game, `[2, 2]`.

    A sweep is a linear map of (d, momentum of d, g, momentum of g) with normal noise, so that the covariance C solves
    the discrete Lyapunov equation C = A C A' + Q.
    """
    h, eye = scheme.step_size, np.eye(4)
    keep = math.exp(-(scheme.friction_rate or 0.0) * h)
    transition, noise = eye, np.zeros((4, 4))
    for player in sorted((0, 1), key=lambda player: PLAYERS[player] != scheme.first):
        own, momentum, other = 2 * player, 2 * player + 1, 2 - 2 * player
        kick, drift, refresh = eye.copy(), eye.copy(), eye.copy()
        kick[momentum, own], kick[momentum, other] = -h, -h * coupling[player]
        drift[own, momentum], refresh[momentum, momentum] = h / 2, keep
        step = drift @ refresh @ drift @ kick
        injected = drift @ np.diag((1 - keep**2) * eye[momentum]) @ drift.T
        for _ in range(scheme.inner):
            transition, noise = step @ transition, step @ noise @ step.T + injected
    return linalg.solve_discrete_lyapunov(transition, noise)[::2, ::2]


def quadratic_rows(run: Run, scheme: Scheme) -> list[dict]:
    """The variance (mean of both players) and covariance of the quadratic games, measured and exact."""
    config, games = run.config, couplings(run.config)
    constants = jnp.repeat(jnp.array(list(games.values())), config.num_chains, axis=0)

    def density(own: str, other: str, params: Params, rng_key: PRNGKey, given: Given) -> Array:
        return -0.5 * params**2 - given.data[own] * params * given.others[other][0]

    densities = {own: functools.partial(density, own, other) for own, other in (PLAYERS, PLAYERS[::-1])}
    start = dict.fromkeys(PLAYERS, jnp.zeros((len(constants), 1)))
    batch = dict(zip(PLAYERS, constants.T, strict=True))
    values = run_chains(
        run, f"quadratic-{scheme.name}", scheme, densities, start, batch,
        lambda position: jnp.concatenate([position[player] for player in PLAYERS]),
    )  # fmt: skip
    rows = []
    for (name, coupling), draws in zip(games.items(), np.split(values["draws"], len(games)), strict=True):
        exact, keys = quadratic_covariance(scheme, coupling), {"game": "quadratic", "coupling": name, **scheme.keys}
        moments = {"variance": (draws**2).mean(axis=(1, 2)), "covariance": draws.prod(axis=2).mean(axis=1)}
        theory = {"variance": np.trace(exact) / 2, "covariance": exact[0, 1]}
        rows += [row(each, evaluation.mean_estimate(moments[each]), theory=theory[each], **keys) for each in moments]
    return rows


# ---- comparison with the reference


def compare(config: Config, draws: np.ndarray, reference: np.ndarray) -> dict[str, evaluation.HistogramDistance]:
    """Total variation of each part of SHOWN between draws `[num_chains, num_draws, 5]` and twice as many chains."""
    return {
        part: evaluation.histogram_total_variation(
            draws[..., list(axes)], reference[..., list(axes)], num_bins=config.num_bins
        )
        for part, axes in SHOWN.items()
    }


def game_rows(config: Config, game: str, scheme: Scheme, values: dict, reference: np.ndarray) -> list[dict]:
    """Result rows of a scheme on a game; for the reference, the total variation is that between its halves."""
    draws, keys = values["draws"], {"game": game, **scheme.keys}
    is_reference = draws is reference
    distances = compare(config, draws[: config.num_chains], reference)
    rows = [
        row(f"TV, {part}", distance.floor if is_reference else distance.value,
            None if is_reference else distance.stderr, upper_floor=distance.upper_floor, **keys)
        for part, distance in distances.items()
    ]  # fmt: skip
    return [
        *rows,
        row("worst R-hat", np.max(evaluation.r_hat(draws)), **keys),
        row("least ESS", np.min(evaluation.effective_sample_size(draws)), **keys),
        row("kinetic temperature", evaluation.mean_estimate(values["temperature"]), **keys),
    ]


def main(config: Config) -> None:
    """Runs every scheme on every game; writes the tables, the figure and the results."""
    with Run("bayesian_gan_truth", config, one_device=True) as run:
        rows, every = [], schemes(config)
        for scheme in every:
            if scheme.method == "sghmc" and scheme.step_size == min(config.step_sizes):
                rows += quadratic_rows(run, scheme)
        results = {
            scheme: sample_games(run, scheme, config.num_chains * (1 + (scheme == every[0]))) for scheme in every
        }
        for scheme, values in results.items():
            for game in GAMES:
                rows += game_rows(config, game, scheme, values[game], results[every[0]][game]["draws"])
        np.savez(run.figure("draws.npz"), **{f"{g}/{s.name}": v[g]["draws"] for s, v in results.items() for g in GAMES})
        run.finish(rows, TABLES)


def _quantiles(num: int) -> np.ndarray:
    """Quantiles of the standard normal distribution at num evenly spaced probabilities."""
    return special.ndtri((np.arange(num) + 0.5) / num)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
