"""Densities by change of variables: quantile functions, linear maps, and coupling flows fitted to a known truth.

Papers: Dinh, Sohl-Dickstein & Bengio, "Density estimation using Real NVP", ICLR 2017; Durkan et al., "Neural spline
flows", NeurIPS 2019.

    python -m experiments.density_estimation                     quick: under a minute
    python -m experiments.density_estimation --preset paper      more data, more couplings, longer: minutes

Three demonstrations of p(x) = p(z) / |det dx/dz|:

    x = F^-1(u), u uniform       has the density F': the log density by autodiff against scipy's, draws against F
    x = mu + A z, z ~ N(0, I)    is N(mu, A A^T), whose normaliser is (2 pi)^(n/2) |A|; means and covariances of draws
    x = f_1(... f_K(z))          couplings of `models.flows`, by maximum likelihood on data of --targets

The targets are mixtures of Gaussians, so that the truth is known: two moons (64 Gaussians along each half circle), a
ring of eight, and one correlated Gaussian. For each flow come its log-likelihood on held-out data, KL(truth || flow)
there, which is what it lacks of the truth's own log-likelihood, JS by quadrature, the integral of its density, which
must be 1, the p-value of a two-sample test (MMD) of its draws, and how far the inverse of a draw is from the noise that
made it.

Expected (paper): integrals within 1e-3 of 1; a KL of 0.01 nats (moons) and 0.02 (ring) for splines, 0.02 and 0.14 for
affine couplings, whose continuous maps leave threads between the ring's modes; 0.002 and less for the one Gaussian.
"""

import dataclasses
from dataclasses import dataclass

from experiments import common

TARGETS = ("moons", "ring", "gaussian")
FLOWS = ("affine", "spline")


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.density_estimation."""

    dataset: str = "synthetic/densities"
    """The densities below; there are no others."""
    targets: tuple[str, ...] = TARGETS
    """moons, ring, gaussian."""
    flows: tuple[str, ...] = FLOWS
    """affine, spline."""
    num_layers: int = 3
    """Couplings of a flow."""
    hidden: tuple[int, ...] = (32, 32)
    """Widths of the hidden layers of each coupling's network."""
    num_data: int = 20_000
    """Draws of each target to train on."""
    num_test: int = 5000
    """Held-out ones; as many of the quantile transforms and linear maps."""
    batch_size: int = 256
    """Draws of each target in a step."""
    num_steps: int = 200
    """Steps of Adam."""
    learning_rate: float = 1e-2
    """Adam's; it falls to 0 along a cosine."""
    num_compared: int = 300
    """Draws of a flow and of the truth in the two-sample test, the first held-out ones."""
    grid_size: int = 300
    """Points along each axis of the square on which densities are integrated."""


QUICK = Config()
PAPER = dataclasses.replace(
    QUICK, preset="paper", num_layers=8, num_data=100_000, num_test=50_000, num_steps=3000, learning_rate=5e-3,
    num_compared=1000, grid_size=400,
)  # fmt: skip
PRESETS = {preset.preset: preset for preset in (QUICK, PAPER)}

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
import math
from typing import Any, NamedTuple

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import special, stats

from bayesjax import data, evaluation, kernels, objectives, plots, training
from bayesjax.evaluation.two_sample import mmd_test
from bayesjax.models import flows
from experiments import parts, tables

HALF_WIDTH, SHOWN = 6.0, 3.5  # of the square of the integrals, and of that in the figure
DIMENSIONS = (2, 5, 10)  # of the linear maps
PIECE = 20_000  # points at once
QUANTILES = {
    "exponential": (lambda u: -jnp.log1p(-u), lambda x: -jnp.expm1(-x), stats.expon),
    "logistic": (lambda u: jnp.log(u) - jnp.log1p(-u), jax.nn.sigmoid, stats.logistic),
    "normal": (jax.scipy.special.ndtri, jax.scipy.special.ndtr, stats.norm),
    "cauchy": (lambda u: jnp.tan(jnp.pi * (u - 0.5)), lambda x: jnp.arctan(x) / jnp.pi + 0.5, stats.cauchy),
}


class Mixture(NamedTuple):
    """Equally many draws of N(means_k, factor factor^T) for each k.

    Attributes:
      means: `[num, 2]`.
      factor: `[2, 2]`, lower triangular.
    """

    means: np.ndarray
    factor: np.ndarray

    def sample(self, rng: np.random.Generator, num: int) -> np.ndarray:
        """Draws `[num, 2]`."""
        noise = rng.normal(size=(num, 2)) @ self.factor.T
        return self.means[rng.integers(len(self.means), size=num)] + noise

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """Log density in float64, `[num, 2]` to `[num]`."""
        inverse = np.linalg.inv(self.factor)
        points, centres = x @ inverse.T, self.means @ inverse.T
        constant = math.log(2 * math.pi) + np.log(np.diagonal(self.factor)).sum() + math.log(len(self.means))

        def of(piece: np.ndarray) -> np.ndarray:
            squares = 0.5 * np.sum(piece**2, axis=1)[:, None] + 0.5 * np.sum(centres**2, axis=1)
            return special.logsumexp(piece @ centres.T - squares, axis=1) - constant

        return np.concatenate([of(piece) for piece in np.array_split(points, 1 + len(x) // 10_000)])


def target(name: str) -> Mixture:
    """A density by its name."""
    if name == "moons":
        angles = np.pi * (np.arange(64) + 0.5) / 64
        arc = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        means = np.concatenate([arc - [0.5, 0.25], [0.5, 0.25] - arc])
        return Mixture(1.5 * means, 0.15 * np.eye(2))
    if name == "ring":
        angles = 2 * np.pi * np.arange(8) / 8
        return Mixture(2 * np.stack([np.cos(angles), np.sin(angles)], axis=1), 0.2 * np.eye(2))
    return Mixture(np.array([[0.5, -0.5]]), np.array([[1.0, 0.0], [0.72, 0.35]]))  # correlation 0.90


def quantile_transform(config: Config, name: str) -> dict[str, float]:
    """How far a density by change of variables is from the known one, and whether draws are of its distribution."""
    quantile, cdf, known = QUANTILES[name]
    rng_key = jax.random.fold_in(jax.random.key(config.seed), list(QUANTILES).index(name))
    with jax.enable_x64(True):
        law = distrax.Transformed(distrax.Uniform(0.0, 1.0), distrax.Lambda(forward=quantile, inverse=cdf))
        x = known.ppf(np.linspace(0.001, 0.999, 999))
        both = jax.jit(lambda key, x: (law.log_prob(x), law.sample(seed=key, sample_shape=(config.num_test,))))
        found, draws = both(rng_key, jnp.asarray(x))
    difference = np.abs(np.asarray(found) - known.logpdf(x)).max()
    return {"difference": float(difference), "p_value": float(stats.kstest(np.asarray(draws), known.cdf).pvalue)}


def linear_map(config: Config, dim: int) -> dict[str, float]:
    """The density of mu + A z against the Gaussian's formula, and its draws' moments against mu and A A^T."""
    rng = np.random.default_rng([config.seed, dim])
    shift, matrix = rng.normal(size=dim), rng.normal(size=(dim, dim)) + 2 * np.eye(dim)
    covariance, num = matrix @ matrix.T, config.num_test
    with jax.enable_x64(True):
        base = distrax.MultivariateNormalDiag(jnp.zeros(dim), jnp.ones(dim))
        law = distrax.Transformed(base, distrax.UnconstrainedAffine(jnp.asarray(matrix), jnp.asarray(shift)))
        both = jax.jit(lambda key: law.sample_and_log_prob(seed=key, sample_shape=(num,)))
        draws, found = map(np.asarray, both(jax.random.fold_in(jax.random.key(config.seed), dim)))
    centred = draws - shift
    squares = np.sum(centred * np.linalg.solve(covariance, centred.T).T, axis=1)
    normaliser = dim / 2 * math.log(2 * math.pi) + 0.5 * np.linalg.slogdet(covariance)[1]
    variances = np.diagonal(covariance)
    of_mean = (draws.mean(axis=0) - shift) / np.sqrt(variances / num)
    of_covariance = np.cov(draws.T) - covariance
    of_covariance /= np.sqrt((np.outer(variances, variances) + covariance**2) / num)
    return {
        "difference": float(np.abs(found - (-0.5 * squares - normaliser)).max()),
        "mean": float(np.abs(of_mean).max()),
        "covariance": float(np.abs(of_covariance).max()),
    }


def model_of(config: Config, bijector: str) -> flows.Flow:
    """The flow."""
    return flows.Flow(dim=2, num_layers=config.num_layers, hidden=config.hidden, bijector=bijector)


def draws_of(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Training and held-out data of every target, `[targets, num, 2]`."""
    rngs = [np.random.default_rng([config.seed, TARGETS.index(name)]) for name in config.targets]
    both = [
        target(name).sample(rng, config.num_data + config.num_test)
        for name, rng in zip(config.targets, rngs, strict=True)
    ]
    return np.stack(both)[:, : config.num_data], np.stack(both)[:, config.num_data :]


def train(run: common.Experiment, bijector: str) -> dict[str, Any]:
    """Fits a flow to each target, all at once; leaves their stacked parameters in `parts/`."""
    config, num = run.config, len(run.config.targets)
    model = model_of(config, bijector)
    density = flows.density(model)
    loss = objectives.batch_mean(lambda params, rng_key, x: -density(params).log_prob(x))
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.num_steps))
    kernel = kernels.particles(kernels.optimize(loss, optimizer), num, batch_axis=0)
    data_key, init_key, start_key, run_key = jax.random.split(jax.random.key(config.seed), 4)
    init = jax.vmap(lambda key: model.init(key, jnp.zeros(2))["params"])
    state = kernel.init(jax.jit(init)(jax.random.split(init_key, num)), start_key)
    batches = data.of_each(
        jax.random.split(data_key, num), jnp.asarray(draws_of(config)[0], jnp.float32), config.batch_size
    )
    state, trace = training.run(
        run_key, kernel, state, batches, num_steps=config.num_steps, keep=lambda state: (), **run.stage(bijector)
    )
    parts.save(run, bijector, state.position)
    return {"loss": np.asarray(trace.info.loss[-100:].mean(axis=0), float).tolist()}


def square(config: Config) -> np.ndarray:
    """Midpoints of the cells on which densities are integrated, `[grid_size^2, 2]`."""
    width = 2 * HALF_WIDTH / config.grid_size
    line = -HALF_WIDTH + width * (np.arange(config.grid_size) + 0.5)
    return np.stack(np.meshgrid(line, line, indexing="xy"), axis=-1).reshape(-1, 2)


def traced_back(config: Config, bijector: str, params: Any, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log densities `[targets, num]` of the flow of every target at `[targets, num, 2]`, and the noise they are of."""
    density = flows.density(model_of(config, bijector))

    @jax.jit
    @jax.vmap
    def of_piece(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        law = density(params)
        z, log_det = law.bijector.inverse_and_log_det(x)
        return law.distribution.log_prob(z) + log_det, z

    num = points.shape[1]
    filled = np.pad(points, ((0, 0), (0, -num % PIECE), (0, 0))).astype(np.float32)
    pieces = [of_piece(params, filled[:, i : i + PIECE]) for i in range(0, filled.shape[1], PIECE)]
    log_prob, noise = (np.concatenate(each, axis=1)[:, :num].astype(np.float64) for each in zip(*pieces, strict=True))
    return log_prob, noise


def js_of(log_p: np.ndarray, log_q: np.ndarray, cell: float) -> float:
    """The Jensen-Shannon divergence by quadrature, of log densities on cells of one area."""
    log_m = np.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * cell * float(np.sum(np.exp(log_p) * (log_p - log_m)) + np.sum(np.exp(log_q) * (log_q - log_m)))


def judged(run: common.Experiment, bijector: str) -> dict[str, dict]:
    """What is to be said of a flow at each target; leaves its log densities on the square in `parts/`."""
    config, params = run.config, parts.load(run, bijector)
    held, grid = draws_of(config)[1], square(config)
    num, cell = len(config.targets), (2 * HALF_WIDTH / config.grid_size) ** 2
    density = flows.density(model_of(config, bijector))
    noise_key, test_key = jax.random.split(jax.random.key(config.seed + 1))
    noise = jax.random.normal(noise_key, (num, config.num_compared, 2))
    draws = jax.jit(jax.vmap(lambda params, z: density(params).bijector.forward(z)))(params, noise)
    tests = jax.jit(jax.vmap(mmd_test))(jax.random.split(test_key, num), draws, held[:, : config.num_compared])
    points = np.concatenate([held, draws, np.broadcast_to(grid, (num, *grid.shape))], axis=1)
    log_prob, back = traced_back(config, bijector, params, points)
    result = {}
    for i, name in enumerate(config.targets):
        truth = target(name)
        of_held, of_draws, on_grid = np.split(log_prob[i], np.cumsum([config.num_test, config.num_compared]))
        errors = back[i, config.num_test :][: len(of_draws)] - noise[i]
        result[name] = {
            "log-likelihood": evaluation.mean_estimate(of_held)._asdict(),
            "KL": evaluation.mean_estimate(truth.log_prob(held[i]) - of_held)._asdict(),
            "JS": {"value": js_of(truth.log_prob(grid), on_grid, cell)},
            "integral": {"value": float(cell * np.exp(on_grid).sum())},
            "p-value of MMD": {"value": float(tests.p_value[i])},
            "inverse": {"value": float(np.abs(errors).max())},
        }
    parts.save_arrays(run, f"{bijector}-grid", log_density=log_prob[:, -len(grid) :])
    return result


def draw(run: common.Experiment) -> None:
    """Densities beside the truth: a row for each flow, a column for each target, brightness as the root of density."""
    config, grid = run.config, square(run.config)
    rows = {"truth": [np.exp(target(name).log_prob(grid)) for name in config.targets]}
    for bijector in config.flows:
        rows[bijector] = list(np.exp(parts.load_arrays(run, f"{bijector}-grid")["log_density"]))
    tops = [density.max() for density in rows["truth"]]
    margin = round(config.grid_size * (1 - SHOWN / HALF_WIDTH) / 2)

    def picture(density: np.ndarray, top: float) -> np.ndarray:
        shown = np.sqrt(density / top).reshape(config.grid_size, config.grid_size, 1)
        return shown[::-1][margin : config.grid_size - margin, margin : config.grid_size - margin]

    pictures = [[picture(*each) for each in zip(row, tops, strict=True)] for row in rows.values()]
    plots.image_grid(
        run.out / "figures" / "densities.png", np.array(pictures), row_names=list(rows),
        title="square roots of densities: " + ", ".join(config.targets),
    )  # fmt: skip


def main(config: Config) -> None:
    """Checks the closed forms, fits the flows; writes table, figure and results."""
    with common.Experiment("density_estimation", config) as run:
        common.require_choice(config, "dataset", ("synthetic/densities",))
        common.require_names(config, "targets", TARGETS)
        common.require_names(config, "flows", FLOWS)
        common.require_all_positive(config, "hidden")
        common.require_positive(config, "learning_rate")
        common.require_at_least(config, 1, "num_layers", "num_data", "batch_size", "num_steps")
        common.require_at_least(config, 2, "num_compared")
        common.require(
            config.num_test >= config.num_compared,
            f"--num-test must be at least --num-compared, {config.num_compared}; got {config.num_test}",
        )
        common.require_at_least(config, 12, "grid_size")
        metrics: dict[str, dict] = {}
        for name in QUANTILES:
            found = run.cached(f"quantile-{name}", functools.partial(quantile_transform, config, name))
            metrics |= {f"quantile {name} {what}": {"value": value} for what, value in found.items()}
        for dim in DIMENSIONS:
            found = run.cached(f"linear-{dim}", functools.partial(linear_map, config, dim))
            metrics |= {f"linear {dim} {what}": {"value": value} for what, value in found.items()}
        held = draws_of(config)[1]
        for name, x in zip(config.targets, held, strict=True):
            metrics[f"{name} truth log-likelihood"] = evaluation.mean_estimate(target(name).log_prob(x))._asdict()
        for bijector in config.flows:
            run.cached(bijector, functools.partial(train, run, bijector))
            found = run.cached(f"{bijector}-judged", functools.partial(judged, run, bijector))
            for name, entries in found.items():
                metrics |= {f"{name} {bijector} {what}": entry for what, entry in entries.items()}
        draw(run)
        path = run.finish(metrics)
        print(tables.render(path))
        print(f"results in {path}, figures in {run.out / 'figures'}")


if __name__ == "__main__":
    main(CONFIG)
