"""Densities by change of variables: quantile functions, linear maps, and coupling flows fitted to known densities.

Papers: Dinh, Sohl-Dickstein & Bengio, "Density estimation using Real NVP", ICLR 2017; Durkan et al., "Neural spline
flows", NeurIPS 2019.

    python -m experiments.density_estimation                     quick: under a minute
    python -m experiments.density_estimation --preset paper      more data, more couplings, longer: 8 minutes

Three demonstrations of p(x) = p(z) / |det dx/dz|:

    x = F^-1(u), u uniform       has the density F'; its log density is compared with scipy's, its draws with F
    x = mu + A z, z ~ N(0, I)    is N(mu, A A^T); its log density, and the mean and covariance of draws, are compared
    x = f_1(... f_K(z))          couplings of `models.flows`, trained by maximum likelihood on data of --targets

The targets are mixtures of Gaussians, so that the true density is known: two moons (64 Gaussians along each half
circle), a ring of eight Gaussians, and one correlated Gaussian. Three measures compare each flow with the truth: its
log-likelihood on held-out data, KL(truth || flow) estimated on held-out data, and the Jensen-Shannon divergence (JS) by
quadrature. Three checks follow. The integral of the flow's density must be 1. A two-sample test (MMD) compares the
flow's draws with data. The inverse of a draw is compared with the noise that was mapped to it.

Expected (paper preset): integrals are within 1e-3 of 1. Splines reach a KL of 0.01 nats (moons) and 0.02 (ring). Affine
couplings reach 0.02 and 0.14, and leave mass between the ring's modes. Both kinds reach at most 0.002 on the Gaussian.
"""

import functools
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

from bayesjax import data, divergences, evaluation, kernels, objectives, plots, training
from bayesjax.data.densities import PLANAR_MIXTURES
from bayesjax.evaluation.two_sample import mmd_test
from bayesjax.models import flows
from experiments.harness import Column, Count, NonEmpty, Positive, Range, Run, RunConfig, Table, cli, require, row

Target = Literal["moons", "ring", "gaussian"]
TARGETS = get_args(Target)


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.density_estimation."""

    dataset: Literal["synthetic/densities"] = "synthetic/densities"
    """Name of the data, which are drawn from the densities of --targets."""
    targets: tuple[Target, ...] = TARGETS
    """Target densities to which flows are fitted."""
    flows: tuple[Literal["affine", "spline"], ...] = ("affine", "spline")
    """Kinds of coupling layer to compare."""
    num_layers: Count = 3
    """Number of coupling layers in a flow."""
    hidden: Annotated[tuple[Count, ...], NonEmpty] = (32, 32)
    """Widths of the hidden layers of each coupling's network."""
    num_data: Count = 20_000
    """Number of training examples of each target."""
    num_test: Count = 5000
    """Number of held-out examples of each target, and of draws of each quantile transform and linear map."""
    batch_size: Count = 256
    """Number of training examples of each target in a step."""
    num_steps: Count = 200
    """Number of training steps of Adam."""
    learning_rate: Positive = 1e-2
    """Initial learning rate of Adam; it decays to 0 along a cosine."""
    num_compared: Annotated[int, Range(least=2)] = 300
    """Number of draws of a flow, and of held-out examples, that the two-sample test compares; 2 to --num-test."""
    grid_size: Annotated[int, Range(least=12)] = 300
    """Number of points along each axis of the square on which densities are integrated, at least 12."""

    def __post_init__(self) -> None:
        """Checks that there are enough held-out examples for the two-sample test."""
        super().__post_init__()
        require(
            self.num_test >= self.num_compared,
            f"--num-test must be at least --num-compared, {self.num_compared}; got {self.num_test}",
        )


PRESETS = {
    "quick": Config(grid_size=200),
    "paper": Config(
        num_layers=8, num_data=100_000, num_test=50_000, num_steps=3000, learning_rate=5e-3, num_compared=1000,
        grid_size=400,
    ),
}  # fmt: skip
DIFFERENCE = "largest difference of log densities"
TABLES = [
    Table(
        {"distribution": "uniform to"},
        [Column(DIFFERENCE, digits=".0e"), Column("KS p-value", "p-value of draws (KS)")],
        where={"method": "quantile function"},
    ),
    Table(
        {"dimensions": "dimensions of a linear map"},
        [Column(DIFFERENCE, digits=".0e"), Column("largest z of the mean", digits=1),
         Column("largest z of the covariance", digits=1)],
        where={"method": "linear map"},
        note="A z is the error of one element of the draws' mean or covariance in standard errors.",
    ),
    Table(
        {"method": "density", "target": "target"},
        [Column("log-likelihood (nats)", digits=4), Column("KL (nats)", digits=4), Column("JS (nats)", digits=4),
         Column("integral", digits=5), Column("MMD p-value", "p-value of MMD", 3),
         Column("largest error of the inverse", digits=".0e")],
        where={"method": ("truth", "affine", "spline")},
    ),
]  # fmt: skip
HEADLINE = (
    "density_estimation-paper-synthetic_densities",
    {"measure": "KL (nats)", "method": "spline", "target": "ring"},
)

HALF_WIDTH, SHOWN = 6.0, 3.5  # half widths of the squares for integration and for the figure
DIMENSIONS = (2, 5, 10)  # dimensions of the linear maps
CHUNK_SIZE = 20_000  # number of points at which a flow is evaluated at once

# ---- closed forms

QUANTILES = {  # quantile function, distribution function and scipy's distribution
    "exponential": (lambda u: -jnp.log1p(-u), lambda x: -jnp.expm1(-x), stats.expon),
    "logistic": (lambda u: jnp.log(u) - jnp.log1p(-u), jax.nn.sigmoid, stats.logistic),
    "normal": (jax.scipy.special.ndtri, jax.scipy.special.ndtr, stats.norm),
    "cauchy": (lambda u: jnp.tan(jnp.pi * (u - 0.5)), lambda x: jnp.arctan(x) / jnp.pi + 0.5, stats.cauchy),
}


def compare_quantile(config: Config, name: str) -> dict[str, float]:
    """Compares a quantile transform of uniform noise with scipy: log densities, and a KS test of draws."""
    quantile, cdf, known = QUANTILES[name]
    rng_key = jax.random.fold_in(jax.random.key(config.seed), list(QUANTILES).index(name))
    with jax.enable_x64(True):
        transformed = distrax.Transformed(distrax.Uniform(0.0, 1.0), distrax.Lambda(forward=quantile, inverse=cdf))
        x = known.ppf(np.linspace(0.001, 0.999, 999))
        log_prob, draws = jax.jit(
            lambda key, x: (transformed.log_prob(x), transformed.sample(seed=key, sample_shape=(config.num_test,)))
        )(rng_key, jnp.asarray(x))
    return {
        DIFFERENCE: float(np.abs(np.asarray(log_prob) - known.logpdf(x)).max()),
        "KS p-value": float(stats.kstest(np.asarray(draws), known.cdf).pvalue),
    }


def compare_linear_map(config: Config, dim: int) -> dict[str, float]:
    """Compares a linear map of normal noise with N(mu, A A^T): log densities, and mean and covariance of draws."""
    rng = np.random.default_rng([config.seed, dim])
    shift, matrix = rng.normal(size=dim), rng.normal(size=(dim, dim)) + 2 * np.eye(dim)
    covariance, num = matrix @ matrix.T, config.num_test
    with jax.enable_x64(True):
        base = distrax.MultivariateNormalDiag(jnp.zeros(dim), jnp.ones(dim))
        mapped = distrax.Transformed(base, distrax.UnconstrainedAffine(jnp.asarray(matrix), jnp.asarray(shift)))
        draw = jax.jit(lambda key: mapped.sample_and_log_prob(seed=key, sample_shape=(num,)))
        draws, log_prob = map(np.asarray, draw(jax.random.fold_in(jax.random.key(config.seed), dim)))
    centred = draws - shift
    squares = np.sum(centred * np.linalg.solve(covariance, centred.T).T, axis=1)
    normaliser = dim / 2 * math.log(2 * math.pi) + 0.5 * np.linalg.slogdet(covariance)[1]
    variances = np.diagonal(covariance)
    mean_z = (draws.mean(axis=0) - shift) / np.sqrt(variances / num)
    covariance_z = np.cov(draws.T) - covariance
    covariance_z /= np.sqrt((np.outer(variances, variances) + covariance**2) / num)
    return {
        DIFFERENCE: float(np.abs(log_prob - (-0.5 * squares - normaliser)).max()),
        "largest z of the mean": float(np.abs(mean_z).max()),
        "largest z of the covariance": float(np.abs(covariance_z).max()),
    }


# ---- data and quadrature


def draw_data(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Draws training and held-out data of every target, two arrays `[targets, num, 2]`."""
    num = config.num_data + config.num_test
    rngs = [np.random.default_rng([config.seed, TARGETS.index(name)]) for name in config.targets]
    both = np.stack([PLANAR_MIXTURES[name].sample(rng, num) for name, rng in zip(config.targets, rngs, strict=True)])
    return both[:, : config.num_data], both[:, config.num_data :]


def square(config: Config) -> np.ndarray:
    """Midpoints `[grid_size^2, 2]` of the cells of the square on which densities are integrated."""
    width = 2 * HALF_WIDTH / config.grid_size
    line = -HALF_WIDTH + width * (np.arange(config.grid_size) + 0.5)
    return np.stack(np.meshgrid(line, line, indexing="xy"), axis=-1).reshape(-1, 2)


# ---- the flows


def coupling_flow(config: Config, coupling: str) -> flows.Flow:
    """The Flax module of a flow in the plane."""
    return flows.Flow(dim=2, num_layers=config.num_layers, hidden=config.hidden, bijector=coupling)


def train(run: Run, coupling: str, train_set: np.ndarray) -> Any:
    """Fits a flow to each target in parallel, on `train_set [targets, num, 2]`. Returns stacked parameters."""
    config, num = run.config, len(run.config.targets)
    model = coupling_flow(config, coupling)
    density = flows.density(model)
    loss = objectives.batch_mean(lambda params, rng_key, x: -density(params).log_prob(x))
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.num_steps))
    kernel = kernels.particles(kernels.optimize(loss, optimizer), num, batch_axis=0)
    data_key, init_key, start_key, run_key = jax.random.split(jax.random.key(config.seed), 4)
    init = jax.vmap(lambda key: model.init(key, jnp.zeros(2))["params"])
    state = kernel.init(jax.jit(init)(jax.random.split(init_key, num)), start_key)
    keys = jax.random.split(data_key, num)
    batches = data.stacked_minibatches(keys, jnp.asarray(train_set, jnp.float32), config.batch_size)
    kernel, options = run.stage(coupling, kernel)
    state, _ = training.run(
        run_key, kernel, state, batches, num_steps=config.num_steps, keep=lambda state: (), **options
    )
    return state.position


def evaluate(config: Config, coupling: str, params: Any, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log densities `[targets, num]` at `points [targets, num, 2]`, and the noise that the flows map to the points."""
    density = flows.density(coupling_flow(config, coupling))

    @jax.jit
    @jax.vmap
    def evaluate_chunk(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        flow = density(params)
        z, log_det = flow.bijector.inverse_and_log_det(x)
        return flow.distribution.log_prob(z) + log_det, z

    num = points.shape[1]
    filled = np.pad(points, ((0, 0), (0, -num % CHUNK_SIZE), (0, 0))).astype(np.float32)
    chunks = [evaluate_chunk(params, filled[:, i : i + CHUNK_SIZE]) for i in range(0, filled.shape[1], CHUNK_SIZE)]
    log_prob, noise = (np.concatenate(each, axis=1)[:, :num].astype(np.float64) for each in zip(*chunks, strict=True))
    return log_prob, noise


def judge(config: Config, coupling: str, params: Any, held_out: np.ndarray) -> dict[str, Any]:
    """Returns `measures`, `{target: {measure: value}}` of each flow, and `log_density [targets, cells]` on the grid."""
    grid, num, cell = square(config), len(config.targets), (2 * HALF_WIDTH / config.grid_size) ** 2
    density = flows.density(coupling_flow(config, coupling))
    noise_key, test_key = jax.random.split(jax.random.key(config.seed + 1))
    noise = jax.random.normal(noise_key, (num, config.num_compared, 2))
    draws = jax.jit(jax.vmap(lambda params, z: density(params).bijector.forward(z)))(params, noise)
    tests = jax.jit(jax.vmap(mmd_test))(jax.random.split(test_key, num), draws, held_out[:, : config.num_compared])
    points = np.concatenate([held_out, draws, np.broadcast_to(grid, (num, *grid.shape))], axis=1)
    log_prob, inverse = evaluate(config, coupling, params, points)
    measures = {}
    for i, name in enumerate(config.targets):
        truth = PLANAR_MIXTURES[name]
        at_held_out, at_draws, on_grid = np.split(log_prob[i], np.cumsum([config.num_test, config.num_compared]))
        errors = inverse[i, config.num_test :][: len(at_draws)] - noise[i]
        measures[name] = {
            "log-likelihood (nats)": evaluation.mean_estimate(at_held_out),
            "KL (nats)": evaluation.mean_estimate(truth.log_prob(held_out[i]) - at_held_out),
            "JS (nats)": divergences.js_quadrature(truth.log_prob(grid), on_grid, cell),
            "integral": float(cell * np.exp(on_grid).sum()),
            "MMD p-value": float(tests.p_value[i]),
            "largest error of the inverse": float(np.abs(errors).max()),
        }
    return {"measures": measures, "log_density": log_prob[:, -len(grid) :]}


def draw_densities(run: Run, log_densities: dict[str, np.ndarray]) -> None:
    """Plots the truth and each kind of flow in a row, each target in a column, as square roots of densities."""
    size = run.config.grid_size
    margin = round(size * (1 - SHOWN / HALF_WIDTH) / 2)
    densities = np.exp(np.stack(list(log_densities.values())))  # [rows, targets, cells]
    shown = np.sqrt(densities / densities[0].max(axis=1, keepdims=True)).reshape(*densities.shape[:2], size, size, 1)
    plots.image_grid(
        run.figure("densities.png"), shown[:, :, ::-1][:, :, margin : size - margin, margin : size - margin],
        row_names=list(log_densities), title="square roots of densities: " + ", ".join(run.config.targets),
    )  # fmt: skip


def sample_run(config: Config, parts: dict[str, dict], rng_key: jax.Array, num: int) -> dict[str, np.ndarray]:
    """Points drawn from each flow of a finished run, for `experiments.sample`."""
    made = {}
    for coupling in config.flows:
        density = flows.density(coupling_flow(config, coupling))

        def draw(params: Any, density: Any = density) -> jax.Array:
            return density(params).sample(seed=rng_key, sample_shape=num)

        draws = jax.jit(jax.vmap(draw))(parts[coupling])
        made |= {f"{coupling}, {name}": points for name, points in zip(config.targets, draws, strict=True)}
    return made


def main(config: Config) -> None:
    """Checks the closed forms and fits the flows; writes the figure and the results."""
    with Run("density_estimation", config, one_device=True) as run:
        rows = []
        for name in QUANTILES:
            measures = run.part(f"quantile-{name}", functools.partial(compare_quantile, config, name))
            for measure, value in measures.items():
                rows.append(row(measure, value, method="quantile function", distribution=name))
        for dim in DIMENSIONS:
            measures = run.part(f"linear-{dim}", functools.partial(compare_linear_map, config, dim))
            rows += [row(measure, value, method="linear map", dimensions=dim) for measure, value in measures.items()]
        train_set, held_out = draw_data(config)
        for name, x in zip(config.targets, held_out, strict=True):
            truth = evaluation.mean_estimate(PLANAR_MIXTURES[name].log_prob(x))
            rows.append(row("log-likelihood (nats)", truth, method="truth", target=name))
        log_densities = {"truth": np.stack([PLANAR_MIXTURES[name].log_prob(square(config)) for name in config.targets])}
        for coupling in config.flows:
            params = run.part(coupling, functools.partial(train, run, coupling, train_set))
            judged = run.part(f"{coupling}-judged", functools.partial(judge, config, coupling, params, held_out))
            for name, measures in judged["measures"].items():
                for measure, value in measures.items():
                    estimate = value if isinstance(value, dict) else {"value": value}
                    rows.append(row(measure, **estimate, method=coupling, target=name))
            log_densities[coupling] = judged["log_density"]
        draw_densities(run, log_densities)
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
