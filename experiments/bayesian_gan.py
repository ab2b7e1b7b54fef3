"""Unsupervised Bayesian GAN on synthetic data: does sampling the generators cure mode collapse?

Paper: Saatci & Wilson, "Bayesian GAN", NIPS 2017, section 4.1 and figure 2. Ten generators (J_g) and one discriminator,
two-layer networks, D = 100: the Jensen-Shannon divergence between data and samples in the plane of the data's two
leading principal components, against iterations.

    python -m experiments.bayesian_gan                     quick: small networks, one seed, under a minute
    python -m experiments.bayesian_gan --preset paper      hidden 1000, five seeds, all temperatures: about an hour
    python -m experiments.bayesian_gan --dataset synthetic/single_gaussian     the data of the paper's text: one mode

Methods, all with the same number of iterations:
    ml               one GAN, Adam (maximum likelihood)
    ml_independent   ten GANs, each with a discriminator of its own
    ml_coupled       ten generators facing one discriminator, Adam
    bayes            the same ten, Adam to warm up and then SGHMC at each of --temperatures (0: gradient descent with
                     momentum on the same posterior, its mode)
    authors_code     the same ten as the released program moves them: losses of `objectives/released_bayesian_gan.py`

Expected (paper preset): ml stays above 0.3 nats (it covers one or two of ten clusters); bayes at T = 1 ends below 0.03,
and so do ten coupled maximum-likelihood generators: on this data the cure is the number of generators.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, evaluation, kernels, models, plots, posteriors, training
from bayesjax.objectives import released_bayesian_gan, semi_supervised
from bayesjax.types import Kernel, Prior
from experiments import common

METHODS = ("ml", "ml_independent", "ml_coupled", "bayes", "authors_code")


@dataclass(frozen=True)
class Config:
    """Flags of experiments.bayesian_gan."""

    preset: str = "quick"
    """Which defaults: quick or paper."""
    dataset: str = "synthetic/ten_clusters"
    """synthetic/ten_clusters, synthetic/single_gaussian, or an .npz file of vectors [num, dim]."""
    methods: tuple[str, ...] = METHODS
    """Which of ml, ml_independent, ml_coupled, bayes, authors_code to run."""
    seed: int = 0
    """First seed."""
    num_seeds: int = 1
    """Seeds to run: seed, seed + 1, ..."""
    num_generators: int = 10
    """J_g."""
    num_discriminators: int = 1
    """J_d."""
    num_chains: int = 1
    """M: chains per generator and per discriminator; J_g x M and J_d x M networks in all."""
    temperature: float = 1.0
    """T of the Bayesian GAN's posterior."""
    extra_temperatures: tuple[float, ...] = ()
    """Further temperatures to run; 0 finds a mode."""
    friction: float = 0.5
    """alpha of SGHMC; 1 - alpha is the momentum."""
    learning_rate: float = 1e-3
    """SGHMC's step size times the number of data: the step on U/N."""
    prior_scale: float = 10.0
    """Standard deviation of the Gaussian prior on every weight."""
    pool: str = "sum"
    """Whether the likelihood sums over the other player's networks (the paper) or takes their mean."""
    hidden: int = 200
    """Hidden units of both networks."""
    latent_dim: int = 10
    """Noise dimensions, uniform on (-1, 1)."""
    batch_size: int = 64
    """Data, and noise vectors per generator, in a step."""
    warmup: int = 200
    """Adam steps before SGHMC."""
    num_steps: int = 600
    """All steps, warm-up included."""
    thinning: int = 20
    """Steps between kept draws."""
    adam_learning_rate: float = 1e-3
    """Adam's learning rate, beta1 = 0.5."""
    grid_step: float = 0.2
    """Spacing of the grid for the JS divergence; 0.1 in the released code, four times slower and equal to 1e-3."""
    checkpoint_interval: float = 60.0
    """Seconds between checkpoints."""
    out: str = ""
    """Folder of the run; runs/bayesian_gan-PRESET-DATASET-seedS if empty."""
    resume: bool = False
    """Go on from the checkpoints in --out."""
    overwrite: bool = False
    """Delete a run that is in --out."""
    publish: bool = False
    """Also write experiments/results/bayesian_gan-PRESET-DATASET.json, to be committed."""


QUICK = Config()
PAPER = replace(
    QUICK,
    preset="paper",
    num_seeds=5,
    extra_temperatures=(0.1, 0.01, 0.0),
    hidden=1000,
    warmup=1000,
    num_steps=3000,
    thinning=50,
)
PRESETS = {"quick": QUICK, "paper": PAPER}


def check(config: Config) -> None:
    """Raises ValueError for the first setting that makes no sense."""
    common.require_positive(config, "temperature", "learning_rate", "adam_learning_rate", "prior_scale")
    common.require_at_least_one(
        config, "num_seeds", "num_generators", "num_discriminators", "num_chains", "hidden", "latent_dim", "batch_size"
    )
    unknown = [method for method in config.methods if method not in METHODS]
    common.require(not unknown, f"--methods must be among {', '.join(METHODS)}; got {', '.join(unknown)}")
    common.require(min(config.extra_temperatures, default=0) >= 0, "--extra-temperatures must not be negative")
    common.require(0 <= config.warmup < config.num_steps, "--warmup must be less than --num-steps")
    common.require(config.thinning >= 1, f"--thinning must be at least 1; got {config.thinning}")
    common.require(config.grid_step > 0, f"--grid-step must be positive; got {config.grid_step}")
    shortest = min(config.warmup, config.num_steps - config.warmup) if "bayes" in config.methods else config.num_steps
    common.require(
        shortest >= config.thinning, f"no draw is kept: a stage of {shortest} steps, --thinning {config.thinning}"
    )


class Networks(NamedTuple):
    """Generator and discriminator as pure functions of their parameters."""

    init: Callable[..., dict]
    """`(rng_key, num_generators, num_discriminators) -> {"generator": stacked, "discriminator": stacked}`"""
    generate: Callable
    """`(generator_params, rng_key, num) -> [num, dim]`"""
    logits: Callable
    """`(discriminator_params, x [n, dim]) -> [n, 1]`"""
    features: Callable
    """`(discriminator_params, x [n, dim]) -> [n, hidden]`"""


def networks(config: Config, dim: int) -> Networks:
    """Two-layer networks with leaky ReLU, as the released code has them."""
    leaky_relu = functools.partial(jax.nn.leaky_relu, negative_slope=0.2)
    generator = models.MLP((config.hidden, dim), leaky_relu)
    discriminator = models.MLP((config.hidden, 1), leaky_relu)

    def init(rng_key, num_generators, num_discriminators):
        generator_key, discriminator_key = jax.random.split(rng_key)
        stacked = {}
        for name, module, key, num, width in (
            ("generator", generator, generator_key, num_generators, config.latent_dim),
            ("discriminator", discriminator, discriminator_key, num_discriminators, dim),
        ):
            variables = jax.vmap(module.init, in_axes=(0, None))(jax.random.split(key, num), jnp.zeros((1, width)))
            stacked[name] = variables["params"]
        return stacked

    def generate(params, rng_key, num):
        return generator.apply({"params": params}, models.latent_noise(rng_key, num, config.latent_dim))

    def logits(params, x):
        return discriminator.apply({"params": params}, x)

    def features(params, x):
        return discriminator.apply({"params": params}, x, method=discriminator.embed)

    return Networks(init, generate, logits, features)


def game(config: Config, net: Networks, num_data: int, move: Callable, prior: Prior, num: tuple[int, int]) -> Kernel:
    """Both players of the paper's game; `move` turns a conditional log posterior into a way to move one network."""
    log_prob_real = lambda params, x: semi_supervised.log_prob_real(net.logits(params, x))  # noqa: E731
    log_prob_fake = lambda params, x: semi_supervised.log_prob_fake(net.logits(params, x))  # noqa: E731
    discriminator = posteriors.discriminator_conditional(
        net.generate, log_prob_real, log_prob_fake, prior,
        num_data=num_data, batch_size=config.batch_size, pool=config.pool,
    )  # fmt: skip
    generator = posteriors.generator_conditional(
        net.generate, log_prob_real, prior, num_generated=num_data, batch_size=config.batch_size, pool=config.pool
    )
    num_generators, num_discriminators = num
    return kernels.alternate(
        discriminator=kernels.particles(move(discriminator), num_discriminators),
        generator=kernels.particles(move(generator), num_generators),
    )


def released_game(config: Config, net: Networks, num_data: int, num: tuple[int, int]) -> Kernel:
    """Both players as the released program moves them: its losses, Adam to the end, its decay within one epoch."""
    num_generators, num_discriminators = num
    decay = math.exp(-3)
    schedule = optax.exponential_decay(1e-2, max(num_data // config.batch_size, 1), decay, end_value=1e-2 * decay)
    extra = functools.partial(
        released_bayesian_gan.prior_and_noise,
        num_data=num_data, prior_scale=config.prior_scale, friction=1e-3, learning_rate=1.0,
    )  # fmt: skip

    def discriminator_loss(params, rng_key, batch):
        fake_key, noise_key = jax.random.split(rng_key)
        keys = jax.random.split(fake_key, num_generators)
        fakes = jax.vmap(net.generate, in_axes=(0, 0, None))(batch.others["generator"], keys, config.batch_size)
        fake_logits = jax.vmap(net.logits, in_axes=(None, 0))(params, fakes)
        loss = released_bayesian_gan.discriminator_loss(net.logits(params, batch.data.real), fake_logits)
        return loss + extra(params, noise_key)

    def generator_loss(params, rng_key, batch):
        fake_key, noise_key = jax.random.split(rng_key)
        fakes = net.generate(params, fake_key, len(batch.data.real))
        all_logits, all_features = (jax.vmap(f, in_axes=(0, None)) for f in (net.logits, net.features))
        others = batch.others["discriminator"]
        loss = released_bayesian_gan.generator_loss(
            all_logits(others, fakes), all_features(others, batch.data.real), all_features(others, fakes)
        )
        return loss + extra(params, noise_key)

    optimizer = optax.adam(schedule, b1=0.5)
    return kernels.alternate(
        discriminator=kernels.particles(kernels.optimize(discriminator_loss, optimizer), num_discriminators),
        generator=kernels.particles(kernels.optimize(generator_loss, optimizer), num_generators),
    )


def networks_per_game(config: Config) -> tuple[int, int]:
    """Generators J_g x M and discriminators J_d x M."""
    return config.num_generators * config.num_chains, config.num_discriminators * config.num_chains


class Stage(NamedTuple):
    """A kernel and how long to run it."""

    name: str
    kernel: Kernel
    num_steps: int


def stages(config: Config, net: Networks, num_data: int, method: str, temperature: float) -> list[Stage]:
    """What a method does: one stage of optimisation, or a warm-up and a sampler."""

    def adam(logdensity):
        def loss(params, rng_key, batch):
            value, aux = logdensity(params, rng_key, batch)
            return -value / num_data, aux

        return kernels.optimize(loss, optax.adam(config.adam_learning_rate, b1=0.5))

    def sghmc(logdensity):
        step_size = config.learning_rate / num_data
        return kernels.sghmc(logdensity, step_size=step_size, friction=config.friction, temperature=temperature)

    num = networks_per_game(config)
    flat, gaussian = lambda params: jnp.zeros(()), posteriors.gaussian(config.prior_scale)
    if method == "ml":
        return [Stage("ml", game(config, net, num_data, adam, flat, (1, 1)), config.num_steps)]
    if method == "ml_independent":
        one = game(config, net, num_data, adam, flat, (1, 1))
        return [Stage("ml_independent", kernels.particles(one, num[0]), config.num_steps)]
    if method == "ml_coupled":
        return [Stage("ml_coupled", game(config, net, num_data, adam, flat, num), config.num_steps)]
    if method == "authors_code":
        return [Stage("authors_code", released_game(config, net, num_data, num), config.num_steps)]
    sampling = config.num_steps - config.warmup
    return [
        Stage("bayes-warmup", game(config, net, num_data, adam, gaussian, num), config.warmup),
        Stage(f"bayes-T{temperature:g}", game(config, net, num_data, sghmc, gaussian, num), sampling),
    ]


def run_method(
    run: common.Experiment, inputs: np.ndarray, plane: Any, method: str, temperature: float, seed: int
) -> dict:
    """One method and seed: the JS divergence along the way and of the draws, and D's output at fixed points."""
    config, (num_data, dim) = run.config, inputs.shape
    net = networks(config, dim)
    data_key, init_key, sample_key, run_key = jax.random.split(jax.random.key(seed), 4)
    batches = jax.tree_util.Partial(
        lambda minibatches, step: posteriors.GANBatch(minibatches(step)),
        data.Minibatches(data_key, inputs, config.batch_size),
    )
    mean, components = jnp.float32(plane.mean), jnp.float32(plane.components)
    fixed_points = jnp.asarray(inputs[:20])

    def observe(state):
        """640 samples of each generator, projected, and the first discriminator's logits at 20 data points."""
        position = state.position
        if method == "ml_independent":  # games of one generator and one discriminator each
            position = jax.tree.map(lambda leaf: leaf[:, 0], position)
        num = jax.tree.leaves(position["generator"])[0].shape[0]
        make = jax.vmap(net.generate, in_axes=(0, 0, None))
        samples = make(position["generator"], jax.random.split(sample_key, num), 640)
        first = jax.tree.map(lambda leaf: leaf[0], position["discriminator"])
        return {"samples": (samples - mean) @ components.T, "logits": net.logits(first, fixed_points)[:, 0]}

    def divergence(samples):
        return plane.of_projected(samples.reshape(-1, 2))

    num = (1, 1) if method in ("ml", "ml_independent") else networks_per_game(config)
    init = jax.jit(lambda rng_key: net.init(rng_key, *num))
    if method == "ml_independent":
        position = jax.vmap(init)(jax.random.split(init_key, networks_per_game(config)[0]))
    else:
        position = init(init_key)

    done, curve = 0, []
    plan = stages(config, net, num_data, method, temperature)
    for stage in plan:
        stage_key = jax.random.fold_in(run_key, done)
        state = jax.jit(stage.kernel.init)(position, jax.random.fold_in(stage_key, stage.num_steps))
        state, trace = training.run(
            stage_key, stage.kernel, state, batches,
            num_steps=stage.num_steps, thinning=config.thinning, keep=observe, **run.stage(f"{stage.name}-seed{seed}"),
        )  # fmt: skip
        position, samples = state.position, trace.draws["samples"]
        every = max(len(samples) * config.num_steps // (stage.num_steps * 10), 1)
        shown = range(every - 1, len(samples), every)
        curve += [(done + (i + 1) * config.thinning, divergence(samples[i])) for i in shown]
        done += stage.num_steps
    stage, second_half = plan[-1], slice(len(samples) // 2, None)
    np.savez_compressed(run.out / "parts" / f"samples-{stage.name}-seed{seed}.npz", samples=samples[-1])
    posterior = {
        "js_draws": [divergence(draw) for draw in samples[second_half]],
        "logits": trace.draws["logits"][second_half].tolist(),
    }
    return {
        "js": divergence(samples[-1]),
        **(posterior if method == "bayes" else {}),
        "curve": curve,
        "ms_per_step": 1e3 * trace.chunk_seconds / stage.num_steps,
        "fraction_outside_chunks": 1 - trace.chunk_seconds / (trace.seconds - trace.compile_seconds),
    }


def main(config: Config) -> None:
    """Runs every method and seed, then writes the table, the figures and the results."""
    with common.Experiment("bayesian_gan", config) as run:
        check(config)
        inputs = load_vectors(config.dataset)
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
        metrics, lines = {}, []
        for name, results in rows.items():
            summary = summarise(results)
            metrics |= {f"{name} {key}": value for key, value in summary.items()}
            lines.append(
                [name, *(cell(summary.get(key)) for key in ("js", "js_draws", "js_r_hat", "js_ess", "logit_r_hat"))]
            )
        header = ["method", "JS at the end", "JS of the draws", "R-hat of JS", "ESS of JS", "worst R-hat of D(x)"]
        print(common.table(lines, header))
        curves = {
            name: (np.array(results[0]["curve"])[:, 0], np.array([np.array(r["curve"])[:, 1] for r in results]))
            for name, results in rows.items()
        }
        plots.curves(
            run.out / "figures" / "divergence.png", curves,
            xlabel="iterations", ylabel="JS divergence in the PCA plane (nats)",
            title=f"{config.dataset}, {config.num_seeds} seed{'s' * (config.num_seeds > 1)}", log_y=True,
        )  # fmt: skip
        names = {m: stages(config, networks(config, 2), 2, m, config.temperature)[-1].name for m in temperatures}
        panels = {
            method: np.load(run.out / "parts" / f"samples-{stage}-seed{config.seed}.npz")["samples"]
            for method, stage in names.items()
        }
        plots.scatter_by_group(run.out / "figures" / "samples.png", panels, plane.projected_data)
        path = run.finish(metrics, publish=config.publish)
        print(f"results in {path}, figures in {run.out / 'figures'}")


def load_vectors(name: str) -> np.ndarray:
    """The training inputs of a data set as vectors `[num, dim]`."""
    inputs = data.load(name).train.inputs
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
            summary["js_r_hat"] = {"value": float(evaluation.r_hat(draws))}
            summary["js_ess"] = {"value": float(evaluation.effective_sample_size(draws))}
            summary["logit_r_hat"] = {"value": float(np.max(evaluation.r_hat(logits)))}
    return summary


def cell(entry: dict | None) -> str:
    """A number with its standard error, for the table."""
    if entry is None:
        return "-"
    stderr = entry.get("stderr", math.nan)
    return f"{entry['value']:.4f} ± {stderr:.4f}" if math.isfinite(stderr) else f"{entry['value']:.4g}"


if __name__ == "__main__":
    main(common.parse(PRESETS, __doc__))
