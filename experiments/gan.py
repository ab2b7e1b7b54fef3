"""Generative adversarial networks: seven losses, three architectures, by Adam or by sampling both players' weights.

Papers: Goodfellow et al., "Generative adversarial nets", NIPS 2014; Radford et al., "DCGAN", ICLR 2016; Mao et al.,
"Least squares GANs", ICCV 2017; Arjovsky et al., "Wasserstein GAN", ICML 2017; Gulrajani et al., "Improved training of
Wasserstein GANs", NIPS 2017; Miyato et al., "Spectral normalization for GANs", ICLR 2018; Mescheder et al., "Which
training methods for GANs do actually converge?", ICML 2018; Saatci & Wilson, "Bayesian GAN", NIPS 2017.

    python -m experiments.gan                                quick: a ring of eight Gaussians, under a minute
    python -m experiments.gan --preset ring                  all losses, five seeds (ring_sghmc, ring_sgld: Bayesian)
    python -m experiments.gan --preset grid                  25 Gaussians (grid_sghmc)
    python -m experiments.gan --preset grid_pairs            three pairs of players a game by Adam (ring_pairs)
    python -m experiments.gan --preset digits                DCGAN on images of 8 x 8, minutes (digits_sghmc)
    python -m experiments.gan --preset mnist                 DCGAN on MNIST, a budget for two cores (mnist_sghmc)
    python -m experiments.gan --preset cifar10               DCGAN on CIFAR-10, for a GPU; cifar10_sngan
    python -m experiments.gan --preset cifar10_small         half its channels and steps, a budget for two cores
    python -m experiments.gan --preset digits --losses hinge --kernel sgld

All losses have the same networks, data, steps and rates, so that the table compares losses and not tunings; hinge's
critic alone has spectral norms instead of others, and never tanh. With --kernel sghmc or sgld minus the loss of all
data is a player's log likelihood, the prior is N(0, s^2 / fan-in), and what generates is the mixture of all kept draws
of all pairs of players (--num-chains); what their last step of Adam on the negative log posterior, no average, makes is
judged beside it, "before sampling".
A mixture in the plane is judged by its modes: found if a sample is within three deviations, of high quality the share
of samples that are. Images are judged by a classifier's features (`judge.py`): Fréchet and kernel classifier distances,
which are no FID, beside the row of training images.

Expected: Adam's games find 7 to 8 of the ring's modes and 16 to 20 of the grid's 25 (r1 23, wasserstein 24,
wasserstein_gp all), and one sampled pair finds about as many. Three sampled pairs find all 8, and 22 or more, as they
did before they were sampled, and as three of Adam's do, sharper. 20 and 36 minutes of one core; three pairs of the grid
by Adam 2 hours, sampled 75 minutes and 2 hours.
"""

import dataclasses
from dataclasses import dataclass

from experiments import common, gan_flags

LOSSES = ("minimax", "non_saturating", "r1", "least_squares", "wasserstein", "wasserstein_gp", "hinge")
ARCHITECTURES = ("mlp", "dcgan", "residual")


@dataclass(frozen=True)
class Config(gan_flags.PlayerFlags):
    """Flags of experiments.gan."""

    dataset: str = "synthetic/ring"
    """synthetic/ring, synthetic/grid, digits, an image set of TensorFlow Datasets, or an .npz file of images."""
    judge: str = ""
    """The set whose judge judges the images: that of --dataset if empty; none: nobody does."""
    losses: tuple[str, ...] = LOSSES
    """minimax, non_saturating, r1 (non-saturating with a penalty of the gradient at data), least_squares, wasserstein
    (clipped weights), wasserstein_gp (a penalty of the gradient between data and fakes), hinge (spectral norms)."""
    architecture: str = "mlp"
    """mlp, dcgan or residual (SNGAN's)."""
    num_seeds: int = 1
    """Games of each loss, played side by side."""
    num_chains: int = 1
    """Pairs of players in a game, which never meet, each with a start and batches of its own; what generates is the
    mixture of all of them."""
    latent_dim: int = 8
    """Of the noise, standard normal."""
    hidden: tuple[int, ...] = (128, 128)
    """Units of the hidden layers of both mlps."""
    activation: str = "leaky_relu"
    """Of both mlps: leaky_relu or tanh; hinge's critic always has leaky_relu, for with spectral norms and tanh it does
    not learn."""
    generator_features: tuple[int, ...] = (128, 64, 32)
    """Channels of dcgan's generator, from the noise up."""
    discriminator_features: tuple[int, ...] = (32, 64, 128)
    """Channels of dcgan's discriminator, from the image down."""
    width: int = 64
    """Channels of the residual blocks."""
    num_doublings: int = 3
    """Of the residual generator's image, 1 for 8 pixels, 3 for 28 and 32; the discriminator halves it one time less."""
    norm: str = "group"
    """Of dcgan's networks, and of the residual generator: group, batch (of the batch at hand), or none."""
    clip: float = 0.05
    """Bound of the clipped critic's weights."""
    penalty: float = 10.0
    """Of wasserstein_gp."""
    r1_penalty: float = 1.0
    """Of r1: gamma."""
    real_target: float = 1.0
    """One-sided label smoothing: what a real example counts as real by; 1 with the losses of critics."""
    num_judged: int = 2500
    """Samples that are judged."""


# Chosen by games of seeds 100 and 0; those of seed 1 came after. On the ring mlps of leaky ReLUs, of noise of eight and
# three steps of the discriminator, had 0.2 to 54 % of high quality (one loss 93 %, of one mode), on the grid mlps of
# leaky ReLUs, all else equal, 2 to 43 %, of tanh 52 to 85 %; only hinge's critic, of spectral norms, does not learn
# so. With the ring's former mlps penalties of 10 and 1 left bridges between the modes that 0.1 did not, and clipped
# critics missed modes with bounds of 0.2 and less and of 0.5, seldom with 0.3. A prior of 3 holds a sampler's weights
# back: R1 has 18 modes of the grid with it, 31 % of high quality, and 24 and 23 with 10 and 30, 66 to 68 %. A sampler's
# learning rates of 1e-4 and 3e-4 differ little, but under least squares: 58 and 41 % of high quality.
QUICK = Config(
    losses=("non_saturating", "wasserstein_gp"), num_seeds=2, latent_dim=2, activation="tanh", batch_size=64,
    num_steps=1500, generator_learning_rate=3e-3, discriminator_learning_rate=3e-3, decay_from=0.5, average=0.99,
    penalty=0.1, r1_penalty=0.1, clip=0.3, warmup=0.8, learning_rate=1e-4, prior_scale=30.0,
)  # fmt: skip
RING = dataclasses.replace(
    QUICK, preset="ring", losses=LOSSES, num_seeds=5, batch_size=128, num_steps=10_000, generator_learning_rate=1e-3,
    discriminator_learning_rate=1e-3, seed=1,
)  # fmt: skip
GRID = dataclasses.replace(RING, preset="grid", dataset="synthetic/grid", num_steps=20_000, warmup=0.9)
MNIST = Config(
    preset="mnist",
    dataset="mnist",
    architecture="dcgan",
    latent_dim=64,
    num_steps=5000,
    num_judged=10_000,
)
DIGITS = dataclasses.replace(
    MNIST, preset="digits", dataset="digits", losses=("non_saturating", "r1"), latent_dim=16,
    generator_features=(64, 32), discriminator_features=(32, 64), num_steps=1000, num_judged=1000,
)  # fmt: skip
CIFAR10 = dataclasses.replace(
    MNIST, preset="cifar10", dataset="cifar10", losses=("non_saturating", "r1", "hinge"),
    latent_dim=128, generator_features=(256, 128, 64), discriminator_features=(64, 128, 256), num_steps=10_000,
)  # fmt: skip
CIFAR10_SMALL = dataclasses.replace(
    CIFAR10, preset="cifar10_small", losses=("non_saturating", "r1"), generator_features=MNIST.generator_features,
    discriminator_features=MNIST.discriminator_features, num_steps=5000,
)  # fmt: skip
SNGAN = dataclasses.replace(
    CIFAR10, preset="cifar10_sngan", losses=("hinge",), architecture="residual", width=128, discriminator_steps=5,
    momentum=0.0, decay_from=0.0001,
)  # fmt: skip
PAIRS = {
    plain.preset: dataclasses.replace(plain, preset=f"{plain.preset}_pairs", num_chains=3) for plain in (RING, GRID)
}
SAMPLED = {  # samplers of ring and grid start after as many steps of Adam as Adam's own games have
    name: dataclasses.replace(pairs, num_steps=round(pairs.num_steps / pairs.warmup)) for name, pairs in PAIRS.items()
}
PRESETS = {
    preset.preset: preset
    for plain in (QUICK, RING, GRID, DIGITS, MNIST, CIFAR10, CIFAR10_SMALL, SNGAN)
    for preset in (
        plain,
        *(
            dataclasses.replace(SAMPLED.get(plain.preset, plain), preset=f"{plain.preset}_{kernel}", kernel=kernel)
            for kernel in ("sghmc", "sgld")
        ),
    )
} | {pairs.preset: pairs for pairs in PAIRS.values()}

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from bayesjax import data, evaluation, kernels
from bayesjax.data.synthetic import MIXTURES
from bayesjax.evaluation import fidelity, health
from experiments import gan_figures, gan_networks, gan_players, labelled_images, parts, tables

NUM_LOOKED_AT = 200  # samples of a check
NUM_BESIDE = 5000  # data whose mean distance that of samples is held against, at most
NUM_SHOWN = 200
NUM_MOMENTS = 8  # checks in a figure of the training, at most


class Subject(NamedTuple):
    """What is to be generated, and who judges it.

    Attributes:
      train: `[num, ...]`, as the networks see it.
      judged: `samples [num, ...] -> {measure: {"value", ...}}`.
      real: the same measures of training images; empty where the truth is known.
    """

    train: np.ndarray
    judged: Callable[[np.ndarray], dict[str, dict]]
    real: dict[str, dict]


def subject(config: Config) -> Subject:
    """Loads the data, and the judge of images."""
    name = config.dataset.removeprefix("synthetic/")
    if name in MIXTURES:

        def modes(samples: np.ndarray) -> dict[str, dict]:
            found = fidelity.mode_coverage(samples, *MIXTURES[name])
            return {"modes": {"value": found.num_covered}, "high quality": {"value": found.high_quality}}

        return Subject(data.load(config.dataset).train.inputs, modes, {})
    images = labelled_images.load(config)
    jury = images.jury
    if jury is None:
        return Subject(images.train.inputs, lambda samples: {}, {})
    return Subject(images.train.inputs, lambda samples: jury.judged(jury.read(samples)), jury.real)


def play(run: common.Experiment, about: Subject, name: str) -> dict[str, Any]:
    """All games of one loss: measures of each game's samples, and what became of them along the way."""
    config, variant = run.config, gan_networks.VARIANTS[name]
    net = gan_networks.networks(config, variant, about.train.shape[1:])
    grouped = config.num_seeds, config.num_chains
    num_pairs = math.prod(grouped)
    side_by_side = num_pairs if num_pairs > 1 else None
    data_key, init_key, look_key, run_key, judge_key = jax.random.split(jax.random.key(config.seed), 5)
    if side_by_side is None:
        position = jax.jit(net.init)(init_key)
    else:
        position = jax.jit(jax.vmap(net.init))(jax.random.split(init_key, num_pairs))
    plan = gan_players.stages(
        config, gan_networks.losses(config, variant, net), len(about.train),
        constraint=kernels.clip_weights(config.clip) if variant.is_clipped else None,
    )  # fmt: skip
    played = gan_players.play(
        run, name, plan, position, gan_players.batches(config, data_key, about.train, side_by_side),
        rng_key=run_key, observe=lambda params: net.make(params, look_key, NUM_LOOKED_AT), num_games=side_by_side,
    )  # fmt: skip
    looks = gan_players.mixed(played.checks.reshape(-1, *grouped, NUM_LOOKED_AT, *about.train.shape[1:]))
    kept = {"judged": played.generators} | ({} if config.kernel == "adam" else {"started": played.started})
    if side_by_side is None:
        kept = jax.tree.map(lambda leaf: leaf[:, None], kept)
    result: dict[str, Any] = {"ms per step": played.milliseconds, "steps": played.steps.tolist(), "games": []}
    real, shown = about.train[:NUM_BESIDE], []
    real = real.reshape(len(real), -1)
    for game in range(config.num_seeds):
        key = jax.random.fold_in(judge_key, game)
        generate = functools.partial(gan_players.generate, net.make, rng_key=key, num=config.num_judged)
        chains = {kind: gan_players.of_chains(draws, game, config.num_chains) for kind, draws in kept.items()}
        samples = {kind: generate(gan_players.pooled(each)) for kind, each in chains.items()}
        judged: dict[str, Any] = {kind: about.judged(each) for kind, each in samples.items()}
        if config.num_chains > 1:
            judged["pairs"] = [
                {kind: about.judged(generate(each[chain])) for kind, each in chains.items()}
                for chain in range(config.num_chains)
            ]
        shown.append(samples["judged"][:NUM_SHOWN])
        seen = looks[:, game].reshape(*looks.shape[:1], NUM_LOOKED_AT, -1)
        along = {
            "diversity": [health.diversity(real, each) for each in seen],
            "swing": health.mean_drift(seen).tolist(),
        }
        result["games"].append(judged | along)
    moments = gan_players.spread_evenly(len(looks), NUM_MOMENTS)
    training = looks[moments] if len(about.train.shape) == 2 else looks[moments, 0, : gan_figures.NUM_COLUMNS]
    last = jax.tree.map(lambda leaf: leaf[-1, 0], kept["judged"])  # of one pair
    way = gan_networks.walk(jax.random.fold_in(look_key, 1), gan_figures.NUM_COLUMNS, config.latent_dim)
    parts.save_arrays(
        run, f"samples-{name}", samples=np.stack(shown), training=training,
        steps=played.steps[moments], interpolation=np.asarray(jax.jit(net.decode)(last, way)),
    )  # fmt: skip
    return result


def summary(result: dict) -> dict[str, dict]:
    """Means over games, with standard errors where there are several; of one game, what its judge says.

    "Of one pair" is the mean of what each pair of players of a game is judged alone.
    """
    games, found = result["games"], {}
    for kind, suffix in (("judged", ""), ("started", " before sampling")):
        if kind not in games[0]:
            continue
        found |= {f"{name}{suffix}": entry for name, entry in _over_games([game[kind] for game in games]).items()}
        if "pairs" in games[0]:
            alone = _over_games([_mean([pair[kind] for pair in game["pairs"]]) for game in games])
            found |= {f"{name} of one pair{suffix}": entry for name, entry in alone.items()}
    last = slice(-max(len(games[0]["swing"]) // 4, 1), None)
    found["diversity"] = {"value": float(np.mean([game["diversity"][-1] for game in games]))}
    found["swing"] = {"value": float(np.mean([game["swing"][last] for game in games]))}
    found["ms per step"] = {"value": result["ms per step"]}
    return found


def _mean(judged: list[dict[str, dict]]) -> dict[str, dict]:
    return {name: {"value": float(np.mean([each[name]["value"] for each in judged]))} for name in judged[0]}


def _over_games(judged: list[dict[str, dict]]) -> dict[str, dict]:
    if len(judged) == 1:
        return dict(judged[0])
    values = {name: [each[name]["value"] for each in judged] for name in judged[0]}
    return {
        name: {**entry, **evaluation.mean_estimate(values[name])._asdict(), "values": values[name]}
        for name, entry in judged[0].items()
    }


def main(config: Config) -> None:
    """Plays every game; writes the table, the figures and the results."""
    with common.Experiment("gan", config) as run:
        gan_flags.check(config)
        common.require_names(config, "losses", LOSSES)
        common.require_choice(config, "architecture", ARCHITECTURES)
        common.require_choice(config, "activation", tuple(gan_networks.ACTIVATIONS))
        common.require_choice(config, "norm", gan_networks.NORMS)
        common.require_at_least(config, 1, "num_seeds", "num_chains", "latent_dim", "width", "num_doublings")
        common.require_at_least(config, 12, "num_judged")
        common.require_positive(config, "clip", "penalty", "r1_penalty")
        common.require_all_positive(config, "hidden", "generator_features", "discriminator_features")
        common.require(0 < config.real_target <= 1, f"--real-target must lie in (0, 1]; got {config.real_target}")
        critics = [name for name in config.losses if name in gan_networks.CRITICS]
        common.require(
            config.real_target == 1 or not critics,
            f"--real-target must be 1 for losses without probabilities; got {config.real_target} and {critics}",
        )
        about = subject(config)
        shape = about.train.shape[1:]
        common.require(
            config.architecture == "mlp" or len(shape) == 3,
            f"--architecture {config.architecture} makes images; --dataset {config.dataset} has examples of {shape}",
        )
        results = {name: run.cached(name, functools.partial(play, run, about, name)) for name in config.losses}
        metrics = {f"real {measure}": entry for measure, entry in about.real.items()}
        for name, result in results.items():
            metrics |= {f"{name} {measure}": entry for measure, entry in summary(result).items()}
        gan_figures.draw(run.out, about.train, results)
        lost = [name for name in results if metrics.get(f"{name} modes", {"value": 1})["value"] == 0]
        path = run.finish(metrics, [f"{name}: no mode of the data has a sample" for name in lost])
        print(tables.render(path))
        print(f"results in {path}, figures in {run.out / 'figures'}")


if __name__ == "__main__":
    main(CONFIG)
