"""Generative adversarial networks: eight losses, three architectures, by Adam or by sampling both players' weights.

Papers: Goodfellow et al., "Generative adversarial nets", NIPS 2014; Radford et al., "DCGAN", ICLR 2016; Mao et al.,
"Least squares GANs", ICCV 2017; Arjovsky et al., "Wasserstein GAN", ICML 2017; Gulrajani et al., "Improved training of
Wasserstein GANs", NIPS 2017; Miyato et al., "Spectral normalization for GANs", ICLR 2018; Mescheder et al., "Which
training methods for GANs do actually converge?", ICML 2018; Huang et al., "The GAN is dead; long live the GAN!",
NeurIPS 2024 (r3gan); Saatci & Wilson, "Bayesian GAN", NIPS 2017.

    python -m experiments.gan                          quick: a ring of eight Gaussians, under a minute
    python -m experiments.gan --preset ring            all losses except r3gan, five seeds; grid: 25 Gaussians
    python -m experiments.gan --preset grid_pairs      grid by Adam, three independent chains in a game; ring_pairs
    python -m experiments.gan --preset digits          DCGAN on images of 8 x 8, minutes
    python -m experiments.gan --preset mnist           DCGAN on MNIST, sized for two cores; cifar10_small: CIFAR-10
    python -m experiments.gan --preset cifar10         DCGAN on CIFAR-10, for a GPU; cifar10_sngan
    python -m experiments.gan --preset ring_sghmc      Bayesian; all presets except pairs have _sghmc and _sgld

All losses have the same networks, data, steps and learning rates, so that the table compares losses rather than
tunings. Only hinge differs: its critic always has leaky ReLUs, and spectral normalisation instead of --norm.

With --kernel sghmc or sgld, the log likelihood of a network's weights is minus its loss times the number of data, and
their prior is N(0, s^2 / fan-in). Samples come from the mixture of all kept draws of all chains. The measures "before
sampling" are those of the generator after the warm-up, which is Adam on the negative log posterior.

In the plane, a mode of the data is covered if a sample lies within three standard deviations of its centre. High
quality is the fraction of samples this close to a mode (Srivastava et al., "VEEGAN", NIPS 2017). Generated images are
compared with test images in the features of a classifier (`shared/judge.py`). One row evaluates training images.

Expected: under Adam a game covers 7 to 8 of the ring's modes and 16 to 20 of the grid's 25 (r1 23, wasserstein 24,
wasserstein_gp all). One sampled chain covers about as many. Three sampled chains cover all 8 of the ring and 22 or more
of the grid. So do three chains of Adam, with a higher fraction of high quality. On one core, ring takes 20 minutes,
grid 36, ring_sghmc 75, and grid_pairs and grid_sghmc take 2 hours.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, evaluation, kernels, models, plots
from bayesjax.data.synthetic import MIXTURES
from bayesjax.evaluation import fidelity, health
from bayesjax.models import dcgan
from bayesjax.objectives import adversarial
from bayesjax.types import Array, Density, Given, Params, PRNGKey, PyTree
from experiments.harness import Column, Count, NonEmpty, Positive, Range, Run, Table, cli, require, row
from experiments.shared import games, images

LossName = Literal[
    "minimax", "non_saturating", "r1", "least_squares", "wasserstein", "wasserstein_gp", "hinge", "r3gan"
]
PUBLISHED: tuple[LossName, ...] = get_args(LossName)[:-1]  # the losses of the published tables
Widths = Annotated[tuple[Count, ...], NonEmpty]


@dataclass(frozen=True)
class Config(games.PairConfig):
    """Flags of experiments.gan."""

    dataset: str = "synthetic/ring"
    """Data: `synthetic/ring`, `synthetic/grid`, `digits`, a TensorFlow Datasets image set, or path of an .npz file."""
    judge: str = ""
    """Data set whose classifier evaluates generated images; empty means --dataset, and `none` omits the evaluation."""
    losses: tuple[LossName, ...] = PUBLISHED
    """Losses to compare: r1 is non_saturating with a gradient penalty on data; wasserstein clips the weights;
    wasserstein_gp penalises the gradient between data and samples; hinge has spectral normalisation; r3gan compares
    pairs of data and samples, with gradient penalties on both."""
    architecture: Literal["mlp", "dcgan", "residual"] = "mlp"
    """Architecture of generator and discriminator; residual is that of SNGAN."""
    num_seeds: Count = 1
    """Number of independent games of each loss, trained in parallel; results are means over games."""
    num_chains: Count = 1
    """Number of independent chains in a game, each with its own networks and batches; their mixture is evaluated."""
    latent_dim: Count = 8
    """Dimension of the generator's noise, which is standard normal."""
    hidden: Widths = (128, 128)
    """Number of units in each hidden layer of both networks of --architecture mlp."""
    activation: Literal["leaky_relu", "tanh"] = "leaky_relu"
    """Activation of both mlp networks; the critic of hinge always has leaky_relu, since it does not learn with tanh."""
    generator_features: Widths = (128, 64, 32)
    """Number of channels of each layer of the dcgan generator, from the noise to the image."""
    discriminator_features: Widths = (32, 64, 128)
    """Number of channels of each layer of the dcgan discriminator, from the image to the output."""
    width: Count = 64
    """Number of channels of the residual blocks."""
    num_doublings: Count = 3
    """Number of times that the residual generator doubles the image size: 1 for 8 pixels, 3 for 28 and 32."""
    norm: Literal["group", "batch", "none"] = "group"
    """Normalisation in the dcgan networks and in the residual generator: group normalisation, batch normalisation
    without running averages, or none. The dcgan discriminator of hinge has spectral normalisation instead."""
    clip: Positive = 0.05
    """Bound to which the absolute weights of the wasserstein critic are clipped."""
    penalty: Positive = 10.0
    """Weight of the gradient penalty of wasserstein_gp."""
    r1_penalty: Positive = 1.0
    """Weight gamma of the gradient penalties of r1 and r3gan."""
    real_target: games.Share = 1.0
    """Target probability of real examples in (0, 1] (one-sided label smoothing); must be 1 for wasserstein,
    wasserstein_gp, hinge and r3gan."""
    num_judged: Annotated[int, Range(least=12)] = 2500
    """Number of samples that are evaluated, at least 12."""

    def __post_init__(self) -> None:
        """Checks that labels are smoothed only where the loss has probabilities of single examples."""
        super().__post_init__()
        critics = [name for name in self.losses if name in ("wasserstein", "wasserstein_gp", "hinge", "r3gan")]
        require(
            self.real_target == 1 or not critics,
            f"--real-target must be 1 for losses without probabilities; got {self.real_target} and {critics}",
        )


class Loss(NamedTuple):
    """A GAN loss and the constraints that it places on the discriminator."""

    game: adversarial.Game | adversarial.PairedGame
    is_clipped: bool = False  # whether the weights are clipped
    is_normalised: bool = False  # whether kernels are divided by their spectral norms
    penalty: Literal["", "between", "data", "data and samples"] = ""  # points at which the gradient is penalised


LOSSES: dict[str, Loss] = {
    "minimax": Loss(adversarial.MINIMAX),
    "non_saturating": Loss(adversarial.NON_SATURATING),
    "r1": Loss(adversarial.NON_SATURATING, penalty="data"),
    "least_squares": Loss(adversarial.least_squares()),
    "wasserstein": Loss(adversarial.WASSERSTEIN, is_clipped=True),
    "wasserstein_gp": Loss(adversarial.WASSERSTEIN, penalty="between"),
    "hinge": Loss(adversarial.HINGE, is_normalised=True),
    "r3gan": Loss(adversarial.RELATIVISTIC, penalty="data and samples"),
}

# Tuned on seeds 100 and 0; the published games start from seed 1. See docs/results/gan.md.
QUICK = Config(
    losses=("non_saturating", "wasserstein_gp"), num_seeds=2, latent_dim=2, activation="tanh", batch_size=64,
    num_steps=1500, generator_learning_rate=3e-3, discriminator_learning_rate=3e-3, decay_from=0.5, average=0.99,
    penalty=0.1, r1_penalty=0.1, clip=0.3, num_warmup=1200, learning_rate=1e-4, prior_scale=30.0,
)  # fmt: skip
RING = replace(
    QUICK, losses=PUBLISHED, num_seeds=5, batch_size=128, num_steps=10_000, generator_learning_rate=1e-3,
    discriminator_learning_rate=1e-3, num_warmup=8000, seed=1,
)  # fmt: skip
GRID = replace(RING, dataset="synthetic/grid", num_steps=20_000, num_warmup=18_000)
MNIST = Config(dataset="mnist", architecture="dcgan", latent_dim=64, num_steps=5000, num_warmup=2500, num_judged=10_000)
DIGITS = replace(
    MNIST, dataset="digits", losses=("non_saturating", "r1"), latent_dim=16, generator_features=(64, 32),
    discriminator_features=(32, 64), num_steps=1000, num_warmup=500, num_judged=1000,
)  # fmt: skip
CIFAR10 = replace(
    MNIST, dataset="cifar10", losses=("non_saturating", "r1", "hinge"), latent_dim=128,
    generator_features=(256, 128, 64), discriminator_features=(64, 128, 256), num_steps=10_000, num_warmup=5000,
)  # fmt: skip
CIFAR10_SMALL = replace(
    CIFAR10, losses=("non_saturating", "r1"), generator_features=MNIST.generator_features,
    discriminator_features=MNIST.discriminator_features, num_steps=5000, num_warmup=2500,
)  # fmt: skip
SNGAN = replace(
    CIFAR10, losses=("hinge",), architecture="residual", width=128, discriminator_steps=5, momentum=0.0, decay_from=1e-4
)
ADAM = {
    "quick": QUICK, "ring": RING, "grid": GRID, "digits": DIGITS, "mnist": MNIST, "cifar10": CIFAR10,
    "cifar10_small": CIFAR10_SMALL, "cifar10_sngan": SNGAN, "ring_pairs": replace(RING, num_chains=3),
    "grid_pairs": replace(GRID, num_chains=3),
}  # fmt: skip
SAMPLED = {  # on ring and grid, the warm-up has as many steps as a run of Adam alone
    **{name: config for name, config in ADAM.items() if not name.endswith("_pairs")},
    "ring": replace(RING, num_chains=3, num_steps=12_500, num_warmup=10_000),
    "grid": replace(GRID, num_chains=3, num_steps=22_222, num_warmup=20_000),
}
PRESETS = ADAM | {f"{name}_sghmc": replace(config, kernel="sghmc") for name, config in SAMPLED.items()}
PRESETS |= {f"{name}_sgld": replace(config, kernel="sgld") for name, config in SAMPLED.items()}


def note(config: dict) -> str:
    """The note below the table on the training."""
    repetitions = f"{config['num_seeds']} games" if config["num_seeds"] > 1 else "One game"
    verb = "were" if config["num_seeds"] > 1 else "was"
    chains = f" of {config['num_chains']} independent chains" if config["num_chains"] > 1 else ""
    steps, samples = games.describe_steps(config), config["num_judged"]
    return (
        f"{repetitions}{chains} of each loss {verb} trained for {steps} with batches of {config['batch_size']}, and "
        f"evaluated with {samples} samples."
    )


MEASURES = {"modes": 1, "high quality": 3, "FCD": 2, "KCD": 4, "IS": 3}
MEASURES |= dict.fromkeys(("precision", "recall", "density", "coverage"), 3)
POOLED, START = {"chain": None, "stage": None}, {"chain": None, "stage": "warm-up"}
COLUMNS = [
    *(Column(name, digits=digits, where=POOLED) for name, digits in MEASURES.items()),
    *(
        Column(each, f"{each} before sampling", MEASURES[each], where=START)
        for each in ("modes", "high quality", "FCD")
    ),
    Column("modes", "modes of one chain", 1, where=POOLED | {"chain": "mean"}),
    Column("modes", "modes of one chain before sampling", 1, where=START | {"chain": "mean"}),
    Column("diversity"),
    Column("mean drift", digits=1),
]
TABLES = [Table({"method": "loss", "kernel": "kernel"}, COLUMNS, note=note)]
HEADLINE = "gan-ring-synthetic_ring", {"method": "wasserstein_gp", "measure": "modes", **POOLED}

NUM_EVALUATED = 200  # samples of a game in an evaluation during training
NUM_COMPARED = 5000  # largest number of data whose mean distance is compared with that of samples
NUM_SHOWN = 200  # samples of a game in the figure
NUM_MOMENTS = 8  # largest number of evaluations in a figure of the training
NUM_COLUMNS = 12  # images in a row of a figure

# ---- networks and losses


class Networks(NamedTuple):
    """The generator and the discriminator as pure functions of their weights."""

    init: Callable[[PRNGKey], dict[str, Params]]  # {player: params}
    decode: Callable[[Params, Array], Array]  # the generator's params, noise [num, latent_dim] -> examples [num, ...]
    generate: Callable[[Params, PRNGKey, int], Array]  # the generator's params, a key, num -> examples [num, ...]
    discriminate: Callable[[Params, Array], Array]  # the discriminator's params, examples [num, ...] -> outputs [num]


def networks(config: Config, loss: Loss, shape: tuple[int, ...]) -> Networks:
    """Returns the networks of --architecture for a loss and examples `[num, *shape]`; images lie in (-1, 1)."""
    norm = "none" if loss.is_normalised else config.norm
    he_normal = models.initializers.fan_in_normal(math.sqrt(2))
    is_flat, flat_shape = config.architecture == "mlp", shape
    if is_flat:
        leaky_relu, flat_shape = functools.partial(jax.nn.leaky_relu, negative_slope=0.2), (math.prod(shape),)
        activation = jnp.tanh if config.activation == "tanh" else leaky_relu
        critic_activation = leaky_relu if loss.is_normalised else activation
        generator: Any = models.MLP((*config.hidden, *flat_shape), activation, he_normal)
        discriminator: Any = models.MLP((*config.hidden, 1), critic_activation, he_normal)
    elif config.architecture == "dcgan":
        generator = dcgan.Generator(shape, config.generator_features, config.norm)
        discriminator = dcgan.Discriminator(
            shape, 1, config.discriminator_features, norm, kernel_size=5,
            kernel_init=he_normal if norm == "none" else dcgan.DCGAN_INIT,
        )  # fmt: skip
    else:
        generator = models.sngan.Generator(shape, config.width, config.num_doublings, config.norm)
        num_halvings = max(config.num_doublings - 1, 1)
        discriminator = models.sngan.Discriminator(shape, 1, config.width, num_halvings, num_halvings + 2)
    apply = models.spectrally_normalised(discriminator.apply) if loss.is_normalised else discriminator.apply

    def decode(params: Params, noise: Array) -> Array:
        examples = generator.apply({"params": params}, noise).reshape(len(noise), *shape)
        return jnp.tanh(examples) if is_flat and len(shape) == 3 else examples

    def generate(params: Params, rng_key: PRNGKey, num: int) -> Array:
        return decode(params, models.latent_noise(rng_key, num, config.latent_dim, "normal"))

    def discriminate(params: Params, x: Array) -> Array:
        if loss.is_clipped:  # for samplers, since Adam clips; on the bound the gradient is halved
            params = jax.tree.map(lambda w: jnp.clip(w, -config.clip, config.clip), params)
        return apply({"params": params}, x.reshape(-1, *flat_shape))[:, 0]

    init = games.initialise(generator, discriminator, config.latent_dim, flat_shape)
    return Networks(init, decode, generate, discriminate)


def losses(config: Config, loss: Loss, net: Networks) -> dict[str, Density]:
    """Losses of the discriminator and of the generator, means over a batch."""
    game = loss.game
    if isinstance(game, adversarial.Game):
        game = (adversarial.smooth_labels(game, config.real_target) if config.real_target < 1 else game).paired()

    def discriminator(params: Params, rng_key: PRNGKey, given: Given) -> tuple[Array, dict]:
        fake_key, line_key = jax.random.split(rng_key)
        real = given.data
        fake = net.generate(given.others["generator"], fake_key, len(real))
        real_outputs, fake_outputs = net.discriminate(params, real), net.discriminate(params, fake)
        value = game.discriminator_loss(real_outputs, fake_outputs).mean()

        def output(x: Array) -> Array:
            return net.discriminate(params, x[None])[0]

        if loss.penalty == "between":
            points = jax.vmap(adversarial.interpolate)(jax.random.split(line_key, len(real)), real, fake)
            value += config.penalty * jax.vmap(functools.partial(adversarial.gradient_penalty, output))(points).mean()
        if loss.penalty in ("data", "data and samples"):
            value += config.r1_penalty * jax.vmap(functools.partial(adversarial.r1_penalty, output))(real).mean()
        if loss.penalty == "data and samples":
            value += config.r1_penalty * jax.vmap(functools.partial(adversarial.r2_penalty, output))(fake).mean()
        return value, {"real": real_outputs.mean(), "fake": fake_outputs.mean()}

    def generator(params: Params, rng_key: PRNGKey, given: Given) -> Array:
        fake, real = net.generate(params, rng_key, config.batch_size), given.data[-1]  # data of the last inner step
        real_outputs, fake_outputs = (net.discriminate(given.others["discriminator"], x) for x in (real, fake))
        return game.generator_loss(real_outputs, fake_outputs).mean()

    return {"discriminator": discriminator, "generator": generator}


# ---- the data and the games


def load(config: Config) -> tuple[np.ndarray, Callable[[np.ndarray], dict[str, dict]], dict[str, dict]]:
    """The data `[num, ...]`, a function `samples -> {measure: entries of a row}`, and its value on training images."""
    name = config.dataset.removeprefix("synthetic/")
    if name in MIXTURES:

        def measure(samples: np.ndarray) -> dict[str, dict]:
            modes = fidelity.mode_coverage(samples, *MIXTURES[name])
            return {"modes": {"value": modes.num_covered}, "high quality": {"value": modes.high_quality}}

        train, report = data.load(config.dataset).train.inputs, {}
    else:
        subject = images.load(config)
        train, report = subject.train.inputs, subject.training_report
        measure = (lambda samples: subject.report(samples)[1]) if subject.classifier else (lambda samples: {})
    require(
        config.architecture == "mlp" or train.ndim == 4,
        f"--architecture {config.architecture} makes images; --dataset {config.dataset} has examples of "
        f"{train.shape[1:]}",
    )
    return train, measure, report


def play(run: Run, train: np.ndarray, measure: Callable, name: str) -> dict[str, Any]:
    """Trains the games of a loss. Returns `generators` `[draws, seeds * chains, ...]`, measures and figures' data."""
    config, loss, shape = run.config, LOSSES[name], train.shape[1:]
    net = networks(config, loss, shape)
    num_games = config.num_seeds * config.num_chains if config.num_seeds * config.num_chains > 1 else None
    data_key, init_key, evaluation_key, run_key, sample_key = jax.random.split(jax.random.key(config.seed), 5)
    init = net.init if num_games is None else jax.vmap(net.init)
    position = jax.jit(init)(init_key if num_games is None else jax.random.split(init_key, num_games))
    stages = games.pair_stages(
        config, losses(config, loss, net), len(train),
        constraint=kernels.clip_weights(config.clip) if loss.is_clipped else None,
    )  # fmt: skip
    played = games.play_pair(
        run, name, stages, position, games.minibatches(config, data_key, train, num_games), rng_key=run_key,
        evaluate=lambda params: net.generate(params, evaluation_key, NUM_EVALUATED), num_games=num_games,
    )  # fmt: skip
    along = evaluation.mix_chains(
        played.evaluations.reshape(-1, config.num_seeds, config.num_chains, NUM_EVALUATED, *shape)
    )
    draws = {"": played.generators} | ({} if played.start is None else {"warm-up": played.start})
    if num_games is None:
        draws = jax.tree.map(lambda leaf: leaf[:, None], draws)
    real, results, shown = train[:NUM_COMPARED].reshape(-1, math.prod(shape)), [], []
    for game in range(config.num_seeds):
        key, first = jax.random.fold_in(sample_key, game), game * config.num_chains

        def generate(stage: str, chain: int, num_chains: int, key: PRNGKey = key) -> np.ndarray:
            params = pool_chains(draws[stage], chain, num_chains)
            return evaluation.sample_mixture(net.generate, params, key, config.num_judged)

        samples = {stage: generate(stage, first, config.num_chains) for stage in draws}
        flat = along[:, game].reshape(len(along), NUM_EVALUATED, -1)
        results.append({
            "pooled": {stage: measure(each) for stage, each in samples.items()},
            "chains": [
                {stage: measure(generate(stage, first + chain, 1)) for stage in draws}
                for chain in range(config.num_chains if config.num_chains > 1 else 0)
            ],
            "diversity": [health.diversity(real, each) for each in flat],
            "mean drift": health.mean_drift(flat).tolist(),
        })  # fmt: skip
        shown.append(samples[""][:NUM_SHOWN])
    moments = evaluation.evenly_spaced(len(along), NUM_MOMENTS)
    last = jax.tree.map(lambda leaf: leaf[-1, 0], draws[""])  # the first chain
    noise = models.latent_arc(jax.random.fold_in(evaluation_key, 1), NUM_COLUMNS, config.latent_dim)
    return {
        "ms per step": played.milliseconds,
        "steps": played.steps,
        "games": results,
        "samples": np.stack(shown),
        "moments": {f"step {played.steps[i]}": along[i] if len(shape) == 1 else along[i, 0, :NUM_COLUMNS]
                    for i in moments},
        "interpolation": jax.jit(net.decode)(last, noise),
        "generators": draws[""],
    }  # fmt: skip


def pool_chains(draws: PyTree, first: int, num: int) -> PyTree:
    """The chains `first` to `first + num - 1` of draws `[num_draws, chains, ...]`, as `[num_draws * num, ...]`."""
    return jax.tree.map(lambda leaf: leaf[:, first : first + num].reshape(-1, *leaf.shape[2:]), draws)


def sample_run(config: Config, parts: dict[str, dict], rng_key: PRNGKey, num: int) -> dict[str, np.ndarray]:
    """Samples of the generators of each loss of a finished run, for `experiments.sample`."""
    made = {}
    for name in config.losses:
        shape, num_games = parts[name]["samples"].shape[2:], config.num_seeds * config.num_chains
        params = pool_chains(parts[name]["generators"], 0, num_games)
        samples = evaluation.sample_mixture(networks(config, LOSSES[name], shape).generate, params, rng_key, num)
        made[name] = (samples + 1) / 2 if len(shape) == 3 else samples
    return made


# ---- results


def summarise(name: str, result: dict) -> list[dict]:
    """Result rows of a loss: means over games, with standard errors if there are several games.

    Rows with `chain="mean"` have measures of single chains, averaged over the chains of a game.
    """
    results, rows = result["games"], []
    for stage in results[0]["pooled"]:
        keys = {"method": name, "stage": stage or None}
        rows += _over_games([[game["pooled"][stage]] for game in results], **keys)
        if results[0]["chains"]:
            rows += _over_games([[each[stage] for each in game["chains"]] for game in results], **keys, chain="mean")
    last = slice(-max(len(results[0]["mean drift"]) // 4, 1), None)
    rows.append(row("diversity", np.mean([game["diversity"][-1] for game in results]), method=name))
    rows.append(row("mean drift", np.mean([game["mean drift"][last] for game in results]), method=name))
    return [*rows, row("ms per step", result["ms per step"], method=name)]


def _over_games(measures: list[list[dict[str, dict]]], **keys: Any) -> list[dict]:
    """Result rows with the means of `measures[game][chain]` over chains and games."""
    rows = []
    for name, entry in measures[0][0].items():
        values: list[Any] = [game[0][name]["value"] for game in measures]
        if len(measures[0]) > 1:
            values = [float(np.mean([chain[name]["value"] for chain in game])) for game in measures]
            entry = {"value": values[0]}
        several = {**evaluation.mean_estimate(values)._asdict(), "values": values} if len(values) > 1 else {}
        rows.append(row(name, **{**entry, **several}, **keys))
    return rows


def draw_figures(run: Run, train: np.ndarray, results: dict[str, dict]) -> None:
    """Plots samples of each loss after and during training, interpolations, diversity and mean drift."""
    names, all_results = list(results), results.values()
    if train.ndim == 4:
        grids = {
            "samples": ([result["samples"][0, :NUM_COLUMNS] for result in all_results], names),
            "interpolation": ([result["interpolation"] for result in all_results], names),
            **{f"training-{name}": (list(result["moments"].values()), list(result["moments"]))
               for name, result in results.items()},
        }  # fmt: skip
        for title, (rows, row_names) in grids.items():
            plots.image_grid(run.figure(f"{title}.png"), (np.stack(rows) + 1) / 2, row_names=row_names)
    elif train.ndim == 2:
        panels = {f"training-{name}": result["moments"] for name, result in results.items()}
        panels["samples"] = {name: result["samples"] for name, result in results.items()}
        for title, samples in panels.items():
            plots.scatter_by_group(run.figure(f"{title}.png"), samples, train)
    for measure, label in (("diversity", "distance of samples / of data"), ("mean drift", "drift of the mean / noise")):
        curves = {}
        for name, result in results.items():
            values = np.array([game[measure] for game in result["games"]])
            curves[name] = result["steps"][-values.shape[1] :], values
        path = run.figure(f"{measure.replace(' ', '_')}.png")
        plots.curves(path, curves, xlabel="steps", ylabel=label, log_y=measure == "mean drift")


def main(config: Config) -> None:
    """Trains and evaluates the games of every loss; writes the table, the figures and the results."""
    with Run("gan", config, one_device=True) as run:
        train, measure, report = load(config)
        results = {name: run.part(name, functools.partial(play, run, train, measure, name)) for name in config.losses}
        rows = [row(name, **entry, method="training images", kernel="-") for name, entry in report.items()]
        rows += [each for name, result in results.items() for each in summarise(name, result)]
        draw_figures(run, train, results)
        collapsed = [
            row["method"] for row in rows if row["measure"] == "modes" and row["value"] == 0 and "stage" not in row
        ]
        run.finish(rows, TABLES, [f"{name}: no sample is near a mode of the data" for name in dict.fromkeys(collapsed)])


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
