"""Bayesian GAN on synthetic data: does sampling the weights of the generators prevent mode collapse?

Paper: Saatci & Wilson, "Bayesian GAN", NIPS 2017, section 4.1 and figure 2.

    python -m experiments.bayesian_gan                     quick: ml and bayes, small networks, one seed: under a minute
    python -m experiments.bayesian_gan --preset paper      hidden 1000, five seeds, all temperatures: 80 minutes
    python -m experiments.bayesian_gan --preset paper_500   data of 500 dimensions, one seed: 17 minutes
    python -m experiments.bayesian_gan --preset unimodal    the data of the paper's text, which have one mode: 6 minutes

The weights w_g of ten generators G_g and w_d of a discriminator D_d are sampled in turn, each from its posterior given
the opposing networks (`conditionals` below; equations 1 and 2 of the paper). N is the number of data x, and z is noise:

    log p(w_g | w_d) = log p(w_g) + sum_d N E_z[ log D_d(G_g(z)) ]
    log p(w_d | w_g) = log p(w_d) + sum_g N { E_x[ log D_d(x) ] + E_z[ log(1 - D_d(G_g(z))) ] }

Methods, all with the same number of steps:
    ml               one GAN, Adam (maximum likelihood)
    ml_independent   ten GANs, each with a discriminator of its own, Adam
    ml_coupled       ten generators that face one discriminator, Adam
    bayes            networks as in ml_coupled: a warm-up of Adam, then the sampler at --temperature and at each of
                     --extra-temperatures (0 is gradient descent with momentum to a mode of the posterior)
    authors_code     networks as in ml_coupled, losses of the released program (`shared/released_bayesian_gan.py`)

The measure is the Jensen-Shannon divergence between data and samples in the plane of the data's two leading principal
components. As in the released code, it is estimated from 640 samples of each generator. A single generator thus has
fewer samples than ten generators. This raises the lowest divergence that ml can reach, but the divergence of ml is far
above this bound. The prior's scale of 10 is a standard deviation here and a variance in the paper.

Expected (paper preset): ml and ten independent GANs stay above 0.3 nats. Ten generators that face one discriminator
reach 0.03 nats or less, optimised (most seeds) or sampled (T = 1, every seed).
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, evaluation, kernels, models, plots, posteriors
from bayesjax.objectives import semi_supervised
from bayesjax.types import Array, Density, Kernel, Prior
from experiments.harness import Column, Count, NonNegative, Positive, Run, Table, cli, require, row
from experiments.shared import games, populations, released_bayesian_gan
from experiments.shared.populations import Networks

Method = Literal["ml", "ml_independent", "ml_coupled", "bayes", "authors_code"]


@dataclass(frozen=True)
class Config(populations.PopulationConfig):
    """Flags of experiments.bayesian_gan."""

    dataset: str = "synthetic/ten_clusters"
    """Data: `synthetic/ten_clusters`, `synthetic/single_gaussian`, the same with the ending `_500` (500 dimensions), or
    the path of an .npz file (x_train [num, dim])."""
    methods: tuple[Method, ...] = ("ml", "bayes")
    """Methods to compare; the description above defines them."""
    num_seeds: Count = 1
    """Number of runs of each method; their random seeds are --seed, --seed + 1, ..."""
    extra_temperatures: tuple[NonNegative, ...] = ()
    """Further temperatures at which bayes samples the posterior; 0 optimises to a mode instead of sampling."""
    hidden: Count = 200
    """Number of units in the one hidden layer of every network."""
    grid_step: Positive = 0.2
    """Spacing, in units of the data, of the grid on which the JS divergence is computed; the released code's 0.1 takes
    four times as long and agrees to 1e-3."""

    def __post_init__(self) -> None:
        """Checks that every stage keeps at least one draw."""
        super().__post_init__()
        sampled = min(self.num_warmup, self.num_steps - self.num_warmup)
        shortest = sampled if "bayes" in self.methods else self.num_steps
        require(shortest >= self.thinning, f"a stage of {shortest} steps keeps no draw with --thinning {self.thinning}")


QUICK = Config(
    latent_dim=10, num_warmup=400, num_steps=600, generator_learning_rate=2e-3, discriminator_learning_rate=2e-3,
    learning_rate=1e-3, friction=0.5, prior="gaussian", prior_scale=10.0,
)  # fmt: skip
PAPER = replace(
    QUICK, methods=get_args(Method), num_seeds=5, extra_temperatures=(0.1, 0.01, 0.0), hidden=1000,
    num_warmup=1500, num_steps=2500, thinning=25,
)  # fmt: skip
PAPER_500 = replace(
    PAPER, dataset="synthetic/ten_clusters_500", methods=get_args(Method)[:-1], num_seeds=1, extra_temperatures=()
)
UNIMODAL = replace(PAPER_500, dataset="synthetic/single_gaussian")
PRESETS = {"quick": QUICK, "paper": PAPER, "paper_500": PAPER_500, "unimodal": UNIMODAL}
TABLES = [
    Table(
        {"method": "method", "T": "T"},
        [
            Column("JS at the end (nats)", digits=3), Column("JS of the draws (nats)", digits=3),
            Column("R-hat of JS"), Column("ESS of JS", digits=0), Column("worst R-hat of D(x)"),
            Column("ms per step", digits=1),
        ],
    )
]  # fmt: skip
HEADLINE = (
    "bayesian_gan-paper-synthetic_ten_clusters",
    {"measure": "JS at the end (nats)", "method": "bayes", "T": 1.0},
    3,
)

# ---- networks and the densities of their weights


def networks(config: Config, dim: int) -> Networks:
    """Returns networks with one hidden layer of leaky ReLUs, as in the released code, for data `[num, dim]`.

    Initial weights have He's scale. Generators whose initial samples are closer to zero than the data leave a
    cluster uncovered more often.
    """
    leaky_relu = functools.partial(jax.nn.leaky_relu, negative_slope=0.2)
    he_normal = models.initializers.fan_in_normal(math.sqrt(2))
    generator = models.MLP((config.hidden, dim), leaky_relu, he_normal)
    discriminator = models.MLP((config.hidden, 1), leaky_relu, he_normal)
    return populations.networks(generator, discriminator, config.latent_dim, (dim,))


def conditionals(
    net: Networks, prior: Prior, num_data: int, *, batch_size: int, pool: Literal["sum", "mean"] = "sum",
    num_labelled: float = 0, generator_loss: populations.GeneratorLoss = "likelihood",
) -> dict[str, Density]:  # fmt: skip
    """Log posterior densities of the weights of one discriminator and one generator, given the opposing networks.

    Args:
      net: the networks.
      prior: log prior density of the weights of a network.
      num_data: N, the number of data to which a batch of real examples, or of one generator's examples, is scaled.
      batch_size: number of examples that each generator generates in a step.
      pool: whether the log likelihood is the "sum" or the "mean" over the opposing networks.
      num_labelled: number of data to which a batch of labelled images is scaled; 0 for an unsupervised game.
      generator_loss: "feature_matching" replaces the generator's log likelihood by -N times the feature-matching loss.

    Returns:
      `{"discriminator": density, "generator": density}`.
    """

    def discriminator(net: Networks) -> Density:
        return posteriors.discriminator_conditional(
            net.generate, lambda params, x: semi_supervised.log_prob_real(net.logits(params, x)),
            lambda params, x: semi_supervised.log_prob_fake(net.logits(params, x)),
            prior, num_data=num_data, batch_size=batch_size, pool=pool,
            log_prob_label=populations.log_prob_label(net) if num_labelled else None, num_labelled=num_labelled,
        )  # fmt: skip

    def generator(net: Networks) -> Density:
        if generator_loss == "feature_matching":
            loss = populations.feature_matching(net, batch_size, pool)
            return posteriors.from_loss(loss, prior, num_data)
        return posteriors.generator_conditional(
            net.generate, lambda params, x: semi_supervised.log_prob_real(net.logits(params, x)),
            prior, num_generated=num_data, batch_size=batch_size, pool=pool,
        )  # fmt: skip

    return {
        "discriminator": populations.with_noise(net, discriminator),
        "generator": populations.with_noise(net, generator),
    }


# ---- kernels


def optimised(
    config: populations.PopulationConfig, net: Networks, prior: Prior, num_data: int, num_steps: int, **options: Any
) -> list[Kernel]:
    """Kernels for a discriminator and a generator: Adam on the negative log posterior divided by `num_data`."""
    densities = conditionals(net, prior, num_data, batch_size=config.batch_size, pool=config.pool, **options)
    return [
        games.adam(config, player, posteriors.as_loss(density, num_data), num_steps)
        for player, density in densities.items()
    ]


def sampled(
    config: populations.PopulationConfig, net: Networks, num_data: int, temperature: float,
    cycle: kernels.Cyclical | None = None, **options: Any,
) -> list[Kernel]:  # fmt: skip
    """Kernels for a discriminator and a generator that sample the posterior at a temperature; a cycle is of SGHMC."""
    prior = games.prior(config)
    densities = conditionals(net, prior, num_data, batch_size=config.batch_size, pool=config.pool, **options)
    if cycle is not None:
        settings = {"step_size": cycle.step_size, "temperature": cycle.temperature, "friction": config.friction}
        return [kernels.sghmc(density, **settings) for density in densities.values()]
    return [games.sampler(config, density, num_data, temperature) for density in densities.values()]


def method_stages(
    config: Config, net: Networks, num_data: int, method: Method, temperature: float
) -> list[games.Stage]:
    """The training stages of a method: one stage of Adam, or a warm-up by Adam followed by a sampler."""
    num, num_steps, num_warmup = config.num_networks, config.num_steps, config.num_warmup
    stage = functools.partial(games.Stage, thinning=config.thinning)
    if method == "bayes":
        warmup = optimised(config, net, games.prior(config), num_data, num_warmup)
        sampler = sampled(config, net, num_data, temperature)
        return [
            stage("bayes-warmup", populations.sweep(warmup, *num), num_warmup),
            stage(f"bayes-T{temperature:g}", populations.sweep(sampler, *num), num_steps - num_warmup),
        ]
    if method == "authors_code":
        adam = optax.adam(released_bayesian_gan.schedule(1e-2, num_data, config.batch_size), b1=0.5)
        moves = released_bayesian_gan.players(
            net, adam, batch_size=config.batch_size, num_data=num_data, prior_scale=config.prior_scale,
            friction=1e-3, learning_rate=1.0,
        )  # fmt: skip
    else:
        moves = optimised(config, net, populations.flat_prior, num_data, num_steps)
    game = populations.sweep(moves, *((1, 1) if method in ("ml", "ml_independent") else num))
    return [stage(method, kernels.particles(game, num[0]) if method == "ml_independent" else game, num_steps)]


# ---- the experiment


def play(
    run: Run, inputs: np.ndarray, plane: evaluation.ProjectedDivergence, method: Method, temperature: float, seed: int
) -> dict[str, Any]:
    """Runs one method with one seed.

    Returns:
      JS divergences in nats: `values` at the `steps` of the figure and "JS at the end (nats)"; the final `samples`; and
      the timings of the last stage. For bayes, also "js of draws" and "logits of draws" of the sampler's second half.
    """
    config, (num_data, dim) = run.config, inputs.shape
    net = networks(config, dim)
    data_key, init_key, sample_key, run_key = jax.random.split(jax.random.key(seed), 4)
    mean, components = jnp.float32(plane.mean), jnp.float32(plane.components)
    fixed_points = jnp.asarray(inputs[:20])

    def keep(stage: games.Stage, state: Any) -> dict[str, Array]:
        """Projects 640 samples of each generator on the plane, and evaluates a discriminator at 20 data points."""
        position = state.position
        if method == "ml_independent":  # each game has one generator and one discriminator
            position = jax.tree.map(lambda leaf: leaf[:, 0], position)
        samples = populations.generate_each(net, position["generator"], sample_key, 640)
        first = jax.tree.map(lambda leaf: leaf[0], position["discriminator"])
        return {"samples": (samples - mean) @ components.T, "logits": net.logits(first, fixed_points)[:, 0]}

    def divergence(samples: np.ndarray) -> float:
        return float(plane.evaluate_projected(samples.reshape(-1, 2)))

    num = (1, 1) if method in ("ml", "ml_independent") else config.num_networks
    init = jax.jit(lambda rng_key: net.init(rng_key, *num))
    if method == "ml_independent":
        position = jax.vmap(init)(jax.random.split(init_key, config.num_networks[0]))
    else:
        position = init(init_key)
    stages = method_stages(config, net, num_data, method, temperature)
    starts = [sum(stage.num_steps for stage in stages[:index]) for index in range(len(stages))]
    results = games.run_stages(
        run, f"seed{seed}", stages, position, populations.unlabelled_batches(data_key, inputs, config.batch_size),
        rng_keys=[jax.random.fold_in(run_key, start) for start in starts], keep=keep,
    )  # fmt: skip

    steps, values = [], []
    for stage, start, (_, trace) in zip(stages, starts, results, strict=True):
        samples = trace.draws["samples"]
        every = max(len(samples) * config.num_steps // (stage.num_steps * 10), 1)
        shown = range(every - 1, len(samples), every)
        steps += [start + (i + 1) * config.thinning for i in shown]
        values += [divergence(samples[i]) for i in shown]
    _, trace = results[-1]
    samples = trace.draws["samples"]
    outcome = {
        "steps": np.array(steps), "values": np.array(values),
        "samples": samples[-1], "JS at the end (nats)": divergence(samples[-1]),
        **{name: math.nan if value is None else value for name, value in games.timings([trace]).items()},
    }  # fmt: skip
    if method == "bayes":
        second_half = slice(len(samples) // 2, None)
        outcome["js of draws"] = np.array([divergence(draw) for draw in samples[second_half]])
        outcome["logits of draws"] = trace.draws["logits"][second_half]
    return outcome


def method_rows(method: Method, temperature: float | None, outcomes: list[dict[str, Any]]) -> list[dict]:
    """Result rows of a method: means over seeds with standard errors, and R-hat and ESS with the seeds as chains."""
    measures = ("JS at the end (nats)", "ms per step", "fraction outside chunks")
    values: dict[str, Any] = {
        measure: evaluation.mean_estimate([outcome[measure] for outcome in outcomes]) for measure in measures
    }
    if method == "bayes":
        draws, logits = (np.stack([outcome[f"{name} of draws"] for outcome in outcomes]) for name in ("js", "logits"))
        values["JS of the draws (nats)"] = evaluation.mean_estimate(draws.mean(axis=1))
        if draws.shape[1] >= 4:
            values["R-hat of JS"] = evaluation.split_r_hat(draws)
            values["ESS of JS"] = evaluation.effective_sample_size(draws)
            values["worst R-hat of D(x)"] = np.max(evaluation.split_r_hat(logits))
    return [row(measure, value, method=method, T=temperature) for measure, value in values.items()]


def load_vectors(name: str, data_dir: str = "") -> np.ndarray:
    """Loads training inputs as vectors `[num, dim]`; raises ValueError if there are fewer than 3."""
    inputs = data.load(name, data_dir=data_dir or None).train.inputs
    require(len(inputs) >= 3, f"--dataset {name} must have at least 3 examples; it has {len(inputs)}")
    return inputs.reshape(len(inputs), -1)


def main(config: Config) -> None:
    """Runs every method with every seed, then writes the table, the figures and the results."""
    with Run("bayesian_gan", config) as run:
        inputs = load_vectors(config.dataset, config.data_dir)
        plane = evaluation.ProjectedDivergence(inputs, step=config.grid_step)
        rows, curves, panels = [], {}, {}
        for method in config.methods:
            is_sampled = method == "bayes"
            for temperature in (config.temperature, *(config.extra_temperatures if is_sampled else ())):
                name = f"bayes T={temperature:g}" if is_sampled else method
                outcomes = [
                    run.part(
                        f"{name.replace(' ', '-')}-seed{seed}",
                        functools.partial(play, run, inputs, plane, method, temperature, seed),
                    )
                    for seed in range(config.seed, config.seed + config.num_seeds)
                ]
                rows += method_rows(method, temperature if is_sampled else None, outcomes)
                curves[name] = outcomes[0]["steps"], np.stack([outcome["values"] for outcome in outcomes])
                panels[name] = outcomes[0]["samples"]
        plots.curves(
            run.figure("divergence.png"), curves, xlabel="steps", ylabel="JS divergence in the PCA plane (nats)",
            title=f"{config.dataset}, {config.num_seeds} seed{'s' * (config.num_seeds > 1)}", log_y=True,
        )  # fmt: skip
        modes = "unimodal, " if "single_gaussian" in config.dataset else ""
        title = f"{config.dataset} ({modes}D = {inputs.shape[1]})"
        plots.scatter_by_group(run.figure("samples.png"), panels, plane.projected_data, title=title)
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
