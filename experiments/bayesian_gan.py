"""Unsupervised Bayesian GAN on synthetic data: does sampling the generators cure mode collapse?

Paper: Saatci & Wilson, "Bayesian GAN", NIPS 2017, section 4.1 and figure 2. Ten generators (J_g) and one discriminator,
two-layer networks, D = 100: the Jensen-Shannon divergence between data and samples in the plane of the data's two
leading principal components, against iterations.

    python -m experiments.bayesian_gan                     quick: ml and bayes, small networks, one seed: under a minute
    python -m experiments.bayesian_gan --preset paper      hidden 1000, five seeds, all temperatures: about an hour
    python -m experiments.bayesian_gan --dataset synthetic/single_gaussian     the data of the paper's text: one mode

Methods, all with the same number of iterations:
    ml               one GAN, Adam (maximum likelihood)
    ml_independent   ten GANs, each with a discriminator of its own
    ml_coupled       ten generators facing one discriminator, Adam
    bayes            the same ten, Adam to warm up and then SGHMC at --temperature and each of --extra-temperatures
                     (0: gradient descent with momentum on the same posterior, to a mode)
    authors_code     the same ten as the released program moves them: losses of `shared/released_bayesian_gan.py`

As in the released code the divergence is estimated from 640 samples of each generator, so ml is judged on fewer samples
than the rest (a wider kernel, and a floor that is higher but far below its value), and sd 10 is the prior's, not the
paper's variance. Expected (paper preset): ml stays above 0.3 nats, and so do ten independent GANs; ten generators that
face one discriminator come to 0.03 or below, optimised (most seeds) or sampled (T = 1, every seed).
"""

from dataclasses import dataclass, replace

from experiments import bayesian_gan_flags, common

METHODS = ("ml", "ml_independent", "ml_coupled", "bayes", "authors_code")


@dataclass(frozen=True)
class Config(bayesian_gan_flags.GameFlags):
    """Flags of experiments.bayesian_gan."""

    dataset: str = "synthetic/ten_clusters"
    """synthetic/ten_clusters, synthetic/single_gaussian, or an .npz file (x_train: vectors [num, dim])."""
    methods: tuple[str, ...] = METHODS
    """Which of ml, ml_independent, ml_coupled, bayes, authors_code to run."""
    num_seeds: int = 1
    """Seeds to run: seed, seed + 1, ..."""
    extra_temperatures: tuple[float, ...] = ()
    """Further temperatures to run; 0 finds a mode."""
    adam_learning_rate: float = 2e-3
    """Adam's learning rate, beta1 = 0.5."""
    hidden: int = 200
    """Hidden units of both networks."""
    grid_step: float = 0.2
    """Spacing of the grid for the JS divergence; 0.1 in the released code, four times slower and equal to 1e-3."""


QUICK = Config(methods=("ml", "bayes"), warmup=400)
PAPER = replace(
    QUICK,
    preset="paper",
    methods=METHODS,
    num_seeds=5,
    extra_temperatures=(0.1, 0.01, 0.0),
    hidden=1000,
    warmup=1500,
    num_steps=2500,
    thinning=25,
)
PRESETS = {"quick": QUICK, "paper": PAPER}


if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, evaluation, kernels, models, plots, posteriors, training
from bayesjax.types import Kernel
from experiments import bayesian_gan_game as game
from experiments import parts, tables
from experiments.shared import released_bayesian_gan


def check(config: Config) -> None:
    """Raises ValueError for the first setting that makes no sense."""
    bayesian_gan_flags.check(config, METHODS)
    common.require_at_least(config, 1, "num_seeds", "hidden")
    common.require_positive(config, "grid_step")
    common.require(min(config.extra_temperatures, default=0) >= 0, "--extra-temperatures must not be negative")
    shortest = min(config.warmup, config.num_steps - config.warmup) if "bayes" in config.methods else config.num_steps
    common.require(
        shortest >= config.thinning, f"no draw is kept: a stage of {shortest} steps, --thinning {config.thinning}"
    )


def networks(config: Config, dim: int) -> game.Networks:
    """Two-layer networks with leaky ReLU, as the released code has them.

    They start at He's scale: generators that start nearer to zero than the data more often leave a cluster uncovered.
    """
    leaky_relu = functools.partial(jax.nn.leaky_relu, negative_slope=0.2)
    he_normal = models.initializers.fan_in_normal(math.sqrt(2))
    generator = models.MLP((config.hidden, dim), leaky_relu, he_normal)
    discriminator = models.MLP((config.hidden, 1), leaky_relu, he_normal)
    return game.networks(generator, discriminator, config.latent_dim, (dim,))


def released_game(config: Config, net: game.Networks, num_data: int) -> Kernel:
    """Both players as the released program moves them: its losses, Adam to the end, its decay within one epoch."""
    prior_and_noise = functools.partial(
        released_bayesian_gan.prior_and_noise,
        num_data=num_data, prior_scale=config.prior_scale, friction=1e-3, learning_rate=1.0,
    )  # fmt: skip
    losses = game.released_losses(net, config.batch_size, prior_and_noise)
    adam = optax.adam(game.released_schedule(1e-2, num_data, config.batch_size), b1=0.5)
    return game.play((kernels.optimize(loss, adam) for loss in losses), config.num_networks)


def stages(config: Config, net: game.Networks, num_data: int, method: str, temperature: float) -> list[game.Stage]:
    """What a method does: one stage of optimisation, or a warm-up and a sampler."""
    likelihoods = game.conditionals(net, config, game.flat, num_data=num_data)
    densities = game.conditionals(net, config, posteriors.gaussian(config.prior_scale), num_data=num_data)
    adam, sghmc = game.optimise(config, num_data), game.sample(config, num_data, temperature)
    num = config.num_networks
    if method == "ml":
        return [game.Stage("ml", game.play(map(adam, likelihoods), (1, 1)), config.num_steps)]
    if method == "ml_independent":
        one = game.play(map(adam, likelihoods), (1, 1))
        return [game.Stage("ml_independent", kernels.particles(one, num[0]), config.num_steps)]
    if method == "ml_coupled":
        return [game.Stage("ml_coupled", game.play(map(adam, likelihoods), num), config.num_steps)]
    if method == "authors_code":
        return [game.Stage("authors_code", released_game(config, net, num_data), config.num_steps)]
    return [
        game.Stage("bayes-warmup", game.play(map(adam, densities), num), config.warmup),
        game.Stage(f"bayes-T{temperature:g}", game.play(map(sghmc, densities), num), config.num_steps - config.warmup),
    ]


def run_method(
    run: common.Experiment, inputs: np.ndarray, plane: Any, method: str, temperature: float, seed: int
) -> dict:
    """One method and seed: the JS divergence along the way and of the draws, and D's output at fixed points."""
    config, (num_data, dim) = run.config, inputs.shape
    net = networks(config, dim)
    data_key, init_key, sample_key, run_key = jax.random.split(jax.random.key(seed), 4)
    batches = game.batches(data_key, inputs, config.batch_size)
    mean, components = jnp.float32(plane.mean), jnp.float32(plane.components)
    fixed_points = jnp.asarray(inputs[:20])

    def observe(state):
        """640 samples of each generator, projected, and the first discriminator's logits at 20 data points."""
        position = state.position
        if method == "ml_independent":  # games of one generator and one discriminator each
            position = jax.tree.map(lambda leaf: leaf[:, 0], position)
        samples = game.generate_each(net, position["generator"], sample_key, 640)
        first = jax.tree.map(lambda leaf: leaf[0], position["discriminator"])
        return {"samples": (samples - mean) @ components.T, "logits": net.logits(first, fixed_points)[:, 0]}

    def divergence(samples):
        return plane.evaluate_projected(samples.reshape(-1, 2))

    num = (1, 1) if method in ("ml", "ml_independent") else config.num_networks
    init = jax.jit(lambda rng_key: net.init(rng_key, *num))
    if method == "ml_independent":
        position = jax.vmap(init)(jax.random.split(init_key, config.num_networks[0]))
    else:
        position = init(init_key)

    done, curve = 0, []
    plan = stages(config, net, num_data, method, temperature)
    for stage in plan:
        stage_key = jax.random.fold_in(run_key, done)
        kernel = run.spread(stage.kernel)
        state = jax.jit(kernel.init)(position, jax.random.fold_in(stage_key, stage.num_steps))
        state, trace = training.run(
            stage_key, kernel, state, batches,
            num_steps=stage.num_steps, thinning=config.thinning, keep=observe, **run.stage(f"{stage.name}-seed{seed}"),
        )  # fmt: skip
        position, samples = training.fetch(state.position), trace.draws["samples"]
        every = max(len(samples) * config.num_steps // (stage.num_steps * 10), 1)
        shown = range(every - 1, len(samples), every)
        curve += [(done + (i + 1) * config.thinning, divergence(samples[i])) for i in shown]
        done += stage.num_steps
    stage, second_half = plan[-1], slice(len(samples) // 2, None)
    parts.save_arrays(run, f"samples-{stage.name}-seed{seed}", samples=samples[-1])
    posterior = {
        "js_draws": [divergence(draw) for draw in samples[second_half]],
        "logits": trace.draws["logits"][second_half].tolist(),
    }
    return {
        "stage": stage.name,
        "js": divergence(samples[-1]),
        **(posterior if method == "bayes" else {}),
        "curve": curve,
        **game.timings(trace),
    }


def main(config: Config) -> None:
    """Runs every method and seed, then writes the table, the figures and the results."""
    with common.Experiment("bayesian_gan", config) as run:
        check(config)
        inputs = load_vectors(config.dataset, config.data_dir)
        plane = evaluation.ProjectedDivergence(inputs, step=config.grid_step)
        temperatures: dict[str, tuple[float, ...]] = {method: (config.temperature,) for method in config.methods}
        if "bayes" in config.methods:
            temperatures["bayes"] = (config.temperature, *config.extra_temperatures)
        rows = {}
        for method, values in temperatures.items():
            for temperature in values:
                name = f"{method} T={temperature:g}" if method == "bayes" else method
                rows[name] = [
                    run.cached(
                        f"{name.replace(' ', '-')}-seed{seed}",
                        lambda m=method, t=temperature, s=seed: run_method(run, inputs, plane, m, t, s),
                    )
                    for seed in range(config.seed, config.seed + config.num_seeds)
                ]
        metrics = {
            f"{name} {key}": value for name, results in rows.items() for key, value in summarise(results).items()
        }
        curves = {
            name: (np.array(results[0]["curve"])[:, 0], np.array([np.array(r["curve"])[:, 1] for r in results]))
            for name, results in rows.items()
        }
        plots.curves(
            run.out / "figures" / "divergence.png", curves,
            xlabel="iterations", ylabel="JS divergence in the PCA plane (nats)",
            title=f"{config.dataset}, {config.num_seeds} seed{'s' * (config.num_seeds > 1)}", log_y=True,
        )  # fmt: skip
        panels = {
            name: parts.load_arrays(run, f"samples-{results[0]['stage']}-seed{config.seed}")["samples"]
            for name, results in rows.items()
        }
        plots.scatter_by_group(run.out / "figures" / "samples.png", panels, plane.projected_data)
        path = run.finish(metrics)
        print(tables.render(path))
        print(f"results in {path}, figures in {run.out / 'figures'}")


def load_vectors(name: str, data_dir: str = "") -> np.ndarray:
    """The training inputs of a data set as vectors `[num, dim]`."""
    inputs = data.load(name, data_dir=data_dir or None).train.inputs
    common.require(len(inputs) >= 3, f"--dataset {name} must have at least 3 examples; it has {len(inputs)}")
    return inputs.reshape(len(inputs), -1)


def summarise(results: list[dict]) -> dict[str, dict]:
    """Mean over seeds with its standard error; R-hat and ESS with the seeds as chains."""
    summary = {}
    for name in ("js", "ms_per_step", "fraction_outside_chunks"):
        estimate = evaluation.mean_estimate([result[name] for result in results])
        summary[name] = {"value": estimate.value, "stderr": estimate.stderr}
    if "js_draws" in results[0]:
        draws = np.array([result["js_draws"] for result in results])
        logits = np.array([result["logits"] for result in results])
        estimate = evaluation.mean_estimate(draws.mean(axis=1))
        summary["js_draws"] = {"value": estimate.value, "stderr": estimate.stderr}
        if draws.shape[1] >= 4:
            summary["js_r_hat"] = {"value": float(evaluation.split_r_hat(draws))}
            summary["js_ess"] = {"value": float(evaluation.effective_sample_size(draws))}
            summary["logit_r_hat"] = {"value": float(np.max(evaluation.split_r_hat(logits)))}
    return summary


if __name__ == "__main__":
    main(CONFIG)
